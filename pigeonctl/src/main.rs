//! `pigeonctl`: what a running hub says of itself.

mod call;
mod find;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pigeonhub_proto::control::{Answer, Command};

use call::CallError;

/// Watch a running pigeonhubd.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Cli {
    /// The hub that listens on this port. Without it the one hub that runs here is taken.
    #[arg(long, global = true, value_name = "PORT", conflicts_with = "socket")]
    instance: Option<u16>,
    /// The hub with this control socket.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Ask,
}

#[derive(Subcommand)]
enum Ask {
    /// How the hub and its mesh are.
    Status,
    /// The hubs that it knows, itself first.
    Hubs,
    /// The peers that it knows.
    Peers {
        /// Only those of this network.
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
    },
}

impl From<Ask> for Command {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Status => Self::Status,
            Ask::Hubs => Self::Hubs,
            Ask::Peers { network } => Self::Peers { network },
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(CallError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pigeonctl: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CallError> {
    let socket = match cli.socket {
        Some(socket) => socket,
        None => find::socket(cli.instance)?,
    };
    let answer = call::ask(&socket, cli.command.into())?;
    let mut out = std::io::stdout().lock();
    match (&answer, cli.json) {
        (answer, true) => show::json(&mut out, answer),
        (Answer::Status(status), false) => show::status(&mut out, status),
        (Answer::Hubs(hubs), false) => show::hubs(&mut out, hubs),
        (Answer::Peers(peers), false) => show::peers(&mut out, peers),
        (answer, false) => show::json(&mut out, answer),
    }
    .map_err(CallError::Output)
}
