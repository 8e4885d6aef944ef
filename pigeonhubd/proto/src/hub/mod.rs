//! The hub: one mutation at a time, then drain.
//!
//! | module | what flows there |
//! | --- | --- |
//! | `sessions` | clients' connections: accepting, probing, sweeping |
//! | `clients` | clients' messages: announce, signal, goodbye |
//! | `claims` | whose a peer id is, when two hubs have a connection of it |
//! | `shares` | what the clients of one address take of what all share |
//! | `discovery` | who is told of whom |
//! | `introductions` | who is to be told of whom at other hubs |
//! | `repeats` | announcements that a client makes again |
//! | `rooms` | in which order, in small networks |
//! | `joining` | dials, bootstraps, the WebSocket handshake |
//! | `links` | open links: frames in and out, heartbeats |
//! | `gossip` | records in and out |
//! | `channels` | opening data channels |
//! | `settle` | what follows from a changed mesh: routes, topology, readiness, migration |
//! | `streams` | messages between hubs that need not be neighbours |
//! | `presence` | which peers are at which hub |
//! | `relay` | signals that cross hubs |
//! | `legacy` | older hubs |
//! | `reload` | new settings |
//! | `draining` | leaving on purpose |
//! | `twin` | another hub with the same key |
//! | `probe` | live probes of the way to a hub |
//! | `report` | what `pigeonctl` and `/health` show |
//! | `counters` | figures for monitoring |

mod channels;
mod claims;
mod clients;
pub mod counters;
mod discovery;
mod draining;
mod gossip;
mod introductions;
mod joining;
mod legacy;
mod links;
mod presence;
mod probe;
mod pulse;
mod relay;
mod reload;
mod repeats;
mod report;
mod rooms;
mod sessions;
mod settle;
mod shares;
mod streams;
#[cfg(test)]
mod tests;
mod twin;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use report::FindError;

use crate::directory::Directory;
use crate::event::Event;
use crate::id::Id;
use crate::io::{ClosedBy, ConnId, Input, Output};
use crate::mesh::identity::{Identity, MeshKey, hub_id};
use crate::mesh::keyring::Keyring;
use crate::settings::Settings;
use crate::time::{Now, Time};

/// How often the hub looks at what is overdue.
const TICK: Duration = Duration::from_millis(100);

/// WebSocket close codes that the hub uses (RFC 6455, section 7.4.1).
mod close {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const POLICY: u16 = 1008;
}

/// One hub.
pub struct Hub {
    settings: Settings,
    id: Id,
    identity: Arc<dyn Identity>,
    keyring: Keyring,
    rng: ChaCha8Rng,
    started: Now,
    /// The moment of the input that is being handled.
    now: Now,
    outputs: VecDeque<Output>,
    counters: counters::Counters,
    next_conn: u64,
    next_tick: Time,
    next_sweep: Time,
    draining: draining::Draining,

    pulse: pulse::Pulse,
    sessions: sessions::Sessions,
    directory: Directory,
    legacies: BTreeMap<ConnId, legacy::Legacy>,

    joining: joining::Joining,
    links: links::Links,
    gossip: gossip::Gossip,
    channels: channels::Channels,
    mesh: settle::Mesh,
    streams: streams::Streams,
    presence: presence::Presence,
    claims: claims::Claims,
    introductions: introductions::Introductions,
    rooms: rooms::Rooms,
    repeats: repeats::Repeats,
    shares: shares::Shares,
    relay: relay::Relay,
    probes: probe::Probes,
    twin: Option<twin::Twin>,
}

