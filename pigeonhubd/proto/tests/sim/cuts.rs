//! Connections that break: cut paths, dead ends, silence.

use std::collections::BTreeMap;

use pigeonhub_proto::io::ClosedBy;

use super::host::Conn;
use super::network::{Party, State};
use super::world::{Event, MS, SEC, World};

const RESET: &str = "reset by peer";

/// Which pairs of hosts cannot reach each other now, each with the cut's own
/// number, and the one of the two that alone hears nothing, if it is only one.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    by_pair: BTreeMap<(usize, usize), (u64, Option<usize>)>,
    next: u64,
}

impl Cuts {
    pub(crate) fn get(&self, a: usize, b: usize) -> Option<u64> {
        self.by_pair.get(&(a.min(b), a.max(b))).map(|(number, _)| *number)
    }

    /// Whether nothing that `from` sends reaches `to`.
    fn silences(&self, from: usize, to: usize) -> bool {
        self.by_pair
            .get(&(from.min(to), from.max(to)))
            .is_some_and(|(_, deaf)| deaf.is_none_or(|deaf| deaf == to))
    }

    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        self.by_pair.keys().copied().collect()
    }
}

impl World {
    pub(crate) fn is_cut(&self, a: Party, b: Party) -> bool {
        match (a, b) {
            (Party::Host(a), Party::Host(b)) => self.cuts.get(a, b).is_some(),
            _ => false,
        }
    }

    /// Whether what the one sends is on its way to the other for as long as a cut lasts.
    pub(crate) fn is_silenced(&self, from: Party, to: Party) -> bool {
        match (from, to) {
            (Party::Host(from), Party::Host(to)) => self.cuts.silences(from, to),
            _ => false,
        }
    }

    /// An end breaks, unless the cut that is to break it has healed.
    pub(crate) fn broken(&mut self, pipe: usize, side: usize, why: &'static str, cut: Option<u64>) {
        let here = &self.pipes[pipe];
        if here.ends[side].state == State::Gone {
            return;
        }
        let (a, b) = (here.ends[0].party, here.ends[1].party);
        if let (Some(_), Party::Host(a), Party::Host(b)) = (cut, a, b) {
            if self.cuts.get(a, b) != cut {
                return;
            }
        } else if self.is_cut(a, b) && why == RESET {
            // A reset does not cross a cut either.
            return self.at(self.now + SEC, Event::Break { pipe, side, why, cut });
        }
        let local = here.ends[side].state == State::Closing;
        self.gone(pipe, side, if local { ClosedBy::Local } else { ClosedBy::Broken(why.to_owned()) });
        if cut.is_some() {
            self.orphan(pipe, 1 - side, false);
        }
    }

    /// The far end of `to` is gone without a word; sooner or later `to` notices.
    pub(crate) fn orphan(&mut self, pipe: usize, to: usize, silent: bool) {
        if self.pipes[pipe].ends[to].state == State::Gone {
            return;
        }
        let (span, why) = match (self.pipes[pipe].channel, silent) {
            (true, _) => (self.rng.range(5 * SEC, 30 * SEC), "no answer to connectivity checks"),
            (false, true) => (self.rng.range(60 * SEC, 300 * SEC), "timed out"),
            (false, false) => (self.rng.range(MS, 50 * MS), RESET),
        };
        let at = self.pipes[pipe].inbound[to].last.max(self.now + span);
        self.at(at, Event::Break { pipe, side: to, why, cut: None });
    }

    /// A host is back: it answers what is sent on connections of its earlier lives with a reset.
    pub(crate) fn reset_orphans(&mut self, number: usize) {
        for pipe in 0..self.pipes.len() {
            let here = &self.pipes[pipe];
            for side in 0..2 {
                if !here.channel
                    && here.ends[side].party == Party::Host(number)
                    && here.ends[side].state == State::Gone
                    && matches!(here.ends[1 - side].state, State::Open | State::Closing)
                {
                    let at = self.now + self.rng.below(3 * SEC);
                    self.at(at, Event::Break { pipe, side: 1 - side, why: RESET, cut: None });
                    break;
                }
            }
        }
    }

    /// The pipes between two hosts that live at one end at least.
    fn between(&self, a: usize, b: usize) -> Vec<usize> {
        let mut pipes = Vec::new();
        for (from, to) in [(a, b), (b, a)] {
            for conn in self.hosts[from].conns.values() {
                if let &Conn::Pipe(pipe, side) = conn
                    && self.pipes[pipe].ends[1 - side].party == Party::Host(to)
                    && !pipes.contains(&pipe)
                {
                    pipes.push(pipe);
                }
            }
        }
        pipes
    }

    /// Nothing passes between two hosts any more. What is connected breaks after a while.
    /// With `deaf`, only that one of the two hears nothing.
    pub(crate) fn cut(&mut self, a: usize, b: usize, deaf: Option<usize>) {
        let pair = (a.min(b), a.max(b));
        if a == b || self.cuts.by_pair.contains_key(&pair) {
            return;
        }
        self.cuts.next += 1;
        let cut = self.cuts.next;
        self.cuts.by_pair.insert(pair, (cut, deaf));
        for pipe in self.between(a, b) {
            for side in 0..2 {
                let (low, high) = if self.pipes[pipe].channel { (5, 30) } else { (15, 60) };
                let at = self.now + self.rng.range(low * SEC, high * SEC);
                self.at(at, Event::Break { pipe, side, why: "timed out", cut: Some(cut) });
            }
        }
    }

    /// Two hosts reach each other again. What was held back is sent again soon.
    pub(crate) fn heal(&mut self, a: usize, b: usize) {
        if self.cuts.by_pair.remove(&(a.min(b), a.max(b))).is_none() {
            return;
        }
        for pipe in self.between(a, b) {
            for side in 0..2 {
                if self.pipes[pipe].inbound[side].held > 0 {
                    let at = self.now + self.rng.below(3 * SEC);
                    self.at(at, Event::Flush { pipe, side });
                }
            }
        }
    }
}
