//! The world: a queue of events in virtual time, and everything they act on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::io::{Input, Output};
use pigeonhub_proto::mesh::identity::MeshKey;
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};

use super::channel::ChannelEnd;
use super::client::{Client, Session};
use super::cuts::Cuts;
use super::dial::Dial;
use super::faults::Action;
use super::host::Host;
use super::ledger::Ledger;
use super::network::Pipe;
use super::params::Params;
use super::rng::{Rng, mix};
use super::told::Goodbye;

/// Virtual time, in microseconds since the world began.
pub(crate) type Micros = u64;
pub(crate) const MS: Micros = 1_000;
pub(crate) const SEC: Micros = 1_000_000;

/// A hub, and the mesh key that its operator gives it.
pub(crate) struct SimHub {
    pub(crate) hub: Hub,
    pub(crate) key: MeshKey,
}

/// What the world drives: a hub, or in the tests of the simulator itself a stand-in.
pub(crate) trait Machine {
    fn handle(&mut self, input: Input<'_>, now: Now);
    /// One of several inputs; [`Machine::put_out`] follows.
    fn take(&mut self, input: Input<'_>, now: Now) {
        self.handle(input, now);
    }
    fn put_out(&mut self) {}
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Time;
    fn is_drained(&self) -> bool;
    fn reconfigure(&mut self, settings: Settings, now: Now);
    /// Before the first input: what the last run knew of its mesh.
    fn remember(&mut self, _urls: &[String]) {}
    /// The hub behind it, for the checks.
    fn hub(&self) -> Option<&Hub>;
}

impl Machine for SimHub {
    fn handle(&mut self, input: Input<'_>, now: Now) {
        self.hub.handle(input, now);
    }
    fn take(&mut self, input: Input<'_>, now: Now) {
        self.hub.take(input, now);
    }
    fn put_out(&mut self) {
        self.hub.flush();
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.hub.poll_output()
    }
    fn poll_timeout(&self) -> Time {
        self.hub.poll_timeout()
    }
    fn is_drained(&self) -> bool {
        self.hub.is_drained()
    }
    fn reconfigure(&mut self, settings: Settings, now: Now) {
        self.hub.reconfigure(settings, self.key.clone(), now);
    }
    fn remember(&mut self, urls: &[String]) {
        self.hub.remember(urls.iter().cloned());
    }
    fn hub(&self) -> Option<&Hub> {
        Some(&self.hub)
    }
}

/// Something that happens at a moment. Numbers are indices into the world's lists.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A message (or what is left of the connection) reaches side `side` of a pipe.
    Arrive { pipe: usize, side: usize },
    /// What was held back for a side may go on.
    Flush { pipe: usize, side: usize },
    /// A side learns that its connection broke; only if the cut `cut` still lasts, when given.
    Break { pipe: usize, side: usize, why: &'static str, cut: Option<u64> },
    /// A side that closed learns that it is closed.
    Closed { pipe: usize, side: usize },
    /// A dial reaches, or fails to reach, its target.
    DialArrive { dial: usize },
    /// The dialler learns how it ended.
    DialDone { dial: usize },
    /// A channel end has its description ready.
    Described { channel: usize },
    /// A channel end found a candidate.
    Candidate { channel: usize, number: u64 },
    /// Both channel ends have all they need.
    Pair { offerer: usize },
    /// A channel end's data channel is open.
    ChannelOpen { pipe: usize, side: usize },
    /// A channel end that never opened is over.
    ChannelOver { channel: usize, why: Option<&'static str> },
    /// A hub's timer may be due.
    Wake { host: usize, life: u32 },
    /// A hub has dealt with the inputs that came together.
    PutOut { host: usize, life: u32 },
    /// A hub gets the signals that its sessions gathered.
    Bundles { host: usize, life: u32 },
    /// A client thinks about what to do next.
    Client { client: usize },
    /// A signal's fate must be known by now.
    Judge { signal: usize },
    /// Look for presence that outlived its grace.
    Audit,
    /// The scenario acts.
    Act(Action),
}

struct Queued {
    at: Micros,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Counts of what went on, for the printed figures and the check for quiet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) inputs: u64,
    pub(crate) timers: u64,
    pub(crate) bundles: u64,
    pub(crate) mesh_messages: u64,
    pub(crate) mesh_bytes: u64,
    pub(crate) signals: u64,
    pub(crate) delivered: u64,
    pub(crate) told_undeliverable: u64,
    pub(crate) channels_opened: u64,
    /// Signals that reached two different sessions of one client: the target
    /// moved, or a hub died, between the delivery and its acknowledgement.
    pub(crate) doubled_by_move: u64,
    /// Signals of a peer's session written to one who had been told that the peer left.
    pub(crate) ghosts: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.inputs += more.inputs;
        self.timers += more.timers;
        self.bundles += more.bundles;
        self.mesh_messages += more.mesh_messages;
        self.mesh_bytes += more.mesh_bytes;
        self.signals += more.signals;
        self.delivered += more.delivered;
        self.told_undeliverable += more.told_undeliverable;
        self.channels_opened += more.channels_opened;
        self.doubled_by_move += more.doubled_by_move;
        self.ghosts += more.ghosts;
    }
}

pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) rng: Rng,
    pub(crate) params: Params,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Vec<Client>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) dials: Vec<Dial>,
    pub(crate) channels: Vec<ChannelEnd>,
    pub(crate) cuts: Cuts,
    pub(crate) ledger: Ledger,
    /// When the set of hubs that reach each other last changed.
    pub(crate) changed: Micros,
    /// Chance per thousand that a message has to be sent again below us.
    pub(crate) loss: u64,
    /// Who was parted from whom, and when.
    pub(crate) parted: Option<(Micros, Vec<bool>)>,
    /// Clients connect, leave and move of their own accord.
    pub(crate) churn: bool,
    /// Clients signal right before they leave.
    pub(crate) partings: bool,
    /// Those said meanwhile.
    pub(crate) goodbyes: Vec<Goodbye>,
    /// Clients send signals.
    pub(crate) chatter: bool,
    pub(crate) counts: Counts,
    /// The first thing found wrong; it ends the run.
    pub(crate) failure: Option<String>,
    /// 0: no trace. 1: what the scenario, clients and links do. 2: every input and output.
    pub(crate) trace: u8,
    /// A digest over every input and output, if wanted.
    pub(crate) digest: Option<u64>,
    pub(crate) by_address: BTreeMap<String, usize>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
}

/// Writes a line of the trace, if there is one. The text is made only then.
macro_rules! trace {
    ($world:expr, $level:expr, $($what:tt)*) => {
        if $world.trace >= $level {
            $world.log(&format!($($what)*));
        }
    };
}
pub(crate) use trace;

impl World {
    pub(crate) fn new(seed: u64, params: Params) -> Self {
        Self {
            now: 0,
            rng: Rng::new(seed),
            params,
            hosts: Vec::new(),
            clients: Vec::new(),
            sessions: Vec::new(),
            pipes: Vec::new(),
            dials: Vec::new(),
            channels: Vec::new(),
            cuts: Cuts::default(),
            ledger: Ledger::default(),
            changed: 0,
            loss: 0,
            parted: None,
            churn: false,
            partings: false,
            goodbyes: Vec::new(),
            chatter: false,
            counts: Counts::default(),
            failure: None,
            trace: 0,
            digest: None,
            by_address: BTreeMap::new(),
            queue: BinaryHeap::new(),
            queued: 0,
        }
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at: at.max(self.now), number: self.queued, event }));
    }

    /// Lets the world go on until `until`, or until something is wrong.
    pub(crate) fn run_until(&mut self, until: Micros) {
        while self.failure.is_none() {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= until => {}
                _ => break,
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.dispatch(next.event);
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn run_for(&mut self, span: Micros) {
        self.run_until(self.now + span);
    }

    fn dispatch(&mut self, event: Event) {
        // A stopped process gets what happened meanwhile when it goes on.
        if let Some(host) = self.host_of(&event)
            && self.hosts[host].stopped
        {
            self.hosts[host].frozen.push(event);
            return;
        }
        match event {
            Event::Arrive { pipe, side } => self.arrive(pipe, side),
            Event::Flush { pipe, side } => self.flush(pipe, side),
            Event::Break { pipe, side, why, cut } => self.broken(pipe, side, why, cut),
            Event::Closed { pipe, side } => self.closed(pipe, side),
            Event::DialArrive { dial } => self.dial_arrive(dial),
            Event::DialDone { dial } => self.dial_done(dial),
            Event::Described { channel } => self.described(channel),
            Event::Candidate { channel, number } => self.candidate(channel, number),
            Event::Pair { offerer } => self.pair(offerer),
            Event::ChannelOpen { pipe, side } => self.channel_open(pipe, side),
            Event::ChannelOver { channel, why } => self.channel_over(channel, why),
            Event::Wake { host, life } => self.wake(host, life),
            Event::PutOut { host, life } => self.put_out(host, life),
            Event::Bundles { host, life } => self.bundles(host, life),
            Event::Client { client } => self.client_turn(client),
            Event::Judge { signal } => self.judge(signal),
            Event::Audit => self.audit(),
            Event::Act(action) => self.act(action),
        }
    }

    /// The host whose process has to run for this event to happen.
    fn host_of(&self, event: &Event) -> Option<usize> {
        match *event {
            Event::Arrive { pipe, side }
            | Event::Flush { pipe, side }
            | Event::Break { pipe, side, .. }
            | Event::Closed { pipe, side }
            | Event::ChannelOpen { pipe, side } => self.pipes[pipe].ends[side].party.host(),
            Event::DialDone { dial } => self.dials[dial].party.host(),
            Event::Described { channel }
            | Event::Candidate { channel, .. }
            | Event::ChannelOver { channel, .. } => Some(self.channels[channel].host),
            Event::PutOut { host, .. } | Event::Bundles { host, .. } => Some(host),
            _ => None,
        }
    }

    pub(crate) fn fail(&mut self, what: String) {
        trace!(self, 1, "WRONG: {what}");
        if self.failure.is_none() {
            self.failure = Some(format!("at {:.6} s: {what}", self.now as f64 / SEC as f64));
        }
    }

    pub(crate) fn log(&self, what: &str) {
        println!("[{:12.6}] {what}", self.now as f64 / SEC as f64);
    }

    pub(crate) fn digest(&mut self, what: &str) {
        if let Some(digest) = &mut self.digest {
            for byte in what.bytes() {
                *digest = (*digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
            *digest = mix(*digest ^ self.now);
        }
    }
}
