//! Signals that cross hubs.
//!
//! A signal ends in one of two ways: its target gets it, once, or its sender
//! is told. Told is also whoever sent one that was on its way when its
//! target's hub went silent for good; that one may have arrived.
//!
//! That a signal's target had left is said by the very acknowledgement of the
//! signal. So its sender's hub learns both or neither, whatever becomes of the
//! two hubs, and in each case has one end of it to tell.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use super::Hub;
use super::counters::{SignalOutcome, Undelivered};
use crate::directory::Home;
use crate::id::{Id, Spelled};
use crate::io::ConnId;
use crate::mesh::stream::Token;
use crate::time::Time;
use crate::wire::SignalKind;
use crate::wire::json::Json;
use crate::wire::mesh::{HubMessage, MeshSignal, encode_onto};
use crate::wire::reply::{self, ErrorCode};

/// Signals that wait for news of their target, at most.
const MAX_HELD: usize = 1024;
/// Bytes of their data, at most.
const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;

/// Whom to tell if a signal does not arrive.
#[derive(Clone, Debug)]
struct Sender {
    from: Id,
    target: Spelled,
    network: String,
}

/// A signal on its way into this hub's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal<'a> {
    pub(super) kind: SignalKind,
    pub(super) from: Spelled,
    pub(super) target: Spelled,
    pub(super) network: &'a str,
    pub(super) data: Option<Json<'a>>,
}

/// A signal whose target is not known yet, while some hub has yet to tell who
/// its peers are.
#[derive(Debug)]
struct Held {
    sender: Sender,
    kind: SignalKind,
    from: Spelled,
    data: Option<String>,
    until: Time,
}

/// Signals on their way to other hubs.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// With the time when each was sent.
    under_way: BTreeMap<Token, (Sender, Time)>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

impl Relay {
    /// Signals that wait for news of their targets, and those that other hubs have not acknowledged.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.held.len(), self.under_way.len())
    }
}

impl Hub {
    /// Sends a signal to its target, wherever that is. `conn` is the sender's
    /// own connection; without one it came from an older hub.
    pub(super) fn route_signal(&mut self, conn: Option<ConnId>, signal: Signal<'_>) {
        let Signal { kind, from, target, network, data } = signal;
        let Some(entry) = self.directory.find(network, &target.id) else {
            return self.hold(conn, signal);
        };
        // An earlier one to the same target that still waits goes first.
        if self
            .relay
            .held
            .iter()
            .any(|held| held.sender.target.id == target.id && held.sender.network == network)
        {
            return self.hold(conn, signal);
        }
        let (stamp, spelled) = (entry.claim().stamp, entry.peer);
        match entry.home() {
            Home::Session(to) | Home::Legacy(to) => {
                self.counters.signals.count(SignalOutcome::Local);
                self.send_text(to, reply::signal(kind, data, from, spelled, network, self.now));
            }
            Home::Hub(hub) => {
                let data = data.map(|data| Cow::Borrowed(data.get()));
                let network = network.into();
                self.relay_signal(hub, MeshSignal { kind, network, from, target, stamp, data });
            }
        }
    }

    fn relay_signal(&mut self, hub: Id, signal: MeshSignal<'_>) {
        let sender = Sender {
            from: signal.from.id,
            target: signal.target,
            network: signal.network.clone().into_owned(),
        };
        // A quick answer is to find its target known there.
        self.tell_of_first(hub, &signal.network, signal.from.id);
        let deadline = self.now.mono + self.settings.signal_timeout;
        let token = self.streams.new_token();
        // Beside the texts there are ids, numbers and lengths.
        let texts = signal.network.len() + signal.data.as_ref().map_or(0, |data| data.len());
        let payload = encode_onto(&HubMessage::Signal(signal), Vec::with_capacity(texts + 128));
        match self.push_encoded(hub, payload.into(), token, deadline) {
            Ok(()) => {
                self.counters.signals.count(SignalOutcome::Relayed);
                if let Some(links) = self.mesh.routes.distance(&hub) {
                    self.counters.relay_hops.observe(links as u64);
                }
                self.relay.under_way.insert(token, (sender, self.now.mono));
            }
            Err(why) => self.tell_undelivered(&sender, why),
        }
    }

