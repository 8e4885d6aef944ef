//! What follows from a changed mesh: routes, topology, readiness, migration.

mod readiness;

use std::collections::BTreeSet;
use std::time::Duration;

pub(super) use readiness::Readiness;

use super::Hub;
use super::channels::SLACK;
use crate::event::Event;
use crate::id::Id;
use crate::io::ConnId;
use crate::mesh::routes::{Link, OwnLinks, Routes};
use crate::mesh::topology::{self, Member};
use crate::time::Time;
use crate::wire::mesh::Bye;

/// The shortest time between two looks at a mesh whose records change, and
/// what each known hub adds to it: a look at a large mesh costs more.
const SETTLE: Duration = Duration::from_millis(10);
const SETTLE_PER_HUB: Duration = Duration::from_micros(500);
/// From so many hubs on each adds in proportion to their number: there are
/// also more changes to look at together.
const LARGE: u32 = 125;
/// The longest such time. What breaks next door is looked at without waiting.
const MAX_SETTLE: Duration = Duration::from_secs(2);
/// How long an unwanted link is kept, so that the topology can calm down.
const UNWANTED: Duration = Duration::from_secs(3);
/// How long it is kept while wanted ones are still missing.
const UNWANTED_NEEDED: Duration = Duration::from_secs(15);

/// The mesh as this hub sees it now.
pub(super) struct Mesh {
    pub(super) routes: Routes,
    /// The links open here that `routes` is made of, and which state of others' records.
    routed: (Vec<Link>, u64),
    /// The hubs this one should have a data channel with.
    pub(super) wanted: BTreeSet<Id>,
    /// The hubs that `wanted` follows from.
    members: Vec<Member>,
    /// Records or links changed since the last look.
    dirty: bool,
    /// Own links changed: no waiting.
    urgent: bool,
    settled_at: Time,
    pub(super) readiness: Readiness,
}

impl Mesh {
    pub(super) fn new(own: Id, now: Time) -> Self {
        Self {
            routes: Routes::new(own, &[], OwnLinks::Trusted, std::iter::empty::<(Id, Vec<Link>)>()),
            routed: (Vec::new(), 0),
            wanted: BTreeSet::new(),
            members: Vec::new(),
            dirty: true,
            urgent: true,
            settled_at: now,
            readiness: Readiness::default(),
        }
    }
}

impl Hub {
    /// Records changed: to be looked at soon.
    pub(super) fn mesh_changed(&mut self) {
        self.mesh.dirty = true;
    }

    /// Own links changed: to be looked at before the input is done with.
    pub(super) fn mesh_changed_now(&mut self) {
        self.mesh.dirty = true;
        self.mesh.urgent = true;
    }

    pub(super) fn settle_at(&self) -> Time {
        if self.mesh.dirty { self.mesh.settled_at + self.settle_pause() } else { Time::NEVER }
    }

    pub(super) fn settle_pause(&self) -> Duration {
        let hubs = u32::try_from(self.mesh.members.len()).unwrap_or(u32::MAX);
        let each = SETTLE_PER_HUB.saturating_mul(hubs.max(LARGE)) / LARGE;
        (SETTLE + each.saturating_mul(hubs)).min(MAX_SETTLE)
    }

    pub(super) fn is_reachable(&self, hub: &Id) -> bool {
        self.mesh.routes.is_reachable(hub)
    }

    /// The end of every input: what its changes entail.
    pub(super) fn settle(&mut self) {
        if !self.settings.hub_enabled {
            return;
        }
        // What is sent may in turn change links; a few rounds are enough for all.
        for _ in 0..4 {
            if self.mesh.dirty && (self.mesh.urgent || self.now.mono >= self.settle_at()) {
                self.look_at_mesh();
            }
            self.flush_presence();
            self.run_streams();
            self.publish_when_due();
            self.pass_records_on();
            if !self.mesh.urgent {
                break;
            }
        }
    }

    fn look_at_mesh(&mut self) {
        self.mesh.dirty = false;
        self.mesh.urgent = false;
        self.mesh.settled_at = self.now.mono;
        self.find_routes();
        self.note_reachability();
        self.choose_links();
        self.reroute_streams();
        self.presence_check();
        self.judge_readiness();
        self.offer_wanted();
    }

