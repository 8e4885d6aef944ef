//! Open links: frames in and out, heartbeats.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::counters::{LinkEnd, LinkKind, Refusal};
use super::{Hub, TICK, close};
use crate::event::Event;
use crate::id::Id;
use crate::io::{ClosedBy, ConnId, Output};
use crate::mesh::batch::{self, Batch, Gathered};
use crate::mesh::frame::Framing;
use crate::mesh::routes;
use crate::time::Time;
use crate::wire::mesh::{Bye, LinkFrame, Reads, Routed, UnreadableFrame, decode, encode, encode_onto};

/// How often a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a link is not relied on where there is another way.
const SUSPECT: Duration = Duration::from_millis(1500);
/// Silence after which a link is closed: three heartbeats missed.
const DEAD: Duration = Duration::from_secs(3);

/// WebSockets that one hub dialled beside another one of its own, and has yet to close.
const MAX_DUPLICATES: usize = 4;

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// A WebSocket.
    Socket {
        /// This end dialled.
        dialled_here: bool,
        /// It stands in for a data channel that could not be opened.
        fallback: bool,
    },
    /// A data channel.
    Channel,
}

/// An open, proven link.
pub(super) struct Link {
    pub(super) hub: Id,
    /// Which run of that hub is at the far end, by its own word; 0 before it said so.
    epoch: u64,
    pub(super) transport: Transport,
    framing: Framing,
    /// What the far end reads.
    reads: Reads,
    /// What goes out when the inputs at hand are dealt with.
    batch: Batch,
    pub(super) opened_at: Time,
    pub(super) heard_at: Time,
    beat_at: Time,
    pub(super) rtt: Option<Duration>,
    /// Bytes of messages.
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    /// Heartbeats in a row that told of other records than ours.
    pub(super) differing: u32,
    /// What the far end said before closing.
    bye: Option<Bye>,
    /// Since when the topology does not want it.
    pub(super) unwanted_since: Option<Time>,
    /// The record of its hub is here.
    recorded: bool,
}

impl Link {
    pub(super) fn is_p2p(&self) -> bool {
        self.transport == Transport::Channel
    }

    fn send(&mut self, conn: ConnId, gathered: Gathered, outputs: &mut VecDeque<Output>) {
        for bytes in self.framing.split_in_place(gathered.buffer, gathered.start) {
            self.bytes_sent += bytes.len() as u64;
            outputs.push_back(Output::Binary { conn, bytes });
        }
    }

    fn is_dialled_there(&self) -> bool {
        matches!(self.transport, Transport::Socket { dialled_here: false, .. })
    }

    pub(super) fn is_fallback(&self) -> bool {
        matches!(self.transport, Transport::Socket { fallback: true, .. })
    }
}

/// All open links.
#[derive(Default)]
pub(super) struct Links {
    open: BTreeMap<ConnId, Link>,
    /// Those with something in their batch.
    waiting: BTreeSet<ConnId>,
}