impl Hub {
    /// A hub that has seen nothing yet; it dials its bootstraps with the first
    /// [`Input::Timer`]. `seed` feeds all its randomness, nonces included: take
    /// it from the system's.
    pub fn new(
        settings: Settings,
        identity: Arc<dyn Identity>,
        key: MeshKey,
        seed: [u8; 32],
        now: Now,
    ) -> Self {
        let id = hub_id(&identity.public_key());
        Self {
            id,
            rng: ChaCha8Rng::from_seed(seed),
            started: now,
            now,
            outputs: VecDeque::new(),
            counters: counters::Counters::default(),
            next_conn: 0,
            next_tick: now.mono,
            next_sweep: now.mono,
            draining: draining::Draining::default(),
            pulse: pulse::Pulse::default(),
            sessions: sessions::Sessions::default(),
            directory: Directory::new(id),
            legacies: BTreeMap::new(),
            joining: joining::Joining::new(&settings),
            links: links::Links::default(),
            gossip: gossip::Gossip::new(identity.public_key(), &settings, now),
            channels: channels::Channels::default(),
            mesh: settle::Mesh::new(id, now.mono),
            streams: streams::Streams::default(),
            presence: presence::Presence::default(),
            claims: claims::Claims::default(),
            introductions: introductions::Introductions::default(),
            rooms: rooms::Rooms::default(),
            repeats: repeats::Repeats::default(),
            shares: shares::Shares::default(),
            relay: relay::Relay::default(),
            probes: probe::Probes::default(),
            twin: None,
            identity,
            keyring: Keyring::new(key),
            settings,
        }
    }

