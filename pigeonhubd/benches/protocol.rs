//! How the cost of the protocol's parts grows: messages of clients, routes,
//! topology and the exchange of records at 10, 100 and 1,000 hubs.
//!
//! `cargo bench -p pigeonhubd --bench protocol`. Judges nothing.
#![allow(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use pigeonhub_proto::direct::Direct;
use pigeonhub_proto::id::{Id, Spelled};
use pigeonhub_proto::mesh::identity::{HubKey, Identity};
use pigeonhub_proto::mesh::record::{LinkEntry, Record, SignedRecord};
use pigeonhub_proto::mesh::records::Records;
use pigeonhub_proto::mesh::routes::{Link, OwnLinks, Routes};
use pigeonhub_proto::mesh::topology::{Member, edges, wanted};
use pigeonhub_proto::time::{Now, Time};
use pigeonhub_proto::wire::client::ClientFrame;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const HUBS: [usize; 3] = [10, 100, 1000];
const SIZES: [usize; 3] = [200, 1200, 16_000];
const NAMESPACE: &str = "pigeonhub-mesh";

fn main() {
    divan::main();
}

/// A signal of about that many bytes, as a browser sends it: a description's lines have escapes.
fn signal(size: usize) -> String {
    let line = "a=candidate:1 1 udp 2130706431 192.0.2.7 54400 typ host\r\n";
    let sdp: String = line.chars().cycle().take(size.saturating_sub(180)).collect();
    serde_json::json!({
        "type": "offer", "data": {"type": "offer", "sdp": sdp}, "targetPeerId": "b".repeat(40),
        "networkName": "global", "timestamp": 1_700_000_000_000_u64,
    })
    .to_string()
}

#[divan::bench(args = SIZES)]
fn parse_a_signal(bencher: Bencher<'_, '_>, size: usize) {
    let text = signal(size);
    bencher.bench(|| ClientFrame::parse(black_box(&text)).unwrap());
}

/// From the message that came to the one that goes.
#[divan::bench(args = SIZES)]
fn pass_a_signal_on(bencher: Bencher<'_, '_>, size: usize) {
    let text = signal(size);
    let (from, target): (Spelled, Spelled) =
        ("a".repeat(40).parse().unwrap(), "b".repeat(40).parse().unwrap());
    let mut out = Vec::with_capacity(2 * size);
    bencher.bench_local(|| {
        out.clear();
        let Some(Direct::Signal(signal)) = Direct::parse(black_box(&text), &from.id) else {
            panic!("a signal")
        };
        signal.text(from, target, 1).parts().iter().for_each(|part| out.extend_from_slice(part));
        out.len()
    });
}

fn members(count: usize) -> Vec<Member> {
    let mut rng = SmallRng::seed_from_u64(1);
    (0..count).map(|_| Member { id: Id(rng.random()), max_peers: 3 }).collect()
}

fn links(members: &[Member]) -> BTreeMap<Id, Vec<Link>> {
    let mut links: BTreeMap<Id, Vec<Link>> = BTreeMap::new();
    for (a, b) in edges(members) {
        links.entry(a).or_default().push(Link { hub: b, p2p: true });
        links.entry(b).or_default().push(Link { hub: a, p2p: true });
    }
    links
}

#[divan::bench(args = HUBS)]
fn choose_links(bencher: Bencher<'_, '_>, hubs: usize) {
    let members = members(hubs);
    bencher.bench(|| wanted(&members[0].id, black_box(&members)));
}

fn routes(own: Id, links: &BTreeMap<Id, Vec<Link>>) -> Routes {
    let lists = links.iter().map(|(hub, links)| (*hub, links.iter().copied()));
    Routes::new(own, &links[&own], OwnLinks::Trusted, lists)
}

#[divan::bench(args = HUBS)]
fn build_routes(bencher: Bencher<'_, '_>, hubs: usize) {
    let members = members(hubs);
    let links = links(&members);
    bencher.bench(|| routes(members[0].id, black_box(&links)));
}

#[divan::bench(args = HUBS)]
fn next_hop(bencher: Bencher<'_, '_>, hubs: usize) {
    let members = members(hubs);
    let routes = routes(members[0].id, &links(&members));
    let mut to = members.iter().cycle();
    bencher.bench_local(|| routes.next_hop(&to.next().unwrap().id, |_| false));
}

/// What one hub's coming costs another: topology and routes anew.
#[divan::bench(args = HUBS)]
fn one_change_of_the_mesh(bencher: Bencher<'_, '_>, hubs: usize) {
    let members = members(hubs);
    let links = links(&members);
    bencher.bench(|| (wanted(&members[0].id, black_box(&members)), routes(members[0].id, &links)));
}

fn record(number: usize, version: u64) -> (Record, HubKey) {
    let mut secret = [0; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    let key = HubKey::from_bytes(&secret);
    let link = |n: u8| LinkEntry { hub: Id([n; 20]), p2p: true };
    let record = Record {
        key: key.public_key(),
        epoch: 1,
        version,
        urls: vec![String::from("ws://hub.example.com:3000")],
        links: vec![link(1), link(2), link(3)],
        networks: (0..10).collect(),
        more_networks: false,
        max_peers: 3,
        ready: true,
        draining: false,
    };
    (record, key)
}

fn records(count: usize, version: u64) -> Records {
    let mut records = Records::default();
    for number in 0..count {
        let (record, key) = record(number, version);
        let signed = SignedRecord::sign(&record, NAMESPACE, &key);
        records.store(record.hub(), record, signed, Now::default());
    }
    records
}

/// One record from a neighbour: read, its signature checked, kept.
#[divan::bench(args = HUBS)]
fn take_a_record(bencher: Bencher<'_, '_>, hubs: usize) {
    let mut known = records(hubs, 1);
    let (newer, key) = record(hubs / 2, 2);
    let signed = SignedRecord::sign(&newer, NAMESPACE, &key);
    bencher.bench_local(|| {
        let signed = signed.as_signed_bytes();
        let record = SignedRecord::read(&signed).unwrap();
        let checked = SignedRecord::verify(&signed, &record, NAMESPACE, &key).unwrap();
        known.store(record.hub(), record, checked, Now::default())
    });
}

/// Two neighbours compare what they have; half of it is news to the other.
#[divan::bench(args = HUBS)]
fn compare_records(bencher: Bencher<'_, '_>, hubs: usize) {
    let (ours, theirs) = (records(hubs, 2), records(hubs / 2, 1));
    let own = record(hubs, 1).0;
    let own = own.version_of(own.hub());
    bencher.bench(|| ours.lacking(&theirs.summary(own, Time(0)), Time(0)).len());
}