    /// The target is unknown here. If some hub has yet to tell who its peers
    /// are the signal waits for that, else its sender is told.
    fn hold(&mut self, conn: Option<ConnId>, signal: Signal<'_>) {
        let Signal { kind, from, target, network, data } = signal;
        let sender = Sender { from: from.id, target, network: network.to_owned() };
        let size = data.map_or(0, |data| data.get().len());
        let room = self.relay.held.len() < MAX_HELD && self.relay.held_bytes + size <= MAX_HELD_BYTES;
        let waiting = self.relay.held.iter().any(|held| held.sender.target.id == target.id);
        // An older hub cannot be told; it may be wrong about the peer.
        if conn.is_none() || !room || !(waiting || self.is_unsure_of(network)) {
            let why = if room { Undelivered::Unknown } else { Undelivered::Crowded };
            return self.tell_undelivered(&sender, why);
        }
        self.relay.held_bytes += size;
        let until = self.now.mono + self.settings.signal_timeout;
        let data = data.map(|data| data.get().to_owned());
        self.counters.signals.count(SignalOutcome::Held);
        self.relay.held.push_back(Held { sender, kind, from, data, until });
    }

    /// A peer became known: signals that waited for it go.
    pub(super) fn release_held(&mut self, network: &str, peer: Id) {
        self.release(|held| held.sender.network == network && held.sender.target.id == peer);
    }

    /// A hub has told all its peers: who is unknown now may be nowhere.
    pub(super) fn recheck_held(&mut self) {
        let mut sure: BTreeMap<String, bool> = BTreeMap::new();
        for held in &self.relay.held {
            let network = &held.sender.network;
            sure.entry(network.clone()).or_insert_with(|| !self.is_unsure_of(network));
        }
        self.release(|held| sure.get(&held.sender.network).copied().unwrap_or_default());
    }

    pub(super) fn tick_relay(&mut self) {
        let now = self.now.mono;
        self.release(|held| held.until <= now);
    }

    /// Takes signals out of waiting and sends them, or tells their senders.
    fn release(&mut self, which: impl Fn(&Held) -> bool) {
        if !self.relay.held.iter().any(&which) {
            return;
        }
        let (free, held): (VecDeque<Held>, VecDeque<Held>) =
            std::mem::take(&mut self.relay.held).into_iter().partition(which);
        self.relay.held = held;
        for held in free {
            self.relay.held_bytes -= held.data.as_ref().map_or(0, String::len);
            let Sender { target, network, .. } = &held.sender;
            if self.directory.find(network, &target.id).is_none() {
                self.tell_undelivered(&held.sender, Undelivered::Unknown);
                continue;
            }
            let data = held.data.as_deref().and_then(Json::parse);
            let signal = Signal { kind: held.kind, from: held.from, target: *target, network, data };
            self.route_signal(None, signal);
        }
    }

    /// A signal from another hub for a peer here.
    pub(super) fn got_signal(&mut self, hub: Id, signal: &MeshSignal<'_>) {
        let network = &*signal.network;
        let home = self
            .directory
            .own_claim(network, &signal.target.id)
            .filter(|claim| claim.stamp == signal.stamp)
            .map(|claim| claim.home);
        let entry = self.directory.find(network, &signal.target.id);
        let (Some(Home::Session(conn) | Home::Legacy(conn)), Some(entry)) = (home, entry) else {
            return self.refuse_last(hub);
        };
        // It was JSON when its sender's hub took it; another hub's word is not taken for that.
        let data = signal.data.as_deref().map(|data| Json::parse(data).ok_or(())).transpose();
        if let Ok(data) = data {
            self.counters.signals.count(SignalOutcome::Received);
            let text = reply::signal(signal.kind, data, signal.from, entry.peer, network, self.now);
            self.send_text(conn, text);
        }
    }

    /// A signal reached its target's hub, but its target had left.
    pub(super) fn signal_refused(&mut self, token: Token) {
        if let Some((sender, _)) = self.relay.under_way.remove(&token) {
            self.tell_undelivered(&sender, Undelivered::Left);
        }
    }

    /// A signal was handed to its target.
    pub(super) fn signal_acked(&mut self, token: Token) {
        if let Some((_, sent_at)) = self.relay.under_way.remove(&token) {
            self.counters.signals.count(SignalOutcome::Acknowledged);
            self.counters.delivery.observe_time(self.now.mono.since(sent_at));
        }
    }

    /// The stream that carried a signal was given up.
    pub(super) fn signal_lost(&mut self, token: Token) {
        if let Some((sender, _)) = self.relay.under_way.remove(&token) {
            self.tell_undelivered(&sender, Undelivered::Silent);
        }
    }

    fn tell_undelivered(&mut self, sender: &Sender, why: Undelivered) {
        self.counters.undelivered.count(why);
        // Senders at older hubs have no connection here, and no ear for it.
        let Some(conn) = self.sessions.by_peer(&sender.from) else { return };
        let why = why.text();
        let text = format!("peer {} cannot be reached in network '{}': {why}", sender.target, sender.network);
        self.complain(conn, &text, ErrorCode::PeerUnreachable, Some(sender.target), Some(&sender.network));
    }
}
