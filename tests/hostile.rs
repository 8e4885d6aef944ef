//! Load from those who mean harm, on a real hub. While it lasts an honest pair
//! signals, and every signal of theirs arrives; the hub's memory stays within
//! the bound that each attack states. Figures are printed and judged by nobody;
//! `tests/figures` prints them from a release build.

mod floods;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use pigeonhub_proto::mesh::identity::MeshKey;
use rustls::ClientConfig;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes, WebSocket};

use crate::harness::{Bare, Closed, Ground, Hub, Plan, Raw, Rogue, Watch, before_attackers, p99, until_ok};

const MIB: u64 = 1024 * 1024;
/// From this address of loopback attackers come; only behind it is a proxy, which
/// the hub trusts, so that they have limits like strangers from outside.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Before, the pair signals in peace: not counted at first, while all is new to everyone, and then
/// in some windows of such length, of which the middle one counts.
const WARM_UP: Duration = Duration::from_millis(500);
const QUIET_WINDOWS: u32 = 5;
const QUIET_WINDOW: Duration = Duration::from_millis(500);
/// An attack is repeated until it lasted so long: of fewer signals a percentile says little.
const LEAST: Duration = Duration::from_secs(2);

/// A hub, and an honest pair's figures without and with an attack.
struct Siege {
    _ground: Ground,
    hub: Hub,
    /// How honest clients speak TLS to it, if it does.
    tls: Option<Arc<ClientConfig>>,
    /// Its 99th percentile in peace.
    quiet: Duration,
    before: u64,
}

/// A field of `/proc/PID/status` in KiB, as bytes.
fn memory(hub: &Hub, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux tells it");
    line.trim_matches([':', ' ', '\t']).strip_suffix(" kB").expect("in KiB").parse::<u64>().expect("digits")
        * 1024
}

impl Siege {
    fn new() -> Self {
        // So few connects that a slow machine is refused some as well.
        let config = format!("[listen]\ntrusted_proxies = [\"{PROXY}\"]\nmax_connects_per_second = 10\n");
        Self::of(&Plan::first().config(&config), Ground::new(), None)
    }

    fn of(plan: &Plan, ground: Ground, tls: Option<Arc<ClientConfig>>) -> Self {
        pigeonhubd::daemon::raise_file_limit().expect("open files for thousands of sockets");
        let hub = plan.start(&ground);
        before_attackers(&hub);
        let watch = Watch::begin(&hub, tls.as_ref());
        thread::sleep(WARM_UP);
        drop(watch.end());
        let windows = (0..QUIET_WINDOWS).map(|_| {
            let watch = Watch::begin(&hub, tls.as_ref());
            thread::sleep(QUIET_WINDOW);
            p99(&watch.end())
        });
        let mut windows: Vec<Duration> = windows.collect();
        windows.sort_unstable();
        let quiet = windows[windows.len() / 2];
        let before = memory(&hub, "VmRSS");
        Self { _ground: ground, hub, tls, quiet, before }
    }

    /// The attack, which is told how many came before it; `bound` is what the hub's memory may grow
    /// by at most, in MiB. How many there were.
    fn attacked(&mut self, what: &str, bound: u64, mut attack: impl FnMut(&Hub, usize)) -> usize {
        let watch = Watch::begin(&self.hub, self.tls.as_ref());
        let bare = Bare::begin();
        let (begin, mut turns) = (Instant::now(), 0);
        while begin.elapsed() < LEAST {
            attack(&self.hub, turns);
            turns += 1;
        }
        let took = begin.elapsed();
        let (during, bare) = (watch.end(), p99(&bare.end()));
        // The most that it ever was.
        let grown = memory(&self.hub, "VmHWM").saturating_sub(self.before);
        let (quiet, p99) = (self.quiet, p99(&during));
        let ratio = p99.as_secs_f64() / quiet.as_secs_f64();
        println!(
            "hostile: {what}: {turns} times in {took:.1?}; honest p99 {p99:.2?}, quiet {quiet:.2?}, \
             ratio {ratio:.1}; without a hub {bare:.2?}; {} signals, none lost; memory +{} MiB of {bound}",
            during.len(),
            grown / MIB
        );
        assert!(grown <= bound * MIB, "{what}: memory grew by {} MiB, over {bound}", grown / MIB);
        // Strangers are still let in, and served.
        drop(Watch::begin(&self.hub, self.tls.as_ref()).end());
        turns
    }

