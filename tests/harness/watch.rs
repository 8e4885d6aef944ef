//! An honest pair of clients that signals all the time, and what it notices.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use rustix::process::{Pid, setpriority_process};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{self, Connector, Message, WebSocket};

use super::Hub;

const NETWORK: &str = "honest";
/// Between two signals.
const PACE: Duration = Duration::from_millis(1);
/// Of a signal of the pair, about, in bytes.
const SIZE: usize = 400;
/// Their niceness (nice(2)), and their priority in real time (sched(7)).
const PAIR: (i32, u8) = (-20, 20);
const HUB: (i32, u8) = (-10, 10);
/// Longer than anything takes on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client whose thread blocks until a message comes, so that its own pauses are in no figure.
struct Blocking(WebSocket<MaybeTlsStream<TcpStream>>);

impl Blocking {
    fn join(hub: &Hub, peer: &str, tls: Option<&Arc<ClientConfig>>) -> Self {
        let stream = TcpStream::connect((hub.address, hub.port)).expect("the hub listens");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let mut url = format!("{}/?peerId={peer}", hub.url());
        let mut connector = Connector::Plain;
        if let Some(tls) = tls {
            (url, connector) = (url.replacen("ws:", "wss:", 1), Connector::Rustls(Arc::clone(tls)));
        }
        let joined = tungstenite::client_tls_with_config(url, stream, None, Some(connector));
        let mut client = Self(joined.expect("the hub takes honest clients").0);
        client.say(&json!({"type": "announce", "networkName": NETWORK, "data": {}}));
        client.say(&json!({"type": "ping"}));
        client.next("pong");
        client
    }

    fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("the hub reads");
    }

    fn next(&mut self, kind: &str) -> Value {
        self.next_and_when(kind).0
    }

    fn next_and_when(&mut self, kind: &str) -> (Value, Instant) {
        loop {
            let read = self.0.read().expect("the hub answers an honest client");
            let came = Instant::now();
            if let Message::Text(text) = read {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_ne!(message["type"], "error", "{message}");
                if message["type"] == kind {
                    return (message, came);
                }
            }
        }
    }
}

/// The pair, at work.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<usize>,
    receiver: JoinHandle<Vec<Duration>>,
}

impl Watch {
    /// Two clients join, over TLS if there is a way to speak it, and one signals to the other until
    /// the end: at fixed times, whatever became of the signals before, so that a long wait counts
    /// as often as it lasts.
    pub(crate) fn begin(hub: &Hub, tls: Option<&Arc<ClientConfig>>) -> Self {
        let (a, b) = ("a7".repeat(20), "b8".repeat(20));
        let (mut from, mut to) = (Blocking::join(hub, &a, tls), Blocking::join(hub, &b, tls));
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let origin = Instant::now();
        let sender = thread::spawn(move || {
            before_others();
            let (mut sent, mut due) = (0, origin);
            loop {
                let last = stopping.load(Ordering::Relaxed);
                let at = u64::try_from(origin.elapsed().as_nanos()).expect("within centuries");
                let data = json!({"n": sent, "at": at, "last": last, "pad": "x".repeat(200)});
                from.say(&json!({"type": "offer", "networkName": NETWORK, "targetPeerId": b, "data": data}));
                sent += 1;
                if last {
                    return sent;
                }
                due += PACE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let receiver = thread::spawn(move || {
            before_others();
            let mut times = Vec::new();
            loop {
                let (offer, came) = to.next_and_when("offer");
                let data = &offer["data"];
                assert_eq!(data["n"], times.len(), "each signal arrives, once and in order");
                let at = Duration::from_nanos(data["at"].as_u64().expect("as it was sent"));
                times.push(came.duration_since(origin).saturating_sub(at));
                if data["last"] == true {
                    return times;
                }
            }
        });
        Self { stop, sender, receiver }
    }

    /// How long each signal took, in the order in which they were sent.
    pub(crate) fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the hub takes every signal");
        let times = self.receiver.join().expect("every signal arrived");
        assert_eq!(times.len(), sent);
        times
    }
}

/// The machine without a hub: what a signal takes that a thread with a hub's priority passes on
/// from one socket to another, and does nothing else.
pub(crate) struct Bare {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<Duration>>,
}

impl Bare {
    pub(crate) fn begin() -> Self {
        let (mut from, mut pass_in) = tcp_pair();
        let (mut pass_out, mut to) = tcp_pair();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let origin = Instant::now();
        let since = move || u64::try_from(origin.elapsed().as_nanos()).expect("within centuries");
        let sender = thread::spawn(move || {
            before_others();
            let mut due = origin;
            while !stopping.load(Ordering::Relaxed) {
                let mut signal = [b'x'; SIZE];
                signal[..8].copy_from_slice(&since().to_ne_bytes());
                from.write_all(&signal).expect("it is read");
                due += PACE;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        thread::spawn(move || {
            come_before(gettid().as_raw(), HUB.0, HUB.1);
            let mut signal = [0; SIZE];
            while pass_in.read_exact(&mut signal).is_ok() {
                pass_out.write_all(&signal).expect("it is read");
            }
        });
        let receiver = thread::spawn(move || {
            before_others();
            let (mut times, mut signal) = (Vec::new(), [0; SIZE]);
            while to.read_exact(&mut signal).is_ok() {
                let at = u64::from_ne_bytes(*signal.first_chunk().expect("long enough"));
                times.push(Duration::from_nanos(since() - at));
            }
            times
        });
        Self { stop, sender, receiver }
    }

    /// How long each took.
    pub(crate) fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("it only writes");
        self.receiver.join().expect("it only reads")
    }
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let one = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (other, _) = listener.accept().expect("it is there");
    for socket in [&one, &other] {
        socket.set_nodelay(true).expect("a socket option");
    }
    (one, other)
}

/// This thread runs before all others, if it may: it is to time the hub, and not its own turn.
fn before_others() {
    come_before(gettid().as_raw(), PAIR.0, PAIR.1);
}

/// The hub runs before its attackers, if that may be: they are to have machines of their own.
pub(crate) fn before_attackers(hub: &Hub) {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", hub.pid())).expect("it runs");
    for task in tasks.filter_map(Result::ok) {
        if let Some(task) = task.file_name().to_str().and_then(|name| name.parse().ok()) {
            come_before(task, HUB.0, HUB.1);
        }
    }
}

/// Gives a thread that niceness. Where figures are wanted it comes before all that have no such
/// priority, as soon as it has something to do: niceness alone lets it wait for milliseconds.
fn come_before(thread: i32, nice: i32, real_time: u8) {
    if std::env::var_os("PIGEONHUB_REAL_TIME").is_some() {
        let mut chrt = Command::new("chrt");
        chrt.args(["--rr", "--pid", &real_time.to_string(), &thread.to_string()]).stderr(Stdio::null());
        if chrt.status().is_ok_and(|status| status.success()) {
            return;
        }
    }
    let _ = setpriority_process(Pid::from_raw(thread), nice);
}

/// The 99th percentile.
pub(crate) fn p99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
