//! Whose a peer id is, when two hubs have a connection of it.
//!
//! The older connection stays if it answers a ping, as at one hub. So a client that announces itself
//! waits while another hub has that peer in that network, or may have it: that hub asks its own
//! connection, and says whether it answered. A hub that says nothing in time has lost the peer.
//!
//! Two hubs may all the same find that each has one: both were announced in the same moment, or in the
//! two halves of a cut mesh. Then the hub whose announcement does not count asks its own connection, and
//! if that answers, the other one gives its own up ([`HubMessage::Keeps`]). A hub that stood still for longer
//! than others wait for it has lost the peer unasked.
//!
//! Whoever has a ticket for its id waits for nobody: the other hub ends its connection
//! ([`HubMessage::Takes`]). Of two with such tickets the later one stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::counters::{SessionEnd, TurnedAway};
use super::sessions::{PROBE, Session};
use super::{Hub, close};
use crate::directory::{EntryKey, Home};
use crate::id::Id;
use crate::io::ConnId;
use crate::time::Time;
use crate::wire::MAX_NETWORK_NAME;
use crate::wire::client::{ClientFrame, ClientKind};
use crate::wire::mesh::HubMessage;
use crate::wire::reply::ErrorCode;

/// How long an announcement waits, at most: for a probe at the other hub, and the way there and back.
const WAIT: Duration = Duration::from_millis(1400);
/// How long a hub has to give up its connection, when the older one answered. One that does not know
/// [`HubMessage::Keeps`] never does, and keeps the peer.
const YIELD: Duration = Duration::from_secs(3);
/// Messages of one client that wait behind its announcement in a network, that one included.
const MAX_TEXTS: usize = 64;
/// Bytes of all messages that wait so.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Questions about one peer that wait for the same answer.
const MAX_QUESTIONS: usize = 64;

/// An announcement that waits.
#[derive(Debug)]
struct Held {
    peer: Id,
    /// The announcement, and what else its sender said in that network since then.
    texts: Vec<String>,
    until: Time,
    /// The hubs that were asked, and by which number.
    asked: BTreeMap<Id, u64>,
    /// Those that do not have the peer, or not any more.
    free: BTreeSet<Id>,
}

/// Another hub's question whether a peer's connection here is alive.
#[derive(Debug)]
struct Question {
    hub: Id,
    network: Arc<str>,
    number: u64,
}

/// Another hub's announcement of a peer counts, but there is a connection here that may be alive.
#[derive(Debug)]
struct Contest {
    until: Time,
    /// The connection here answered, and the other hub was told so.
    kept: bool,
}

/// Peers that two hubs have, or may have.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: BTreeMap<ConnId, BTreeMap<Arc<str>, Held>>,
    held_bytes: usize,
    /// The connections whose announcements in a network wait.
    networks: BTreeMap<Arc<str>, BTreeSet<ConnId>>,
    /// Which announcement a question is about.
    asked: BTreeMap<u64, (ConnId, Arc<str>)>,
    last_number: u64,
    /// When announcements go on at the latest; some have gone on since then.
    due: VecDeque<(Time, ConnId, Arc<str>)>,
    /// By peer; each with the end of its probe.
    questions: BTreeMap<Id, (Time, Vec<Question>)>,
    contests: BTreeMap<Id, Contest>,
}

impl Claims {
    /// Whether a peer's connection here is being probed for another hub's sake.
    pub(super) fn is_probing(&self, peer: &Id) -> bool {
        self.questions.contains_key(peer) || self.contests.get(peer).is_some_and(|contest| !contest.kept)
    }

    /// Whether an announcement in that network waits.
    pub(super) fn holds(&self, network: &str) -> bool {
        self.networks.contains_key(network)
    }

    fn get(&self, conn: ConnId, network: &str) -> Option<&Held> {
        self.held.get(&conn)?.get(network)
    }

    fn get_mut(&mut self, conn: ConnId, network: &str) -> Option<&mut Held> {
        self.held.get_mut(&conn)?.get_mut(network)
    }

    fn hold(&mut self, conn: ConnId, network: &Arc<str>, held: Held) {
        self.held_bytes += held.size();
        self.due.push_back((held.until, conn, Arc::clone(network)));
        self.networks.entry(Arc::clone(network)).or_default().insert(conn);
        self.held.entry(conn).or_default().insert(Arc::clone(network), held);
    }

