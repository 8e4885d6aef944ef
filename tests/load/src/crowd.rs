//! Many clients that mostly do nothing: they come, they stay, half of them die.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::cpu;
use crate::pings::Pingers;
use crate::socket::{self, Kind, Reader, after, connect};

const PATIENCE: Duration = Duration::from_secs(120);
/// Silence after which everyone counts as told.
const QUIET: Duration = Duration::from_millis(500);
/// Time for the hub to give back what coming cost.
const SETTLE: Duration = Duration::from_secs(3);

/// What to do.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) hub: SocketAddr,
    pub(crate) clients: usize,
    pub(crate) network_size: usize,
    /// Clients that connect at once.
    pub(crate) at_once: usize,
    pub(crate) pids: Vec<u32>,
    /// How long the hub is watched doing nothing.
    pub(crate) idle: Duration,
    /// Whether those of odd numbers are in a process of their own, which is killed.
    pub(crate) die: bool,
    /// Whether all leave at the end, and the hub's memory is looked at again.
    pub(crate) leave: bool,
    /// Tells runs apart; the same in both processes of one.
    pub(crate) run: u32,
    /// Of these numbers only: every so many, from this one.
    pub(crate) step: usize,
    pub(crate) from: usize,
}

/// What all clients of this process tell together.
struct Crowd {
    begin: Instant,
    messages: AtomicU64,
    /// When the last message came, in µs since `begin`.
    last: AtomicU64,
    lost: AtomicUsize,
    /// Peers that are to die, and that some client here was told of and not yet of their end.
    dying_known: AtomicUsize,
    told_at: AtomicU64,
}

