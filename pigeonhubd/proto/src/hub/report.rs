//! What `pigeonctl` and `/health` show.

mod mesh;

use std::collections::BTreeMap;

pub use mesh::FindError;

use super::Hub;
use super::counters::{Counters, Gauges};
use crate::control::{HubInfo, MeshState, PeerInfo, Status};
use crate::directory::Home;
use crate::id::Id;
use crate::time::Now;
use crate::wire::plain_network;

impl Hub {
    /// The state at a glance.
    pub fn status(&self, now: Now) -> Status {
        let (local_peers, remote_peers) = self.directory.counts();
        let readiness = &self.mesh.readiness;
        let state = self.state();
        let reason = if self.is_in_mesh() {
            self.readiness_reason()
        } else {
            String::from("a plain signaling server: hub.enabled is false")
        };
        Status {
            hub_id: self.id,
            port: self.settings.port,
            state,
            reason,
            ready: state == MeshState::Ready,
            // With nobody but older hubs there was nothing to migrate.
            migrated: readiness.migrated
                && state == MeshState::Ready
                && (self.legacies.is_empty() || self.links.p2p() > 0),
            p2p_links: self.links.p2p(),
            ws_links: self.links.sockets() + self.legacies.len(),
            known_hubs: self.other_members() + self.legacies.len(),
            local_peers,
            remote_peers,
            networks: self.directory.own_network_count(),
            connections: self.connections(),
            uptime: now.mono.since(self.started.mono).as_secs(),
            // The edge reads it, and knows.
            config_age: None,
            refused: BTreeMap::new(),
            rejected: self.rejected().filter(|_| !self.draining.is_on()),
            twin: self.twin_at().map(str::to_owned),
            listening: Vec::new(),
            offered: None,
            on_disk: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether this hub takes part in a mesh.
    pub fn has_mesh(&self) -> bool {
        self.settings.hub_enabled
    }

    /// URLs of other hubs: the bootstraps, and one of each of the first 16 within reach.
    pub fn urls_to_dial(&self) -> Vec<String> {
        let bootstraps = self.settings.bootstrap_hubs.iter().take(16).cloned();
        bootstraps.chain(self.urls_to_remember()).collect()
    }

    /// Whether what the mesh is counts for how this hub is.
    fn is_in_mesh(&self) -> bool {
        self.settings.hub_enabled || self.draining.is_on()
    }

    /// The state of this hub: the same wherever it is shown.
    pub(super) fn state(&self) -> MeshState {
        if self.is_in_mesh() { self.mesh_state() } else { MeshState::Ready }
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many there are at this moment.
    pub fn gauges(&self) -> Gauges {
        let (held, under_way) = self.relay.waiting();
        let (queued, queued_bytes) = self.queued_to_hubs();
        let unreachable = self.gossip.records.iter().filter(|(_, it)| it.unreachable_since.is_some());
        Gauges {
            sessions: self.sessions.len() - self.sessions.waiting(),
            waiting: self.sessions.waiting(),
            handshakes: self.joining.handshakes(),
            channels: self.channels.len(),
            links_p2p: self.links.p2p(),
            links_ws: self.links.sockets(),
            links_legacy: self.legacies.len(),
            fallbacks: self.links.iter().filter(|(_, link)| link.is_fallback()).count(),
            wanted: self.mesh.wanted.len(),
            records: self.gossip.records.iter().count(),
            unreachable: unreachable.count(),
            missed: self.missed(),
            held,
            under_way,
            queued,
            queued_bytes,
            announce_data: self.directory.held(),
        }
    }

    /// Every hub this hub knows, itself first.
    pub fn hubs(&self, now: Now) -> Vec<HubInfo> {
        let (own, state) = (&self.gossip.own, self.state());
        let mut hubs = vec![HubInfo {
            hub_id: self.id,
            own: true,
            reachable: true,
            link: None,
            distance: Some(0),
            next_hop: None,
            urls: own.urls.clone(),
            ready: state == MeshState::Ready,
            draining: self.draining.is_on(),
            state: Some(state),
            rtt_us: None,
            registered_at: self.started.unix_ms,
            last_activity: now.unix_ms,
        }];
        hubs.extend(self.gossip.records.iter().map(|(hub, stored)| {
            let link = self.links.to(hub).map(|(_, link)| link);
            HubInfo {
                hub_id: *hub,
                own: false,
                reachable: stored.unreachable_since.is_none(),
                link: link.map(|link| String::from(if link.is_p2p() { "p2p" } else { "ws" })),
                distance: self.mesh.routes.distance(hub),
                next_hop: self.mesh.routes.next_hop(hub, |hub| self.is_suspect(hub)),
                urls: stored.record.urls.clone(),
                ready: stored.record.ready,
                draining: stored.record.draining,
                state: None,
                rtt_us: link
                    .and_then(|link| link.rtt)
                    .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
                registered_at: stored.registered_at,
                last_activity: stored.last_activity,
            }
        }));
        hubs.extend(self.legacies.values().map(|legacy| HubInfo {
            // An older hub that was dialled never tells its id.
            hub_id: legacy.hub.unwrap_or_default(),
            own: false,
            reachable: true,
            link: Some(String::from("legacy")),
            distance: Some(1),
            next_hop: legacy.hub,
            urls: if legacy.hub.is_none() { vec![legacy.name.clone()] } else { Vec::new() },
            ready: false,
            draining: false,
            state: None,
            rtt_us: None,
            registered_at: legacy.connected_at,
            last_activity: now.unix_ms.saturating_sub(
                u64::try_from(now.mono.since(legacy.heard_at).as_millis()).unwrap_or_default(),
            ),
        }));
        hubs
    }

    /// Every peer this hub knows, or those of networks of one name.
    pub fn peers(&self, network: Option<&str>) -> Vec<PeerInfo> {
        self.directory
            .entries()
            .filter(|entry| network.is_none_or(|network| network == plain_network(&entry.network)))
            .map(|entry| PeerInfo {
                peer_id: entry.peer.to_string(),
                network: plain_network(&entry.network).to_owned(),
                hub_id: self.hub_of(entry.home()),
                local: entry.session().is_some(),
                announced_at: entry.claim().announced_at,
            })
            .collect()
    }

    fn hub_of(&self, home: Home) -> Id {
        match home {
            Home::Hub(hub) => hub,
            Home::Session(_) => self.id,
            Home::Legacy(conn) => self.legacies.get(&conn).and_then(|legacy| legacy.hub).unwrap_or(self.id),
        }
    }
}
