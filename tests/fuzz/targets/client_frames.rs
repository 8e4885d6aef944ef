//! Text messages: the first byte of each line says from which of four
//! connections, two clients, a hub that has proven nothing and one that greets late.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pigeonhub_fuzz::{Bench, data_of};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::Output;
use serde_json::value::RawValue;

const JOIN: &str = r#"{"type":"announce","networkName":"global","data":{"isHub":false}}"#;

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::default();
    for (conn, peer, mesh) in [(1, [0xa1; 20], false), (3, [0xb2; 20], false), (5, [0xc3; 20], true)] {
        bench.connect(conn, Id(peer), mesh);
    }
    bench.text(3, JOIN);
    for line in data.split(|byte| *byte == b'\n') {
        let Some((first, text)) = line.split_first() else { continue };
        let Ok(text) = std::str::from_utf8(text) else { continue };
        let conn = [1, 3, 5, 1][usize::from(first % 4)];
        let said = bench.text(conn, text);
        for output in &said {
            if let Output::Text { text, .. } = output {
                // What clients wrote is passed on as it is, half of a surrogate pair included,
                // which is JSON but no text of Rust's.
                let said: BTreeMap<&str, &RawValue> = serde_json::from_str(text).expect("a hub says JSON");
                assert!(said["type"].get().starts_with('"'), "{text}");
            }
        }
        // Nobody speaks as another, whatever the message says.
        if let Some(offer) = data_of(&said, 3, "offer") {
            assert!(conn == 1, "{offer}");
        }
        if first & 0x80 != 0 {
            bench.wait(Duration::from_millis(300));
        }
    }
    bench.wait(Duration::from_secs(1));
    bench.look();
});
