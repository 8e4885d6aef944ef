//! The hub under test: the built binary, started as an operator starts it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use pigeonhub_proto::control::{Answer, Command as Ask, ControlRequest, ControlResponse, MeshState, Status};
use pigeonhub_proto::control::{CONTROL_VERSION, HubInfo, LinkInfo, PeerInfo};

use super::process::{Process, tied};
use super::skip::faketime;
use super::{Ground, Net, until, until_ok};

/// Events by their names in the log, as far as tests look for them.
const EVENTS: [&str; 14] = [
    "peerConnected",
    "peerAnnounced",
    "peerDisconnected",
    "hubRegistered",
    "hubUnregistered",
    "hubDiscovered",
    "bootstrapConnected",
    "bootstrapDisconnected",
    "hubP2PConnected",
    "hubP2PDisconnected",
    "hubMeshReady",
    "hubMeshDegraded",
    "hubMeshMigrated",
    "hubRejected",
];

/// How a hub is started.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    arguments: Vec<String>,
    config: String,
    home: Option<PathBuf>,
    place: Option<(String, IpAddr)>,
    under: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

/// A running hub; killed when dropped.
pub(crate) struct Hub {
    /// The port that it listens on.
    pub(crate) port: u16,
    /// The address that it listens on; loopback unless it has a host of its own.
    pub(crate) address: IpAddr,
    process: Process,
    runtime: PathBuf,
}

/// The built daemon.
pub(crate) fn daemon() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pigeonhubd"))
}

impl Plan {
    /// A first hub, which dials nobody.
    pub(crate) fn first() -> Self {
        Self::default().with(&["--no-bootstrap"])
    }

