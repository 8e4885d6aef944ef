//! A machine with a hub on it: its clocks, its connections, its life and death.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use pigeonhub_proto::event::Event as HubEvent;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ConnId, Input, MAX_BINARY, Output};
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};

use super::bundles::Gathering;
use super::network::{Message, State};
use super::world::{Event, MS, Machine, Micros, SEC, World, trace};

/// The wall clock at the beginning of the world: 1 January 2026.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// How long inputs are gathered that are dealt with together.
pub(crate) const TOGETHER: Micros = 100;

/// Makes the hub anew at each start, from a seed and the host's clock.
pub(crate) type Factory = Box<dyn Fn(Settings, [u8; 32], Now) -> Box<dyn Machine>>;

/// What a connection number of a hub stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conn {
    Dial(usize),
    Channel(usize),
    Pipe(usize, usize),
}

pub(crate) struct Host {
    pub(crate) factory: Factory,
    pub(crate) id: Id,
    pub(crate) settings: Settings,
    pub(crate) address: Ipv4Addr,
    /// Absent while the hub is down, and while it handles an input.
    pub(crate) machine: Option<Box<dyn Machine>>,
    pub(crate) up: bool,
    /// Counts the starts, so that what was meant for an earlier life is known as such.
    pub(crate) life: u32,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) next_accepted: u64,
    /// When the next [`Event::Wake`] that counts is due.
    pub(crate) wake: Micros,
    pub(crate) stopped: bool,
    /// What happened to a stopped process.
    pub(crate) frozen: Vec<Event>,
    /// The last death made no sound: not even a reset.
    pub(crate) silent: bool,
    pub(crate) draining: bool,
    /// Not one of the mesh: wrong key or namespace.
    pub(crate) intruder: bool,
    pub(crate) udp_blocked: bool,
    pub(crate) started: Micros,
    pub(crate) died: Micros,
    /// When it last went on after being stopped.
    pub(crate) resumed: Option<Micros>,
    /// URLs of the mesh that its last run knew, if its state is kept.
    pub(crate) remembered: Vec<String>,
    /// Nobody will start it again.
    pub(crate) abandoned: bool,
    /// Behind an address translation: it dials, and nobody can dial it.
    pub(crate) unreached: bool,
    /// When `max_peers` was lowered, and what it was before.
    pub(crate) lowered: Option<(Micros, usize)>,
    /// The monotonic clock's reading when the world began.
    pub(crate) origin: u64,
    /// How far the wall clock is wrong.
    pub(crate) skew_ms: i64,
    /// Data channels that are open at this end, now.
    pub(crate) open_channels: usize,
    /// Since when there are more than `max_peers`.
    pub(crate) over_since: Option<Micros>,
    /// An [`Event::PutOut`] is to come.
    pub(crate) putting_out: bool,
    pub(crate) gathering: Gathering,
    timer_second: Micros,
    timers: u32,
}

impl Host {
    pub(crate) fn new(number: usize, id: Id, settings: Settings, factory: Factory, origin: u64) -> Self {
        Self {
            factory,
            id,
            settings,
            address: address(number),
            machine: None,
            up: false,
            life: 0,
            conns: BTreeMap::new(),
            next_accepted: 1,
            wake: Micros::MAX,
            stopped: false,
            frozen: Vec::new(),
            silent: false,
            draining: false,
            intruder: false,
            udp_blocked: false,
            started: 0,
            died: 0,
            resumed: None,
            remembered: Vec::new(),
            abandoned: false,
            unreached: false,
            lowered: None,
            origin,
            skew_ms: 0,
            open_channels: 0,
            over_since: None,
            putting_out: false,
            gathering: Gathering::default(),
            timer_second: 0,
            timers: 0,
        }
    }

    /// Both clocks of this host.
    pub(crate) fn clock(&self, now: Micros) -> Now {
        let unix = EPOCH_MS + (now / MS) as i64 + self.skew_ms;
        Now { mono: Time(self.origin + now), unix_ms: unix.max(0) as u64 }
    }

    /// `max_peers`; for a while after it was lowered, what it was before.
    pub(crate) fn most_links(&self, now: Micros) -> usize {
        let before = self.lowered.filter(|(at, _)| now - at < 20 * SEC).map_or(0, |(_, before)| before);
        self.settings.max_peers.max(before)
    }

    /// The hub, for the checks.
    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.machine.as_ref().and_then(|machine| machine.hub())
    }
}

/// The address of host `number`.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, (number >> 16) as u8, (number >> 8) as u8, number as u8)
}

