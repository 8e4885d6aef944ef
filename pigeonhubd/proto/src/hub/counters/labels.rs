//! The labels: each has a closed set of values.

use crate::io::ClosedBy;
use crate::mesh::handshake::HandshakeError;
use crate::wire::mesh::Bye;

/// The values of one label.
pub trait Label: Copy + 'static {
    /// All of them, in the order of [`Label::index`].
    const ALL: &'static [Self];
    /// As monitoring shows it.
    fn name(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$value_doc])* $value,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Why a session is over.
    SessionEnd {
        /// The client closed it.
        Client = "client",
        /// The connection broke, or its far end took too little of what was sent.
        Broken = "broken",
        /// No sign of life.
        Silent = "silent",
        /// A newer connection of the same peer took its place.
        Replaced = "replaced",
        /// An older connection of the same peer, at another hub, is alive.
        Duplicate = "duplicate",
        /// The operator wanted it gone.
        Operator = "operator",
        /// This hub is leaving.
        Draining = "draining",
        /// It turned out to be an old hub.
        OldHub = "old-hub",
    }
}

impl From<&ClosedBy> for SessionEnd {
    fn from(reason: &ClosedBy) -> Self {
        match reason {
            ClosedBy::Remote { .. } => Self::Client,
            ClosedBy::Broken(_) | ClosedBy::Local => Self::Broken,
        }
    }
}

label! {
    /// Why an accepted WebSocket did not become a session or a handshake.
    TurnedAway {
        /// Not a peer id.
        BadId = "bad-peer-id",
        /// This hub is leaving.
        Draining = "draining",
        /// As many connections as there may be.
        Full = "full",
        /// Another connection of that peer is alive.
        Duplicate = "already-connected",
    }
}

label! {
    /// What became of a signal.
    SignalOutcome {
        /// A client's, for a peer of this hub or of an old hub linked here: sent to it.
        Local = "local",
        /// For a peer of another hub: sent to that hub.
        Relayed = "relayed",
        /// That hub has it.
        Acknowledged = "acknowledged",
        /// From another hub, for a peer here: sent to it.
        Received = "received",
        /// Waits for news of its target first.
        Held = "held",
    }
}

label! {
    /// Why a signal does not arrive.
    Undelivered {
        /// Nobody of that id is in that network.
        Unknown = "unknown-peer",
        /// It came to its target's hub too late.
        Left = "left",
        /// Its target's hub does not answer.
        Silent = "hub-silent",
        /// Its target's hub is not in the mesh any more.
        Gone = "hub-gone",
        /// Too much waits for its target's hub already.
        Congested = "hub-congested",
        /// Too many signals wait for news of their targets.
        Crowded = "too-many-held",
        /// Its sender left before it was sent on.
        SenderLeft = "sender-left",
    }
}

impl Undelivered {
    /// In words, for the sender.
    pub(in crate::hub) fn text(self) -> &'static str {
        match self {
            Self::Unknown => "no such peer in this network",
            Self::Left => "it has left its hub",
            Self::Silent => "its hub does not answer",
            Self::Gone => "its hub is not in the mesh",
            Self::Congested => "too much waits for its hub already",
            Self::Crowded => "too many signals wait for news of their target",
            Self::SenderLeft => "its sender has left the network",
        }
    }
}

label! {
    /// What carries a link.
    LinkKind {
        /// A data channel.
        P2p = "p2p",
        /// A WebSocket.
        Ws = "ws",
        /// A WebSocket of an old hub.
        Legacy = "legacy",
    }
}

label! {
    /// Why a link is over.
    LinkEnd {
        /// The topology does not want it.
        Unwanted = "unwanted",
        /// Data channels carry on.
        Migrated = "migrated",
        /// Another link to the same hub stays.
        Duplicate = "duplicate",
        /// One of its hubs is leaving.
        Draining = "draining",
        /// No heartbeat, or no sign of life of an old hub.
        Silent = "silent",
        /// Its hub started anew.
        Outlived = "outlived",
        /// The far end broke a rule.
        Violation = "violation",
        /// Its connection closed or broke without notice.
        Lost = "lost",
        /// An old hub's address is not listed any more.
        Unlisted = "unlisted",
    }
}

impl From<Bye> for LinkEnd {
    fn from(bye: Bye) -> Self {
        match bye {
            Bye::Unwanted => Self::Unwanted,
            Bye::Migrated => Self::Migrated,
            Bye::Duplicate => Self::Duplicate,
            Bye::Draining => Self::Draining,
        }
    }
}

label! {
    /// What became of a dial.
    DialOutcome {
        /// A link.
        Linked = "linked",
        /// An old hub's connection.
        OldHub = "old-hub",
        /// It was this hub itself.
        Myself = "itself",
        /// Nobody answered, or one of both ends declined.
        Failed = "failed",
    }
}

label! {
    /// What became of an attempt to open a data channel.
    ChannelOutcome {
        /// A link.
        Linked = "linked",
        /// It did not open in time, or one of both ends gave up.
        Failed = "failed",
        /// Begun anew, because a description or candidate may be lost.
        Restarted = "restarted",
    }
}

label! {
    /// Why a hub was turned away, or turned us away.
    HubRejection {
        /// Another version of the protocol.
        Version = "version",
        /// Another mesh.
        Namespace = "namespace",
        /// Another mesh key.
        Key = "mesh-key",
        /// It cannot prove its id, or uses another's.
        Identity = "identity",
        /// An old hub that is not listed.
        OldHub = "old-hub",
        /// Not how hubs greet each other.
        Manners = "manners",
        /// Too slow.
        TimedOut = "timed-out",
        /// The far end turned us away.
        ByFarEnd = "by-far-end",
        /// As many handshakes as there may be.
        Crowded = "crowded",
    }
}

impl From<&HandshakeError> for HubRejection {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Version { .. } => Self::Version,
            HandshakeError::Namespace { .. } => Self::Namespace,
            HandshakeError::Key => Self::Key,
            HandshakeError::Signature
            | HandshakeError::Id
            | HandshakeError::Myself
            | HandshakeError::Twin => Self::Identity,
            HandshakeError::Old => Self::OldHub,
            HandshakeError::Manners => Self::Manners,
            HandshakeError::TimedOut => Self::TimedOut,
        }
    }
}

label! {
    /// Why a client's message was answered with an `error`, or a hub's was dropped.
    Refusal {
        /// A client's that is wrong in itself.
        BadMessage = "bad-message",
        /// A client's of a type that hubs do not take.
        UnknownType = "unknown-type",
        /// A client's that has not announced itself in that network.
        NotAnnounced = "not-announced",
        /// A client's beyond a limit.
        Limit = "limit-reached",
        /// A client's that its ticket does not allow.
        NotAllowed = "not-allowed",
        /// A client's announcement of a peer that an older connection has, at another hub.
        AlreadyConnected = "already-connected",
        /// An old hub's.
        OldHub = "old-hub",
        /// A hub's frame that is unreadable, forged or repeated.
        Frame = "frame",
        /// A hub's message that is unreadable.
        HubMessage = "hub-message",
        /// A hub's record that is forged or has no room.
        Record = "record",
    }
}
