//! The one owner of the hub, and of the clock.

use std::time::{Duration, SystemTime};

use pigeonhub_proto::control::{Answer, Command, ControlErrorCode};
use pigeonhub_proto::event::Event;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::io::{Input, Output};
use pigeonhub_proto::time::{Now, Time};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::channel::ChannelEvent;
use crate::connections::Connections;
use crate::edge::{EdgeEvent, Intake, Query, Refusal};
use crate::logging::EventLog;

/// Events handled before anything else gets its turn.
const BATCH: usize = 256;

/// Leaving on purpose closes clients one after another within this time.
const DRAIN_OVER: Duration = Duration::from_secs(2);

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
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Time(u64::try_from(since).unwrap_or(u64::MAX)),
            unix_ms: u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// When `time` comes, or [`MAX_SLEEP`] from now if that is earlier.
    fn instant(&self, time: Time) -> Instant {
        let latest = Instant::now() + MAX_SLEEP;
        self.origin.checked_add(Duration::from_micros(time.0)).map_or(latest, |at| at.min(latest))
    }
}

/// Owns the hub: feeds it, does what it asks for, and answers questions about it.
pub struct Driver {
    hub: Hub,
    clock: Clock,
    intake: Intake,
    channel_events: mpsc::Receiver<ChannelEvent>,
    connections: Connections,
    log: EventLog,
    /// Told when the mesh is ready for the first time.
    ready: watch::Sender<bool>,
}

impl Driver {
    /// A driver that has done nothing yet.
    pub fn new(
        hub: Hub,
        clock: Clock,
        intake: Intake,
        connections: Connections,
        channel_events: mpsc::Receiver<ChannelEvent>,
        ready: watch::Sender<bool>,
    ) -> Self {
        Self { hub, clock, intake, channel_events, connections, log: EventLog::default(), ready }
    }

    /// Runs until the hub is drained, which begins when `drain` turns true.
    /// Then waits for the connections that this hub asked for.
    pub async fn run(mut self, mut drain: watch::Receiver<bool>) {
        let mut events = Vec::with_capacity(BATCH);
        let mut messages = Vec::with_capacity(BATCH);
        let mut draining = false;
        self.input(Input::Timer);
        while !self.hub.is_drained() {
            let due = self.clock.instant(self.hub.poll_timeout());
            tokio::select! {
                _ = self.intake.events.recv_many(&mut events, BATCH) => {}
                _ = self.channel_events.recv_many(&mut messages, BATCH) => {}
                Some(query) = self.intake.queries.recv() => self.answer(query),
                _ = drain.wait_for(|drain| *drain), if !draining => {
                    draining = true;
                    self.input(Input::Drain { over: DRAIN_OVER });
                }
                () = tokio::time::sleep_until(due) => {}
            }
            for event in events.drain(..) {
                self.event(event);
            }
            for message in messages.drain(..) {
                self.channel_event(message);
            }
            // Under load something else may always be ready: timers come due all the same.
            if self.clock.now().mono >= self.hub.poll_timeout() {
                self.input(Input::Timer);
            }
        }
        // What is still said to the driver is for nobody, and waits for nobody.
        drop(self.intake);
        self.connections.end(&mut self.channel_events).await;
    }

    /// One input, then everything that the hub wants done because of it.
    fn input(&mut self, input: Input<'_>) {
        self.hub.handle(input, self.clock.now());
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Event(event) => self.hub_event(&event),
                // Nobody asks for probes yet.
                Output::Probed { .. } => {}
                output => self.connections.apply(output),
            }
        }
    }

    fn hub_event(&mut self, event: &Event) {
        self.log.write(event);
        if matches!(event, Event::HubMeshReady { .. }) {
            self.ready.send_replace(true);
        }
    }

    fn event(&mut self, event: EdgeEvent) {
        match event {
            EdgeEvent::Accepted { conn, request, outbox } => {
                self.connections.accepted(conn, outbox);
                self.input(Input::Accepted { conn, request });
            }
            EdgeEvent::Dialled { conn, remote } => self.input(Input::Dialled { conn, remote }),
            EdgeEvent::DialFailed { conn, error } => {
                self.connections.closed(conn);
                self.input(Input::DialFailed { conn, error });
            }
            EdgeEvent::Text { conn, text, room: _room } => {
                self.input(Input::Text { conn, text: text.as_str() });
            }
            EdgeEvent::Binary { conn, bytes, room: _room } => {
                self.input(Input::Binary { conn, bytes: &bytes });
            }
            EdgeEvent::Pong { conn } => self.input(Input::Pong { conn }),
            EdgeEvent::Closed { conn, reason } => {
                self.connections.closed(conn);
                self.input(Input::Closed { conn, reason });
            }
        }
    }

    fn channel_event(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Description { conn, sdp } => self.input(Input::ChannelDescription { conn, sdp }),
            ChannelEvent::Candidate { conn, candidate } => {
                self.input(Input::ChannelCandidate { conn, candidate });
            }
            ChannelEvent::Open { conn } => self.input(Input::ChannelOpen { conn }),
            ChannelEvent::Binary { conn, bytes } => self.input(Input::Binary { conn, bytes: &bytes }),
            ChannelEvent::Closed { conn, reason } => {
                self.connections.closed(conn);
                self.input(Input::Closed { conn, reason });
            }
        }
    }

    fn answer(&self, query: Query) {
        let now = self.clock.now();
        let refuse = |code, text: String| Err(Refusal { code, text });
        let answer = match query.command {
            Command::Status => Ok(Answer::Status(Box::new(self.hub.status(now)))),
            Command::Hubs => Ok(Answer::Hubs(self.hub.hubs(now))),
            Command::Peers { network } => Ok(Answer::Peers(self.hub.peers(network.as_deref()))),
            Command::Networks => Ok(Answer::Networks(self.hub.networks())),
            Command::Links => Ok(Answer::Links(self.hub.links(now))),
            Command::Topology => Ok(Answer::Topology(self.hub.topology())),
            _ => refuse(ControlErrorCode::BadRequest, String::from("this hub does not know that command")),
        };
        // Whoever asked may have hung up meanwhile.
        let _ = query.reply.send(answer);
    }
}
