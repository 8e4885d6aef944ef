//! An honest pair of clients that signals all the time, and what it notices.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{self, Connector, Message, WebSocket};

use super::Hub;

const NETWORK: &str = "honest";
/// Between two signals.
const PACE: Duration = Duration::from_millis(2);
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
        loop {
            if let Message::Text(text) = self.0.read().expect("the hub answers an honest client") {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_ne!(message["type"], "error", "{message}");
                if message["type"] == kind {
                    return message;
                }
            }
        }
    }
}

/// The pair, at work.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Vec<Duration>>,
}

impl Watch {
    /// Two clients join, over TLS if there is a way to speak it, and signal until the end.
    pub(crate) fn begin(hub: &Hub, tls: Option<&Arc<ClientConfig>>) -> Self {
        let (a, b) = ("a7".repeat(20), "b8".repeat(20));
        let (mut from, mut to) = (Blocking::join(hub, &a, tls), Blocking::join(hub, &b, tls));
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let worker = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let data = json!({"n": times.len(), "pad": "x".repeat(200)});
                let begin = Instant::now();
                from.say(&json!({"type": "offer", "networkName": NETWORK, "targetPeerId": b, "data": data}));
                assert_eq!(to.next("offer")["data"], data, "each signal arrives, once and in order");
                times.push(begin.elapsed());
                thread::sleep(PACE);
            }
            times
        });
        Self { stop, worker }
    }

    /// How long each signal took.
    pub(crate) fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.worker.join().expect("every signal arrived");
        times.sort_unstable();
        times
    }
}

/// The 99th percentile of sorted times.
pub(crate) fn p99(times: &[Duration]) -> Duration {
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
