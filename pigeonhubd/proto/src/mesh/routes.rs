//! Which way to a hub.
//!
//! A hub knows what links every hub says it has open. A link counts when both
//! its ends list it; the shortest path over those gives the next hop. All
//! hubs see nearly the same graph, so a message seldom needs more hops than
//! the path has links; while views differ, its hop limit ends a loop.

mod graph;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use self::graph::{Claims, Graph, Index, NEVER};
use crate::id::Id;

/// One open link of a hub, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The hub at the other end.
    pub hub: Id,
    /// Over a data channel, not a WebSocket.
    pub p2p: bool,
}

/// Whether a link that is open here counts before the other end lists it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnLinks {
    /// It does: a link that was proven here works, whatever records are on their way.
    #[default]
    Trusted,
    /// It does not.
    Confirmed,
}

/// The ways from one hub to all others, at one moment: build it anew when a
/// link or a record changes.
pub struct Routes {
    index: Index,
    own: usize,
    graph: Graph,
    /// Hubs with an open link to this one, whether or not the link counts.
    open: Vec<Id>,
    /// Links to each hub.
    distance: Vec<u32>,
    /// The same over P2P links only.
    p2p_distance: Vec<u32>,
    /// For each hub `words` words, in which bit `i` tells that the `i`-th
    /// neighbour is the first hop of a shortest path to it.
    hops: Vec<u64>,
    words: usize,
    /// For each hub, once asked for: how far it is from each neighbour if the
    /// way must not lead back through this hub.
    detours: Vec<OnceCell<Box<[u32]>>>,
}

impl Routes {
    /// From the links open at this hub and what the others say of theirs
    /// (`own`'s own record may be among them and is ignored).
    ///
    /// The caller bounds the number of records and links. 1,000 hubs with
    /// three links each take about 0.1 ms.
    pub fn new<L: IntoIterator<Item = Link>>(
        own: Id,
        open: &[Link],
        trust: OwnLinks,
        records: impl IntoIterator<Item = (Id, L)>,
    ) -> Self {
        let records: Vec<(Id, L)> = records.into_iter().filter(|(hub, _)| *hub != own).collect();
        let mut ids = vec![own];
        ids.extend(records.iter().map(|(hub, _)| *hub));
        let trusted = open.iter().filter(|_| trust == OwnLinks::Trusted);
        ids.extend(trusted.clone().map(|link| link.hub));
        let index = Index::new(ids);

        let mut claims = Claims::with_capacity(4 * index.len());
        let mut claim = |from: &Id, link| {
            if let Some(from) = index.find(from) {
                claims.add(&index, from, link);
            }
        };
        open.iter().for_each(|link| claim(&own, *link));
        trusted.for_each(|link| claim(&link.hub, Link { hub: own, p2p: link.p2p }));
        for (hub, links) in records {
            links.into_iter().for_each(|link| claim(&hub, link));
        }
        let graph = claims.agree(index.len());
        let mut open: Vec<Id> = open.iter().map(|link| link.hub).filter(|hub| *hub != own).collect();
        open.sort_unstable();
        open.dedup();
        Self::search(own, index, graph, open)
    }

    fn search(own: Id, index: Index, graph: Graph, open: Vec<Id>) -> Self {
        let own = index.find(&own).unwrap_or_default();
        let (distance, order) = graph.search(own, |_| true);
        let p2p_distance =
            if graph.is_all_p2p() { distance.clone() } else { graph.distances(own, |end| end.p2p) };
        let words = graph.of(own).len().div_ceil(64);
        let hops = first_hops(&graph, words, &distance, &order);
        let detours = vec![OnceCell::new(); index.len()];
        Self { index, own, graph, open, distance, p2p_distance, hops, words, detours }
    }

    /// Links on the shortest path to `hub`, 0 for this hub itself; `None` while there is no path.
    pub fn distance(&self, hub: &Id) -> Option<usize> {
        known(&self.distance, self.index.find(hub)?)
    }

    /// The same, over P2P links only.
    pub fn p2p_distance(&self, hub: &Id) -> Option<usize> {
        known(&self.p2p_distance, self.index.find(hub)?)
    }

    /// Whether there is a path to `hub`.
    pub fn is_reachable(&self, hub: &Id) -> bool {
        self.distance(hub).is_some()
    }

    /// All other hubs to which there is a path, with its length, in id order.
    pub fn reachable(&self) -> impl Iterator<Item = (&Id, usize)> {
        let others = (0..self.index.len()).filter(|at| *at != self.own);
        others.filter_map(|at| Some((self.index.id(at), known(&self.distance, at)?)))
    }