impl Links {
    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.open.contains_key(&conn)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Link)> {
        self.open.iter().map(|(conn, link)| (*conn, link))
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.open.get_mut(&conn)
    }

    pub(super) fn sockets(&self) -> usize {
        self.open.values().filter(|link| !link.is_p2p()).count()
    }

    pub(super) fn p2p(&self) -> usize {
        self.open.values().filter(|link| link.is_p2p()).count()
    }

    /// The link to a neighbour: a data channel rather than a WebSocket.
    pub(super) fn to(&self, hub: &Id) -> Option<(ConnId, &Link)> {
        self.iter().filter(|(_, link)| link.hub == *hub).max_by_key(|(conn, link)| (link.is_p2p(), *conn))
    }

    pub(super) fn socket_to(&self, hub: &Id) -> Option<(ConnId, &Link)> {
        self.iter().find(|(_, link)| link.hub == *hub && !link.is_p2p())
    }

    pub(super) fn has_p2p(&self, hub: &Id) -> bool {
        self.open.values().any(|link| link.hub == *hub && link.is_p2p())
    }

    /// Adds the envelope that `write` appends to what goes over that link with the next
    /// [`Hub::flush`] at the latest.
    pub(super) fn put(
        &mut self,
        conn: ConnId,
        outputs: &mut VecDeque<Output>,
        write: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) {
        let Some(link) = self.open.get_mut(&conn) else { return };
        if let Some(full) = link.batch.push(write) {
            link.send(conn, full, outputs);
        }
        if link.reads.batches {
            self.waiting.insert(conn);
        } else if let Some(alone) = link.batch.take() {
            link.send(conn, alone, outputs);
        }
    }

    /// A WebSocket is to stay: no data channel can take its place now.
    pub(super) fn keep_as_fallback(&mut self, conn: ConnId) {
        if let Some(Link { transport: Transport::Socket { fallback, .. }, .. }) = self.open.get_mut(&conn) {
            *fallback = true;
        }
    }

    /// The record of a hub came, or was forgotten.
    pub(super) fn note_record(&mut self, hub: &Id, recorded: bool) {
        self.open.values_mut().filter(|link| link.hub == *hub).for_each(|link| link.recorded = recorded);
    }

    /// Neighbours whose records have not come.
    pub(super) fn strangers(&self) -> usize {
        let mut hubs: Vec<Id> =
            self.open.values().filter(|link| !link.recorded).map(|link| link.hub).collect();
        hubs.sort_unstable();
        hubs.dedup();
        hubs.len()
    }

    /// As the own record lists them, one a neighbour.
    pub(super) fn neighbours(&self) -> Vec<routes::Link> {
        let link = |link: &Link| routes::Link { hub: link.hub, p2p: link.is_p2p() };
        let mut neighbours: Vec<routes::Link> = self.open.values().map(link).collect();
        neighbours.sort_unstable_by_key(|link| (link.hub, !link.p2p));
        neighbours.dedup_by_key(|link| link.hub);
        neighbours
    }
}

impl Hub {
    pub(super) fn link_up(
        &mut self,
        conn: ConnId,
        hub: Id,
        transport: Transport,
        framing: Framing,
        via: &str,
    ) {
        let now = self.now.mono;
        let recorded = self.gossip.records.get(&hub).is_some();
        let link = Link {
            hub,
            epoch: 0,
            transport,
            framing,
            reads: Reads::default(),
            batch: Batch::default(),
            opened_at: now,
            heard_at: now,
            beat_at: now,
            rtt: None,
            bytes_sent: 0,
            bytes_received: 0,
            differing: 0,
            bye: None,
            unwanted_since: None,
            recorded,
        };
        self.counters.links_opened.count(if link.is_p2p() { LinkKind::P2p } else { LinkKind::Ws });
        self.links.open.insert(conn, link);
        if !recorded {
            self.event(Event::HubDiscovered { hub_id: hub, via: via.to_owned() });
        }
        if transport == Transport::Channel {
            self.event(Event::HubP2pConnected { hub_id: hub });
        }
        self.send_frame(conn, &LinkFrame::Reads(Reads { batches: true }));
        self.send_summary(conn);
        self.close_duplicates(hub, transport == Transport::Channel);
        self.make_room(conn);
        self.links_changed();
    }

    /// Of two links of one kind between the same hubs, one stays. For
    /// WebSockets both ends agree on the one that the larger id dialled, and of
    /// several that one end dialled the choice is that end's: the other may
    /// have seen them open in another order. Else the newer one stays, since
    /// the far end would not have opened it beside one that works.
    fn close_duplicates(&mut self, hub: Id, p2p: bool) {
        let larger_here = self.id > hub;
        let rank = |conn: &ConnId, link: &Link| match link.transport {
            Transport::Socket { dialled_here, .. } => (dialled_here == larger_here, link.opened_at, *conn),
            Transport::Channel => (true, link.opened_at, *conn),
        };
        let mut same: Vec<(ConnId, (bool, Time, ConnId))> = self
            .links
            .iter()
            .filter(|(_, link)| link.hub == hub && link.is_p2p() == p2p)
            .map(|(conn, link)| (conn, rank(&conn, link)))
            .collect();
        same.sort_by_key(|(_, rank)| *rank);
        let Some((_, (best, ..))) = same.pop() else { return };
        let surplus = same.len().saturating_sub(MAX_DUPLICATES);
        for (nth, (conn, (agreed, ..))) in same.into_iter().enumerate() {
            let theirs = self.links.get_mut(conn).is_some_and(|link| link.is_dialled_there());
            if agreed != best || !theirs || nth < surplus {
                self.close_link(conn, Bye::Duplicate);
            }
        }
    }

