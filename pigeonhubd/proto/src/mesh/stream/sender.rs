//! The sending half: keeps messages until they are acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::{Ack, Parts};
use super::pace::{RoundTrip, Window};
use super::{
    Dropped, Event, MAX_PAYLOAD, PushError, QUEUE_BYTES, QUEUE_MESSAGES, Token, WINDOW_BYTES, WINDOW_MESSAGES,
};
use crate::time::Time;

/// So many later transmissions arrived: this one did not (RFC 5681, section 3.2).
const PASSED: usize = 3;
/// Room that an empty queue may keep.
const SPARE: usize = 8;

/// Our outgoing stream.
#[derive(Debug)]
pub(super) struct Sender {
    /// Which of our streams to this far end.
    generation: u32,
    /// The sequence number of the first message of `messages`.
    floor: u64,
    /// All unacknowledged messages; those sent at least once come first.
    messages: VecDeque<Message>,
    /// How many were sent at least once, and their bytes.
    flight: (usize, usize),
    /// How many of these are [`State::Sent`] and [`State::Lost`].
    sent: usize,
    lost: usize,
    /// Bytes of all messages.
    bytes: usize,
    /// The number of the next transmission; a message sent again gets a new one.
    next_order: u64,
    /// When the oldest transmission counts as lost.
    retry_at: Time,
    trip: RoundTrip,
    window: Window,
}

#[derive(Debug)]
struct Message {
    payload: Bytes,
    token: Token,
    deadline: Time,
    state: State,
    /// Transmissions so far; saturates.
    sends: u8,
    /// Later transmissions than the last that arrived.
    passed: usize,
    /// Some transmission was not acknowledged in time.
    overdue: bool,
    /// The last transmission.
    sent_at: Time,
    order: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never sent.
    Queued,
    /// Under way.
    Sent,
    /// To be sent again.
    Lost,
    /// The far end has it but waits for an earlier one.
    Held,
}

/// What an acknowledgement says of transmissions that cannot be confused with others.
#[derive(Default)]
struct News {
    /// Messages that it is the first to acknowledge.
    count: usize,
    /// Transmission number and time of those that were sent once.
    clean: Vec<(u64, Time)>,
}

