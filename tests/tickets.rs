//! Tickets, as an operator's program signs them and as clients show them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use pigeonhubd::tickets::{self, Claims};
use serde_json::json;

use crate::harness::{Clients, Closed, Ground, Hub, Need, Plan, Raw, all_hear_all, skipped, until};

const NETWORK: &str = "game-1";

/// A key, and two hubs in one mesh that know it.
struct Scene {
    ground: Ground,
    keys: PathBuf,
    first: Hub,
    second: Hub,
}

impl Scene {
    fn new() -> Self {
        let ground = Ground::new();
        let keys = ground.folder().join("ticket-keys");
        fs::write(&keys, "HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").expect("a file");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("a mode");
        let toml = format!("auth.ticket_keys = \"{}\"\n", keys.display());
        let first = Plan::first().config(&toml).start(&ground);
        let second = Plan::through([first.url().as_str()]).config(&toml).start(&ground);
        first.wait_ready(1);
        second.wait_ready(1);
        Self { ground, keys, first, second }
    }

    fn ticket(&self, claims: Claims) -> String {
        let exp = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() + 600;
        tickets::sign(&Claims { exp, ..claims }, &self.keys).expect("a ticket")
    }

    /// A client of a hub that is announced in the network.
    fn join(&self, hub: &Hub, peer: &str, claims: Claims) -> Raw {
        let mut raw = Raw::open(hub, &format!("/?peerId={peer}&token={}", self.ticket(claims)));
        raw.say(&json!({"type": "announce", "networkName": NETWORK, "data": {"peerId": peer}}));
        raw
    }
}

fn id(digits: &str) -> String {
    digits.repeat(20)
}

fn for_peer(peer: &str) -> Claims {
    Claims { peer_id: Some(peer.to_owned()), ..Claims::default() }
}

#[test]
fn published_clients_show_a_ticket_in_the_url_of_their_hub() {
    if skipped(&[Need::Node]) {
        return;
    }
    let scene = Scene::new();
    let node = Clients::node(&scene.ground);
    let networks = Some(vec![String::from("game-*")]);
    let ticket = scene.ticket(Claims { networks, ..Claims::default() });
    let clients: Vec<_> = [&scene.first, &scene.second]
        .iter()
        .enumerate()
        .map(|(n, hub)| node.join(&format!("c{n}"), &format!("{}/?token={ticket}", hub.url()), NETWORK))
        .collect();
    all_hear_all(&clients.iter().collect::<Vec<_>>());
}

/// Its owner answers every ping, and has the id all the same no longer.
#[test]
fn the_holder_of_a_ticket_for_an_id_has_it_at_once_at_every_hub() {
    let scene = Scene::new();
    let mut other = scene.join(&scene.first, &id("b2"), Claims::default());
    let mut squatter = scene.join(&scene.first, &id("a1"), Claims::default());
    other.wait(|message| message["data"]["peerId"] == id("a1"));
    for (hub, data) in [(&scene.second, "elsewhere"), (&scene.first, "here")] {
        let mut holder = scene.join(hub, &id("a1"), for_peer(&id("a1")));
        let closed = until("the one before is put out", || {
            squatter.settle();
            squatter.closed_by_now()
        });
        let reason = String::from("Replaced by a newer connection of this peer");
        assert_eq!(closed, Closed::With(1008, reason));
        other.settle();
        other.offer(&id("a1"), NETWORK, &json!(data));
        assert_eq!(holder.wait_type("offer")["data"], data);
        // Without such a ticket nobody gets in while it is there, though it answers nothing.
        for hub in [&scene.first, &scene.second] {
            let mut thief = scene.join(hub, &id("a1"), Claims::default());
            assert_eq!(thief.wait_closed(), Closed::With(1008, String::from("Peer already connected")));
        }
        squatter = holder;
    }
}

#[test]
fn a_ticket_opens_its_networks_alone() {
    let scene = Scene::new();
    let networks = Some(vec![String::from("chess")]);
    let mut client = scene.join(&scene.first, &id("a1"), Claims { networks, ..Claims::default() });
    let error = client.wait_type("error");
    assert_eq!((&error["code"], &error["networkName"]), (&json!("not-allowed"), &json!(NETWORK)));
}