    /// This hub's id.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Takes one input. Afterwards drain [`Self::poll_output`].
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.take(input, now);
        self.flush();
    }

    /// Takes one of several inputs that are at hand. What it entails for other
    /// hubs may wait for [`Self::flush`], which must follow the last of them.
    /// [`Self::poll_output`] may be drained after each of them as well.
    pub fn take(&mut self, input: Input<'_>, now: Now) {
        self.now = now;
        self.note_standstill();
        // Behind it may come more of what sessions gathered before anything else. A tick may end
        // sessions, and what they sent goes before the word that they left.
        let ticks = !matches!(input, Input::Signals { .. });
        match input {
            Input::Accepted { conn, request } => self.accepted(conn, request),
            Input::Dialled { conn, remote } => self.dialled(conn, remote),
            Input::DialFailed { conn, error } => self.dial_failed(conn, error),
            Input::Text { conn, text } => self.text(conn, text),
            Input::Binary { conn, bytes } => self.binary(conn, bytes),
            Input::Signals { hub, bundle } => self.relay_bundle(hub, bundle),
            Input::Pong { conn, number } => self.pong(conn, number),
            Input::Alive { conn } => self.session_alive(conn),
            Input::Closed { conn, reason } => self.closed(conn, &reason),
            Input::ChannelDescription { conn, sdp } => self.channel_description(conn, sdp),
            Input::ChannelCandidate { conn, candidate } => self.channel_candidate(conn, candidate),
            Input::ChannelOpen { conn } => self.channel_open(conn),
            Input::Timer => {}
            Input::Drain { over } => self.drain(over),
            Input::Undrain => self.undrain(),
            Input::Disconnect { peer } => self.disconnect(&peer),
        }
        if ticks && now.mono >= self.next_tick {
            self.tick();
        }
        if ticks {
            self.tell_repeats();
            self.tell_rooms();
        }
        self.settle();
        self.note_direct();
    }

    /// Puts out what waits to go to other hubs in one message with more.
    /// Afterwards drain [`Self::poll_output`].
    pub fn flush(&mut self) {
        self.send_gathered();
        self.transmit_streams();
        self.flush_links();
    }

    /// Says which sessions may pass signals on by themselves, and which no
    /// longer may. The latter before everything else, so that nobody hears a
    /// peer after it was told that the peer left; the former after everything
    /// else, so that no signal overtakes one that was held, nor the news of
    /// its sender.
    fn note_direct(&mut self) {
        for place in self.directory.left().into_iter().rev() {
            self.outputs.push_front(Output::NotDirect(place));
        }
        self.outputs.extend(self.directory.came().into_iter().map(Output::Direct));
    }

    /// What to do next; `None` when all is done until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Timer`], if nothing comes before.
    pub fn poll_timeout(&self) -> Time {
        let mut at = self.next_tick.min(self.rooms.due()).min(self.repeats.due());
        if self.settings.hub_enabled {
            at =
                at.min(self.gossip_at()).min(self.settle_at()).min(self.presence_at()).min(self.streams_at());
        }
        at
    }

    fn tick(&mut self) {
        let paused = self.now.mono.since(self.next_tick);
        self.next_tick = self.now.mono + TICK;
        self.tick_sessions();
        self.continue_draining();
        if self.settings.hub_enabled {
            self.tick_links(paused);
            self.tick_handshakes();
            self.tick_channels();
            self.tick_streams();
            self.tick_relay();
            self.tick_probes();
            self.tick_presence();
            self.tick_claims();
            self.tick_mesh();
            self.tick_bootstraps();
        }
        if self.now.mono >= self.next_sweep {
            self.next_sweep = self.now.mono + self.ping_every();
            self.sweep_legacies();
        }
        self.tick_pulse();
        // With nothing but clients, ticks are needed only to ping them, or while one is probed.
        if !self.settings.hub_enabled && !self.sessions.is_probing() && !self.draining.is_on() {
            self.next_tick = self.next_sweep.min(self.next_pulse());
        }
    }

    fn text(&mut self, conn: ConnId, text: &str) {
        if self.sessions.get(conn).is_some() {
            self.client_text(conn, text);
        } else if self.legacies.contains_key(&conn) {
            self.legacy_text(conn, text);
        } else {
            self.handshake_text(conn, text);
        }
    }

    fn binary(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.links.contains(conn) {
            self.link_message(conn, bytes);
        } else if self.channels.contains(conn) {
            self.channel_proof(conn, bytes);
        } else if self.sessions.get(conn).is_some() {
            self.client_binary(conn);
        } else if self.joining.contains(conn) {
            self.handshake_binary(conn);
        }
    }

    fn pong(&mut self, conn: ConnId, number: Option<u32>) {
        self.session_answered(conn, number);
        if let Some(legacy) = self.legacies.get_mut(&conn) {
            legacy.heard_at = self.now.mono;
        }
    }

    fn closed(&mut self, conn: ConnId, reason: &ClosedBy) {
        if let ClosedBy::Remote { code: close::POLICY, reason } = reason {
            self.turned_away(conn, reason);
        }
        let text = match reason {
            ClosedBy::Remote { code, reason } if reason.is_empty() => {
                format!("closed by the far end ({code})")
            }
            ClosedBy::Remote { code, reason } => format!("closed by the far end ({code} {reason})"),
            ClosedBy::Broken(why) => why.clone(),
            ClosedBy::Local => String::from("closed here"),
        };
        if self.sessions.holds(conn) {
            self.session_over(conn, reason.into(), &text);
        } else if self.links.contains(conn) {
            self.note_migration(conn, reason);
            self.link_over(conn, counters::LinkEnd::Lost, &text);
        } else if self.legacies.contains_key(&conn) {
            self.legacy_over(conn, counters::LinkEnd::Lost, &text);
        } else if self.channels.contains(conn) {
            self.channel_over(conn, &text);
        } else {
            self.handshake_over(conn, &text);
        }
    }

    /// A number for a connection that this hub asks for.
    fn new_conn(&mut self) -> ConnId {
        self.next_conn += 2;
        ConnId(self.next_conn)
    }

    fn send_text(&mut self, conn: ConnId, text: String) {
        self.outputs.push_back(Output::Text { conn, text });
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        // A close frame has room for 123 bytes of reason (RFC 6455, section 5.5).
        let reason = reason.chars().take(100).collect();
        self.outputs.push_back(Output::Close { conn, code, reason });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn random_bytes(&mut self) -> [u8; 32] {
        use rand::RngExt;
        self.rng.random()
    }
}
