//! When to send again, and how much to have under way.

use std::time::Duration;

use super::WINDOW_MESSAGES;

/// How long to wait for an acknowledgement before anything was measured.
const RTO_INITIAL: Duration = Duration::from_secs(1);
/// The shortest wait: well above a receiver's delay of its acknowledgements.
pub(super) const RTO_MIN: Duration = Duration::from_millis(250);
/// The longest wait: a signal lives some ten seconds, so that it gets a few tries.
pub(super) const RTO_MAX: Duration = Duration::from_secs(3);

/// The round trip and what follows from it (RFC 6298, section 2; back-off as in 5.5).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    /// Smoothed round trip and its variation; none before the first sample.
    measured: Option<(Duration, Duration)>,
    /// Time-outs in a row; each doubles the wait.
    backoff: u8,
}

impl RoundTrip {
    /// A message that was sent only once was acknowledged after `sample` (Karn's rule is the caller's).
    pub(super) fn sample(&mut self, sample: Duration) {
        // No wait is longer than this, so a larger sample would say nothing more.
        let sample = sample.min(RTO_MAX);
        self.measured = Some(match self.measured {
            None => (sample, sample / 2),
            Some((srtt, rttvar)) => ((srtt * 7 + sample) / 8, (rttvar * 3 + srtt.abs_diff(sample)) / 4),
        });
        self.backoff = 0;
    }

    /// The wait after which an unacknowledged message counts as lost.
    pub(super) fn timeout(&self) -> Duration {
        let base = self.measured.map_or(RTO_INITIAL, |(srtt, rttvar)| srtt + rttvar * 4).max(RTO_MIN);
        base.saturating_mul(1 << self.backoff.min(8)).min(RTO_MAX)
    }

    /// The wait was over in vain: wait longer.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The route is another one: the waits in vain say nothing about it.
    pub(super) fn forgive(&mut self) {
        self.backoff = 0;
    }
}

/// Messages that may be under way at once: additive increase, multiplicative
/// decrease (RFC 5681, counted in messages), because a lost datagram here
/// mostly means that some link's queue was full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Messages.
    limit: usize,
    /// Below this the limit grows by one for each acknowledged message, above by one for each full window.
    threshold: usize,
    /// Messages acknowledged since it last grew that way.
    credit: usize,
    /// Losses of transmissions before this one have been answered already.
    answered: u64,
}

/// A stream's first window, in messages: a first burst of presence fits.
const INITIAL: usize = 32;
/// The smallest window: enough later arrivals to notice a loss without a time-out.
const MIN: usize = 4;

impl Window {
    pub(super) fn new() -> Self {
        Self { limit: INITIAL, threshold: WINDOW_MESSAGES, credit: 0, answered: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// `count` messages were acknowledged.
    pub(super) fn acked(&mut self, count: usize) {
        if self.limit < self.threshold {
            self.limit = (self.limit + count).min(self.threshold);
        } else {
            self.credit += count;
            if self.credit >= self.limit {
                self.credit = 0;
                self.limit = (self.limit + 1).min(WINDOW_MESSAGES);
            }
        }
    }

    /// Transmission number `order` was lost, `next` will be the next one's
    /// number. Losses of one window count once.
    pub(super) fn lost(&mut self, order: u64, next: u64) {
        if order >= self.answered {
            self.threshold = (self.limit / 2).max(MIN);
            self.limit = self.threshold;
            self.answered = next;
        }
    }

    /// Nothing was acknowledged for a whole time-out.
    pub(super) fn timed_out(&mut self, next: u64) {
        self.threshold = (self.limit / 2).max(MIN);
        self.limit = MIN;
        self.answered = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_wait_follows_the_round_trip() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.timeout(), RTO_INITIAL);
        trip.sample(MS * 200);
        assert_eq!(trip.timeout(), MS * 600);
        trip.sample(MS * 200);
        assert_eq!(trip.timeout(), MS * 500);
        for _ in 0..100 {
            trip.sample(MS);
        }
        assert_eq!(trip.timeout(), RTO_MIN);
        trip.sample(Duration::MAX);
        assert!(trip.timeout() <= RTO_MAX);
    }

    #[test]
    fn waits_in_vain_double_up_to_the_limit() {
        let mut trip = RoundTrip::default();
        trip.back_off();
        assert_eq!(trip.timeout(), RTO_INITIAL * 2);
        for _ in 0..300 {
            trip.back_off();
        }
        assert_eq!(trip.timeout(), RTO_MAX);
        trip.forgive();
        assert_eq!(trip.timeout(), RTO_INITIAL);
        trip.back_off();
        trip.sample(MS * 100);
        assert_eq!(trip.timeout(), MS * 300);
    }

    #[test]
    fn the_window_halves_once_for_each_window_and_grows_back() {
        let mut window = Window::new();
        window.acked(1000);
        assert_eq!(window.limit(), WINDOW_MESSAGES);
        window.lost(7, 300);
        window.lost(299, 310);
        assert_eq!(window.limit(), WINDOW_MESSAGES / 2);
        window.lost(300, 320);
        assert_eq!(window.limit(), WINDOW_MESSAGES / 4);
        window.acked(WINDOW_MESSAGES / 4);
        assert_eq!(window.limit(), WINDOW_MESSAGES / 4 + 1);
        window.timed_out(400);
        assert_eq!(window.limit(), MIN);
        window.acked(1);
        assert_eq!(window.limit(), MIN + 1);
        for _ in 0..10 {
            window.timed_out(500);
        }
        assert_eq!(window.limit(), MIN);
    }
}