    fn take(&mut self, conn: ConnId, network: &str) -> Option<Held> {
        let networks = self.held.get_mut(&conn)?;
        let held = networks.remove(network)?;
        if networks.is_empty() {
            self.held.remove(&conn);
        }
        if let Some(conns) = self.networks.get_mut(network) {
            conns.remove(&conn);
            if conns.is_empty() {
                self.networks.remove(network);
            }
        }
        for number in held.asked.values() {
            self.asked.remove(number);
        }
        self.held_bytes -= held.size();
        Some(held)
    }
}

impl Held {
    fn size(&self) -> usize {
        self.texts.iter().map(String::len).sum()
    }
}

// The newer connection, which waits.
impl Hub {
    /// Keeps a client's message if it has to wait behind an announcement. True if it does.
    pub(super) fn waits_behind(&mut self, conn: ConnId, text: &str, frame: &ClientFrame<'_>) -> bool {
        if self.claims.held.is_empty() {
            return false;
        }
        match frame.kind {
            ClientKind::Announce | ClientKind::Signal(_) => {}
            ClientKind::Goodbye if frame.network_named => {}
            ClientKind::Goodbye => {
                self.drop_held_announces(conn);
                return false;
            }
            _ => return false,
        }
        let room = self.claims.held_bytes + text.len() <= MAX_BYTES;
        let Some(held) = self.claims.get_mut(conn, &frame.network) else { return false };
        if room && held.texts.len() < MAX_TEXTS {
            held.texts.push(text.to_owned());
            self.claims.held_bytes += text.len();
        } else {
            let text = "your announcement in this network waits, since another hub may have this peer, and \
                        this hub keeps no more of what you say meanwhile: say it again after a second";
            self.complain(conn, text, ErrorCode::LimitReached, frame.target, Some(&frame.network));
        }
        true
    }

    /// Whether a client's announcement in a network that it is not in yet has to wait; then it does.
    pub(super) fn holds_back(&mut self, conn: ConnId, peer: Id, network: &Arc<str>, text: &str) -> bool {
        if !self.settings.hub_enabled
            || self.gossip.records.is_empty()
            || self.directory.is_claimed(network, &peer, Home::Session(conn))
            || !self.may_be_elsewhere(network, &peer, &BTreeSet::new())
        {
            return false;
        }
        if self.claims.held_bytes + text.len() > MAX_BYTES {
            let text = "another hub may have this peer, and too many announcements wait for such an answer: \
                        announce again after a second";
            self.complain(conn, text, ErrorCode::LimitReached, None, Some(network));
            return true;
        }
        let held = Held {
            peer,
            texts: vec![text.to_owned()],
            until: self.now.mono + WAIT,
            asked: BTreeMap::new(),
            free: BTreeSet::new(),
        };
        self.claims.hold(conn, network, held);
        // So that the others are asked who is in that network.
        self.served_changed(network);
        self.resolve(conn, network);
        true
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.claims.held_bytes
    }

    /// How many networks a client waits to be in.
    pub(super) fn held_networks(&self, conn: ConnId) -> usize {
        self.claims.held.get(&conn).map_or(0, BTreeMap::len)
    }

    /// Whether a hub has the peer in that network, or has yet to say whom it has.
    fn may_be_elsewhere(&self, network: &str, peer: &Id, free: &BTreeSet<Id>) -> bool {
        self.directory.hubs_with(network, peer).any(|hub| !free.contains(&hub) && self.is_reachable(&hub))
            || self.unsure_hubs(network).any(|hub| self.is_reachable(hub))
    }

    /// Asks whoever has the peer, or lets the announcement go on.
    fn resolve(&mut self, conn: ConnId, network: &Arc<str>) {
        let Some(held) = self.claims.get(conn, network) else { return };
        let peer = held.peer;
        if held.until <= self.now.mono || !self.may_be_elsewhere(network, &peer, &held.free) {
            return self.let_announce(conn, network);
        }
        let unasked = |hub: &Id| !held.asked.contains_key(hub) && self.is_reachable(hub);
        let hubs: Vec<Id> = self.directory.hubs_with(network, &peer).filter(unasked).collect();
        for hub in hubs {
            self.claims.last_number += 1;
            let number = self.claims.last_number;
            if let Some(held) = self.claims.get_mut(conn, network) {
                held.asked.insert(hub, number);
                self.claims.asked.insert(number, (conn, Arc::clone(network)));
            }
            self.send_to_hub(hub, &HubMessage::Ask { network: (&**network).into(), peer, number });
        }
    }

    /// The announcement goes on, and what waited behind it.
    fn let_announce(&mut self, conn: ConnId, network: &str) {
        let Some(held) = self.claims.take(conn, network) else { return };
        for (at, text) in held.texts.iter().enumerate() {
            self.take_client_text(conn, text, at == 0);
        }
        self.served_changed(network);
    }

