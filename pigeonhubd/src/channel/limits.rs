//! The times and sizes that end a channel.

use std::time::Duration;

use super::MAX_MESSAGE;

/// What a channel allows; tests use others than the defaults.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// How long a channel may take to open.
    pub(super) opening: Duration,
    /// How long the far end may leave our ICE checks unanswered, in all. Long
    /// enough for a short outage: a link's own heartbeat is meant to be faster.
    pub(super) silence: Duration,
    /// How long a closing channel may take to send what waits.
    pub(super) flush: Duration,
    /// How long to wait for the far end to agree to a close.
    pub(super) goodbye: Duration,
    /// The largest message, in bytes.
    pub(super) message: usize,
    /// How many bytes may be on their way without the far end's acknowledgement.
    pub(super) in_flight: usize,
    /// Shared with everything that lives as long as the connection: shows whether it is gone.
    #[cfg(test)]
    pub(super) alive: std::sync::Arc<()>,
    /// Makes the task panic once the channel is open.
    #[cfg(test)]
    pub(super) panic_when_open: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(15),
            silence: Duration::from_secs(15),
            flush: Duration::from_secs(2),
            goodbye: Duration::from_millis(500),
            message: MAX_MESSAGE,
            in_flight: 1024 * 1024,
            #[cfg(test)]
            alive: std::sync::Arc::new(()),
            #[cfg(test)]
            panic_when_open: false,
        }
    }
}