    fn find_routes(&mut self) {
        let outlines = self.gossip.records.outlines();
        let routed = (self.links.neighbours(), outlines.changes());
        if routed == self.mesh.routed {
            return;
        }
        let said = outlines.iter().map(|outline| {
            let links = outline.links.iter().map(|link| Link { hub: link.hub, p2p: link.p2p });
            (outline.hub, links)
        });
        self.mesh.routes = Routes::new(self.id, &routed.0, OwnLinks::Trusted, said);
        self.mesh.routed = routed;
    }

    fn note_reachability(&mut self) {
        let now = self.now.mono;
        let (records, routes) = (&self.gossip.records, &self.mesh.routes);
        let found = records.absent().map(|(hub, _)| *hub).filter(|hub| routes.is_reachable(hub));
        let was_within_reach = |hub: &&Id| records.absent_since(hub).is_none() && records.get(hub).is_some();
        let lost = routes.out_of_reach().filter(was_within_reach).copied();
        let mut changed: Vec<(Id, bool)> =
            found.map(|hub| (hub, true)).chain(lost.map(|hub| (hub, false))).collect();
        changed.sort_unstable();
        for (hub, reachable) in changed {
            self.gossip.records.set_reachable(&hub, reachable, now);
            if reachable {
                self.event(Event::HubRegistered { hub_id: hub });
            } else {
                let left = self.gossip.records.get(&hub).is_some_and(|stored| stored.record.draining);
                let reason = String::from(if left { "it left" } else { "no path leads to it" });
                self.event(Event::HubUnregistered { hub_id: hub, reason });
                if left {
                    // Its peers are told at once: nothing will bring them back.
                    self.hub_lost(hub);
                }
            }
        }
    }

    /// Which links this hub should have, if that changed.
    fn choose_links(&mut self) {
        let mut members: Vec<Member> = self
            .gossip
            .records
            .outlines()
            .iter()
            .filter(|outline| outline.within_reach && !outline.draining)
            .map(|outline| Member { id: outline.hub, max_peers: outline.max_peers })
            .collect();
        members.push(Member { id: self.id, max_peers: self.gossip.own.max_peers });
        if members == self.mesh.members {
            return;
        }
        self.mesh.wanted = topology::wanted(&self.id, &members);
        self.mesh.members = members;
        let wanted = &self.mesh.wanted;
        self.channels.keep_tries(|hub| wanted.contains(hub));
    }

    pub(super) fn tick_mesh(&mut self) {
        let gone = self.gossip.records.expire(self.now.mono);
        self.forget_records(&gone);
        self.forget_hubs(&gone);
        self.judge_readiness();
        self.close_unwanted();
        self.migrate();
    }

    /// Make before break: an unwanted data channel goes once the wanted ones
    /// are open here and the far end can do without it too, or after a while.
    fn close_unwanted(&mut self) {
        let now = self.now.mono;
        let complete = self.mesh.wanted.iter().all(|hub| self.links.has_p2p(hub));
        let mut close = Vec::new();
        let open: Vec<(ConnId, Id)> = self
            .links
            .iter()
            .filter(|(_, link)| link.is_p2p())
            .map(|(conn, link)| (conn, link.hub))
            .collect();
        for (conn, hub) in open {
            let wanted = self.mesh.wanted.contains(&hub);
            let record =
                (!wanted).then(|| self.gossip.records.get(&hub)).flatten().map(|stored| &stored.record);
            let ready = record.is_some_and(|record| record.ready);
            // A hub that leaves closes its links itself, when its clients are gone.
            let draining = record.is_some_and(|record| record.draining);
            let Some(link) = self.links.get_mut(conn) else { continue };
            if wanted || draining {
                link.unwanted_since = None;
                continue;
            }
            let unwanted = now.since(*link.unwanted_since.get_or_insert(now));
            if unwanted >= UNWANTED_NEEDED || unwanted >= UNWANTED && complete && ready {
                close.push(conn);
            }
        }
        for conn in close {
            self.close_link(conn, Bye::Unwanted);
        }
    }

    /// A data channel became a link. While the topology changes fast there may
    /// be more unwanted ones than there is room for: the longest unwanted goes.
    pub(super) fn make_room(&mut self, newest: ConnId) {
        while self.links.p2p() > self.settings.max_peers + SLACK {
            let unwanted = self
                .links
                .iter()
                .filter(|(_, link)| link.is_p2p() && !self.mesh.wanted.contains(&link.hub))
                .min_by_key(|(conn, link)| {
                    (*conn == newest, link.unwanted_since.unwrap_or(Time::NEVER), *conn)
                });
            let Some((conn, _)) = unwanted else { return };
            self.close_link(conn, Bye::Unwanted);
        }
    }
}
