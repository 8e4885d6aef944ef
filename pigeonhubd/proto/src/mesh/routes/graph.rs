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
        // The stable sort is the quicker one for ids that are nearly in order.
        ids.sort();
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

/// What all hubs say of their links.
pub(super) struct Claims(Vec<(u32, End)>);

impl Claims {
    /// With room for so many.
    pub(super) fn with_capacity(claims: usize) -> Self {
        Self(Vec::with_capacity(claims))
    }

    /// Notes that `from` lists `link`, unless it leads to a hub that is not known.
    pub(super) fn add(&mut self, index: &Index, from: usize, link: Link) {
        if let Some(to) = index.find(&link.hub)
            && to != from
        {
            self.0.push((from as u32, End { hub: to as u32, p2p: link.p2p }));
        }
    }

    /// The links that both ends list.
    pub(super) fn agree(self, hubs: usize) -> Graph {
        let said = self.into_graph(hubs);
        let mut graph = Graph { start: vec![0], ends: Vec::with_capacity(said.ends.len()) };
        for at in 0..hubs {
            let mut last = None;
            for end in said.of(at) {
                // Two links may be open between the same two while one replaces the other.
                if last.replace(end.hub) != Some(end.hub)
                    && let Some(answer) = said.claim(end.hub as usize, at)
                {
                    graph.ends.push(End { hub: end.hub, p2p: end.p2p && answer.p2p });
                }
            }
            graph.start.push(graph.ends.len());
        }
        graph
    }

    /// What each hub says, whoever agrees: in order, P2P first.
    fn into_graph(self, hubs: usize) -> Graph {
        // A counting sort by hub, then each hub's few links by themselves.
        let mut start = vec![0; hubs + 1];
        for (from, _) in &self.0 {
            start[*from as usize + 1] += 1;
        }
        for at in 0..hubs {
            start[at + 1] += start[at];
        }
        let mut ends = vec![End { hub: 0, p2p: false }; self.0.len()];
        let mut next = start.clone();
        for (from, end) in self.0 {
            let slot = &mut next[from as usize];
            ends[*slot] = end;
            *slot += 1;
        }
        for row in start.windows(2) {
            ends[row[0]..row[1]].sort_unstable_by_key(|end| (end.hub, !end.p2p));
        }
        Graph { start, ends }
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
    pub(super) fn is_all_p2p(&self) -> bool {
        self.ends.iter().all(|end| end.p2p)
    }

    pub(super) fn of(&self, at: usize) -> &[End] {
        &self.ends[self.start[at]..self.start[at + 1]]
    }

    /// The first link from `from` to `to`.
    fn claim(&self, from: usize, to: usize) -> Option<&End> {
        let row = self.of(from);
        row.get(row.partition_point(|end| (end.hub as usize) < to)).filter(|end| end.hub as usize == to)
    }

    /// Links from `from` to every hub, by breadth-first search over the links
    /// that `take` allows.
    pub(super) fn distances(&self, from: usize, take: impl Fn(&End) -> bool) -> Vec<u32> {
        self.search(from, take).0
    }

    /// The same, and the hubs in the order in which they were reached.
    pub(super) fn search(&self, from: usize, take: impl Fn(&End) -> bool) -> (Vec<u32>, Vec<u32>) {
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
        (distance, queue)
    }
}
