//! The one owner of the hub, and of the clock.

mod questions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pigeonhub_proto::control::{Answer, Status};
use pigeonhub_proto::event::Event;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::io::{Input, Output};
use pigeonhub_proto::mesh::identity::MeshKey;
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::channel::{ChannelConfig, ChannelEvent};
use crate::connections::Connections;
use crate::edge::{EdgeEvent, Intake, Refusal};
use crate::event_log::EventLog;
use crate::remembered::Keeper;
use crate::service::{StartRule, Supervisor};

/// Events handled before anything else gets its turn, other tasks included:
/// each event may give several sessions something to send.
const BATCH: usize = 64;
/// Messages of clients after which it does the same: one event may carry several of them.
const BATCH_MESSAGES: usize = 128;
/// Their bytes after which it does so too: large ones take their time.
const BATCH_BYTES: usize = 128 * 1024;
/// The longest sleep. A timer further off than that is looked at again then.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// Both clocks. Monotonic time counts from the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let since = self.origin.elapsed().as_micros();
        Now { mono: Time(u64::try_from(since).unwrap_or(u64::MAX)), unix_ms: Self::unix_ms() }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms() -> u64 {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// When `time` comes, or [`MAX_SLEEP`] from now if that is earlier.
    fn instant(&self, time: Time) -> Instant {
        let latest = Instant::now() + MAX_SLEEP;
        self.origin.checked_add(Duration::from_micros(time.0)).map_or(latest, |at| at.min(latest))
    }
}

/// Where the driver hears from others.
pub struct Inlets {
    /// Events of WebSockets, and questions.
    pub intake: Intake,
    /// Events of data channels.
    pub channel_events: mpsc::Receiver<ChannelEvent>,
    /// New configurations.
    pub changes: mpsc::Receiver<Change>,
    /// Turns true when this hub is to leave for good.
    pub stop: watch::Receiver<bool>,
}

/// What a new configuration means to the driver.
pub struct Change {
    /// For the hub.
    pub settings: Settings,
    /// The mesh key, new or as it was.
    pub key: MeshKey,
    /// For data channels.
    pub channels: ChannelConfig,
    /// What dialled hubs are checked with; none for the system's roots.
    pub roots: Option<Arc<ClientConfig>>,
    /// The largest message that a dialled WebSocket takes, in bytes.
    pub max_message_size: usize,
    /// Time over which clients are told to leave.
    pub drain_timeout: Duration,
    /// When this hub counts as started.
    pub rule: StartRule,
    /// Told when it is in force.
    pub done: oneshot::Sender<()>,
}

/// Owns the hub: feeds it, does what it asks for, and answers questions about it.
pub struct Driver {
    hub: Hub,
    clock: Clock,
    inlets: Inlets,
    connections: Connections,
    log: EventLog,
    supervisor: Supervisor,
    /// Keeps the URLs of the mesh for the next run.
    keeper: Option<Keeper>,
    drain_timeout: Duration,
    /// Where the hub listens.
    listening: Vec<SocketAddr>,
    /// Since when the configuration is in force.
    configured_at: Instant,
    /// Who waits for the answers to a probe, by its number. The hub bounds them.
    probes: BTreeMap<u64, oneshot::Sender<Result<Answer, Refusal>>>,
    /// It is to leave for good, not only drained.
    stopping: bool,
    /// Signals in bundles that were taken since others were let run.
    bundled: usize,
}

impl Driver {
    /// A driver that has done nothing yet.
    pub fn new(
        hub: Hub,
        clock: Clock,
        inlets: Inlets,
        connections: Connections,
        log: EventLog,
        supervisor: Supervisor,
        drain_timeout: Duration,
    ) -> Self {
        let (probes, stopping) = (BTreeMap::new(), false);
        let configured_at = Instant::now();
        Self {
            hub,
            clock,
            inlets,
            connections,
            log,
            supervisor,
            keeper: None,
            drain_timeout,
            listening: Vec::new(),
            configured_at,
            probes,
            stopping,
            bundled: 0,
        }
    }

    /// The URLs of the mesh are kept for the next run.
    pub fn keeping(self, keeper: Keeper) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// With the addresses that it listens on.
    pub fn listening(self, listening: Vec<SocketAddr>) -> Self {
        Self { listening, ..self }
    }

    /// Runs until the hub is told to stop and has left. Then waits for the
    /// connections that this hub asked for.
    pub async fn run(mut self) {
        let mut events = Vec::with_capacity(BATCH);
        let mut messages = Vec::with_capacity(BATCH);
        let mut stop = self.inlets.stop.clone();
        let sessions = Arc::clone(self.connections.sessions());
        let counters = Arc::clone(self.connections.counters());
        let mut handled = 0;
        self.input(Input::Timer);
        while !(self.stopping && self.hub.is_drained()) {
            let due = self.clock.instant(self.hub.poll_timeout());
            let due = self.supervisor.due().map_or(due, |supervision| due.min(supervision));
            let (mut query, mut change, mut told_to_stop) = (None, None, false);
            counters.pulse.end();
            tokio::select! {
                _ = self.inlets.intake.events.recv_many(&mut events, BATCH) => {}
                _ = self.inlets.channel_events.recv_many(&mut messages, BATCH) => {}
                () = sessions.bundles().wait() => {}
                Some(asked) = self.inlets.intake.queries.recv() => query = Some(asked),
                Some(new) = self.inlets.changes.recv() => change = Some(new),
                _ = stop.wait_for(|stop| *stop), if !self.stopping => told_to_stop = true,
                () = tokio::time::sleep_until(due) => {}
            }
            counters.pulse.begin();
            query.into_iter().for_each(|query| self.answer(query));
            change.into_iter().for_each(|change| self.change(change));
            if told_to_stop {
                self.stopping = true;
                self.input(Input::Drain { over: self.drain_timeout });
            }
            handled += events.len() + messages.len();
            let mut since = (0, 0);
            for event in events.drain(..) {
                let (count, bytes) = event.messages();
                since = (since.0 + count, since.1 + bytes);
                self.event(event);
                if since.0 >= BATCH_MESSAGES || since.1 >= BATCH_BYTES {
                    since = (0, 0);
                    self.finish();
                    tokio::task::yield_now().await;
                }
            }
            for message in messages.drain(..) {
                self.channel_event(message);
            }
            self.take_bundles();
            self.finish();
            self.log.catch_up();
            let (hub, clock) = (&self.hub, &self.clock);
            let status = || Status { on_disk: counters.on_disk.get(), ..hub.status(clock.now()) };
            self.supervisor.turn(Instant::now(), status);
            if let Some(keeper) = &mut self.keeper {
                keeper.turn(Instant::now(), || self.hub.urls_to_remember());
            }
            handled += std::mem::take(&mut self.bundled);
            if handled >= BATCH {
                handled = 0;
                tokio::task::yield_now().await;
            }
        }
        // What is still said to the driver is for nobody, and waits for nobody.
        drop(self.inlets.intake);
        self.connections.end(&mut self.inlets.channel_events).await;
    }

