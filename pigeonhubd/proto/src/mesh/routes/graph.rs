//! The links that count, between numbered hubs.

use super::Link;
use crate::id::{ID_LEN, Id};

/// The distance of what cannot be reached.
pub(super) const NEVER: u32 = u32::MAX;

/// Hubs in id order; a hub's number is its place in it.
pub(super) struct Index {
    ids: Vec<Id>,
    /// The first eight bytes of each: eight times as many fit a cache line's search.
    heads: Vec<u64>,
}

impl Index {
    pub(super) fn new(mut ids: Vec<Id>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self { heads: ids.iter().map(head).collect(), ids }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, at: usize) -> &Id {
        &self.ids[at]
    }

    pub(super) fn find(&self, id: &Id) -> Option<usize> {
        let head = head(id);
        let first = self.heads.partition_point(|other| *other < head);
        let alike = self.heads[first..].iter().take_while(|other| **other == head).count();
        (first..first + alike).find(|&at| self.ids[at] == *id)
    }
}

fn head(id: &Id) -> u64 {
    const { assert!(ID_LEN >= 8) };
    id.0.iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// One end's word that a link is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    from: u32,
    to: u32,
    /// For the order: P2P comes first.
    websocket: bool,
}

/// What all hubs say of their links.
#[derive(Default)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    /// Notes that `from` lists `link`, unless it leads to a hub that is not known.
    pub(super) fn add(&mut self, index: &Index, from: usize, link: Link) {
        if let Some(to) = index.find(&link.hub)
            && to != from
        {
            self.0.push(Claim { from: from as u32, to: to as u32, websocket: !link.p2p });
        }
    }

    /// The links that both ends list.
    pub(super) fn agree(mut self, hubs: usize) -> Graph {
        self.0.sort_unstable();
        // Two links may be open between the same two while one replaces the other.
        self.0.dedup_by_key(|claim| (claim.from, claim.to));
        let mut rows = vec![0; hubs + 1];
        for claim in &self.0 {
            rows[claim.from as usize + 1] += 1;
        }
        for at in 0..hubs {
            rows[at + 1] += rows[at];
        }
        let mut graph = Graph { start: vec![0], ends: Vec::with_capacity(self.0.len()) };
        for at in 0..hubs {
            for claim in &self.0[rows[at]..rows[at + 1]] {
                let to = claim.to as usize;
                let answers = &self.0[rows[to]..rows[to + 1]];
                if let Ok(found) = answers.binary_search_by_key(&claim.from, |answer| answer.to) {
                    let p2p = !claim.websocket && !answers[found].websocket;
                    graph.ends.push(End { hub: claim.to, p2p });
                }
            }
            graph.start.push(graph.ends.len());
        }
        graph
    }
}

/// The far end of a link.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) hub: u32,
    /// Both ends hold it for a P2P link.
    pub(super) p2p: bool,
}

/// Links in both directions, those of hub `i` at `start[i] .. start[i + 1]`.
pub(super) struct Graph {
    start: Vec<usize>,
    ends: Vec<End>,
}

impl Graph {
    pub(super) fn of(&self, at: usize) -> &[End] {
        &self.ends[self.start[at]..self.start[at + 1]]
    }

    /// Links from `from` to every hub, by breadth-first search over the links
    /// that `take` allows (it gets the number of the hub a link leads to).
    pub(super) fn distances(&self, from: usize, take: impl Fn(&End) -> bool) -> Vec<u32> {
        let mut distance = vec![NEVER; self.start.len() - 1];
        distance[from] = 0;
        let mut queue = vec![from as u32];
        let mut next = 0;
        while let Some(&at) = queue.get(next) {
            next += 1;
            for end in self.of(at as usize) {
                if distance[end.hub as usize] == NEVER && take(end) {
                    distance[end.hub as usize] = distance[at as usize] + 1;
                    queue.push(end.hub);
                }
            }
        }
        distance
    }
}
