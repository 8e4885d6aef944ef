//! Clients' connections: accepting and probing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{SessionEnd, TurnedAway};
use super::repeats::Repeated;
use super::{Hub, close, draining, shares};
use crate::event::Event;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Output, Request};
use crate::ticket::Ticket;
use crate::time::Time;
use crate::wire::reply;

/// How long an older connection of a peer has to answer a ping before a newer
/// one takes its place.
pub(super) const PROBE: Duration = Duration::from_secs(1);

/// Where a client's connection comes from, and what it may do.
#[derive(Debug)]
pub(super) struct Origin {
    /// Its far end, unless that is a proxy.
    pub(super) remote: Option<IpAddr>,
    /// The address that it counts for, if that has limits.
    pub(super) address: Option<IpAddr>,
    pub(super) ticket: Option<Arc<Ticket>>,
}

impl Origin {
    fn of(request: Request) -> Self {
        let address = shares::address(&request);
        Self { remote: (!request.via_proxy).then_some(request.remote), address, ticket: request.ticket }
    }

    /// Whether its ticket is for that peer's id, which nobody else is to have then.
    fn proves(&self, peer: Id) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| ticket.peer == Some(peer))
    }
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: Spelled,
    pub(super) origin: Origin,
    /// In time awake, as all times here.
    pub(super) heard_at: Time,
    /// When the ping that it has not answered yet was sent.
    pub(super) pinged_at: Option<Time>,
    /// Pings so far: the number of the latest.
    pings: u32,
    /// The first ping whose answer counts for a probe. A pong to one before may have been sent before the
    /// client closed the connection, to open the one that waits.
    probe: u32,
    pub(super) networks: Vec<Arc<str>>,
    /// It has announced itself, here or there.
    pub(super) announced: bool,
    pub(super) repeated: Option<Box<Repeated>>,
    /// Orders it among the sessions of this peer at all hubs; 0 before it announces itself.
    pub(super) stamp: u64,
}

impl Session {
    /// Whether its ticket is for its peer's id.
    pub(super) fn is_proven(&self) -> bool {
        self.origin.proves(self.peer.id)
    }
}

/// A connection that waits for an older one of the same peer to fail its probe.
#[derive(Debug)]
struct Waiting {
    conn: ConnId,
    peer: Spelled,
    origin: Origin,
    until: Time,
}

/// All clients' connections.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<ConnId, Session>,
    by_peer: BTreeMap<Id, ConnId>,
    /// At most one a peer.
    waiting: BTreeMap<Id, Waiting>,
}

impl Sessions {
    pub(super) fn get(&self, conn: ConnId) -> Option<&Session> {
        self.open.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.open.get_mut(&conn)
    }

