//! One hub without a network: what it says to what it is told.

mod announce_data;
mod batches;
mod forgets;
mod greetings;
mod pulse;
mod rooms;
mod shares;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::{FindError, Hub};
use crate::control::MeshState;
use crate::id::Id;
use crate::io::{ClosedBy, ConnId, Input, Output, Request};
use crate::mesh::identity::{HubKey, MeshKey};
use crate::mesh::record::SignedRecord;
use crate::settings::Settings;
use crate::time::{Now, Time};

struct Bench {
    hub: Hub,
    now: Now,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Now { mono: Time(1_000_000), unix_ms: 1_700_000_000_000 };
        let key = MeshKey::new(b"the key of the bench").expect("long enough");
        let hub = Hub::new(settings, Arc::new(HubKey::from_bytes(&[7; 32])), key, [1; 32], now);
        Self { hub, now }
    }

    fn tell(&mut self, input: Input<'_>) -> Vec<Output> {
        self.hub.handle(input, self.now);
        std::iter::from_fn(|| self.hub.poll_output())
            .filter(|output| !matches!(output, Output::Event(_)))
            .collect()
    }

    /// Lets time pass, timer by timer.
    fn wait(&mut self, duration: Duration) -> Vec<Output> {
        let until = self.now.mono + duration;
        let mut said = Vec::new();
        while self.hub.poll_timeout() <= until {
            self.now.mono = self.now.mono.max(self.hub.poll_timeout());
            said.extend(self.tell(Input::Timer));
        }
        self.now.mono = until;
        said
    }

    fn refuse(&mut self, conn: ConnId) {
        self.tell(Input::DialFailed { conn, error: String::from("refused") });
    }

    /// Lets time pass in which each dial is refused; tells when there were some.
    fn refuse_for(&mut self, duration: Duration) -> Vec<Duration> {
        let (start, mut times) = (self.now.mono, Vec::new());
        while self.now.mono.since(start) < duration {
            for output in self.wait(Duration::from_millis(10)) {
                if let Output::Dial { conn, .. } = output {
                    times.push(self.now.mono.since(start));
                    self.refuse(conn);
                }
            }
        }
        times
    }

    fn connect(&mut self, conn: u64, peer: Id) -> Vec<Output> {
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer_id = Some(peer.to_string());
        let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket: None };
        self.tell(Input::Accepted { conn: ConnId(conn), request })
    }

    fn greet(&mut self, conn: u64, hub: Id, remote: IpAddr) -> Vec<Output> {
        let peer_id = Some(hub.to_string());
        let request = Request { peer_id, mesh: true, remote, via_proxy: false, host: None, ticket: None };
        self.tell(Input::Accepted { conn: ConnId(conn), request })
    }

    fn join(&mut self, conn: u64, peer: Id) -> Vec<Output> {
        self.connect(conn, peer);
        self.tell(Input::Text { conn: ConnId(conn), text: r#"{"type":"announce","data":{}}"# })
    }
}

fn peer(n: u8) -> Id {
    Id([n; 20])
}

fn closes(said: &[Output]) -> Vec<(u64, u16)> {
    let close = |output: &Output| match output {
        Output::Close { conn, code, .. } => Some((conn.0, *code)),
        _ => None,
    };
    said.iter().filter_map(close).collect()
}

fn texts_to(said: &[Output], to: u64) -> Vec<String> {
    let text = |output: &Output| match output {
        Output::Text { conn, text } if conn.0 == to => Some(text.clone()),
        _ => None,
    };
    said.iter().filter_map(text).collect()
}

#[test]
fn people_find_a_network_by_its_name_that_its_clients_name_by_a_number() {
    let mut bench = Bench::new(Settings::default());
    for (conn, name) in [(1, "5"), (2, r#""5""#), (3, r#""6""#)] {
        bench.connect(conn, Id([conn as u8; 20]));
        let text = format!(r#"{{"type":"announce","networkName":{name},"data":{{}}}}"#);
        bench.tell(Input::Text { conn: ConnId(conn), text: &text });
    }
    let five = bench.hub.peers(Some("5"));
    assert!(five.len() == 2 && five.iter().all(|peer| peer.network == "5"), "{five:?}");
    let names: Vec<String> = bench.hub.networks().into_iter().map(|network| network.network).collect();
    assert_eq!(names, ["5", "5", "6"], "two networks, whose clients do not see each other");
}

#[test]
fn a_lone_hub_is_ready_when_it_knows_that_nobody_else_is_there() {
    let mut bench = Bench::new(Settings::default());
    bench.tell(Input::Timer);
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Ready);

    let bootstrap_hubs = vec![String::from("ws://192.0.2.1:3000")];
    let mut bench = Bench::new(Settings { bootstrap_hubs, ..Settings::default() });
    let said = bench.tell(Input::Timer);
    let [Output::Dial { conn, url }] = &said[..] else { panic!("one dial: {said:?}") };
    assert_eq!(url, &format!("ws://192.0.2.1:3000/?peerId={}&mesh=1", bench.hub.id()));
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Joining);
    bench.refuse(*conn);
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Joining, "others may start at this moment too");
    bench.refuse_for(Duration::from_secs(2));
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Ready);
    bench.refuse_for(Duration::from_secs(100));
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Ready, "dialling goes on, and so does this");
}

