//! What `pigeonctl` asks and gets told: one JSON object a line, both ways.

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// The version of this protocol that a request names in `v`.
pub const CONTROL_VERSION: u32 = 1;

/// Where the mesh stands, as this hub sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshState {
    /// No other hub is linked, and the first round of dials is not over, or hubs are known but out of reach.
    Isolated,
    /// Linked, but not enough data channels yet.
    Joining,
    /// Enough data channels.
    Ready,
    /// Was ready and lost links, or runs on fallback WebSockets.
    Degraded,
    /// Leaving on purpose.
    Draining,
}

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub hub_id: Id,
    pub port: u16,
    pub state: MeshState,
    /// In words: why it is in that state.
    pub reason: String,
    pub ready: bool,
    pub migrated: bool,
    /// Open, proven data channels to other hubs.
    pub p2p_links: usize,
    /// Open hub-to-hub WebSockets, older hubs included.
    pub ws_links: usize,
    /// Other hubs within reach, older hubs included.
    pub known_hubs: usize,
    /// Announced clients of this hub.
    pub local_peers: usize,
    /// Peers of other hubs in this hub's networks.
    pub remote_peers: usize,
    /// Networks with a client here.
    pub networks: usize,
    /// WebSockets of clients, announced or not, and of hubs.
    pub connections: usize,
    /// Seconds since the start.
    pub uptime: u64,
    pub version: String,
}

/// One line of `hubs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubInfo {
    pub hub_id: Id,
    /// This hub itself.
    pub own: bool,
    /// Within reach over links that both ends list.
    pub reachable: bool,
    /// `p2p`, `ws`, `legacy` or none: the direct link to it.
    pub link: Option<String>,
    /// Links on the shortest path.
    pub distance: Option<usize>,
    /// The neighbour that is the next step on it.
    pub next_hop: Option<Id>,
    /// URLs under which it says it is reached.
    pub urls: Vec<String>,
    pub ready: bool,
    pub draining: bool,
    /// Round trip of the direct link, in microseconds.
    pub rtt_us: Option<u64>,
    /// Milliseconds since the Unix epoch: first and last heard of.
    pub registered_at: u64,
    pub last_activity: u64,
}

/// One line of `peers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// As its owner writes it.
    pub peer_id: String,
    pub network: String,
    /// The hub it is connected to.
    pub hub_id: Id,
    /// Connected here.
    pub local: bool,
    /// Milliseconds since the Unix epoch.
    pub announced_at: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// [`CONTROL_VERSION`].
    pub v: u32,
    /// Echoed in the response.
    #[serde(default)]
    pub id: u64,
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Command {
    Status,
    Hubs,
    Peers {
        /// Only this network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
    },
}

/// A response: exactly one of `ok` and `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResponse {
    pub v: u32,
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Status(Box<Status>),
    Hubs(Vec<HubInfo>),
    Peers(Vec<PeerInfo>),
}
