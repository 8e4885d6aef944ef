//! Puts load on a hub, of whatever make, and prints what came of it: one JSON
//! object on a line. See `compare` for what is made of that.

mod churn;
mod cpu;
mod crowd;
mod pings;
mod signals;
mod socket;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Builder;

#[derive(Parser)]
#[command(about = "Puts load on a hub and prints what came of it")]
struct Options {
    #[command(subcommand)]
    command: Command,
    /// Threads of this program.
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    /// The hub's process, whose time and memory are looked at. Repeatable.
    #[arg(long = "pid", global = true)]
    pids: Vec<u32>,
}

#[derive(Subcommand)]
enum Command {
    /// Pairs of clients: how many signals a second, and at what cost.
    Signals {
        #[command(flatten)]
        pairs: Pairs,
        #[arg(long, default_value = "64", value_parser = at_least_one)]
        pairs_count: usize,
        /// Signals of one pair that may be on their way.
        #[arg(long, default_value = "32", value_parser = at_least_one)]
        in_flight: usize,
        /// Seconds.
        #[arg(long, default_value = "3", value_parser = seconds)]
        time: Duration,
    },
    /// One pair: a signal there and one back, one at a time.
    RoundTrips {
        #[command(flatten)]
        pairs: Pairs,
        #[arg(long, default_value = "10000", value_parser = at_least_one)]
        rounds: usize,
    },
    /// Many clients come, stay, and perhaps die.
    Crowd {
        #[command(flatten)]
        clients: Clients,
        /// Seconds of looking at the hub doing nothing.
        #[arg(long, default_value = "0", value_parser = seconds)]
        idle: Duration,
        /// Half of them are killed.
        #[arg(long)]
        die: bool,
        /// They leave at the end, and the hub's memory is looked at again.
        #[arg(long)]
        leave: bool,
    },
    /// Clients come and go, and signal each other; a line of figures now and then.
    Churn {
        /// A hub's address and port. Repeatable.
        #[arg(long = "hub", required = true)]
        hubs: Vec<SocketAddr>,
        /// Clients that are there at once.
        #[arg(long, default_value_t = 200)]
        clients: usize,
        /// Clients of one network.
        #[arg(long, default_value_t = 10)]
        network_size: usize,
        /// A second, of all together.
        #[arg(long, default_value = "100", value_parser = rate)]
        connects: f64,
        /// A second, of all together.
        #[arg(long, default_value = "300", value_parser = rate)]
        signals: f64,
        /// Seconds.
        #[arg(long, default_value = "60", value_parser = seconds)]
        time: Duration,
        /// Seconds between two lines of figures.
        #[arg(long, default_value = "60", value_parser = seconds)]
        every: Duration,
        /// The same one, the same clients.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Those who are to die; `crowd` starts it.
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        clients: Clients,
        #[arg(long)]
        run: u32,
    },
    /// Those who ping meanwhile; `crowd` starts it.
    #[command(hide = true)]
    Ping {
        #[command(flatten)]
        clients: Clients,
        #[arg(long)]
        run: u32,
    },
}

#[derive(Args)]
struct Pairs {
    /// Where the senders are: an address and port.
    #[arg(long)]
    hub: SocketAddr,
    /// Where the receivers are, if elsewhere.
    #[arg(long)]
    other_hub: Option<SocketAddr>,
    /// Bytes of a signal.
    #[arg(long, default_value_t = 1200)]
    size: usize,
    /// The TCP congestion control of the senders' sockets, say `reno`; else the system's.
    #[arg(long)]
    congestion_control: Option<String>,
}

#[derive(Args)]
struct Clients {
    #[arg(long)]
    hub: SocketAddr,
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Clients of one network.
    #[arg(long, default_value_t = 10)]
    network_size: usize,
    /// Clients that connect at once.
    #[arg(long, default_value_t = 128)]
    at_once: usize,
}

impl Pairs {
    fn plan(self, pairs: usize, in_flight: usize, time: Duration, pids: Vec<u32>) -> signals::Plan {
        signals::Plan {
            senders_hub: self.hub,
            receivers_hub: self.other_hub.unwrap_or(self.hub),
            pairs,
            in_flight,
            size: self.size,
            congestion_control: self.congestion_control,
            warm_up: Duration::from_millis(500),
            time,
            pids,
        }
    }
}

impl Clients {
    fn plan(self, pids: Vec<u32>, run: u32) -> crowd::Plan {
        crowd::Plan {
            hub: self.hub,
            clients: self.clients,
            network_size: self.network_size.max(1),
            at_once: self.at_once.max(1),
            pids,
            idle: Duration::ZERO,
            die: false,
            leave: false,
            run,
            step: 1,
            from: 0,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("a number of seconds, such as 2 or 0.5"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// How often a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| String::from("a number from 0.001 to 1000000"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| String::from("a whole number, 1 or more"))
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(Options { command, threads, pids }: Options) -> std::io::Result<serde_json::Value> {
    let mut runtime = match command {
        // A thread's priority is its own.
        Command::Ping { .. } => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Signals { pairs, pairs_count, in_flight, time } => {
                signals::run(pairs.plan(pairs_count, in_flight, time, pids)).await
            }
            Command::RoundTrips { pairs, rounds } => {
                signals::round_trips(pairs.plan(1, 1, Duration::ZERO, pids), rounds).await
            }
            Command::Crowd { clients, idle, die, leave } => {
                crowd::run(crowd::Plan { idle, die, leave, ..clients.plan(pids, std::process::id()) }).await
            }
            Command::Churn { hubs, clients, network_size, connects, signals, time, every, seed } => {
                let (network_size, every) = (network_size.max(2), every.max(Duration::from_millis(100)));
                churn::run(churn::Plan { hubs, clients, network_size, connects, signals, time, every, seed })
                    .await
            }
            Command::Hold { clients, run } => {
                let plan = crowd::Plan { step: 2, from: 1, ..clients.plan(pids, run) };
                crowd::hold(plan).await.map(|()| serde_json::Value::Null)
            }
            Command::Ping { clients, run } => pings::run(clients.plan(pids, run)).await,
        }
    })
}
