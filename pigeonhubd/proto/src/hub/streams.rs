//! Messages between hubs that need not be neighbours.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Hub;
use super::counters::{Refusal, Undelivered};
use crate::bundle::MAX_SIGNALS;
use crate::event::Event;
use crate::id::Id;
use crate::io::ConnId;
use crate::mesh::stream::{self, Frame, Parts, Stream, Token, Transmission};
use crate::time::Time;
use crate::wire::mesh::{HubMessage, Routed, decode, encode, encode_routed_onto};

/// Links that a message on the fallback path may cross.
const FALLBACK_HOPS: u8 = 16;
/// Neighbours that a message without a known path is given to.
const FALLBACK_WAYS: usize = 2;
/// The token of messages whose loss need not be told to anybody.
const NO_TOKEN: Token = 0;

/// The stream with one hub.
struct HubStream {
    stream: Stream,
    /// When it wants to be looked at.
    due: Time,
    /// The neighbour over which it sent last.
    via: Option<Id>,
}

/// The streams with all hubs.
#[derive(Default)]
pub(super) struct Streams {
    by_hub: BTreeMap<Id, HubStream>,
    due: BTreeSet<(Time, Id)>,
    /// Those to be looked at for events before the input is done with.
    touched: BTreeSet<Id>,
    /// Those that may have something to send, once the inputs at hand are dealt with.
    sending: BTreeSet<Id>,
    /// Those with something unacknowledged when they were last seen to.
    unacknowledged: BTreeSet<Id>,
    generation: u32,
    last_token: Token,
}

/// Where a frame goes next.
struct Ways {
    /// Neighbours.
    next: Vec<Id>,
    /// Links that it may cross.
    hops: u8,
    /// For what was sent in vain before, if there is one.
    second: Option<Id>,
}

impl Streams {
    pub(super) fn new_token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    fn remove(&mut self, hub: Id) -> Option<HubStream> {
        let with = self.by_hub.remove(&hub)?;
        self.due.remove(&(with.due, hub));
        self.unacknowledged.remove(&hub);
        // Its successor is to be newer: the far end may remember it.
        self.generation = self.generation.max(with.stream.generation());
        Some(with)
    }
}

