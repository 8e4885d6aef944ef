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

use super::{Closed, Hub, Raw, until_ok};

const NETWORK: &str = "crowd";

/// By then each signal's fate is known: `mesh.signal_timeout`, a hub's time to
/// notice that another is gone, and a busy machine's share.
const VERDICT: Duration = Duration::from_secs(30);

/// By then a signal is at its target's hub, or its sender is told: `mesh.signal_timeout`, and a busy
/// machine's share.
const ARRIVAL: Duration = Duration::from_secs(15);

/// One connection of a client.
struct Session {
    member: usize,
    began: Instant,
    ended: Option<Instant>,
    /// It ended without a close, and what was in the connection may be lost.
    broken: bool,
}

struct Member {
    id: String,
    raw: Option<Raw>,
    session: usize,
    /// Its hub stands still.
    still: bool,
    /// Whether this connection was told last of each other client that it is there.
    told_of: Vec<bool>,
}

#[derive(Debug)]
struct Signal {
    from: usize,
    to: usize,
    sent: Instant,
    /// How long it is waited for.
    patience: Duration,
    /// The sender's session.
    session: usize,
    /// The target's sessions that it reached.
    delivered: Vec<usize>,
    told: u32,
}

impl Signal {
    /// Its fate must be known by now.
    fn is_over(&self) -> bool {
        self.sent.elapsed() > self.patience
    }
}

