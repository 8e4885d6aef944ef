//! Networks, links, topology and routes, for `pigeonctl`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::{LinkInfo, MeshState, NetworkInfo, RouteInfo, Topology, TopologyHub, TopologyLink};
use crate::directory::{Home, network_hash};
use crate::hub::Hub;
use crate::id::Id;
use crate::time::Now;
use crate::wire::plain_network;

/// Why an id that a person typed is not enough.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No id begins so, whoever has one.
    #[error("'{0}' is no id and no beginning of one: that is 1 to 40 hexadecimal digits")]
    NoId(String),
    /// Nobody has such an id.
    #[error(
        "no peer or hub has an id that begins with '{0}'; of other hubs' peers this hub knows those in networks of its own clients"
    )]
    Nobody(String),
    /// It fits more than one.
    #[error("'{given}' is ambiguous: {}", .ids.join(", "))]
    Ambiguous {
        /// What was typed.
        given: String,
        /// Some of those it fits.
        ids: Vec<String>,
    },
}

/// Ids that an ambiguous beginning is answered with.
const SHOWN: usize = 5;

impl Hub {
    /// Every network with a peer that this hub knows.
    pub fn networks(&self) -> Vec<NetworkInfo> {
        let info = |(name, network): (&std::sync::Arc<str>, &crate::directory::Network)| {
            let local = network.own.values().filter_map(|key| self.directory.get(*key));
            let local_peers = local.filter(|entry| entry.session().is_some()).count();
            let hash = network_hash(name);
            let serves = |stored: &crate::mesh::records::Stored| {
                stored.unreachable_since.is_none() && stored.record.serves(hash)
            };
            NetworkInfo {
                network: plain_network(name).to_owned(),
                local_peers,
                remote_peers: network.peers.len() - local_peers,
                hubs: self.gossip.records.iter().filter(|(_, stored)| serves(stored)).count(),
            }
        };
        self.directory.networks().map(info).collect()
    }

