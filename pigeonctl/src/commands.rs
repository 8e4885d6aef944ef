//! From the command line to what is asked and shown.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::CommandFactory;
use pigeonhub_proto::control::{Answer, Command, ReloadReport};
use pigeonhub_proto::exposition;
use serde_json::json;

use crate::call::{self, Call};
use crate::cli::{Ask, Cli, ConfigAsk, OnePeer, Picture};
use crate::failure::Failure;
use crate::look::{Look, count, duration};
use crate::talk::say;
use crate::text::clean;
use crate::{check, doctor, find, flows, show, ticket, topology};

/// How long a hub may take to read its configuration and put it in force.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Which hub is meant, and how its answers are shown.
pub(crate) struct Front {
    instance: Option<u16>,
    socket: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) look: Look,
}

impl Front {
    /// The hub's control socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, Failure> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => find::socket(self.instance),
        }
    }

    /// Whether the socket itself was named, so that no other hub can be meant.
    pub(crate) fn names_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// The port that was named.
    pub(crate) fn port(&self) -> Option<u16> {
        self.instance
    }

    /// One question to the hub.
    pub(crate) fn ask(&self, command: Command) -> Result<Answer, Failure> {
        call::ask(&self.socket()?, command)
    }

    /// Asks, and shows the answer.
    fn show(&self, command: Command) -> Result<(), Failure> {
        let answer = self.ask(command)?;
        self.print(&answer)
    }

    fn print(&self, answer: &Answer) -> Result<(), Failure> {
        let (mut out, look) = (io::stdout().lock(), &self.look);
        match answer {
            answer if self.json => show::json(&mut out, answer)?,
            Answer::Peers(none) if none.is_empty() => say("no peer is known to this hub"),
            Answer::Networks(none) if none.is_empty() => say("no network has a peer that this hub knows"),
            Answer::Links(none) if none.is_empty() => say("no link to another hub"),
            Answer::Hubs(hubs) => show::hubs(&mut out, look, hubs)?,
            Answer::Peers(peers) => show::peers(&mut out, look, peers)?,
            Answer::Networks(networks) => show::networks(&mut out, look, networks)?,
            Answer::Links(links) => show::links(&mut out, look, links)?,
            Answer::Route(route) => show::route(&mut out, look, route)?,
            Answer::Metrics(text) => out.write_all(text.as_bytes())?,
            Answer::Done(text) => say(text),
            other => show::json(&mut out, other)?,
        }
        Ok(())
    }
}

/// The figures; in the format that every collector reads, if not asked for the other.
fn metrics(front: &Front, openmetrics: bool) -> Result<(), Failure> {
    let answer = match front.ask(Command::Metrics)? {
        Answer::Metrics(text) if !openmetrics => Answer::Metrics(exposition::classic(&text)),
        answer => answer,
    };
    front.print(&answer)
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { instance, socket, json, command } = cli;
    let front = Front { instance, socket, json, look: Look::of_stdout() };
    match command {
        Ask::Status { watch: false } => flows::status(&front),
        Ask::Status { watch: true } => flows::watch(&front),
        Ask::Instances => flows::instances(&front),
        Ask::Peers { one: None, network } => peers(&front, network),
        Ask::Peers { one: Some(OnePeer::Show { id }), .. } => one_peer(&front, id),
        Ask::Networks => front.show(Command::Networks),
        Ask::Hubs => front.show(Command::Hubs),
        Ask::Links => front.show(Command::Links),
        Ask::Topology(picture) => draw(&front, &picture),
        Ask::Route { id } => front.show(Command::Route { id }),
        Ask::Trace { id } => flows::trace(&front, id),
        Ask::Ping { hub, count } => flows::ping(&front, &hub, count),
        Ask::Events { since, types, no_follow } => flows::events(&front, since, &types, !no_follow),
        Ask::Check { files } => check::run(&front, &files),
        Ask::Config { what: ConfigAsk::Show { origin } } => config(&front, origin),
        Ask::Reload { dry_run, all: false } => reload(&front, &front.socket()?, dry_run),
        Ask::Reload { dry_run, all: true } => reload_all(&front, dry_run),
        Ask::Drain => front.show(Command::Drain),
        Ask::Undrain => front.show(Command::Undrain),
        Ask::Disconnect { id } => front.show(Command::Disconnect { id }),
        Ask::LogLevel { level, duration } => {
            let seconds = duration.map(|duration| duration.as_secs());
            if seconds == Some(0) {
                return Err(Failure::Usage(String::from("--for should be at least 1s")));
            }
            front.show(Command::LogLevel { level, seconds })
        }
        Ask::Metrics { openmetrics } => metrics(&front, openmetrics),
        Ask::Wait { what, timeout } => flows::wait(&front, &what, timeout),
        Ask::Ticket { what } => ticket::run(&front, what),
        Ask::Doctor => doctor::run(&front),
        Ask::Completions { shell } => completions(&front, shell),
        Ask::Version => version(&front),
    }
}

fn peers(front: &Front, network: Option<String>) -> Result<(), Failure> {
    let answer = front.ask(Command::Peers { network: network.clone() })?;
    match (&answer, network) {
        (Answer::Peers(none), Some(name)) if none.is_empty() && !front.json => say(&format!(
            "no peer in network '{}' is known to this hub; pigeonctl networks lists those that have peers",
            clean(&name)
        )),
        _ => front.print(&answer)?,
    }
    Ok(())
}

