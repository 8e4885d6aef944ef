//! In which order and when the peers of a small network are told of each other.
//!
//! In a room, a network of so few that everyone is told of everyone, the order decides who gets connected
//! to whom: see [`plan`]. Those that come within moments are planned together. Of each pair that is
//! to be connected the larger one, which offers, is told at once; after that, everyone of everyone.
//! Whoever has a place left by then would use it: it is told of smaller ones as late as may be, for
//! whoever comes next may need the place.
//!
//! Two hubs with peers of one room plan alike, since they hear of the same peers at about the same
//! time; each tells its own. Where they do not, the room is as it would be without a plan.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use crate::directory::EntryKey;
use crate::id::Id;
use crate::time::Time;
use plan::{Pair, Plan};

/// Peers of a room, at most. In a larger network all are told of each other at once, if at all:
/// each pair that waits takes memory, and plans take time.
const LARGEST: usize = 65;
/// So few peers are introduced as soon as they come: each has a place left, and nothing is decided yet.
const AT_ONCE: usize = 3;
/// Those that come within so long after another are planned together.
const QUIET: Duration = Duration::from_millis(300);
/// So long after other hubs heard of a peer of theirs this one has, as a rule.
const NEWS: Duration = Duration::from_millis(150);
/// The first of those that are planned together waits no longer than this.
const LONGEST: Duration = Duration::from_secs(1);
/// How long it takes until a peer that was dropped for another knows it.
const DROPPED: Duration = Duration::from_millis(300);
/// When everyone is told of everyone, from when the plan was made. By then the planned connections are
/// there, also on machines with other work: twelve clients on two processors took up to a second.
const REST: Duration = Duration::from_millis(1200);
/// The same of the first two, who have nobody to choose from.
const SMALL_REST: Duration = Duration::from_millis(600);
/// From then until the next plan: what follows from it has happened.
const SETTLED: Duration = Duration::from_millis(100);
/// When everyone is told in any case, from when it might have been.
const LATEST: Duration = Duration::from_secs(2);
/// A peer of another hub that announced itself longer ago than this is no newcomer.
const FRESH: Duration = Duration::from_secs(3);

/// Rooms, and when each is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: BTreeMap<Arc<str>, Room>,
    agenda: BTreeSet<(Time, Arc<str>)>,
}

#[derive(Debug)]
struct Room {
    plan: Plan,
    /// Those for whom there is no plan yet, in the order in which they came.
    newcomers: BTreeSet<(Time, Id)>,
    /// How much later a plan is made than all hubs agree on.
    lag: Duration,
    /// Larger ones of pairs whose time has not come, and when it does.
    second: (Time, BTreeSet<Pair>),
    /// Who is yet to be told of whom, and since when.
    owed: BTreeMap<Id, BTreeMap<Id, Time>>,
    /// When they are told, but for those that have a place left, and when the next of these are.
    rest: Time,
    late: Time,
    /// The next plan is made no earlier.
    settled: Time,
    /// When it stands in the agenda.
    next: Time,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            plan: Plan::default(),
            newcomers: BTreeSet::new(),
            lag: Duration::ZERO,
            second: (Time::NEVER, BTreeSet::new()),
            owed: BTreeMap::new(),
            rest: Time::NEVER,
            late: Time::NEVER,
            settled: Time(0),
            next: Time::NEVER,
        }
    }
}

impl Room {
    /// Up to when the newcomers count that are planned for next.
    fn up_to(&self) -> Option<Time> {
        let (first, _) = self.newcomers.first()?;
        let (last, _) = self.newcomers.last()?;
        if self.plan.len() + self.newcomers.len() <= AT_ONCE {
            return Some(*last);
        }
        let mut until = *first + QUIET;
        for (came, _) in &self.newcomers {
            if *came <= until.max(self.settled) {
                until = (*came + QUIET).min(*first + LONGEST);
            }
        }
        Some(until.max(self.settled))
    }

    fn due(&self) -> Time {
        let plan = self.up_to().map_or(Time::NEVER, |until| until + self.lag);
        plan.min(self.second.0).min(self.rest).min(self.late)
    }

