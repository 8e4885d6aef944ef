//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use pigeonhub_proto::config::LogLevel;
use pigeonhub_proto::event::{Event, OF_DAEMON};

/// Watch and steer a running pigeonhubd.
///
/// Without --instance or --socket the one hub that runs here is taken. Ids may be shortened to an
/// unambiguous beginning.
#[derive(Parser)]
#[command(name = "pigeonctl", version, about, disable_help_subcommand = true, after_help = AFTER)]
pub(crate) struct Cli {
    /// The hub that listens on this port
    #[arg(long, global = true, value_name = "PORT", conflicts_with = "socket")]
    pub(crate) instance: Option<u16>,
    /// The hub with this control socket
    #[arg(long, global = true, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Ask,
}

const AFTER: &str = "Exit status: 0 done, 1 failed, 2 usage, 3 not running, 4 no permission, 5 not ready, \
                     6 configuration rejected, 7 time-out, 8 not found, 9 not serving. See pigeonctl(1).";

#[derive(Subcommand)]
pub(crate) enum Ask {
    /// How the hub and its mesh are, on one screen
    Status {
        /// Show it anew every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// All hubs of this machine
    Instances,
    /// The peers: who is here, and who is elsewhere and where
    #[command(args_conflicts_with_subcommands = true)]
    Peers {
        /// Only those of this network
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
        #[command(subcommand)]
        one: Option<OnePeer>,
    },
    /// The networks, with their peers here and elsewhere
    Networks,
    /// The mesh's hubs, with distance and path
    Hubs,
    /// This hub's links: transport, round trip, bytes, addresses
    Links,
    /// The whole mesh as a picture
    Topology(Picture),
    /// Which way a signal would take, and why
    Route {
        /// A peer or hub
        id: String,
    },
    /// Send a probe, and show each hub on its way
    Trace {
        /// A peer or hub
        id: String,
    },
    /// Measure round trips to a hub
    Ping {
        /// The hub, or a peer at it
        hub: String,
        /// How many probes, one a second
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
    },
    /// Follow events, one a line, until Ctrl-C
    Events {
        /// First those since then: a duration such as 10m, or the number of an event. Without it, the last ten
        #[arg(long, value_name = "WHEN")]
        since: Option<Since>,
        /// Only events of this name; may be repeated
        #[arg(long = "type", value_name = "NAME", value_delimiter = ',', ignore_case = true,
              value_parser = PossibleValuesParser::new(event_names()))]
        types: Vec<String>,
        /// End after those that there are
        #[arg(long)]
        no_follow: bool,
    },
    /// Check a configuration without a hub
    ///
    /// Several files are laid over each other in their order. Without any, those that the daemon would read:
    /// /etc/pigeonhubd/pigeonhubd.toml, conf.d/*.toml, and each PORT.toml, or that of --instance.
    Check {
        /// Configuration files
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// The configuration in force
    Config {
        #[command(subcommand)]
        what: ConfigAsk,
    },
    /// Have the hub read its configuration anew, and show what changed
    Reload {
        /// Only show what would change
        #[arg(long)]
        dry_run: bool,
        /// Ask every hub that runs here, one after another; fails if one refused
        #[arg(long)]
        all: bool,
    },
    /// Have the hub leave the mesh, and take no new clients
    Drain,
    /// Have a draining hub join again
    Undrain,
    /// Close a client's connection
    Disconnect {
        /// The peer
        id: String,
    },
    /// Change how much is logged
    LogLevel {
        /// How much
        #[arg(ignore_case = true, value_parser = PossibleValuesParser::new(LogLevel::ALL.map(|level| level.as_str())))]
        level: String,
        /// Only so long, such as 10m; then the configured level is back
        #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
    },
    /// All figures, in Prometheus' text format
    Metrics {
        /// As OpenMetrics text, which also tells units
        #[arg(long)]
        openmetrics: bool,
    },
    /// Wait for a state
    Wait {
        #[command(flatten)]
        what: WaitFor,
        /// At most so long, such as 30s
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Make and read tickets of clients
    Ticket {
        #[command(subcommand)]
        what: TicketAsk,
    },
    /// Look for what keeps a hub from working, and say how to cure it
    Doctor,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// The versions of pigeonctl and of the hub
    Version,
}

/// Every name that an event may have.
pub(crate) fn event_names() -> impl Iterator<Item = &'static str> {
    Event::NAMES.into_iter().chain(OF_DAEMON)
}

#[derive(Subcommand)]
pub(crate) enum OnePeer {
    /// One peer, in each of its networks, and the way to it
    Show {
        /// The peer
        id: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ConfigAsk {
    /// Print it, as TOML
    Show {
        /// With where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum TicketAsk {
    /// Sign one, for trying: your own program signs those of your users
    New(NewTicket),
    /// Print what one says and, with --keys, whether a hub with these keys takes it
    Show {
        /// The ticket
        ticket: String,
        /// A file as auth.ticket_keys names one
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        keys: Option<PathBuf>,
    },
}

/// What a new ticket is to say.
#[derive(Args)]
pub(crate) struct NewTicket {
    /// An Ed25519 private key in PEM, or a file with an HS256 secret as auth.ticket_keys names one
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) key: PathBuf,
    /// How long it is good, such as 1h
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) lasts: Duration,
    /// The peer id that it is for: nobody without such a ticket gets that id while its holder is there
    #[arg(long, value_name = "ID")]
    pub(crate) peer: Option<String>,
    /// A network that it opens, with * for any text; may be repeated. Without it, all
    #[arg(long = "network", value_name = "PATTERN")]
    pub(crate) networks: Vec<String>,
    /// Its name: tickets of one name share their limits
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Connections with it at once, at one hub
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<NonZeroU32>,
    /// Messages a second of all its connections, at one hub
    #[arg(long, value_name = "N")]
    pub(crate) max_messages_per_second: Option<NonZeroU32>,
    /// Bytes of announce data in one network
    #[arg(long, value_name = "N")]
    pub(crate) max_announce_bytes: Option<u32>,
}

/// What is waited for.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WaitFor {
    /// Until the mesh is ready, as its page /meshz says; else exit status 5
    #[arg(long, visible_alias = "mesh")]
    pub(crate) ready: bool,
    /// Until the hub takes clients, as its page /readyz says, whatever its mesh is; else exit status 9
    #[arg(long)]
    pub(crate) serving: bool,
}

/// How the mesh is drawn.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct Picture {
    /// For Graphviz
    #[arg(long)]
    pub(crate) dot: bool,
    /// For Mermaid
    #[arg(long)]
    pub(crate) mermaid: bool,
    /// As an image; to standard output if FILE is -
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) svg: Option<PathBuf>,
}

/// Where to begin with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// After the event of that number.
    Number(u64),
    /// That long ago.
    Ago(Duration),
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(number) => Ok(Self::Number(number)),
            Err(_) => humantime::parse_duration(text)
                .map(Self::Ago)
                .map_err(|_| String::from("should be a duration such as 10m, or the number of an event")),
        }
    }
}
