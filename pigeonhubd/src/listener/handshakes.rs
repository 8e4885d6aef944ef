//! Connections that are not sessions yet: so many, and the oldest has to go
//! for a new one. An honest caller is through in a moment; who is slow on
//! purpose cannot keep others waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// All of them, the oldest first. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes(Arc<Mutex<VecDeque<Arc<Slot>>>>);

#[derive(Debug, Default)]
struct Slot {
    over: AtomicBool,
    cut: Notify,
}

/// One of them; over when dropped.
#[derive(Debug, Default)]
pub struct Handshake(Arc<Slot>);

impl Handshakes {
    /// One more; with `most` under way the oldest is cut off.
    pub(super) fn begin(&self, most: usize) -> Handshake {
        let slot = Arc::new(Slot::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while all.front().is_some_and(|oldest| oldest.over.load(Ordering::Relaxed)) {
            all.pop_front();
        }
        if all.len() >= most {
            all.retain(|slot| !slot.over.load(Ordering::Relaxed));
        }
        if all.len() >= most
            && let Some(oldest) = all.pop_front()
        {
            oldest.cut.notify_one();
        }
        all.push_back(Arc::clone(&slot));
        Handshake(slot)
    }
}

impl Handshake {
    /// Waits until a newer one needs the place.
    pub async fn cut(&self) {
        self.0.cut.notified().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_that_is_not_over_has_to_go() {
        let all = Handshakes::default();
        let [first, second, third] = std::array::from_fn(|_| all.begin(3));
        let cut = |handshake: &Handshake| handshake.cut().now_or_never().is_some();
        drop(second);
        let fourth = all.begin(3);
        assert!(!cut(&first), "there is room");
        let _fifth = all.begin(3);
        assert!(cut(&first) && !cut(&third) && !cut(&fourth));
        for _ in 0..100 {
            drop(all.begin(3));
        }
        assert!(all.0.lock().expect("no panic").len() <= 3);
    }
}
