//! What counts: how often each value of a label came, and how values spread.

use std::marker::PhantomData;
use std::time::Duration;

use super::labels::Label;

/// How often each value of a label was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<L> {
    counts: [u64; MOST],
    label: PhantomData<L>,
}

/// The most values of a label, and buckets of a histogram.
const MOST: usize = 16;

impl<L> Default for Tally<L> {
    fn default() -> Self {
        Self { counts: [0; MOST], label: PhantomData }
    }
}

impl<L: Label> Tally<L> {
    /// One more.
    pub fn count(&mut self, of: L) {
        self.add(of, 1);
    }

    /// So many more.
    pub fn add(&mut self, of: L, more: u64) {
        if let Some(count) = self.counts.get_mut(of.index()) {
            *count += more;
        }
    }

    /// How many so far.
    pub fn get(&self, of: L) -> u64 {
        self.counts.get(of.index()).copied().unwrap_or_default()
    }

    /// Each value and how often.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|label| (*label, self.get(*label)))
    }
}

/// How values are spread over fixed buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: [u64; MOST],
    sum: u64,
    count: u64,
}

impl Histogram {
    pub(super) const fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= MOST);
        Self { bounds, counts: [0; MOST], sum: 0, count: 0 }
    }

    /// One more value.
    pub fn observe(&mut self, value: u64) {
        self.observe_several(value, 1);
    }

    /// So many more values, all the same.
    pub fn observe_several(&mut self, value: u64, more: u64) {
        self.sum = self.sum.saturating_add(value.saturating_mul(more));
        self.count += more;
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket).filter(|_| bucket < self.bounds.len()) {
            *count += more;
        }
    }

    /// One more time, in microseconds.
    pub fn observe_time(&mut self, time: Duration) {
        self.observe_times(time, 1);
    }

    /// So many more times, all the same.
    pub fn observe_times(&mut self, time: Duration, more: u64) {
        self.observe_several(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), more);
    }

    /// Upper bounds, inclusive, and how many values fell into each bucket alone.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().copied().zip(self.counts)
    }

    /// Of all values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Of values, those above the last bound included.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::MOST;

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::new(&[10, 20]);
        for value in [0, 10, 11, 20, 21, u64::MAX] {
            histogram.observe(value);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(10, 2), (20, 2)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, u64::MAX));
    }

    #[test]
    fn each_value_of_a_label_has_a_place_and_a_name() {
        fn check<L: Label>() {
            assert!(L::ALL.len() <= MOST);
            let mut tally = Tally::default();
            for (at, label) in L::ALL.iter().enumerate() {
                assert_eq!(label.index(), at);
                assert!(!label.name().is_empty());
                tally.count(*label);
            }
            assert!(tally.iter().all(|(_, count)| count == 1));
        }
        check::<SessionEnd>();
        check::<TurnedAway>();
        check::<SignalOutcome>();
        check::<Undelivered>();
        check::<LinkKind>();
        check::<LinkEnd>();
        check::<DialOutcome>();
        check::<ChannelOutcome>();
        check::<HubRejection>();
        check::<Refusal>();
    }
}
