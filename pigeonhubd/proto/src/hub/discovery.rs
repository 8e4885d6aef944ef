//! Who is told of whom.
//!
//! In a network of up to `max_candidates` others everyone is told of everyone.
//! Beyond that a peer meets those XOR-closest to it and a few at random, so
//! that messages stay linear in peers while the network hangs together.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;

use super::Hub;
use crate::directory::{Entry, EntryKey, Home, Unclaimed, closest};
use crate::id::Id;
use crate::wire::reply;

/// Of a newcomer's candidates in a large network, one in this many is random.
const RANDOM_SHARE: usize = 8;

/// Peers whom a remote newcomer is shown to in a large network, at most.
const SHOWN_REMOTE: usize = 16;

impl Hub {
    /// Introduces a peer to those it should meet, as far as it has room.
    pub(super) fn introduce_newcomer(&mut self, key: EntryKey) {
        self.join_room(key);
        let Some(entry) = self.directory.get(key) else { return };
        let (network, id) = (entry.network.clone(), entry.peer.id);
        let room = self.settings.max_candidates.saturating_sub(entry.met.len());
        let Some(peers) = self.directory.network(&network).map(|network| &network.peers) else { return };
        let small = peers.len() <= self.settings.max_candidates + 1;
        let chosen: Vec<EntryKey> = if small {
            peers.values().copied().filter(|other| *other != key).collect()
        } else {
            let random = room / RANDOM_SHARE;
            let mut chosen = closest(peers, &id, room - random);
            for _ in 0..random {
                // The first at or after a random point that is not chosen yet: close to uniform.
                let point = Id(self.rng.random());
                let mut others = peers.range(point..).chain(peers.range(..point)).map(|(other, _)| *other);
                let other = others.find(|other| *other != id && !chosen.contains(other));
                chosen.extend(other);
            }
            chosen.iter().filter_map(|id| peers.get(id).copied()).collect()
        };
        self.meet_all(key, &chosen, !small);
    }

    /// A peer is somewhere else, or announced itself again: it is introduced
    /// as if it were new, but also to those here that have heard of it before,
    /// or nobody would tell them when it leaves.
    pub(super) fn introduce_anew(&mut self, key: EntryKey) {
        let before = self.directory.forget_meetings(key);
        if self.directory.get(key).is_some_and(|entry| matches!(entry.home(), Home::Hub(_))) {
            self.introduce_remote(key);
        } else {
            self.introduce_newcomer(key);
        }
        for other in before {
            self.meet(key, other);
        }
    }

    /// A peer of another hub came: shows it to the peers here that have room.
    pub(super) fn introduce_remote(&mut self, key: EntryKey) {
        self.join_room(key);
        let Some(entry) = self.directory.get(key) else { return };
        let Some(network) = self.directory.network(&entry.network) else { return };
        let small = network.peers.len() <= self.settings.max_candidates + 1;
        let chosen: Vec<EntryKey> = if small {
            network.own.values().copied().collect()
        } else {
            let roomy = |key: &EntryKey| {
                self.directory.get(*key).is_some_and(|entry| entry.met.len() < self.settings.max_candidates)
            };
            let near = closest(&network.own, &entry.peer.id, SHOWN_REMOTE);
            near.iter().filter_map(|id| network.own.get(id).copied()).filter(roomy).collect()
        };
        self.meet_all(key, &chosen, !small);
    }

    /// `tell_hubs`: the others' hubs may not choose the same pairs by themselves.
    fn meet_all(&mut self, key: EntryKey, others: &[EntryKey], tell_hubs: bool) {
        let mut elsewhere: BTreeMap<(Id, Id), Vec<Id>> = BTreeMap::new();
        for other in others {
            if !self.meet(key, *other) || !tell_hubs {
                continue;
            }
            let (Some(one), Some(two)) = (self.directory.get(key), self.directory.get(*other)) else {
                continue;
            };
            for (here, there) in [(one, two), (two, one)] {
                if let Home::Hub(hub) = there.home() {
                    elsewhere.entry((hub, here.peer.id)).or_default().push(there.peer.id);
                }
            }
        }
        let Some(network) = self.directory.get(key).map(|entry| Arc::clone(&entry.network)) else { return };
        for ((hub, peer), to) in elsewhere {
            self.introduce_at(hub, &network, peer, to);
        }
    }

