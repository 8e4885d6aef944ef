//! What goes wrong in a round: each fault's acts, and when they happen.

use super::faults::Action;
use super::params::Fault;
use super::world::{MS, Micros, SEC, World};

/// What may go wrong at the same time.
const MIXED: [Fault; 9] = [
    Fault::Crashes,
    Fault::CutLinks,
    Fault::OneWay,
    Fault::Pauses,
    Fault::Loss,
    Fault::Drains,
    Fault::ClockSteps,
    Fault::CrashLoop,
    Fault::Reloads,
];

impl World {
    fn some_hubs(&mut self, most: usize) -> Vec<usize> {
        let mut hubs: Vec<usize> = self.members().map(|(number, _)| number).collect();
        self.rng.shuffle(&mut hubs);
        hubs.truncate(1 + self.rng.index(most.max(1)));
        hubs
    }

    /// Plans a fault's acts from now on; returns how long they last.
    pub(crate) fn plan(&mut self, fault: Fault) -> Micros {
        let hubs = self.params.hubs;
        let span = 30 * SEC;
        match fault {
            Fault::Crashes | Fault::PowerLoss | Fault::Drains => {
                for host in self.some_hubs(hubs / 3) {
                    let at = self.rng.below(span);
                    let action = match fault {
                        Fault::Crashes => Action::Kill(host),
                        Fault::PowerLoss => Action::PowerOff(host),
                        _ => Action::Drain(host, self.rng.range(0, 12 * SEC)),
                    };
                    self.after(at, action);
                    let back = at + self.rng.range(200 * MS, span);
                    if fault == Fault::Drains && self.rng.percent(20) {
                        let undo = at + self.rng.range(0, 12 * SEC);
                        self.after(undo, Action::Undrain(host));
                    }
                    if self.rng.percent(20) && self.members().count() > 3 {
                        self.hosts[host].abandoned = true;
                    } else {
                        self.after(back, Action::Start(host));
                    }
                }
                return 2 * span;
            }
            Fault::FewCrashes => {
                for host in self.some_hubs(hubs).into_iter().take(10) {
                    self.hosts[host].abandoned = true;
                    self.after(SEC, Action::Kill(host));
                }
                return 5 * SEC;
            }
            Fault::CutLinks => {
                for a in self.some_hubs(4) {
                    for b in self.some_hubs(2) {
                        let at = self.rng.below(span);
                        self.after(at, Action::Cut(a, b));
                        let back = at + self.rng.range(SEC, span - SEC);
                        self.after(back, Action::Heal(a, b));
                    }
                }
                return 2 * span;
            }
            Fault::OneWay => {
                for from in self.some_hubs(4) {
                    for to in self.some_hubs(2) {
                        let at = self.rng.below(span);
                        self.after(at, Action::CutOneWay(from, to));
                        let back = at + self.rng.range(SEC, span - SEC);
                        self.after(back, Action::Heal(from, to));
                    }
                }
                return 2 * span;
            }
            Fault::Stutter => {
                for host in self.some_hubs(hubs / 2) {
                    let mut at = self.rng.below(SEC);
                    while at < span {
                        self.after(at, Action::Pause(host));
                        at += self.rng.range(20 * MS, 1500 * MS);
                        self.after(at, Action::Resume(host));
                        at += self.rng.range(20 * MS, 1500 * MS);
                    }
                }
            }
            Fault::Many => {
                for host in self.some_hubs(hubs) {
                    self.after(SEC, Action::Kill(host));
                    let back = SEC + self.rng.range(10 * MS, span);
                    self.after(back, Action::Start(host));
                }
                return span + 5 * SEC;
            }
            Fault::CrashLoop => {
                for host in self.some_hubs(hubs / 3) {
                    let mut at = self.rng.below(span);
                    for _ in 0..self.rng.range(2, 6) {
                        self.after(at, Action::Kill(host));
                        at += self.rng.range(MS, 300 * MS);
                        self.after(at, Action::Start(host));
                        at += self.rng.range(20 * MS, 8 * SEC);
                    }
                }
                return 2 * span;
            }
            Fault::Reloads => {
                for host in self.some_hubs(hubs) {
                    for _ in 0..self.rng.range(1, 4) {
                        let at = self.rng.below(span);
                        self.after(at, Action::Reload(host));
                    }
                }
            }
            Fault::Halves | Fault::LongHalves => {
                let marked = (0..self.hosts.len()).map(|_| self.rng.percent(50)).collect();
                self.after(SEC, Action::Part(marked));
                if fault == Fault::LongHalves {
                    self.after(40 * SEC, Action::Chatter(false));
                    self.after(590 * SEC, Action::Chatter(true));
                    return 601 * SEC;
                }
                return self.rng.range(3 * SEC, 90 * SEC);
            }
            Fault::Isolated => {
                let mut marked = vec![false; self.hosts.len()];
                for host in self.some_hubs(1) {
                    marked[host] = true;
                }
                self.after(SEC, Action::Part(marked));
                return self.rng.range(3 * SEC, 120 * SEC);
            }
            Fault::Pauses => {
                for host in self.some_hubs(hubs / 3) {
                    let at = self.rng.below(span);
                    self.after(at, Action::Pause(host));
                    let back = at + self.rng.range(SEC, 20 * SEC);
                    self.after(back, Action::Resume(host));
                }
            }
            Fault::Loss => {
                let per_mille = self.rng.range(10, 150);
                self.after(0, Action::Loss(per_mille));
            }
            Fault::ClockSteps => {
                for host in self.some_hubs(hubs) {
                    let at = self.rng.below(span);
                    let by = self.rng.range(0, 7_200_000) as i64 - 3_600_000;
                    self.after(at, Action::ClockStep(host, by));
                }
            }
            Fault::AllRestart | Fault::Rolling => {
                for host in 0..hubs {
                    let at = if fault == Fault::Rolling { host as Micros * 2 * SEC } else { 0 };
                    self.after(at, Action::Kill(host));
                    let back = at + self.rng.range(SEC, 5 * SEC);
                    self.after(back, Action::Start(host));
                }
                return span + hubs as Micros * 2 * SEC;
            }
            Fault::Mixed => {
                for fault in MIXED {
                    if self.rng.percent(60) {
                        self.plan(fault);
                    }
                }
                return 2 * span;
            }
        }
        span + 20 * SEC
    }
}