fn one_peer(front: &Front, id: String) -> Result<(), Failure> {
    let answer = front.ask(Command::Peer { id })?;
    let (Answer::Peers(peers), false) = (&answer, front.json) else { return front.print(&answer) };
    let mut out = io::stdout().lock();
    show::peer(&mut out, &front.look, peers)?;
    // Of a peer elsewhere, the way as well. It may have left since.
    if let Some(peer) = peers.iter().find(|peer| !peer.local)
        && let Ok(Answer::Route(route)) = front.ask(Command::Route { id: peer.peer_id.clone() })
    {
        show::way(&mut out, &front.look, &route)?;
    }
    Ok(())
}

fn draw(front: &Front, picture: &Picture) -> Result<(), Failure> {
    let answer = front.ask(Command::Topology)?;
    let mut out = io::stdout().lock();
    let Answer::Topology(mesh) = &answer else { return front.print(&answer) };
    match picture {
        Picture { dot: true, .. } => out.write_all(topology::dot(mesh).as_bytes())?,
        Picture { mermaid: true, .. } => out.write_all(topology::mermaid(mesh).as_bytes())?,
        Picture { svg: Some(file), .. } if file.as_os_str() == "-" => {
            out.write_all(topology::svg(mesh).as_bytes())?;
        }
        Picture { svg: Some(file), .. } => {
            let written = std::fs::write(file, topology::svg(mesh));
            written.map_err(|error| Failure::File { path: file.clone(), done: "written", error })?;
            say(&format!("{} written: {}", file.display(), count(mesh.hubs.len(), "hub")));
        }
        _ if front.json => show::json(&mut out, &answer)?,
        _ => topology::terminal(&mut out, &front.look, mesh)?,
    }
    Ok(())
}

fn config(front: &Front, origin: bool) -> Result<(), Failure> {
    let answer = front.ask(Command::Config)?;
    let (Answer::Config(values), false) = (&answer, front.json) else { return front.print(&answer) };
    Ok(show::config(&mut io::stdout().lock(), &front.look, values, origin)?)
}

/// Asks each, however it went with the one before. The status is that of the first that refused.
fn reload_all(front: &Front, dry_run: bool) -> Result<(), Failure> {
    if front.port().is_some() || front.names_socket() {
        return Err(Failure::Usage(String::from("--all asks every hub; leave out --instance and --socket")));
    }
    let mut refused = None;
    for (port, socket) in find::running()? {
        if !front.json {
            say(&format!("hub on port {port}:"));
        }
        if let Err(failure) = reload(front, &socket, dry_run) {
            say(&format!("pigeonctl: hub on port {port}: {failure}"));
            refused.get_or_insert(Failure::OneOf { port, failure: Box::new(failure) });
        }
    }
    refused.map_or(Ok(()), Err)
}

fn reload(front: &Front, socket: &Path, dry_run: bool) -> Result<(), Failure> {
    let mut call = Call::open(socket)?.timeout(RELOAD_TIMEOUT);
    let answer = call.ask(Command::Reload { dry_run })?;
    let (Answer::Reload(report), false) = (&answer, front.json) else { return front.print(&answer) };
    show::difference(&mut io::stdout().lock(), &front.look, report)?;
    say(&reloaded(report, dry_run));
    Ok(())
}

/// What a reload did, in one line.
fn reloaded(report: &ReloadReport, dry_run: bool) -> String {
    let keys = report.changed.len() + report.files_changed.len() + usize::from(report.mesh_key_changed);
    let waiting = report.changed.iter().filter(|change| change.needs_restart).count();
    let verb = if dry_run { "would change" } else { "changed" };
    match (keys, waiting) {
        (0, _) => format!("the configuration is valid; nothing {verb}"),
        (keys, 0) => format!("{} {verb}", count(keys, "setting")),
        (keys, waiting) => {
            format!("{} {verb}, {waiting} of them only with a restart", count(keys, "setting"))
        }
    }
}

fn completions(front: &Front, shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pigeonctl", &mut script);
    let mut out = io::stdout().lock();
    if front.json {
        let script = String::from_utf8_lossy(&script);
        return Ok(show::line(&mut out, &json!({ "shell": shell.to_string(), "script": script }))?);
    }
    Ok(out.write_all(&script)?)
}

fn version(front: &Front) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let hub = match front.ask(Command::Status) {
        Ok(Answer::Status(status)) => Ok(status),
        Ok(_) => Err(String::from("the hub does not say")),
        Err(failure) => Err(failure.to_string()),
    };
    let mut out = io::stdout().lock();
    if front.json {
        let hub = hub.ok().map(|status| status.version);
        return Ok(show::line(&mut out, &json!({ "pigeonctl": own, "pigeonhubd": hub }))?);
    }
    writeln!(out, "pigeonctl {own}")?;
    match hub {
        Ok(status) => {
            let up = duration(status.uptime);
            writeln!(out, "pigeonhubd {} (port {}, up {up})", clean(&status.version), status.port)?;
        }
        Err(why) => say(&why),
    }
    Ok(())
}