    /// A hub told whom it has in a network, or in all: what waited for that goes on.
    pub(super) fn recheck_announces(&mut self, network: Option<&str>) {
        let waiting = |(network, conns): (&Arc<str>, &BTreeSet<ConnId>)| {
            conns.iter().map(|conn| (*conn, Arc::clone(network))).collect::<Vec<_>>()
        };
        let waiting: Vec<(ConnId, Arc<str>)> = match network {
            Some(network) => self.claims.networks.get_key_value(network).map(waiting).unwrap_or_default(),
            None => self.claims.networks.iter().flat_map(waiting).collect(),
        };
        for (conn, network) in waiting {
            self.resolve(conn, &network);
        }
    }

    /// A client is gone or leaves all networks.
    pub(super) fn drop_held_announces(&mut self, conn: ConnId) {
        let networks: Vec<Arc<str>> =
            self.claims.held.get(&conn).into_iter().flat_map(|networks| networks.keys().cloned()).collect();
        for network in networks {
            self.claims.take(conn, &network);
            self.served_changed(&network);
        }
    }

    /// The other hub's answer.
    pub(super) fn got_answer(&mut self, hub: Id, number: u64, kept: bool) {
        let Some((conn, network)) = self.claims.asked.get(&number).cloned() else { return };
        let asked = self.claims.get(conn, &network).and_then(|held| held.asked.get(&hub));
        if asked != Some(&number) {
            return;
        }
        if kept {
            self.claims.take(conn, &network);
            return self.refuse_network(conn, &network);
        }
        if let Some(held) = self.claims.get_mut(conn, &network) {
            held.free.insert(hub);
        }
        self.resolve(conn, &network);
    }

    /// An older connection has the peer in that network. Who is in no other is turned away.
    fn refuse_network(&mut self, conn: ConnId, network: &str) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let peer = session.peer.id;
        let before = session.networks.len();
        session.networks.retain(|other| **other != *network);
        let (left, none) = (session.networks.len() < before, session.networks.is_empty());
        let address = session.origin.address;
        if left {
            self.shares.leave(address, network);
            self.leave(conn, peer, network);
        }
        self.served_changed(network);
        if none && self.held_networks(conn) == 0 {
            self.close(conn, close::POLICY, "Peer already connected");
            self.counters.turned_away.count(TurnedAway::Duplicate);
            return self.session_over(
                conn,
                SessionEnd::Duplicate,
                "an older connection at another hub is alive",
            );
        }
        let text = "this peer is in that network at another hub, with an older connection that is alive";
        self.complain(conn, text, ErrorCode::AlreadyConnected, None, Some(network));
    }

    /// The other hub's connection, which is the older one, is alive.
    pub(super) fn got_keeps(&mut self, hub: Id, network: &str, peer: Id, stamp: u64) {
        // Only of what that hub was asked for, as of all that it tells of peers.
        if !self.directory.is_claimed(network, &peer, Home::Hub(hub)) {
            return;
        }
        let own = self.directory.own_claim(network, &peer).filter(|claim| claim.stamp == stamp);
        let Some(Home::Session(conn)) = own.map(|claim| claim.home) else { return };
        if self.is_proven(conn) {
            self.take_elsewhere(conn, network, peer);
        } else {
            self.refuse_network(conn, network);
        }
    }

    fn is_proven(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(Session::is_proven)
    }

    /// A peer came with a ticket for its id: hubs that have it with another connection end that.
    pub(super) fn take_elsewhere(&mut self, conn: ConnId, network: &str, peer: Id) {
        if !self.settings.hub_enabled || !self.is_proven(conn) {
            return;
        }
        let hubs: Vec<Id> = self.directory.hubs_with(network, &peer).collect();
        for hub in hubs {
            self.send_to_hub(hub, &HubMessage::Takes { network: network.into(), peer });
        }
    }
}

// The older connection, which is asked.
impl Hub {
    /// A client announced a peer at another hub.
    pub(super) fn got_ask(&mut self, hub: Id, network: &str, peer: Id, number: u64) {
        let conn = self.sessions.by_peer(&peer);
        let here = |conn: &ConnId| self.directory.is_claimed(network, &peer, Home::Session(*conn));
        let (false, Some(conn)) = (network.len() > MAX_NETWORK_NAME, conn.filter(here)) else {
            return self.answer(hub, number, false);
        };
        if self.is_proven(conn) {
            return self.answer(hub, number, true);
        }
        if !self.ask_session(conn) {
            self.replace(conn);
            return self.answer(hub, number, false);
        }
        let until = self.awake() + PROBE;
        let (_, waiting) = self.claims.questions.entry(peer).or_insert_with(|| (until, Vec::new()));
        if waiting.len() < MAX_QUESTIONS {
            waiting.push(Question { hub, network: Arc::from(network), number });
        }
    }

