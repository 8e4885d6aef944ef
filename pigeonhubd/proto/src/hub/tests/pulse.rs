//! When clients are pinged, and when they are dropped.

use std::collections::BTreeMap;

use super::*;

/// The longest silence that proxies are to see.
const LONGEST: Duration = Duration::from_secs(25);

/// When each connection was pinged.
type Pings = BTreeMap<ConnId, Vec<Time>>;

impl Bench {
    /// Lets time pass in which clients answer their pings: when each was pinged, and who was closed.
    fn answering(&mut self, duration: Duration) -> (Pings, Vec<(u64, u16)>) {
        let (until, mut pings, mut closed) = (self.now.mono + duration, BTreeMap::new(), Vec::new());
        while self.hub.poll_timeout() <= until {
            self.now.mono = self.now.mono.max(self.hub.poll_timeout());
            let said = self.tell(Input::Timer);
            closed.extend(closes(&said));
            for output in said {
                if let Output::Ping { conn, number } = output {
                    pings.entry(conn).or_insert_with(Vec::new).push(self.now.mono);
                    self.tell(Input::Pong { conn, number: Some(number) });
                }
            }
        }
        self.now.mono = until;
        (pings, closed)
    }

    fn crowd(&mut self, clients: u64) {
        for n in 0..clients {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&n.to_be_bytes());
            self.connect(2 * n + 1, Id(id));
        }
    }
}

fn lone(settings: Settings) -> Settings {
    Settings { auto_connect: false, ..settings }
}

#[test]
fn no_client_is_silent_for_25_s_and_a_crowd_is_not_pinged_at_once() {
    for hub_enabled in [true, false] {
        let mut bench = Bench::new(lone(Settings { hub_enabled, ..Settings::default() }));
        bench.tell(Input::Timer);
        bench.crowd(2000);
        let start = bench.now.mono;
        let (pings, closed) = bench.answering(Duration::from_secs(100));
        assert_eq!((pings.len(), closed), (2000, Vec::new()));
        let mut seconds = BTreeMap::new();
        for times in pings.values() {
            let gaps = std::iter::once(start).chain(times.iter().copied());
            let longest = gaps.zip(times).map(|(before, at)| at.since(before)).max();
            assert!(longest.is_some_and(|longest| longest < LONGEST), "{times:?}");
            assert!(times.last().is_some_and(|last| bench.now.mono.since(*last) < LONGEST), "{times:?}");
            assert!(times.len() <= 5, "more than needed: {times:?}");
            times.iter().for_each(|at| *seconds.entry(at.since(start).as_secs()).or_insert(0) += 1);
        }
        let most = seconds.values().copied().max().unwrap_or(0);
        assert!(most < 2 * 2000 / 17, "{most} pings in one second");
    }
}

#[test]
fn whatever_the_settings_a_client_is_pinged_and_may_answer_before_it_is_dropped() {
    for hub_enabled in [true, false] {
        for (timeout, cleanup) in [(100, 100), (100, 30_000), (2000, 30_000), (20_000, 3_600_000)] {
            let peer_timeout = Duration::from_millis(timeout);
            let cleanup_interval = Duration::from_millis(cleanup);
            let settings = Settings { hub_enabled, peer_timeout, cleanup_interval, ..Settings::default() };
            let mut bench = Bench::new(lone(settings));
            bench.tell(Input::Timer);
            bench.crowd(50);
            let (pings, closed) = bench.answering(Duration::from_secs(120));
            assert_eq!((pings.len(), closed), (50, Vec::new()), "{timeout} {cleanup}: all answer");
            // From now on none does.
            let before = bench.now.mono;
            let (mut pinged, mut dropped) = (BTreeMap::new(), 0);
            while bench.now.mono.since(before) < peer_timeout + LONGEST {
                for output in bench.wait(Duration::from_millis(50)) {
                    match output {
                        Output::Ping { conn, .. } => {
                            pinged.entry(conn).or_insert(bench.now.mono);
                        }
                        Output::Close { conn, .. } => {
                            let pinged = pinged.get(&conn).expect("a ping before the end");
                            assert!(bench.now.mono.since(*pinged) >= Duration::from_millis(950));
                            dropped += 1;
                        }
                        _ => {}
                    }
                }
            }
            assert_eq!(dropped, 50, "{timeout} {cleanup}");
        }
    }
}