    /// The far end told which run of its hub it is.
    pub(super) fn far_end_is(&mut self, conn: ConnId, epoch: u64) {
        if let Some(link) = self.links.open.get_mut(&conn) {
            link.epoch = link.epoch.max(epoch);
        }
    }

    /// A hub has started anew: what was open to an earlier run leads nowhere,
    /// and would be relied on until its heartbeats are missed.
    pub(super) fn end_outlived(&mut self, hub: Id, epoch: u64) {
        let earlier = |link: &Link| link.hub == hub && link.epoch != 0 && link.epoch < epoch;
        let outlived: Vec<ConnId> =
            self.links.iter().filter(|(_, link)| earlier(link)).map(|(conn, _)| conn).collect();
        for conn in outlived {
            self.break_link(conn, LinkEnd::Outlived, "its hub has started anew");
        }
    }

    /// Closes a link on purpose.
    pub(super) fn close_link(&mut self, conn: ConnId, bye: Bye) {
        self.flush_link(conn);
        self.send_frame(conn, &LinkFrame::Bye(bye));
        let code = if bye == Bye::Draining { close::GOING_AWAY } else { close::NORMAL };
        self.close(conn, code, bye.text());
        self.link_over(conn, bye.into(), bye.text());
    }

    /// Closes a link whose far end is silent or breaks the rules.
    pub(super) fn break_link(&mut self, conn: ConnId, end: LinkEnd, reason: &str) {
        self.close(conn, close::POLICY, reason);
        self.link_over(conn, end, reason);
    }

    /// The word that a WebSocket is migrated may have met a full queue; its close says so as well. That
    /// is not authenticated, so it counts only beside a data channel.
    pub(super) fn note_migration(&mut self, conn: ConnId, reason: &ClosedBy) {
        let said = |code: u16, reason: &str| code == close::NORMAL && reason == Bye::Migrated.text();
        if !matches!(reason, ClosedBy::Remote { code, reason } if said(*code, reason)) {
            return;
        }
        let hub = self.links.open.get(&conn).map(|link| link.hub);
        if hub.is_some_and(|hub| self.links.has_p2p(&hub))
            && let Some(link) = self.links.open.get_mut(&conn)
        {
            link.bye.get_or_insert(Bye::Migrated);
        }
    }

    pub(super) fn link_over(&mut self, conn: ConnId, end: LinkEnd, reason: &str) {
        let Some(link) = self.links.open.remove(&conn) else { return };
        self.counters.links_closed.count(link.bye.map_or(end, LinkEnd::from));
        let broke = link.bye.is_none() && end == LinkEnd::Lost;
        let reason = if let Some(bye) = link.bye { bye.text() } else { reason };
        if link.bye == Some(Bye::Migrated) {
            self.migrated_by_far_end();
        }
        if link.is_p2p() {
            self.event(Event::HubP2pDisconnected { hub_id: link.hub, reason: reason.to_owned() });
        }
        self.bootstrap_lost(conn, broke, reason);
        self.links_changed();
    }

    fn links_changed(&mut self) {
        self.gossip.own.links = self.listed_links();
        self.gossip.changed();
        self.mesh_changed_now();
    }

    /// Sends a frame over a link. It may be lost if the link is congested.
    pub(super) fn send_frame(&mut self, conn: ConnId, frame: &LinkFrame<'_>) {
        self.send_encoded_frame(conn, &encode(frame));
    }

    pub(super) fn send_encoded_frame(&mut self, conn: ConnId, frame: &[u8]) {
        let Some(link) = self.links.open.get_mut(&conn) else { return };
        for bytes in link.framing.split(frame) {
            link.bytes_sent += bytes.len() as u64;
            self.outputs.push_back(Output::Binary { conn, bytes });
        }
    }

    /// Sends what waits for company.
    pub(super) fn flush_links(&mut self) {
        while let Some(conn) = self.links.waiting.pop_first() {
            self.flush_link(conn);
        }
    }

    fn flush_link(&mut self, conn: ConnId) {
        let Some(link) = self.links.open.get_mut(&conn) else { return };
        if let Some(gathered) = link.batch.take() {
            link.send(conn, gathered, &mut self.outputs);
        }
    }

