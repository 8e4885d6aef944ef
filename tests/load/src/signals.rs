//! Pairs of clients, of whom one sends signals to the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_tcp_congestion;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cpu;
use crate::socket::{self, Kind, Reader, after, connect};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Digits of a signal's number.
const DIGITS: usize = 9;
const NUMBER: &[u8] = b"\"n\":\"";

/// What to do.
pub(crate) struct Plan {
    pub(crate) senders_hub: SocketAddr,
    pub(crate) receivers_hub: SocketAddr,
    pub(crate) pairs: usize,
    /// Signals of one pair that may be on their way.
    pub(crate) in_flight: usize,
    /// Bytes of a signal, about.
    pub(crate) size: usize,
    /// Of the senders' sockets; else the system's.
    pub(crate) congestion_control: Option<String>,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    /// The hubs' processes.
    pub(crate) pids: Vec<u32>,
}

impl Plan {
    /// Sets what is asked for on a sender's socket.
    fn govern(&self, out: &OwnedWriteHalf) -> io::Result<()> {
        let Some(name) = &self.congestion_control else { return Ok(()) };
        set_tcp_congestion(out.as_ref(), name)
            .map_err(|error| io::Error::other(format!("no congestion control '{name}': {error}")))
    }
}

struct Pair {
    out: OwnedWriteHalf,
    incoming: Reader,
    // Read too, or what the hub says to the sender would fill up somewhere.
    ear: Reader,
    template: Template,
}

/// A signal as a frame, with a place for its number.
struct Template {
    frame: Vec<u8>,
    at: usize,
}

impl Template {
    fn new(target: &str, network: &str, size: usize) -> Self {
        // As a session description looks: lines, and so escapes.
        let line = "a=candidate:1 1 udp 2130706431 192.0.2.7 54400 typ host\r\n";
        let sdp: String = line.chars().cycle().take(size.saturating_sub(200)).collect();
        let zero = "0".repeat(DIGITS);
        let message = json!({
            "type": "offer", "data": {"n": zero, "type": "offer", "sdp": sdp},
            "targetPeerId": target, "networkName": network, "timestamp": 1_700_000_000_000_u64,
        });
        let frame = socket::text(&message.to_string());
        let at = frame.windows(NUMBER.len()).position(|it| it == NUMBER).map_or(0, |at| at + NUMBER.len());
        Self { frame, at }
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        let digits = format!("{number:0DIGITS$}");
        if let Some(place) = self.frame.get_mut(self.at..self.at + DIGITS) {
            place.copy_from_slice(digits.as_bytes());
        }
        &self.frame
    }
}

/// The number of a signal; none for other messages.
fn number(message: &[u8]) -> Option<u64> {
    std::str::from_utf8(after(message, NUMBER, DIGITS)?).ok()?.parse().ok()
}

/// An id that no two clients of any run on this machine share.
fn id(run: u32, side: u8, pair: usize) -> String {
    format!(
        "{:08x}{run:08x}{side:02x}{pair:022x}",
        (pair as u32).wrapping_mul(0x9e37_79b1) ^ u32::from(side) << 31
    )
}

async fn open(plan: &Plan, index: usize) -> io::Result<Pair> {
    let run = std::process::id();
    let (one, two) = (id(run, 1, index), id(run, 2, index));
    let network = format!("load-{run}-{index}");
    let announce = |peer: &str| {
        let message = json!({"type": "announce", "networkName": network, "data": {"peerId": peer}});
        socket::text(&message.to_string())
    };
    let (ear, mut out) = connect(plan.senders_hub, &one, index).await?;
    plan.govern(&out)?;
    let (incoming, mut mouth) = connect(plan.receivers_hub, &two, index).await?;
    mouth.write_all(&announce(&two)).await?;
    // Dropping it would end its half of the connection.
    mouth.forget();
    out.write_all(&announce(&one)).await?;
    let mut pair = Pair { out, incoming, ear, template: Template::new(&two, &network, plan.size) };
    timeout(PATIENCE, pair.reach()).await.map_err(|_| io::Error::other("no signal gets through"))??;
    Ok(pair)
}

impl Pair {
    /// Sends signal 0 until one arrives: hubs need a moment to tell each other of newcomers.
    async fn reach(&mut self) -> io::Result<()> {
        loop {
            self.out.write_all(self.template.numbered(0)).await?;
            let arrived = async {
                while number(self.incoming.next().await?.1).is_none() {}
                io::Result::Ok(())
            };
            match timeout(Duration::from_millis(20), arrived).await {
                Ok(done) => return done,
                Err(_) => while self.ear.ready()?.is_some() {},
            }
        }
    }
}

#[derive(Default)]
struct Count {
    sent: AtomicU64,
    heard: AtomicU64,
    /// Signals that came twice, out of order or not at all.
    wrong: AtomicU64,
    told: AtomicU64,
    over: AtomicBool,
}

