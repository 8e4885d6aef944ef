//! Older hubs: they have no mesh key, speak JSON over WebSocket, and are let in
//! only from listed addresses. This hub stands for their clients in the mesh.

use std::net::IpAddr;

use super::counters::{LinkEnd, LinkKind, Refusal};
use super::joining::Target;
use super::relay::Signal;
use super::{Hub, close};
use crate::directory::{Entry, EntryKey, Home};
use crate::event::Event;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Output};
use crate::time::Time;
use crate::wire::client::{AnnounceData, ClientFrame, ClientKind, DiscoveredData};
use crate::wire::reply;

/// Peers that one older hub may bring, at most; further ones are ignored.
const MAX_PEERS: usize = 20_000;
/// Older hubs that the reason of the state names.
const MOST_NAMED: usize = 3;

/// An older hub's connection.
#[derive(Debug)]
pub(super) struct Legacy {
    /// Its id; unknown while only its URL is.
    pub(super) hub: Option<Id>,
    pub(super) name: String,
    pub(super) remote: IpAddr,
    pub(super) heard_at: Time,
    pub(super) connected_at: u64,
    peers: usize,
}

impl Legacy {
    /// How a person knows it: the URL that was dialled, or the address it came from.
    fn place(&self) -> String {
        match self.hub {
            None => self.name.clone(),
            Some(_) => self.remote.to_canonical().to_string(),
        }
    }
}

impl Hub {
    /// Those that are connected, in words.
    pub(super) fn older_hubs(&self) -> Option<String> {
        let places: Vec<String> = self.legacies.values().take(MOST_NAMED).map(Legacy::place).collect();
        let more = self.legacies.len() - places.len();
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        let s = if self.legacies.len() == 1 { "" } else { "s" };
        (!places.is_empty()).then(|| format!("older hub{s} over WebSocket: {}{and}", places.join(", ")))
    }

    /// Whether an older hub may come from that address.
    pub(super) fn is_legacy_address(&self, remote: IpAddr) -> bool {
        self.settings.hub_enabled && self.settings.legacy_hubs.iter().any(|listed| listed.contains(remote))
    }

    /// Whether the client of that connection may turn out to be an older hub.
    pub(super) fn admits_legacy(&self, conn: ConnId) -> bool {
        self.sessions
            .get(conn)
            .and_then(|session| session.origin.remote)
            .is_some_and(|at| self.is_legacy_address(at))
    }

    /// A client from a listed address announced itself as a hub.
    pub(super) fn adopt_legacy(&mut self, conn: ConnId, peer: Spelled) {
        let Some(remote) = self.take_session(conn).and_then(|session| session.origin.remote) else { return };
        self.legacy_up(conn, Some(peer.id), peer.to_string(), remote);
    }

    /// A dialled hub at a listed address turned out to be an older one.
    pub(super) fn legacy_dialled(&mut self, conn: ConnId, target: &Target, remote: IpAddr) {
        let announce =
            reply::hub_announce(&self.settings.namespace, self.settings.port, &self.settings.host, self.now);
        self.send_text(conn, announce);
        // It does not tell its id; the URL has to do.
        self.legacy_up(conn, None, target.url.clone(), remote);
        self.bootstrap_up_legacy(&target.url, conn);
    }

    fn legacy_up(&mut self, conn: ConnId, hub: Option<Id>, name: String, remote: IpAddr) {
        let (heard_at, connected_at) = (self.now.mono, self.now.unix_ms);
        self.counters.links_opened.count(LinkKind::Legacy);
        self.legacies.insert(conn, Legacy { hub, name, remote, heard_at, connected_at, peers: 0 });
        if let Some(hub_id) = hub {
            self.event(Event::HubRegistered { hub_id });
        }
        let here: Vec<EntryKey> =
            self.directory.networks().flat_map(|(_, network)| network.peers.values().copied()).collect();
        for key in here {
            self.tell_legacy(conn, key);
        }
        // It serves networks that only it knows: this hub has to know all peers now.
        self.presence_check();
        self.mesh_changed_now();
    }

    /// Tells an older hub of a peer, unless it told us.
    fn tell_legacy(&mut self, conn: ConnId, key: EntryKey) {
        let Some(entry) = self.directory.get(key) else { return };
        if entry.home() == Home::Legacy(conn) {
            return;
        }
        let text = reply::peer_discovered(&entry.claim().shown, &entry.network, None, self.now);
        self.send_text(conn, text);
    }

    /// Tells all older hubs of a peer that came or changed.
    pub(super) fn tell_legacies_here(&mut self, key: EntryKey) {
        let legacies: Vec<ConnId> = self.legacies.keys().copied().collect();
        for conn in legacies {
            self.tell_legacy(conn, key);
        }
    }

    /// Tells all older hubs of a peer that left.
    pub(super) fn tell_legacies_gone(&mut self, gone: &Entry) {
        let others = self.legacies.keys().filter(|conn| gone.home() != Home::Legacy(**conn));
        let others: Vec<ConnId> = others.copied().collect();
        for conn in others {
            self.send_text(conn, reply::peer_disconnected(gone.peer, &gone.network, None, self.now));
        }
    }

