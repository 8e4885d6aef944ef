//! Eight hubs, each on a host of its own, that are killed, stopped, restarted
//! and cut off from each other at random, while clients at all of them signal.
//!
//! A minute of it. `tests/chaos` does it for longer, with longer standstills,
//! and prints what it did; `CHAOS_SEED` for the same faults again.

use std::env;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Clients, Crowd, Ground, Hub, Need, Net, Plan, all_hear_all, skipped, until_ok};

const HUBS: usize = 8;
/// The first ones are stopped and cut off only: their clients keep their connections.
const STEADY: usize = 3;
const CLIENTS: usize = 2 * HUBS;
const PORT: u16 = 3000;
/// Hubs that may be stopped or down at once, and pairs that may be cut.
const MAX_AWAY: usize = 3;
const MAX_CUTS: usize = 16;
/// How long a hub stands still at most, in ms; and in a run by hand, where there is time for it.
const STANDSTILL: u64 = 8_000;
const LONG_STANDSTILL: u64 = 40_000;
/// From so many seconds on it is a run by hand.
const BY_HAND: u64 = 120;
/// How often a further published client comes.
const GUEST: Duration = Duration::from_secs(60);

enum State {
    Runs,
    /// Until then.
    Stopped(Instant),
    /// To be started again then. It may still be leaving.
    Down(Instant),
}

struct Scene {
    net: Net,
    ground: Ground,
    hubs: Vec<Hub>,
    states: Vec<State>,
    cuts: Vec<((usize, usize), Instant)>,
    crowd: Crowd,
    rng: StdRng,
    faults: [usize; 4],
    begin: Instant,
    standstill: u64,
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn plan(net: &Net, host: usize) -> Plan {
    let others =
        (1..=2).filter(|other| *other != host).map(|other| format!("ws://{}:{PORT}", net.address(other)));
    let others: Vec<String> = others.collect();
    Plan::through(others.iter().map(String::as_str))
        .migrating_after(Duration::from_secs(1))
        .config("[listen]\ndrain_timeout = \"1s\"\n")
        .on(net, host, net.address(host))
}

impl Scene {
    fn soon(&mut self, most_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(200..most_ms))
    }

    fn away(&self) -> usize {
        self.states.iter().filter(|state| !matches!(state, State::Runs)).count()
    }

    /// Says what is done, for whoever looks for the cause of what follows.
    fn say(&self, what: &str) {
        println!("{:8.3} {what}", self.begin.elapsed().as_secs_f64());
    }

    fn stand_still(&mut self, hub: usize, still: bool) {
        (hub..CLIENTS).step_by(HUBS).for_each(|client| self.crowd.stand_still(client, still));
    }

    /// What is due ends.
    fn mend(&mut self, all: bool) {
        let now = Instant::now();
        for at in 0..HUBS {
            match self.states[at] {
                State::Stopped(until) if all || until <= now => {
                    self.say(&format!("hub {} goes on", at + 1));
                    self.hubs[at].signal(Signal::SIGCONT);
                    self.stand_still(at, false);
                    self.states[at] = State::Runs;
                }
                State::Down(until) if (all || until <= now) && self.hubs[at].ended().is_some() => {
                    self.say(&format!("hub {} starts", at + 1));
                    self.hubs[at] = plan(&self.net, at + 1).start_on(&self.ground, PORT);
                    self.states[at] = State::Runs;
                }
                _ => {}
            }
        }
        let due = |(_, until): &((usize, usize), Instant)| all || *until <= now;
        let healed: Vec<_> = self.cuts.iter().filter(|cut| due(cut)).map(|(pair, _)| *pair).collect();
        self.cuts.retain(|cut| !due(cut));
        if !healed.is_empty() {
            self.say(&format!("heals {healed:?}"));
            self.net.heal(&healed);
        }
    }

    /// One fault, of any kind.
    fn hurt(&mut self) {
        let kind = self.rng.random_range(0..4);
        let at = self.rng.random_range(if kind < 2 { STEADY } else { 0 }..HUBS);
        if kind < 3 && (self.away() == MAX_AWAY || !matches!(self.states[at], State::Runs)) {
            return;
        }
        self.faults[kind] += 1;
        match kind {
            0 => {
                self.say(&format!("kills hub {}", at + 1));
                self.hubs[at].kill();
                self.states[at] = State::Down(self.soon(5_000));
            }
            1 => {
                self.say(&format!("ends hub {}", at + 1));
                self.hubs[at].signal(Signal::SIGTERM);
                self.states[at] = State::Down(self.soon(2_000));
            }
            2 => {
                self.say(&format!("stops hub {}", at + 1));
                self.hubs[at].signal(Signal::SIGSTOP);
                self.stand_still(at, true);
                self.states[at] = State::Stopped(self.soon(self.standstill));
            }
            _ => self.cut(),
        }
    }

