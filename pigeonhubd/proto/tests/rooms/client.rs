//! The rules of a published client (`peerpigeon` 1.1.3 with its default options), as its source says them.
//!
//! The names of the source's functions are given with each. What is not here: media, keys, and what the
//! client does when its hub forwards `connection-rejected`.

mod upkeep;

use std::collections::{BTreeMap, BTreeSet};

use crate::connection::{Half, State};
use crate::net::{Event, MS, Micros, Net, SEC, Word};

/// `maxPeers`, and the connectivity floor that follows from it.
pub(crate) const MOST: usize = 3;
/// `minPeers`.
const FEWEST: usize = 2;
/// `maxConnectionAttempts`.
const ATTEMPTS: u32 = 3;
/// When libwebrtc gives up on a connection without an answer to its checks, as measured.
const ICE_FAILS: Micros = 15_400 * MS;

pub(crate) struct Client {
    pub(crate) me: usize,
    pub(crate) hub: usize,
    /// Counts its sessions with hubs.
    pub(crate) session: u32,
    /// Whether its WebSocket is open.
    pub(crate) connected: bool,
    pub(crate) up: bool,
    /// `peerDiscovery.discoveredPeers`, with the time of each.
    pub(crate) discovered: BTreeMap<usize, Micros>,
    /// When it was first told of each.
    pub(crate) told: BTreeMap<usize, Micros>,
    /// `peerDiscovery.connectionAttempts`.
    attempting: BTreeSet<usize>,
    /// `connectionManager.connectionAttempts` and `lastConnectionAttempt`.
    attempts: BTreeMap<usize, (u32, Micros)>,
    /// `connectionManager.peers`, in the order of insertion.
    pub(crate) peers: Vec<(usize, usize)>,
    optimization: u32,
    reconnects: u32,
}

impl Client {
    pub(crate) fn new(me: usize, hub: usize) -> Self {
        Self {
            me,
            hub,
            session: 0,
            connected: false,
            up: false,
            discovered: BTreeMap::new(),
            told: BTreeMap::new(),
            attempting: BTreeSet::new(),
            attempts: BTreeMap::new(),
            peers: Vec::new(),
            optimization: 0,
            reconnects: 0,
        }
    }

    /// Its program makes it; its session opens `head_start` later.
    pub(crate) fn start(&mut self, net: &mut Net) {
        self.up = true;
        net.after(2 * SEC, Event::FixStuck(self.me));
        net.after(30 * SEC, Event::SweepStale(self.me));
        net.after(4 * SEC, Event::Enforce(self.me));
        net.after(30 * SEC, Event::ForgetStale(self.me));
        let init = net.between((50 * MS, 250 * MS));
        net.after(init, Event::SessionOpens(self.me));
    }

    /// Its session was lost: `attemptReconnect`.
    pub(crate) fn disconnected(&mut self, net: &mut Net) {
        self.connected = false;
        let base = SEC << self.reconnects.min(5);
        self.reconnects += 1;
        let wait = if self.linked(net) > 0 { 3 * base } else { base };
        net.after(wait, Event::SessionOpens(self.me));
    }

    pub(crate) fn opened(&mut self) {
        self.connected = true;
        self.session += 1;
        self.reconnects = 0;
    }

    fn half(&self, peer: usize) -> Option<usize> {
        self.peers.iter().find(|(of, _)| *of == peer).map(|(_, half)| *half)
    }

    /// `getConnectedPeerCount`.
    pub(crate) fn linked(&self, net: &Net) -> usize {
        self.peers.iter().filter(|(_, half)| net.halves[*half].is_connected()).count()
    }

    /// `canAcceptMorePeers`: those that are being connected count as well.
    fn has_room(&self) -> bool {
        self.peers.len() < MOST
    }

    fn remove(&mut self, peer: usize) {
        self.peers.retain(|(of, _)| *of != peer);
    }

    fn say(&self, net: &mut Net, word: Word, to: usize) {
        if self.connected {
            let text = crate::talk::write(net, self.me, &word, to);
            let way = net.way();
            net.after(way, Event::Say(self.me, self.session, text));
        }
    }

