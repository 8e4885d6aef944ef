//! Clients that signal each other while the mesh suffers, and the account of
//! every signal: delivered once and in order, or its sender told.
//!
//! Each signal's number is in its data, and in the spelling of its target's id:
//! ids are of letters alone, a capital is a 1, and the hub's `error` repeats
//! the spelling. So each refusal names the one signal it is about.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{Hub, Raw, until_ok};

const NETWORK: &str = "crowd";

/// By then each signal's fate is known: `mesh.signal_timeout`, a hub's time to
/// notice that another is gone, and a busy machine's share.
const VERDICT: Duration = Duration::from_secs(30);

/// One connection of a client.
struct Session {
    member: usize,
    ended: Option<Instant>,
}

struct Member {
    id: String,
    raw: Option<Raw>,
    session: usize,
}

#[derive(Debug)]
struct Signal {
    from: usize,
    to: usize,
    sent: Instant,
    /// The sender's session.
    session: usize,
    /// The target's sessions that it reached.
    delivered: Vec<usize>,
    told: u32,
}

/// The clients, and all that they sent.
pub(crate) struct Crowd {
    members: Vec<Member>,
    sessions: Vec<Session>,
    signals: Vec<Signal>,
    /// Numbers below this one are judged already.
    judged: usize,
    /// Put into each signal.
    pad: String,
    /// The sums.
    pub(crate) sums: Sums,
}

/// What became of the signals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) sent: usize,
    pub(crate) delivered: usize,
    /// Not delivered, and the sender told.
    pub(crate) told: usize,
    /// Delivered and the sender told: its target's hub was silent for too long meanwhile.
    pub(crate) both: usize,
    /// The sender's own connection died within the time in which it would have been told.
    pub(crate) sender_gone: usize,
    /// The target's connection died with its hub, and perhaps what was in it.
    pub(crate) target_gone: usize,
    /// Reached two connections of one client, one after the other.
    pub(crate) moved: usize,
}

/// A target's id that carries `number` in its letters' case.
fn spelled(id: &str, number: usize) -> String {
    let bit = |at: usize| number >> at & 1 == 1;
    id.chars().enumerate().map(|(at, c)| if bit(at) { c.to_ascii_uppercase() } else { c }).collect()
}

fn number(spelled: &str) -> usize {
    spelled.chars().enumerate().map(|(at, c)| usize::from(c.is_ascii_uppercase()) << at).sum()
}

impl Crowd {
    /// So many clients, none connected.
    pub(crate) fn new(count: usize) -> Self {
        let id = |mut number: usize| -> String {
            let letter = |_| {
                let letter = char::from(b'a' + u8::try_from(number % 6).expect("below 6"));
                number /= 6;
                letter
            };
            (0..40).map(letter).collect()
        };
        let members = (0..count).map(|at| Member { id: id(at), raw: None, session: 0 }).collect();
        let (sessions, signals) = (Vec::new(), Vec::new());
        Self { members, sessions, signals, judged: 0, pad: String::new(), sums: Sums::default() }
    }

    /// From now on each signal is larger by so many bytes.
    pub(crate) fn pad(&mut self, bytes: usize) {
        self.pad = "x".repeat(bytes);
    }

    /// Whether client `at` has a connection.
    pub(crate) fn is_in(&self, at: usize) -> bool {
        self.members[at].raw.is_some()
    }

    /// Client `at` connects to `hub` and announces itself.
    pub(crate) fn join(&mut self, at: usize, hub: &Hub) {
        let raw = Raw::join(hub, &self.members[at].id, NETWORK);
        self.members[at].raw = Some(raw);
        self.members[at].session = self.sessions.len();
        self.sessions.push(Session { member: at, ended: None });
    }

    /// Client `from` signals client `to`.
    pub(crate) fn signal(&mut self, from: usize, to: usize) {
        let target = spelled(&self.members[to].id, self.signals.len());
        let data = json!({"n": self.signals.len(), "pad": self.pad});
        let Some(raw) = &mut self.members[from].raw else { return };
        raw.offer(&target, NETWORK, &data);
        let (sent, session) = (Instant::now(), self.members[from].session);
        self.signals.push(Signal { from, to, sent, session, delivered: Vec::new(), told: 0 });
    }