    fn join(&mut self, peer: Id, fresh: bool, came: Time) {
        if self.plan.contains(&peer) || self.newcomers.iter().any(|(_, newcomer)| *newcomer == peer) {
            return;
        }
        if fresh {
            self.newcomers.insert((came, peer));
        } else {
            self.plan.add_stranger(peer);
        }
    }

    fn leave(&mut self, peer: &Id, now: Time) {
        self.plan.remove(peer);
        self.newcomers.retain(|(_, newcomer)| newcomer != peer);
        self.owed.remove(peer);
        // What waited for a plan for it has nothing to wait for any more.
        if self.newcomers.is_empty() && self.rest == Time::NEVER && !self.owed.is_empty() {
            self.rest = now;
        }
    }

    fn owe(&mut self, receiver: Id, other: Id, now: Time) {
        self.owed.entry(receiver).or_default().insert(other, now);
        // Unless a plan is to be made for one of them, nothing speaks against it.
        if self.newcomers.is_empty() {
            self.rest = self.rest.min(now);
        }
    }

    fn take_owed(&mut self, (receiver, other): Pair) -> Option<Pair> {
        let owed = self.owed.get_mut(&receiver)?;
        let found = owed.remove(&other).is_some();
        if owed.is_empty() {
            self.owed.remove(&receiver);
        }
        found.then_some((receiver, other))
    }

    /// Who is to be told of whom now, in this order.
    fn tell(&mut self, now: Time) -> Vec<Pair> {
        let mut told = Vec::new();
        if self.second.0 <= now {
            let (_, pairs) = std::mem::replace(&mut self.second, (Time::NEVER, BTreeSet::new()));
            told.extend(pairs.into_iter().filter_map(|pair| self.take_owed(pair)));
        }
        if self.rest.min(self.late) <= now {
            self.tell_rest(now, &mut told);
        }
        if let Some(until) = self.up_to().filter(|until| *until + self.lag <= now) {
            let later = self.newcomers.split_off(&(until + Duration::from_micros(1), Id::default()));
            let newcomers = std::mem::replace(&mut self.newcomers, later);
            let steps = self.plan.add(newcomers.into_iter().map(|(_, peer)| peer).collect());
            told.extend(steps.first.into_iter().filter_map(|pair| self.take_owed(pair)));
            if !steps.second.is_empty() {
                self.second = (now + DROPPED, steps.second);
            }
            let rest = if self.plan.len() <= 2 { SMALL_REST } else { REST };
            self.rest = now + rest;
            self.settled = until + rest + SETTLED;
        }
        told
    }

    fn tell_rest(&mut self, now: Time, told: &mut Vec<Pair>) {
        let rest = self.rest <= now;
        if rest {
            self.rest = Time::NEVER;
        }
        self.late = Time::NEVER;
        for (receiver, others) in std::mem::take(&mut self.owed) {
            let places = self.plan.places(&receiver);
            let offers =
                |other: &Id| places > 0 && *other < receiver && !self.plan.is_linked(&receiver, other);
            let unplanned = |peer: &Id| self.newcomers.iter().any(|(_, newcomer)| newcomer == peer);
            let mut at_once = Vec::new();
            for (other, since) in others {
                let planned = !unplanned(&receiver) && !unplanned(&other);
                if planned && (since + LATEST <= now || (rest && !offers(&other))) {
                    at_once.push(other);
                    continue;
                }
                self.owed.entry(receiver).or_default().insert(other, since);
                if planned {
                    self.late = self.late.min(since + LATEST);
                }
            }
            // Nothing follows from an offer that is refused; it takes the place for a while.
            at_once.sort_by_key(|other| !(offers(other) && self.plan.refuses(other, &receiver)));
            let offered: Vec<Id> = at_once.iter().copied().filter(offers).take(places).collect();
            offered.into_iter().for_each(|other| self.plan.offered(receiver, other));
            told.extend(at_once.into_iter().map(|other| (receiver, other)));
        }
    }
}

