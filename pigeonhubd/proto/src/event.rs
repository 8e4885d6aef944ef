//! What a person would want to hear about.

use serde::Serialize;

use crate::id::Id;

/// One event. Names are the source document's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A client's WebSocket was accepted.
    PeerConnected { peer_id: Id },
    /// A client announced itself in a network.
    PeerAnnounced { peer_id: Id, network: String },
    /// A client's WebSocket is over.
    PeerDisconnected { peer_id: Id, reason: String },
    /// Another hub joined the part of the mesh that this hub reaches.
    HubRegistered { hub_id: Id },
    /// Another hub left it.
    HubUnregistered { hub_id: Id, reason: String },
    /// Another hub was heard of for the first time.
    HubDiscovered { hub_id: Id, via: String },
    /// A bootstrap's WebSocket is open and the hub behind it accepted us. An older hub, which tells
    /// no id, is called so in `hub`.
    BootstrapConnected {
        uri: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hub_id: Option<Id>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hub: Option<&'static str>,
    },
    /// A bootstrap could not be reached, or its WebSocket is over.
    BootstrapDisconnected { uri: String, reason: String },
    /// A hub-to-hub data channel is open and proven.
    #[serde(rename = "hubP2PConnected")]
    HubP2pConnected { hub_id: Id },
    /// A hub-to-hub data channel is over.
    #[serde(rename = "hubP2PDisconnected")]
    HubP2pDisconnected { hub_id: Id, reason: String },
    /// The mesh has enough data channels at this hub.
    HubMeshReady { p2p_connections: usize, total_hubs: usize },
    /// It has no longer.
    HubMeshDegraded { p2p_connections: usize, total_hubs: usize, reason: String },
    /// Hub-to-hub WebSockets were closed; all hub-to-hub traffic is on data channels.
    HubMeshMigrated { migrated_count: usize, p2p_connections: usize },
    /// A hub tried to join and was turned away, or turned us away.
    HubRejected { hub: String, reason: String },
    /// A frame or connection broke a rule and was dropped.
    Refused { from: String, reason: String },
}

/// What the daemon around the hub tells among the events: a new configuration
/// is in force, or was refused; a command changed something.
pub const OF_DAEMON: [&str; 3] = ["configReloaded", "configRejected", "controlCommand"];

/// Events of one [`Kind`] that a hub keeps; the oldest go first.
pub const KEPT: usize = 1000;

/// Kinds of events. Each is kept and limited by itself: however many of one there are, none of
/// another is lost for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of clients, who come and go as they like.
    Clients,
    /// Of those who broke a rule or were turned away, whoever they are.
    Strangers,
    /// Of the mesh, and of this hub itself.
    Hubs,
}

impl Kind {
    /// The kind of an event by its name.
    pub fn of(event: &str) -> Self {
        match event {
            "peerConnected" | "peerAnnounced" | "peerDisconnected" => Self::Clients,
            "hubRejected" | "refused" => Self::Strangers,
            _ => Self::Hubs,
        }
    }

    /// The kind's name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Strangers => "strangers",
            Self::Hubs => "hubs",
        }
    }
}

impl Event {
    /// The name of every event, in the order of their definition.
    pub const NAMES: [&str; 15] = [
        "peerConnected",
        "peerAnnounced",
        "peerDisconnected",
        "hubRegistered",
        "hubUnregistered",
        "hubDiscovered",
        "bootstrapConnected",
        "bootstrapDisconnected",
        "hubP2PConnected",
        "hubP2PDisconnected",
        "hubMeshReady",
        "hubMeshDegraded",
        "hubMeshMigrated",
        "hubRejected",
        "refused",
    ];

    /// One event of each kind, for tests of what is made of them.
    #[doc(hidden)]
    pub fn examples() -> Vec<Self> {
        // Whoever adds an event is told by the compiler to put it here.
        let next = |event: &Self| {
            let (hub_id, peer_id, text) = (Id::default(), Id::default(), || String::from("text"));
            Some(match event {
                Self::PeerConnected { .. } => Self::PeerAnnounced { peer_id, network: text() },
                Self::PeerAnnounced { .. } => Self::PeerDisconnected { peer_id, reason: text() },
                Self::PeerDisconnected { .. } => Self::HubRegistered { hub_id },
                Self::HubRegistered { .. } => Self::HubUnregistered { hub_id, reason: text() },
                Self::HubUnregistered { .. } => Self::HubDiscovered { hub_id, via: text() },
                Self::HubDiscovered { .. } => {
                    Self::BootstrapConnected { uri: text(), hub_id: Some(hub_id), hub: None }
                }
                Self::BootstrapConnected { .. } => {
                    Self::BootstrapDisconnected { uri: text(), reason: text() }
                }
                Self::BootstrapDisconnected { .. } => Self::HubP2pConnected { hub_id },
                Self::HubP2pConnected { .. } => Self::HubP2pDisconnected { hub_id, reason: text() },
                Self::HubP2pDisconnected { .. } => Self::HubMeshReady { p2p_connections: 1, total_hubs: 2 },
                Self::HubMeshReady { .. } => {
                    Self::HubMeshDegraded { p2p_connections: 1, total_hubs: 2, reason: text() }
                }
                Self::HubMeshDegraded { .. } => {
                    Self::HubMeshMigrated { migrated_count: 1, p2p_connections: 1 }
                }
                Self::HubMeshMigrated { .. } => Self::HubRejected { hub: text(), reason: text() },
                Self::HubRejected { .. } => Self::Refused { from: text(), reason: text() },
                Self::Refused { .. } => return None,
            })
        };
        std::iter::successors(Some(Self::PeerConnected { peer_id: Id::default() }), next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_name() {
        let name = |event: &Event| serde_json::to_value(event).expect("an object")["event"].clone();
        let named: Vec<_> = Event::examples().iter().map(name).collect();
        assert_eq!(named, Event::NAMES);
        let kinds = Event::NAMES.map(Kind::of);
        let count = |kind: Kind| kinds.iter().filter(|one| **one == kind).count();
        assert_eq!([Kind::Clients, Kind::Strangers, Kind::Hubs].map(count), [3, 2, 10]);
    }
}
