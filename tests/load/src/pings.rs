//! Clients that ping a hub which is busy with others, in a process of their
//! own: it does nothing else and comes before others, so that what it times is
//! the hub and not this program.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep_until, timeout};

use crate::crowd::{Plan, id};
use crate::socket::{self, Kind, Reader, after, connect};

/// Clients, how often each pings, and for how long.
const PINGERS: usize = 100;
const EVERY: Duration = Duration::from_millis(50);
const FOR: Duration = Duration::from_millis(1500);
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The highest (nice(2)).
const PRIORITY: i32 = -20;
const PING: &str = "{\"type\":\"ping\"}";

/// The process.
pub(crate) struct Pingers(Child);

impl Pingers {
    /// Clients behind those of `plan`, in networks where nobody dies.
    pub(crate) async fn start(plan: &Plan) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["ping", "--hub", &plan.hub.to_string(), "--run", &plan.run.to_string()]);
        command.args(["--clients", &plan.clients.to_string()]);
        command.args(["--network-size", &plan.network_size.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.as_mut().ok_or_else(|| io::Error::other("no output"))?;
        // Byte by byte, so that nothing of the next line is taken.
        let mut one = [0];
        while io::Read::read(out, &mut one)? > 0 && one != *b"\n" {}
        if one == *b"\n" { Ok(Self(child)) } else { Err(io::Error::other("those who ping did not join")) }
    }

    /// They begin now.
    pub(crate) fn begin(&mut self) {
        // Its input ends.
        drop(self.0.stdin.take());
    }

    /// What they saw.
    pub(crate) async fn told(self) -> io::Result<Value> {
        let told = spawn_blocking(|| self.0.wait_with_output()).await??;
        serde_json::from_slice(&told.stdout).map_err(io::Error::other)
    }
}

/// One client and when it sent the pings that are not answered yet.
struct Pinger {
    incoming: Reader,
    out: OwnedWriteHalf,
    sent: VecDeque<Instant>,
}

impl Pinger {
    async fn join(plan: &Plan, number: usize) -> io::Result<Self> {
        let me = id(plan.run, number);
        let (incoming, mut out) = connect(plan.hub, &me, number).await?;
        let network = format!("crowd-{}-{}", plan.run, number / plan.network_size);
        let announce = json!({"type": "announce", "networkName": network, "data": {"peerId": me}});
        out.write_all(&socket::text(&announce.to_string())).await?;
        out.write_all(&socket::text(PING)).await?;
        let mut pinger = Self { incoming, out, sent: VecDeque::new() };
        // Its answer proves that the announce is done.
        while !pinger.heard().await? {}
        Ok(pinger)
    }

    /// Takes in one message; whether it is the answer to a ping.
    async fn heard(&mut self) -> io::Result<bool> {
        let (kind, message) = self.incoming.next().await?;
        match kind {
            Kind::Text => Ok(after(message, b"\"type\":\"", 5) == Some(b"pong\"")),
            Kind::Ping => self.out.write_all(&socket::pong()).await.map(|()| false),
            Kind::Close => Err(io::Error::other("closed by the hub")),
            Kind::Other => Ok(false),
        }
    }

    /// Pings at fixed times from `begin` on, answered or not: the round trips,
    /// and how late each ping was sent.
    async fn ping(mut self, begin: Instant) -> io::Result<(Vec<Duration>, Vec<Duration>)> {
        let (mut trips, mut late) = (Vec::new(), Vec::new());
        let mut due = begin;
        while due < begin + FOR || !self.sent.is_empty() {
            tokio::select! {
                () = sleep_until(due.into()), if due < begin + FOR => {
                    late.push(due.elapsed());
                    self.sent.push_back(Instant::now());
                    self.out.write_all(&socket::text(PING)).await?;
                    due += EVERY;
                }
                answered = self.heard() => if answered?
                    && let Some(sent) = self.sent.pop_front()
                {
                    trips.push(sent.elapsed());
                }
            }
        }
        Ok((trips, late))
    }
}

/// Joins, says so, waits for its input to end, pings, and tells what it saw.
pub(crate) async fn run(plan: Plan) -> io::Result<Value> {
    let first = plan.clients.div_ceil(plan.network_size) * plan.network_size;
    let mut pingers = Vec::new();
    for number in first..first + PINGERS {
        pingers.push(Pinger::join(&plan, number).await?);
    }
    // Who may not is told with the figures.
    let before_others = setpriority_process(None, PRIORITY).is_ok();
    println!("joined");
    spawn_blocking(|| io::stdin().lock().read_line(&mut String::new())).await??;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, pinger) in (0..).zip(pingers) {
        // Not all at once, or they would wait for each other.
        tasks.spawn(pinger.ping(begin + EVERY * number / PINGERS as u32));
    }
    let (mut trips, mut late, mut lost) = (Vec::new(), Vec::new(), 0);
    let deadline = tokio::time::Instant::now() + FOR + PATIENCE;
    while let Ok(Some(pinged)) =
        timeout(deadline.saturating_duration_since(tokio::time::Instant::now()), tasks.join_next()).await
    {
        match pinged.map_err(io::Error::other)? {
            Ok((some, times)) => {
                trips.extend(some);
                late.extend(times);
            }
            Err(_) => lost += 1,
        }
    }
    lost += tasks.len();
    Ok(json!({
        "pings": trips.len(),
        "pingers_lost": lost,
        "pinged_before_others": before_others,
        "ping_p50_ms": percentile(&mut trips, 0.5),
        "ping_p99_ms": percentile(&mut trips, 0.99),
        "ping_most_ms": percentile(&mut trips, 1.0),
        "ping_sent_late_p99_ms": percentile(&mut late, 0.99),
    }))
}

/// In ms: of these times so large a share is at most so long.
fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