    /// All hubs to which there is no path, in id order.
    pub fn out_of_reach(&self) -> impl Iterator<Item = &Id> {
        let unknown = self.distance.iter().enumerate().filter(|(_, distance)| **distance == NEVER);
        unknown.map(|(at, _)| self.index.id(at))
    }

    /// The neighbour to which a message for `hub` goes next.
    ///
    /// On a shortest path, and of several the XOR-closest to `hub`. Neighbours
    /// that `avoid` names (suspects; where the message came from) are taken
    /// only if no other leads there, not even the long way round. `None` while
    /// there is no path, and for this hub itself.
    pub fn next_hop(&self, hub: &Id, avoid: impl Fn(&Id) -> bool) -> Option<Id> {
        let target = self.index.find(hub)?;
        let shortest = || self.first_hops(target).map(|nth| self.neighbour(nth));
        let closest = |of: &&Id| of.distance(hub);
        shortest()
            .filter(|id| !avoid(id))
            .min_by_key(closest)
            .or_else(|| {
                let away = self.detour(target)?;
                let ways = away.iter().enumerate().filter(|(_, away)| **away != NEVER);
                ways.map(|(nth, away)| (*away, self.neighbour(nth)))
                    .filter(|(_, id)| !avoid(id))
                    .min_by_key(|(away, id)| (*away, id.distance(hub)))
                    .map(|(_, id)| id)
            })
            .or_else(|| shortest().min_by_key(closest))
            .copied()
    }

    /// The hubs on the way to `hub`, without this one and with `hub`: the way
    /// a message goes if every hub on it sees the same links and suspects none.
    pub fn path(&self, hub: &Id) -> Option<Vec<Id>> {
        let target = self.index.find(hub)?;
        let mut left = known(&self.distance, target)? as u32;
        let to_target = self.graph.distances(target, |_| true);
        let (mut at, mut path) = (self.own, Vec::new());
        while left > 0 {
            left -= 1;
            let nearer = self.graph.of(at).iter().map(|end| end.hub as usize);
            at = nearer
                .filter(|&next| to_target[next] == left)
                .min_by_key(|&next| self.index.id(next).distance(hub))?;
            path.push(*self.index.id(at));
        }
        Some(path)
    }

    /// Where to send what is for `target`, a hub or a peer, while no path is
    /// known: up to `n` hubs with an open link, the XOR-closest first, without `exclude`.
    pub fn fallback(&self, target: &Id, exclude: Option<Id>, n: usize) -> Vec<Id> {
        let mut open: Vec<Id> = self.open.iter().filter(|hub| Some(**hub) != exclude).copied().collect();
        open.sort_unstable_by_key(|hub| hub.distance(target));
        open.truncate(n);
        open
    }

    /// Which neighbours begin a shortest path.
    fn first_hops(&self, target: usize) -> impl Iterator<Item = usize> {
        let words = self.hops[target * self.words..][..self.words].iter().enumerate();
        words.flat_map(|(nth, word)| bits(*word).map(move |bit| nth * 64 + bit))
    }

    /// The `nth` hub to which a link counts.
    fn neighbour(&self, nth: usize) -> &Id {
        self.index.id(self.graph.of(self.own)[nth].hub as usize)
    }

    /// How far `target` is from each neighbour, this hub left out.
    fn detour(&self, target: usize) -> Option<&[u32]> {
        if target == self.own {
            return None;
        }
        Some(self.detours[target].get_or_init(|| {
            let distance = self.graph.distances(target, |end| end.hub as usize != self.own);
            self.graph.of(self.own).iter().map(|end| distance[end.hub as usize]).collect()
        }))
    }
}

fn known(distance: &[u32], at: usize) -> Option<usize> {
    distance.get(at).filter(|distance| **distance != NEVER).map(|distance| *distance as usize)
}

/// The places of the ones in a word.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

/// Hands each hub's set of first hops on to those one link further. `order` is
/// that in which the hubs were reached, this one first.
fn first_hops(graph: &Graph, words: usize, distance: &[u32], order: &[u32]) -> Vec<u64> {
    let mut hops = vec![0u64; distance.len() * words];
    let Some((own, others)) = order.split_first() else { return hops };
    for (nth, end) in graph.of(*own as usize).iter().enumerate() {
        hops[end.hub as usize * words + nth / 64] |= 1 << (nth % 64);
    }
    for &at in others {
        let at = at as usize;
        for end in graph.of(at) {
            let to = end.hub as usize;
            if distance[to] == distance[at] + 1 {
                for word in 0..words {
                    hops[to * words + word] |= hops[at * words + word];
                }
            }
        }
    }
    hops
}
