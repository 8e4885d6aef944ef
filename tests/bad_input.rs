//! What a stranger may send: each gets a clear answer or close code, and a
//! well-behaved pair of clients on the same hub notices nothing.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::harness::{Closed, Ground, Hub, Plan, Raw, until};

const NETWORK: &str = "pigeons";
/// `listen.max_message_size`'s default.
const MIB: usize = 1024 * 1024;

/// The peer id that is `digits` over and over.
fn id(digits: &str) -> String {
    digits.repeat(40 / digits.len())
}

/// A hub with two peers that mean well.
struct Scene {
    ground: Ground,
    hub: Hub,
    innocent: Raw,
    friend: Raw,
    signals: u32,
}

impl Scene {
    fn new() -> Self {
        let ground = Ground::new();
        let hub = Plan::first().start(&ground);
        let innocent = Raw::join(&hub, &id("a1"), NETWORK);
        let friend = Raw::join(&hub, &id("b2"), NETWORK);
        let mut scene = Self { ground, hub, innocent, friend, signals: 0 };
        scene.innocents_go_on();
        scene
    }

    fn stranger(&self) -> Raw {
        Raw::join(&self.hub, &id("c3"), NETWORK)
    }

    /// A signal between the innocent two arrives as ever, and neither was closed.
    fn innocents_go_on(&mut self) {
        self.signals += 1;
        let data = json!({"type": "offer", "sdp": format!("v=0 {}", self.signals)});
        self.innocent.offer(&id("b2"), NETWORK, &data);
        let offer = self.friend.wait_type("offer");
        assert_eq!((&offer["data"], &offer["fromPeerId"]), (&data, &json!(id("a1"))));
    }
}

/// The hub's one answer to `text` is an `error` whose text holds `fault`, and the connection stays.
fn answered_with_an_error(stranger: &mut Raw, text: &str, fault: &str) {
    stranger.settle();
    stranger.send(Message::text(text));
    let answers = stranger.settle();
    let [error] = &answers[..] else { panic!("one answer to {text:.100}, not {answers:?}") };
    assert_eq!(error["type"], "error", "to {text:.100}");
    assert!(error["timestamp"].is_u64(), "{error}");
    let told = error["error"].as_str().unwrap_or_default();
    assert!(
        told.to_lowercase().contains(&fault.to_lowercase()),
        "to {text:.100} the hub says {told:?}, not '{fault}'"
    );
}

#[test]
fn text_that_is_no_message_is_answered_with_what_is_wrong() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    for (text, fault) in [
        ("", "JSON"),
        ("hello", "JSON"),
        ("{\"type\":\"offer\"", "JSON"),
        ("{\"type\":\"ping\"} trailing", "JSON"),
        ("null", "object"),
        ("[]", "object"),
        ("17", "object"),
        ("{}", "type"),
        ("{\"data\":{}}", "type"),
        ("{\"type\":null}", "type"),
        ("{\"type\":7}", "type"),
        ("{\"type\":[\"offer\"]}", "type"),
        ("{\"type\":\"\"}", "does not route"),
        ("{\"type\":\"teleport\"}", "teleport"),
        ("{\"type\":\"connected\"}", "connected"),
        ("{\"type\":\"pong\"}", "pong"),
        ("{\"type\":\"announce\",\"networkName\":[5]}", "networkName"),
        ("{\"type\":\"announce\",\"networkName\":\"\\u00005\"}", "networkName"),
        ("{\"type\":\"offer\",\"data\":{},\"targetPeerId\":5}", "targetPeerId"),
        ("{\"type\":\"offer\",\"data\":{}}", "targetPeerId"),
        ("{\"type\":\"offer\",\"data\":{},\"targetPeerId\":\"nobody\"}", "targetPeerId"),
    ] {
        answered_with_an_error(&mut stranger, text, fault);
    }
    scene.innocents_go_on();
}

/// The names that JavaScript objects are born with are names like any other.
#[test]
fn odd_network_names_and_types_are_only_text() {
    let mut scene = Scene::new();
    for (digits, network) in
        ["__proto__", "constructor", " ", "a\u{0}b", "\u{1F54A}", "../../etc"].iter().enumerate()
    {
        let (a, b) = (id(&format!("d{digits}")), id(&format!("e{digits}")));
        let mut first = Raw::join(&scene.hub, &a, network);
        let _second = Raw::join(&scene.hub, &b, network);
        let seen = first.wait_type("peer-discovered");
        assert_eq!(seen["data"]["peerId"], b, "in {network:?}");
    }
    let mut stranger = scene.stranger();
    answered_with_an_error(&mut stranger, "{\"type\":\"__proto__\"}", "does not route");
    scene.innocents_go_on();
}

