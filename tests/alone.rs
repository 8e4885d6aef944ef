//! A hub without a mesh is a plain signaling server.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{Ground, Hub, Plan, Raw};

const NETWORK: &str = "pigeons";

/// The JSON that the hub's HTTP answers to `path`.
fn get(hub: &Hub, path: &str) -> Value {
    let mut stream = TcpStream::connect(("127.0.0.1", hub.port)).expect("the hub listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer}: {error}"))
}

#[test]
fn with_no_hub_clients_meet_and_hubs_do_not() {
    let ground = Ground::new();
    let plain = Plan::default().with(&["--no-hub"]).start(&ground);
    let hub = Plan::through([plain.url().as_str()]).start(&ground);
    // The hub gets no challenge, so it takes the server for an old hub that is not listed.
    hub.wait_logged("hubRejected", "it does not prove a mesh key");
    hub.wait_ready(0);

    let (a, b, c) = ("a1".repeat(20), "b2".repeat(20), "c3".repeat(20));
    let mut one = Raw::join(&plain, &a, NETWORK);
    let mut two = Raw::join(&plain, &b, NETWORK);
    let mut elsewhere = Raw::join(&hub, &c, NETWORK);
    assert_eq!(one.wait_type("peer-discovered")["data"]["peerId"], b);
    one.offer(&b, NETWORK, &json!({"sdp": "v=0"}));
    assert_eq!(two.wait_type("offer")["data"], json!({"sdp": "v=0"}));
    one.offer(&c, NETWORK, &json!({"sdp": "v=0"}));
    assert_eq!(one.wait_type("error")["code"], "peer-unreachable");
    assert_eq!(elsewhere.settle(), Vec::<Value>::new());

    let health = get(&plain, "/health");
    assert_eq!((&health["status"], &health["isHub"]), (&json!("healthy"), &json!(false)));
    assert_eq!(health["peers"], 2);
    assert_eq!(get(&plain, "/hubs")["totalHubs"], 0);
    assert_eq!((plain.status().known_hubs, plain.status().ws_links), (0, 0));
}
