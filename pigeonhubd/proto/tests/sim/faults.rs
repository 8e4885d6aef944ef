//! What the scenario does to the world.

use std::time::Duration;

use pigeonhub_proto::io::Input;

use super::graph::distances;
use super::host::authority;
use super::world::{Event, Micros, SEC, World, trace};

/// One act. Numbers are hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    /// The process is killed.
    Kill(usize),
    /// The machine loses its power.
    PowerOff(usize),
    /// The operator asks it to leave, its clients within so long.
    Drain(usize, Micros),
    /// The operator changes his mind.
    Undrain(usize),
    /// By now it must have drained, if it is still in this life.
    Drained(usize, u32),
    Cut(usize, usize),
    /// The second hears nothing from the first.
    CutOneWay(usize, usize),
    Heal(usize, usize),
    /// All those marked are cut off from all others.
    Part(Vec<bool>),
    Pause(usize),
    Resume(usize),
    /// The operator gives it other settings.
    Reload(usize),
    /// The wall clock jumps by so many milliseconds.
    ClockStep(usize, i64),
    /// So many messages in a thousand are lost on their way and sent again below.
    Loss(u64),
    Chatter(bool),
}

/// Time for a hub to drain.
const DRAIN: Micros = 30 * SEC;

impl World {
    pub(crate) fn after(&mut self, delay: Micros, action: Action) {
        self.at(self.now + delay, Event::Act(action));
    }

    pub(crate) fn act(&mut self, action: Action) {
        trace!(self, 1, "*** {action:?}");
        match action {
            Action::Start(host) => self.start_again(host),
            Action::Kill(host) | Action::PowerOff(host) => {
                if self.hosts[host].up {
                    self.ledger.crashes.push(self.now);
                }
                self.kill(host, matches!(action, Action::PowerOff(_)));
            }
            Action::Drain(host, over) => self.drain(host, over),
            Action::Undrain(host) => self.undrain(host),
            Action::Reload(host) => self.reload(host),
            Action::Drained(host, life) => {
                let here = &self.hosts[host];
                if here.up && here.life == life && here.draining {
                    self.fail(format!("hub {host} has not drained in {} s", DRAIN / SEC));
                }
            }
            Action::Cut(a, b) => {
                self.disturbed();
                self.cut(a, b, None);
            }
            Action::CutOneWay(from, to) => {
                self.disturbed();
                self.cut(from, to, Some(to));
            }
            Action::Heal(a, b) if self.cuts.get(a, b).is_some() => {
                self.disturbed();
                self.heal(a, b);
            }
            Action::Heal(..) => {}
            Action::Part(marked) => {
                self.disturbed();
                for a in 0..marked.len() {
                    for b in 0..a {
                        if marked[a] != marked[b] {
                            self.cut(a, b, None);
                        }
                    }
                }
                self.parted = Some((self.now, marked));
            }
            Action::Pause(host) => {
                self.disturbed();
                self.pause(host, true);
            }
            Action::Resume(host) if self.hosts[host].stopped => {
                self.disturbed();
                self.pause(host, false);
            }
            Action::Resume(_) => {}
            Action::ClockStep(host, by) => self.hosts[host].skew_ms += by,
            Action::Loss(per_mille) => {
                self.disturbed();
                self.loss = per_mille;
            }
            Action::Chatter(on) => self.chatter = on,
        }
    }

    fn start_again(&mut self, host: usize) {
        if self.hosts[host].abandoned {
            return;
        }
        if self.hosts[host].life > 0 && self.params.clock_back && self.rng.percent(50) {
            // A machine without a battery: it comes back in the past.
            let back = Duration::from_secs(self.rng.range(1, 86_400));
            self.hosts[host].skew_ms -= back.as_millis() as i64;
        }
        if self.hosts[host].life > 0 {
            self.mend_bootstraps(host);
        }
        self.start(host);
    }

    /// The operator of a hub that comes back sees to it that it dials one that
    /// lives: those that remember it may have restarted too, and nobody looks
    /// for a hub that left on purpose.
    fn mend_bootstraps(&mut self, host: usize) {
        let lives = |number: &usize| {
            let host = &self.hosts[*number];
            !host.abandoned && !host.intruder && !host.unreached
        };
        let known = |url: &String| self.by_address.get(url.trim_start_matches("ws://"));
        if self.hosts[host].intruder
            || self.hosts[host].settings.bootstrap_hubs.iter().filter_map(known).any(&lives)
        {
            return;
        }
        // The one that is in the mesh for longest: another that has just come back may be as lost.
        let in_mesh = |other: &usize| *other != host && self.hosts[*other].up && !self.hosts[*other].draining;
        let others = (0..self.hosts.len()).filter(lives).filter(in_mesh);
        let other = others.min_by_key(|other| self.hosts[*other].started);
        if let Some(other) = other {
            self.hosts[host].settings.bootstrap_hubs.push(format!("ws://{}", authority(other)));
        }
    }