#[test]
fn a_bootstrap_is_dialled_soon_then_regularly_then_each_minute() {
    let bootstrap_hubs = vec![String::from("ws://192.0.2.1:3000")];
    let mut bench = Bench::new(Settings { bootstrap_hubs, ..Settings::default() });
    let dials: Vec<f64> =
        bench.refuse_for(Duration::from_secs(300)).iter().map(|at| at.as_secs_f64()).collect();
    let pauses: Vec<f64> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let regular = pauses.iter().position(|pause| *pause > 4.9).expect("the pauses grow");
    assert!((0.1..0.5).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses[..regular].windows(2).all(|pair| pair[1] < 2.5 * pair[0]), "{pauses:?}");
    let slow = pauses.iter().position(|pause| *pause > 59.0).expect("a pause becomes a minute");
    assert!(pauses[regular..slow].iter().all(|pause| (4.9..5.3).contains(pause)), "{pauses:?}");
    assert!((9..=10).contains(&(slow - regular)), "max_reconnect_attempts counts these: {pauses:?}");
}

#[test]
fn an_older_connection_that_answers_its_probe_stays() {
    let mut bench = Bench::new(Settings::default());
    bench.join(1, peer(1));
    let said = bench.connect(3, peer(1));
    assert_eq!(said, [Output::Ping { conn: ConnId(1), number: 1 }]);
    assert_eq!(closes(&bench.tell(Input::Pong { conn: ConnId(1), number: Some(1) })), [(3, 1008)]);
    assert_eq!(bench.hub.status(bench.now).local_peers, 1);
}