    pub(crate) fn hear(&mut self, net: &mut Net, word: &Word) {
        match *word {
            Word::Discovered(peer) => self.discover(net, peer),
            Word::Goodbye(peer) => {
                self.discovered.remove(&peer);
                self.attempting.remove(&peer);
                self.attempts.remove(&peer);
                self.lose(net, peer);
            }
            Word::Offer(half) => self.offered(net, half),
            Word::Answer(offer, half) => self.answered(net, offer, half),
            Word::Rejected(_) => {}
        }
    }

    /// `addDiscoveredPeer`.
    fn discover(&mut self, net: &mut Net, peer: usize) {
        if peer == self.me || self.discovered.contains_key(&peer) {
            return;
        }
        self.discovered.insert(peer, net.now);
        self.told.entry(peer).or_insert(net.now);
        if self.should_initiate(net, peer) && !self.attempting.contains(&peer) && self.has_room() {
            self.connect(net, peer);
        }
        // `scheduleMeshOptimization`
        self.optimization += 1;
        let wait = net.between((10 * SEC, 15 * SEC));
        net.after(wait, Event::Optimize(self.me, self.optimization));
    }

    fn nearest_first(&self, net: &Net, mut peers: Vec<usize>) -> Vec<usize> {
        let me = net.ids[self.me];
        peers.sort_unstable_by_key(|peer| me.distance(&net.ids[*peer]));
        peers
    }

    /// `shouldInitiateConnection`.
    fn should_initiate(&self, net: &Net, peer: usize) -> bool {
        if self.attempting.contains(&peer) {
            return false;
        }
        let larger = net.is_larger(self.me, peer);
        if larger || self.linked(net) > 0 || !self.discovered.contains_key(&peer) {
            return larger;
        }
        // Nobody is connected: the smaller one may offer as well.
        let natural = self.discovered.keys().any(|other| net.is_larger(self.me, *other));
        let near = || {
            let known = self.nearest_first(net, self.discovered.keys().copied().collect());
            known.iter().take(3).any(|other| *other == peer)
        };
        (!natural && near()) || self.attempting.len() >= 2
    }

    /// `connectToPeer`.
    fn connect(&mut self, net: &mut Net, peer: usize) {
        if self.half(peer).is_some() || self.attempting.contains(&peer) {
            return;
        }
        let linked = self.linked(net);
        if (!net.is_larger(self.me, peer) && linked >= MOST) || !self.has_room() {
            return;
        }
        let (attempts, last) = self.attempts.get(&peer).copied().unwrap_or_default();
        let pause = if linked == 0 { 200 * MS } else { 500 * MS };
        if attempts > 0 && net.now - last < pause {
            return;
        }
        if attempts >= ATTEMPTS {
            self.discovered.remove(&peer);
            self.attempting.remove(&peer);
            return;
        }
        self.attempts.insert(peer, (attempts + 1, net.now));
        self.attempting.insert(peer);
        let half = self.open(net, peer, true);
        let make = net.make(self.me);
        net.after(make, Event::Made(half));
    }

    fn open(&mut self, net: &mut Net, peer: usize, offered: bool) -> usize {
        let half = Half { owner: self.me, peer, offered, since: net.now, state: State::Making, other: None };
        net.halves.push(half);
        let number = net.halves.len() - 1;
        self.remove(peer);
        self.peers.push((peer, number));
        number
    }

    /// The description of an offer was made.
    pub(crate) fn made(&mut self, net: &mut Net, half: usize) {
        let peer = net.halves[half].peer;
        if net.halves[half].state == State::Closed {
            // If it was closed for the other's offer: that one is given up too.
            return self.clean_up(net, peer);
        }
        net.halves[half].state = State::Offered;
        self.say(net, Word::Offer(half), peer);
    }

    /// `cleanupFailedConnection`.
    fn clean_up(&mut self, net: &mut Net, peer: usize) {
        if let Some(half) = self.half(peer) {
            net.close(half);
            self.remove(peer);
        }
        self.attempting.remove(&peer);
    }

