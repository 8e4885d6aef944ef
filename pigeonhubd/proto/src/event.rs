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
    /// A bootstrap's WebSocket is open and the hub behind it accepted us.
    BootstrapConnected { uri: String, hub_id: Id },
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