    /// Each client that is connected signals some other one.
    pub(crate) fn talk(&mut self, rng: &mut StdRng) {
        let all: Vec<usize> = (0..self.members.len()).collect();
        for from in 0..all.len() {
            match all.choose(rng) {
                Some(to) if *to != from => self.signal(from, *to),
                _ => {}
            }
        }
    }

    /// Takes in all that came to all clients by now.
    pub(crate) fn listen(&mut self) {
        for at in 0..self.members.len() {
            let Some(raw) = &mut self.members[at].raw else { continue };
            let messages = raw.take();
            let closed = raw.closed_by_now();
            for message in messages {
                self.hear(at, &message);
            }
            if closed.is_some() {
                self.members[at].raw = None;
                self.sessions[self.members[at].session].ended = Some(Instant::now());
            }
        }
    }

    fn hear(&mut self, at: usize, message: &Value) {
        let session = self.members[at].session;
        if message["type"] == "offer" {
            let number = message["data"]["n"].as_u64().expect("a signal of ours");
            let number = usize::try_from(number).expect("an index");
            let signal = &mut self.signals[number];
            assert_eq!(
                (signal.to, &message["fromPeerId"]),
                (at, &json!(self.members[signal.from].id)),
                "{message}"
            );
            assert!(!signal.delivered.contains(&session), "twice in one session: {message} {signal:?}");
            signal.delivered.push(session);
            let (from, sender) = (signal.from, signal.session);
            let later = self.signals[number + 1..].iter().enumerate().find(|(_, later)| {
                (later.from, later.to, later.session) == (from, at, sender)
                    && later.delivered.contains(&session)
            });
            assert!(later.is_none(), "out of order: {number} came after {later:?}");
        } else if message["type"] == "error" {
            assert_eq!(message["code"], "peer-unreachable", "{message}");
            let number = number(message["targetPeerId"].as_str().expect("whom it is about"));
            let signal = &mut self.signals[number];
            assert_eq!((signal.from, signal.session), (at, session), "{message} {signal:?}");
            signal.told += 1;
            assert_eq!(signal.told, 1, "told twice: {message}");
        }
    }

    /// Judges signals whose fate must be known by now.
    pub(crate) fn judge(&mut self) {
        self.judge_those(|signal| signal.sent.elapsed() > VERDICT);
    }

    fn judge_those(&mut self, is_due: impl Fn(&Signal) -> bool) {
        while let Some(signal) = self.signals.get(self.judged)
            && is_due(signal)
        {
            let died = |session: &Session| {
                session.ended.is_some_and(|end| end >= signal.sent && end <= signal.sent + VERDICT)
            };
            let sums = &mut self.sums;
            sums.sent += 1;
            sums.moved += usize::from(signal.delivered.len() > 1);
            match (signal.delivered.is_empty(), signal.told) {
                (false, 0) => sums.delivered += 1,
                (false, _) => sums.both += 1,
                (true, 1..) => sums.told += 1,
                (true, 0) if died(&self.sessions[signal.session]) => sums.sender_gone += 1,
                (true, 0) => {
                    let gone =
                        self.sessions.iter().any(|session| session.member == signal.to && died(session));
                    assert!(gone, "signal {} is lost: {signal:?}", self.judged);
                    sums.target_gone += 1;
                }
            }
            self.judged += 1;
        }
    }

    /// Listens until every signal's fate is known, and judges.
    pub(crate) fn settle(&mut self) {
        until_ok("every signal is accounted for", || {
            self.listen();
            self.judge_those(|it| !it.delivered.is_empty() || it.told > 0 || it.sent.elapsed() > VERDICT);
            let open = self.signals.len() - self.judged;
            if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
        });
    }

    /// Every client signals every other one, and all of it arrives.
    pub(crate) fn all_reach_all(&mut self) {
        for from in 0..self.members.len() {
            assert!(self.is_in(from), "client {from} is connected");
            for to in (0..self.members.len()).filter(|to| *to != from) {
                self.signal(from, to);
            }
        }
        let first = self.signals.len() - self.members.len() * (self.members.len() - 1);
        until_ok("every client reaches every other one", || {
            self.listen();
            let missing: Vec<_> = self.signals[first..].iter().filter(|it| it.delivered.is_empty()).collect();
            assert!(missing.iter().all(|it| it.told == 0), "refused in a whole mesh: {missing:?}");
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        });
    }
}
