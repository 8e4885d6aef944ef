//! Clients that come, signal each other and leave again, for as long as one
//! likes, while hubs come and go too; and what became of every signal.
//!
//! Each signal's number is in its data, and in the spelling of its target's id:
//! ids are of letters alone, a capital is a 1, and a hub's `error` repeats it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::socket::{self, Kind, Reader, after, connect};

/// How long a client waits to be let in.
const PATIENCE: Duration = Duration::from_secs(30);
/// By then each signal's fate is known: a hub gives up after 10 seconds, or
/// once it has noticed that the target's hub is gone.
const VERDICT: Duration = Duration::from_secs(40);
/// The pause of a client that no hub lets in.
const PAUSE: Duration = Duration::from_millis(100);
const DIGITS: usize = 12;
const NUMBER: &[u8] = b"\"n\":\"";
/// Bytes of a signal beside its envelope, as of a candidate.
const PAD: usize = 200;

/// What to do.
pub(crate) struct Plan {
    pub(crate) hubs: Vec<SocketAddr>,
    /// Clients that are there at once, about.
    pub(crate) clients: usize,
    pub(crate) network_size: usize,
    /// Of all clients together, a second.
    pub(crate) connects: f64,
    pub(crate) signals: f64,
    pub(crate) time: Duration,
    /// Between two lines of figures.
    pub(crate) every: Duration,
    pub(crate) seed: u64,
}

/// A client that is here, as the others see it.
#[derive(Clone)]
struct Here {
    id: String,
    over: Arc<AtomicBool>,
}

struct Signal {
    number: u64,
    sent: Instant,
    sender: Arc<AtomicBool>,
    target: Arc<AtomicBool>,
    delivered: u32,
    told: u32,
}

#[derive(Default)]
struct Counts {
    connects: AtomicU64,
    not_let_in: AtomicU64,
    /// Connections that a hub ended.
    cut: AtomicU64,
    sent: AtomicU64,
    delivered: AtomicU64,
    told: AtomicU64,
    /// Both: the target's hub was silent for too long meanwhile.
    both: AtomicU64,
    /// Neither, but one end of the signal was gone by then.
    gone: AtomicU64,
    twice: AtomicU64,
    lost: AtomicU64,
}

struct World {
    plan: Plan,
    here: Mutex<Vec<Option<Here>>>,
    signals: Mutex<HashMap<u64, Signal>>,
    counts: Counts,
    end: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one(count: &AtomicU64) {
    count.fetch_add(1, Relaxed);
}

/// A target's id that carries `number` in its letters' case.
fn spelled(id: &str, number: u64) -> String {
    let letters = id.chars().enumerate();
    letters.map(|(at, c)| if number >> at & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect()
}

fn number_in(spelled: &[u8]) -> u64 {
    spelled.iter().enumerate().map(|(at, c)| u64::from(c.is_ascii_uppercase()) << at).sum()
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl World {
    fn figures(&self) -> Value {
        let counts = &self.counts;
        json!({
            "connects": counts.connects.load(Relaxed), "not_let_in": counts.not_let_in.load(Relaxed),
            "cut": counts.cut.load(Relaxed), "sent": counts.sent.load(Relaxed),
            "delivered": counts.delivered.load(Relaxed), "told": counts.told.load(Relaxed),
            "both": counts.both.load(Relaxed), "gone": counts.gone.load(Relaxed),
            "twice": counts.twice.load(Relaxed), "lost": counts.lost.load(Relaxed),
        })
    }

    /// Judges the signals sent so long ago.
    fn judge(&self, after: Duration) {
        let counts = &self.counts;
        lock(&self.signals).retain(|_, signal| {
            if signal.sent.elapsed() < after {
                return true;
            }
            if signal.delivered > 1 || signal.told > 1 {
                one(&counts.twice);
            }
            match (signal.delivered, signal.told) {
                (1.., 0) => one(&counts.delivered),
                (1.., _) => one(&counts.both),
                (0, 1..) => one(&counts.told),
                (0, 0) if signal.sender.load(Relaxed) || signal.target.load(Relaxed) => one(&counts.gone),
                (0, 0) => {
                    one(&counts.lost);
                    eprintln!("signal {} is lost", signal.number);
                }
            }
            false
        });
    }

    fn hear(&self, message: &[u8]) {
        let kind = after(message, b"\"type\":\"", 5).unwrap_or_default();
        if kind == b"offer" {
            if let Some(number) = after(message, NUMBER, DIGITS).and_then(digits)
                && let Some(signal) = lock(&self.signals).get_mut(&number)
            {
                signal.delivered += 1;
            }
        } else if kind == b"error"
            && let Some(target) = after(message, b"\"targetPeerId\":\"", 40)
            && let Some(signal) = lock(&self.signals).get_mut(&number_in(target))
        {
            signal.told += 1;
        }
    }
}

/// One stay of one client.
struct Stay {
    world: Arc<World>,
    slot: usize,
    over: Arc<AtomicBool>,
    incoming: Reader,
    out: OwnedWriteHalf,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(place) = lock(&self.world.here).get_mut(self.slot) {
            *place = None;
        }
        self.over.store(true, Relaxed);
    }
}

impl Stay {
    async fn begin(world: &Arc<World>, slot: usize, id: &str, hub: SocketAddr) -> io::Result<Self> {
        let (incoming, out) = connect(hub, id, slot).await?;
        let mut stay = Self { world: Arc::clone(world), slot, over: Arc::default(), incoming, out };
        let announce =
            json!({"type": "announce", "networkName": stay.network(), "data": {"peerId": id}}).to_string();
        let mut frames = socket::text(&announce);
        // Its answer proves that the announce is done.
        frames.extend(socket::text("{\"type\":\"ping\"}"));
        stay.out.write_all(&frames).await?;
        while !stay.listen().await? {}
        one(&world.counts.connects);
        if let Some(place) = lock(&world.here).get_mut(slot) {
            *place = Some(Here { id: id.to_owned(), over: Arc::clone(&stay.over) });
        }
        Ok(stay)
    }

    fn network(&self) -> String {
        format!("churn-{}", self.slot / self.world.plan.network_size)
    }

    /// Takes in one message; whether it is the answer to a ping.
    async fn listen(&mut self) -> io::Result<bool> {
        let (kind, message) = self.incoming.next().await?;
        match kind {
            Kind::Text if after(message, b"\"type\":\"", 5) == Some(b"pong\"") => return Ok(true),
            Kind::Text => self.world.hear(message),
            Kind::Ping => self.out.write_all(&socket::pong()).await?,
            Kind::Close => return Err(io::Error::other("closed by the hub")),
            Kind::Other => {}
        }
        Ok(false)
    }

    async fn signal(&mut self, rng: &mut StdRng) -> io::Result<()> {
        let size = self.world.plan.network_size;
        let first = self.slot / size * size;
        let target = {
            let here = lock(&self.world.here);
            let others: Vec<usize> = (first..(first + size).min(here.len()))
                .filter(|at| *at != self.slot && here.get(*at).is_some_and(Option::is_some))
                .collect();
            others.choose(rng).and_then(|at| here.get(*at).cloned().flatten())
        };
        let Some(target) = target else { return Ok(()) };
        let number = self.world.counts.sent.fetch_add(1, Relaxed);
        let message = json!({
            "type": "offer", "networkName": self.network(), "targetPeerId": spelled(&target.id, number),
            "data": {"n": format!("{number:0DIGITS$}"), "pad": "x".repeat(PAD)},
        });
        let (sender, target) = (Arc::clone(&self.over), target.over);
        let signal = Signal { number, sent: Instant::now(), sender, target, delivered: 0, told: 0 };
        lock(&self.world.signals).insert(number, signal);
        self.out.write_all(&socket::text(&message.to_string())).await
    }

    /// Stays for a time, and signals meanwhile.
    async fn live(&mut self, rng: &mut StdRng, time: Duration) -> io::Result<()> {
        let pause = self.world.plan.clients as f64 / self.world.plan.signals;
        let leave = Instant::now() + time;
        loop {
            let next = (Instant::now() + span(rng, pause)).min(leave);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => break,
                    heard = self.listen() => drop(heard?),
                }
            }
            if next == leave {
                return Ok(());
            }
            self.signal(rng).await?;
        }
    }
}

