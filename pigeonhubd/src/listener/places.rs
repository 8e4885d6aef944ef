//! How many connections there are, against a limit that may change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One connection; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Places {
    /// One more, unless there are `most` already.
    pub(super) fn take(&self, most: usize) -> Option<Place> {
        let more = |taken: usize| (taken < most).then(|| taken + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_limit_counts_when_places_come_back() {
        let places = Places::default();
        let taken: Vec<Place> = (0..3).filter_map(|_| places.take(3)).collect();
        assert_eq!(taken.len(), 3);
        assert!(places.take(3).is_none());
        let more = places.take(4);
        assert!(more.is_some(), "a higher limit counts at once");
        drop(taken);
        assert!(places.take(1).is_none() && places.take(2).is_some());
    }
}