#[test]
fn a_message_just_below_the_limit_is_carried() {
    let scene = Scene::new();
    let mut stranger = scene.stranger();
    let mut other = Raw::join(&scene.hub, &id("d4"), NETWORK);
    let data = json!({"sdp": "x".repeat(MIB - 4096)});
    stranger.offer(&id("d4"), NETWORK, &data);
    assert_eq!(other.wait_type("offer")["data"], data);
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    let mut scene = Scene::new();
    for size in [MIB + 1, 8 * MIB] {
        let mut stranger = scene.stranger();
        stranger.send(Message::text("x".repeat(size)));
        assert!(
            matches!(stranger.wait_closed(), Closed::With(1009, _)),
            "{size} bytes: {:?}",
            stranger.wait_closed()
        );
        scene.innocents_go_on();
    }
}

#[test]
fn invalid_utf8_closes_with_1007() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    stranger.send_text_bytes(b"{\"type\":\"offer\",\"data\":\"\xff\xfe\"}");
    assert!(matches!(stranger.wait_closed(), Closed::With(1007, _)), "{:?}", stranger.wait_closed());
    scene.innocents_go_on();
}

/// A client's binary message is read as text; a hub would have asked for the mesh when it connected.
#[test]
fn a_binary_message_that_is_no_json_is_answered_with_an_error() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    for bytes in [vec![], vec![0], vec![0xff; 4096], b"{\"type\":\"ping\",\"x\":\"\xff\"}".to_vec()] {
        stranger.settle();
        stranger.send(Message::binary(bytes));
        let answers = stranger.settle();
        let [error] = &answers[..] else { panic!("one answer, not {answers:?}") };
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("bad-message")), "{error}");
    }
    scene.innocents_go_on();
}

#[test]
fn deep_nesting_costs_nobody_anything() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deepest = deep(100_000);
    answered_with_an_error(&mut stranger, &deepest, "");
    answered_with_an_error(&mut stranger, &format!("{{\"type\":{deepest}}}"), "");
    for opened in ["[", "{\"a\":"] {
        answered_with_an_error(&mut stranger, &opened.repeat(100_000), "");
    }
    // Data is the clients' own affair: it is passed on as it is.
    let to = id("b2");
    stranger.send(Message::text(format!(
        "{{\"type\":\"offer\",\"networkName\":\"{NETWORK}\",\"targetPeerId\":\"{to}\",\"data\":{deepest}}}"
    )));
    scene.friend.wait(|it| it.as_str().is_some_and(|text| text.contains(&format!("\"data\":{deepest},"))));
    // So is what a peer says of itself.
    let deep = deep(5_000);
    stranger.send(Message::text(format!(
        "{{\"type\":\"announce\",\"networkName\":\"{NETWORK}\",\"data\":{{\"deep\":{deep}}}}}"
    )));
    scene.friend.wait(|it| it.as_str().is_some_and(|text| text.contains(&format!("\"deep\":{deep}}}"))));
    scene.innocents_go_on();
}

#[test]
fn a_peer_id_that_is_not_forty_hex_digits_closes_with_1008() {
    let mut scene = Scene::new();
    let long = id("a1") + "a";
    let odd = id("g1");
    for query in [
        "/",
        "/?peerId=",
        "/?peerId=abc",
        "/?peer=1",
        &format!("/?peerId={long}"),
        &format!("/?peerId={odd}"),
    ] {
        let mut stranger = Raw::open(&scene.hub, query);
        assert_eq!(stranger.wait_closed(), Closed::With(1008, "Invalid peerId format".into()), "{query}");
    }
    scene.innocents_go_on();
}

/// Any path is accepted, as hubs in other languages have clients on `/ws`; a peer id keeps its spelling.
#[test]
fn any_path_and_either_letter_case_are_accepted() {
    let scene = Scene::new();
    let mixed = id("aB");
    let mut client = Raw::open(&scene.hub, &format!("/ws?x=1&peerId={mixed}&y"));
    assert_eq!(client.wait_type("connected")["data"]["peerId"], mixed);
}

/// An id that is in use, in another spelling: the same peer, and it answers, so it stays.
#[test]
fn anothers_peer_id_is_not_taken_over_while_that_one_answers() {
    let mut scene = Scene::new();
    let mut thief = Raw::open(&scene.hub, &format!("/?peerId={}", id("A1")));
    // The older connection has to read the probe to answer it.
    let closed = loop {
        scene.innocents_go_on();
        scene.innocent.settle();
        if let Some(closed) = thief.closed_by_now() {
            break closed;
        }
    };
    assert!(matches!(closed, Closed::With(1008, _)), "{closed:?}");
    scene.innocents_go_on();
}

/// A socket from which 250 kB are read a second; and how many were.
#[derive(Debug)]
struct Slow(TcpStream, Arc<AtomicUsize>);

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        const PIECE: usize = 5_000;
        let most = into.len().min(PIECE);
        let count = self.0.read(into.get_mut(..most).unwrap_or_default())?;
        self.1.fetch_add(count, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20) * count as u32 / PIECE as u32);
        Ok(count)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The ping is behind 900 kB, of which it reads for four seconds, and answers every ping that it reads.
