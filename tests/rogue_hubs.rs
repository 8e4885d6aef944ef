//! What a hub may do that does not belong, or belongs and breaks the rules:
//! it is turned away with a reason, and a pair of clients on two honest hubs
//! notices nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::frame::MAX_FRAME;
use pigeonhub_proto::mesh::identity::{Identity, MeshKey};
use pigeonhub_proto::mesh::record::{LinkEntry, Record, SignedRecord};
use pigeonhub_proto::wire::mesh::{LinkFrame, Routed, SignedBytes, encode};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Closed, Ground, Hub, Lair, Link, Plan, Raw, Rogue, greeted, say_hello, until_ok};

pub(crate) const NETWORK: &str = "pigeons";
pub(crate) const NAMESPACE: &str = "pigeonhub-mesh";
const SECRET: &[u8] = b"the secret of this mesh";
const KEYS_DIFFER: &str = "the mesh keys differ: both hubs need the same mesh.key_file";

pub(crate) fn id(digits: &str) -> String {
    digits.repeat(40 / digits.len())
}

pub(crate) fn key() -> MeshKey {
    MeshKey::new(SECRET).expect("long enough")
}

fn another_key() -> MeshKey {
    MeshKey::new(b"the secret of another mesh").expect("long enough")
}

fn key_file(folder: &Path) -> PathBuf {
    let file = folder.join("mesh.key");
    fs::write(&file, SECRET).expect("a key file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("for its owner alone");
    file
}

/// Two honest hubs, and a client at each.
pub(crate) struct Scene {
    _ground: Ground,
    pub(crate) first: Hub,
    pub(crate) second: Hub,
    innocent: Raw,
    friend: Raw,
    signals: u32,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::dialling(Ground::new(), &[], |_| ())
    }

    /// The second hub also has `bootstraps`; `meanwhile` answers its dials.
    fn dialling(ground: Ground, bootstraps: &[String], meanwhile: impl FnOnce(&(Hub, Hub))) -> Self {
        let file = key_file(ground.folder());
        let with_key = ["--key-file", file.to_str().expect("a plain path")];
        let first = Plan::first().with(&with_key).start(&ground);
        let url = first.url();
        let all = std::iter::once(&url).chain(bootstraps).map(String::as_str);
        let second = Plan::through(all).with(&with_key).start(&ground);
        let hubs = (first, second);
        meanwhile(&hubs);
        let (first, second) = hubs;
        first.wait_ready(1);
        second.wait_ready(1);
        let mut innocent = Raw::join(&first, &id("a1"), NETWORK);
        let friend = Raw::join(&second, &id("b2"), NETWORK);
        innocent.wait_type("peer-discovered");
        let mut scene = Self { _ground: ground, first, second, innocent, friend, signals: 0 };
        scene.innocents_go_on();
        scene
    }

    /// Signals between the innocent two arrive as ever, in both directions.
    pub(crate) fn innocents_go_on(&mut self) {
        self.signals += 1;
        let data = json!({"sdp": format!("v=0 {}", self.signals)});
        self.innocent.offer(&id("b2"), NETWORK, &data);
        assert_eq!(self.friend.wait_type("offer")["data"], data);
        self.friend.offer(&id("a1"), NETWORK, &data);
        assert_eq!(self.innocent.wait_type("offer")["data"], data);
        assert!(self.first.status().known_hubs >= 1 && self.second.status().known_hubs >= 1);
    }

    /// The first hub knows of the second one and of no other.
    fn nobody_joined(&self) {
        let known: Vec<Id> = self.first.hubs().iter().filter(|hub| !hub.own).map(|hub| hub.hub_id).collect();
        assert_eq!(known, [self.second.status().hub_id]);
    }
}

/// The hub closes with 1008 and this reason.
fn closed_for(raw: &mut Raw, reason: &str) {
    assert_eq!(raw.wait_closed(), Closed::With(1008, reason.to_owned()));
}

