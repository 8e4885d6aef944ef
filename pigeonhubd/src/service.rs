//! This process as a service of systemd: what it is told, and when.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pigeonhub_proto::control::{MeshState, Status};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::notify::{self, Notifier};

/// The name under which listening sockets are kept by systemd.
pub const STORED: &str = "pigeonhubd";

/// How often the status is looked at when nothing happens.
const LOOK: Duration = Duration::from_secs(1);

/// How much more time to start or stop is asked for, in microseconds, and how often.
const EXTEND_USEC: u32 = 30_000_000;
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// What anyone in this process may tell systemd.
#[derive(Debug, Default)]
pub struct Service {
    notifier: Notifier,
    watchdog: Option<Duration>,
    started: AtomicBool,
    stopping: AtomicBool,
}

impl Service {
    /// As the environment says. Without systemd nothing is told to anybody.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let notifier = Notifier::from_env(&env).unwrap_or_else(|error| {
            tracing::warn!("NOTIFY_SOCKET is not a socket's name, so systemd is told nothing: {error}");
            Notifier::default()
        });
        let watchdog = notify::watchdog(&env).filter(|_| notifier.is_heard());
        Self { notifier, watchdog, ..Self::default() }
    }

    /// Lets systemd keep listening sockets while this hub restarts.
    pub fn keep<'a>(&self, listeners: impl IntoIterator<Item = &'a TcpListener>) {
        let fds: Vec<_> = listeners.into_iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() {
            self.notifier.send_with(&[NotifyState::FdStore, NotifyState::FdName(STORED)], &fds);
        }
    }

    /// What was kept before is of no use any more.
    pub fn forget_kept(&self) {
        self.notifier.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(STORED)]);
    }

    /// A reload begins; [`Self::reloaded`] must follow.
    pub fn reloading(&self) {
        // Before the start is over, the end of a reload would be taken for it.
        if self.started.load(Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed) {
            let since = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
            self.notifier.send(&[NotifyState::Reloading, since]);
        }
    }

    /// A reload is over, however it went.
    pub fn reloaded(&self) {
        if self.started.load(Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed) {
            self.notifier.send(&[NotifyState::Ready]);
        }
    }

    /// This hub leaves.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.notifier.send(&[NotifyState::Stopping]);
    }

    /// This hub ends for that reason, which stays in what `systemctl status` shows.
    pub fn failed(&self, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        self.notifier.send(&[NotifyState::Status(&format!("failed: {first}"))]);
    }
}

/// When a hub counts as started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartRule {
    /// Bootstraps that it dials.
    pub bootstraps: usize,
    /// Not before another hub is within reach, if it has bootstraps.
    pub wait: bool,
}

impl StartRule {
    fn alone(&self, status: &Status) -> bool {
        self.bootstraps > 0 && status.known_hubs == 0
    }

    /// A hub whose data channels do not open works over WebSockets: it is degraded, but it has started.
    fn is_started(&self, status: &Status) -> bool {
        let works = matches!(status.state, MeshState::Ready | MeshState::Degraded);
        works && !(self.wait && self.alone(status))
    }

    /// The status in words, for `systemctl status`.
    fn words(&self, status: &Status) -> String {
        let words = self.mesh(status);
        match &status.on_disk {
            Some(on_disk) => format!("{words}; configuration on disk {}", on_disk.words()),
            None => words,
        }
    }

