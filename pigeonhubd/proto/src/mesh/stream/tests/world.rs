//! Two ends, a network with weather between them, and a judge of all that happens.

use std::collections::{BTreeMap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// What the network does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Out of a hundred datagrams.
    pub(super) lost: u32,
    pub(super) doubled: u32,
    /// Each datagram takes a time of its own up to this, so they overtake each other.
    pub(super) delay_ms: u64,
}

/// A message that was pushed; its token is its place in [`World::pushed`].
struct Pushed {
    from: usize,
    stream: (u64, u32),
    /// Its place in the stream, from 1 on.
    place: u64,
    delivered: bool,
    over: bool,
}

/// Whether the far end has no use for a message.
fn refused(token: Token) -> Parts {
    match token {
        _ if token % 5 == 2 => 1,
        _ if token % 256 < 9 => 1 << 63 | 1 << (token % 7),
        _ => 0,
    }
}

struct End {
    stream: Stream,
    epoch: u64,
    /// Tokens in the order of pushing.
    unacked: VecDeque<Token>,
    /// Messages pushed in this generation.
    pushed: u64,
    /// What came last in this life: stream and place.
    last: Option<((u64, u32), u64)>,
    /// [`Event::Restarted`] and [`Event::Missed`] since then.
    restarted: bool,
    missed: bool,
}

enum Due {
    Datagram(Vec<u8>),
    /// The far end's record, with this epoch.
    Record(u64),
    Reachable(bool),
}

pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) now: Time,
    /// When timers were last looked after.
    ticked: Time,
    pub(super) weather: Weather,
    /// No datagram gets through.
    pub(super) cut: bool,
    /// How long a message lives.
    pub(super) patience: Duration,
    /// Whether a hub forgets streams, so that messages may be missed …
    pub(super) forgetful: bool,
    /// … even at a time when a message may be delivered to it again.
    pub(super) careless: bool,
    /// Whether anything but the weather happened: messages may be given up.
    pub(super) eventful: bool,
    ends: [End; 2],
    due: BTreeMap<(Time, u64), (usize, Due)>,
    count: u64,
    pushed: Vec<Pushed>,
}

