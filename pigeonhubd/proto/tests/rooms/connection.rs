//! A client's half of one WebRTC connection, as far as its rules look at it.

use crate::net::Micros;

/// What a client sees of a connection of its own; numbers into [`crate::net::Net::halves`].
#[derive(Clone, Debug)]
pub(crate) struct Half {
    /// Whose it is.
    pub(crate) owner: usize,
    /// Whom it leads to.
    pub(crate) peer: usize,
    /// Whether its owner offered.
    pub(crate) offered: bool,
    pub(crate) since: Micros,
    pub(crate) state: State,
    /// The half at the other end, once both descriptions are exchanged.
    pub(crate) other: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Its description is being made.
    Making,
    /// It waits for the answer.
    Offered,
    /// Both descriptions are there; ICE is at work.
    Connecting,
    Connected,
    Closed,
}

impl Half {
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }
}
