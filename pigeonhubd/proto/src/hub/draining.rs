//! Leaving on purpose, and coming back.
//!
//! The record says at once that this hub drains, so the others plan without
//! it. Clients are closed one after another, so that they do not all reconnect
//! elsewhere in one moment; their signals still flow. The links go last.

use std::time::Duration;

use super::counters::{LinkEnd, SessionEnd};
use super::{Hub, close};
use crate::io::ConnId;
use crate::time::Time;
use crate::wire::mesh::Bye;

/// True of one that is only drained and of one that stops.
pub(super) const REASON: &str = "This hub is leaving the mesh; connect again";

/// How far leaving is.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// When the last client is to be gone; `None` while not draining.
    until: Option<Time>,
    /// The links are closed too.
    left: bool,
}

impl Draining {
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }
}

impl Hub {
    /// A hub that was told to drain has told everyone and may be dropped.
    pub fn is_drained(&self) -> bool {
        self.draining.left && self.sessions.is_empty() && self.links.is_empty() && self.legacies.is_empty()
    }

    pub(super) fn drain(&mut self, over: Duration) {
        // Being told again may only make it faster.
        let until = self.now.mono + over;
        if self.draining.until.is_some_and(|at| at <= until) {
            return;
        }
        self.draining.until = Some(until);
        self.gossip.own.draining = true;
        self.gossip.own.ready = false;
        self.publish();
        self.refuse_waiting();
        self.mesh_changed_now();
        self.continue_draining();
    }

    /// Takes part again, with clients and in the mesh.
    pub(super) fn undrain(&mut self) {
        if !self.draining.is_on() {
            return;
        }
        self.draining = Draining::default();
        self.gossip.own.draining = false;
        self.gossip.changed();
        self.redial_bootstraps();
        self.mesh_changed_now();
        self.next_tick = self.next_tick.min(self.now.mono);
    }

    /// Closes as many clients as it is time for, and when all are gone the rest.
    pub(super) fn continue_draining(&mut self) {
        let Some(until) = self.draining.until.filter(|_| !self.draining.left) else { return };
        let left = until.since(self.now.mono);
        let open = self.sessions.conns();
        let ticks =
            u32::try_from(left.as_micros() / super::TICK.as_micros()).unwrap_or(u32::MAX).saturating_add(1);
        let share = open.len().div_ceil(ticks as usize);
        for conn in open.iter().take(share) {
            self.close(*conn, close::GOING_AWAY, REASON);
            self.session_over(*conn, SessionEnd::Draining, "this hub is leaving");
        }
        if self.sessions.is_empty() {
            self.draining.left = true;
            self.leave_mesh();
        }
        self.next_tick = self.next_tick.min(self.now.mono + super::TICK);
    }

    fn leave_mesh(&mut self) {
        // What the last clients said, and what their leaving means to other hubs, goes out before the links do.
        self.presence_now();
        self.flush_presence();
        self.send_gathered();
        self.run_streams();
        self.transmit_streams();
        self.publish();
        let links: Vec<ConnId> = self.links.iter().map(|(conn, _)| conn).collect();
        for conn in links {
            self.close_link(conn, Bye::Draining);
        }
        let legacies: Vec<ConnId> = self.legacies.keys().copied().collect();
        for conn in legacies {
            self.close(conn, close::GOING_AWAY, REASON);
            self.legacy_over(conn, LinkEnd::Draining, "this hub is leaving");
        }
    }
}
