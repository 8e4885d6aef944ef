//! What `pigeonctl` asks and gets told: one JSON object a line, both ways.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

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

impl MeshState {
    /// Every state, in the order of their names.
    pub const ALL: [Self; 5] = [Self::Degraded, Self::Draining, Self::Isolated, Self::Joining, Self::Ready];

    /// Its name, which is the same wherever it is shown or sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolated => "isolated",
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        }
    }
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
    /// Seconds since the configuration was read.
    #[serde(default)]
    pub config_age: Option<u64>,
    /// How often callers and messages were refused since the start, by why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// While no other hub is known: a bootstrap's URL, and why the hub that answers there and this
    /// one do not join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// Another hub runs with this hub's key: its URL or address, empty if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
    /// Where this hub listens; none from hubs that do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<SocketAddr>,
    /// What this hub offers to others for data channels; none if it takes part in no mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offered>,
    /// How the configuration on disk is, unless it is what is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<OnDisk>,
    pub version: String,
}

/// Where a hub's data channels are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Addresses of this machine, the best first.
    pub addresses: Vec<IpAddr>,
    /// Those that would be offered too if so many could.
    pub left_out: Vec<IpAddr>,
    /// Data channels since the start for which no port of `mesh.udp_ports` was free.
    pub no_port: u64,
}

impl Status {
    /// Whether this hub takes and serves clients. How its mesh is has no part in that.
    pub fn serves(&self) -> bool {
        self.state != MeshState::Draining
    }

    /// What keeps the mesh from being whole, as this hub sees it; none if it is.
    pub fn lacks(&self) -> Option<String> {
        match &self.rejected {
            _ if !self.ready => Some(format!("{}: {}", self.state.name(), self.reason)),
            Some(rejected) => Some(format!("alone, and not joined with {rejected}")),
            None => None,
        }
    }
}

/// A configuration on disk, with the files that it names, that is not what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDisk {
    /// What is wrong with it: a reload is refused, and a restart would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Keys whose values wait for a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
    /// Keys whose values or files wait for a reload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<String>,
}

impl OnDisk {
    /// In words, for one line.
    pub fn words(&self) -> String {
        if let Some(fault) = &self.fault {
            return format!("refused, and a restart would fail: {fault}");
        }
        let waiting = [("restart", &self.restart), ("reload", &self.reload)];
        let waiting = waiting.into_iter().filter(|(_, keys)| !keys.is_empty());
        let told = waiting.map(|(what, keys)| format!("waits for a {what}: {}", keys.join(", ")));
        told.collect::<Vec<_>>().join("; ")
    }
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
    /// Of this hub itself, as in `status`; others tell only whether they are ready or draining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MeshState>,
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

/// One line of `networks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    pub network: String,
    /// Peers connected here.
    pub local_peers: usize,
    /// Peers of other hubs, as far as they are known here.
    pub remote_peers: usize,
    /// Other hubs that serve it.
    pub hubs: usize,
}

/// One line of `links`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkInfo {
    /// The number of its connection in this hub.
    pub conn: u64,
    /// The hub at the other end; none for an older hub that was dialled.
    pub hub_id: Option<Id>,
    /// `p2p`, `ws` or `legacy`.
    pub transport: String,
    /// A WebSocket in place of a data channel that does not open.
    pub fallback: bool,
    /// The topology wants a data channel to that hub.
    pub wanted: bool,
    /// Seconds since it opened.
    pub age: u64,
    /// Milliseconds since anything came over it.
    pub silence_ms: u64,
    /// Smoothed round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// Bytes of messages sent and received.
    #[serde(default)]
    pub bytes_sent: u64,
    #[serde(default)]
    pub bytes_received: u64,
    /// Own and far address of the ICE candidate pair with its types. Of a WebSocket only the far
    /// end: the address it came from, or the URL that was dialled.
    #[serde(default)]
    pub local_address: Option<String>,
    #[serde(default)]
    pub remote_address: Option<String>,
}

/// `topology`: the whole mesh, as this hub sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub hubs: Vec<TopologyHub>,
    pub links: Vec<TopologyLink>,
}

/// A hub of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyHub {
    pub hub_id: Id,
    pub own: bool,
    pub reachable: bool,
    pub ready: bool,
    pub draining: bool,
    /// Of this hub itself, as in `status`; others tell only whether they are ready or draining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MeshState>,
    /// Its first URL, if it knows any.
    pub url: Option<String>,
}