    /// A hub that joins through others.
    pub(crate) fn through<'a>(bootstraps: impl IntoIterator<Item = &'a str>) -> Self {
        bootstraps.into_iter().fold(Self::default(), |plan, uri| plan.with(&["--bootstrap", uri]))
    }

    /// More arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&it| it.to_owned()));
        self
    }

    /// Migrates `delay` after it is ready.
    pub(crate) fn migrating_after(self, delay: Duration) -> Self {
        self.with(&["--migration-delay", &format!("{}ms", delay.as_millis())])
    }

    /// A configuration file with this text.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config = toml.to_owned();
        self
    }

    /// A machine of its own, as far as keys go.
    pub(crate) fn home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_owned());
        self
    }

    /// On one of the hosts of `net`, at `address`.
    pub(crate) fn on(mut self, net: &Net, host: usize, address: IpAddr) -> Self {
        self.place = Some((net.namespace(host), address));
        self
    }

    /// Started by another program, which gets the daemon and its arguments behind its own.
    pub(crate) fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// With a wall clock that is as far off as the file `offset` says at each
    /// moment, in the words of libfaketime: `-10d`.
    pub(crate) fn clock(mut self, offset: &Path) -> Self {
        self.environment = vec![
            ("LD_PRELOAD", faketime().expect("libfaketime is there")),
            ("FAKETIME_TIMESTAMP_FILE", offset.to_owned()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        self
    }

    /// With the credentials in that folder, as systemd hands them over.
    pub(crate) fn credentials(mut self, folder: &Path) -> Self {
        self.environment.push(("CREDENTIALS_DIRECTORY", folder.to_owned()));
        self
    }

    fn address(&self) -> IpAddr {
        self.place.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |(_, address)| *address)
    }

    /// The command that starts it on `port`.
    pub(crate) fn command(&self, ground: &Ground, port: u16) -> Command {
        let home = self.home.clone().unwrap_or_else(|| ground.folder().join("home"));
        fs::create_dir_all(&home).expect("a home");
        let mut command = tied(self.place.as_ref().map_or_else(daemon, |_| PathBuf::from("ip")));
        if let Some((namespace, _)) = &self.place {
            command.args(["netns", "exec", namespace]).arg(daemon());
        }
        if let Some((program, arguments)) = self.under.split_first() {
            command = tied(program);
            command.args(arguments).arg(daemon());
        }
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &home);
        // Not what may be configured on this machine.
        command.env("PIGEONHUBD_CONFIG_DIR", ground.folder().join("etc"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(ground.folder()).args([
            "--host",
            &self.address().to_string(),
            "--port",
            &port.to_string(),
        ]);
        // Its port might be that of another test's hub.
        if !self.config.contains("[metrics]") {
            command.args(["--metrics-listen", "off"]);
        }
        command.arg("--runtime-dir").arg(self.runtime(ground, port));
        command.arg("--state-dir").arg(ground.folder().join(format!("state-{}", self.name(port))));
        if !self.config.is_empty() {
            let file = ground.folder().join(format!("{}.toml", self.name(port)));
            fs::write(&file, &self.config).expect("a configuration file");
            command.arg("--config").arg(file);
        }
        command.args(&self.arguments);
        command
    }

    /// What tells it from others on the same ground.
    fn name(&self, port: u16) -> String {
        self.place.as_ref().map_or_else(|| port.to_string(), |(_, address)| format!("{address}-{port}"))
    }

    fn runtime(&self, ground: &Ground, port: u16) -> PathBuf {
        ground.folder().join(format!("run-{}", self.name(port)))
    }

    /// Starts it on a free port and waits until it answers.
    pub(crate) fn start(&self, ground: &Ground) -> Hub {
        self.start_on(ground, ground.port())
    }

    /// Starts it on `port` and waits until it answers.
    pub(crate) fn start_on(&self, ground: &Ground, port: u16) -> Hub {
        let process = Process::start(&format!("hub {}", self.name(port)), &mut self.command(ground, port));
        let mut hub = Hub { port, address: self.address(), process, runtime: self.runtime(ground, port) };
        until("the hub answers on its control socket", || {
            assert!(hub.process.ended().is_none(), "hub {port} ended at its start");
            hub.try_status()
        });
        hub
    }
}

impl Hub {
    /// Where clients and hubs find it.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", SocketAddr::new(self.address, self.port))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All its figures, in OpenMetrics text.
    pub(crate) fn metrics(&self) -> String {
        match self.ask(Ask::Metrics) {
            Some(Answer::Metrics(text)) => text,
            other => panic!("asked for metrics, the hub answered {other:?}"),
        }
    }

    /// One of its figures, by its whole name; 0 if it has none of that name.
    pub(crate) fn figure(&self, series: &str) -> u64 {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or_default()
    }

    /// All that it logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }

    fn ask(&self, command: Ask) -> Option<Answer> {
        let mut stream = UnixStream::connect(self.control_socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let request = ControlRequest { v: CONTROL_VERSION, id: 1, command };
        writeln!(stream, "{}", serde_json::to_string(&request).ok()?).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        let response: ControlResponse =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("the hub answered {line:?}: {error}"));
        response.ok
    }

    /// Its control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }

    fn try_status(&self) -> Option<Status> {
        match self.ask(Ask::Status)? {
            Answer::Status(status) => Some(*status),
            other => panic!("asked for the status, the hub answered {other:?}"),
        }
    }

    /// Its status.
    pub(crate) fn status(&self) -> Status {
        self.try_status().expect("the hub answers")
    }

    /// The hubs it knows.
    pub(crate) fn hubs(&self) -> Vec<HubInfo> {
        match self.ask(Ask::Hubs) {
            Some(Answer::Hubs(hubs)) => hubs,
            other => panic!("asked for hubs, the hub answered {other:?}"),
        }
    }

    /// Its links, as `pigeonctl links` shows them.
    pub(crate) fn links(&self) -> Vec<LinkInfo> {
        match self.ask(Ask::Links) {
            Some(Answer::Links(links)) => links,
            other => panic!("asked for links, the hub answered {other:?}"),
        }
    }

    /// The peers it knows.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        match self.ask(Ask::Peers { network: None }) {
            Some(Answer::Peers(peers)) => peers,
            other => panic!("asked for peers, the hub answered {other:?}"),
        }
    }

    /// Waits until `is` holds for its status.
    pub(crate) fn wait(&self, what: &str, mut is: impl FnMut(&Status) -> bool) -> Status {
        until_ok(&format!("hub {} {what}", self.port), || {
            let status = self.status();
            if is(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
    }

    /// Waits until it is ready and reaches exactly `others` other hubs.
    pub(crate) fn wait_ready(&self, others: usize) {
        self.wait(&format!("is ready with {others} others"), |status| {
            status.ready && status.state == MeshState::Ready && status.known_hubs == others
        });
    }

    /// Waits until it has migrated as well.
    pub(crate) fn wait_migrated(&self, others: usize) {
        self.wait(&format!("has migrated with {others} others"), |status| {
            status.ready && status.migrated && status.known_hubs == others
        });
    }

    /// Names of the events it logged so far, in order.
    pub(crate) fn events(&self) -> Vec<&'static str> {
        let log = self.process.log();
        log.iter().filter_map(|line| EVENTS.into_iter().find(|name| is_event(line, name))).collect()
    }

    /// Waits until it logs the event `name` with `text` among its fields.
    pub(crate) fn wait_logged(&self, name: &str, text: &str) {
        until_ok(&format!("hub {} logs {name} with {text:?}", self.port), || {
            let log = self.process.log();
            let told = log.iter().any(|line| is_event(line, name) && line.contains(text));
            if told { Ok(()) } else { Err(format!("{log:#?}")) }
        });
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits until it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        until("the hub ends", || self.process.ended())
    }
}

/// Whether a log line tells the event `name`: the name stands there as a word.
fn is_event(line: &str, name: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
}
