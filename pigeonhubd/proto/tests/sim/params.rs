//! What kind of world a seed makes.

use super::rng::Rng;
use super::world::{MS, Micros, SEC};

/// Whom a hub dials at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bootstrap {
    /// The first hub.
    Star,
    /// The one before it.
    Chain,
    /// Any one before it.
    Earlier,
    /// Any tree, so that some wait for a hub that starts after them.
    AnyTree,
    /// Two before it.
    Two,
    /// A dead address first, then the first hub.
    DeadFirst,
    /// One of two that do not know of each other; the last hub dials both.
    Halves,
}

/// When the hubs start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    AtOnce,
    /// One by one, so far apart.
    Apart(Micros),
    /// In any order, within so long.
    Scattered(Micros),
}

/// What goes wrong in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crashes,
    /// Ten hubs at one moment, and they stay away.
    FewCrashes,
    PowerLoss,
    Drains,
    CutLinks,
    /// What one of two hubs sends does not reach the other.
    OneWay,
    Halves,
    LongHalves,
    Isolated,
    Pauses,
    /// Hubs that stand still for a moment again and again.
    Stutter,
    Loss,
    ClockSteps,
    AllRestart,
    Rolling,
    /// Up to most hubs at one moment; they come back.
    Many,
    /// Killed and started again at once, a few times.
    CrashLoop,
    /// Other settings while clients and links stay.
    Reloads,
    Mixed,
}

const FAULTS: [Fault; 21] = [
    Fault::Crashes,
    Fault::Crashes,
    Fault::Crashes,
    Fault::PowerLoss,
    Fault::Drains,
    Fault::Drains,
    Fault::CutLinks,
    Fault::OneWay,
    Fault::Halves,
    Fault::LongHalves,
    Fault::Isolated,
    Fault::Pauses,
    Fault::Stutter,
    Fault::Loss,
    Fault::ClockSteps,
    Fault::AllRestart,
    Fault::Rolling,
    Fault::Many,
    Fault::CrashLoop,
    Fault::Reloads,
    Fault::Mixed,
];

/// A world in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) hubs: usize,
    pub(crate) clients: usize,
    pub(crate) networks: usize,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) joining: Joining,
    pub(crate) rounds: Vec<Fault>,
    /// Delay one way: the least and the most between two places.
    pub(crate) latency: (Micros, Micros),
    /// How much longer a single message may take.
    pub(crate) jitter_percent: u64,
    /// Binary messages in a thousand that a full queue drops.
    pub(crate) queue_drops: u64,
    /// Hubs deal with inputs that come close together at once, as the daemon does under load.
    pub(crate) together: bool,
    /// Sessions gather signals for peers at other hubs, as the daemon's do.
    pub(crate) bundles: bool,
    /// Time between two acts of a client.
    pub(crate) client_turn: (Micros, Micros),
    /// How often an act is to leave.
    pub(crate) leave_per_mille: u64,
    /// Each hub's `max_peers` and `min_peers`, from these ranges.
    pub(crate) max_peers: (u64, u64),
    pub(crate) min_peers: u64,
    pub(crate) migration_ms: u64,
    /// Whether hubs are told their own URL.
    pub(crate) advertise: bool,
    pub(crate) real_keys: bool,
    /// Hubs keep the URLs of their mesh from run to run.
    pub(crate) remembers: bool,
    /// Wall clocks are off by up to so much.
    pub(crate) skew_ms: u64,
    /// Some hubs come back with a wall clock of the past.
    pub(crate) clock_back: bool,
    /// Hubs in a hundred that no UDP reaches.
    pub(crate) udp_blocked: u64,
    /// Hubs in a hundred that nobody can dial.
    pub(crate) unreached: u64,
    /// The hubs' ids begin alike, and so do the clients', for longer.
    pub(crate) close_ids: bool,
    /// A hub with a wrong key, or of another namespace, tries to join.
    pub(crate) wrong_key: bool,
    pub(crate) wrong_namespace: bool,
}