/// `host:port` of host `number`.
pub(crate) fn authority(number: usize) -> String {
    format!("{}:3000", address(number))
}

impl World {
    pub(crate) fn add_host(&mut self, host: Host) -> usize {
        let number = self.hosts.len();
        self.by_address.insert(authority(number), number);
        self.hosts.push(host);
        number
    }

    pub(crate) fn remote(&self, number: usize) -> IpAddr {
        IpAddr::V4(self.hosts[number].address)
    }

    /// Starts the hub on a host, if it is down.
    pub(crate) fn start(&mut self, number: usize) {
        if self.hosts[number].up {
            return;
        }
        let seed = self.rng.bytes();
        let now = self.now;
        self.changed = now;
        let host = &mut self.hosts[number];
        host.life += 1;
        host.up = true;
        host.draining = false;
        host.started = now;
        host.next_accepted = 1;
        host.wake = Micros::MAX;
        host.putting_out = false;
        host.gathering = Gathering::default();
        let mut machine = (host.factory)(host.settings.clone(), seed, host.clock(now));
        machine.remember(&host.remembered);
        host.machine = Some(machine);
        let (id, life) = (host.id, host.life);
        trace!(self, 1, "hub {number} starts, life {life}, id {}", id.short());
        self.reset_orphans(number);
        self.drain_outputs(number);
        self.rewake(number);
    }

    /// Gives a hub its settings anew.
    pub(crate) fn reconfigure(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let now = host.clock(self.now);
        let Some(machine) = &mut host.machine else { return };
        machine.reconfigure(host.settings.clone(), now);
        self.drain_outputs(number);
        self.rewake(number);
    }

    /// Gives a hub one input and does what it asks for.
    pub(crate) fn feed(&mut self, number: usize, input: Input<'_>) {
        if let Some(conn) = self.sessions_take(number, &input) {
            return self.feed(number, Input::Alive { conn });
        }
        let gathers = self.params.together
            && matches!(input, Input::Text { .. } | Input::Binary { .. } | Input::Signals { .. });
        let host = &mut self.hosts[number];
        let now = host.clock(self.now);
        let Some(machine) = &mut host.machine else { return };
        self.counts.inputs += 1;
        if self.trace >= 2 {
            println!("[{:12.6}] hub {number} <- {}", self.now as f64 / SEC as f64, brief(&input));
        }
        let told = self.digest.is_some().then(|| format!("{number} {input:?}"));
        if gathers {
            machine.take(input, now);
            if !std::mem::replace(&mut host.putting_out, true) {
                let life = host.life;
                self.at(self.now + TOGETHER, Event::PutOut { host: number, life });
            }
        } else {
            machine.handle(input, now);
        }
        if let Some(told) = told {
            self.digest(&told);
        }
        self.drain_outputs(number);
        self.rewake(number);
        let host = &self.hosts[number];
        if host.draining && host.machine.as_ref().is_some_and(|machine| machine.is_drained()) {
            trace!(self, 1, "hub {number} has drained");
            self.kill(number, false);
        }
    }

    fn drain_outputs(&mut self, number: usize) {
        let Some(mut machine) = self.hosts[number].machine.take() else { return };
        let limit = self.output_limit(number);
        let mut count = 0;
        while let Some(output) = machine.poll_output() {
            count += 1;
            if self.trace >= 2 {
                println!("[{:12.6}] hub {number} -> {}", self.now as f64 / SEC as f64, told(&output));
            }
            if self.digest.is_some() {
                self.digest(&format!("{number} {output:?}"));
            }
            self.output(number, output);
            if count > limit {
                self.fail(format!("hub {number}: more than {limit} outputs for one input"));
                break;
            }
        }
        self.hosts[number].machine = Some(machine);
    }

    fn output(&mut self, number: usize, output: Output) {
        match output {
            Output::Text { conn, text } => self.send(number, conn, Message::Text(text)),
            Output::Binary { conn, bytes } => {
                if bytes.len() > MAX_BINARY {
                    self.fail(format!("hub {number}: a binary message of {} bytes", bytes.len()));
                }
                self.send(number, conn, Message::Binary(bytes));
            }
            Output::Charge { .. } => {}
            Output::Ping { conn, number: ping } => self.send(number, conn, Message::Ping(ping)),
            Output::Read { conn } => self.read(number, conn),
            Output::Close { conn, code, reason } => self.close(number, conn, code, reason),
            Output::Dial { conn, url } => self.dial(number, conn, &url),
            Output::ChannelStart { conn, offer } => self.channel_start(number, conn, offer),
            Output::ChannelAnswer { conn, sdp } => self.channel_answer(number, conn, &sdp),
            Output::ChannelCandidate { conn, candidate } => self.channel_candidate(number, conn, &candidate),
            // Signals between two clients here go through the hub all the same.
            Output::Direct(place) => self.hosts[number].gathering.enter(place),
            Output::NotDirect(place) => self.hosts[number].gathering.leave(&place),
            Output::Event(HubEvent::HubMeshMigrated { migrated_count: 0, .. }) => {
                self.fail(format!("hub {number} says that it migrated, and did nothing"));
            }
            Output::Event(event) => trace!(self, 1, "hub {number}: {event:?}"),
            Output::Probed { number: probe, hops } => {
                trace!(self, 1, "hub {number}: probe {probe}: {hops:?}")
            }
        }
    }

