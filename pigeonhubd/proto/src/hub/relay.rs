//! Signals that cross hubs.
//!
//! A signal ends in one of two ways: its target gets it, once, or its sender
//! is told. Told is also whoever sent one that was on its way when its
//! target's hub went silent for good; that one may have arrived. Of a sender
//! that left, what has not been sent on goes nowhere.
//!
//! That a signal's target had left is said by the very acknowledgement of the
//! signal. So its sender's hub learns both or neither, whatever becomes of the
//! two hubs, and in each case has one end of it to tell.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Hub;
use super::counters::{SignalOutcome, Undelivered};
use crate::bundle::{Bundle, Sender};
use crate::directory::Home;
use crate::id::{Id, Spelled};
use crate::io::ConnId;
use crate::mesh::stream::{Parts, Token};
use crate::time::Time;
use crate::wire::SignalKind;
use crate::wire::json::Json;
use crate::wire::mesh::MeshSignal;
use crate::wire::reply::{self, ErrorCode};

/// Signals that wait for news of their target, at most.
const MAX_HELD: usize = 1024;
/// Bytes of their data, at most.
const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;

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

impl Held {
    /// Bytes of its data.
    fn size(&self) -> usize {
        self.data.as_ref().map_or(0, String::len)
    }
}

/// Signals on their way to other hubs.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Those since the last flush, by the hub that they are for.
    gathered: BTreeMap<Id, Bundle>,
    /// By the message that carries them, with the time when it was sent.
    under_way: BTreeMap<Token, (Vec<Sender>, Time)>,
    /// How many signals those are.
    under_way_signals: usize,
    held: VecDeque<Held>,
    held_bytes: usize,
}