/// A client that closes a connection and opens another at once: what it sent on the first may be
/// read only after the second is there.
#[test]
fn what_an_older_connection_sent_before_its_end_is_no_answer_to_the_probe() {
    let mut bench = Bench::new(Settings::default());
    bench.connect(1, peer(1));
    bench.connect(3, peer(1));
    let announce = Input::Text { conn: ConnId(1), text: r#"{"type":"announce","data":{}}"# };
    assert_eq!(closes(&bench.tell(announce)), []);
    assert_eq!(closes(&bench.tell(Input::Alive { conn: ConnId(1) })), []);
    let reason = ClosedBy::Remote { code: 1000, reason: String::new() };
    let said = bench.tell(Input::Closed { conn: ConnId(1), reason });
    assert!(said.contains(&Output::Read { conn: ConnId(3) }), "{said:?}");
}

#[test]
fn an_older_connection_that_does_not_answer_is_replaced() {
    let mut bench = Bench::new(Settings::default());
    bench.join(1, peer(1));
    bench.join(5, peer(2));
    bench.connect(3, peer(1));
    let said = bench.wait(Duration::from_millis(1200));
    assert_eq!(closes(&said), [(1, 1008)]);
    assert!(said.contains(&Output::Read { conn: ConnId(3) }));
    let told = texts_to(&said, 5);
    assert!(told.iter().any(|text| text.contains("peer-disconnected")), "{said:?}");
    assert!(!told.iter().any(|text| text.contains("goodbye")), "the peer said none: {said:?}");
    let said = bench.tell(Input::Text { conn: ConnId(3), text: r#"{"type":"announce","data":{}}"# });
    assert!(texts_to(&said, 5).iter().any(|text| text.contains("peer-discovered")), "{said:?}");
}

#[test]
fn of_several_that_wait_for_a_probe_the_newest_may_go_on() {
    let mut bench = Bench::new(Settings::default());
    bench.join(1, peer(1));
    bench.connect(3, peer(1));
    assert_eq!(closes(&bench.connect(5, peer(1))), [(3, 1008)]);
    bench.tell(Input::Closed { conn: ConnId(3), reason: ClosedBy::Local });
    let said = bench.tell(Input::Closed { conn: ConnId(1), reason: ClosedBy::Broken(String::from("reset")) });
    assert!(said.contains(&Output::Read { conn: ConnId(5) }), "{said:?}");
}

#[test]
fn silent_clients_are_pinged_and_then_dropped() {
    let settings = Settings {
        peer_timeout: Duration::from_secs(20),
        cleanup_interval: Duration::from_secs(5),
        ..Settings::default()
    };
    let mut bench = Bench::new(settings);
    bench.join(1, peer(1));
    let said = bench.wait(Duration::from_secs(12));
    assert!(
        said.contains(&Output::Ping { conn: ConnId(1), number: 1 }) && closes(&said).is_empty(),
        "{said:?}"
    );
    bench.tell(Input::Pong { conn: ConnId(1), number: Some(1) });
    assert!(closes(&bench.wait(Duration::from_secs(15))).is_empty());
    assert_eq!(closes(&bench.wait(Duration::from_secs(15))), [(1, 1008)]);
}

#[test]
fn draining_closes_clients_one_after_another() {
    let mut bench = Bench::new(Settings::default());
    for n in 0..50 {
        bench.join(2 * u64::from(n) + 1, peer(n + 1));
    }
    let at_once = closes(&bench.tell(Input::Drain { over: Duration::from_secs(5) }));
    assert!(at_once.len() < 5, "{at_once:?}");
    assert_eq!(closes(&bench.connect(999, peer(99))), [(999, 1001)]);
    let half = closes(&bench.wait(Duration::from_millis(2500)));
    assert!((20..35).contains(&half.len()), "{}", half.len());
    assert!(!bench.hub.is_drained());
    let rest = closes(&bench.wait(Duration::from_millis(2700)));
    assert!(rest.iter().all(|(_, code)| *code == 1001));
    assert_eq!(at_once.len() + half.len() + rest.len(), 50);
    assert!(bench.hub.is_drained());
}

#[test]
fn a_hub_that_is_told_to_stay_takes_clients_again() {
    let mut bench = Bench::new(Settings::default());
    bench.tell(Input::Timer);
    bench.tell(Input::Drain { over: Duration::ZERO });
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Draining);
    bench.tell(Input::Undrain);
    assert!(closes(&bench.connect(1, peer(1))).is_empty());
    assert_eq!(bench.hub.status(bench.now).state, MeshState::Ready);
}

#[test]
fn an_old_hub_that_is_not_listed_any_more_has_to_go() {
    let listed = "127.0.0.1".parse().expect("an address");
    let mut bench = Bench::new(Settings { legacy_hubs: vec![listed], ..Settings::default() });
    bench.connect(1, peer(1));
    bench.tell(Input::Text { conn: ConnId(1), text: r#"{"type":"announce","data":{"isHub":true}}"# });
    assert_eq!(bench.hub.status(bench.now).ws_links, 1);
    let key = MeshKey::new(b"another key of the bench").expect("long enough");
    bench.hub.reconfigure(Settings::default(), key, bench.now);
    let said: Vec<Output> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
    assert_eq!(closes(&said), [(1, 1008)]);
}

#[test]
fn an_old_hubs_peers_that_left_take_no_room() {
    let listed = "127.0.0.1".parse().expect("an address");
    let mut bench = Bench::new(Settings { legacy_hubs: vec![listed], ..Settings::default() });
    bench.connect(1, peer(1));
    bench.tell(Input::Text { conn: ConnId(1), text: r#"{"type":"announce","data":{"isHub":true}}"# });
    let mut say = |kind: &str, n: u32| {
        let text = format!(r#"{{"type":"{kind}","networkName":"n","data":{{"peerId":"{n:040x}"}}}}"#);
        bench.tell(Input::Text { conn: ConnId(1), text: &text });
        bench.hub.peers(Some("n")).len()
    };
    for n in 0..20_001 {
        assert_eq!((say("peer-discovered", n), say("peer-disconnected", n)), (1, 0), "{n}");
    }
    assert_eq!(say("peer-disconnected", 7), 0, "of one that is not there nothing is taken away");
}

/// A thousand that say they are hubs and prove nothing take each other's places, not an honest hub's.
#[test]
fn strangers_that_greet_slowly_keep_no_hub_from_joining() {
    let mut bench = Bench::new(Settings::default());
    let honest = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert!(closes(&bench.greet(1, peer(1), honest)).is_empty());
    let mut closed = Vec::new();
    for n in 1..=1000u16 {
        // All of one customer's 64 bits.
        let remote = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        closed.extend(closes(&bench.greet(2 * u64::from(n) + 1, peer(2), remote)));
    }
    assert_eq!(closed.len(), 1001 - 256);
    assert!(closed.iter().all(|(conn, code)| *conn != 1 && *code == 1008));
    assert!(closed.is_sorted(), "the oldest first");
    let late = bench.greet(3001, peer(3), honest);
    assert!(
        closes(&late).iter().all(|(conn, _)| *conn != 3001)
            && late.contains(&Output::Read { conn: ConnId(3001) })
    );
}

#[test]
fn binary_before_the_proof_ends_a_handshake() {
    let mut bench = Bench::new(Settings::default());
    bench.greet(1, peer(1), IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(closes(&bench.tell(Input::Binary { conn: ConnId(1), bytes: &[3; 64] })), [(1, 1008)]);
}

#[test]
fn an_id_may_be_shortened_until_it_is_ambiguous() {
    let mut bench = Bench::new(Settings::default());
    let (mut one, mut two) = ([0xab; 20], [0xab; 20]);
    (one[2], two[2]) = (1, 2);
    bench.join(1, Id(one));
    bench.join(3, Id(two));
    assert_eq!(bench.hub.find_id("ABAB01"), Ok(Id(one)));
    assert!(bench.hub.find_id("abab").is_err_and(|error| error.to_string().contains("ambiguous")));
    assert!(
        ["", "xyz"].iter().all(|no_id| bench.hub.find_id(no_id) == Err(FindError::NoId((*no_id).into())))
            && bench.hub.find_id("ff") == Err(FindError::Nobody(String::from("ff")))
    );
}

/// Two hubs with one key, as when a machine was copied with its state: each
/// goes on above the other's record, and must not do so at every turn.
#[test]
fn a_twin_does_not_drive_a_hub_on() {
    let mut bench = Bench::new(Settings::default());
    let twin = HubKey::from_bytes(&[7; 32]);
    let mut risen = Vec::new();
    for second in 0..100 {
        let mut record = bench.hub.gossip.own.clone();
        record.epoch += 1;
        let signed = SignedRecord::sign(&record, &bench.hub.settings.namespace, &twin);
        bench.hub.got_records(ConnId(2), peer(9), &[signed.as_signed_bytes()]);
        if bench.hub.gossip.own.epoch > record.epoch {
            risen.push(second);
        }
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(risen, [0, 10, 30, 70], "seconds");
}