    /// This hub's links. The edge adds what only it knows.
    pub fn links(&self, now: Now) -> Vec<LinkInfo> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let links = self.links.iter().map(|(conn, link)| LinkInfo {
            conn: conn.0,
            hub_id: Some(link.hub),
            transport: String::from(if link.is_p2p() { "p2p" } else { "ws" }),
            fallback: link.is_fallback(),
            wanted: self.mesh.wanted.contains(&link.hub),
            age: now.mono.since(link.opened_at).as_secs(),
            silence_ms: millis(now.mono.since(link.heard_at)),
            rtt_us: link.rtt.map(micros),
            bytes_sent: link.bytes_sent,
            bytes_received: link.bytes_received,
            local_address: None,
            remote_address: None,
        });
        let legacies = self.legacies.iter().map(|(conn, legacy)| LinkInfo {
            conn: conn.0,
            hub_id: legacy.hub,
            transport: String::from("legacy"),
            fallback: false,
            wanted: true,
            age: now.unix_ms.saturating_sub(legacy.connected_at) / 1000,
            silence_ms: millis(now.mono.since(legacy.heard_at)),
            rtt_us: None,
            bytes_sent: 0,
            bytes_received: 0,
            local_address: None,
            remote_address: Some(legacy.remote.to_string()),
        });
        links.chain(legacies).collect()
    }

    /// The whole mesh, as the records tell it.
    pub fn topology(&self) -> Topology {
        let own = (self.id, &self.gossip.own, true);
        let others = self.gossip.records.iter();
        let records: Vec<_> = std::iter::once(own)
            .chain(others.map(|(hub, stored)| (*hub, &stored.record, stored.unreachable_since.is_none())))
            .collect();
        let mut listed: BTreeMap<(Id, Id), (usize, bool)> = BTreeMap::new();
        for (hub, record, reachable) in &records {
            for link in record.links.iter().filter(|_| *reachable) {
                let (ends, p2p) =
                    listed.entry((*hub.min(&link.hub), *hub.max(&link.hub))).or_insert((0, true));
                *ends += 1;
                *p2p &= link.p2p;
            }
        }
        // What this hub told others may be older than what it is.
        let state = |hub: &Id| (*hub == self.id).then(|| self.state());
        let hubs = records.iter().map(|(hub, record, reachable)| TopologyHub {
            hub_id: *hub,
            own: *hub == self.id,
            reachable: *reachable,
            ready: state(hub).map_or(record.ready, |state| state == MeshState::Ready),
            draining: state(hub).map_or(record.draining, |state| state == MeshState::Draining),
            state: state(hub),
            url: record.urls.first().cloned(),
        });
        let links =
            listed.into_iter().map(|((a, b), (ends, p2p))| TopologyLink { a, b, p2p, counted: ends > 1 });
        Topology { hubs: hubs.collect(), links: links.collect() }
    }

    /// The id that a person means by `given`: whole, or an unambiguous beginning.
    pub fn find_id(&self, given: &str) -> Result<Id, FindError> {
        let nobody = || FindError::Nobody(given.to_owned());
        let wanted = given.to_lowercase();
        if wanted.is_empty() || wanted.len() > 40 || !wanted.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(FindError::NoId(given.to_owned()));
        }
        let hubs = self.gossip.records.iter().map(|(hub, _)| *hub).chain([self.id]);
        let legacies = self.legacies.values().filter_map(|legacy| legacy.hub);
        let peers = self.directory.entries().map(|entry| entry.peer.id).chain(self.sessions.peers().copied());
        let mut found: Vec<Id> =
            hubs.chain(legacies).chain(peers).filter(|id| id.to_string().starts_with(&wanted)).collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Err(nobody()),
            [one] => Ok(*one),
            many => {
                let ids = many.iter().take(SHOWN).map(ToString::to_string).collect();
                Err(FindError::Ambiguous { given: given.to_owned(), ids })
            }
        }
    }

    /// Whether a client of that id is connected here, announced or not.
    pub fn is_connected(&self, peer: &Id) -> bool {
        self.sessions.by_peer(peer).is_some()
    }

    /// Which way something for that peer or hub would take now.
    pub fn route(&self, id: &Id) -> Option<RouteInfo> {
        let entry = self.directory.entries().find(|entry| entry.peer.id == *id);
        let (hub_id, legacy) = match entry.map(|entry| entry.home()) {
            Some(Home::Hub(hub)) => (hub, false),
            Some(Home::Session(_)) => (self.id, false),
            Some(Home::Legacy(conn)) => (self.legacies.get(&conn)?.hub.unwrap_or_default(), true),
            None if *id == self.id || self.gossip.records.get(id).is_some() => (*id, false),
            None => return None,
        };
        let path = self.path_to(hub_id, legacy);
        let why = match (path.len(), legacy) {
            (_, true) => String::from("it is at an older hub that is connected here"),
            (0, _) => format!(
                "no path is known; messages would be given to the neighbours XOR-closest to {}",
                hub_id.short()
            ),
            (1, _) => String::from("it is here"),
            (2, _) => String::from("a direct link"),
            (links, _) => format!(
                "the shortest path, {} links; of the neighbours that begin one, {} is XOR-closest to the target",
                links - 1,
                path.get(1).map(Id::short).unwrap_or_default()
            ),
        };
        let (peer_id, network) = match entry {
            Some(entry) => (Some(entry.peer.to_string()), Some(plain_network(&entry.network).to_owned())),
            None => (None, None),
        };
        Some(RouteInfo { peer_id, network, hub_id, path, why })
    }

    fn path_to(&self, hub: Id, legacy: bool) -> Vec<Id> {
        if hub == self.id {
            return vec![self.id];
        }
        if legacy {
            return vec![self.id, hub];
        }
        let path = self.mesh.routes.path(&hub);
        path.map(|path| std::iter::once(self.id).chain(path).collect()).unwrap_or_default()
    }
}