impl Relay {
    /// Signals that wait for news of their targets, and those that other hubs have not acknowledged.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let gathered: usize = self.gathered.values().map(Bundle::len).sum();
        (self.held.len(), self.under_way_signals + gathered)
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
            .any(|held| held.sender.target.id == target.id && *held.sender.network == *network)
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
                let name = Arc::clone(&entry.network);
                let data = data.map(|data| Cow::Borrowed(data.get()));
                let network = network.into();
                self.relay_signal(hub, MeshSignal { kind, network, from, target, stamp, data }, name);
            }
        }
    }

    fn relay_signal(&mut self, hub: Id, signal: MeshSignal<'_>, network: Arc<str>) {
        // A quick answer is to find its target known there.
        self.tell_of_first(hub, &network, signal.from.id);
        if let Some(full) = self.relay.gathered.entry(hub).or_default().push(&signal, network) {
            self.send_bundle(hub, full);
        }
    }

    /// Signals for a hub that their senders' sessions have gathered.
    pub(super) fn relay_bundle(&mut self, hub: Id, mut bundle: Bundle) {
        self.send_gathered_for(hub);
        for sender in bundle.take_struck() {
            self.tell_left(&sender);
        }
        if self.is_telling() {
            for Sender { from, network, .. } in bundle.senders() {
                self.tell_of_first(hub, network, *from);
            }
        }
        self.send_bundle(hub, bundle);
    }

    /// Sends the signals that were gathered for a hub: before anything else that goes there, and
    /// when the inputs at hand are dealt with.
    pub(super) fn send_gathered_for(&mut self, hub: Id) {
        if let Some(bundle) = self.relay.gathered.remove(&hub) {
            self.send_bundle(hub, bundle);
        }
    }

    /// The same for every hub.
    pub(super) fn send_gathered(&mut self) {
        while let Some((hub, bundle)) = self.relay.gathered.pop_first() {
            self.send_bundle(hub, bundle);
        }
    }

    fn send_bundle(&mut self, hub: Id, bundle: Bundle) {
        if bundle.is_empty() {
            return;
        }
        let deadline = self.message_deadline();
        let token = self.streams.new_token();
        let (message, senders) = bundle.into_message();
        match self.push_next(hub, message, token, deadline) {
            Ok(()) => {
                let count = senders.len();
                self.counters.signals.add(SignalOutcome::Relayed, count as u64);
                if let Some(links) = self.mesh.routes.distance(&hub) {
                    self.counters.relay_hops.observe_several(links as u64, count as u64);
                }
                self.relay.under_way_signals += count;
                self.relay.under_way.insert(token, (senders, self.now.mono));
            }
            Err(why) => senders.iter().for_each(|sender| self.tell_undelivered(sender, why)),
        }
    }

    /// The target is unknown here. If some hub has yet to tell who its peers
    /// are the signal waits for that, else its sender is told.
    fn hold(&mut self, conn: Option<ConnId>, signal: Signal<'_>) {
        let Signal { kind, from, target, network, data } = signal;
        let sender = Sender { from: from.id, target, network: self.directory.name(network) };
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
        self.release(|held| *held.sender.network == *network && held.sender.target.id == peer);
    }

    /// A hub has told all its peers: who is unknown now may be nowhere.
    pub(super) fn recheck_held(&mut self) {
        let mut sure: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        for held in &self.relay.held {
            let network = &held.sender.network;
            sure.entry(Arc::clone(network)).or_insert_with(|| !self.is_unsure_of(network));
        }
        self.release(|held| sure.get(&held.sender.network).copied().unwrap_or_default());
    }

    pub(super) fn tick_relay(&mut self) {
        let now = self.now.mono;
        self.release(|held| held.until <= now);
    }

    /// A peer here left a network: what it sent and still waits goes nowhere, for others will be
    /// told that it left.
    pub(super) fn drop_held_of(&mut self, peer: &Id, network: &str) {
        for held in self.take_held(|held| held.sender.from == *peer && *held.sender.network == *network) {
            self.tell_left(&held.sender);
        }
    }

    /// Takes signals out of waiting.
    fn take_held(&mut self, which: impl Fn(&Held) -> bool) -> VecDeque<Held> {
        if !self.relay.held.iter().any(&which) {
            return VecDeque::new();
        }
        let (free, held): (VecDeque<Held>, VecDeque<Held>) =
            std::mem::take(&mut self.relay.held).into_iter().partition(which);
        self.relay.held = held;
        self.relay.held_bytes -= free.iter().map(Held::size).sum::<usize>();
        free
    }

    /// Takes signals out of waiting and sends them, or tells their senders.
    fn release(&mut self, which: impl Fn(&Held) -> bool) {
        for held in self.take_held(which) {
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

    /// Signals from another hub for peers here.
    pub(super) fn got_signals(&mut self, hub: Id, signals: &[MeshSignal<'_>]) {
        let mut refused: Parts = 0;
        for (part, (signal, home)) in signals.iter().zip(self.homes(signals)).enumerate() {
            let Some((conn, peer)) = home else {
                refused |= 1 << part;
                continue;
            };
            // It was JSON when its sender's hub took it; another hub's word is not taken for that.
            let data = signal.data.as_deref().map(|data| Json::parse(data).ok_or(())).transpose();
            if let Ok(data) = data
                && signal.kind != SignalKind::ConnectionRejected
            {
                self.counters.signals.count(SignalOutcome::Received);
                let text = reply::signal(signal.kind, data, signal.from, peer, &signal.network, self.now);
                self.send_text(conn, text);
            }
        }
        if refused != 0 {
            self.refuse_last(hub, refused);
        }
    }

    /// Where the target of each signal is connected, if it has not left.
    fn homes(&self, signals: &[MeshSignal<'_>]) -> Vec<Option<(ConnId, Spelled)>> {
        // Most are of one network.
        let mut last = ("", None);
        let home = |signal| {
            let MeshSignal { network, target, stamp, .. }: &MeshSignal<'_> = signal;
            if last.1.is_none() || last.0 != network {
                last = (network, self.directory.network(network));
            }
            let key = last.1?.own.get(&target.id)?;
            let entry = self.directory.get(*key)?;
            let claim = entry.own_claim().filter(|claim| claim.stamp == *stamp)?;
            let (Home::Session(conn) | Home::Legacy(conn)) = claim.home else { return None };
            Some((conn, entry.peer))
        };
        signals.iter().map(home).collect()
    }

    /// Signals were handed to their targets, but for those whose targets had left.
    pub(super) fn signals_acked(&mut self, token: Token, refused: Parts) {
        let Some((senders, sent_at)) = self.signals_over(token) else { return };
        let mut handed = 0;
        for (part, sender) in senders.iter().enumerate() {
            if refused >> part & 1 == 1 {
                self.tell_undelivered(sender, Undelivered::Left);
            } else {
                handed += 1;
            }
        }
        self.counters.signals.add(SignalOutcome::Acknowledged, handed);
        self.counters.delivery.observe_times(self.now.mono.since(sent_at), handed);
    }

    /// The stream that carried signals was given up.
    pub(super) fn signals_lost(&mut self, token: Token) {
        let Some((senders, _)) = self.signals_over(token) else { return };
        senders.iter().for_each(|sender| self.tell_undelivered(sender, Undelivered::Silent));
    }

    fn signals_over(&mut self, token: Token) -> Option<(Vec<Sender>, Time)> {
        let over = self.relay.under_way.remove(&token)?;
        self.relay.under_way_signals -= over.0.len();
        Some(over)
    }

    /// A signal went nowhere since its sender left the network after it, if the sender is still here.
    fn tell_left(&mut self, Sender { from, target, network }: &Sender) {
        self.counters.undelivered.count(Undelivered::SenderLeft);
        if let Some(conn) = self.sessions.by_peer(from) {
            self.not_announced(conn, *target, network);
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
