//! Readiness, entered and left, and the migration that follows it.

use std::time::Duration;

use crate::control::MeshState;
use crate::event::Event;
use crate::hub::Hub;
use crate::id::Id;
use crate::io::ConnId;
use crate::time::Time;
use crate::wire::mesh::Bye;

/// How long a hub that vanished is still missed: readiness is not had without
/// a link to it if there are too few others.
const MISSED: Duration = Duration::from_secs(60);
/// How long a hub that left readiness waits before it dials its bootstraps again.
const SHORT: Duration = Duration::from_secs(2);
/// How long a hub that is ready stays so while a newcomer gets its link.
const NEWCOMER: Duration = Duration::from_secs(20);

/// Where the mesh stands, as this hub sees it.
#[derive(Debug, Default)]
pub(in crate::hub) struct Readiness {
    /// Since when the mesh is ready; `None` while it is not.
    pub(in crate::hub) since: Option<Time>,
    /// Whether it was ever ready with another hub in it.
    was_linked: bool,
    /// When it was left last.
    left_at: Time,
    /// Data channels when it became ready.
    p2p: usize,
    /// Since when there are too few data channels, while still counted as ready.
    short_since: Option<Time>,
    /// No hub-to-hub WebSocket is left that could go.
    pub(in crate::hub) migrated: bool,
    /// WebSockets closed since the last `HubMeshMigrated`.
    closed: usize,
}

/// What readiness is judged by.
struct Count {
    p2p: usize,
    links: usize,
    /// Other hubs that should have a link: within reach, or missed.
    known: usize,
    missed: usize,
    needed: usize,
}

impl Hub {
    /// The other hubs within reach that take part in the mesh.
    pub(in crate::hub) fn other_members(&self) -> usize {
        self.mesh.members.len().saturating_sub(1)
    }

    fn count(&self) -> Count {
        let now = self.now.mono;
        let missed = self
            .gossip
            .records
            .absent()
            .filter(|(_, absent)| absent.missed && now.since(absent.since) < MISSED)
            .count();
        // A neighbour counts before its record has come.
        let strangers = self.links.strangers();
        debug_assert_eq!(
            strangers,
            self.links
                .neighbours()
                .iter()
                .filter(|link| self.gossip.records.get(&link.hub).is_none())
                .count()
        );
        let known = self.other_members() + strangers + missed;
        // The topology may want fewer links here: with an odd number of hubs
        // of odd degree one has a link less.
        let wanted = if missed + strangers == 0 { self.mesh.wanted.len() } else { known };
        let needed = self.settings.min_peers.min(known).min(wanted);
        Count { p2p: self.links.p2p(), links: self.links.neighbours().len(), known, missed, needed }
    }

    /// Hubs out of reach that readiness still waits for.
    pub(in crate::hub) fn missed(&self) -> usize {
        self.count().missed
    }

    pub(in crate::hub) fn judge_readiness(&mut self) {
        let count = self.count();
        if self.is_enough(&count) {
            self.mesh.readiness.short_since = None;
            // Being ready alone says nothing about being ready with others.
            let first_links = self.mesh.readiness.p2p == 0 && count.p2p > 0;
            if self.mesh.readiness.since.is_none() || first_links {
                self.became_ready(&count);
            }
            return;
        }
        let Some(_) = self.mesh.readiness.since else { return };
        let now = self.now.mono;
        let short = now.since(*self.mesh.readiness.short_since.get_or_insert(now));
        // Links that were lost count at once; hubs that came are given time.
        let growing = count.p2p > 0 && count.p2p >= self.mesh.readiness.p2p && count.missed == 0;
        if !growing || short >= NEWCOMER || self.draining.is_on() {
            self.left_ready(&count);
        }
    }

    fn is_enough(&self, count: &Count) -> bool {
        count.p2p >= count.needed && self.first_round_is_over() && !self.draining.is_on()
    }

    /// Why the mesh is ready, or what it lacks.
    pub(in crate::hub) fn readiness_reason(&self) -> String {
        let count = self.count();
        if self.is_enough(&count) { self.ready_reason(&count) } else { self.unready_reason(&count) }
    }

    fn ready_reason(&self, count: &Count) -> String {
        let mut reason = match (count.p2p, count.known - count.missed) {
            (_, 0) if !self.legacies.is_empty() => String::from("no other hub of the mesh is known"),
            (_, 0) => String::from("no other hub is known"),
            (p2p, known) => format!("{}, {}", number(p2p, "data channel"), number(known, "other hub")),
        };
        if count.missed > 0 {
            reason.push_str(&format!("; {} more out of reach", count.missed));
        }
        if let Some(twin) = self.twin_text() {
            reason.push_str(&format!("; {twin}"));
        } else if self.other_members() == 0
            && let Some(url) = self.joining.bootstraps.leads_to(self.id)
        {
            reason.push_str(&format!("; {url} leads to this hub itself"));
        }
        if let Some(older) = self.older_hubs() {
            reason.push_str(&format!("; {older}"));
        }
        if let Some(rejected) = self.rejected() {
            reason.push_str(&format!("; not joined with {rejected}"));
        }
        reason
    }

