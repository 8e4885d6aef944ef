//! Which hubs should be linked over P2P.
//!
//! Every hub computes this from the same membership and comes to the same
//! answer, so no negotiation is needed. Few hubs are all linked to each other.
//! Otherwise there is a ring in id order, which keeps the mesh in one piece,
//! and on it random-looking matchings, which keep paths short: a cycle plus a
//! random matching has a diameter of about log2 N (Bollobás and Chung, "The
//! diameter of a cycle plus a random matching", SIAM J. Discrete Math. 1988).
//!
//! The matching is the greedy one by XOR distance between *hashed* ids. The
//! hash makes it independent of the ring; the XOR metric makes it cheap, since
//! the greedy order needs only one pass over the sorted hashes (siblings in
//! their binary trie find each other first) instead of all N² pairs; and a
//! hub that comes or goes moves only those it meets on its way up the trie.

mod graph;
mod matching;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use self::graph::Graph;
use self::matching::Matching;
use crate::id::Id;

/// The most links that a member is given, whatever it says of itself.
pub const MAX_LINKS: u8 = 32;

/// So many matchings are tried before the best of them is taken.
const ATTEMPTS: u64 = 32;

/// A matching will do when its mean path is at most this many percent of the
/// lower bound. Taking the first that will do, rather than the best, keeps
/// most links where they are when a hub comes or goes.
const GOOD_PERCENT: u64 = 121;

/// A hub as the topology sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The hub.
    pub id: Id,
    /// How many P2P links it takes at most. A hub that takes fewer than 2
    /// cannot be part of a ring and is left out; more than [`MAX_LINKS`] count
    /// as that many.
    pub max_peers: u8,
}

/// The hubs to which `own` should hold a P2P link: never more than its
/// `max_peers`, and `a` wants `b` exactly when `b` wants `a`.
///
/// `members` come in any order and include `own`; if they do not, nothing is
/// wanted. About 0.2 ms for 1,000 hubs.
pub fn wanted(own: &Id, members: &[Member]) -> BTreeSet<Id> {
    let plan = Plan::new(members);
    let Ok(at) = plan.ids.binary_search(own) else { return BTreeSet::new() };
    plan.graph.of(at).iter().map(|&to| plan.ids[to as usize]).collect()
}

/// Every wanted link of the mesh, the smaller id first.
pub fn edges(members: &[Member]) -> BTreeSet<(Id, Id)> {
    let plan = Plan::new(members);
    let mut edges = BTreeSet::new();
    for (at, id) in plan.ids.iter().enumerate() {
        let larger = plan.graph.of(at).iter().filter(|&&to| to as usize > at);
        edges.extend(larger.map(|&to| (*id, plan.ids[to as usize])));
    }
    edges
}

/// The whole topology. Hubs are numbered in id order.
struct Plan {
    ids: Vec<Id>,
    graph: Graph,
}

impl Plan {
    fn new(members: &[Member]) -> Self {
        let mut members: Vec<_> = members.iter().filter(|m| m.max_peers >= 2).copied().collect();
        // Should one be listed twice, its smaller limit holds.
        members.sort_unstable_by_key(|m| (m.id, m.max_peers));
        members.dedup_by_key(|m| m.id);
        let ids: Vec<Id> = members.iter().map(|m| m.id).collect();
        let room: Vec<usize> =
            members.iter().map(|m| usize::from(m.max_peers.min(MAX_LINKS)).min(members.len() - 1)).collect();
        Self { graph: lay_out(&ids, &room), ids }
    }
}

fn lay_out(ids: &[Id], room: &[usize]) -> Graph {
    let n = ids.len();
    let mut ring = Graph::new(room);
    if room.iter().all(|&room| room + 1 == n) {
        for a in 0..n {
            (0..a).for_each(|b| ring.link(a, b));
        }
        return ring;
    }
    (0..n).for_each(|at| ring.link(at, (at + 1) % n));

    let folds: Vec<u64> = ids.iter().map(Id::fold).collect();
    let good = lower_bound(room) * GOOD_PERCENT / 100;
    let mut best: Option<(u64, Graph)> = None;
    for attempt in 0..ATTEMPTS {
        let mut matching = Matching::new(ring.clone(), &folds);
        matching.fill(attempt);
        let graph = matching.graph;
        if n > graph::MEASURED {
            return graph;
        }
        let total = graph.total_path();
        if total <= good {
            return graph;
        }
        if best.as_ref().is_none_or(|(least, _)| total < *least) {
            best = Some((total, graph));
        }
    }
    best.map_or(ring, |(_, graph)| graph)
}

/// The sum of the distances of all ordered pairs is at least this: as if from
/// each hub all paths led to hubs not yet seen, as in a Moore graph.
fn lower_bound(room: &[usize]) -> u64 {
    let pairs = (room.len() * room.len().saturating_sub(1)) as u64;
    let ends: u64 = room.iter().map(|&room| room as u64).sum();
    let onward: u64 = room.iter().map(|&room| (room * room.saturating_sub(1)) as u64).sum();
    let (mut left, mut level, mut total) = (pairs, ends, 0);
    for distance in 1.. {
        let here = level.min(left);
        total += distance * here;
        left -= here;
        if left == 0 || here == 0 {
            break;
        }
        level = level * onward / ends;
    }
    total
}