#[test]
fn anothers_peer_id_is_not_taken_over_while_that_one_reads_what_it_was_sent() {
    let mut scene = Scene::new();
    let stream = TcpStream::connect((scene.hub.address, scene.hub.port)).expect("the hub listens");
    let url = format!("{}/?peerId={}", scene.hub.url(), id("e5"));
    let read = Arc::new(AtomicUsize::new(0));
    let (mut victim, _) =
        tungstenite::client(url, Slow(stream, Arc::clone(&read))).expect("the hub accepts it");
    let announce = json!({"type": "announce", "networkName": NETWORK, "data": {"peerId": id("e5")}});
    victim.send(Message::text(announce.to_string())).expect("it is open");
    let (told, heard) = mpsc::channel();
    let reader = thread::spawn(move || {
        loop {
            match victim.read() {
                Ok(message) if message.len() > 900_000 => told.send(()).expect("somebody listens"),
                Ok(Message::Close(close)) => return format!("{close:?}"),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    });
    scene.friend.wait(|message| message["data"]["peerId"] == id("e5"));
    for round in 0..2 {
        let before = read.load(Ordering::Relaxed);
        scene.innocent.offer(&id("e5"), NETWORK, &json!("x".repeat(900_000)));
        until("it reads the signal", || (read.load(Ordering::Relaxed) > before + 20_000).then_some(()));
        let mut thief = Raw::open(&scene.hub, &format!("/?peerId={}", id("e5")));
        let reason = String::from("Peer already connected");
        assert_eq!(thief.wait_closed(), Closed::With(1008, reason), "round {round}");
        heard.recv().expect("all of it is read by its owner");
        assert!(!reader.is_finished());
    }
    scene.innocents_go_on();
}

#[test]
fn anothers_peer_id_is_not_taken_over_at_another_hub_either() {
    let mut scene = Scene::new();
    let second = Plan::through([scene.hub.url().as_str()]).start(&scene.ground);
    scene.hub.wait_ready(1);
    second.wait_ready(1);
    let announce = json!({"type": "announce", "networkName": NETWORK, "data": {"peerId": id("a1")}});
    for round in 0..5 {
        let mut thief = Raw::connect(&second, &id("a1"));
        thief.say(&announce);
        let closed = loop {
            scene.innocents_go_on();
            // All that is for that id goes to its owner, which reads the probe and answers it.
            scene.friend.offer(&id("a1"), NETWORK, &json!(round));
            assert_eq!(scene.innocent.wait_type("offer")["data"], round);
            if let Some(closed) = thief.closed_by_now() {
                break closed;
            }
        };
        assert_eq!(closed, Closed::With(1008, String::from("Peer already connected")));
    }
}

#[test]
fn speaking_as_another_does_not_work() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    stranger.say(&json!({"type": "offer", "networkName": NETWORK, "targetPeerId": id("b2"),
        "fromPeerId": id("a1"), "data": {"sdp": "forged"}}));
    let offer = scene.friend.wait_type("offer");
    assert_eq!((&offer["fromPeerId"], &offer["data"]), (&json!(id("c3")), &json!({"sdp": "forged"})));
    // Nor does announcing another, nor leaving for it.
    stranger.say(&json!({"type": "announce", "networkName": NETWORK, "data": {"peerId": id("a1")}}));
    stranger.say(&json!({"type": "goodbye", "networkName": NETWORK, "fromPeerId": id("a1"), "data": {"peerId": id("a1")}}));
    stranger.settle();
    let told = scene.friend.settle();
    assert!(!told.iter().any(|it| it["type"] == "goodbye" && it["fromPeerId"] == id("a1")), "{told:?}");
    scene.innocents_go_on();
}

#[test]
fn a_signal_to_oneself_to_nobody_or_to_another_network_is_answered() {
    let mut scene = Scene::new();
    let mut stranger = scene.stranger();
    let mut elsewhere = Raw::join(&scene.hub, &id("d4"), "elsewhere");
    for target in [id("c3"), id("99"), id("d4")] {
        stranger.settle();
        stranger.offer(&target, NETWORK, &json!({"sdp": "v=0"}));
        let error = stranger.wait_type("error");
        assert!(error["error"].is_string() && error["targetPeerId"] == target, "{error}");
    }
    let told = elsewhere.settle();
    assert_eq!(told, Vec::<Value>::new(), "no message crosses networks");
    scene.innocents_go_on();
}

/// Bytes that are no HTTP, and a WebSocket that breaks its own protocol.
#[test]
fn broken_http_and_broken_frames_end_their_own_connection_only() {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    let mut scene = Scene::new();
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.hub.port)).expect("the hub listens");
        stream.write_all(bytes).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut answer = Vec::new();
        // Reset or answered: either way it is over.
        let _ = stream.read_to_end(&mut answer);
        scene.innocents_go_on();
    }
    let mut stranger = scene.stranger();
    // A reserved opcode, unmasked.
    stranger.send_raw(&[0x83, 0x01, 0x41]);
    assert!(
        matches!(stranger.wait_closed(), Closed::With(1002, _) | Closed::Broken(_)),
        "{:?}",
        stranger.wait_closed()
    );
    scene.innocents_go_on();
}
