//! Signs of life: each client is pinged by a clock of its own, and dropped when it gives none.

use std::collections::BTreeSet;
use std::time::Duration;

use super::counters::SessionEnd;
use super::{Hub, TICK, close};
use crate::io::ConnId;
use crate::time::Time;

/// The longest time between two pings of a client. Many proxies cut a WebSocket that was silent for
/// 30 s or more, and a published client says nothing by itself; what a ping is late by counts too.
pub(super) const PING_EVERY: Duration = Duration::from_secs(23);
/// How long a client has for the answer to a ping, however short `peer_timeout` is.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// A hub that comes this much late to a tick stood still: the machine slept, or somebody stopped it.
const STILL: Duration = Duration::from_millis(300);

/// How long a hub that stood still takes to hear what became of its peers.
const REJOINING: Duration = Duration::from_secs(60);

/// When each client is looked at next, and the time for which this hub stood still.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// In time awake. Those that are over go when their time comes.
    due: BTreeSet<(Time, ConnId)>,
    stood_still: Duration,
    /// Until when that is counted.
    counted: Time,
    /// When it last stood still for so long that other hubs gave its peers up.
    missed: Option<Time>,
}

impl Hub {
    /// The time, without that for which this hub stood still: what clients said then waits in their
    /// sockets, and nobody is judged by it.
    pub(super) fn awake(&self) -> Time {
        self.now.mono - self.pulse.stood_still
    }

    /// Called before each input: whether this hub stood still until now.
    pub(super) fn note_standstill(&mut self) {
        let now = self.now.mono;
        let late = now.since(self.next_tick.max(self.pulse.counted));
        if late > STILL {
            self.pulse.stood_still += late;
            if late >= self.settings.presence_grace {
                self.pulse.missed = Some(now);
            }
            self.pulse.counted = now;
            for legacy in self.legacies.values_mut() {
                legacy.heard_at = (legacy.heard_at + late).min(now);
            }
        }
    }

    /// Whether this hub stood still a moment ago, for so long that its clients may have gone elsewhere.
    pub(super) fn was_missed(&self) -> bool {
        self.pulse.missed.is_some_and(|at| self.now.mono.since(at) < REJOINING)
    }

    /// The time between two pings of a client: twice in `peer_timeout` at least.
    pub(super) fn ping_every(&self) -> Duration {
        PING_EVERY.min(self.settings.cleanup_interval).min(self.settings.peer_timeout / 2)
    }

    /// The first ping of a session that begins, and all others with it, at another time than those
    /// of clients that came at the same moment.
    pub(super) fn schedule_pulse(&mut self, conn: ConnId) {
        let every = self.ping_every();
        // The numbers of those that come together follow each other: this scatters them evenly.
        let scattered = (conn.0 / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let part =
            every.mul_f64(0.25 + 0.75 * f64::from(u32::try_from(scattered).unwrap_or(0)) / 2f64.powi(32));
        self.pulse.due.insert((self.awake() + part, conn));
        self.next_tick = self.next_tick.min(self.next_pulse());
    }

    /// When [`Self::tick_pulse`] has something to do, a tick from now at the earliest: so several
    /// are done at once.
    pub(super) fn next_pulse(&self) -> Time {
        let due = self.pulse.due.first().map_or(Time::NEVER, |(due, _)| *due + self.pulse.stood_still);
        due.max(self.now.mono + TICK)
    }

    /// Pings clients and drops those that were silent for too long.
    pub(super) fn tick_pulse(&mut self) {
        let (now, every, timeout) = (self.awake(), self.ping_every(), self.settings.peer_timeout);
        while let Some((_, conn)) = self.pulse.due.first().copied().filter(|(due, _)| *due <= now) {
            self.pulse.due.pop_first();
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            let judged = |pinged_at: Time| (session.heard_at + timeout).max(pinged_at + ANSWER);
            if session.pinged_at.is_some_and(|pinged_at| judged(pinged_at) <= now) {
                self.close(conn, close::POLICY, "No sign of life");
                self.session_over(conn, SessionEnd::Silent, "no sign of life");
                continue;
            }
            let next = (now + every).min(judged(session.pinged_at.unwrap_or(now)));
            session.pinged_at.get_or_insert(now);
            self.ping(conn);
            self.pulse.due.insert((next, conn));
        }
    }
}
