//! What a hub inside the mesh may say over its link. Each block of the input
//! is a kind, a length, and bytes: a frame as it is; the body of an envelope;
//! or a message of the stream between the two hubs.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pigeonhub_fuzz::{Bench, Insider, STARTED};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::frame::Framing;
use pigeonhub_proto::mesh::identity::Identity;
use pigeonhub_proto::mesh::record::{LinkEntry, Record, SignedRecord};
use pigeonhub_proto::mesh::stream::{Data, Frame};
use pigeonhub_proto::wire::mesh::{HubMessage, LinkFrame, Routed, decode, encode};

const JOIN: &str = r#"{"type":"announce","networkName":"n","data":{}}"#;

fn blocks(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, rest) = data.split_first()?;
        let (length, rest) = rest.split_at_checked(2)?;
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let (block, rest) = rest.split_at(length.min(rest.len()));
        data = rest;
        Some((*kind, block))
    })
}

/// Its own record, so that the hub answers it.
fn introduce(bench: &mut Bench, insider: &mut Insider) {
    let record = Record {
        key: insider.key.public_key(),
        epoch: STARTED,
        version: 1,
        urls: vec![String::from("ws://127.0.0.1:9")],
        links: vec![LinkEntry { hub: bench.id(), p2p: false }],
        networks: Vec::new(),
        more_networks: true,
        max_peers: 3,
        ready: true,
        draining: false,
    };
    let signed = SignedRecord::sign(&record, pigeonhub_fuzz::NAMESPACE, &insider.key);
    let frame = encode(&LinkFrame::Records(vec![signed.as_signed_bytes()]));
    insider.say(bench, &frame);
}

fuzz_target!(|data: &[u8]| {
    // Messages as they come, before anything is known of the far end.
    let mut framing = Framing::new(None);
    let mut bench = Bench::default();
    bench.connect(1, Id([0xa1; 20]), false);
    bench.text(1, JOIN);
    let mut insider = Insider::join(&mut bench);
    introduce(&mut bench, &mut insider);
    let mut seq = 0;
    for (kind, block) in blocks(data) {
        let _ = framing.join(block);
        let routed = |body: &[u8], src, dst| {
            encode(&LinkFrame::Routed(Routed { src, dst, hops: 9, body: body.into() }))
        };
        let frame = match kind % 4 {
            0 => block.to_vec(),
            1 => routed(block, insider.id, bench.id()),
            2 => routed(block, Id([5; 20]), bench.id()),
            _ => {
                // What can be read is written the same again.
                if let Ok(message) = decode::<HubMessage<'_>>(block) {
                    assert_eq!(decode(&encode(&message)), Ok(message));
                }
                seq += 1;
                let (src_epoch, dst_epoch) = (STARTED, insider.epoch);
                let data =
                    Data { src_epoch, dst_epoch, generation: 1, floor: 1, seq, ack: None, payload: block };
                routed(&encode(&Frame::Data(data)), insider.id, bench.id())
            }
        };
        insider.say(&mut bench, &frame);
        if kind & 0x80 != 0 {
            bench.wait(Duration::from_millis(300));
        }
    }
    bench.wait(Duration::from_secs(2));
    bench.look();
});