/// A link of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyLink {
    /// The smaller id.
    pub a: Id,
    /// The larger id.
    pub b: Id,
    pub p2p: bool,
    /// Both ends list it; else it is just opening or closing.
    pub counted: bool,
}

/// `route`: which way a signal to a peer, or a message to a hub, would take now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteInfo {
    /// The peer asked for; none if a hub was.
    pub peer_id: Option<String>,
    /// The peer's network.
    pub network: Option<String>,
    /// The hub where it ends.
    pub hub_id: Id,
    /// The hubs on the way, this one first; empty while no path is known.
    pub path: Vec<Id>,
    /// In words: why that way.
    pub why: String,
}

/// One answer to a probe, from one hub on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeHop {
    /// The hub that answers.
    pub hub_id: Id,
    /// Links from here to it.
    pub hop: u8,
    /// There and back, in microseconds.
    pub rtt_us: u64,
    /// It is the one that was probed.
    pub last: bool,
}

/// `config`: one key of the configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigValue {
    pub key: String,
    /// As TOML.
    pub value: String,
    /// `default`, `FILE:LINE`, `$VARIABLE` or `--flag`.
    pub origin: String,
}

/// `reload`: what a reload changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    pub changed: Vec<ConfigChange>,
    /// The mesh key is another one; the one before is accepted for a day.
    pub mesh_key_changed: bool,
    /// Keys whose files hold something else: certificate, tokens.
    #[serde(default)]
    pub files_changed: Vec<String>,
}

/// One key that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    pub key: String,
    pub old: String,
    pub new: String,
    /// It takes effect only with a restart.
    pub needs_restart: bool,
}

/// One event, as it is kept and followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInfo {
    /// Counts the events of this run of the hub, from 1.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The event's name, such as `hubMeshReady`.
    pub event: String,
    /// What it is about, by name.
    pub fields: serde_json::Map<String, serde_json::Value>,
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

/// What is asked. An `id` is a peer's or hub's, whole or its unambiguous beginning;
/// on the wire it is `target`, since `id` is the request's.
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
    /// One peer, in each of its networks.
    Peer {
        #[serde(rename = "target")]
        id: String,
    },
    Networks,
    Links,
    Topology,
    Route {
        #[serde(rename = "target")]
        id: String,
    },
    /// A live probe, answered by every hub on the way.
    Trace {
        #[serde(rename = "target")]
        id: String,
    },
    /// The configuration in force.
    Config,
    /// The last events, and with `follow` those to come, one response each.
    Events {
        /// Only those after this number.
        #[serde(default)]
        since: u64,
        /// Only these names; all if empty.
        #[serde(default)]
        types: Vec<String>,
        #[serde(default)]
        follow: bool,
    },
    /// All figures, in OpenMetrics text.
    Metrics,
    Reload {
        /// Only tell what would change.
        #[serde(default)]
        dry_run: bool,
    },
    Drain,
    Undrain,
    /// Closes a client's connection.
    Disconnect {
        #[serde(rename = "target")]
        id: String,
    },
    LogLevel {
        level: String,
        /// After so many seconds the configured level is back; never if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
}

impl Command {
    /// Whether it changes anything: then it is for root, the hub's own user and
    /// `control.admins` alone, and logged.
    pub fn changes(&self) -> bool {
        match self {
            Self::Reload { dry_run } => !dry_run,
            Self::Drain | Self::Undrain | Self::Disconnect { .. } | Self::LogLevel { .. } => true,
            _ => false,
        }
    }
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
    /// What kind of error it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ControlErrorCode>,
}

/// The kinds of errors, which `pigeonctl` turns into exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlErrorCode {
    /// The request is not one.
    BadRequest,
    /// The caller may not do that.
    NotPermitted,
    /// No peer or hub of that id, or more than one.
    NotFound,
    /// The new configuration is wrong; the old one stays in force.
    ConfigRejected,
    /// The hub did not answer, or the probed hub did not.
    TimedOut,
    /// Too many callers or questions; try again.
    Busy,
    /// One that only a later version knows. Never sent.
    #[serde(other)]
    Other,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Status(Box<Status>),
    Hubs(Vec<HubInfo>),
    Peers(Vec<PeerInfo>),
    Networks(Vec<NetworkInfo>),
    Links(Vec<LinkInfo>),
    Topology(Topology),
    Route(RouteInfo),
    Trace(Vec<ProbeHop>),
    Config(Vec<ConfigValue>),
    Events(Vec<EventInfo>),
    Metrics(String),
    Reload(ReloadReport),
    /// It is done; in words, what.
    Done(String),
}