    /// The peers with a connection here, announced or not.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Id> {
        self.by_peer.keys()
    }

    pub(super) fn by_peer(&self, peer: &Id) -> Option<ConnId> {
        self.by_peer.get(peer).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len() + self.waiting.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn conns(&self) -> Vec<ConnId> {
        self.open.keys().copied().collect()
    }

    pub(super) fn is_probing(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Open or waiting.
    pub(super) fn holds(&self, conn: ConnId) -> bool {
        self.open.contains_key(&conn) || self.waiting.values().any(|waiting| waiting.conn == conn)
    }
}

impl Hub {
    pub(super) fn accepted(&mut self, conn: ConnId, request: Request) {
        let Some(peer) = request.peer_id.as_deref().and_then(|id| id.parse::<Spelled>().ok()) else {
            self.counters.turned_away.count(TurnedAway::BadId);
            return self.close(conn, close::POLICY, "Invalid peerId format");
        };
        if self.draining.is_on() {
            self.counters.turned_away.count(TurnedAway::Draining);
            return self.close(conn, close::GOING_AWAY, draining::REASON);
        }
        // Whoever has yet to prove the mesh key has places of its own: a stranger can take none of a client's.
        if request.mesh && self.settings.hub_enabled {
            return self.challenge(conn, peer, request);
        }
        if self.connections() - self.joining.handshakes() >= self.settings.max_connections {
            self.counters.turned_away.count(TurnedAway::Full);
            return self.close(conn, close::POLICY, "Maximum connections reached");
        }
        if peer.id == self.id {
            return self.already_connected(conn);
        }
        let origin = Origin::of(request);
        if origin.proves(peer.id) {
            self.take_id(peer.id);
        }
        match self.sessions.by_peer(&peer.id) {
            None => self.open_session(conn, peer, origin),
            Some(older) => self.probe_older(older, conn, peer, origin),
        }
    }

    /// Whoever has a peer's id here makes room for its holder.
    fn take_id(&mut self, peer: Id) {
        if let Some(waiting) = self.sessions.waiting.remove(&peer) {
            self.already_connected(waiting.conn);
        }
        if let Some(older) = self.sessions.by_peer(&peer) {
            self.replace(older);
        }
    }

    /// Connections of clients and hubs that this hub accepted or dialled.
    pub(super) fn connections(&self) -> usize {
        self.sessions.len() + self.links.sockets() + self.legacies.len() + self.joining.handshakes()
    }

    fn already_connected(&mut self, conn: ConnId) {
        self.counters.turned_away.count(TurnedAway::Duplicate);
        self.close(conn, close::POLICY, "Peer already connected");
    }

    fn open_session(&mut self, conn: ConnId, peer: Spelled, origin: Origin) {
        let heard_at = self.awake();
        let (pinged_at, pings, probe, networks, announced, repeated, stamp) = Default::default();
        let session =
            Session { peer, origin, heard_at, pinged_at, pings, probe, networks, announced, repeated, stamp };
        self.counters.sessions_opened += 1;
        self.sessions.open.insert(conn, session);
        self.sessions.by_peer.insert(peer.id, conn);
        self.schedule_pulse(conn);
        self.send_text(conn, reply::connected::<()>(peer, None, self.now));
        self.outputs.push_back(Output::Read { conn });
        self.event(Event::PeerConnected { peer_id: peer.id });
    }

    /// Two connections of one peer: the older one stays if it answers.
    fn probe_older(&mut self, older: ConnId, conn: ConnId, peer: Spelled, origin: Origin) {
        if self.sessions.get(older).is_some_and(Session::is_proven) {
            return self.already_connected(conn);
        }
        if !self.ask_session(older) {
            self.replace(older);
            return self.open_session(conn, peer, origin);
        }
        let now = self.awake();
        let waiting = Waiting { conn, peer, origin, until: now + PROBE };
        if let Some(earlier) = self.sessions.waiting.insert(peer.id, waiting) {
            self.already_connected(earlier.conn);
        }
    }

    /// Asks a session for a sign of life, for the sake of a newer connection of its peer. False if it
    /// was asked before and had its time.
    pub(super) fn ask_session(&mut self, conn: ConnId) -> bool {
        let now = self.awake();
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        if session.pinged_at.is_some_and(|pinged_at| now.since(pinged_at) >= PROBE) {
            return false;
        }
        session.pinged_at.get_or_insert(now);
        let (peer, pings) = (session.peer.id, session.pings);
        if !self.is_probed(&peer) {
            if let Some(session) = self.sessions.get_mut(conn) {
                session.probe = pings + 1;
            }
            self.ping(conn);
        }
        self.next_tick = self.next_tick.min(self.now.mono + super::TICK);
        true
    }

    /// Whether a peer's connection here is to answer, for the sake of a newer one.
    fn is_probed(&self, peer: &Id) -> bool {
        self.sessions.waiting.contains_key(peer) || self.claims.is_probing(peer)
    }

    pub(super) fn ping(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.pings = session.pings.wrapping_add(1);
            self.outputs.push_back(Output::Ping { conn, number: session.pings });
        }
    }

    /// Ends a session in favour of a newer connection of the same peer.
    pub(super) fn replace(&mut self, older: ConnId) {
        self.close(older, close::POLICY, "Replaced by a newer connection of this peer");
        self.session_over(older, SessionEnd::Replaced, "replaced by a newer connection");
    }

    /// Anything at all came from a client. That is no answer to a probe: it may have been sent
    /// before the client closed the connection, to open the one that waits.
    pub(super) fn session_alive(&mut self, conn: ConnId) {
        let now = self.awake();
        let Some(session) = self.sessions.open.get_mut(&conn) else { return };
        session.heard_at = now;
        let peer = session.peer.id;
        let probed = self.sessions.waiting.contains_key(&peer) || self.claims.is_probing(&peer);
        if !probed {
            session.pinged_at = None;
        }
    }

    /// A client answered a ping.
    pub(super) fn session_answered(&mut self, conn: ConnId, number: Option<u32>) {
        self.session_alive(conn);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if number.is_none_or(|number| number < session.probe) {
            return;
        }
        session.pinged_at = None;
        let peer = session.peer.id;
        if let Some(waiting) = self.sessions.waiting.remove(&peer) {
            self.already_connected(waiting.conn);
        }
        self.claim_answered(conn, peer);
    }

    pub(super) fn session_over(&mut self, conn: ConnId, end: SessionEnd, reason: &str) {
        let Some(session) = self.sessions.open.remove(&conn) else {
            self.sessions.waiting.retain(|_, waiting| waiting.conn != conn);
            return;
        };
        self.counters.sessions_closed.count(end);
        let peer = session.peer.id;
        self.sessions.by_peer.remove(&peer);
        for network in session.networks {
            self.shares.leave(session.origin.address, &network);
            self.leave(conn, peer, &network);
        }
        self.claim_over(conn, peer);
        self.event(Event::PeerDisconnected { peer_id: peer, reason: reason.to_owned() });
        if let Some(waiting) = self.sessions.waiting.remove(&peer) {
            self.open_session(waiting.conn, waiting.peer, waiting.origin);
        }
    }

    /// Takes a session out of the clients' without a word: it turned out to be an older hub.
    pub(super) fn take_session(&mut self, conn: ConnId) -> Option<Session> {
        let session = self.sessions.open.remove(&conn)?;
        self.counters.sessions_closed.count(SessionEnd::OldHub);
        self.sessions.by_peer.remove(&session.peer.id);
        for network in &session.networks {
            self.shares.leave(session.origin.address, network);
            self.leave(conn, session.peer.id, network);
        }
        self.claim_over(conn, session.peer.id);
        if let Some(waiting) = self.sessions.waiting.remove(&session.peer.id) {
            self.already_connected(waiting.conn);
        }
        Some(session)
    }

    pub(super) fn tick_sessions(&mut self) {
        let now = self.awake();
        let over: Vec<Id> = self
            .sessions
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.until <= now)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in over {
            if let Some(older) = self.sessions.by_peer(&peer) {
                // Opens the waiting one.
                self.replace(older);
            }
        }
    }

    /// Turns away connections that wait for an older one of their peer.
    pub(super) fn refuse_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.sessions.waiting).into_values() {
            self.counters.turned_away.count(TurnedAway::Draining);
            self.close(waiting.conn, close::GOING_AWAY, draining::REASON);
        }
    }

    /// The operator wants a client gone.
    pub(super) fn disconnect(&mut self, peer: &Id) {
        if let Some(conn) = self.sessions.by_peer(peer) {
            self.close(conn, close::POLICY, "Disconnected by the operator");
            self.session_over(conn, SessionEnd::Operator, "disconnected by the operator");
        }
    }
}