#[test]
fn a_hub_with_a_wrong_key_that_dials_is_turned_away() {
    let mut scene = Scene::new();
    let mut rogue = Rogue::new(&another_key()).try_to_join(&scene.first);
    closed_for(&mut rogue, KEYS_DIFFER);
    scene.first.wait_logged("hubRejected", KEYS_DIFFER);
    scene.nobody_joined();
    scene.innocents_go_on();
}

#[test]
fn a_hub_with_a_wrong_key_that_is_dialled_is_turned_away() {
    let ground = Ground::new();
    let lair = Lair::new(&ground);
    let rogue = Rogue::new(&another_key());
    let mut scene = Scene::dialling(ground, &[lair.url()], |(_, second)| {
        let mut dialled = lair.accept();
        let (greeting, nonce) = rogue.challenge(second.status().hub_id);
        dialled.say(&greeting);
        let hello = dialled.wait_type("mesh-hello");
        dialled.say(&rogue.welcome(&nonce, &hello));
        closed_for(&mut dialled, KEYS_DIFFER);
    });
    scene.second.wait_logged("hubRejected", KEYS_DIFFER);
    scene.nobody_joined();
    scene.innocents_go_on();
}

#[test]
fn a_hub_of_another_namespace_is_turned_away() {
    let told = "mesh namespace 'elsewhere'; this hub's is 'pigeonhub-mesh'";
    let ground = Ground::new();
    let lair = Lair::new(&ground);
    let rogue = Rogue::new(&key()).in_namespace("elsewhere");
    let mut scene = Scene::dialling(ground, &[lair.url()], |(_, second)| {
        let mut dialled = lair.accept();
        dialled.say(&rogue.challenge(second.status().hub_id).0);
        closed_for(&mut dialled, told);
    });
    closed_for(&mut rogue.try_to_join(&scene.first), told);
    scene.first.wait_logged("hubRejected", told);
    scene.second.wait_logged("hubRejected", told);
    // Naming the right one at last does not help: the proof is of another.
    let (mut raw, challenge) = greeted(&scene.first, rogue.id);
    let (mut hello, _) = rogue.hello(&challenge, rogue.identity.public_key());
    hello.namespace = NAMESPACE.to_owned();
    say_hello(&mut raw, &hello);
    closed_for(&mut raw, KEYS_DIFFER);
    scene.nobody_joined();
    scene.innocents_go_on();
}

/// The rogue has no key. It sits between two honest hubs and lets one of them
/// answer the other's challenge, then plays that answer on a connection of its own.
#[test]
fn a_handshake_cannot_be_replayed_on_another_connection() {
    let ground = Ground::new();
    let lair = Lair::new(&ground);
    let mut scene = Scene::dialling(ground, &[lair.url()], |(first, second)| {
        let victim = second.status().hub_id;
        let mut dialled = lair.accept();
        let (mut recorded_on, challenge) = greeted(first, victim);
        let data = json!({"peerId": victim.to_string(), "mesh": challenge});
        dialled.say(&json!({"type": "connected", "fromPeerId": "system", "timestamp": 1, "data": data}));
        let hello = dialled.wait_type("mesh-hello");

        let (mut replayed_on, _) = greeted(first, victim);
        replayed_on.say(&hello);
        closed_for(&mut replayed_on, KEYS_DIFFER);
        // Where it belongs it would have been good: the replay is what is wrong with it.
        recorded_on.say(&hello);
        recorded_on.wait_type("mesh-welcome");
        // But without the key nothing can be said there.
        recorded_on.send(Message::binary(vec![3; 64]));
        closed_for(&mut recorded_on, "message on a link with a wrong tag: forged");
    });
    scene.first.wait_logged("hubRejected", KEYS_DIFFER);
    scene.nobody_joined();
    scene.innocents_go_on();
}

