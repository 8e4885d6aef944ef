//! Hubs that have the mesh key and lie. What they may do is in `SECURITY.md`;
//! this is what they may not, and the pair of clients on two honest hubs goes on.

use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::identity::{HubKey, Identity};
use pigeonhub_proto::mesh::record::{Record, SignedRecord};
use pigeonhub_proto::mesh::records::MAX_HUBS;
use pigeonhub_proto::mesh::stream::{Data, Frame};
use pigeonhub_proto::wire::mesh::{HubMessage, LinkFrame, PresenceChange, Routed, encode};
use serde_json::json;

use crate::harness::{Hub, Link, Raw, Rogue, until_ok};
use crate::rogue_hubs::{NAMESPACE, NETWORK, Scene, id, key, record};

const MIB: u64 = 1024 * 1024;

/// The record of `of`, as another hub has it.
fn record_of(link: &mut Link, of: Id) -> (Record, SignedRecord) {
    let records = link.ask_for_records();
    records.into_iter().find(|(record, _)| record.hub() == of).expect("a hub of the mesh")
}

/// Makes the rogue known, with links of its own choice.
fn introduce(rogue: &Rogue, link: &mut Link, links: &[Id], version: u64) {
    let record = Record { version, ..record(rogue.identity.public_key(), links) };
    let signed = SignedRecord::sign(&record, NAMESPACE, &rogue.identity);
    link.send(&LinkFrame::Records(vec![signed.as_signed_bytes()]));
    link.settle();
}

fn knows(hub: &Hub, id: Id) -> bool {
    hub.hubs().iter().any(|hub| hub.hub_id == id)
}

/// Anybody in the mesh has everyone's records; an old one is the word of yesterday.
#[test]
fn a_stolen_record_played_again_changes_nothing() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let second = scene.second.status().hub_id;
    let (old, stolen) = record_of(&mut link, second);
    // It has peers in another network from now on, and says so.
    let mut there = Raw::join(&scene.second, &id("c3"), "another");
    let newer = until_ok("its record changes", || {
        let (record, _) = record_of(&mut link, second);
        if record.networks.len() > old.networks.len() { Ok(record) } else { Err(format!("{record:?}")) }
    });
    for _ in 0..10 {
        link.send(&LinkFrame::Records(vec![stolen.as_signed_bytes()]));
    }
    link.settle();
    let (now, _) = record_of(&mut link, second);
    assert!((now.epoch, now.version) >= (newer.epoch, newer.version), "{now:?}");
    let mut here = Raw::join(&scene.first, &id("d4"), "another");
    assert_eq!(here.wait_type("peer-discovered")["data"]["peerId"], id("c3"));
    assert_eq!(there.wait_type("peer-discovered")["data"]["peerId"], id("d4"));
    scene.innocents_go_on();
}

/// Links count if both of their ends list them.
#[test]
fn links_that_one_end_invents_carry_nothing() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let (first, second) = (scene.first.status().hub_id, scene.second.status().hub_id);
    let nobody = [Id([1; 20]), Id([2; 20])];
    for version in 1..20 {
        introduce(&rogue, &mut link, &[first, second, nobody[0], nobody[1]], version);
        scene.innocents_go_on();
    }
    until_ok("the second hub knows the rogue", || {
        link.settle();
        if knows(&scene.second, rogue.id) { Ok(()) } else { Err(String::new()) }
    });
    let distance =
        |hub: &Hub, to: Id| hub.hubs().iter().find(|hub| hub.hub_id == to).and_then(|hub| hub.distance);
    assert_eq!(distance(&scene.first, second), Some(1));
    assert_eq!(distance(&scene.second, rogue.id), Some(2), "through the first, whatever it says");
    assert!(nobody.iter().all(|hub| !knows(&scene.first, *hub) && !knows(&scene.second, *hub)));
    scene.innocents_go_on();
}

/// Records of hubs that there are not: so many are kept, and of no use.
#[test]
fn a_flood_of_records_has_a_limit() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let memory = |hub: &Hub| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", hub.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().strip_suffix(" kB").expect("in KiB").parse::<u64>().expect("digits") * 1024
    };
    let before = memory(&scene.first);
    let invented = |number: u32| {
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let key = HubKey::from_bytes(&secret);
        SignedRecord::sign(&record(key.public_key(), &[rogue.id]), NAMESPACE, &key)
    };
    let count = u32::try_from(MAX_HUBS).expect("small") + 500;
    for begin in (0..count).step_by(500) {
        let batch: Vec<SignedRecord> = (begin..begin + 500).map(invented).collect();
        link.send(&LinkFrame::Records(batch.iter().map(SignedRecord::as_signed_bytes).collect()));
        link.settle();
        scene.innocents_go_on();
    }
    scene.first.wait_logged("refused", "no room for the record of another hub");
    let grown = memory(&scene.first).saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    // None of them is within reach, and so none of them is anything to anybody.
    assert!(scene.first.status().known_hubs <= 2, "{:?}", scene.first.status());
    scene.innocents_go_on();
}

/// Who was not asked who its peers are tells nobody.
#[test]
fn peers_that_are_claimed_unasked_are_nobodys() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let first = scene.first.status().hub_id;
    let (asked, _) = record_of(&mut link, first);
    introduce(&rogue, &mut link, &[first], 1);
    let mine = record(rogue.identity.public_key(), &[first]);
    for (seq, subscription) in (1..20).zip(0..) {
        let claim = PresenceChange::Here {
            peer: id("b2").parse().expect("an id"),
            network: NETWORK.into(),
            stamp: u64::MAX,
            legacy: false,
            announced_at: 0,
            shown: "{}".into(),
        };
        let network = Some(NETWORK.into());
        let claim = HubMessage::Presence { network, subscription, changes: vec![claim], complete: true };
        let data = Data {
            src_epoch: mine.epoch,
            dst_epoch: asked.epoch,
            generation: 1,
            floor: 1,
            seq,
            ack: None,
            payload: &encode(&claim),
        };
        let body = encode(&Frame::Data(data));
        link.send(&LinkFrame::Routed(Routed { src: rogue.id, dst: first, hops: 9, body: body.into() }));
    }
    link.settle();
    // They still find the one who is really there.
    for _ in 0..20 {
        scene.innocents_go_on();
    }
    let home = |hub: &Hub| hub.peers().into_iter().find(|peer| peer.peer_id == id("b2"));
    let peer = home(&scene.first).expect("known");
    assert_eq!(peer.hub_id, scene.second.status().hub_id, "{}", json!(peer));
}
