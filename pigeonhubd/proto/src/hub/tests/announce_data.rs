//! How much of it a hub holds.

use super::{Bench, closes, peer, texts_to};
use crate::directory::{CLIENT_SHARE, MOST};
use crate::id::Id;
use crate::io::{ClosedBy, ConnId, Input, Output};
use crate::settings::Settings;

const LARGE: usize = 8_000;
const NETWORKS: usize = 16;

fn announce(bench: &mut Bench, conn: u64, network: &str, bytes: usize) -> Vec<String> {
    let pad = "x".repeat(bytes);
    let text = format!(r#"{{"type":"announce","networkName":"{network}","data":{{"pad":"{pad}"}}}}"#);
    texts_to(&bench.tell(Input::Text { conn: ConnId(conn), text: &text }), conn)
}

fn stranger(number: u64) -> Id {
    let mut id = [0xee; 20];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Id(id)
}

/// Strangers announce more and more until the hub takes no more of it, to the last byte.
fn full() -> (Bench, u64) {
    let mut bench = Bench::new(Settings::default());
    let mut conn = 1;
    loop {
        bench.connect(conn, stranger(conn));
        for network in 0..NETWORKS {
            let said = announce(&mut bench, conn, &format!("{conn}-{network}"), LARGE);
            if let [told] = &said[..] {
                assert!(told.contains(r#""code":"limit-reached""#) && told.contains("64 MiB"), "{told}");
                let room = MOST - held(&bench);
                assert!(room < 2 * LARGE, "{room}");
                assert!(announce(&mut bench, 1, "1-0", LARGE + room).is_empty());
                return (bench, conn);
            }
            assert!(said.is_empty(), "{said:?}");
        }
        conn += 2;
        assert!(conn < 2000, "{:?}", bench.hub.gauges().announce_data);
    }
}

fn held(bench: &Bench) -> usize {
    bench.hub.gauges().announce_data.here
}

#[test]
fn all_of_it_has_a_limit_and_each_client_its_share() {
    let (mut bench, last) = full();
    assert_eq!(held(&bench), MOST);
    // Who says of itself what clients do say notices nothing.
    let honest = 100_001;
    assert!(closes(&bench.join(honest, peer(1))).is_empty());
    for network in 0..NETWORKS - 1 {
        assert_eq!(announce(&mut bench, honest, &format!("h{network}"), 100), [] as [String; 0]);
    }
    // Anyone has the share, in all networks together, and not more.
    bench.connect(honest + 2, peer(2));
    assert!(announce(&mut bench, honest + 2, "one", CLIENT_SHARE / 2).is_empty());
    let told = announce(&mut bench, honest + 2, "two", CLIENT_SHARE / 2);
    assert!(told.len() == 1 && told[0].contains("4 KiB"), "{told:?}");
    assert!(announce(&mut bench, honest + 2, "two", CLIENT_SHARE / 4).is_empty());
    // Nobody loses what it has.
    assert!(announce(&mut bench, 1, "1-0", LARGE).is_empty());
    assert!(announce(&mut bench, 1, "1-0", LARGE - 1).is_empty());
    assert!(!announce(&mut bench, last, "another", LARGE).is_empty());
    // Room comes back with those who leave.
    let before = held(&bench);
    bench.tell(Input::Closed { conn: ConnId(1), reason: ClosedBy::Local });
    assert!(held(&bench) <= before - NETWORKS * LARGE);
    assert!(announce(&mut bench, honest + 2, "two", LARGE).is_empty());
}

#[test]
fn what_is_counted_is_what_is_there() {
    let mut bench = Bench::new(Settings::default());
    bench.join(1, peer(1));
    let bare = held(&bench);
    assert!((60..100).contains(&bare), "{bare}");
    for (bytes, network) in [(1000, "global"), (10, "global"), (500, "b"), (600, "b")] {
        announce(&mut bench, 1, network, bytes);
    }
    let entries = bench.hub.directory.entries();
    assert_eq!(held(&bench), entries.map(|entry| entry.claim().shown.len()).sum::<usize>());
    let goodbye = r#"{"type":"goodbye","networkName":"b"}"#;
    let said: Vec<Output> = bench.tell(Input::Text { conn: ConnId(1), text: goodbye });
    assert!(closes(&said).is_empty() && held(&bench) < 200, "{}", held(&bench));
    bench.tell(Input::Closed { conn: ConnId(1), reason: ClosedBy::Local });
    assert_eq!(held(&bench), 0);
}
