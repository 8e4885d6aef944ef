//! What clients and hubs share: the clock, the events to come, the halves of connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pigeonhub_proto::id::Id;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::connection::{Half, State};

pub(crate) type Micros = u64;
pub(crate) const MS: Micros = 1000;
pub(crate) const SEC: Micros = 1000 * MS;

/// What a hub says to a client, or a client to another through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Discovered(usize),
    Goodbye(usize),
    /// An offer from the owner of this half.
    Offer(usize),
    /// To the offer of the first half, from the owner of the second.
    Answer(usize, usize),
    Rejected(usize),
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Client timers.
    Enforce(usize),
    FixStuck(usize),
    SweepStale(usize),
    ForgetStale(usize),
    /// Counts only if it is the last one that was set.
    Optimize(usize, u32),
    OptimizeIfAlone(usize),
    /// The description of a half was made.
    Made(usize),
    /// An answer, to the first half, was made by the second.
    Answered(usize, usize),
    /// ICE is done at this end.
    Up(usize),
    /// ICE gave up, unless it was done.
    IceFailed(usize),
    /// The other end closed.
    OtherClosed(usize),
    /// Word for a client by its session with that number.
    Hear(usize, u32, Word),
    /// A client's message for its hub, by its session with that number.
    Say(usize, u32, String),
    SessionOpens(usize),
    HubWakes(usize),
    /// Between hubs: to this one, from a pipe.
    Pipe(usize, usize, Piped),
    /// What the scene has in store.
    Scene(usize),
}

#[derive(Debug)]
pub(crate) enum Piped {
    Open,
    Text(String),
    Binary(bytes::Bytes),
    Closed,
}

/// How fast things go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// One way between client and hub, from and to.
    pub(crate) way: (Micros, Micros),
    /// To make a description, on the fastest machine.
    pub(crate) make: (Micros, Micros),
    /// How many times slower the slowest machine is.
    pub(crate) slower: f64,
    /// ICE and DTLS, after both descriptions are there.
    pub(crate) ice: (Micros, Micros),
}

impl Pace {
    /// All on one machine, as measured.
    pub(crate) const LOCAL: Self =
        Self { way: (300, 2 * MS), make: (8 * MS, 12 * MS), slower: 1.3, ice: (100 * MS, 400 * MS) };
    /// Clients far away.
    pub(crate) const FAR: Self =
        Self { way: (10 * MS, 80 * MS), make: (8 * MS, 12 * MS), slower: 8.0, ice: (200 * MS, 900 * MS) };
}

pub(crate) struct Net {
    pub(crate) now: Micros,
    seq: u64,
    queue: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) pace: Pace,
    pub(crate) ids: Vec<Id>,
    pub(crate) halves: Vec<Half>,
    pub(crate) evictions: u32,
}

impl Net {
    pub(crate) fn new(seed: u64, pace: Pace) -> Self {
        Self {
            now: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            pace,
            ids: Vec::new(),
            halves: Vec::new(),
            evictions: 0,
        }
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.seq += 1;
        self.queue.push(Reverse((at.max(self.now), self.seq, place)));
    }

    pub(crate) fn after(&mut self, wait: Micros, event: Event) {
        self.at(self.now + wait, event);
    }

    /// The next event up to then.
    pub(crate) fn next(&mut self, until: Micros) -> Option<Event> {
        let Reverse((at, _, place)) = *self.queue.peek()?;
        if at > until {
            return None;
        }
        self.queue.pop();
        self.now = at;
        self.free.push(place);
        self.events[place].take()
    }

    pub(crate) fn between(&mut self, (from, to): (Micros, Micros)) -> Micros {
        self.rng.random_range(from..=to)
    }

    /// How long a client takes to make a description.
    pub(crate) fn make(&mut self, client: usize) -> Micros {
        // Each machine is as fast as it is.
        let share = f64::from(self.ids[client].0[19]) / 255.0;
        let slowness = self.pace.slower.powf(share);
        (self.between(self.pace.make) as f64 * slowness) as Micros
    }

    pub(crate) fn way(&mut self) -> Micros {
        self.between(self.pace.way)
    }

    /// Whether `a` is closer to `me` than `b`, as clients reckon.
    pub(crate) fn closer(&self, me: usize, a: usize, b: usize) -> bool {
        let me = &self.ids[me];
        me.distance(&self.ids[a]) < me.distance(&self.ids[b])
    }

    /// The smaller id waits for the larger one's offer.
    pub(crate) fn is_larger(&self, a: usize, b: usize) -> bool {
        self.ids[a] > self.ids[b]
    }

    /// Closes a half; the other end learns of it if they were connected, and else never.
    pub(crate) fn close(&mut self, half: usize) {
        if self.halves[half].state == State::Closed {
            return;
        }
        self.halves[half].state = State::Closed;
        let other = self.halves[half].other;
        if let Some(other) = other.filter(|other| self.halves[*other].is_connected()) {
            let wait = self.between((MS, 10 * MS));
            self.after(wait, Event::OtherClosed(other));
        }
    }
}
