//! A ring filled up with greedy matchings.

use super::graph::Graph;

/// A hub in a matching: the hash of its id, and its number.
pub(super) type Keyed = (u64, usize);

/// A ring that is filled up with matchings.
pub(super) struct Matching<'a> {
    folds: &'a [u64],
    pub(super) graph: Graph,
    /// The links that were added to the ring.
    chords: Vec<(usize, usize)>,
}

impl<'a> Matching<'a> {
    pub(super) fn new(ring: Graph, folds: &'a [u64]) -> Self {
        Self { folds, graph: ring, chords: Vec::new() }
    }

    /// Adds a matching of all that have room, again and again.
    pub(super) fn fill(&mut self, attempt: u64) {
        for round in 0.. {
            let mut free = self.free(mix(attempt << 32 | round));
            let before = self.chords.len();
            let left = self.pair_up(&mut free);
            for two in free[..left].chunks_exact(2) {
                self.splice(two[0], two[1]);
            }
            if let [one] = free[..]
                && self.graph.spare(one.1) >= 2
            {
                self.splice(one, one);
            }
            if self.chords.len() == before {
                return;
            }
        }
    }

    /// Those that have room for a link, in the order of their hashes.
    pub(super) fn free(&self, salt: u64) -> Vec<Keyed> {
        let mut free: Vec<Keyed> = (0..self.folds.len())
            .filter(|&at| self.graph.spare(at) > 0)
            .map(|at| (mix(self.folds[at] ^ salt), at))
            .collect();
        free.sort_unstable();
        free
    }

    /// Links the hubs of `free`, sorted, greedily by the XOR of their hashes,
    /// except those already linked. How many are left over; they stand in front.
    pub(super) fn pair_up(&mut self, free: &mut [Keyed]) -> usize {
        let (Some(first), Some(last)) = (free.first(), free.last()) else { return 0 };
        let differ = first.0 ^ last.0;
        if differ == 0 {
            // One hub; more of the same hash do not occur by chance, and must look further.
            return free.len();
        }
        // Within a half every XOR is less than across, so each half is done first.
        let top = 1 << differ.ilog2();
        let middle = free.partition_point(|(key, _)| key & top == 0);
        let (low, high) = free.split_at_mut(middle);
        let (mut lows, mut highs) = (self.pair_up(low), self.pair_up(high));
        while let Some((a, b)) = self.closest(&low[..lows], &high[..highs]) {
            self.add(low[a].1, high[b].1);
            (lows, highs) = (lows - 1, highs - 1);
            low.swap(a, lows);
            high.swap(b, highs);
        }
        free.copy_within(middle..middle + highs, lows);
        lows + highs
    }

    /// The positions of the two that are XOR-closest and not linked.
    fn closest(&self, low: &[Keyed], high: &[Keyed]) -> Option<(usize, usize)> {
        let mut best = None;
        for (a, (a_key, a_at)) in low.iter().enumerate() {
            for (b, (b_key, b_at)) in high.iter().enumerate() {
                let rank = a_key ^ b_key;
                if best.is_none_or(|(least, _)| rank < least) && !self.graph.linked(*a_at, *b_at) {
                    best = Some((rank, (a, b)));
                }
            }
        }
        best.map(|(_, at)| at)
    }

    fn add(&mut self, a: usize, b: usize) {
        self.graph.link(a, b);
        self.chords.push((a, b));
    }

    /// Gives two that are left over (or one that lacks two links) a link each,
    /// by putting them between the two ends of a chord.
    fn splice(&mut self, u: Keyed, v: Keyed) {
        let may = |hub, end| hub != end && !self.graph.linked(hub, end);
        let fits = |&(a, b): &(usize, usize)| may(u.1, a) && may(v.1, b) && u.1 != b && v.1 != a;
        // By hash, so that the choice does not depend on who else is there.
        let rank = |&(a, b): &(usize, usize)| mix(u.0 ^ self.folds[a]) ^ mix(!v.0 ^ self.folds[b]);
        let turned = self.chords.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        let Some((a, b)) = turned.filter(fits).min_by_key(rank) else { return };
        self.chords.retain(|&chord| chord != (a, b) && chord != (b, a));
        self.graph.reattach(a, b, u.1);
        self.graph.reattach(b, a, v.1);
        for (end, to) in [(u.1, a), (v.1, b)] {
            self.graph.attach(end, to);
            self.chords.push((end, to));
        }
    }
}

/// Mixes all 64 bits (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