    pub(super) fn link_message(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = self.now.mono;
        let Some(link) = self.links.open.get_mut(&conn) else { return };
        let hub = link.hub;
        link.bytes_received += bytes.len() as u64;
        let frame = match link.framing.join(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.refuse_frame(hub, &error.to_string());
                return self.break_link(conn, LinkEnd::Violation, &error.to_string());
            }
        };
        // Only what the far end itself has sent, and not for the first time, is a sign of life.
        link.heard_at = now;
        let Some(frame) = frame else { return };
        match decode(&frame) {
            Ok(LinkFrame::Batch(batch)) if !batch::is_within_limit(&batch) => {
                self.refuse_frame(hub, "batch of too many envelopes");
            }
            Ok(frame) => self.link_frame(conn, hub, frame),
            Err(error @ UnreadableFrame) => self.refuse_frame(hub, &error.to_string()),
        }
    }

    fn refuse_frame(&mut self, hub: Id, reason: &str) {
        self.counters.refusals.count(Refusal::Frame);
        self.event(Event::Refused { from: hub.to_string(), reason: reason.to_owned() });
    }

    fn link_frame(&mut self, conn: ConnId, hub: Id, frame: LinkFrame<'_>) {
        match frame {
            LinkFrame::Heartbeat { digest, sent_us } => {
                self.send_frame(conn, &LinkFrame::HeartbeatEcho { sent_us });
                self.compare_digest(conn, digest);
            }
            LinkFrame::HeartbeatEcho { sent_us } => {
                let rtt = self.now.mono.since(Time(sent_us));
                if let Some(link) = self.links.open.get_mut(&conn) {
                    let counters = &mut self.counters;
                    if link.is_p2p() { &mut counters.rtt_p2p } else { &mut counters.rtt_ws }
                        .observe_time(rtt);
                    link.rtt = Some(link.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
                }
            }
            LinkFrame::Summary(summary) => self.got_summary(conn, &summary),
            LinkFrame::Records(records) => self.got_records(conn, hub, &records),
            LinkFrame::Routed(routed) => self.got_routed(hub, routed),
            LinkFrame::Batch(batch) => {
                for routed in batch {
                    self.got_routed(hub, routed);
                    // A stream keeps few messages that nobody has taken from it.
                    self.run_streams();
                }
            }
            LinkFrame::Reads(reads) => {
                if let Some(link) = self.links.open.get_mut(&conn) {
                    link.reads = reads;
                }
            }
            LinkFrame::Probe(probe) => self.got_probe(hub, probe),
            LinkFrame::ProbeReply(reply) => self.got_probe_reply(reply),
            LinkFrame::Bye(bye) => {
                if let Some(link) = self.links.open.get_mut(&conn) {
                    link.bye = Some(bye);
                }
            }
        }
    }

    /// `paused`: how much later than planned the tick came. A hub that was
    /// stopped itself must not hold the silence against its neighbours.
    pub(super) fn tick_links(&mut self, paused: Duration) {
        let now = self.now.mono;
        let forgiven = if paused > TICK * 3 { paused } else { Duration::ZERO };
        let (mut beats, mut dead) = (Vec::new(), Vec::new());
        for (conn, link) in &mut self.links.open {
            link.heard_at = (link.heard_at + forgiven).min(now);
            if now.since(link.heard_at) >= DEAD {
                dead.push(*conn);
            } else if link.beat_at <= now {
                link.beat_at = now + HEARTBEAT;
                beats.push(*conn);
            }
        }
        let digest = self.gossip.digest(self.id);
        for conn in beats {
            self.send_frame(conn, &LinkFrame::Heartbeat { digest, sent_us: now.0 });
        }
        for conn in dead {
            self.break_link(conn, LinkEnd::Silent, "no heartbeat for 3 s");
        }
    }

    /// Whether a neighbour is so quiet that another way is better.
    pub(super) fn is_suspect(&self, hub: &Id) -> bool {
        let now = self.now.mono;
        self.links.to(hub).is_none_or(|(_, link)| now.since(link.heard_at) >= SUSPECT)
    }

    /// Sends something between two hubs one link further, with the next [`Hub::flush`] at the latest.
    pub(super) fn pass_on(&mut self, neighbour: Id, routed: &Routed<'_>) {
        let Some(conn) = self.links.to(&neighbour).map(|(conn, _)| conn) else { return };
        self.links.put(conn, &mut self.outputs, |buffer| encode_onto(routed, buffer));
    }
}
