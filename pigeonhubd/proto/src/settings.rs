//! What a hub is told by its operator: the part of the configuration that
//! floor 1 acts on, validated.

use std::net::IpAddr;
use std::time::Duration;

/// A hub's settings. [`Default`] is the documented default of every key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The port this hub listens on, for its announce to older hubs.
    pub port: u16,
    /// The host this hub listens on, likewise.
    pub host: String,
    /// Connections at once, of clients and hubs; 1 or more.
    pub max_connections: usize,
    /// Silence after which a client is dropped; but it was pinged before, and had time to answer.
    pub peer_timeout: Duration,
    /// Time between two pings of a client, at most: see `hub::pulse`.
    pub cleanup_interval: Duration,
    /// Whether this hub takes part in a mesh.
    pub hub_enabled: bool,
    /// The mesh's name; hubs of different names do not link.
    pub namespace: String,
    /// P2P links at most; 2 to 32.
    pub max_peers: usize,
    /// P2P links that make the mesh ready; 1 to `max_peers`.
    pub min_peers: usize,
    /// Time between readiness and the closing of hub-to-hub WebSockets.
    pub migration_delay: Duration,
    /// URL under which other hubs reach this one, if configured.
    pub advertise: Option<String>,
    /// Whether the port speaks TLS: then this hub is reached at `wss:` URLs.
    pub tls: bool,
    /// Addresses from which hubs without a key are taken for hubs.
    pub legacy_hubs: Vec<AddressRange>,
    /// `ws:`/`wss:` URLs to dial.
    pub bootstrap_hubs: Vec<String>,
    /// Whether to dial them at all.
    pub auto_connect: bool,
    /// Pause between two dials of a bootstrap.
    pub reconnect_interval: Duration,
    /// Failed dials after which the pause becomes a minute.
    pub max_reconnect_attempts: u32,
    /// Peers of its network that one client is introduced to at most.
    pub max_candidates: usize,
    /// Time after which a signal that is not acknowledged is given up.
    pub signal_timeout: Duration,
    /// How long peers of a hub that became unreachable are kept.
    pub presence_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 3000,
            host: String::from("::"),
            max_connections: 10_000,
            peer_timeout: Duration::from_secs(300),
            cleanup_interval: Duration::from_secs(30),
            hub_enabled: true,
            namespace: String::from("pigeonhub-mesh"),
            max_peers: 3,
            min_peers: 2,
            migration_delay: Duration::from_secs(10),
            advertise: None,
            tls: false,
            legacy_hubs: Vec::new(),
            bootstrap_hubs: Vec::new(),
            auto_connect: true,
            reconnect_interval: Duration::from_secs(5),
            max_reconnect_attempts: 10,
            max_candidates: 64,
            signal_timeout: Duration::from_secs(10),
            presence_grace: Duration::from_secs(5),
        }
    }
}

/// Addresses: one, or all that share its first `prefix` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that count: at most 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

impl AddressRange {
    /// Whether `remote` is one of these addresses. An IPv4 address counts the
    /// same when it comes mapped into IPv6.
    pub fn contains(&self, remote: IpAddr) -> bool {
        fn bits(address: IpAddr) -> (u128, u8) {
            match address.to_canonical() {
                IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
                IpAddr::V6(v6) => (v6.to_bits(), 128),
            }
        }
        let (own, width) = bits(self.address);
        let (other, other_width) = bits(remote);
        let prefix = u32::from(self.prefix.min(width));
        width == other_width && (prefix == 0 || (own ^ other) >> (128 - prefix) == 0)
    }
}