    /// Cuts one pair, or one half from the other.
    fn cut(&mut self) {
        let until = self.soon(12_000);
        let pairs: Vec<(usize, usize)> = if self.rng.random_range(0..6) == 0 {
            let side: Vec<bool> = (0..HUBS).map(|_| self.rng.random()).collect();
            let all = (0..HUBS).flat_map(|a| (a + 1..HUBS).map(move |b| (a, b)));
            all.filter(|(a, b)| side[*a] != side[*b]).map(|(a, b)| (a + 1, b + 1)).collect()
        } else {
            let a = self.rng.random_range(1..HUBS);
            vec![(a, self.rng.random_range(a + 1..=HUBS))]
        };
        let new: Vec<_> =
            pairs.into_iter().filter(|pair| self.cuts.iter().all(|(cut, _)| cut != pair)).collect();
        if !new.is_empty() && self.cuts.len() + new.len() <= MAX_CUTS {
            self.say(&format!("cuts {new:?}"));
            self.net.cut(&new);
            self.cuts.extend(new.into_iter().map(|pair| (pair, until)));
        }
    }

    /// Clients without a connection come back to their hub, if it runs.
    fn rejoin(&mut self) {
        for client in 0..CLIENTS {
            let hub = client % HUBS;
            if !self.crowd.is_in(client) && matches!(self.states[hub], State::Runs) {
                self.crowd.join(client, &self.hubs[hub]);
            }
        }
    }

    fn wait_whole(&mut self) {
        self.hubs.iter().for_each(|hub| hub.wait_ready(HUBS - 1));
        // Each hub knows every client.
        let (hubs, crowd) = (&self.hubs, &mut self.crowd);
        until_ok("every hub knows every client", || {
            crowd.listen();
            let known: Vec<usize> = hubs.iter().map(|hub| hub.peers().len()).collect();
            if known.iter().all(|known| *known >= CLIENTS) { Ok(()) } else { Err(format!("{known:?}")) }
        });
    }
}

#[test]
fn every_signal_is_accounted_for_whatever_happens_to_hubs_and_links() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let seconds = number("CHAOS_SECONDS").unwrap_or(60);
    let standstill = if seconds >= BY_HAND { LONG_STANDSTILL } else { STANDSTILL };
    let seed = number("CHAOS_SEED").unwrap_or_else(rand::random);
    println!("CHAOS_SEED={seed}");
    let (ground, net) = (Ground::new(), Net::new(HUBS));
    let hubs: Vec<Hub> = (1..=HUBS).map(|host| plan(&net, host).start_on(&ground, PORT)).collect();
    let mut scene = Scene {
        net,
        ground,
        hubs,
        states: (0..HUBS).map(|_| State::Runs).collect(),
        cuts: Vec::new(),
        crowd: Crowd::new(CLIENTS),
        rng: StdRng::seed_from_u64(seed),
        faults: [0; 4],
        begin: Instant::now(),
        standstill,
    };
    scene.rejoin();
    scene.wait_whole();
    let published = (!skipped(&[Need::Node])).then(|| Clients::node(&scene.ground));
    let join = |name: &str, scene: &Scene, at: usize, network: &str| {
        published.as_ref().map(|clients| clients.join(name, &scene.hubs[at].url(), network))
    };
    let meet = |name: &str, scene: &Scene, at: usize| join(name, scene, at, "pigeons");
    let mut real: Vec<_> = (0..STEADY).filter_map(|at| meet(&format!("chaos{at}"), &scene, at)).collect();
    if !real.is_empty() {
        all_hear_all(&real.iter().collect::<Vec<_>>());
    }

    scene.begin = Instant::now();
    let mut next_guest = GUEST;
    while scene.begin.elapsed().as_secs() < seconds {
        scene.mend(false);
        if scene.rng.random_range(0..3) == 0 {
            scene.hurt();
        }
        scene.crowd.listen();
        scene.rejoin();
        let Scene { crowd, rng, .. } = &mut scene;
        crowd.talk(rng);
        crowd.judge();
        if scene.begin.elapsed() > next_guest {
            // It keeps its hub, which may stand still and be cut off: to find one that was killed
            // again a client may take five minutes.
            next_guest += GUEST;
            let at = scene.rng.random_range(0..STEADY);
            real.extend(meet(&format!("guest{}", real.len()), &scene, at));
        }
    }

    until_ok("every hub runs again", || {
        scene.mend(true);
        scene.crowd.listen();
        if scene.away() == 0 { Ok(()) } else { Err(format!("{} do not", scene.away())) }
    });
    scene.rejoin();
    scene.wait_whole();
    scene.crowd.listen();
    scene.rejoin();
    scene.crowd.settle();
    scene.crowd.all_reach_all();
    let [killed, restarted, stopped, cuts] = scene.faults;
    println!("killed {killed}, restarted {restarted}, stopped {stopped}, cut {cuts}: {:?}", scene.crowd.sums);
    // To reach a client's next connection it would have to be sent a second time.
    assert_eq!(scene.crowd.sums.moved, 0, "signals delivered twice: {:?}", scene.crowd.sums);
    // Published clients find each other in what is left, at a hub that was there all the time and at one that was not.
    let last: Vec<_> =
        [0, HUBS - 1].iter().filter_map(|at| join(&format!("last{at}"), &scene, *at, "last")).collect();
    if !last.is_empty() {
        all_hear_all(&last.iter().collect::<Vec<_>>());
    }
    scene.crowd.listen();
    println!("not told of each other again: {:?}", scene.crowd.untold());
}