impl Sender {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            floor: 1,
            messages: VecDeque::new(),
            flight: (0, 0),
            sent: 0,
            lost: 0,
            bytes: 0,
            next_order: 0,
            retry_at: Time::NEVER,
            trip: RoundTrip::default(),
            window: Window::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        payload: Bytes,
        token: Token,
        deadline: Time,
        unread: usize,
    ) -> Result<(), PushError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PushError::TooLarge(payload.len()));
        }
        let bytes = self.bytes + payload.len();
        if self.messages.len() + unread >= QUEUE_MESSAGES || bytes > QUEUE_BYTES {
            return Err(PushError::Full);
        }
        self.bytes = bytes;
        self.messages.push_back(Message {
            payload,
            token,
            deadline,
            state: State::Queued,
            sends: 0,
            passed: 0,
            overdue: false,
            sent_at: Time::default(),
            order: 0,
        });
        Ok(())
    }

    /// Whether some message may go out.
    pub(super) fn has_message(&self) -> bool {
        self.sent < self.window.limit() && (self.lost > 0 || self.next_new().is_some())
    }

    /// Marks the next message that may go out as sent and says which it is.
    pub(super) fn poll_transmit(&mut self, now: Time) -> Option<usize> {
        if self.sent >= self.window.limit() {
            return None;
        }
        let index = if self.lost > 0 {
            self.messages.iter().position(|message| message.state == State::Lost)?
        } else {
            self.next_new()?
        };
        if index == self.flight.0 {
            self.flight.0 += 1;
            self.flight.1 += self.messages.get(index)?.payload.len();
        }
        let order = self.next_order;
        self.next_order += 1;
        self.mark(index, State::Sent);
        let message = self.messages.get_mut(index)?;
        message.sends = message.sends.saturating_add(1);
        message.passed = 0;
        message.sent_at = now;
        message.order = order;
        self.retry_at = self.retry_at.min(now + self.trip.timeout());
        Some(index)
    }

    /// The first message that was never sent, if there is one and the window has room for it.
    fn next_new(&self) -> Option<usize> {
        let (count, bytes) = self.flight;
        let message = self.messages.get(count)?;
        // A message larger than the window goes alone.
        let room = count == 0 || count < WINDOW_MESSAGES && bytes + message.payload.len() <= WINDOW_BYTES;
        room.then_some(count)
    }

    /// Sequence number and payload of a message that [`Self::poll_transmit`] named.
    pub(super) fn message(&self, index: usize) -> Option<(u64, &[u8])> {
        let message = self.messages.get(index)?;
        Some((self.floor + index as u64, &message.payload))
    }

    /// Takes an acknowledgement of our stream.
    pub(super) fn handle_ack(
        &mut self,
        ack: &Ack,
        events: &mut VecDeque<Event>,
        now: Time,
    ) -> Result<(), Dropped> {
        if ack.generation != self.generation {
            return Err(Dropped::OldStream);
        }
        let Some(done) = ack.upto.checked_add(1).and_then(|next| next.checked_sub(self.floor)) else {
            return Err(Dropped::Duplicate);
        };
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        if done > self.flight.0 {
            return Err(Dropped::Malformed);
        }
        let mut news = News::default();
        for _ in 0..done {
            self.pop(ack.refuses(self.floor), &mut news, events);
        }
        self.note_held(ack.held, done > 0, &mut news);
        if news.count > 0 {
            self.learn(news, now);
        }
        Ok(())
    }

    /// The first message was delivered.
    fn pop(&mut self, refused: Parts, news: &mut News, events: &mut VecDeque<Event>) {
        self.mark(0, State::Held).add_to(news);
        if let Some(message) = self.messages.pop_front() {
            let len = message.payload.len();
            self.floor += 1;
            self.bytes -= len;
            self.flight = (self.flight.0 - 1, self.flight.1 - len);
            events.push_back(Event::Acked { token: message.token, refused });
        }
        if self.messages.is_empty() && self.messages.capacity() > SPARE {
            self.messages = VecDeque::new();
        }
    }

    /// Takes note of which messages the far end holds: bit `i` for message `i + 1`.
    fn note_held(&mut self, held: u64, newest: bool, news: &mut News) {
        for index in 0..self.flight.0.min(65) {
            let bit = index > 0 && held >> (index - 1) & 1 == 1;
            let state = self.messages.get(index).map(|message| message.state);
            if bit && state != Some(State::Held) {
                self.mark(index, State::Held).add_to(news);
            } else if !bit && newest && state == Some(State::Held) {
                // It told of this one earlier, so it has lost its memory since.
                self.mark(index, State::Lost);
            }
        }
    }

    /// Draws the conclusions of an acknowledgement that brought news.
    fn learn(&mut self, mut news: News, now: Time) {
        news.clean.sort_unstable();
        if let Some((_, sent_at)) = news.clean.last() {
            self.trip.sample(now.since(*sent_at));
        }
        self.window.acked(news.count);
        self.note_passed(&news.clean, now);
    }

    /// Gives up on transmissions that enough of the `arrived`, later ones have
    /// passed, or one and the time-out (in spirit RFC 8985, section 6.2). The wait for those that none has passed
    /// starts anew (RFC 6298, section 5.3). Not so for the others: news of later
    /// ones, now and then, would put off their turn again and again.
    fn note_passed(&mut self, arrived: &[(u64, Time)], now: Time) {
        let wait = self.trip.timeout();
        let mut last_lost = None;
        self.retry_at = Time::NEVER;
        for index in 0..self.flight.0 {
            let Some(message) = self.messages.get_mut(index).filter(|m| m.state == State::Sent) else {
                continue;
            };
            let earlier = arrived.partition_point(|(order, _)| *order < message.order);
            message.passed += arrived.len() - earlier;
            let due = if message.passed > 0 { message.sent_at + wait } else { now + wait };
            message.overdue |= due <= now;
            if message.passed >= PASSED || due <= now {
                last_lost = last_lost.max(Some(message.order));
                self.mark(index, State::Lost);
            } else {
                self.retry_at = self.retry_at.min(due);
            }
        }
        if let Some(order) = last_lost {
            self.window.lost(order, self.next_order);
        }
    }

    /// The time of [`Self::retry_at`] may have come.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if now < self.retry_at {
            return;
        }
        let wait = self.trip.timeout();
        let mut any = false;
        let mut next = Time::NEVER;
        for index in 0..self.flight.0 {
            let Some(message) = self.messages.get_mut(index).filter(|m| m.state == State::Sent) else {
                continue;
            };
            let due = message.sent_at + wait;
            if due <= now {
                any = true;
                message.overdue = true;
                self.mark(index, State::Lost);
            } else {
                next = next.min(due);
            }
        }
        self.retry_at = next;
        if any {
            self.trip.back_off();
            self.window.timed_out(self.next_order);
        }
    }

    /// Whatever was under way may have been lost, by no fault of the traffic.
    pub(super) fn lose_all(&mut self) {
        for index in 0..self.flight.0 {
            if self.messages.get(index).is_some_and(|message| message.state == State::Sent) {
                self.mark(index, State::Lost);
            }
        }
        self.retry_at = Time::NEVER;
        self.trip.forgive();
    }

    /// Starts a new stream; what the old one did not get through is dropped.
    pub(super) fn reset(&mut self) -> Vec<Token> {
        let tokens = self.messages.iter().map(|message| message.token).collect();
        // Four billion resets of one pair of hubs do not happen in one run.
        let generation = self.generation.saturating_add(1);
        *self = Self { trip: self.trip, next_order: self.next_order, ..Self::new(generation) };
        tokens
    }

    /// Puts a message in another state and says what it was before.
    fn mark(&mut self, index: usize, state: State) -> Before {
        let Some(message) = self.messages.get_mut(index) else { return Before::default() };
        let before = std::mem::replace(&mut message.state, state);
        let clean = (message.sends == 1).then_some((message.order, message.sent_at));
        for (count, which) in [(&mut self.sent, State::Sent), (&mut self.lost, State::Lost)] {
            *count = *count + usize::from(state == which) - usize::from(before == which);
        }
        Before { unknown: before != State::Held, clean }
    }

    /// Whether an unacknowledged message has waited a time-out in vain.
    pub(super) fn is_overdue(&self, seq: u64) -> bool {
        let index = seq.checked_sub(self.floor).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.messages.get(index)).is_some_and(|message| message.overdue)
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Never if nothing is under way.
    pub(super) fn retry_at(&self) -> Time {
        self.retry_at
    }

    /// When the first message's time is over.
    pub(super) fn deadline(&self) -> Time {
        self.messages.front().map_or(Time::NEVER, |message| message.deadline)
    }

    /// Unacknowledged messages and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    /// Those of them that were sent at least once.
    #[cfg(test)]
    pub(super) fn flight(&self) -> (usize, usize) {
        self.flight
    }
}

/// What was known of a message before it was marked.
#[derive(Default)]
struct Before {
    /// That it arrived was not known.
    unknown: bool,
    /// Its only transmission.
    clean: Option<(u64, Time)>,
}

impl Before {
    fn add_to(self, news: &mut News) {
        if self.unknown {
            news.count += 1;
            news.clean.extend(self.clean);
        }
    }
}
