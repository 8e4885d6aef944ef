//! Which peers of a room are to be connected to which.
//!
//! A published client holds three connections. It offers one only while it has fewer: to peers
//! with smaller ids, as soon as it hears of them. Whoever has three and gets an offer takes it if
//! the other is XOR-closer than the farthest of the three, which it drops then. Left to that, each
//! ends up with its three closest, and a room of any size falls into islands of four.
//!
//! But a room in which everyone has three connections stays as it is, whatever they are, since
//! nobody offers. So the plan is a connected graph in which everyone has three. A newcomer is put
//! into a connection that two others have, or would have: `s – f` becomes `s – n – f`, which leaves
//! the room in one piece. Where `s` and `f` are connected already, `s` has to drop `f` by itself:
//! `n` is larger than `s` and closer to it than `f`, which is the farthest of its three. Its third
//! connection a newcomer gets with one that has a place free. A place that is left over is given to
//! a peer to whose offers nobody would listen, as a rule the one with the smallest id: any other
//! would use it to have a fourth drop a fifth, and so on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::id::Id;

/// Connections of a published client: its `maxPeers`.
const PLACES: usize = 3;

/// Two peers, the one with the larger id first: it is the one that offers.
pub(super) type Pair = (Id, Id);

fn pair(a: Id, b: Id) -> Pair {
    if a > b { (a, b) } else { (b, a) }
}