#[test]
fn a_hub_that_stood_still_judges_nobody_by_that_and_pings_nobody_sooner() {
    for hub_enabled in [true, false] {
        let mut bench = Bench::new(lone(Settings { hub_enabled, ..Settings::default() }));
        bench.tell(Input::Timer);
        bench.crowd(500);
        bench.answering(Duration::from_secs(60));
        let still = Duration::from_secs(400);
        bench.now.mono = bench.now.mono + still;
        let woke = bench.now.mono;
        let said = bench.tell(Input::Timer);
        let pings = said.iter().filter(|output| matches!(output, Output::Ping { .. })).count();
        assert!(pings < 30 && closes(&said).is_empty(), "{pings} pings, {:?}", closes(&said));
        let (pings, closed) = bench.answering(Duration::from_secs(60));
        assert_eq!((pings.len(), closed), (500, Vec::new()));
        assert!(pings.values().flatten().filter(|at| at.since(woke) < Duration::from_secs(1)).count() < 60);
        // One that is silent from now on is still dropped in time.
        let said = bench.wait(Duration::from_secs(305) + LONGEST);
        assert_eq!(closes(&said).len(), 500);
    }
}

/// What its older connection answered waits in a socket, behind the hub's pause.
#[test]
fn a_hub_that_stood_still_waits_for_the_answer_to_a_probe() {
    let mut bench = Bench::new(lone(Settings::default()));
    bench.join(1, peer(1));
    bench.connect(3, peer(1));
    bench.now.mono = bench.now.mono + Duration::from_secs(400);
    assert_eq!(closes(&bench.tell(Input::Timer)), []);
    assert_eq!(closes(&bench.tell(Input::Pong { conn: ConnId(1), number: Some(1) })), [(3, 1008)]);
}

/// It was sent before the client closed that connection, and comes in behind a pause of the hub.
#[test]
fn the_answer_to_an_earlier_ping_is_none_to_a_probe() {
    let mut bench = Bench::new(lone(Settings::default()));
    bench.join(1, peer(1));
    let pinged = |said: &[Output], ping| said.contains(&Output::Ping { conn: ConnId(1), number: ping });
    let turns = (0..2_500).take_while(|_| !pinged(&bench.wait(Duration::from_millis(10)), 1)).count();
    assert!(turns < 2_400, "each client is pinged now and then");
    assert!(pinged(&bench.connect(3, peer(1)), 2));
    for number in [Some(1), None] {
        assert_eq!(closes(&bench.tell(Input::Pong { conn: ConnId(1), number })), []);
    }
    assert_eq!(closes(&bench.tell(Input::Pong { conn: ConnId(1), number: Some(2) })), [(3, 1008)]);
}

/// A connection that waited for it would be there for ever, and end whoever has its id by then.
#[test]
fn nobody_waits_for_a_connection_that_became_an_old_hub() {
    let listed = "127.0.0.1".parse().expect("an address");
    let mut bench = Bench::new(lone(Settings { legacy_hubs: vec![listed], ..Settings::default() }));
    bench.connect(1, peer(1));
    bench.connect(3, peer(1));
    let announce = r#"{"type":"announce","data":{"isHub":true}}"#;
    let said = bench.tell(Input::Text { conn: ConnId(1), text: announce });
    assert_eq!(closes(&said), [(3, 1008)]);
    bench.tell(Input::Closed { conn: ConnId(3), reason: ClosedBy::Local });
    bench.connect(5, peer(1));
    let (_, closed) = bench.answering(Duration::from_secs(60));
    assert_eq!(closed, []);
}