    fn drain(&mut self, host: usize, over: Micros) {
        if !self.hosts[host].up || self.hosts[host].stopped || self.hosts[host].draining {
            return;
        }
        self.changed = self.now;
        self.hosts[host].draining = true;
        let life = self.hosts[host].life;
        self.after(DRAIN, Action::Drained(host, life));
        self.feed(host, Input::Drain { over: Duration::from_micros(over) });
    }

    fn undrain(&mut self, host: usize) {
        if !self.hosts[host].up || self.hosts[host].stopped || !self.hosts[host].draining {
            return;
        }
        self.changed = self.now;
        self.hosts[host].draining = false;
        self.feed(host, Input::Undrain);
    }

    /// Whether `host` comes to every other by who is whose bootstrap.
    fn all_are_named(&self, host: usize) -> bool {
        let mut named = vec![Vec::new(); self.hosts.len()];
        for (number, of) in self.hosts.iter().enumerate() {
            let known = |url: &String| self.by_address.get(url.trim_start_matches("ws://"));
            for other in of.settings.bootstrap_hubs.iter().filter_map(known) {
                named[number].push(*other);
                named[*other].push(number);
            }
        }
        distances(&named, host).into_iter().take(self.params.hubs).all(|distance| distance.is_some())
    }

    /// Other numbers of links, another delay; now and then another bootstrap.
    fn reload(&mut self, host: usize) {
        if !self.hosts[host].up || self.hosts[host].stopped || self.hosts[host].draining {
            return;
        }
        let max_peers = self.rng.range(2, 7) as usize;
        let min_peers = self.rng.range(1, 3).min(max_peers as u64) as usize;
        let delay = Duration::from_millis(self.rng.range(500, 15_000));
        let other = self.rng.index(self.params.hubs);
        let swap = self.rng.percent(30) && other != host && !self.hosts[other].abandoned;
        let now = self.now;
        let here = &mut self.hosts[host];
        let before = here.most_links(now);
        here.lowered = (max_peers < before).then_some((now, before));
        here.over_since = None;
        here.settings.max_peers = max_peers;
        here.settings.min_peers = min_peers;
        here.settings.migration_delay = delay;
        if swap && !self.hosts[other].unreached {
            let here = &mut self.hosts[host].settings.bootstrap_hubs;
            let before = std::mem::replace(here, vec![format!("ws://{}", authority(other))]);
            if !self.all_are_named(host) {
                // After a restart of all nothing would bring these and the others together.
                let here = &mut self.hosts[host].settings.bootstrap_hubs;
                // Each once, as the configuration has them.
                here.extend(before.into_iter().filter(|url| *url != format!("ws://{}", authority(other))));
            }
        }
        trace!(
            self,
            1, "hub {host} reloads: max_peers {max_peers}, min_peers {min_peers}, another bootstrap: {swap}"
        );
        self.changed = now;
        self.reconfigure(host);
    }

    /// Whether every hub that lives can reach every other.
    pub(crate) fn is_whole(&self) -> bool {
        self.loss == 0 && self.cuts.pairs().is_empty() && !self.hosts.iter().any(|host| host.stopped)
    }

    /// Hubs that live may be parted from now on, or are not any more: not every signal must arrive.
    fn disturbed(&mut self) {
        self.ledger.parted = Some(self.now);
        self.changed = self.now;
        self.ledger.calm_since = None;
    }

    /// Ends every fault: the world is whole again.
    pub(crate) fn heal_all(&mut self) {
        trace!(self, 1, "*** all faults end");
        if !self.is_whole() {
            self.disturbed();
        }
        self.loss = 0;
        self.parted = None;
        for (a, b) in self.cuts.pairs() {
            self.heal(a, b);
        }
        for host in 0..self.hosts.len() {
            self.pause(host, false);
            if self.hosts[host].draining && self.hosts[host].up {
                // It leaves first; then it may come back.
                self.after(DRAIN, Action::Start(host));
            } else {
                self.start_again(host);
            }
        }
    }
}