    fn mesh(&self, status: &Status) -> String {
        let reason = status.reason.replacen(" data channel", " link", 1);
        let peers = count(status.local_peers, "peer");
        match status.state {
            MeshState::Ready if self.alone(status) => {
                let tried = count(self.bootstraps, "bootstrap");
                let what = if self.wait { "waiting" } else { "ready" };
                match &status.rejected {
                    Some(rejected) => format!("{what}: alone, not joined with {rejected}; {peers}"),
                    None => format!("{what}: alone, none of {tried} is within reach; {peers}"),
                }
            }
            MeshState::Ready => {
                let links = match (status.p2p_links, status.ws_links) {
                    (0, 0) => String::from("no links"),
                    (p2p, 0) => count(p2p, "link"),
                    (p2p, ws) => format!("{}, {ws} more over WebSocket", count(p2p, "link")),
                };
                format!("ready: {links}, {peers} in {}", count(status.networks, "network"))
            }
            state @ (MeshState::Joining | MeshState::Isolated) => format!("{}: {reason}", state.name()),
            MeshState::Degraded => format!("degraded: {reason}; {peers}"),
            MeshState::Draining => format!("draining: {} left", count(status.connections, "connection")),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The driver's part: it says after its own turns that it is alive, and how it is.
#[derive(Debug)]
pub struct Supervisor {
    service: std::sync::Arc<Service>,
    rule: StartRule,
    beaten: Option<Instant>,
    looked: Option<Instant>,
    extended: Option<Instant>,
    words: String,
}

impl Supervisor {
    /// Nothing has been said yet.
    pub fn new(service: std::sync::Arc<Service>, rule: StartRule) -> Self {
        Self { service, rule, beaten: None, looked: None, extended: None, words: String::new() }
    }

    /// From now on with another rule.
    pub fn set_rule(&mut self, rule: StartRule) {
        self.rule = rule;
    }

    /// The next turn of the driver should tell the status, whenever it was told last.
    pub fn look_soon(&mut self) {
        self.looked = None;
    }

    /// When the driver is to make a turn at the latest.
    pub fn due(&self) -> Option<Instant> {
        if !self.service.notifier.is_heard() {
            return None;
        }
        let look = self.looked.map_or_else(Instant::now, |at| at + LOOK);
        let beat = self.service.watchdog.zip(self.beaten).map(|(period, at)| at + period / 2);
        Some(beat.map_or(look, |beat| beat.min(look)))
    }

    /// The driver completed a turn.
    pub fn turn(&mut self, now: Instant, status: impl FnOnce() -> Status) {
        let service = &self.service;
        if !service.notifier.is_heard() {
            return;
        }
        if let Some(period) = service.watchdog
            && self.beaten.is_none_or(|at| now >= at + period / 2)
            && service.notifier.send(&[NotifyState::Watchdog])
        {
            self.beaten = Some(now);
        }
        if self.looked.is_none_or(|at| now >= at + LOOK) {
            self.looked = Some(now);
            self.look(now, &status());
        }
    }

    fn look(&mut self, now: Instant, status: &Status) {
        let service = &self.service;
        let words = self.rule.words(status);
        let mut states = Vec::new();
        if words != self.words {
            states.push(NotifyState::Status(&words));
        }
        let stopping = service.stopping.load(Ordering::Relaxed);
        let starting = !service.started.load(Ordering::Relaxed) && !stopping;
        let started = starting && self.rule.is_started(status);
        if started {
            states.push(NotifyState::Ready);
        // Clients may be given longer to leave than the unit gives the hub.
        } else if (starting || stopping) && self.extended.is_none_or(|at| now >= at + EXTEND_EVERY) {
            states.push(NotifyState::ExtendTimeoutUsec(EXTEND_USEC));
            self.extended = Some(now);
        }
        if !states.is_empty() && service.notifier.send(&states) {
            self.words = words;
            if started {
                service.started.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    use pigeonhub_proto::control::OnDisk;
    use pigeonhub_proto::id::Id;

    use super::*;
    use crate::test_dir::TestDir;

    fn status(state: MeshState, known_hubs: usize) -> Status {
        let text = r#"{"hub_id":"","port":3000,"state":"ready","reason":"","ready":true,"migrated":false,"p2p_links":3,
            "ws_links":0,"known_hubs":0,"local_peers":118,"remote_peers":0,"networks":4,"connections":120,"uptime":1,
            "version":"1"}"#;
        let text = text.replacen("\"\"", &format!("\"{}\"", Id([1; 20])), 1);
        let status: Status = serde_json::from_str(&text).expect("a status");
        let reason = String::from("1 of 2 data channels");
        Status { state, known_hubs, reason, ..status }
    }

    #[test]
    fn the_status_is_in_words() {
        let rule = |bootstraps, wait| StartRule { bootstraps, wait };
        let alone = Status { p2p_links: 0, local_peers: 1, networks: 1, ..status(MeshState::Ready, 0) };
        let over_ws = Status { ws_links: 1, ..status(MeshState::Ready, 4) };
        for (rule, status, words, started) in [
            (rule(1, true), status(MeshState::Joining, 2), "joining: 1 of 2 links", false),
            (rule(1, true), status(MeshState::Ready, 3), "ready: 3 links, 118 peers in 4 networks", true),
            (rule(1, true), over_ws, "ready: 3 links, 1 more over WebSocket, 118 peers in 4 networks", true),
            (rule(0, true), alone.clone(), "ready: no links, 1 peer in 1 network", true),
            (
                rule(2, false),
                alone.clone(),
                "ready: alone, none of 2 bootstraps is within reach; 1 peer",
                true,
            ),
            (
                rule(1, false),
                Status { rejected: Some(String::from("ws://a: no")), ..alone.clone() },
                "ready: alone, not joined with ws://a: no; 1 peer",
                true,
            ),
            (
                rule(0, true),
                Status {
                    on_disk: Some(OnDisk { fault: Some(String::from("a.toml:1:1: x")), ..OnDisk::default() }),
                    ..alone.clone()
                },
                "ready: no links, 1 peer in 1 network; configuration on disk refused, and a restart would fail: \
                 a.toml:1:1: x",
                true,
            ),
            (rule(1, true), alone, "waiting: alone, none of 1 bootstrap is within reach; 1 peer", false),
            (rule(1, true), status(MeshState::Degraded, 1), "degraded: 1 of 2 links; 118 peers", true),
            (rule(1, false), status(MeshState::Isolated, 0), "isolated: 1 of 2 links", false),
            (rule(1, false), status(MeshState::Draining, 1), "draining: 120 connections left", false),
        ] {
            assert_eq!((rule.words(&status).as_str(), rule.is_started(&status)), (words, started));
        }
    }

    #[test]
    fn systemd_hears_what_changes_and_that_turns_are_made() {
        let dir = TestDir::new();
        let path = dir.join("notify");
        let listener = UnixDatagram::bind(&path).expect("bound");
        listener.set_nonblocking(true).expect("set");
        let heard = || {
            let mut buffer = [0; 512];
            let count = listener.recv(&mut buffer).unwrap_or(0);
            String::from_utf8_lossy(buffer.get(..count).expect("it fits")).into_owned()
        };
        let service = Arc::new(Service::from_env(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("4000000".into()),
            _ => None,
        }));
        service.reloading();
        service.reloaded();
        assert_eq!(heard(), "", "a reload before the start is over would be taken for its end");
        let mut supervisor = Supervisor::new(Arc::clone(&service), StartRule { bootstraps: 1, wait: false });
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        supervisor.turn(at(0.0), || status(MeshState::Joining, 1));
        assert_eq!(heard(), "WATCHDOG=1\n");
        assert_eq!(heard(), "STATUS=joining: 1 of 2 links\nEXTEND_TIMEOUT_USEC=30000000\n");
        assert_eq!(supervisor.due(), Some(at(1.0)));
        supervisor.turn(at(0.9), || panic!("not yet"));
        assert_eq!(heard(), "");
        supervisor.turn(at(1.5), || status(MeshState::Joining, 1));
        assert_eq!((heard().as_str(), supervisor.due()), ("", Some(at(2.0))), "half of the period");
        supervisor.turn(at(2.0), || panic!("not yet"));
        assert_eq!(heard(), "WATCHDOG=1\n");
        supervisor.look_soon();
        supervisor.turn(at(2.1), || status(MeshState::Ready, 1));
        assert_eq!(heard(), "STATUS=ready: 3 links, 118 peers in 4 networks\nREADY=1\n");
        supervisor.turn(at(3.5), || status(MeshState::Degraded, 1));
        assert_eq!(heard(), "STATUS=degraded: 1 of 2 links; 118 peers\n", "started once");
        service.reloading();
        service.reloaded();
        let reloading = heard();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(heard(), "READY=1\n");
        service.stopping();
        assert_eq!(heard(), "STOPPING=1\n");
        supervisor.turn(at(11.0), || status(MeshState::Draining, 1));
        assert_eq!(heard(), "WATCHDOG=1\n");
        let leaving = "STATUS=draining: 120 connections left\nEXTEND_TIMEOUT_USEC=30000000\n";
        assert_eq!(heard(), leaving, "clients may be given long to leave");
        service.failed("port 3000 is taken\nand more");
        assert_eq!(heard(), "STATUS=failed: port 3000 is taken\n");
    }
}