impl End {
    fn new(stream: Stream, epoch: u64) -> Self {
        Self {
            stream,
            epoch,
            unacked: VecDeque::new(),
            pushed: 0,
            last: None,
            restarted: false,
            missed: false,
        }
    }
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let (a, b) = pair();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: START,
            ticked: Time::default(),
            weather,
            cut: false,
            patience: MS * 1_000_000_000,
            forgetful: false,
            careless: false,
            eventful: false,
            ends: [End::new(a, A), End::new(b, B)],
            due: BTreeMap::new(),
            count: 0,
            pushed: Vec::new(),
        }
    }

    fn at(&mut self, time: Time, end: usize, due: Due) {
        self.count += 1;
        self.due.insert((time, self.count), (end, due));
    }

    /// Something that `end` hears of some time later.
    fn later(&mut self, end: usize, up_to_ms: u64, due: Due) {
        let time = self.now + MS * self.rng.random_range(0..=up_to_ms) as u32;
        self.at(time, end, due);
    }

    pub(super) fn push(&mut self, at: usize, len: usize) {
        let token = self.pushed.len() as u64;
        let mut payload = token.to_le_bytes().to_vec();
        payload.resize(8 + len, 0);
        let end = &mut self.ends[at];
        if end.stream.push(payload.into(), token, self.now + self.patience).is_err() {
            return;
        }
        end.pushed += 1;
        end.unacked.push_back(token);
        let stream = (end.epoch, end.stream.generation());
        let place = end.pushed;
        self.pushed.push(Pushed { from: at, stream, place, delivered: false, over: false });
        self.settle(at);
    }

    pub(super) fn reset(&mut self, at: usize) {
        let tokens = self.ends[at].stream.reset();
        self.gave_up(at, tokens);
        self.settle(at);
    }

    /// The process dies and starts again.
    pub(super) fn restart(&mut self, at: usize) {
        let epoch = self.ends[at].epoch.max(self.now.0 / 1000) + 1;
        let remote = self.ends[1 - at].epoch;
        self.replace(at, End::new(Stream::new(epoch, remote, 1), epoch));
        self.later(1 - at, 2000, Due::Record(epoch));
    }

    /// The hub drops all it knows of the other, then starts afresh.
    pub(super) fn forget(&mut self, at: usize) {
        let epoch = self.ends[at].epoch;
        let generation = self.ends[at].stream.generation() + 1;
        let remote = self.ends[1 - at].epoch;
        self.replace(at, End::new(Stream::new(epoch, remote, generation), epoch));
    }

    /// Whether nothing is under way or waits to be.
    pub(super) fn quiet(&self) -> bool {
        self.due.is_empty() && self.ends.iter().all(|end| end.stream.is_idle())
    }

    fn replace(&mut self, at: usize, end: End) {
        let old = std::mem::replace(&mut self.ends[at], end);
        self.eventful = true;
        for token in old.unacked {
            self.pushed[token as usize].over = true;
        }
    }

    /// Each end hears of it on its own.
    pub(super) fn tell_reachable(&mut self, reachable: bool) {
        for end in [0, 1] {
            self.later(end, 500, Due::Reachable(reachable));
        }
    }

    pub(super) fn reroute(&mut self, at: usize) {
        self.ends[at].stream.rerouted();
        self.settle(at);
    }

    fn gave_up(&mut self, at: usize, tokens: Vec<Token>) {
        let end = &mut self.ends[at];
        let unacked = Vec::from(std::mem::take(&mut end.unacked));
        assert_eq!(tokens, unacked, "a reset names what is unacknowledged");
        end.pushed = 0;
        for token in tokens {
            self.eventful = true;
            self.pushed[token as usize].over = true;
        }
    }

    /// Lets the time pass until `end`, or until nothing is left to happen.
    pub(super) fn run(&mut self, end: Time) {
        loop {
            let network = self.due.first_key_value().map_or(Time::NEVER, |((time, _), _)| *time);
            let wake = |end: &End| end.stream.poll_timeout().min(end.stream.deadline());
            let next = wake(&self.ends[0]).min(wake(&self.ends[1])).min(network);
            if next > end {
                self.now = self.now.max(end);
                return;
            }
            assert!(next > self.ticked || next == network, "a timer that is over already");
            self.now = self.now.max(next);
            if network == next {
                if let Some((_, (at, due))) = self.due.pop_first() {
                    self.happen(at, due);
                }
            } else {
                self.tick();
            }
        }
    }

    fn tick(&mut self) {
        self.ticked = self.now;
        for at in [0, 1] {
            if self.ends[at].stream.expired(self.now) {
                self.reset(at);
            }
            self.ends[at].stream.handle_timeout(self.now);
            self.settle(at);
        }
    }

    fn happen(&mut self, at: usize, due: Due) {
        match due {
            Due::Datagram(bytes) => {
                let _ = give(&mut self.ends[at].stream, &bytes, self.now);
            }
            Due::Record(epoch) => {
                let before = self.ends[at].stream.generation();
                let tokens = self.ends[at].stream.set_remote_epoch(epoch);
                if self.ends[at].stream.generation() > before {
                    self.gave_up(at, tokens);
                }
            }
            Due::Reachable(reachable) => self.ends[at].stream.set_reachable(reachable),
        }
        self.settle(at);
    }

    /// Judges what `at` says and sends what it has to send.
    fn settle(&mut self, at: usize) {
        while let Some(event) = self.ends[at].stream.poll_event() {
            match event {
                Event::Delivered(payload) => self.judge_delivered(at, &payload),
                Event::Acked { token, refused } => self.judge_acked(at, token, refused),
                Event::Restarted => self.ends[at].restarted = true,
                Event::Missed => {
                    assert!(self.forgetful, "nothing can be missed");
                    self.ends[at].missed = true;
                }
            }
        }
        for datagram in drain(&mut self.ends[at].stream, self.now) {
            self.send(1 - at, datagram);
        }
        let stream = &self.ends[at].stream;
        let (held, held_bytes) = stream.held();
        let (flight, flight_bytes) = stream.sender.flight();
        assert!(held < WINDOW_MESSAGES && held_bytes <= WINDOW_BYTES.max(MAX_PAYLOAD));
        assert!(flight <= WINDOW_MESSAGES && flight_bytes <= WINDOW_BYTES.max(MAX_PAYLOAD));
        assert_eq!(stream.queued().0, self.ends[at].unacked.len());
    }

    fn send(&mut self, to: usize, datagram: Vec<u8>) {
        let copies = 1 + usize::from(self.rng.random_ratio(self.weather.doubled, 100));
        for _ in 0..copies {
            if !self.cut && !self.rng.random_ratio(self.weather.lost, 100) {
                self.later(to, self.weather.delay_ms, Due::Datagram(datagram.clone()));
            }
        }
    }

    fn judge_delivered(&mut self, at: usize, payload: &[u8]) {
        let token = u64::from_le_bytes(payload[..8].try_into().unwrap());
        let message = &mut self.pushed[token as usize];
        assert_eq!(message.from, 1 - at, "from the other end");
        let again = std::mem::replace(&mut message.delivered, true);
        assert!(!again || self.careless, "delivered to an earlier life too");
        let end = &mut self.ends[at];
        let (restarted, missed) = (std::mem::take(&mut end.restarted), std::mem::take(&mut end.missed));
        let place = (message.stream, message.place);
        let last = end.last.replace(place);
        let same = last.is_some_and(|(stream, _)| stream == message.stream);
        assert!(last < Some(place), "{last:?}, then {place:?}: again or out of order");
        // A stream of which nothing was delivered may have come and gone before the first.
        assert!(last.is_none() || restarted != same, "told of a new stream, and only then");
        let expected = if same { last.map_or(1, |(_, place)| place + 1) } else { 1 };
        assert!(message.place == expected || missed, "{last:?}, then {place:?}: a gap");
        for part in (0..64).filter(|part| refused(token) >> part & 1 == 1) {
            self.ends[at].stream.refuse_last(1 << part, self.now);
        }
    }

    fn judge_acked(&mut self, at: usize, token: Token, refused_there: Parts) {
        assert_eq!(refused(token), refused_there, "what was refused, and only that, is said to be");
        assert_eq!(self.ends[at].unacked.pop_front(), Some(token), "acknowledged in order");
        let message = &mut self.pushed[token as usize];
        assert!(message.delivered, "acknowledged but not delivered");
        assert!(!std::mem::replace(&mut message.over, true), "acknowledged once");
    }

    /// After all is over: nothing waits, and nothing was lost in silence.
    pub(super) fn judge_end(&self) {
        for end in &self.ends {
            assert!(end.stream.is_idle(), "{:?}", end.stream);
            assert!(end.stream.held().0 == 0 || self.eventful);
            assert_eq!(end.stream.poll_timeout(), Time::NEVER);
            assert_eq!(end.stream.deadline(), Time::NEVER);
        }
        assert!(self.due.is_empty());
        for message in &self.pushed {
            assert!(message.over);
            assert!(message.delivered || self.eventful, "{:?} {} lost", message.stream, message.place);
        }
    }

    pub(super) fn delivered(&self) -> usize {
        self.pushed.iter().filter(|message| message.delivered).count()
    }
}