/// The same at every hub for the same ids, and else as good as random.
fn shuffled(ids: [&Id; 3]) -> u64 {
    // The finalizer of SplitMix64 (Steele et al., 2014), with one round for each id.
    ids.iter().fold(0, |seed, id| {
        let mixed = (seed ^ id.fold()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Connections that are to be made.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// At once.
    pub(super) first: BTreeSet<Pair>,
    /// As soon as those that were dropped for the first have noticed.
    pub(super) second: BTreeSet<Pair>,
    /// For which of the first the smaller drops whom.
    dropped: BTreeMap<Pair, Id>,
}

impl Steps {
    /// Whether `newcomer` could be the one for whom `s` drops somebody, whoever else comes before it.
    fn may_replace(&self, newcomer: &Id, s: &Id) -> bool {
        let mut dropped = self.dropped.iter().filter(|((_, dropping), _)| dropping == s);
        newcomer > s && dropped.all(|(_, dropped)| newcomer.distance(s) < dropped.distance(s))
    }

    /// Whether `s` is dropped itself, or `f` drops somebody: it would have a place just then, and
    /// drop nobody for whoever comes.
    fn would_mix(&self, s: &Id, f: &Id) -> bool {
        self.dropped.iter().any(|((_, dropping), dropped)| dropped == s || dropping == f)
    }

    fn contains(&self, pair: &Pair) -> bool {
        self.first.contains(pair) || self.second.contains(pair)
    }
}

/// Who is expected to be connected to whom.
#[derive(Debug, Default)]
pub(super) struct Plan {
    links: BTreeMap<Id, Vec<Id>>,
    /// Those that were there before this hub could know to whom they are connected.
    strangers: BTreeSet<Id>,
}

impl Plan {
    pub(super) fn len(&self) -> usize {
        self.links.len() + self.strangers.len()
    }

    pub(super) fn contains(&self, peer: &Id) -> bool {
        self.links.contains_key(peer) || self.strangers.contains(peer)
    }

    /// One was there before this hub could know more.
    pub(super) fn add_stranger(&mut self, peer: Id) {
        self.strangers.insert(peer);
    }

    pub(super) fn remove(&mut self, peer: &Id) {
        self.strangers.remove(peer);
        self.links.remove(peer);
        for links in self.links.values_mut() {
            links.retain(|other| other != peer);
        }
    }

    /// How many connections a peer could still make.
    pub(super) fn places(&self, peer: &Id) -> usize {
        self.links.get(peer).map_or(0, |links| PLACES.saturating_sub(links.len()))
    }

    pub(super) fn is_linked(&self, a: &Id, b: &Id) -> bool {
        self.links.get(a).is_some_and(|links| links.contains(b))
    }

    /// Whom `peer` would drop for `newcomer`, if it were offered a connection.
    fn drops_for(&self, peer: &Id, newcomer: &Id) -> Option<Id> {
        let farthest = self.links.get(peer)?.iter().max_by_key(|other| other.distance(peer))?;
        let full = self.places(peer) == 0;
        (full && newcomer > peer && newcomer.distance(peer) < farthest.distance(peer)).then_some(*farthest)
    }

    /// Whether `peer` would refuse an offer.
    pub(super) fn refuses(&self, peer: &Id, offerer: &Id) -> bool {
        self.places(peer) == 0 && self.drops_for(peer, offerer).is_none()
    }

    /// One offers a connection to another; what follows from that.
    pub(super) fn offered(&mut self, offerer: Id, peer: Id) {
        if self.refuses(&peer, &offerer) {
            return;
        }
        if let Some(dropped) = self.drops_for(&peer, &offerer) {
            self.unlink(peer, dropped);
        }
        self.link(offerer, peer);
    }

    fn link(&mut self, a: Id, b: Id) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(links) = self.links.get_mut(&from) {
                links.push(to);
            }
        }
    }

    fn unlink(&mut self, a: Id, b: Id) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(links) = self.links.get_mut(&from) {
                links.retain(|other| *other != to);
            }
        }
    }

    fn edges(&self) -> impl Iterator<Item = Pair> {
        self.links.iter().flat_map(|(a, links)| links.iter().filter(move |b| *b < a).map(|b| (*a, *b)))
    }

    /// Takes newcomers in, all those that came at about the same time together: connections that
    /// are yet to be made can be planned otherwise, those that are there hardly.
    pub(super) fn add(&mut self, mut newcomers: Vec<Id>) -> Steps {
        let mut steps = Steps::default();
        newcomers.sort_unstable_by_key(|id| shuffled([id, id, id]));
        if self.links.is_empty() {
            self.reach_strangers(&newcomers, &mut steps);
        }
        for newcomer in newcomers {
            self.place(newcomer, &mut steps);
        }
        self.hush(&mut steps);
        steps
    }

    /// One of the newcomers offers to the closest of those of whom nothing else is known: that one
    /// is most likely to take it.
    fn reach_strangers(&mut self, newcomers: &[Id], steps: &mut Steps) {
        let smaller = |newcomer: &Id| {
            self.strangers.range(..*newcomer).map(|stranger| (*newcomer, *stranger)).collect::<Vec<_>>()
        };
        let pairs = newcomers.iter().flat_map(smaller);
        if let Some((newcomer, stranger)) =
            pairs.min_by_key(|(newcomer, stranger)| newcomer.distance(stranger))
        {
            self.links.insert(newcomer, vec![stranger]);
            steps.first.insert((newcomer, stranger));
        }
    }

    fn place(&mut self, newcomer: Id, steps: &mut Steps) {
        self.links.entry(newcomer).or_default();
        // Among four everyone is connected to everyone.
        if self.links.len() > PLACES + 1
            && let Some((s, f, there)) = self.best_edge(&newcomer, steps)
        {
            self.split(s, f, there, newcomer, steps);
        }
        while self.places(&newcomer) > 0 {
            let roomy = |other: &&Id| {
                **other != newcomer && self.places(other) > 0 && !self.is_linked(other, &newcomer)
            };
            // Small ones may keep a place.
            let best = self.links.keys().filter(roomy).max_by_key(|other| (self.places(other), **other));
            let Some(other) = best.copied() else { return };
            self.link(other, newcomer);
            steps.first.insert(pair(other, newcomer));
        }
    }

    /// Which connection `s – f` a newcomer goes into, and whether it is there already.
    fn best_edge(&self, newcomer: &Id, steps: &Steps) -> Option<(Id, Id, bool)> {
        let roomy: Vec<&Id> =
            self.links.keys().filter(|peer| *peer != newcomer && self.places(peer) > 0).collect();
        let wasted = |a: &Id, b: &Id| !roomy.is_empty() && roomy.iter().all(|peer| *peer == a || *peer == b);
        let mut best = None;
        for (larger, smaller) in self.edges() {
            let there = !steps.contains(&(larger, smaller));
            let rank = if there {
                // Of two it is the smaller one's nearest that is most likely to hold.
                let dropping =
                    |s: &Id, f: &Id| self.drops_for(s, newcomer) == Some(*f) && !steps.would_mix(s, f);
                let (s, f) = match (dropping(&smaller, &larger), dropping(&larger, &smaller)) {
                    (true, false) => (smaller, larger),
                    (false, true) => (larger, smaller),
                    (true, true) if newcomer.distance(&larger) < newcomer.distance(&smaller) => {
                        (larger, smaller)
                    }
                    (true, true) => (smaller, larger),
                    (false, false) => continue,
                };
                ((wasted(&s, &f), true, Some(newcomer.distance(&s)), 0), (s, f, true))
            } else {
                if steps.dropped.contains_key(&(larger, smaller)) && !steps.may_replace(newcomer, &smaller) {
                    continue;
                }
                let order = shuffled([newcomer, &larger, &smaller]);
                ((wasted(&larger, &smaller), false, None, order), (smaller, larger, false))
            };
            if best.as_ref().is_none_or(|(least, _)| rank.0 < *least) {
                best = Some(rank);
            }
        }
        best.map(|(_, edge)| edge)
    }

    /// `s – f` becomes `s – n – f`.
    fn split(&mut self, s: Id, f: Id, there: bool, n: Id, steps: &mut Steps) {
        self.unlink(s, f);
        self.link(s, n);
        self.link(f, n);
        let old = pair(s, f);
        steps.first.remove(&old);
        if there {
            steps.first.insert(pair(s, n));
            steps.dropped.insert(pair(s, n), f);
            steps.second.insert(pair(f, n));
        } else if steps.second.remove(&old) {
            // One of them is dropped first, by somebody; the other may come from anywhere.
            steps.second.extend([pair(s, n), pair(f, n)]);
        } else {
            steps.first.extend([pair(s, n), pair(f, n)]);
            if let Some(dropped) = steps.dropped.remove(&old) {
                steps.dropped.insert(pair(s, n), dropped);
            }
        }
    }

    /// How many would listen to an offer of `peer`.
    fn listeners(&self, peer: &Id) -> usize {
        let smaller = self.links.range(..*peer).map(|(other, _)| other);
        smaller.filter(|other| !self.is_linked(other, peer) && !self.refuses(other, peer)).count()
    }

    /// Moves places that are left over to where they do no harm, as long as nothing is there yet
    /// that it would break.
    fn hush(&mut self, steps: &mut Steps) {
        for _ in 0..PLACES {
            let loud = |peer: &&Id| self.places(peer) > 0 && self.listeners(peer) > 0;
            let Some(loud) = self.links.keys().filter(loud).max_by_key(|peer| self.listeners(peer)).copied()
            else {
                return;
            };
            let mut edges: Vec<(Id, Id)> = steps
                .first
                .iter()
                .filter(|pair| !steps.dropped.contains_key(*pair))
                .flat_map(|(a, b)| [(*a, *b), (*b, *a)])
                .collect();
            // The smaller the one that gets the place, the better.
            edges.retain(|(kept, freed)| {
                *freed < loud
                    && *kept != loud
                    && !self.is_linked(kept, &loud)
                    && self.links.contains_key(kept)
            });
            edges.sort_unstable_by_key(|(kept, freed)| (*freed, Reverse(*kept)));
            let better = edges.into_iter().find(|(kept, freed)| {
                self.unlink(*kept, *freed);
                self.link(*kept, loud);
                let good = self.is_whole() && self.listeners(freed) == 0;
                if !good {
                    self.unlink(*kept, loud);
                    self.link(*kept, *freed);
                }
                good
            });
            let Some((kept, freed)) = better else { return };
            steps.first.remove(&pair(kept, freed));
            steps.first.insert(pair(kept, loud));
        }
    }

    /// Whether those of whom it is known are in one piece.
    fn is_whole(&self) -> bool {
        let mut seen: BTreeSet<Id> = self.links.keys().take(1).copied().collect();
        let mut ahead: Vec<Id> = seen.iter().copied().collect();
        while let Some(peer) = ahead.pop() {
            let links = self.links.get(&peer).into_iter().flatten();
            ahead.extend(links.filter(|other| self.links.contains_key(*other) && seen.insert(**other)));
        }
        seen.len() == self.links.len()
    }
}

#[cfg(test)]
mod tests;
