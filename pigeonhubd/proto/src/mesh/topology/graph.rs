//! Links between numbered hubs.

/// Up to this many hubs a matching is measured, and replaced if its paths are
/// long. Beyond it chance alone is reliable enough. (One bit each in a word.)
pub(super) const MEASURED: usize = 128;

/// Links between numbered hubs, with a fixed room for each.
#[derive(Clone)]
pub(super) struct Graph {
    /// Hub `i` has `start[i] .. start[i + 1]` of `links`.
    start: Vec<usize>,
    /// How much of that is in use.
    degree: Vec<usize>,
    links: Vec<u32>,
}

impl Graph {
    pub(super) fn new(room: &[usize]) -> Self {
        let mut start = vec![0];
        let mut end = 0;
        for room in room {
            end += room;
            start.push(end);
        }
        Self { start, degree: vec![0; room.len()], links: vec![0; end] }
    }

    pub(super) fn of(&self, at: usize) -> &[u32] {
        let start = self.start[at];
        &self.links[start..start + self.degree[at]]
    }

    pub(super) fn linked(&self, a: usize, b: usize) -> bool {
        self.of(a).contains(&(b as u32))
    }

    /// Links that `at` may still take.
    pub(super) fn spare(&self, at: usize) -> usize {
        self.start[at + 1] - self.start[at] - self.degree[at]
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        self.attach(a, b);
        self.attach(b, a);
    }

    /// Half a link.
    pub(super) fn attach(&mut self, from: usize, to: usize) {
        self.links[self.start[from] + self.degree[from]] = to as u32;
        self.degree[from] += 1;
    }

    /// Half a link in the place of another.
    pub(super) fn reattach(&mut self, from: usize, old: usize, new: usize) {
        let start = self.start[from];
        let held = &mut self.links[start..start + self.degree[from]];
        held.iter_mut().filter(|to| **to == old as u32).for_each(|to| *to = new as u32);
    }

    /// The sum of the distances of all ordered pairs, of up to [`MEASURED`] hubs in one piece.
    pub(super) fn total_path(&self) -> u64 {
        let n = self.degree.len();
        let near: Vec<u128> = (0..n).map(|at| self.of(at).iter().fold(0, |set, &to| set | 1 << to)).collect();
        let mut total = 0;
        for at in 0..n {
            let mut seen = 1u128 << at;
            let mut edge = seen;
            let mut distance = 0;
            while edge != 0 {
                let mut next = 0;
                while edge != 0 {
                    next |= near[edge.trailing_zeros() as usize];
                    edge &= edge - 1;
                }
                edge = next & !seen;
                seen |= edge;
                distance += 1;
                total += distance * u64::from(edge.count_ones());
            }
        }
        total
    }
}