/// A time with that mean in seconds, as between two random events.
fn span(rng: &mut StdRng, mean: f64) -> Duration {
    Duration::from_secs_f64(-mean * (1.0 - rng.random::<f64>()).ln())
}

fn new_id(rng: &mut StdRng) -> String {
    (0..40).map(|_| char::from(rng.random_range(b'a'..=b'f'))).collect()
}

/// One client after the other, half of them with the id of the one before.
async fn visitors(world: Arc<World>, slot: usize) {
    let mut rng = StdRng::seed_from_u64(world.plan.seed.wrapping_add(slot as u64));
    let mean = world.plan.clients as f64 / world.plan.connects;
    let mut id = new_id(&mut rng);
    while Instant::now() < world.end {
        if rng.random() {
            id = new_id(&mut rng);
        }
        let Some(hub) = world.plan.hubs.choose(&mut rng) else { return };
        let begun = timeout(PATIENCE, Stay::begin(&world, slot, &id, *hub)).await;
        let Ok(Ok(mut stay)) = begun else {
            one(&world.counts.not_let_in);
            sleep(PAUSE).await;
            continue;
        };
        let time = span(&mut rng, mean).min(world.end.saturating_duration_since(Instant::now()));
        if stay.live(&mut rng, time).await.is_err() {
            one(&world.counts.cut);
        } else if rng.random() {
            // The others just vanish.
            let _ = stay.out.write_all(&socket::text("{\"type\":\"goodbye\"}")).await;
        }
    }
}

/// Runs it all, prints a line of figures now and then, and says how it went.
pub(crate) async fn run(plan: Plan) -> io::Result<Value> {
    let (clients, every, end) = (plan.clients, plan.every, Instant::now() + plan.time);
    let here = Mutex::new(vec![None; clients]);
    let world = Arc::new(World { plan, here, signals: Mutex::default(), counts: Counts::default(), end });
    let mut tasks = JoinSet::new();
    for slot in 0..clients {
        tasks.spawn(visitors(Arc::clone(&world), slot));
    }
    let mut tick = interval(every);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                world.judge(VERDICT);
                println!("{}", world.figures());
            }
            ended = tasks.join_next() => match ended {
                Some(ended) => ended.map_err(io::Error::other)?,
                None => break,
            }
        }
    }
    // Nobody is left who could still hear of it.
    world.judge(Duration::ZERO);
    Ok(world.figures())
}