/// Runs the pairs and says how it went.
pub(crate) async fn run(plan: Plan) -> io::Result<Value> {
    let count = Arc::new(Count::default());
    let mut tasks = JoinSet::new();
    let mut pairs = Vec::new();
    for index in 0..plan.pairs {
        pairs.push(open(&plan, index).await?);
    }
    for Pair { mut out, mut incoming, mut ear, mut template } in pairs {
        let credit = Arc::new(Semaphore::new(plan.in_flight));
        let (sending, given) = (Arc::clone(&count), Arc::clone(&credit));
        tasks.spawn(async move {
            for number in 1.. {
                let Ok(permit) = given.acquire().await else { break };
                permit.forget();
                if sending.over.load(Relaxed) {
                    // Else its half of the connection would end.
                    out.forget();
                    break;
                }
                sending.sent.fetch_add(1, Relaxed);
                // Each by itself, as a browser sends them.
                out.write_all(template.numbered(number)).await?;
            }
            io::Result::Ok(())
        });
        let listening = Arc::clone(&count);
        tasks.spawn(async move {
            let mut last = 0;
            loop {
                let mut next = Some(incoming.next().await?);
                let before = last;
                while let Some((kind, message)) = next {
                    match number(message).filter(|_| kind == Kind::Text) {
                        // Sent while the way was not known yet.
                        Some(0) if last == 0 => {}
                        Some(number) => {
                            if number != last + 1 {
                                listening.wrong.fetch_add(1, Relaxed);
                            }
                            last = number;
                        }
                        None => {}
                    }
                    next = incoming.ready()?;
                }
                let more = last - before;
                listening.heard.fetch_add(more, Relaxed);
                credit.add_permits(usize::try_from(more).unwrap_or(0));
            }
        });
        let complaints = Arc::clone(&count);
        tasks.spawn(async move {
            loop {
                let (_, message) = ear.next().await?;
                if after(message, b"\"type\":\"error\"", 0).is_some() {
                    complaints.told.fetch_add(1, Relaxed);
                }
            }
        });
    }
    sleep(plan.warm_up).await;
    // Those before were sent while the way was not known yet.
    let told = count.told.load(Relaxed);
    let (heard, cpu, begin) = (count.heard.load(Relaxed), cpu::time(&plan.pids), Instant::now());
    sleep(plan.time).await;
    let signals = count.heard.load(Relaxed) - heard;
    let (cpu, time) = (cpu::time(&plan.pids).saturating_sub(cpu), begin.elapsed());
    // What is on its way arrives, or is lost.
    count.over.store(true, Relaxed);
    let end = Instant::now() + PATIENCE;
    loop {
        while let Some(ended) = tasks.try_join_next() {
            ended.map_err(io::Error::other)??;
        }
        if count.heard.load(Relaxed) >= count.sent.load(Relaxed) || Instant::now() >= end {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let sent = count.sent.load(Relaxed);
    Ok(json!({
        "signals": signals,
        "per_second": signals as f64 / time.as_secs_f64(),
        "cpu_us": cpu.as_secs_f64() * 1e6 / signals.max(1) as f64,
        "sent": sent,
        "lost": sent.saturating_sub(count.heard.load(Relaxed)),
        "wrong": count.wrong.load(Relaxed),
        "errors": count.told.load(Relaxed) - told,
    }))
}

/// One signal there and one back, one at a time.
pub(crate) async fn round_trips(plan: Plan, rounds: usize) -> io::Result<Value> {
    let run = std::process::id();
    let network = format!("load-{run}-rt");
    let (one, two) = (id(run, 1, 0), id(run, 2, 0));
    let mut ends = Vec::new();
    for (hub, me, other) in [(plan.senders_hub, &one, &two), (plan.receivers_hub, &two, &one)] {
        let (incoming, mut out) = connect(hub, me, 0).await?;
        plan.govern(&out)?;
        let announce = json!({"type": "announce", "networkName": network, "data": {"peerId": me}});
        out.write_all(&socket::text(&announce.to_string())).await?;
        ends.push((incoming, out, Template::new(other, &network, plan.size)));
    }
    sleep(plan.warm_up).await;
    let (Some(mut there), Some(mut here)) = (ends.pop(), ends.pop()) else { return Ok(Value::Null) };
    let echo = tokio::spawn(async move {
        let (incoming, out, template) = &mut there;
        loop {
            if let Some(number) = number(incoming.next().await?.1) {
                out.write_all(template.numbered(number)).await?;
            }
        }
        #[allow(unreachable_code, reason = "names the error's type")]
        io::Result::Ok(())
    });
    let (incoming, out, template) = &mut here;
    let mut times = Vec::with_capacity(rounds);
    let warm = rounds / 10;
    let mut cpu = Duration::ZERO;
    for round in 1..=warm + rounds {
        if round == warm + 1 {
            cpu = cpu::time(&plan.pids);
        }
        let begin = Instant::now();
        let wanted = Some(round as u64);
        out.write_all(template.numbered(round as u64)).await?;
        let back = async {
            while number(incoming.next().await?.1) != wanted {}
            io::Result::Ok(())
        };
        timeout(PATIENCE, back).await.map_err(|_| io::Error::other("a signal was lost"))??;
        times.push(begin.elapsed());
    }
    echo.abort();
    let cpu = cpu::time(&plan.pids).saturating_sub(cpu);
    let mut times = times.split_off(warm);
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    Ok(json!({
        "rounds": rounds,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "cpu_us": cpu.as_secs_f64() * 1e6 / (2 * rounds) as f64,
    }))
}