impl Hub {
    pub(super) fn streams_at(&self) -> Time {
        self.streams.due.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    /// Sends a message to another hub, wherever it is in the mesh.
    pub(super) fn send_to_hub(&mut self, hub: Id, message: &HubMessage<'_>) {
        let deadline = self.message_deadline();
        // A full queue is followed by a reset when its head expires, after which both ends start anew.
        let _ = self.push_to_hub(hub, message, NO_TOKEN, deadline);
    }

    pub(super) fn send_encoded(&mut self, hub: Id, payload: Bytes) {
        let deadline = self.message_deadline();
        let _ = self.push_encoded(hub, payload, NO_TOKEN, deadline);
    }

    /// Unacknowledged messages to all hubs, and their bytes.
    pub(super) fn queued_to_hubs(&self) -> (usize, usize) {
        let queued = self.streams.by_hub.values().map(|with| with.stream.queued());
        queued.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Whether a message that can wait should be sent to that hub now.
    pub(super) fn has_room_for(&self, hub: Id) -> bool {
        self.streams.by_hub.get(&hub).is_none_or(|with| with.stream.queued().0 < stream::WINDOW_MESSAGES)
    }

    /// One for all kinds: a stream is given up when its oldest message is
    /// overdue, so none may have longer than the signals behind it.
    pub(super) fn message_deadline(&self) -> Time {
        self.now.mono + self.settings.signal_timeout
    }

    pub(super) fn push_to_hub(
        &mut self,
        hub: Id,
        message: &HubMessage<'_>,
        token: Token,
        deadline: Time,
    ) -> Result<(), Undelivered> {
        self.push_encoded(hub, encode(message).into(), token, deadline)
    }

    /// The same for a message that is encoded already. Signals that wait for the same hub go first.
    pub(super) fn push_encoded(
        &mut self,
        hub: Id,
        payload: Bytes,
        token: Token,
        deadline: Time,
    ) -> Result<(), Undelivered> {
        self.send_gathered_for(hub);
        self.push_next(hub, payload, token, deadline)
    }

    /// The same, before signals that wait for that hub.
    pub(super) fn push_next(
        &mut self,
        hub: Id,
        payload: Bytes,
        token: Token,
        deadline: Time,
    ) -> Result<(), Undelivered> {
        let Some(with) = self.stream_with(hub) else { return Err(Undelivered::Gone) };
        with.stream.push(payload, token, deadline).map_err(|_| Undelivered::Congested)?;
        self.streams.sending.insert(hub);
        Ok(())
    }

    /// The stream with a hub whose record is known.
    fn stream_with(&mut self, hub: Id) -> Option<&mut HubStream> {
        let remote_epoch = self.gossip.records.get(&hub)?.record.epoch;
        let reachable = self.may_try(&hub);
        let streams = &mut self.streams;
        Some(streams.by_hub.entry(hub).or_insert_with(|| {
            streams.generation += 1;
            let mut stream = Stream::new(self.gossip.own.epoch, remote_epoch, streams.generation);
            stream.set_reachable(reachable);
            HubStream { stream, due: Time::NEVER, via: None }
        }))
    }

    /// Something between two hubs came over a link.
    pub(super) fn got_routed(&mut self, neighbour: Id, routed: Routed<'_>) {
        if routed.dst == self.id {
            return self.got_stream_frame(routed.src, &routed.body);
        }
        let Some(hops) = routed.hops.checked_sub(1).filter(|hops| *hops > 0) else {
            self.counters.stranded += 1;
            return;
        };
        let back = |hub: &Id| *hub == neighbour || self.is_suspect(hub);
        let next = self
            .mesh
            .routes
            .next_hop(&routed.dst, back)
            .or_else(|| self.mesh.routes.fallback(&routed.dst, Some(neighbour), 1).first().copied());
        match next {
            Some(next) => {
                self.counters.forwarded += 1;
                self.pass_on(next, &Routed { hops, ..routed });
            }
            None => self.counters.stranded += 1,
        }
    }

    fn got_stream_frame(&mut self, src: Id, body: &[u8]) {
        let Ok(frame) = decode::<Frame<'_>>(body) else {
            self.counters.refusals.count(Refusal::Frame);
            let reason = String::from("unreadable frame of a stream");
            return self.event(Event::Refused { from: src.to_string(), reason });
        };
        let now = self.now.mono;
        if src == self.id {
            return;
        }
        // Without its record the far end is a stranger; it sends again.
        let Some(with) = self.stream_with(src) else { return };
        // What was dropped, and why, is the far end's to repeat.
        let _ = with.stream.handle_frame(&frame, now);
        self.streams.touched.insert(src);
    }

    /// Parts of the message of that hub that is being handled are of no use here: its sender is to know.
    pub(super) fn refuse_last(&mut self, hub: Id, parts: Parts) {
        if let Some(with) = self.streams.by_hub.get_mut(&hub) {
            with.stream.refuse_last(parts, self.now.mono);
        }
    }

    /// Looks at streams that something happened to, and at those that are due.
    pub(super) fn run_streams(&mut self) {
        let now = self.now.mono;
        while let Some((at, hub)) = self.streams.due.first().copied()
            && at <= now
        {
            self.streams.due.remove(&(at, hub));
            if let Some(with) = self.streams.by_hub.get_mut(&hub) {
                with.due = Time::NEVER;
                with.stream.handle_timeout(now);
            }
            self.streams.touched.insert(hub);
        }
        while let Some(hub) = self.streams.touched.pop_first() {
            self.run_stream(hub);
        }
    }

    fn run_stream(&mut self, hub: Id) {
        while let Some(event) = self.streams.by_hub.get_mut(&hub).and_then(|with| with.stream.poll_event()) {
            match event {
                stream::Event::Delivered(payload) => self.got_hub_message(hub, &payload),
                stream::Event::Restarted | stream::Event::Missed => {
                    self.presence_missed(hub);
                    self.attempt_lost(&hub);
                }
                stream::Event::Acked { token, refused } => self.signals_acked(token, refused),
            }
        }
        self.streams.sending.insert(hub);
    }

    /// Sends what streams have to say. One acknowledgement answers all that came since the last time.
    pub(super) fn transmit_streams(&mut self) {
        while let Some(hub) = self.streams.sending.pop_first() {
            self.transmit_stream(hub);
        }
    }

    fn transmit_stream(&mut self, hub: Id) {
        let now = self.now.mono;
        let may_send = |with: &HubStream| with.stream.has_frame(now);
        let ways = self.streams.by_hub.get(&hub).is_some_and(may_send).then(|| self.ways_to(hub));
        let Self { streams, links, outputs, .. } = self;
        let Some(with) = streams.by_hub.get_mut(&hub) else { return };
        if let Some(ways) = ways {
            let conns = |hubs: &[Id]| -> Vec<ConnId> {
                hubs.iter().filter_map(|hub| links.to(hub)).map(|(conn, _)| conn).collect()
            };
            let (next, second) = (conns(&ways.next), conns(ways.second.as_slice()));
            while let Some(Transmission { frame, in_vain }) = with.stream.poll_transmission(now) {
                for way in next.iter().chain(second.iter().filter(|_| in_vain)) {
                    let write = |buffer| encode_routed_onto(self.id, hub, ways.hops, &frame, buffer);
                    links.put(*way, outputs, write);
                }
            }
        }
        if with.stream.queued().0 > 0 {
            streams.unacknowledged.insert(hub);
        } else {
            streams.unacknowledged.remove(&hub);
        }
        let due = with.stream.poll_timeout();
        if due != with.due {
            streams.due.remove(&(with.due, hub));
            with.due = due;
            if due != Time::NEVER {
                streams.due.insert((due, hub));
            }
        }
    }

    /// The ways to a hub. What was sent in vain before takes a second one too, if there is
    /// one: something on the first may be broken that nobody has noticed yet.
    fn ways_to(&mut self, dst: Id) -> Ways {
        let next = self.mesh.routes.next_hop(&dst, |hub| self.is_suspect(hub));
        if let Some(with) = self.streams.by_hub.get_mut(&dst) {
            with.via = next;
        }
        let (next, hops) = match next {
            Some(next) => {
                // Room for the detours of a path that changes under way.
                let length = self.mesh.routes.distance(&dst).unwrap_or_default();
                (vec![next], u8::try_from(2 * length + 8).unwrap_or(u8::MAX))
            }
            None => (self.mesh.routes.fallback(&dst, None, FALLBACK_WAYS), FALLBACK_HOPS),
        };
        let taken = |hub: &Id| next.contains(hub) || self.is_suspect(hub);
        let second = self.mesh.routes.next_hop(&dst, taken).filter(|hub| !next.contains(hub));
        Ways { next, hops, second }
    }

    fn got_hub_message(&mut self, hub: Id, payload: &[u8]) {
        match decode(payload) {
            Ok(HubMessage::Signals(signals)) if signals.len() <= MAX_SIGNALS => {
                self.got_signals(hub, &signals);
            }
            Ok(HubMessage::Signals(_)) => self.refuse_message(hub, "more signals than one message may have"),
            Ok(HubMessage::Subscribe { network, subscription, spare: _ }) => {
                self.got_subscribe(hub, network.as_deref(), subscription);
            }
            Ok(HubMessage::Unsubscribe { network }) => self.got_unsubscribe(hub, network.as_deref()),
            Ok(HubMessage::Presence { network, subscription, changes, complete }) => {
                self.got_presence(hub, network.as_deref(), subscription, changes, complete);
            }
            Ok(HubMessage::Introduce { network, peer, to }) => self.introduced(&network, peer, &to),
            Ok(HubMessage::Goodbye { network, peer }) => self.got_goodbye(hub, &network, peer),
            Ok(HubMessage::Ask { network, peer, number }) => self.got_ask(hub, &network, peer, number),
            Ok(HubMessage::Answer { number, kept }) => self.got_answer(hub, number, kept),
            Ok(HubMessage::Keeps { network, peer, stamp }) => self.got_keeps(hub, &network, peer, stamp),
            Ok(HubMessage::Takes { network, peer }) => self.got_takes(&network, peer),
            Ok(HubMessage::Back { .. }) => {}
            Ok(HubMessage::Channel { attempt, step }) => self.channel_step(hub, attempt, step),
            Err(error) => self.refuse_message(hub, &error.to_string()),
        }
    }

    fn refuse_message(&mut self, hub: Id, reason: &str) {
        self.counters.refusals.count(Refusal::HubMessage);
        self.event(Event::Refused { from: hub.to_string(), reason: reason.to_owned() });
    }

    /// Whether sending to a hub makes sense: a path is known, or one was a
    /// moment ago and the neighbours may know better.
    fn may_try(&self, hub: &Id) -> bool {
        let lately = |at| self.now.mono.since(at) < self.settings.presence_grace;
        let stored = self.gossip.records.get(hub);
        self.is_reachable(hub) || stored.is_some_and(|stored| stored.unreachable_since.is_some_and(lately))
    }

    /// The mesh changed: which streams can send, and which must send again
    /// because their way is another one.
    pub(super) fn reroute_streams(&mut self) {
        let suspects: BTreeSet<Id> =
            self.links.neighbours().iter().map(|link| link.hub).filter(|hub| self.is_suspect(hub)).collect();
        let tried: Vec<bool> = self.streams.by_hub.keys().map(|hub| self.may_try(hub)).collect();
        for ((hub, with), tried) in self.streams.by_hub.iter_mut().zip(tried) {
            with.stream.set_reachable(tried);
            if with.stream.queued().0 > 0 {
                let next = self.mesh.routes.next_hop(hub, |hub| suspects.contains(hub));
                if next != with.via {
                    with.stream.rerouted();
                }
                self.streams.touched.insert(*hub);
            }
        }
    }

    /// Gives up on streams whose oldest message is overdue.
    pub(super) fn tick_streams(&mut self) {
        let now = self.now.mono;
        let streams = &self.streams;
        let expired = |hub: &&Id| streams.by_hub.get(*hub).is_some_and(|with| with.stream.expired(now));
        let expired: Vec<Id> = streams.unacknowledged.iter().filter(expired).copied().collect();
        for hub in expired {
            self.reset_stream(hub);
        }
    }

    /// Drops all that is unacknowledged and starts anew.
    pub(super) fn reset_stream(&mut self, hub: Id) {
        let Some(with) = self.streams.by_hub.get_mut(&hub) else { return };
        let tokens = with.stream.reset();
        self.stream_was_reset(hub, &tokens);
    }

    /// Another run of a hub: nothing said to the one before counts.
    pub(super) fn hub_restarted(&mut self, hub: Id) {
        let Some(epoch) = self.gossip.records.get(&hub).map(|stored| stored.record.epoch) else { return };
        let Some(with) = self.streams.by_hub.get_mut(&hub) else { return };
        let tokens = with.stream.set_remote_epoch(epoch);
        self.stream_was_reset(hub, &tokens);
    }

    fn stream_was_reset(&mut self, hub: Id, tokens: &[Token]) {
        for token in tokens {
            self.signals_lost(*token);
        }
        self.streams.touched.insert(hub);
        self.presence_unsent(hub);
        self.attempt_lost(&hub);
    }

    /// This hub counts as started anew: so do all its streams.
    pub(super) fn restart_streams(&mut self) {
        let hubs: Vec<Id> = self.streams.by_hub.keys().copied().collect();
        for hub in hubs {
            let Some(mut with) = self.streams.remove(hub) else { continue };
            for token in with.stream.reset() {
                self.signals_lost(token);
            }
            // What is asked again goes on the new stream.
            self.presence_missed(hub);
            self.attempt_lost(&hub);
        }
    }

    /// Forgets hubs that were out of reach for so long that their records went.
    pub(super) fn forget_hubs(&mut self, gone: &[Id]) {
        for hub in gone {
            self.streams.remove(*hub);
        }
    }
}