impl Crowd {
    fn micros(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn quiet(&self) -> Duration {
        loop {
            let last = Duration::from_micros(self.last.load(Relaxed));
            if self.begin.elapsed() > last + QUIET {
                return last;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Client number `number` of a run.
pub(crate) fn id(run: u32, number: usize) -> String {
    format!("{:08x}{run:08x}{number:024x}", (number as u32).wrapping_mul(0x9e37_79b1))
}

fn number(id: &[u8]) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(id.get(16..)?).ok()?, 16).ok()
}

/// One client until its connection ends.
struct Client {
    incoming: Reader,
    out: OwnedWriteHalf,
    crowd: Arc<Crowd>,
    die: bool,
    known: HashSet<usize>,
    joined: Option<mpsc::Sender<()>>,
}

impl Client {
    async fn join(
        plan: &Plan,
        number: usize,
        crowd: Arc<Crowd>,
        joined: mpsc::Sender<()>,
    ) -> io::Result<Self> {
        let me = id(plan.run, number);
        let (incoming, mut out) = connect(plan.hub, &me, number).await?;
        let network = format!("crowd-{}-{}", plan.run, number / plan.network_size);
        let announce = json!({"type": "announce", "networkName": network, "data": {"peerId": me}});
        let mut frames = socket::text(&announce.to_string());
        // Its answer proves that the announce is done.
        frames.extend(socket::text("{\"type\":\"ping\"}"));
        out.write_all(&frames).await?;
        Ok(Self { incoming, out, crowd, die: plan.die, known: HashSet::new(), joined: Some(joined) })
    }

    async fn live(mut self) -> io::Result<()> {
        loop {
            let (kind, message) = self.incoming.next().await?;
            match kind {
                Kind::Text => {}
                Kind::Ping => {
                    self.out.write_all(&socket::pong()).await?;
                    continue;
                }
                Kind::Close => return Err(io::Error::other("closed by the hub")),
                Kind::Other => continue,
            }
            self.crowd.messages.fetch_add(1, Relaxed);
            self.crowd.last.fetch_max(self.crowd.micros(), Relaxed);
            let name = after(message, b"\"type\":\"", 16).unwrap_or_default();
            let peer = || number(after(message, b"\"peerId\":\"", 40)?);
            if name.starts_with(b"pong\"") {
                // Full if nobody asks any more.
                self.joined.take().map(|joined| joined.try_send(()));
            } else if self.die && name.starts_with(b"peer-discovered") {
                if let Some(peer) = peer().filter(|peer| peer % 2 == 1)
                    && self.known.insert(peer)
                {
                    self.crowd.dying_known.fetch_add(1, Relaxed);
                }
            } else if self.die
                && name.starts_with(b"peer-disconnecte")
                && peer().is_some_and(|peer| self.known.remove(&peer))
            {
                self.crowd.dying_known.fetch_sub(1, Relaxed);
                self.crowd.told_at.fetch_max(self.crowd.micros(), Relaxed);
            }
        }
    }
}

/// Everyone of this process connects and announces itself; the time that took.
async fn come(plan: &Plan) -> io::Result<(Arc<Crowd>, JoinSet<()>, Duration, mpsc::Receiver<()>)> {
    let crowd = Arc::new(Crowd {
        begin: Instant::now(),
        messages: AtomicU64::new(0),
        last: AtomicU64::new(0),
        lost: AtomicUsize::new(0),
        dying_known: AtomicUsize::new(0),
        told_at: AtomicU64::new(0),
    });
    let doors = Arc::new(Semaphore::new(plan.at_once));
    let numbers: Vec<usize> = (plan.from..plan.clients).step_by(plan.step).collect();
    let (sender, mut joined) = mpsc::channel(numbers.len().max(1));
    let mut clients = JoinSet::new();
    for number in &numbers {
        let door = Arc::clone(&doors).acquire_owned().await.map_err(io::Error::other)?;
        let (plan, number, crowd, sender) = (plan.clone(), *number, Arc::clone(&crowd), sender.clone());
        clients.spawn(async move {
            let joined = Client::join(&plan, number, Arc::clone(&crowd), sender).await;
            drop(door);
            let ended = match joined {
                Ok(client) => Box::pin(client.live()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended
                && crowd.lost.fetch_add(1, Relaxed) == 0
            {
                eprintln!("client {number}: {error}");
            }
        });
    }
    drop(sender);
    for _ in &numbers {
        let told = timeout(PATIENCE, joined.recv()).await;
        told.ok().flatten().ok_or_else(|| io::Error::other("not everyone could join"))?;
    }
    let time = crowd.begin.elapsed();
    Ok((crowd, clients, time, joined))
}

/// The clients of odd numbers, in a process of their own.
async fn start_dying(plan: &Plan) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["hold", "--hub", &plan.hub.to_string(), "--run", &plan.run.to_string()]);
    command.args(["--clients", &plan.clients.to_string(), "--network-size", &plan.network_size.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    // It ends by itself when this process does: its input ends then.
    let mut line = String::new();
    let read = spawn_blocking(move || io::BufReader::new(out).read_line(&mut line)).await??;
    if read == 0 { Err(io::Error::other("those who are to die did not join")) } else { Ok(child) }
}

/// Only joins, says so, and stays until its input ends.
pub(crate) async fn hold(plan: Plan) -> io::Result<()> {
    let _crowd = come(&plan).await?;
    println!("joined");
    spawn_blocking(|| io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

/// Runs it all and says how it went.
pub(crate) async fn run(plan: Plan) -> io::Result<Value> {
    let kib = || plan.pids.iter().map(|pid| cpu::resident(*pid)).sum::<u64>();
    let (kib_before, cpu_before) = (kib(), cpu::time(&plan.pids));
    let part = if plan.die { Plan { step: 2, from: 0, ..plan.clone() } } else { plan.clone() };
    let (crowd, clients, time, _joined) = come(&part).await?;
    let all_told = crowd.quiet().await;
    let cpu = cpu::time(&plan.pids).saturating_sub(cpu_before);
    let mut told = json!({
        "clients": plan.clients.div_ceil(part.step),
        "joined_s": time.as_secs_f64(),
        "all_told_s": all_told.as_secs_f64(),
        "per_second": plan.clients.div_ceil(part.step) as f64 / time.as_secs_f64(),
        "messages": crowd.messages.load(Relaxed),
        "cpu_us": cpu.as_secs_f64() * 1e6 / plan.clients.div_ceil(part.step) as f64,
    });
    if plan.die {
        merge(&mut told, die(&plan, &crowd).await?);
    } else {
        sleep(SETTLE).await;
        let each = kib().saturating_sub(kib_before) as f64 / plan.clients as f64;
        merge(&mut told, json!({"kib_each": each, "kib_empty": kib_before}));
    }
    if plan.idle > Duration::ZERO {
        let (cpu, begin) = (cpu::time(&plan.pids), Instant::now());
        sleep(plan.idle).await;
        let cpu = cpu::time(&plan.pids).saturating_sub(cpu);
        let percent = 100.0 * cpu.as_secs_f64() / begin.elapsed().as_secs_f64();
        merge(&mut told, json!({"idle_core_percent": percent}));
    }
    merge(&mut told, json!({"lost": crowd.lost.load(Relaxed)}));
    if plan.leave {
        drop(clients);
        sleep(SETTLE).await;
        merge(&mut told, json!({"kib_left": kib().saturating_sub(kib_before)}));
    }
    Ok(told)
}

/// Those of odd numbers come, and their process is killed.
async fn die(plan: &Plan, crowd: &Arc<Crowd>) -> io::Result<Value> {
    let mut dying = start_dying(plan).await?;
    crowd.quiet().await;
    let (known, messages) = (crowd.dying_known.load(Relaxed), crowd.messages.load(Relaxed));
    let mut pingers = Pingers::start(plan).await?;
    sleep(QUIET).await;
    pingers.begin();
    let (cpu, killed) = (cpu::time(&plan.pids), crowd.micros());
    dying.kill()?;
    let pings = pingers.told().await?;
    let deadline = Instant::now() + PATIENCE;
    while crowd.dying_known.load(Relaxed) > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
    crowd.quiet().await;
    dying.wait()?;
    let cpu = cpu::time(&plan.pids).saturating_sub(cpu);
    let told = crowd.told_at.load(Relaxed).saturating_sub(killed);
    let mut figures = json!({
        "died": plan.clients / 2,
        "deaths_to_tell": known,
        "untold": crowd.dying_known.load(Relaxed),
        "told_of_deaths_s": told as f64 / 1e6,
        "messages_of_deaths": crowd.messages.load(Relaxed) - messages,
        "cpu_us_per_death": cpu.as_secs_f64() * 1e6 / (plan.clients / 2).max(1) as f64,
    });
    merge(&mut figures, pings);
    Ok(figures)
}

/// Adds the members of one object to another.
fn merge(to: &mut Value, from: Value) {
    if let (Value::Object(to), Value::Object(from)) = (to, from) {
        to.extend(from);
    }
}
