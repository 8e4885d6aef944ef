//! WebRTC data channels.
//!
//! One channel is one peer connection with one ordered, reliable data channel
//! named [`LABEL`], run by one task. The rest of the daemon sees whole binary
//! messages, session descriptions and candidates as text; what WebRTC is made
//! of stays in here, so that the crate that does it can be replaced.
//!
//! The caller starts a channel with [`start`], feeds its [`ChannelHandle`] what
//! the far end says, and reads [`ChannelEvent`]s. Dropping the handle closes the
//! channel. [`ChannelEvent::Closed`] comes exactly once, last, and only after
//! the channel's sockets are gone.

mod addresses;
mod handle;
mod limits;
mod opening;
mod peer;
mod ports;
mod runtime;
mod sdp;
mod sockets;
mod task;

use std::net::IpAddr;

use bytes::Bytes;
use pigeonhub_proto::io::{ClosedBy, ConnId};
use tokio::sync::mpsc;

pub use addresses::{MAX_ADDRESSES, Wish};
pub use handle::{ChannelHandle, ChannelPath, SendError};
pub use ports::Ports;

use limits::Limits;

/// The name of the data channel, on every connection.
pub const LABEL: &str = "messages";

/// The largest message that a channel sends or takes, in bytes. One that is
/// larger ends the channel that receives it.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// How many candidates of the far end a channel takes in its life; more are
/// refused. A machine has a few addresses, so this is far more than is needed.
pub const MAX_CANDIDATES: usize = 64;

/// A STUN or TURN server.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port` URLs.
    pub urls: Vec<String>,
    /// The TURN user name, else empty.
    pub username: String,
    /// The TURN password, else empty.
    pub credential: String,
}

impl std::fmt::Debug for IceServer {
    /// Leaves the password out: this ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What all channels have in common.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The local addresses to be reached at; see [`Wish::offered`]. Only the
    /// first [`MAX_ADDRESSES`] count.
    pub addresses: Vec<IpAddr>,
    /// Which addresses these are to be.
    pub wish: Wish,
    /// The UDP ports that channels may take.
    pub ports: Ports,
    /// Servers that tell or lend further addresses.
    pub ice_servers: Vec<IceServer>,
    /// How many messages may wait to be sent, at least 1.
    pub queue_messages: usize,
    /// How many bytes of messages may wait to be sent. A single message always fits
    /// into an empty queue.
    pub queue_bytes: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            wish: Wish::default(),
            ports: Ports::default(),
            ice_servers: Vec::new(),
            queue_messages: 256,
            queue_bytes: 4 * 1024 * 1024,
        }
    }
}

/// What a channel tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// Our own session description, once: the offer, or the answer to the far end's.
    Description {
        /// The channel.
        conn: ConnId,
        /// SDP text. It holds no candidates.
        sdp: String,
    },
    /// One of our candidates; after the description.
    Candidate {
        /// The channel.
        conn: ConnId,
        /// JSON text of an `RTCIceCandidateInit`.
        candidate: String,
    },
    /// The channel carries messages from now on.
    Open {
        /// The channel.
        conn: ConnId,
    },
    /// A message came in.
    Binary {
        /// The channel.
        conn: ConnId,
        /// The whole message, at most [`MAX_MESSAGE`] bytes.
        bytes: Bytes,
    },
    /// The channel is over. Nothing follows.
    Closed {
        /// The channel.
        conn: ConnId,
        /// Why.
        reason: ClosedBy,
    },
}

/// Starts a channel: answers `offer`, or makes an offer if there is none.
///
/// It gives up with [`ClosedBy::Broken`] if it is not open after 15 seconds.
/// A full `events` holds the channel back: it stops reading from the far end,
/// which then stops sending. Must be called within a tokio runtime.
pub fn start(
    conn: ConnId,
    offer: Option<String>,
    config: &ChannelConfig,
    events: mpsc::Sender<ChannelEvent>,
) -> ChannelHandle {
    start_with(conn, offer, config, Limits::default(), events)
}

fn start_with(
    conn: ConnId,
    offer: Option<String>,
    config: &ChannelConfig,
    limits: Limits,
    events: mpsc::Sender<ChannelEvent>,
) -> ChannelHandle {
    let (handle, inbox) = handle::pair(config);
    let start = task::Start { conn, offer, config: config.clone(), limits, inbox, events };
    tokio::spawn(task::run(start));
    handle
}

#[cfg(test)]
mod tests;
