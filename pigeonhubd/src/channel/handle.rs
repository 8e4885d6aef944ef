//! The owner's end of a channel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc;

use super::{ChannelConfig, MAX_CANDIDATES, MAX_MESSAGE};

/// Why a message was not taken. It is gone in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// More waits than the queue takes: the far end reads too slowly.
    #[error("the channel's queue is full; the message was dropped")]
    Full,
    /// The message is larger than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is too large for a channel, which takes {max}", max = MAX_MESSAGE)]
    TooLarge(usize),
    /// The channel is over.
    #[error("the channel is closed; the message was dropped")]
    Closed,
}

/// Owns a channel. Dropping it closes the channel, as [`ChannelHandle::close`] does.
#[derive(Debug)]
pub struct ChannelHandle {
    control: mpsc::Sender<Control>,
    messages: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    answered: bool,
    candidates: usize,
    path: Arc<OnceLock<ChannelPath>>,
}

/// The two ends of an open channel: the candidate pair that ICE chose, each with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPath {
    /// This end, such as `udp host 127.0.0.1:40000`.
    pub local: String,
    /// The far end.
    pub remote: String,
}

/// What the far end says, through the owner.
#[derive(Debug)]
pub(super) enum Control {
    /// SDP text.
    Answer(String),
    /// JSON text.
    Candidate(String),
}

/// The task's end of a handle.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) messages: Outbound,
    /// To be told once it is known.
    pub(super) path: Arc<OnceLock<ChannelPath>>,
}

/// The messages that wait to be sent.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: mpsc::Receiver<Bytes>,
    waiting: Arc<Waiting>,
}

impl Outbound {
    /// The next message; `None` after the last one, once the handle is gone.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let message = self.queue.recv().await?;
        self.waiting.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

#[derive(Debug)]
struct Waiting {
    bytes: AtomicUsize,
    most: usize,
}

impl Waiting {
    /// Counts a message in, if it fits.
    fn admit(&self, len: usize) -> bool {
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        // An empty queue takes any message, else one over the limit could never be sent.
        let fits = before == 0 || before.saturating_add(len) <= self.most;
        if !fits {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
        }
        fits
    }
}

pub(super) fn pair(config: &ChannelConfig) -> (ChannelHandle, Inbox) {
    // One answer and so many candidates pass in a channel's life, so this is never full.
    let (control, control_inbox) = mpsc::channel(MAX_CANDIDATES + 1);
    let (messages, queue) = mpsc::channel(config.queue_messages.max(1));
    let waiting = Arc::new(Waiting { bytes: AtomicUsize::new(0), most: config.queue_bytes });
    let path = Arc::new(OnceLock::new());
    let outbound = Outbound { queue, waiting: Arc::clone(&waiting) };
    let inbox = Inbox { control: control_inbox, messages: outbound, path: Arc::clone(&path) };
    (ChannelHandle { control, messages, waiting, answered: false, candidates: 0, path }, inbox)
}

impl ChannelHandle {
    /// The candidate pair, once the channel is open.
    pub fn path(&self) -> Option<&ChannelPath> {
        self.path.get()
    }

    /// Gives the far end's answer to our offer. Only the first one counts, and none
    /// counts on a channel that answers itself. An answer that makes no sense ends the channel.
    pub fn answer(&mut self, sdp: String) {
        if !std::mem::replace(&mut self.answered, true) {
            // Fails only if the channel is over, which its last event tells.
            let _ = self.control.try_send(Control::Answer(sdp));
        }
    }

    /// Gives one of the far end's candidates, as JSON text of an `RTCIceCandidateInit`.
    /// It may come before the far end's description: it is kept till then. One that makes
    /// no sense is passed over, and so is every one after the first [`MAX_CANDIDATES`].
    pub fn candidate(&mut self, json: String) {
        if self.candidates < MAX_CANDIDATES {
            self.candidates += 1;
            let _ = self.control.try_send(Control::Candidate(json));
        }
    }

    /// Queues a message; before the channel is open it waits for that.
    ///
    /// # Errors
    ///
    /// If it was not queued; the message is dropped.
    pub fn send(&self, message: Bytes) -> Result<(), SendError> {
        let len = message.len();
        if len > MAX_MESSAGE {
            return Err(SendError::TooLarge(len));
        }
        if !self.waiting.admit(len) {
            return Err(SendError::Full);
        }
        self.messages.try_send(message).map_err(|error| {
            self.waiting.bytes.fetch_sub(len, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::Closed,
            }
        })
    }

    /// Queues a message of any size.
    #[cfg(test)]
    pub(super) fn send_unchecked(&self, message: Bytes) {
        assert!(self.waiting.admit(message.len()) && self.messages.try_send(message).is_ok());
    }

    /// Closes the channel after what was queued is sent, within about three seconds.
    pub fn close(self) {}
}