#[test]
fn another_hubs_id_cannot_be_claimed() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let victim = scene.second.status().hub_id;
    // Its id, with the rogue's key.
    let (mut raw, challenge) = greeted(&scene.first, victim);
    let (hello, _) = rogue.hello(&challenge, rogue.identity.public_key());
    say_hello(&mut raw, &hello);
    closed_for(&mut raw, "the hub's key does not belong to the id it uses");
    // Its id and its public key, which it tells everyone.
    let (_, told) = greeted(&scene.second, rogue.id);
    let (mut raw, challenge) = greeted(&scene.first, victim);
    let (hello, _) = rogue.hello(&challenge, told.key);
    say_hello(&mut raw, &hello);
    closed_for(&mut raw, "the hub cannot prove its id");
    // As a client: an id of 40 digits like any other, which no hub is confused by.
    let mut client = Raw::join(&scene.first, &victim.to_string(), NETWORK);
    client.offer(&id("a1"), NETWORK, &json!("from a namesake"));
    let offer = scene.innocent.wait_type("offer");
    assert_eq!(
        (&offer["fromPeerId"], &offer["data"]),
        (&json!(victim.to_string()), &json!("from a namesake"))
    );
    scene.nobody_joined();
    scene.innocents_go_on();
}

#[test]
fn what_is_no_handshake_is_turned_away() {
    let manners = "this is not how hubs greet each other";
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    for text in [
        "",
        "hello",
        "{}",
        "{\"type\":\"ping\"}",
        "{\"type\":\"mesh-hello\"}",
        "{\"type\":\"mesh-hello\",\"data\":{\"key\":7}}",
    ] {
        let (mut raw, _) = greeted(&scene.first, rogue.id);
        raw.send(Message::text(text));
        closed_for(&mut raw, manners);
    }
    // A link's messages have no place before the proof.
    let (mut raw, _) = greeted(&scene.first, rogue.id);
    raw.send(Message::binary(vec![3; 64]));
    closed_for(&mut raw, manners);
    scene.nobody_joined();
    scene.innocents_go_on();
}

/// A link that was proven with the right key ends at the first message that breaks its rules.
fn ends_the_link(reason: &str, attack: impl FnOnce(&mut Link)) {
    let mut scene = Scene::new();
    let mut link = Rogue::new(&key()).join(&scene.first);
    scene.innocents_go_on();
    attack(&mut link);
    closed_for(&mut link.raw, reason);
    scene.first.wait_logged("refused", reason);
    scene.innocents_go_on();
}

fn heartbeat() -> Vec<u8> {
    encode(&LinkFrame::Heartbeat { digest: 0, sent_us: 1_000_000 })
}

#[test]
fn a_forged_message_ends_the_link() {
    ends_the_link("message on a link with a wrong tag: forged", |link| {
        let mut message = link.seal(&heartbeat()).remove(0);
        *message.last_mut().expect("a tag") ^= 1;
        link.raw.send(Message::binary(message));
    });
}

#[test]
fn a_replayed_message_ends_the_link() {
    ends_the_link("message on a link for the second time: replayed", |link| {
        let message = link.seal(&heartbeat()).remove(0);
        link.raw.send(Message::binary(message.clone()));
        link.settle();
        link.raw.send(Message::binary(message));
    });
}

#[test]
fn an_oversized_frame_ends_the_link() {
    ends_the_link(&format!("frame of more than {MAX_FRAME} bytes"), |link| {
        link.send_frame(&vec![0; MAX_FRAME + 1]);
    });
}

#[test]
fn a_message_too_short_for_a_tag_ends_the_link() {
    ends_the_link("malformed message on a link", |link| link.raw.send(Message::binary(vec![3, 0, 0])));
}

#[test]
fn an_oversized_message_ends_the_link() {
    let mut scene = Scene::new();
    let mut link = Rogue::new(&key()).join(&scene.first);
    link.raw.send(Message::binary(vec![0; 1024 * 1024 + 1]));
    assert!(matches!(link.raw.wait_closed(), Closed::With(1009, _)), "{:?}", link.raw.wait_closed());
    scene.innocents_go_on();
}