    /// `handleOffer`.
    fn offered(&mut self, net: &mut Net, offer: usize) {
        let peer = net.halves[offer].owner;
        if net.is_larger(self.me, peer) {
            return self.say(net, Word::Rejected(offer), peer);
        }
        if let Some(half) = self.half(peer) {
            let Half { state, offered, .. } = net.halves[half];
            if state == State::Connected || !offered {
                return;
            }
            // `cleanupRaceCondition`
            net.close(half);
            self.remove(peer);
        }
        self.attempts.remove(&peer);
        if !self.has_room() {
            let Some(evicted) = self.whom_to_evict(net, peer) else {
                return self.say(net, Word::Rejected(offer), peer);
            };
            self.evict(net, evicted);
        }
        let half = self.open(net, peer, false);
        let make = net.make(self.me);
        net.after(make, Event::Answered(offer, half));
    }

    /// `shouldEvictForPeer`.
    fn whom_to_evict(&self, net: &Net, peer: usize) -> Option<usize> {
        if self.linked(net) == 0 {
            return self.peers.first().map(|(first, _)| *first);
        }
        let farthest = self.nearest_first(net, self.peers.iter().map(|(of, _)| *of).collect()).pop()?;
        net.closer(self.me, peer, farthest).then_some(farthest)
    }

    /// `evictPeer`.
    fn evict(&mut self, net: &mut Net, peer: usize) {
        if let Some(half) = self.half(peer) {
            net.evictions += u32::from(net.halves[half].is_connected());
            net.close(half);
        }
        self.remove(peer);
        self.attempting.remove(&peer);
    }

    /// The answer to an offer was made.
    pub(crate) fn made_answer(&mut self, net: &mut Net, offer: usize, half: usize) {
        let peer = net.halves[half].peer;
        if net.halves[half].state == State::Closed {
            return self.clean_up(net, peer);
        }
        net.halves[half].state = State::Connecting;
        net.after(ICE_FAILS, Event::IceFailed(half));
        self.say(net, Word::Answer(offer, half), peer);
        self.attempting.remove(&peer);
    }

    /// `handleAnswer`.
    fn answered(&mut self, net: &mut Net, offer: usize, answer: usize) {
        let Some(half) = self.half(net.halves[answer].owner) else { return };
        if net.halves[half].state != State::Offered {
            return;
        }
        net.halves[half].state = State::Connecting;
        net.after(ICE_FAILS, Event::IceFailed(half));
        if half == offer && net.halves[answer].state == State::Connecting {
            net.halves[half].other = Some(answer);
            net.halves[answer].other = Some(half);
            let ice = net.between(net.pace.ice);
            for half in [half, answer] {
                let apart = net.between((0, 20 * MS));
                net.after(ice + apart, Event::Up(half));
            }
        }
    }

    /// ICE is done, if the other end is still there.
    pub(crate) fn up(&mut self, net: &mut Net, half: usize) {
        let Half { peer, state, other, .. } = net.halves[half];
        let other_there = other.is_some_and(|other| net.halves[other].state != State::Closed);
        if state != State::Connecting || !other_there {
            return;
        }
        net.halves[half].state = State::Connected;
        self.attempts.remove(&peer);
        self.attempting.remove(&peer);
        if let Some(time) = self.discovered.get_mut(&peer) {
            *time = net.now;
        }
    }

    /// A connection that was open is closed by the other end, with or without a notice of eviction.
    pub(crate) fn other_closed(&mut self, net: &mut Net, half: usize) {
        if net.halves[half].state != State::Closed {
            net.halves[half].other = None;
            self.lose(net, net.halves[half].peer);
        }
    }

    pub(crate) fn ice_failed(&mut self, net: &mut Net, half: usize) {
        if net.halves[half].state == State::Connecting {
            let peer = net.halves[half].peer;
            self.attempts.remove(&peer);
            self.lose(net, peer);
        }
    }

    /// `handlePeerDisconnection`.
    fn lose(&mut self, net: &mut Net, peer: usize) {
        if let Some(half) = self.half(peer) {
            net.close(half);
            self.remove(peer);
        }
        self.attempting.remove(&peer);
        if self.linked(net) == 0 && !self.discovered.is_empty() {
            net.after(500 * MS, Event::OptimizeIfAlone(self.me));
        }
    }

    /// Its program ends without a word, or with one.
    pub(crate) fn stop(&mut self, net: &mut Net) {
        for (_, half) in std::mem::take(&mut self.peers) {
            net.close(half);
        }
        (self.up, self.connected) = (false, false);
        self.session += 1;
    }
}