impl Rooms {
    /// When there is something to be told.
    pub(super) fn due(&self) -> Time {
        self.agenda.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// Changes a room, and when it is looked at.
    fn change<T>(&mut self, network: &Arc<str>, change: impl FnOnce(&mut Room) -> T) -> T {
        let room = self.rooms.entry(Arc::clone(network)).or_default();
        let changed = change(room);
        let (before, next) = (room.next, room.due());
        room.next = next;
        if before != next {
            self.agenda.remove(&(before, Arc::clone(network)));
            if next != Time::NEVER {
                self.agenda.insert((next, Arc::clone(network)));
            }
        }
        changed
    }

    /// A network is no room any more. Who was yet to be told of whom?
    fn close(&mut self, network: &str) -> Vec<Pair> {
        let Some((name, room)) = self.rooms.remove_entry(network) else { return Vec::new() };
        self.agenda.remove(&(room.next, name));
        room.owed
            .into_iter()
            .flat_map(|(receiver, others)| others.into_keys().map(move |other| (receiver, other)))
            .collect()
    }
}

impl Hub {
    /// Whether a network is small enough to be planned, and everyone in it is told of everyone.
    fn is_room(&self, network: &str) -> bool {
        let largest = LARGEST.min(self.settings.max_candidates + 1);
        self.directory.network(network).is_some_and(|network| network.peers.len() <= largest)
    }

    /// A peer came to a network, here or elsewhere.
    pub(super) fn join_room(&mut self, key: EntryKey) {
        let Some(entry) = self.directory.get(key) else { return };
        let (network, now) = (Arc::clone(&entry.network), self.now.mono);
        if !self.is_room(&network) {
            return self.close_room(&network);
        }
        let Some(others) = self.directory.network(&network) else { return };
        if others.own.is_empty() {
            return;
        }
        let come = |key: &EntryKey| {
            let entry = self.directory.get(*key)?;
            let age = Duration::from_millis(self.now.unix_ms.saturating_sub(entry.claim().announced_at));
            Some((entry.peer.id, age))
        };
        let first = !self.rooms.rooms.contains_key(&network);
        let come: Vec<(Id, Duration)> = if first {
            others.peers.values().filter_map(come).collect()
        } else {
            come(&key).into_iter().collect()
        };
        let lag = if self.other_members() > 0 { NEWS } else { Duration::ZERO };
        self.rooms.change(&network, |room| {
            room.lag = lag;
            for (peer, age) in come {
                room.join(peer, age < FRESH, now - age);
            }
        });
    }

    pub(super) fn leave_room(&mut self, network: &Arc<str>, peer: &Id) {
        if self.rooms.rooms.contains_key(network) {
            let now = self.now.mono;
            self.rooms.change(network, |room| room.leave(peer, now));
        }
        if self.directory.network(network).is_none_or(|network| network.own.is_empty()) {
            self.rooms.close(network);
        }
    }

    /// Tells two peers that met of each other, when their time has come.
    pub(super) fn tell_in_turn(&mut self, a: EntryKey, b: EntryKey) {
        self.tell_one_in_turn(a, b);
        self.tell_one_in_turn(b, a);
    }

    /// Tells one peer, if it is here, of another, when its time has come.
    pub(super) fn tell_one_in_turn(&mut self, receiver: EntryKey, other: EntryKey) {
        let (Some(to), Some(of)) = (self.directory.get(receiver), self.directory.get(other)) else { return };
        let network = Arc::clone(&to.network);
        if !self.is_room(&network) {
            return self.tell_of(receiver, other);
        }
        if to.session().is_none() {
            return;
        }
        let (to, of, now) = (to.peer.id, of.peer.id, self.now.mono);
        self.rooms.change(&network, |room| room.owe(to, of, now));
    }

    /// Tells those whose time has come.
    pub(super) fn tell_rooms(&mut self) {
        while self.rooms.due() <= self.now.mono {
            let Some((_, network)) = self.rooms.agenda.first().cloned() else { return };
            let now = self.now.mono;
            let told = self.rooms.change(&network, |room| room.tell(now));
            self.tell_pairs(&network, told);
        }
    }

    fn close_room(&mut self, network: &str) {
        let owed = self.rooms.close(network);
        self.tell_pairs(network, owed);
    }

    fn tell_pairs(&mut self, network: &str, pairs: Vec<Pair>) {
        for (receiver, other) in pairs {
            let key = |peer: &Id| self.directory.key(network, peer);
            let (Some(receiver), Some(other)) = (key(&receiver), key(&other)) else { continue };
            // One of them may have left meanwhile, and be back.
            if self.directory.get(receiver).is_some_and(|entry| entry.met.contains(&other)) {
                self.tell_of(receiver, other);
            }
        }
    }
}
