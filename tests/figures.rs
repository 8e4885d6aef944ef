//! Prints how fast the mesh is on this machine. Judges nothing: a figure is for a person to read.

#[allow(dead_code, unused_imports, reason = "shared with the tests, which use all of it")]
mod harness;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Ground, Hub, Plan, until};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

const NETWORK: &str = "figures";
/// Meshes that are started for the first figure.
const STARTS: usize = 10;
/// Signals before those that are measured, and those.
const WARM_UP: usize = 1_000;
const SIGNALS: usize = 10_000;
/// Hubs killed for the last figure, each in a fresh mesh of eight.
const KILLS: usize = 5;
/// Pause between two signals of the stream that a kill interrupts.
const PACE: Duration = Duration::from_millis(5);
/// How long that stream goes on after the kill.
const AFTER: Duration = Duration::from_secs(12);
/// How long anything is waited for at most.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    println!(
        "Figures on loopback, release build, {} processors",
        thread::available_parallelism().map_or(0, usize::from)
    );
    readiness();
    latency();
    recovery();
}

/// Smallest, middle, 99th percentile and largest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len() - 1)).copied().unwrap_or_default()
    };
    format!("min {:.2?}  p50 {:.2?}  p99 {:.2?}  max {:.2?}", at(0), at(50), at(99), at(100))
}

/// Looks more often than tests do.
fn until_soon(is: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "waited in vain for the mesh to be ready");
        thread::sleep(Duration::from_millis(1));
    }
}

fn mesh(ground: &Ground, count: usize) -> Vec<Hub> {
    let delay = Duration::from_millis(500);
    let first = Plan::first().migrating_after(delay).start(ground);
    let joining = Plan::through([first.url().as_str()]).migrating_after(delay);
    let mut hubs = vec![first];
    hubs.extend((1..count).map(|_| joining.start(ground)));
    hubs.iter().for_each(|hub| hub.wait_migrated(count - 1));
    hubs
}

fn readiness() {
    let times = (0..STARTS).map(|_| {
        let ground = Ground::new();
        let first = Plan::first().start(&ground);
        let joining = Plan::through([first.url().as_str()]);
        let second = joining.start(&ground);
        second.wait_ready(1);
        let begin = Instant::now();
        let third = joining.start(&ground);
        let hubs = [first, second, third];
        let is_ready = |hub: &Hub| {
            let status = hub.status();
            status.ready && status.known_hubs == 2 && status.p2p_links == 2
        };
        until_soon(|| hubs.iter().all(is_ready));
        begin.elapsed()
    });
    println!("three hubs ready after the last one's start ({STARTS} times): {}", spread(times.collect()));
}

/// A client that blocks until a message comes: nothing but the hubs' time is measured.
struct Fast(WebSocket<TcpStream>);

impl Fast {
    fn join(hub: &Hub, peer: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", hub.port)).expect("the hub listens");
        stream.set_nodelay(true).expect("a socket option");
        // A signal that was lost must not be waited for for ever.
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let (socket, _) =
            tungstenite::client(format!("{}/?peerId={peer}", hub.url()), stream).expect("accepted");
        let mut fast = Self(socket);
        fast.say(&json!({"type": "announce", "networkName": NETWORK, "data": {"peerId": peer}}));
        fast
    }

    fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("the hub reads");
    }

    /// The next message of one type.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().expect("the signal comes") {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_ne!(message["type"], "error", "{message}");
                if message["type"] == kind {
                    return message;
                }
            }
        }
    }
}

fn offer(to: &str, number: usize) -> Value {
    // About as large as a real client's candidate.
    json!({"type": "offer", "networkName": NETWORK, "targetPeerId": to, "data": {"n": number, "pad": "x".repeat(200)}})
}

fn one_way(from: &mut Fast, to: &mut Fast, peer: &str) -> Vec<Duration> {
    let mut times = Vec::with_capacity(SIGNALS);
    for number in 0..WARM_UP + SIGNALS {
        let begin = Instant::now();
        from.say(&offer(peer, number));
        assert_eq!(to.next("offer")["data"]["n"], number);
        if number >= WARM_UP {
            times.push(begin.elapsed());
        }
    }
    times
}

fn latency() {
    let ground = Ground::new();
    let hubs = mesh(&ground, 2);
    let (a, b, c) = ("a1".repeat(20), "b2".repeat(20), "c3".repeat(20));
    let mut here = Fast::join(&hubs[0], &a);
    let mut near = Fast::join(&hubs[0], &b);
    let mut far = Fast::join(&hubs[1], &c);
    for _ in 0..2 {
        here.next("peer-discovered");
    }
    println!("signal within one hub ({SIGNALS} times): {}", spread(one_way(&mut here, &mut near, &b)));
    println!("signal across one link ({SIGNALS} times): {}", spread(one_way(&mut here, &mut far, &c)));
}

/// Two hubs two links apart, and the one between them.
fn path_of_two(hubs: &[Hub]) -> Option<(usize, usize, usize)> {
    let ids: Vec<_> = hubs.iter().map(|hub| hub.status().hub_id).collect();
    let place = |id| ids.iter().position(|it| *it == id);
    hubs.iter().enumerate().find_map(|(from, hub)| {
        let target = hub.hubs().into_iter().find(|other| other.distance == Some(2))?;
        Some((from, place(target.next_hop?)?, place(target.hub_id)?))
    })
}

fn recovery() {
    for _ in 0..KILLS {
        let ground = Ground::new();
        let mut hubs = mesh(&ground, 8);
        let (from, middle, to) = until("a path over two links is there", || path_of_two(&hubs));
        let peer = "c3".repeat(20);
        let mut sender = Fast::join(&hubs[from], &"a1".repeat(20));
        let mut receiver = Fast::join(&hubs[to], &peer);
        sender.next("peer-discovered");

        let begin = Instant::now();
        let kill_at = Duration::from_secs(1);
        let count = usize::try_from((kill_at + AFTER).as_millis() / PACE.as_millis()).unwrap_or(0);
        let reading = thread::spawn(move || {
            (0..count)
                .map(|_| (receiver.next("offer")["data"]["n"].as_u64(), begin.elapsed()))
                .collect::<Vec<_>>()
        });
        let mut sent = Vec::with_capacity(count);
        let mut killed = None;
        for number in 0..count {
            if killed.is_none() && begin.elapsed() >= kill_at {
                killed = Some(begin.elapsed());
                hubs[middle].kill();
            }
            sent.push(begin.elapsed());
            sender.say(&offer(&peer, number));
            thread::sleep(PACE);
        }
        let heard = reading.join().expect("the receiver reads");
        let killed = killed.unwrap_or_default();
        let again = heard.iter().map(|(_, at)| *at).zip(&sent).find(|(_, sent)| **sent > killed);
        let flow = again.map_or(Duration::ZERO, |(at, _)| at.saturating_sub(killed));
        let worst =
            heard.iter().zip(&sent).map(|((_, at), sent)| at.saturating_sub(*sent)).max().unwrap_or_default();
        let in_order = heard.iter().enumerate().all(|(i, (n, _))| *n == u64::try_from(i).ok());
        println!(
            "hub on the path killed: signals flow again after {flow:.2?}, the slowest took {worst:.2?}, {count} of {count} heard{}",
            if in_order { ", each once and in order" } else { ", BUT NOT IN ORDER" },
        );
    }
}
