//! Messages from one hub to another: acknowledged, in order, each once, over
//! datagrams that may be lost, doubled or reordered on the way.
//!
//! A [`Stream`] is this hub's end for one other hub: one outgoing stream and
//! one incoming. An outgoing stream is named by its sender's *epoch* (start
//! time) and a *generation*, which a reset increments; the receiver takes the
//! largest pair it has seen and ignores older ones. Retransmission follows
//! TCP: RFC 6298 for time-outs, RFC 5681 for the window, RFC 2018 in spirit
//! for selective acknowledgements.
//!
//! Use: call one `handle_…`, [`Stream::push`] or other change, then
//! [`Stream::poll_transmit`] until none, [`Stream::poll_event`] until none,
//! and come back at [`Stream::poll_timeout`] with [`Stream::handle_timeout`].
//! At [`Stream::deadline`] ask [`Stream::expired`], and [`Stream::reset`] if so.
//!
//! **Forgetting a `Stream`.** Its successor must start with a generation above
//! [`Stream::generation`], or the far end takes it for an old one. The far end
//! keeps its own state meanwhile; so that no message is delivered twice, forget
//! only after the longest deadline has passed without a word from there, when
//! its unacknowledged messages were reset too. Forgetting earlier loses no
//! message and leaves no stream stuck, but may deliver a message again.

mod frame;
mod pace;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;

pub use self::frame::{Ack, Data, Frame, Parts, Refused};
use self::receiver::Receiver;
use self::sender::Sender;
use crate::time::Time;

/// The largest message, in bytes.
pub const MAX_PAYLOAD: usize = 1536 * 1024;
/// Messages that are sent and not yet acknowledged, at most.
pub const WINDOW_MESSAGES: usize = 256;
/// Their bytes, at most; a larger message goes alone.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Unacknowledged messages, sent or not, at most; beyond, [`PushError::Full`].
pub const QUEUE_MESSAGES: usize = 4096;
/// Their bytes, at most.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Received messages that wait for an earlier one, at most; beyond, they are
/// dropped and the far end sends them again.
pub const HELD_MESSAGES: usize = 256;
/// Their bytes, at most.
pub const HELD_BYTES: usize = 2 * 1024 * 1024;

/// The caller's name for a message it pushed.
pub type Token = u64;

/// What happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next message of the incoming stream.
    Delivered(Bytes),
    /// A newer incoming stream took the place of the one that earlier messages
    /// came on: the far end restarted or gave up on some. What was built on
    /// the old one is to be forgotten; the messages that follow are new.
    Restarted,
    /// The far end has sent more messages on this incoming stream than this
    /// `Stream` delivered: an earlier one, since forgotten, took them. What
    /// they said must be asked for again.
    Missed,
    /// The far end's `Stream` delivered the message pushed with this token, and all before it.
    Acked {
        /// The token.
        token: Token,
        /// Parts that whoever took the message there had no use for: see [`Stream::refuse_last`].
        refused: Parts,
    },
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Too much is unacknowledged already.
    #[error(
        "{QUEUE_MESSAGES} messages or {QUEUE_BYTES} bytes wait for the other hub; try again when some are acknowledged"
    )]
    Full,
    /// It could never be sent.
    #[error("a message of {0} bytes is too large for another hub; {MAX_PAYLOAD} is the most")]
    TooLarge(usize),
}

/// Why a frame was ignored, wholly or for its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It is meant for an earlier life of this hub.
    #[error("meant for an earlier run of this hub")]
    OtherEpoch,
    /// It belongs to a stream that a newer one replaced.
    #[error("of a stream that a newer one has replaced")]
    OldStream,
    /// It says nothing new: the normal end of a message sent twice.
    #[error("received before")]
    Duplicate,
    /// There is no room now; the sender sends it again.
    #[error("no room to keep it until the messages before it arrive")]
    Full,
    /// A hub that keeps the rules does not send this.
    #[error("numbers or size that no hub would send")]
    Malformed,
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission<'a> {
    /// The frame.
    pub frame: Frame<'a>,
    /// Its message was sent before, and no acknowledgement came within a time-out.
    pub in_vain: bool,
}

/// This hub's end of the two streams with one other hub.
///
/// Idle, it takes a few hundred bytes and next to no heap.
#[derive(Debug)]
pub struct Stream {
    /// This hub's start time.
    epoch: u64,
    /// The other hub's, as far as its record tells.
    remote_epoch: u64,
    /// Whether datagrams have a way to get there.
    reachable: bool,
    sender: Sender,
    receiver: Receiver,
    events: VecDeque<Event>,
}

impl Stream {
    /// Both ends' epochs are start times in milliseconds since the Unix epoch.
    /// `generation` is 1 or more, and more than that of any earlier `Stream`
    /// that this run of the hub had for the same far end.
    pub fn new(epoch: u64, remote_epoch: u64, generation: u32) -> Self {
        Self {
            epoch,
            remote_epoch,
            reachable: true,
            sender: Sender::new(generation.max(1)),
            receiver: Receiver::new(),
            events: VecDeque::new(),
        }
    }

    /// Queues a message, to be delivered before `deadline` (see [`Self::expired`]).
    pub fn push(&mut self, payload: Bytes, token: Token, deadline: Time) -> Result<(), PushError> {
        self.sender.push(payload, token, deadline, self.events.len())
    }