    /// One input, then everything that the hub wants done because of it.
    fn input(&mut self, input: Input<'_>) {
        self.take_bundles();
        self.hub.handle(input, self.clock.now());
        self.drain_outputs();
    }

    /// After the last of the inputs at hand.
    fn finish(&mut self) {
        // Once for all of them: what they mean to other hubs goes there together.
        self.hub.flush();
        self.drain_outputs();
        // Under load something else may always be ready: timers come due all the same.
        if self.clock.now().mono >= self.hub.poll_timeout() {
            self.input(Input::Timer);
        }
    }

    /// Signals that sessions gathered for other hubs.
    fn take_bundles(&mut self) {
        for (hub, bundle) in self.connections.sessions().bundles().take() {
            self.bundled += bundle.len();
            self.hub.take(Input::Signals { hub, bundle }, self.clock.now());
            self.drain_outputs();
        }
    }

    /// One input of those at hand; [`Self::finish`] follows the last one.
    fn take(&mut self, input: Input<'_>) {
        self.take_bundles();
        self.hub.take(input, self.clock.now());
        self.drain_outputs();
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Event(event) => self.hub_event(&event),
                Output::Probed { number, hops } => self.probed(number, hops),
                output @ Output::ChannelStart { .. } => {
                    self.look_for_hubs();
                    self.connections.apply(output);
                }
                output => self.connections.apply(output),
            }
        }
    }

    fn hub_event(&mut self, event: &Event) {
        self.log.write(event, self.clock.now().unix_ms);
        // Clients come and go too often for that, and the status is looked at every second anyway.
        let of_client = matches!(
            event,
            Event::PeerConnected { .. }
                | Event::PeerAnnounced { .. }
                | Event::PeerDisconnected { .. }
                | Event::Refused { .. }
        );
        if !of_client {
            self.supervisor.look_soon();
        }
    }

    /// A new configuration, checked. It cannot fail.
    fn change(&mut self, change: Change) {
        self.hub.reconfigure(change.settings, change.key, self.clock.now());
        self.connections.reconfigure(change.max_message_size, change.roots, change.channels);
        self.supervisor.set_rule(change.rule);
        self.drain_timeout = change.drain_timeout;
        self.configured_at = Instant::now();
        self.drain_outputs();
        // Whoever asked may have given up meanwhile.
        let _ = change.done.send(());
    }

    fn event(&mut self, event: EdgeEvent) {
        match event {
            EdgeEvent::Accepted { conn, request, outbox } => {
                self.connections.accepted(conn, request.remote, outbox);
                self.take(Input::Accepted { conn, request });
            }
            EdgeEvent::Dialled { conn, remote } => {
                self.connections.dialled(conn, remote);
                self.take(Input::Dialled { conn, remote });
            }
            EdgeEvent::DialFailed { conn, error } => {
                self.connections.closed(conn);
                self.take(Input::DialFailed { conn, error });
            }
            EdgeEvent::Texts { conn, texts, room } => {
                for text in texts {
                    self.connections.counters().text_in.one(text.len());
                    self.take(Input::Text { conn, text: text.as_str() });
                }
                drop(room);
            }
            EdgeEvent::Binary { conn, bytes, room } => {
                self.connections.counters().binary_in.one(bytes.len());
                self.take(Input::Binary { conn, bytes: &bytes });
                drop(room);
            }
            EdgeEvent::Pong { conn, number } => self.take(Input::Pong { conn, number }),
            EdgeEvent::Alive { conn } => self.take(Input::Alive { conn }),
            EdgeEvent::Closed { conn, reason, room } => {
                self.connections.closed(conn);
                self.take(Input::Closed { conn, reason });
                drop(room);
            }
        }
    }

    fn channel_event(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Description { conn, sdp } => self.take(Input::ChannelDescription { conn, sdp }),
            ChannelEvent::Candidate { conn, candidate } => {
                self.take(Input::ChannelCandidate { conn, candidate });
            }
            ChannelEvent::Open { conn } => self.take(Input::ChannelOpen { conn }),
            ChannelEvent::Binary { conn, bytes } => {
                self.connections.counters().binary_in.one(bytes.len());
                self.take(Input::Binary { conn, bytes: &bytes });
            }
            ChannelEvent::Closed { conn, reason } => {
                self.connections.closed(conn);
                self.take(Input::Closed { conn, reason });
            }
        }
    }
}
