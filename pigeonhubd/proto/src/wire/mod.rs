//! What travels: JSON between clients (and older hubs) and a hub, binary
//! frames between hubs.

pub mod client;
pub mod json;
pub mod mesh;
pub mod reply;

use serde::{Deserialize, Serialize};

/// The network of a message that names none.
pub const DEFAULT_NETWORK: &str = "global";

/// The longest network name, in bytes.
pub const MAX_NETWORK_NAME: usize = 256;

/// Begins the name of a network whose clients name it by a number, or by `true`: what follows is
/// that, as JSON. To them 5 and "5" are two networks, and they ignore messages of the other.
pub const LITERAL: char = '\0';

/// A network's name as people write it, who mean the same by 5 and "5".
pub fn plain_network(name: &str) -> &str {
    name.strip_prefix(LITERAL).unwrap_or(name)
}

/// A message that a hub passes from one peer to another without looking inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignalKind {
    /// A WebRTC offer.
    Offer,
    /// A WebRTC answer.
    Answer,
    /// An ICE candidate.
    IceCandidate,
    /// Of hubs of 0.1.0 alone, and dropped: see [`ClientKind::Rejection`](client::ClientKind::Rejection).
    ConnectionRejected,
    /// A new offer on an open connection.
    RenegotiationOffer,
    /// The answer to it.
    RenegotiationAnswer,
    /// An offer that restarts ICE.
    IceRestartOffer,
    /// The answer to it.
    IceRestartAnswer,
}

impl SignalKind {
    const ALL: [Self; 7] = [
        Self::Offer,
        Self::Answer,
        Self::IceCandidate,
        Self::RenegotiationOffer,
        Self::RenegotiationAnswer,
        Self::IceRestartOffer,
        Self::IceRestartAnswer,
    ];

    /// The `type` of the JSON message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::IceCandidate => "ice-candidate",
            Self::ConnectionRejected => "connection-rejected",
            Self::RenegotiationOffer => "renegotiation-offer",
            Self::RenegotiationAnswer => "renegotiation-answer",
            Self::IceRestartOffer => "ice-restart-offer",
            Self::IceRestartAnswer => "ice-restart-answer",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