impl Params {
    /// A plain world: no faults, no skew, quick.
    pub(crate) fn plain(hubs: usize) -> Self {
        Self {
            hubs,
            clients: 2 * hubs,
            networks: 2,
            bootstrap: Bootstrap::Star,
            joining: Joining::Apart(SEC),
            rounds: Vec::new(),
            latency: (MS, 5 * MS),
            jitter_percent: 50,
            queue_drops: 0,
            together: false,
            bundles: false,
            client_turn: (500 * MS, 3 * SEC),
            leave_per_mille: 30,
            max_peers: (3, 4),
            min_peers: 2,
            migration_ms: 10_000,
            advertise: true,
            real_keys: false,
            remembers: false,
            skew_ms: 0,
            clock_back: false,
            udp_blocked: 0,
            unreached: 0,
            close_ids: false,
            wrong_key: false,
            wrong_namespace: false,
        }
    }

    /// The world of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x7061_7261_6d73);
        let hubs = match rng.below(100) {
            0..15 => 3,
            15..65 => rng.range(3, 9),
            65..92 => rng.range(9, 17),
            92..98 => rng.range(17, 33),
            _ => rng.range(33, 65),
        } as usize;
        let mut params = Self::plain(hubs);
        params.clients = rng.range(2, (3 * hubs as u64).min(50)) as usize;
        if rng.percent(2) {
            params.clients = 80;
        }
        params.networks = rng.range(1, 5) as usize;
        params.joining = match rng.below(10) {
            0..4 => Joining::AtOnce,
            4..7 => Joining::Apart(rng.range(100 * MS, 3 * SEC)),
            _ => Joining::Scattered(rng.range(SEC, 30 * SEC)),
        };
        params.bootstrap = match rng.below(13) {
            0..3 => Bootstrap::Star,
            3 | 4 => Bootstrap::Chain,
            5..8 => Bootstrap::Earlier,
            8 | 9 => Bootstrap::AnyTree,
            10 => Bootstrap::Two,
            11 if hubs > 3 => Bootstrap::Halves,
            _ => Bootstrap::DeadFirst,
        };
        params.latency = match rng.below(10) {
            0..4 => (50, MS),
            4..7 => (MS, 40 * MS),
            _ => (10 * MS, 120 * MS),
        };
        params.jitter_percent = rng.range(0, 150);
        params.queue_drops = if rng.percent(15) { rng.range(1, 30) } else { 0 };
        params.together = seed.is_multiple_of(2);
        params.bundles = matches!(seed % 4, 1 | 2);
        // None of these is a seed of a past fault, which is to stay as it was.
        params.remembers = matches!(seed % 11, 2 | 9);
        params.leave_per_mille = rng.range(5, 80);
        params.limits(rng);
        params.clocks(rng);
        params.strangers(rng);
        params.faults(rng);
        params
    }

    fn limits(&mut self, rng: &mut Rng) {
        self.max_peers = match rng.below(10) {
            0..6 => (3, 4),
            6 | 7 => (2, 6),
            _ => {
                let one = rng.range(2, 6);
                (one, one + 1)
            }
        };
        // Asking for all of the links that there may be leaves no room for an
        // odd hub out, which a matching always has when their number is odd.
        self.min_peers = rng.range(1, 3);
        if self.hubs <= 4 || self.max_peers.0 >= 4 {
            self.min_peers = rng.range(1, 4);
        }
        self.migration_ms = rng.range(500, 15_000);
        self.advertise = !rng.percent(25);
        self.real_keys = self.hubs <= 8 && rng.percent(4);
    }

    fn clocks(&mut self, rng: &mut Rng) {
        self.skew_ms = match rng.below(10) {
            0..6 => 0,
            6..8 => 5_000,
            _ => 4 * 3_600_000,
        };
        self.clock_back = rng.percent(20);
    }

    fn strangers(&mut self, rng: &mut Rng) {
        self.udp_blocked = match rng.below(40) {
            0 => 100,
            1 | 2 => 25,
            _ => 0,
        };
        self.unreached = if rng.percent(10) { rng.range(20, 60) } else { 0 };
        self.close_ids = rng.percent(8);
        self.wrong_key = rng.percent(6);
        self.wrong_namespace = rng.percent(6);
    }

    fn faults(&mut self, rng: &mut Rng) {
        let most = match self.hubs {
            0..=12 => 3,
            13..=20 => 2,
            _ => 1,
        };
        for _ in 0..rng.range(1, most + 1) {
            let fault = rng.pick(&FAULTS).unwrap_or(Fault::Crashes);
            // Ten minutes of many hubs take their time here too: not often.
            let long = fault == Fault::LongHalves && self.hubs > 12 && !rng.percent(20);
            self.rounds.push(if long { Fault::Halves } else { fault });
        }
    }
}