    pub(super) fn legacy_text(&mut self, conn: ConnId, text: &str) {
        let now = self.now.mono;
        let Some(legacy) = self.legacies.get_mut(&conn) else { return };
        legacy.heard_at = now;
        let name = legacy.name.clone();
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                self.counters.refusals.count(Refusal::OldHub);
                return self.event(Event::Refused { from: name, reason: error.to_string() });
            }
        };
        match &frame.kind {
            ClientKind::PeerDiscovered => self.legacy_discovered(conn, &frame),
            ClientKind::PeerDisconnected => {
                if let Some(data) = DiscoveredData::parse(frame.data).filter(|data| !data.is_hub) {
                    self.legacy_lost(conn, &frame.network, data.peer_id.id);
                }
            }
            ClientKind::Goodbye => {
                if let Some(from) =
                    frame.from.filter(|from| self.is_at_legacy(conn, &frame.network, &from.id))
                {
                    self.say_goodbye(&frame.network, from.id);
                    self.legacy_lost(conn, &frame.network, from.id);
                }
            }
            ClientKind::Signal(kind) => self.legacy_signal(conn, *kind, &frame),
            ClientKind::Ping => {
                let own = Spelled::from(self.id);
                self.send_text(conn, reply::pong(own, self.now));
            }
            // Its announces of itself, and its answers to what it does not know.
            _ => {}
        }
    }

    /// An old hub's peer left.
    fn legacy_lost(&mut self, conn: ConnId, network: &str, peer: Id) {
        let home = Home::Legacy(conn);
        if self.directory.is_claimed(network, &peer, home)
            && let Some(legacy) = self.legacies.get_mut(&conn)
        {
            legacy.peers = legacy.peers.saturating_sub(1);
        }
        self.unclaim_own(network, peer, home);
    }

    fn legacy_discovered(&mut self, conn: ConnId, frame: &ClientFrame<'_>) {
        let Some(data) = DiscoveredData::parse(frame.data) else { return };
        let hub = data.is_hub || *frame.network == *self.settings.namespace;
        if hub || data.peer_id.id == self.id {
            return;
        }
        let peer = data.peer_id;
        let home = Home::Legacy(conn);
        let known =
            self.directory.own_claim(&frame.network, &peer.id).is_some_and(|claim| claim.home == home);
        // It tells what it was told, too: a peer that another hub has is not its own.
        let elsewhere =
            self.directory.find(&frame.network, &peer.id).is_some_and(|entry| entry.home() != home);
        let Some(legacy) = self.legacies.get_mut(&conn) else { return };
        if elsewhere || (!known && legacy.peers >= MAX_PEERS) {
            return;
        }
        legacy.peers += usize::from(!known);
        let Ok(data) = AnnounceData::parse(peer, frame.data) else { return };
        let shown = self.kept_data(&frame.network, peer, home, &data.shown);
        let claim = self.own_claim(&frame.network, peer, home, shown);
        self.claim_own(&frame.network, peer, claim);
        // An older hub that was dialled keeps no list: its newcomer is told of ours again.
        self.show_to_legacy(conn, &frame.network, peer.id);
    }

    fn show_to_legacy(&mut self, conn: ConnId, network: &str, peer: Id) {
        let Some(peers) = self.directory.network(network).map(|network| &network.peers) else { return };
        let near = crate::directory::closest(peers, &peer, self.settings.max_candidates);
        let keys: Vec<EntryKey> = near.iter().filter_map(|id| peers.get(id).copied()).collect();
        for key in keys {
            self.tell_legacy(conn, key);
        }
    }

    fn legacy_signal(&mut self, conn: ConnId, kind: crate::wire::SignalKind, frame: &ClientFrame<'_>) {
        let (Some(from), Some(target)) = (frame.from, frame.target) else { return };
        // Only for its own clients, and not back to where it came from.
        if self.is_at_legacy(conn, &frame.network, &from.id)
            && !self.is_at_legacy(conn, &frame.network, &target.id)
        {
            let signal = Signal { kind, from, target, network: &frame.network, data: frame.data };
            self.route_signal(None, signal);
        }
    }

    fn is_at_legacy(&self, conn: ConnId, network: &str, peer: &Id) -> bool {
        self.directory.find(network, peer).is_some_and(|entry| entry.home() == Home::Legacy(conn))
    }

    pub(super) fn legacy_over(&mut self, conn: ConnId, end: LinkEnd, reason: &str) {
        let Some(legacy) = self.legacies.remove(&conn) else { return };
        self.counters.links_closed.count(end);
        let home = Home::Legacy(conn);
        let gone: Vec<_> = self
            .directory
            .entries()
            .filter(|entry| {
                self.directory
                    .own_claim(&entry.network, &entry.peer.id)
                    .is_some_and(|claim| claim.home == home)
            })
            .map(|entry| (entry.network.clone(), entry.peer.id))
            .collect();
        for (network, peer) in gone {
            self.unclaim_own(&network, peer, home);
        }
        if let Some(hub_id) = legacy.hub {
            self.event(Event::HubUnregistered { hub_id, reason: reason.to_owned() });
        }
        self.bootstrap_lost(conn, true, reason);
        self.presence_check();
        self.mesh_changed_now();
    }

    /// Pings older hubs, which have no heartbeat, and drops those that are silent.
    pub(super) fn sweep_legacies(&mut self) {
        let (now, every) = (self.now.mono, self.ping_every());
        // One that was not pinged has not been asked.
        let timeout = self.settings.peer_timeout.max(every + super::pulse::ANSWER);
        let all: Vec<(ConnId, Time)> =
            self.legacies.iter().map(|(conn, legacy)| (*conn, legacy.heard_at)).collect();
        for (conn, heard_at) in all {
            if now.since(heard_at) >= timeout {
                self.close(conn, close::POLICY, "No sign of life");
                self.legacy_over(conn, LinkEnd::Silent, "no sign of life");
            } else {
                self.outputs.push_back(Output::Ping { conn, number: 0 });
            }
        }
    }
}