    /// Notes when the hub wants its timer. The edge's clock ticks in milliseconds.
    fn rewake(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(machine) = &host.machine else { return };
        let wanted = machine.poll_timeout();
        if wanted == Time::NEVER {
            return;
        }
        let at = wanted.0.saturating_sub(host.origin).max(self.now).next_multiple_of(MS);
        if at < host.wake {
            host.wake = at;
            let life = host.life;
            self.at(at, Event::Wake { host: number, life });
        }
    }

    pub(crate) fn wake(&mut self, number: usize, life: u32) {
        let host = &mut self.hosts[number];
        if host.stopped || host.life != life || host.wake != self.now {
            return;
        }
        host.wake = Micros::MAX;
        let Some(machine) = &host.machine else { return };
        if machine.poll_timeout().0 > host.origin + self.now {
            return self.rewake(number);
        }
        if host.timer_second != self.now / SEC {
            host.timer_second = self.now / SEC;
            host.timers = 0;
        }
        host.timers += 1;
        self.counts.timers += 1;
        if host.timers > 400 {
            return self.fail(format!("hub {number}: its timer was due over 400 times in a second"));
        }
        self.feed(number, Input::Timer);
        if self.failure.is_none()
            && self.hosts[number].machine.as_ref().is_some_and(|m| m.poll_timeout().0 == 0)
        {
            self.fail(format!("hub {number}: its timer stays due after it fired"));
        }
    }

    /// What gathered inputs mean to other hubs goes there.
    pub(crate) fn put_out(&mut self, number: usize, life: u32) {
        let host = &mut self.hosts[number];
        if host.life != life {
            return;
        }
        host.putting_out = false;
        let Some(machine) = &mut host.machine else { return };
        machine.put_out();
        self.drain_outputs(number);
        self.rewake(number);
    }

    /// Ends a hub's process at once. `silent`: the whole machine goes, and with it the resets.
    pub(crate) fn kill(&mut self, number: usize, silent: bool) {
        let now = self.now;
        let host = &mut self.hosts[number];
        if !host.up {
            return;
        }
        self.changed = now;
        let known = host.hub().map(|hub| hub.urls_to_remember()).unwrap_or_default();
        if self.params.remembers && !known.is_empty() {
            host.remembered = known;
        }
        host.up = false;
        host.machine = None;
        host.stopped = false;
        host.frozen.clear();
        host.silent = silent;
        host.died = now;
        host.open_channels = 0;
        host.over_since = None;
        for conn in std::mem::take(&mut host.conns).into_values() {
            match conn {
                Conn::Dial(dial) => self.abandon_dial(dial),
                Conn::Channel(channel) => self.channels[channel].over = true,
                Conn::Pipe(pipe, side) => {
                    self.pipes[pipe].ends[side].state = State::Gone;
                    self.orphan(pipe, 1 - side, silent);
                }
            }
        }
    }

    /// Stops a process without ending it, or lets it go on.
    pub(crate) fn pause(&mut self, number: usize, stopped: bool) {
        if !self.hosts[number].up || self.hosts[number].stopped == stopped {
            return;
        }
        self.hosts[number].stopped = stopped;
        if !stopped {
            self.hosts[number].resumed = Some(self.now);
            for event in std::mem::take(&mut self.hosts[number].frozen) {
                self.at(self.now, event);
            }
            self.hosts[number].wake = Micros::MAX;
            self.rewake(number);
        }
    }
}

fn brief(input: &Input<'_>) -> String {
    match input {
        Input::Binary { conn, bytes } => format!("Binary {} of {} bytes", conn.0, bytes.len()),
        other => format!("{other:?}"),
    }
}

fn told(output: &Output) -> String {
    match output {
        Output::Binary { conn, bytes } => format!("Binary {} of {} bytes", conn.0, bytes.len()),
        other => format!("{other:?}"),
    }
}