pub(crate) fn record(key: [u8; 32], links: &[Id]) -> Record {
    let mut links: Vec<LinkEntry> = links.iter().map(|hub| LinkEntry { hub: *hub, p2p: true }).collect();
    links.sort_unstable();
    Record {
        key,
        epoch: u64::MAX / 2,
        version: 1,
        urls: Vec::new(),
        links,
        networks: Vec::new(),
        more_networks: false,
        max_peers: 3,
        ready: true,
        draining: false,
    }
}

/// A member of the mesh may speak for itself, and for nobody else.
#[test]
fn a_forged_record_is_refused_and_goes_no_further() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let (first, second) = (scene.first.status().hub_id, scene.second.status().hub_id);
    let own = rogue.identity.public_key();
    let (_, challenge) = greeted(&scene.second, rogue.id);
    let invented = Rogue::new(&key());

    let signed = |record: &Record, namespace| SignedRecord::sign(record, namespace, &rogue.identity);
    // The second hub without its links; an invented hub; the rogue itself, of another mesh.
    let in_anothers_name = signed(&record(challenge.key, &[]), NAMESPACE);
    let of_nobody = signed(&record(invented.identity.public_key(), &[first]), NAMESPACE);
    let of_another_mesh = signed(&record(own, &[first]), "elsewhere");
    let good = signed(&record(own, &[first]), NAMESPACE);
    let unsigned = SignedBytes { body: good.body().into(), signature: [].as_slice().into() };
    let rubbish = SignedBytes { body: [7; 99].as_slice().into(), signature: [7; 64].as_slice().into() };

    for forged in [&in_anothers_name, &of_nobody, &of_another_mesh] {
        link.send(&LinkFrame::Records(vec![forged.as_signed_bytes()]));
    }
    scene.first.wait_logged("refused", "record with a wrong signature");
    link.send(&LinkFrame::Records(vec![unsigned, rubbish]));
    scene.first.wait_logged("refused", "malformed record");
    link.settle();
    scene.innocents_go_on();
    let known: Vec<Id> = scene.first.hubs().iter().filter(|hub| !hub.own).map(|hub| hub.hub_id).collect();
    assert!(known.contains(&second) && !known.contains(&invented.id), "{known:?}");

    // What it may say is believed, and passed on: the way that the forged ones did not go.
    link.send(&LinkFrame::Records(vec![good.as_signed_bytes()]));
    until_ok("the second hub knows the rogue", || {
        link.settle();
        let known: Vec<Id> = scene.second.hubs().iter().map(|hub| hub.hub_id).collect();
        assert!(!known.contains(&invented.id), "{known:?}");
        if known.contains(&rogue.id) { Ok(()) } else { Err(format!("{known:?}")) }
    });
    scene.innocents_go_on();
}

#[test]
fn garbage_on_a_link_is_dropped_and_the_link_stays() {
    let mut scene = Scene::new();
    let rogue = Rogue::new(&key());
    let mut link = rogue.join(&scene.first);
    let (first, second) = (scene.first.status().hub_id, scene.second.status().hub_id);
    for length in 0..200usize {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + length * 31 + 5) as u8).collect();
        link.send_frame(&[&[0xfa], &bytes[..]].concat());
        // In an envelope: to the hub itself, through it to the other, from nowhere, to nowhere.
        for (src, dst) in
            [(rogue.id, first), (rogue.id, second), (Id([9; 20]), first), (rogue.id, Id([9; 20]))]
        {
            link.send(&LinkFrame::Routed(Routed { src, dst, hops: 250, body: bytes.as_slice().into() }));
        }
        if length % 20 == 0 {
            link.settle();
            scene.innocents_go_on();
        }
    }
    scene.first.wait_logged("refused", "unreadable mesh frame");
    link.settle();
    scene.innocents_go_on();
}