    /// While this hub is alone: the bootstrap that a hub answers at with which it does not join, and
    /// why. Whoever started it meant it to.
    pub(in crate::hub) fn rejected(&self) -> Option<String> {
        let alone = self.other_members() == 0 && self.legacies.is_empty();
        self.joining.bootstraps.rejected().filter(|_| alone)
    }

    fn became_ready(&mut self, count: &Count) {
        let readiness = &mut self.mesh.readiness;
        readiness.since = Some(self.now.mono);
        readiness.p2p = count.p2p;
        readiness.was_linked |= count.p2p > 0;
        self.gossip.own.ready = true;
        self.gossip.changed();
        self.counters.became_ready += 1;
        self.event(Event::HubMeshReady { p2p_connections: count.p2p, total_hubs: self.other_members() + 1 });
    }

    fn left_ready(&mut self, count: &Count) {
        let readiness = &mut self.mesh.readiness;
        readiness.since = None;
        readiness.left_at = self.now.mono;
        readiness.migrated = false;
        readiness.short_since = None;
        let was_alone = readiness.p2p == 0;
        readiness.p2p = 0;
        self.gossip.own.ready = false;
        self.gossip.changed();
        if was_alone || self.draining.is_on() {
            // A lone hub that others join is joining, not degraded.
            return;
        }
        let reason = self.unready_reason(count);
        let total_hubs = self.other_members() + 1;
        self.counters.degraded += 1;
        self.event(Event::HubMeshDegraded { p2p_connections: count.p2p, total_hubs, reason });
    }

    fn unready_reason(&self, count: &Count) -> String {
        if self.draining.is_on() {
            return String::from("leaving on purpose");
        }
        if !self.first_round_is_over() {
            return String::from("waiting for the first answer of each bootstrap");
        }
        let failing = self.mesh.wanted.iter().filter(|hub| self.channels.failures(hub) > 0).count();
        let mut reason = format!("{} of {}", count.p2p, number(count.needed, "data channel"));
        if count.missed > 0 {
            reason.push_str(&format!("; {} of {} known hubs out of reach", count.missed, count.known));
        }
        if failing > 0 {
            let fault = self.mesh.wanted.iter().find_map(|hub| self.channels.fault(hub));
            let why = fault.unwrap_or("is UDP blocked?");
            reason.push_str(&format!("; to {} none opens: {why}", number(failing, "hub")));
        }
        if let Some(twin) = self.twin_text() {
            reason.push_str(&format!("; {twin}"));
        }
        reason
    }

    /// Readiness was left, and not just for the moment in which a link is replaced.
    pub(in crate::hub) fn is_short_of_links(&self) -> bool {
        let readiness = &self.mesh.readiness;
        readiness.since.is_none() && readiness.was_linked && self.now.mono.since(readiness.left_at) >= SHORT
    }

    /// The state, for status and events.
    pub(in crate::hub) fn mesh_state(&self) -> MeshState {
        let count = self.count();
        let failing =
            self.mesh.wanted.iter().any(|hub| self.channels.failures(hub) > 0 && !self.links.has_p2p(hub));
        match &self.mesh.readiness {
            _ if self.draining.is_on() => MeshState::Draining,
            readiness if readiness.since.is_some() => MeshState::Ready,
            _ if !self.first_round_is_over() => MeshState::Joining,
            _ if count.links == 0 => MeshState::Isolated,
            readiness if readiness.was_linked || failing => MeshState::Degraded,
            _ => MeshState::Joining,
        }
    }

    /// Closes hub-to-hub WebSockets whose work is done: both ends ready, a path
    /// over data channels, and `migration_delay` past.
    pub(in crate::hub) fn migrate(&mut self) {
        let now = self.now.mono;
        let Some(since) = self.mesh.readiness.since else { return };
        let delay = self.settings.migration_delay;
        let done = |hub: &Id| {
            let ready = self.gossip.records.get(hub).is_some_and(|stored| stored.record.ready);
            ready && self.mesh.routes.p2p_distance(hub).is_some()
        };
        let close: Vec<ConnId> = self
            .links
            .iter()
            .filter(|(_, link)| !link.is_p2p() && now.since(link.opened_at.max(since)) >= delay)
            .filter(|(_, link)| !link.is_fallback() || self.links.has_p2p(&link.hub))
            .filter(|(_, link)| done(&link.hub))
            .map(|(conn, _)| conn)
            .collect();
        self.mesh.readiness.closed += close.len();
        for conn in close {
            self.close_link(conn, Bye::Migrated);
        }
        let sockets = self.links.iter().filter(|(_, link)| !link.is_p2p()).count();
        let migrated = sockets == 0 && now.since(since) >= delay;
        let readiness = &mut self.mesh.readiness;
        // With data channels alone from the start there was nothing to close.
        if migrated && !readiness.migrated && readiness.p2p > 0 && readiness.closed > 0 {
            let migrated_count = std::mem::take(&mut readiness.closed);
            let p2p_connections = self.links.p2p();
            self.event(Event::HubMeshMigrated { migrated_count, p2p_connections });
        }
        self.mesh.readiness.migrated = migrated;
    }

    /// The far end closed a WebSocket because its work is done.
    pub(in crate::hub) fn migrated_by_far_end(&mut self) {
        self.mesh.readiness.closed += 1;
    }
}

/// One and many: `1 hub`, `2 hubs`.
fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
