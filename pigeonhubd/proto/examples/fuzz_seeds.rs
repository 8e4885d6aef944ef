//! Writes the seeds of the fuzz targets that are not text: one of each frame
//! and message between hubs, and records.
//! `cargo run -p pigeonhub-proto --example fuzz_seeds -- tests/fuzz/corpus`

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use pigeonhub_proto::id::{Id, Spelled};
use pigeonhub_proto::mesh::record::{LinkEntry, Record};
use pigeonhub_proto::wire::SignalKind;
use pigeonhub_proto::wire::mesh::{
    Bye, ChannelStep, HubMessage, LinkFrame, MeshSignal, PresenceChange, Probe, ProbeReply, Reads,
    RecordVersion, Routed, encode,
};

fn id(n: u8) -> Id {
    Id([n; 20])
}

fn spelled(n: u8) -> Spelled {
    id(n).to_string().parse().expect("an id")
}

/// The blocks of the target `mesh_frames`: kind, length, bytes.
fn blocks(kind: u8, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        let length = u16::try_from(frame.len()).expect("short");
        out.push(kind);
        out.extend(length.to_be_bytes());
        out.extend(frame);
    }
    out
}

fn frames() -> Vec<Vec<u8>> {
    let version = RecordVersion { hub: id(1), epoch: 2, version: 3 };
    let probe = Probe { src: id(1), dst: id(2), number: 3, sent_us: 4, crossed: 5 };
    let reply = ProbeReply { to: id(1), from: id(2), probe, last: true, hops: 9 };
    let routed = || Routed { src: id(1), dst: id(2), hops: 9, body: b"xyz".into() };
    let all = [
        LinkFrame::Heartbeat { digest: 1, sent_us: 2 },
        LinkFrame::HeartbeatEcho { sent_us: 2 },
        LinkFrame::Summary(Cow::Owned(vec![version])),
        LinkFrame::Probe(probe),
        LinkFrame::ProbeReply(reply),
        LinkFrame::Bye(Bye::Duplicate),
        LinkFrame::Reads(Reads { batches: true }),
        LinkFrame::Batch(vec![routed(), routed()]),
    ];
    all.iter().map(encode).collect()
}

fn messages() -> Vec<Vec<u8>> {
    let sdp = "v=0\r\na=fingerprint:sha-256 00:11\r\n";
    let signal = MeshSignal {
        kind: SignalKind::Offer,
        network: "n".into(),
        from: spelled(0xb2),
        target: spelled(0xa1),
        stamp: 1_700_000_000_000,
        data: Some("{}".into()),
    };
    let here = PresenceChange::Here {
        peer: spelled(0xb2),
        network: "n".into(),
        stamp: 5,
        legacy: false,
        announced_at: 6,
        shown: "{}".into(),
    };
    let gone = PresenceChange::Gone { peer: id(0xb2), network: "n".into() };
    let channel = |step| HubMessage::Channel { attempt: 7, step };
    let all = [
        HubMessage::Subscribe { network: Some("n".into()), subscription: 1, spare: false },
        HubMessage::Presence {
            network: Some("n".into()),
            subscription: 1,
            changes: vec![here, gone],
            complete: true,
        },
        HubMessage::Introduce { network: "n".into(), peer: id(0xb2), to: vec![id(0xa1)] },
        HubMessage::Goodbye { network: "n".into(), peer: id(0xb2) },
        HubMessage::Signals(vec![signal.clone(), signal]),
        channel(ChannelStep::Offer { sdp: sdp.into(), nonce: [1; 32] }),
        channel(ChannelStep::Answer { sdp: sdp.into(), nonce: [1; 32] }),
        channel(ChannelStep::Candidate("{}".into())),
        channel(ChannelStep::Abandon),
        channel(ChannelStep::Restart),
        HubMessage::Unsubscribe { network: Some("n".into()) },
    ];
    all.iter().map(encode).collect()
}

fn record(urls: &[&str], links: &[u8], networks: &[u64]) -> Vec<u8> {
    encode(&Record {
        key: [1; 32],
        epoch: 1_700_000_000_000,
        version: 1,
        urls: urls.iter().map(|&url| url.to_owned()).collect(),
        links: links.iter().map(|n| LinkEntry { hub: id(*n), p2p: n % 2 == 0 }).collect(),
        networks: networks.to_vec(),
        more_networks: networks.is_empty(),
        max_peers: 3,
        ready: true,
        draining: false,
    })
}

fn main() -> io::Result<()> {
    let corpus = env::args_os().nth(1).map(PathBuf::from).expect("a folder");
    let write = |target: &str, name: &str, bytes: Vec<u8>| {
        let folder = Path::new(&corpus).join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    write("mesh_frames", "frames", blocks(0, &frames()))?;
    write("mesh_frames", "messages", blocks(3, &messages()))?;
    for (number, message) in messages().into_iter().enumerate() {
        write("mesh_frames", &format!("message-{number}"), blocks(0x83, &[message]))?;
    }
    write("records", "plain", record(&[], &[], &[]))?;
    write("records", "links", record(&["ws://192.0.2.1:3000"], &[1, 2, 3], &[1, 2]))?;
    write("records", "unsorted", record(&["not a URL"], &[3, 1], &[2, 1]))
}