    fn answer(&mut self, hub: Id, number: u64, kept: bool) {
        self.send_to_hub(hub, &HubMessage::Answer { number, kept });
    }

    /// Another announcement of a peer counts than before. If it is another hub's, and there is a
    /// connection here, that one is asked.
    pub(super) fn contest(&mut self, key: EntryKey) {
        let Some(entry) = self.directory.get(key) else { return };
        let (peer, claim) = (entry.peer.id, entry.claim());
        let own = entry.own_claim().map(|claim| claim.home);
        let (Home::Hub(_), false, Some(Home::Session(conn))) = (claim.home, claim.legacy, own) else {
            return;
        };
        if self.claims.contests.get(&peer).is_some_and(|contest| !contest.kept) {
            return;
        }
        // Of a hub that stood still the others thought that it was gone: its clients did well to go elsewhere.
        if !self.is_proven(conn) && (self.was_missed() || !self.ask_session(conn)) {
            return self.replace(conn);
        }
        let until = self.awake() + PROBE;
        self.claims.contests.insert(peer, Contest { until, kept: false });
        if self.is_proven(conn) {
            // It needs no probe.
            self.claim_answered(conn, peer);
        }
    }

    /// The holder of a ticket for this peer is at another hub.
    pub(super) fn got_takes(&mut self, network: &str, peer: Id) {
        if let Some(conn) = self.sessions.by_peer(&peer)
            && self.directory.is_claimed(network, &peer, Home::Session(conn))
        {
            self.replace(conn);
        }
    }

    /// A peer's connection here answered.
    pub(super) fn claim_answered(&mut self, conn: ConnId, peer: Id) {
        if let Some((_, waiting)) = self.claims.questions.remove(&peer) {
            for Question { hub, network, number } in waiting {
                let kept = self.directory.is_claimed(&network, &peer, Home::Session(conn));
                self.answer(hub, number, kept);
            }
        }
        if self.claims.contests.get(&peer).is_some_and(|contest| !contest.kept) {
            let until = self.awake() + YIELD;
            self.claims.contests.insert(peer, Contest { until, kept: true });
            for (network, hub, stamp) in self.beaten_in(conn, peer) {
                self.send_to_hub(hub, &HubMessage::Keeps { network: (&*network).into(), peer, stamp });
            }
        }
    }

    /// The networks in which another hub's announcement counts rather than this connection's, with that
    /// hub and the announcement's stamp.
    fn beaten_in(&self, conn: ConnId, peer: Id) -> Vec<(Arc<str>, Id, u64)> {
        let networks = self.sessions.get(conn).into_iter().flat_map(|session| &session.networks);
        let beaten = |network: &Arc<str>| {
            let claim = self.directory.find(network, &peer)?.claim();
            match claim.home {
                Home::Hub(hub) if !claim.legacy => Some((Arc::clone(network), hub, claim.stamp)),
                _ => None,
            }
        };
        networks.filter_map(beaten).collect()
    }

    /// A peer's connection here is over.
    pub(super) fn claim_over(&mut self, conn: ConnId, peer: Id) {
        self.drop_held_announces(conn);
        self.claims.contests.remove(&peer);
        if let Some((_, waiting)) = self.claims.questions.remove(&peer) {
            for Question { hub, number, .. } in waiting {
                self.answer(hub, number, false);
            }
        }
    }

    pub(super) fn tick_claims(&mut self) {
        let now = self.awake();
        let over = self.claims.questions.iter().filter(|(_, (until, _))| *until <= now);
        let mut over: BTreeSet<Id> = over.map(|(peer, _)| *peer).collect();
        let ended = self.claims.contests.extract_if(.., |_, contest| contest.until <= now);
        let ended: Vec<(Id, bool)> = ended.map(|(peer, contest)| (peer, contest.kept)).collect();
        for (peer, kept) in ended {
            let conn = self.sessions.by_peer(&peer);
            // One that did not answer is over, and one that the other hub does not yield to.
            if !kept || conn.is_some_and(|conn| !self.beaten_in(conn, peer).is_empty()) {
                over.insert(peer);
            }
        }
        for peer in over {
            if let Some(conn) = self.sessions.by_peer(&peer) {
                self.replace(conn);
            }
        }
        while let Some((_, conn, network)) = self.claims.due.pop_front_if(|(due, ..)| *due <= self.now.mono) {
            self.resolve(conn, &network);
        }
    }
}
