//! What waits to be read on all WebSockets together. Each queue has a limit of
//! its own; ten thousand of them at that limit would be the hub's memory.
//!
//! Counted in units, so that queues that are all but empty, which is what
//! nearly all are nearly always, touch nothing that others share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What one queue may hold however full the others are, in bytes.
pub const SHARE: usize = 64 * 1024;

/// Bytes that may wait in all queues together. Beyond it a queue that holds
/// more than its share gets no more.
pub const MOST: usize = 256 * 1024 * 1024;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Bytes that wait in all queues of this process, to within a share each.
pub fn bytes() -> usize {
    WAITING.load(Ordering::Relaxed) * SHARE
}

/// One queue's part of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct Part {
    of: &'static AtomicUsize,
    units: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self { of: &WAITING, units: 0 }
    }
}

impl Part {
    /// Whether the queue may hold so many bytes.
    pub(crate) fn may_be(&self, bytes: usize) -> bool {
        bytes <= SHARE || self.of.load(Ordering::Relaxed) < MOST / SHARE
    }

    /// It holds so many now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let units = bytes / SHARE;
        if units > self.units {
            self.of.fetch_add(units - self.units, Ordering::Relaxed);
        } else if units < self.units {
            self.of.fetch_sub(self.units - units, Ordering::Relaxed);
        }
        self.units = units;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queues_together_have_a_limit_and_each_its_share() {
        static OF: AtomicUsize = AtomicUsize::new(0);
        let part = || Part { of: &OF, units: 0 };
        const EACH: usize = 4 * 1024 * 1024;
        let mut full: Vec<Part> = (0..MOST / EACH).map(|_| part()).collect();
        for part in &mut full {
            assert!(part.may_be(EACH));
            part.set(EACH);
        }
        let mut late = part();
        assert!(late.may_be(SHARE) && !late.may_be(SHARE + 1));
        late.set(SHARE - 1);
        assert_eq!(OF.load(Ordering::Relaxed), MOST / SHARE, "less than a unit counts nothing");
        full[0].set(EACH / 2);
        assert!(late.may_be(EACH), "there is room again");
        drop((full, late));
        assert_eq!(OF.load(Ordering::Relaxed), 0);
    }
}