/// The clients, and all that they sent.
pub(crate) struct Crowd {
    members: Vec<Member>,
    sessions: Vec<Session>,
    /// Connections that their clients gave up, though they are open.
    forgotten: Vec<(usize, Raw)>,
    /// When [`Self::judge`] was last at work.
    judged_at: Instant,
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
    /// Lost without a word, and the target's connection was closed in order, as its hub left, within
    /// the time in which the signal arrives: it was in that connection, or in the hub just before.
    /// Other losses this does not excuse.
    pub(crate) target_left: usize,
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
        let member = |at| Member { id: id(at), raw: None, session: 0, still: false, told_of: Vec::new() };
        let members = (0..count).map(member).collect();
        Self {
            members,
            sessions: Vec::new(),
            forgotten: Vec::new(),
            judged_at: Instant::now(),
            signals: Vec::new(),
            judged: 0,
            pad: String::new(),
            sums: Sums::default(),
        }
    }

    /// The hub of client `at` stands still, or goes on: what it says and is told waits meanwhile.
    pub(crate) fn stand_still(&mut self, at: usize, still: bool) {
        self.judge();
        self.members[at].still = still;
    }

    /// Client `at` gives its connection up without a word to its hub.
    pub(crate) fn forget(&mut self, at: usize) {
        let raw = self.members[at].raw.take().expect("it has a connection");
        let session = self.members[at].session;
        (self.sessions[session].ended, self.sessions[session].broken) = (Some(Instant::now()), true);
        self.forgotten.push((session, raw));
    }

    /// From now on each signal is larger by so many bytes.
    pub(crate) fn pad(&mut self, bytes: usize) {
        self.pad = "x".repeat(bytes);
    }

    /// The id of client `at`.
    pub(crate) fn id(&self, at: usize) -> &str {
        &self.members[at].id
    }

    /// Whether client `at` has a connection.
    pub(crate) fn is_in(&self, at: usize) -> bool {
        self.members[at].raw.is_some()
    }

    /// Client `at` connects to `hub` and announces itself.
    pub(crate) fn join(&mut self, at: usize, hub: &Hub) {
        let raw = Raw::join(hub, &self.members[at].id, NETWORK);
        self.members[at].raw = Some(raw);
        self.members[at].told_of = vec![false; self.members.len()];
        self.members[at].session = self.sessions.len();
        self.sessions.push(Session { member: at, began: Instant::now(), ended: None, broken: false });
    }

    /// Client `from` signals client `to`.
    pub(crate) fn signal(&mut self, from: usize, to: usize) {
        let target = spelled(&self.members[to].id, self.signals.len());
        let data = json!({"n": self.signals.len(), "pad": self.pad});
        let Some(raw) = &mut self.members[from].raw else { return };
        raw.offer(&target, NETWORK, &data);
        let (sent, session) = (Instant::now(), self.members[from].session);
        let patience = VERDICT;
        self.signals.push(Signal { from, to, sent, patience, session, delivered: Vec::new(), told: 0 });
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
            let Some(mut raw) = self.members[at].raw.take() else { continue };
            if self.hear_all(self.members[at].session, &mut raw) {
                self.members[at].raw = Some(raw);
            }
        }
        for (session, mut raw) in std::mem::take(&mut self.forgotten) {
            if self.hear_all(session, &mut raw) {
                self.forgotten.push((session, raw));
            }
        }
    }

    /// Takes in what came over one connection; whether it is still open.
    fn hear_all(&mut self, session: usize, raw: &mut Raw) -> bool {
        let (messages, closed) = raw.take();
        for message in messages {
            self.hear(session, &message);
        }
        let known = &mut self.sessions[session];
        if let (Some(closed), None) = (&closed, known.ended) {
            (known.ended, known.broken) = (Some(Instant::now()), matches!(closed, Closed::Broken(_)));
        }
        closed.is_none()
    }

    fn hear(&mut self, session: usize, message: &Value) {
        let at = self.sessions[session].member;
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
        } else if message["type"] == "peer-discovered" || message["type"] == "peer-disconnected" {
            let other = self.members.iter().position(|member| message["data"]["peerId"] == json!(member.id));
            if let Some(other) = other.filter(|_| self.members[at].session == session) {
                self.members[at].told_of[other] = message["type"] == "peer-discovered";
            }
        } else if message["type"] == "goodbye" {
            panic!("no client says goodbye, whatever becomes of its connection and its hub: {message}");
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
        let still = std::mem::replace(&mut self.judged_at, Instant::now()).elapsed();
        for signal in &mut self.signals[self.judged..] {
            if self.members[signal.from].still || self.members[signal.to].still {
                signal.patience += still;
            }
        }
        self.judge_those(Signal::is_over);
    }

    fn judge_those(&mut self, is_due: impl Fn(&Signal) -> bool) {
        while let Some(signal) = self.signals.get(self.judged)
            && is_due(signal)
        {
            let died = |session: &Session| {
                session.ended.is_some_and(|end| end >= signal.sent && end <= signal.sent + signal.patience)
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
                    let late = VERDICT - ARRIVAL;
                    let arrived = signal.sent + signal.patience - late;
                    let gone = |session: &&Session| {
                        session.member == signal.to
                            && session.ended.is_some_and(|end| end >= signal.sent && end <= arrived)
                    };
                    let gone = self.sessions.iter().filter(gone).map(|session| session.broken).max();
                    let Some(broken) = gone else {
                        panic!(
                            "signal {} is lost: {signal:?}; its ends' sessions: {}",
                            self.judged,
                            self.story(signal)
                        );
                    };
                    self.sums.target_gone += usize::from(broken);
                    self.sums.target_left += usize::from(!broken);
                }
            }
            self.judged += 1;
        }
    }

    /// When the sessions of both ends of a signal began and ended, in seconds after it was sent.
    fn story(&self, signal: &Signal) -> String {
        let after = |at: Instant| match at.checked_duration_since(signal.sent) {
            Some(after) => after.as_secs_f64(),
            None => -(signal.sent - at).as_secs_f64(),
        };
        let sessions = self.sessions.iter().enumerate();
        let theirs = sessions.filter(|(_, it)| it.member == signal.from || it.member == signal.to);
        let told = theirs.map(|(number, it)| {
            let end = it.ended.map_or(f64::INFINITY, after);
            let broken = if it.broken { " broken" } else { "" };
            format!("{number} of client {} from {:.3} to {end:.3}{broken}", it.member, after(it.began))
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Listens until every signal's fate is known, and judges.
    pub(crate) fn settle(&mut self) {
        until_ok("every signal is accounted for", || {
            self.listen();
            self.judge_those(|it| !it.delivered.is_empty() || it.told > 0 || it.is_over());
            let open = self.signals.len() - self.judged;
            if open == 0 { Ok(()) } else { Err(format!("{open} open")) }
        });
    }

    /// Pairs of clients of which the first was not told, or not again, that the second is there.
    pub(crate) fn untold(&self) -> Vec<String> {
        let members = self.members.iter().enumerate();
        let pairs = members.clone().flat_map(|one| members.clone().map(move |two| (one, two)));
        let untold = pairs.filter(|((a, one), (b, _))| a != b && !one.told_of[*b]);
        untold.map(|((a, _), (b, _))| format!("{a} of {b}")).collect()
    }

    /// Waits until all clients were told of each other.
    pub(crate) fn wait_introduced(&mut self) {
        until_ok("all clients are told of each other again", || {
            self.listen();
            let untold = self.untold();
            if untold.is_empty() { Ok(()) } else { Err(format!("{untold:#?}")) }
        });
    }

    /// Every client signals every other one, and all of it arrives.
    pub(crate) fn all_reach_all(&mut self) {
        assert!((0..self.members.len()).all(|at| self.is_in(at)), "all clients are connected");
        for from in 0..self.members.len() {
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
