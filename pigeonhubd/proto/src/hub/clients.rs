//! Clients' messages: announce, signal, goodbye.

use std::borrow::Cow;
use std::sync::Arc;

use super::Hub;
use super::relay::Signal;
use super::sessions::Session;
use crate::directory::{CLAIM_SHARE, CLIENT_SHARE, Claim, Home, MOST};
use crate::event::Event;
use crate::id::{Id, Spelled};
use crate::io::ConnId;
use crate::time::Now;
use crate::wire::client::{AnnounceData, ClientFrame, ClientKind};
use crate::wire::reply::{self, ErrorCode};
use crate::wire::{SignalKind, plain_network};

/// Networks that one client may be in at once.
const MAX_NETWORKS_PER_PEER: usize = 16;

impl Hub {
    pub(super) fn client_text(&mut self, conn: ConnId, text: &str) {
        self.session_alive(conn);
        self.take_client_text(conn, text, false);
    }

    /// `free`: no other hub has the peer that announces itself, as far as is known.
    pub(super) fn take_client_text(&mut self, conn: ConnId, text: &str, free: bool) {
        let Some(peer) = self.sessions.get(conn).map(|session| session.peer) else { return };
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(error) => return self.complain(conn, &error.to_string(), ErrorCode::BadMessage, None, None),
        };
        if self.waits_behind(conn, text, &frame) {
            return;
        }
        match &frame.kind {
            ClientKind::Announce => self.announce(conn, peer, text, &frame, free),
            ClientKind::Goodbye => self.goodbye(conn, peer.id, &frame),
            ClientKind::Ping => self.send_text(conn, reply::pong(peer, self.now)),
            ClientKind::Cleanup | ClientKind::Rejection => {}
            ClientKind::Signal(kind) => self.signal(conn, peer, *kind, &frame),
            ClientKind::PeerDiscovered
            | ClientKind::PeerDisconnected
            | ClientKind::Connected
            | ClientKind::MeshHello
            | ClientKind::MeshWelcome
            | ClientKind::Error
            | ClientKind::Pong
            | ClientKind::Other(_) => self.unroutable(conn, text, &frame),
        }
    }

    pub(super) fn client_binary(&mut self, conn: ConnId) {
        self.session_alive(conn);
        let text = "a binary message is no UTF-8; a client's are text, one JSON object each";
        self.complain(conn, text, ErrorCode::BadMessage, None, None);
    }

    /// Tells a client what is wrong.
    pub(super) fn complain(
        &mut self,
        conn: ConnId,
        text: &str,
        code: ErrorCode,
        target: Option<Spelled>,
        network: Option<&str>,
    ) {
        self.counters.complained(code);
        self.send_text(conn, reply::error(text, code, target, network, self.now));
    }

    fn unroutable(&mut self, conn: ConnId, text: &str, frame: &ClientFrame<'_>) {
        let name = match &frame.kind {
            ClientKind::Other(name) => name.chars().take(64).collect(),
            // The others' names are short; only the sender's own words show them.
            _ => type_name(text),
        };
        let text = format!(
            "Signaling server does not route '{name}' messages. It takes announce, goodbye, ping, cleanup, \
             connection-rejected and the signals offer, answer, ice-candidate, renegotiation-offer, \
             renegotiation-answer, ice-restart-offer and ice-restart-answer; anything else belongs on the \
             peers' own data channel"
        );
        self.complain(conn, &text, ErrorCode::UnknownType, frame.target, Some(&frame.network));
    }

    fn announce(&mut self, conn: ConnId, peer: Spelled, text: &str, frame: &ClientFrame<'_>, free: bool) {
        let data = match AnnounceData::parse(peer, frame.data) {
            Ok(data) => data,
            Err(error) => {
                return self.complain(
                    conn,
                    &error.to_string(),
                    ErrorCode::BadMessage,
                    None,
                    Some(&frame.network),
                );
            }
        };
        let calls_itself_hub = data.claims_hub || *frame.network == *self.settings.namespace;
        if calls_itself_hub && self.admits_legacy(conn) {
            return self.adopt_legacy(conn, peer);
        }
        let network = self.directory.name(&frame.network);
        if let Err(text) = self.ticket_allows(conn, &network, data.shown.len()) {
            return self.complain(conn, &text, ErrorCode::NotAllowed, None, Some(&network));
        }
        if !self.may_hold(conn, peer.id, &network, data.shown.len()) {
            let text = format!(
                "this hub holds {} MiB of announce data; until there is room again a client gets no more than {} \
                 KiB in all its networks together: announce less 'data'",
                MOST >> 20,
                CLIENT_SHARE >> 10
            );
            return self.complain(conn, &text, ErrorCode::LimitReached, None, Some(&network));
        }
        let held = self.held_networks(conn);
        let Some(session) = self.sessions.get(conn) else { return };
        if !session.networks.contains(&network) {
            if session.networks.len() + held >= MAX_NETWORKS_PER_PEER {
                let text = format!(
                    "a peer is in at most {MAX_NETWORKS_PER_PEER} networks; say goodbye to one first"
                );
                return self.complain(conn, &text, ErrorCode::LimitReached, None, Some(&network));
            }
            let proven = self.sessions.get(conn).is_some_and(Session::is_proven);
            if !free && !proven && self.holds_back(conn, peer.id, &network, text) {
                return;
            }
            let Some(session) = self.sessions.get_mut(conn) else { return };
            if let Err(text) = self.shares.enter(session.origin.address, &network) {
                return self.complain(conn, &text, ErrorCode::LimitReached, None, Some(&network));
            }
            // Most are in one, and there are many.
            session.networks.reserve_exact(1);
            session.networks.push(Arc::clone(&network));
        }
        self.counters.announces += 1;
        let home = Home::Session(conn);
        let before = self.directory.own_claim(&network, &peer.id).filter(|claim| claim.home == home);
        let news = before.map(|claim| *claim.shown != *data.shown);
        let claim = self.own_claim(&network, peer, home, data.shown.into());
        if let Some(news) = news {
            self.directory.claim(&network, peer, claim);
            return self.repeat(conn, &network, news);
        }
        self.claim_own(&network, peer, claim);
        self.take_elsewhere(conn, &network, peer.id);
        self.charge(conn, &network);
        self.event(Event::PeerAnnounced { peer_id: peer.id, network: plain_network(&network).to_owned() });
    }

    /// Whether a client's ticket, if it showed one, lets it be in that network with so many bytes of data.
    fn ticket_allows(&self, conn: ConnId, network: &str, bytes: usize) -> Result<(), String> {
        let ticket = self.sessions.get(conn).and_then(|session| session.origin.ticket.as_deref());
        let Some(ticket) = ticket else { return Ok(()) };
        if !ticket.opens(plain_network(network)) {
            return Err(String::from("your ticket does not open this network"));
        }
        match ticket.max_announce {
            Some(most) if bytes > most => {
                Err(format!("your ticket allows {most} bytes of announce 'data', and this is {bytes}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a client's announce data in a network may be so many bytes.
    fn may_hold(&self, conn: ConnId, peer: Id, network: &str, bytes: usize) -> bool {
        let home = Home::Session(conn);
        if self.directory.has_room(network, &peer, home, bytes) {
            return true;
        }
        let others = self.sessions.get(conn).into_iter().flat_map(|session| &session.networks);
        let others = others.filter(|other| ***other != *network);
        let held: usize = others.map(|other| self.directory.held_for(other, &peer, home)).sum();
        held + bytes <= CLIENT_SHARE
    }

    /// The announce data of a peer that another hub or an old one tells of, as
    /// far as there is room for it: else nothing but its id.
    pub(super) fn kept_data(&mut self, network: &str, peer: Spelled, home: Home, shown: &str) -> Arc<str> {
        if shown.len() <= CLAIM_SHARE || self.directory.has_room(network, &peer.id, home, shown.len()) {
            return shown.into();
        }
        self.counters.announces_cut += 1;
        AnnounceData::bare(peer).into()
    }

    /// This hub's claim of a peer: a new one, unless the same connection had one.
    pub(super) fn own_claim(&mut self, network: &str, peer: Spelled, home: Home, shown: Arc<str>) -> Claim {
        if let Some(claim) = self.directory.own_claim(network, &peer.id).filter(|claim| claim.home == home) {
            return Claim { shown, ..claim.clone() };
        }
        let (stamp, legacy) = match home {
            Home::Session(conn) => (self.stamp_session(conn, network, peer), false),
            Home::Legacy(_) | Home::Hub(_) => (self.now.unix_ms, true),
        };
        let Now { mono: since, unix_ms: announced_at } = self.now;
        Claim { home, stamp, legacy, subscription: 0, announced_at, since, shown }
    }

    /// The stamp of a session that announces itself in a network: later than any other's there.
    ///
    /// It is one for all its networks, and only grows. Of two hubs with a session of one peer, each
    /// could else find the other's to be the later one, in another network, and both would close theirs.
    fn stamp_session(&mut self, conn: ConnId, network: &str, peer: Spelled) -> u64 {
        let latest = self.directory.latest_stamp(network, &peer.id);
        let now = self.now.unix_ms;
        let Some(session) = self.sessions.get_mut(conn) else { return now };
        let others: Vec<Arc<str>> =
            session.networks.iter().filter(|other| ***other != *network).cloned().collect();
        if !others.is_empty() && session.stamp > latest {
            return session.stamp;
        }
        let stamp = now.max(latest.max(session.stamp).saturating_add(1));
        session.stamp = stamp;
        for other in others {
            let claim = self.directory.own_claim(&other, &peer.id);
            if let Some(claim) = claim.filter(|claim| claim.home == Home::Session(conn)).cloned() {
                self.claim_own(&other, peer, Claim { stamp, ..claim });
            }
        }
        stamp
    }

    /// Enters an own claim, tells the mesh, and introduces the peer anew.
    pub(super) fn claim_own(&mut self, network: &str, peer: Spelled, claim: Claim) {
        let home = claim.home;
        self.directory.claim(network, peer, claim);
        self.presence_changed(network, peer.id);
        let Some(key) = self.directory.key(network, &peer.id) else { return };
        if self.directory.get(key).is_some_and(|entry| entry.home() == home) {
            self.introduce_anew(key);
            self.tell_legacies_here(key);
            self.release_held(network, peer.id);
        }
    }

    fn goodbye(&mut self, conn: ConnId, peer: Id, frame: &ClientFrame<'_>) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        // The published client names no network when it says goodbye.
        let (left, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut session.networks)
            .into_iter()
            .partition(|network| !frame.network_named || **network == *frame.network);
        session.networks = kept;
        let address = session.origin.address;
        for network in left {
            self.shares.leave(address, &network);
            self.say_goodbye(&network, peer);
            self.leave(conn, peer, &network);
        }
    }

    /// A peer of this hub left a network.
    pub(super) fn leave(&mut self, conn: ConnId, peer: Id, network: &str) {
        self.unclaim_own(network, peer, Home::Session(conn));
        // One that is at another hub by now has not left.
        if self.directory.find(network, &peer).is_none() {
            self.drop_held_of(&peer, network);
        }
    }

    fn signal(&mut self, conn: ConnId, peer: Spelled, kind: SignalKind, frame: &ClientFrame<'_>) {
        let Some(target) = frame.target else {
            let text = format!("'{}' needs a 'targetPeerId'", kind.name());
            return self.complain(conn, &text, ErrorCode::BadMessage, None, Some(&frame.network));
        };
        if target.id == peer.id {
            let text = "a signal to oneself goes nowhere";
            return self.complain(conn, text, ErrorCode::BadMessage, Some(target), Some(&frame.network));
        }
        let Some(session) = self.sessions.get(conn) else { return };
        if !session.networks.iter().any(|network| **network == *frame.network) {
            return self.not_announced(conn, target, &frame.network);
        }
        let signal = Signal { kind, from: peer, target, network: &frame.network, data: frame.data };
        self.route_signal(Some(conn), signal);
    }

    /// Tells a client that a signal went nowhere since it is not in that network.
    pub(super) fn not_announced(&mut self, conn: ConnId, target: Spelled, network: &str) {
        let text = format!("announce yourself in network '{network}' first");
        self.complain(conn, &text, ErrorCode::NotAnnounced, Some(target), Some(network));
    }
}

/// The `type` of a message, as its sender wrote it.
fn type_name(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Type<'a> {
        #[serde(rename = "type", borrow)]
        name: Cow<'a, str>,
    }
    serde_json::from_str::<Type<'_>>(text).map(|t| t.name.chars().take(64).collect()).unwrap_or_default()
}