    /// Takes a frame from the other hub. An error says why its data, or all of
    /// it, was dropped; it is for statistics, and none is the caller's to mend.
    pub fn handle_frame(&mut self, frame: &Frame<'_>, now: Time) -> Result<(), Dropped> {
        match frame {
            Frame::Ack(ack) => self.handle_ack(ack, now),
            Frame::Data(data) => {
                if let Some(ack) = &data.ack {
                    // It stands for itself: the data counts whatever comes of it.
                    let _ = self.handle_ack(ack, now);
                }
                if data.dst_epoch != self.epoch {
                    return Err(Dropped::OtherEpoch);
                }
                if data.src_epoch < self.remote_epoch {
                    return Err(Dropped::OldStream);
                }
                self.receiver.handle(data, &mut self.events, now)
            }
        }
    }

    fn handle_ack(&mut self, ack: &Ack, now: Time) -> Result<(), Dropped> {
        if ack.epoch != self.epoch {
            return Err(Dropped::OtherEpoch);
        }
        self.sender.handle_ack(ack, &mut self.events, now)
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.reachable {
            self.sender.handle_timeout(now);
        }
    }

    /// Whether there is a route to the other hub; at first there is. Without
    /// one nothing is sent and no timer runs; when there is one again,
    /// everything unacknowledged is sent again.
    pub fn set_reachable(&mut self, reachable: bool) {
        if self.reachable && !reachable {
            self.sender.lose_all();
        }
        self.reachable = reachable;
    }

    /// The route is another one, or a link on it died: everything
    /// unacknowledged is sent again at once, as fast as the window lets it.
    pub fn rerouted(&mut self) {
        self.sender.lose_all();
    }

    /// The other hub's record says that it started at `epoch`. If that is later
    /// than was known, nothing that was sent to its earlier life counts: the
    /// outgoing stream is [`Self::reset`]. An earlier epoch is old news.
    pub fn set_remote_epoch(&mut self, epoch: u64) -> Vec<Token> {
        if epoch <= self.remote_epoch {
            return Vec::new();
        }
        self.remote_epoch = epoch;
        self.receiver.forget_before(epoch);
        self.reset()
    }

    /// Gives up: drops all unacknowledged messages, of which some may have
    /// been delivered, and starts a new outgoing stream. The far end learns of
    /// it with the next message. Returns their tokens in the order of pushing.
    pub fn reset(&mut self) -> Vec<Token> {
        self.sender.reset()
    }

    /// Whether the oldest unacknowledged message's deadline has passed.
    pub fn expired(&self, now: Time) -> bool {
        self.deadline() <= now
    }

    /// When [`Self::expired`] becomes true; [`Time::NEVER`] if nothing is
    /// unacknowledged. It runs even while the other hub is out of reach.
    pub fn deadline(&self) -> Time {
        self.sender.deadline()
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Frame<'_>> {
        self.poll_transmission(now).map(|transmission| transmission.frame)
    }

    /// Whether [`Self::poll_transmit`] has a frame.
    pub fn has_frame(&self, now: Time) -> bool {
        self.reachable && (self.sender.has_message() || self.receiver.ack_at() <= now)
    }

    /// The next frame to send, and whether an acknowledgement of its message is overdue.
    pub fn poll_transmission(&mut self, now: Time) -> Option<Transmission<'_>> {
        if !self.reachable {
            return None;
        }
        if let Some(index) = self.sender.poll_transmit(now) {
            let ack = self.receiver.take_ack();
            let (seq, payload) = self.sender.message(index)?;
            let in_vain = self.sender.is_overdue(seq);
            let frame = Frame::Data(Data {
                src_epoch: self.epoch,
                dst_epoch: self.remote_epoch,
                generation: self.sender.generation(),
                floor: self.sender.floor(),
                seq,
                ack,
                payload,
            });
            return Some(Transmission { frame, in_vain });
        }
        if self.receiver.ack_at() > now {
            return None;
        }
        self.receiver.take_ack().map(|ack| Transmission { frame: Frame::Ack(ack), in_vain: false })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > 8 {
            self.events = VecDeque::new();
        }
        event
    }

    /// Parts of the message of the latest [`Event::Delivered`] are of no use here. Its
    /// sender learns that with the acknowledgement, so both or neither. To be
    /// called before the next [`Self::poll_transmit`].
    pub fn refuse_last(&mut self, parts: Parts, now: Time) {
        let anew = |event: &Event| matches!(event, Event::Restarted | Event::Missed);
        if self.events.iter().any(anew) {
            // It was of a stream that is over: its sender has given up on it, or is another process.
            return;
        }
        let later = self.events.iter().filter(|event| matches!(event, Event::Delivered(_))).count();
        self.receiver.refuse(later, parts, now);
    }

    /// When to call [`Self::handle_timeout`] and then [`Self::poll_transmit`];
    /// [`Time::NEVER`] if there is nothing to wait for.
    pub fn poll_timeout(&self) -> Time {
        if self.reachable { self.sender.retry_at().min(self.receiver.ack_at()) } else { Time::NEVER }
    }

    /// Whether message `seq` of the outgoing stream is unacknowledged and was
    /// sent in vain: no acknowledgement came within a time-out.
    #[cfg(test)]
    fn is_overdue(&self, seq: u64) -> bool {
        self.sender.is_overdue(seq)
    }

    /// The outgoing stream's generation.
    pub fn generation(&self) -> u32 {
        self.sender.generation()
    }

    /// Unacknowledged messages and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        self.sender.queued()
    }

    /// Received messages that wait for an earlier one, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        self.receiver.held()
    }

    /// Whether nothing is unacknowledged or due. What is held of a stream that
    /// the far end gave up stays until its next message, and does not count.
    pub fn is_idle(&self) -> bool {
        self.queued().0 == 0 && self.receiver.ack_at() == Time::NEVER
    }
}
