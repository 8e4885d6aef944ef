//! Whether the driver works, for those who ask without waiting for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A turn of the driver that takes longer stands still: as long as the unit's `WatchdogSec=`.
pub const STANDSTILL: Duration = Duration::from_secs(30);

/// Since when the driver is in the turn that it is in.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// In ms since the origin, and one more; 0 between two turns.
    busy_since: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), busy_since: AtomicU64::new(0) }
    }
}

impl Pulse {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A turn begins.
    pub fn begin(&self) {
        self.begin_at(self.now());
    }

    fn begin_at(&self, now: u64) {
        self.busy_since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// It is over.
    pub fn end(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    /// How long the driver has stood still, if it has.
    pub fn standstill(&self) -> Option<Duration> {
        self.standstill_at(self.now())
    }

    fn standstill_at(&self, now: u64) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        let lasts = Duration::from_millis(now.saturating_sub(since));
        (lasts >= STANDSTILL).then_some(lasts)
    }
}

#[cfg(test)]
mod tests {
    use pigeonhub_proto::control::Command;

    use super::*;
    use crate::edge::{AskError, Edge, NotAlive, QUERY_QUEUE};

    #[test]
    fn a_turn_that_takes_too_long_is_a_standstill() {
        let pulse = Pulse::default();
        assert_eq!(pulse.standstill_at(1 << 40), None, "it has nothing to do");
        pulse.begin_at(5_000);
        assert_eq!(pulse.standstill_at(34_999), None);
        assert_eq!(pulse.standstill_at(35_000), Some(STANDSTILL));
        pulse.end();
        assert_eq!(pulse.standstill_at(35_000), None);
    }

    #[tokio::test]
    async fn it_is_alive_though_too_many_ask_to_be_answered() {
        let (edge, intake) = Edge::new();
        let asks = (0..QUERY_QUEUE).map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move { edge.ask(Command::Status).await })
        });
        let asks: Vec<_> = asks.collect();
        tokio::task::yield_now().await;
        assert_eq!(edge.ask(Command::Status).await.err(), Some(AskError::Busy));
        assert_eq!(edge.alive(), Ok(()));
        drop(intake);
        assert_eq!(edge.alive(), Err(NotAlive::Gone));
        asks.into_iter().for_each(|ask| ask.abort());
    }
}