    /// Of so many slow handshakes, of all turns together, no more are left than may be.
    fn room_was_made(&self, of: usize) {
        until_ok("the oldest have made room", || {
            let cut = self.refused("crowded-out") + self.refused("slow");
            let least = (of - pigeonhubd::listener::MAX_HANDSHAKES) as u64;
            if cut >= least { Ok(()) } else { Err(format!("{cut} of {least}")) }
        });
    }

    fn refused(&self, reason: &str) -> u64 {
        self.hub.figure(&format!("pigeonhubd_callers_refused_total{{reason=\"{reason}\"}}"))
    }
}

/// A socket from an address of this machine.
fn from(source: Ipv4Addr, hub: &Hub) -> TcpStream {
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("a socket");
    // Of what it does not read the hub is to keep most, not the kernel.
    socket::setsockopt(&fd, sockopt::RcvBuf, &4096).expect("a socket option");
    let source = SockaddrIn::from(SocketAddrV4::new(source, 0));
    socket::bind(fd.as_raw_fd(), &source).expect("an address of loopback");
    let IpAddr::V4(address) = hub.address else { panic!("IPv4 here") };
    let hub = SockaddrIn::from(SocketAddrV4::new(address, hub.port));
    socket::connect(fd.as_raw_fd(), &hub).expect("the hub listens");
    TcpStream::from(fd)
}

/// A WebSocket of a stranger at `address`, as the proxy presents it.
fn stranger(hub: &Hub, peer: &str, address: &str) -> Result<WebSocket<TcpStream>, Box<tungstenite::Error>> {
    let mut request = format!("{}/?peerId={peer}", hub.url()).into_client_request().expect("a request");
    request.headers_mut().insert("x-forwarded-for", address.parse().expect("a header"));
    match tungstenite::client(request, from(PROXY, hub)) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
        Err(error) => panic!("a blocking socket: {error}"),
    }
}

fn peer(number: usize) -> String {
    format!("{number:040x}")
}

/// Does `attack` with each number below `count`, on a few threads.
fn in_parallel(count: usize, attack: impl Fn(usize) + Sync) {
    const THREADS: usize = 4;
    thread::scope(|scope| {
        for first in 0..THREADS {
            let attack = &attack;
            scope.spawn(move || (first..count).step_by(THREADS).for_each(attack));
        }
    });
}

#[test]
fn five_thousand_half_open_handshakes() {
    const COUNT: usize = 5000;
    let mut siege = Siege::new();
    // Of the last turn and the one before: who hangs up is not cut off, so nobody does before that.
    let (mut before, mut sockets) = (Vec::new(), Vec::new());
    let turns = siege.attacked("5,000 half-open handshakes", 64, |hub, turn| {
        let fresh: Vec<TcpStream> = (0..COUNT).map(|_| from(PROXY, hub)).collect();
        before = std::mem::replace(&mut sockets, fresh);
        // From elsewhere nobody has to wait for them.
        for number in 0..50 {
            Raw::join(hub, &peer(turn * 50 + number), "during").settle();
        }
    });
    siege.room_was_made(turns * COUNT);
    drop((before, sockets));
}

#[test]
fn headers_of_one_byte_a_second() {
    const COUNT: usize = 1500;
    let mut siege = Siege::new();
    let (mut before, mut sockets) = (Vec::new(), Vec::new());
    let turns = siege.attacked("1,500 headers of one byte a second", 64, |hub, _| {
        let fresh: Vec<TcpStream> = (0..COUNT).map(|_| from(PROXY, hub)).collect();
        before = std::mem::replace(&mut sockets, fresh);
        for second in 0..6 {
            for socket in &mut sockets {
                // Those that were cut off are reset.
                let _ = socket.write_all(&b"GET / HTTP"[second..=second]);
            }
            Raw::join(hub, &peer(second), "during").settle();
            thread::sleep(Duration::from_secs(1));
        }
    });
    siege.room_was_made(turns * COUNT);
    drop((before, sockets));
}