    /// Tells two peers of each other, those of them that are here. False if
    /// they have met, or one has met too many.
    pub(super) fn meet(&mut self, a: EntryKey, b: EntryKey) -> bool {
        let most = 2 * self.settings.max_candidates;
        let (Some(one), Some(two)) = (self.directory.get(a), self.directory.get(b)) else { return false };
        let here = |entry: &Entry| entry.session();
        let full = |entry: &Entry| entry.session().is_some() && entry.met.len() >= most;
        let nobody_here = here(one).is_none() && here(two).is_none();
        if one.network != two.network || nobody_here || full(one) || full(two) {
            return false;
        }
        if !self.directory.introduce(a, b) {
            return false;
        }
        self.tell_in_turn(a, b);
        true
    }

    /// Tells `receiver`, if it is here, of `other`.
    pub(super) fn tell_of(&mut self, receiver: EntryKey, other: EntryKey) {
        let (Some(to), Some(entry)) = (self.directory.get(receiver), self.directory.get(other)) else {
            return;
        };
        let Some(conn) = to.session() else { return };
        let text = reply::peer_discovered(&entry.claim().shown, &entry.network, Some(to.peer), self.now);
        self.send_text(conn, text);
    }

    /// Tells those here that a peer has met of it once more.
    pub(super) fn tell_met_of(&mut self, key: EntryKey) {
        let met = self.directory.get(key).map(|entry| entry.met.clone()).unwrap_or_default();
        for other in met {
            self.tell_of(other, key);
        }
    }

    /// Tells a peer here once more of those it has met.
    pub(super) fn tell_again(&mut self, key: EntryKey) {
        let met = self.directory.get(key).map(|entry| entry.met.clone()).unwrap_or_default();
        for other in met {
            self.tell_one_in_turn(key, other);
        }
    }

    /// Another hub chose pairs of its peer and peers here.
    pub(super) fn introduced(&mut self, network: &str, peer: Id, to: &[Id]) {
        let Some(key) = self.directory.key(network, &peer) else { return };
        let others: Vec<EntryKey> = to.iter().filter_map(|id| self.directory.key(network, id)).collect();
        for other in others {
            self.meet(key, other);
        }
    }

    /// Takes back this hub's claim of a peer and tells whom it concerns.
    pub(super) fn unclaim_own(&mut self, network: &str, peer: Id, home: Home) {
        let unclaimed = self.directory.unclaim(network, &peer, home);
        self.presence_changed(network, peer);
        self.unclaimed(unclaimed);
    }

    /// What a claim taken back means to the clients here.
    pub(super) fn unclaimed(&mut self, unclaimed: Unclaimed) {
        match unclaimed {
            Unclaimed::Nothing => {}
            Unclaimed::Moved(key) => {
                self.introduce_anew(key);
                self.contest(key);
            }
            Unclaimed::Gone(entry) => self.tell_gone(&entry),
        }
    }

    /// Tells the clients here that know a peer of its goodbye. A published client closes its data
    /// channel on that, so it has to be the peer's own word: one whose connection broke is well.
    pub(super) fn tell_goodbye(&mut self, network: &str, peer: Id) {
        let Some(entry) = self.directory.find(network, &peer) else { return };
        let (peer, met) = (entry.peer, entry.met.clone());
        for other in met {
            let Some(other) = self.directory.get(other) else { continue };
            if let Some(conn) = other.session() {
                let text = reply::goodbye(peer, network, other.peer, self.now);
                self.send_text(conn, text);
            }
        }
    }

    fn tell_gone(&mut self, gone: &Entry) {
        self.tell_legacies_gone(gone);
        self.leave_room(&gone.network, &gone.peer.id);
        let fewest = self.settings.max_candidates / 2;
        for key in &gone.met {
            let Some(entry) = self.directory.get(*key) else { continue };
            let Some(conn) = entry.session() else { continue };
            let (receiver, met) = (entry.peer, entry.met.len());
            self.send_text(
                conn,
                reply::peer_disconnected(gone.peer, &gone.network, Some(receiver), self.now),
            );
            let others = self.directory.network(&gone.network).map_or(0, |network| network.peers.len() - 1);
            if met < fewest && met < others {
                self.introduce_newcomer(*key);
            }
        }
        self.meet_rest(&gone.network);
    }

    /// A network that shrank to one where everyone is told of everyone: those
    /// who did not meet while it was larger do now.
    fn meet_rest(&mut self, network: &str) {
        let Some(network) = self.directory.network(network) else { return };
        if network.peers.len() == self.settings.max_candidates + 1 {
            let own: Vec<EntryKey> = network.own.values().copied().collect();
            for key in own {
                self.introduce_newcomer(key);
            }
        }
    }
}