/// Each costs its queue, all of them together no more than all queues may hold, and then they are gone.
#[test]
fn clients_that_never_read() {
    const READERS: usize = 96;
    let mut siege = Siege::new();
    // Each has the buffers of its WebSocket besides. Without the common limit its queue alone would be 4 MiB.
    let bound = pigeonhubd::backlog::MOST as u64 / MIB + READERS as u64 * 3 / 2;
    let mut sent = 0;
    siege.attacked("96 clients that never read", bound, |hub, turn| {
        let peer = |number| peer(turn * 1000 + number);
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let address = format!("198.51.100.{number}");
                let mut reader = stranger(hub, &peer(number), &address).expect("a reader");
                let announce = json!({"type": "announce", "networkName": "flood", "data": {}});
                reader.send(Message::text(announce.to_string())).expect("the hub reads");
                reader
            })
            .collect();
        let mut flooder = Raw::join(hub, &peer(999), "flood");
        let data = "x".repeat(128 * 1024);
        sent = 0;
        until_ok("all have announced themselves", || {
            let peers = hub.status().local_peers;
            if peers == READERS + 3 { Ok(()) } else { Err(format!("{peers}")) }
        });
        // The pair and the flooder stay.
        while hub.status().local_peers > 3 {
            assert!(sent < 40_000, "they are still there");
            for number in 0..READERS {
                // By hand: a test is slow at writing JSON.
                let to = peer(number);
                flooder.send(Message::text(format!(
                    "{{\"type\":\"offer\",\"networkName\":\"flood\",\"targetPeerId\":\"{to}\",\"data\":\"{data}\"}}"
                )));
                sent += 1;
            }
            flooder.take();
        }
        drop(readers);
    });
    let unsent = siege.hub.figure("pigeonhubd_messages_unsent_total");
    assert!(unsent > 0, "what they were not sent is counted");
    println!("hostile: {unsent} messages were not sent any more");
    println!("hostile: {sent} signals of 128 KiB until the last of them was given up");
}

#[test]
fn frames_of_a_mebibyte_at_full_speed() {
    const FLOODERS: usize = 4;
    const FRAMES: usize = 240;
    let mut siege = Siege::new();
    let data = "x".repeat(MIB as usize - 4096);
    let target = peer(99_999);
    // Made once, so that they follow each other without a pause.
    let offer = Utf8Bytes::from(
        json!({"type": "offer", "networkName": "flood", "targetPeerId": target, "data": data}).to_string(),
    );
    siege.attacked("4 clients with 240 frames of 1 MiB each", 64, |hub, turn| {
        in_parallel(FLOODERS, |number| {
            let mut raw = Raw::join(hub, &peer(turn * FLOODERS + number), "flood");
            for _ in 0..FRAMES {
                raw.send(Message::Text(offer.clone()));
            }
            raw.settle();
        });
    });
}

/// One address floods; another one, behind the same proxy, does not notice.
#[test]
fn a_flood_of_connects() {
    const COUNT: usize = 2000;
    let mut siege = Siege::new();
    siege.attacked("2,000 connects of one address", 64, |hub, turn| {
        in_parallel(COUNT, |number| {
            // Some are refused while their handshake is still under way.
            if let Ok(mut socket) = stranger(hub, &peer(turn * COUNT + number), "198.51.100.7") {
                let _ = socket.read();
            }
        });
        let mut other = stranger(hub, &peer(99_999), "198.51.100.8").expect("another address");
        let greeting = other.read().expect("a greeting");
        assert!(greeting.to_text().is_ok_and(|text| text.contains("connected")), "{greeting:?}");
    });
    assert!(siege.refused("address-connects") >= 500, "{}", siege.refused("address-connects"));
}

#[test]
fn a_thousand_fake_hubs() {
    const COUNT: usize = 1000;
    let mut siege = Siege::new();
    let key = MeshKey::new(b"the secret of nobody's mesh").expect("long enough");
    siege.attacked("1,000 hubs with a wrong key", 64, |hub, _| {
        in_parallel(COUNT, |_| {
            let closed = Rogue::new(&key).try_to_join(hub).wait_closed();
            assert!(
                matches!(&closed, Closed::With(1008, why) if why.contains("the mesh keys differ")),
                "{closed:?}"
            );
        });
    });
    assert_eq!(siege.hub.status().known_hubs, 0);
    assert!(
        siege.hub.events().iter().filter(|name| **name == "hubRejected").count() < COUNT,
        "the log has a limit"
    );
}
