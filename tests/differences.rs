//! Where the hub differs from the JavaScript hub on purpose: one test for each,
//! named after it. Three of them are shown elsewhere too: the XOR distance and
//! the mesh's topology in the tests and the simulator of `pigeonhub-proto`,
//! migration in `real_clients`.
//!
//! What a client sees differently says what good it did to a published client
//! (peerpigeon 1.1.3 in Node, three in a room unless it says otherwise), or that
//! nobody has measured it on one. The rest is between hubs, and no client sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Closed, Ground, Hub, Plan, Raw, tcp_between, until_ok};

const NETWORK: &str = "pigeons";

fn id(digits: &str) -> String {
    digits.repeat(40 / digits.len())
}

fn of_type<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == kind).collect()
}

/// Two hubs that are linked and ready.
fn two_hubs(ground: &Ground) -> (Hub, Hub) {
    let first = Plan::first().start(ground);
    let second = Plan::through([first.url().as_str()]).start(ground);
    first.wait_ready(1);
    second.wait_ready(1);
    (first, second)
}

/// Measured: a stranger said goodbye in the name of each to the next. With the JavaScript hub
/// five of nine data channels were hung up, in three rooms; with this one none.
#[test]
fn from_peer_id_is_the_connections_id_and_not_what_the_client_says() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut here = Raw::join(&first, &id("a1"), NETWORK);
    let mut there = Raw::join(&second, &id("b2"), NETWORK);
    here.wait_type("peer-discovered");
    here.say(&json!({"type": "offer", "networkName": NETWORK, "targetPeerId": id("b2"), "fromPeerId": id("c3"), "data": 1}));
    assert_eq!(there.wait_type("offer")["fromPeerId"], id("a1"));
}

/// Measured: a stranger that called itself a hub named 20 ghosts. With the JavaScript hub each
/// client discovered all 20, and dialled; with this one none.
#[test]
fn announcing_is_hub_makes_nobody_a_hub() {
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let mut victim = Raw::join(&hub, &id("a1"), NETWORK);
    let mut pretender = Raw::connect(&hub, &id("b2"));
    pretender.say(&json!({"type": "announce", "networkName": "pigeonhub-mesh",
        "data": {"isHub": true, "port": 3001, "host": "127.0.0.1", "capabilities": ["signaling", "relay"]}}));
    // A ghost, and a signal in the name of the ghost.
    pretender.say(&json!({"type": "peer-discovered", "networkName": NETWORK, "fromPeerId": "system",
        "data": {"peerId": id("dd"), "isHub": false}}));
    pretender.say(&json!({"type": "offer", "networkName": NETWORK, "targetPeerId": id("a1"), "fromPeerId": id("dd"), "data": 1}));
    let told = pretender.settle();
    assert!(of_type(&told, "peer-discovered").is_empty(), "it learns no network's peers: {told:?}");
    assert_eq!(victim.settle(), Vec::<Value>::new(), "the victim sees neither ghost nor signal");
    let status = hub.status();
    assert_eq!((status.known_hubs, status.remote_peers), (0, 0));
}

#[test]
fn a_hub_with_another_key_is_turned_away() {
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let mut victim = Raw::join(&hub, &id("a1"), NETWORK);
    let stranger =
        Plan::through([hub.url().as_str()]).home(&ground.folder().join("elsewhere")).start(&ground);
    until_ok("both say that they do not belong together", || {
        let events = (hub.events(), stranger.events());
        let rejected = |events: &[&str]| events.contains(&"hubRejected");
        if rejected(&events.0) && rejected(&events.1) { Ok(()) } else { Err(format!("{events:?}")) }
    });
    let mut ghost = Raw::join(&stranger, &id("b2"), NETWORK);
    assert_eq!((ghost.settle(), victim.settle()), (Vec::new(), Vec::new()), "no peer crosses");
    assert_eq!((hub.status().known_hubs, stranger.status().known_hubs), (0, 0));
}

/// Measured as the scene `websocket-silent` of `tests/clients/compare`: no pair is parted, with either hub.
#[test]
fn a_reconnecting_client_takes_over_from_its_lingering_socket() {
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let mut other = Raw::join(&hub, &id("b2"), NETWORK);
    // Nobody reads it from here on, so it answers no probe: half-open, as far as the hub can tell.
    let mut lingering = Raw::join(&hub, &id("a1"), NETWORK);
    let mut back = Raw::join(&hub, &id("a1"), NETWORK);
    other.offer(&id("a1"), NETWORK, &json!("after the reconnect"));
    assert_eq!(back.wait_type("offer")["data"], "after the reconnect");
    assert!(matches!(lingering.wait_closed(), Closed::With(1008, _)), "{:?}", lingering.wait_closed());
}

/// Measured as the scenes `client-moving` and `client-back-elsewhere` of `tests/clients/compare`.
#[test]
fn a_client_that_reconnects_to_another_hub_is_there_and_only_there() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut other = Raw::join(&first, &id("b2"), NETWORK);
    let mut lingering = Raw::join(&first, &id("a1"), NETWORK);
    other.wait_type("peer-discovered");
    // Nobody reads the older connection meanwhile, so it answers no probe.
    let mut back = Raw::join(&second, &id("a1"), NETWORK);
    back.wait_type("peer-discovered");
    other.offer(&id("a1"), NETWORK, &json!("after the move"));
    assert_eq!(back.wait_type("offer")["data"], "after the move");
    assert!(matches!(lingering.wait_closed(), Closed::With(1008, _)), "{:?}", lingering.wait_closed());
}

/// Measured as the scene `websocket-silent` of `tests/clients/compare`: no pair is parted, with either hub.
#[test]
fn a_silent_peer_is_pinged_and_dropped_after_peer_timeout() {
    let ground = Ground::new();
    let quick = Plan::first().config("[listen]\npeer_timeout = \"2s\"\ncleanup_interval = \"200ms\"\n");
    let hub = quick.start(&ground);
    // One answers pings as every WebSocket does when it is read; the other is never read again.
    let mut lively = Raw::join(&hub, &id("a1"), NETWORK);
    let mut silent = Raw::join(&hub, &id("b2"), NETWORK);
    let gone = lively.wait_type("peer-disconnected");
    assert_eq!(gone["data"]["peerId"], id("b2"));
    silent.wait_closed();
    let told = lively.settle();
    assert!(of_type(&told, "goodbye").is_empty(), "its data channels may be well: {told:?}");
    assert_eq!(hub.status().local_peers, 1);
}

/// Measured as the scenes `client-leaving` and `tab-closed` of `tests/clients/compare`.
#[test]
fn who_leaves_is_told_to_that_network_only_and_a_goodbye_to_all_that_know_the_peer() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut here = Raw::join(&first, &id("a1"), NETWORK);
    let mut there = Raw::join(&second, &id("b2"), NETWORK);
    let mut elsewhere = Raw::join(&first, &id("c3"), "elsewhere");
    for says_goodbye in [true, false] {
        let mut leaver = Raw::join(&first, &id("d4"), NETWORK);
        for peer in [&mut here, &mut there] {
            peer.wait(|it| it["type"] == "peer-discovered" && it["data"]["peerId"] == id("d4"));
        }
        if says_goodbye {
            // As the published client does when its page is left: it names no network then.
            leaver
                .say(&json!({"type": "goodbye", "data": {"peerId": id("d4"), "reason": "peer_disconnect"}}));
        }
        drop(leaver);
        for peer in [&mut here, &mut there] {
            if says_goodbye {
                let goodbye = peer.wait_type("goodbye");
                assert_eq!(
                    (&goodbye["fromPeerId"], &goodbye["networkName"]),
                    (&json!(id("d4")), &json!(NETWORK))
                );
            }
            let gone = peer.wait_type("peer-disconnected");
            assert_eq!((&gone["data"]["peerId"], &gone["networkName"]), (&json!(id("d4")), &json!(NETWORK)));
            let more = peer.settle();
            assert!(of_type(&more, "goodbye").is_empty(), "a broken connection is no goodbye: {more:?}");
        }
    }
    assert_eq!(elsewhere.settle(), Vec::<Value>::new());
}

/// Published clients close their data channel to a peer of which they hear a goodbye. Measured as the
/// scenes `hub-drained` and `hub-away-for-good` of `tests/clients/compare`: with goodbyes 6 of 6 pairs
/// were parted, 4 of them for good; without, none.
#[test]
fn no_goodbye_is_said_for_the_clients_of_a_hub_that_stops_or_dies() {
    let ground = Ground::new();
    for orderly in [true, false] {
        let (first, mut second) = two_hubs(&ground);
        let mut here = Raw::join(&first, &id("a1"), NETWORK);
        let mut there = [id("b2"), id("c3")].map(|peer| Raw::join(&second, &peer, NETWORK));
        for _ in &there {
            here.wait_type("peer-discovered");
        }
        if orderly {
            assert!(second.stop().success());
        } else {
            second.kill();
        }
        let mut heard: Vec<Value> = (0..2).map(|_| here.wait_type("peer-disconnected")).collect();
        for peer in &mut there {
            peer.wait_closed();
            heard.extend(peer.take().0);
        }
        heard.extend(here.settle());
        assert!(of_type(&heard, "goodbye").is_empty(), "orderly {orderly}: {heard:?}");
    }
}

/// Not measured on published clients: no machine of ours bears a hundred of them.
#[test]
fn a_newcomer_in_a_crowd_is_introduced_to_a_limited_number() {
    /// The default of `max_candidates`.
    const CANDIDATES: usize = 64;
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let _crowd: Vec<Raw> =
        (0..100u8).map(|i| Raw::join(&hub, &id(&format!("{:02x}", i ^ 0x5a)), NETWORK)).collect();
    let mut newcomer = Raw::join(&hub, &id("f7"), NETWORK);
    let told = newcomer.settle();
    let mut introduced: Vec<_> =
        of_type(&told, "peer-discovered").iter().map(|it| it["data"]["peerId"].to_string()).collect();
    introduced.sort();
    introduced.dedup();
    assert_eq!(introduced.len(), CANDIDATES, "of 100 peers");
}

/// Not measured on published clients, as above.
#[test]
fn in_a_crowd_at_two_hubs_introductions_are_mutual() {
    const CANDIDATES: usize = 4;
    let ground = Ground::new();
    let config = format!("[listen]\nmax_candidates = {CANDIDATES}\n");
    let first = Plan::first().config(&config).start(&ground);
    let second = Plan::through([first.url().as_str()]).config(&config).start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let hubs = [&first, &second].into_iter().cycle();
    let mut crowd: BTreeMap<String, (Raw, BTreeSet<String>)> = (0..24u8)
        .map(|number| id(&format!("{:02x}", number.wrapping_mul(151))))
        .zip(hubs)
        .map(|(peer, hub)| (peer.clone(), (Raw::join(hub, &peer, NETWORK), BTreeSet::new())))
        .collect();
    until_ok("whoever is told of a peer, that peer is told of too", || {
        for (raw, told) in crowd.values_mut() {
            let heard = raw.take().0;
            let peers = of_type(&heard, "peer-discovered").into_iter().map(|it| &it["data"]["peerId"]);
            told.extend(peers.filter_map(Value::as_str).map(str::to_owned));
        }
        let one_sided = crowd.iter().find_map(|(peer, (_, told))| {
            // Who has met as many as a peer may is told of no more.
            let untold = |other: &&String| {
                crowd.get(*other).is_some_and(|(_, back)| !back.contains(peer) && back.len() < 2 * CANDIDATES)
            };
            told.iter().find(untold).map(|other| format!("{peer} is told of {other} alone"))
        });
        let alone = crowd.iter().find(|(_, (_, told))| told.is_empty()).map(|(peer, _)| peer.clone());
        one_sided.or(alone).map_or(Ok(()), Err)
    });
}

/// Not measured on published clients: they repeat no signal.
#[test]
fn a_repeated_signal_is_delivered_each_time_and_in_order() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut here = Raw::join(&first, &id("a1"), NETWORK);
    let mut there = Raw::join(&second, &id("b2"), NETWORK);
    here.wait_type("peer-discovered");
    let sent = [1, 1, 2, 1, 2, 2, 3].map(|n| json!({"sdp": n}));
    for data in &sent {
        here.offer(&id("b2"), NETWORK, data);
    }
    let heard = sent.clone().map(|_| there.wait_type("offer")["data"].clone());
    assert_eq!(heard, sent);
    assert!(of_type(&there.settle(), "offer").is_empty(), "and nothing twice");
}

/// Not measured: published clients in a call send these over their data channels while they have them.
#[test]
fn types_that_the_old_hub_loses_are_forwarded() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut here = Raw::join(&first, &id("a1"), NETWORK);
    let mut there = Raw::join(&second, &id("b2"), NETWORK);
    here.wait_type("peer-discovered");
    for kind in ["renegotiation-offer", "renegotiation-answer", "ice-restart-offer", "ice-restart-answer"] {
        here.say(
            &json!({"type": kind, "networkName": NETWORK, "targetPeerId": id("b2"), "data": {"of": kind}}),
        );
        assert_eq!(there.wait_type(kind)["data"], json!({"of": kind}));
    }
}

/// The client with the smaller id of two would close the connection in which it is just answering:
/// see `real_clients`. The JavaScript hub forwards none either, but answers `error`.
#[test]
fn a_rejection_is_taken_and_goes_nowhere() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    let mut here = Raw::join(&first, &id("a1"), NETWORK);
    let mut beside = Raw::join(&first, &id("c3"), NETWORK);
    let mut there = Raw::join(&second, &id("b2"), NETWORK);
    for _ in 0..2 {
        here.wait_type("peer-discovered");
    }
    for reason in ["initiator_role_conflict", "max_peers_reached"] {
        for target in ["b2", "c3"] {
            here.say(&json!({"type": "connection-rejected", "networkName": NETWORK,
                "targetPeerId": id(target), "data": {"reason": reason}}));
            here.offer(&id(target), NETWORK, &json!(reason));
        }
        for peer in [&mut beside, &mut there] {
            assert_eq!(peer.wait_type("offer")["data"], reason);
        }
    }
    let told = [here.settle(), beside.settle(), there.settle()].concat();
    assert!(of_type(&told, "connection-rejected").is_empty(), "{told:?}");
    assert!(of_type(&told, "error").is_empty(), "nor does its sender hear of it: {told:?}");
}

#[test]
fn eight_hubs_form_one_mesh_with_at_most_three_links_each() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let joining = Plan::through([first.url().as_str()]);
    let mut hubs = vec![first];
    hubs.extend((1..8).map(|_| joining.start(&ground)));
    for hub in &hubs {
        let status = hub.wait("reaches the seven others over at most three links", |status| {
            status.ready && status.known_hubs == 7 && status.p2p_links <= 3
        });
        assert!(status.p2p_links >= 2, "{status:?}");
        assert!(hub.hubs().iter().all(|other| other.own || other.reachable), "one component");
    }
}

#[test]
fn the_bootstrap_websocket_stays_closed_while_the_mesh_is_healthy_and_returns_when_it_is_not() {
    /// Dials that would be due while the test watches.
    const INTERVALS: u32 = 10;
    let ground = Ground::new();
    let delay = Duration::from_millis(500);
    let first = Plan::first().migrating_after(delay).start(&ground);
    let joining = Plan::through([first.url().as_str()])
        .migrating_after(delay)
        .config("[bootstrap]\nreconnect_interval = \"200ms\"\n");
    let mut second = joining.start(&ground);
    second.wait_migrated(1);
    first.wait_migrated(1);
    let pids = [first.pid(), second.pid()];
    until_ok("no TCP connection is left between the hubs", || match tcp_between(&pids) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    for _ in 0..INTERVALS {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(tcp_between(&pids), []);
    }
    // The far end dies and returns under the same port: the WebSocket brings the hubs together again.
    let port = first.port;
    drop(first);
    second.wait("has lost the other hub", |status| status.known_hubs == 0);
    let first = Plan::first().migrating_after(delay).start_on(&ground, port);
    second.wait_migrated(1);
    first.wait_migrated(1);
    assert!(second.stop().success());
}

#[test]
fn readiness_is_left_when_the_links_are_lost() {
    let ground = Ground::new();
    let (first, second) = two_hubs(&ground);
    drop(first);
    until_ok("the hub that is left logs that it is no longer ready", || {
        let events = second.events();
        let ready = events.iter().position(|event| *event == "hubMeshReady");
        let lost = events.iter().rposition(|event| *event == "hubP2PDisconnected");
        let left = events.iter().rposition(|event| *event == "hubMeshDegraded");
        match (ready, lost, left) {
            (Some(ready), Some(_), Some(left)) if ready < left => Ok(()),
            _ => Err(format!("{events:?}")),
        }
    });
}

#[test]
fn a_taken_port_is_a_clear_error_and_never_another_port() {
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    // A second ground: otherwise its control socket would be taken too.
    let other = Ground::new();
    let output = Plan::first().command(&other, hub.port).output().expect("the daemon runs");
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(&hub.port.to_string()) && told.contains("is taken"), "{told}");
    hub.status();
}

/// Measured: published clients take no notice of an `error`; it is for the authors of others.
#[test]
fn an_undeliverable_signal_is_told_to_its_sender() {
    let ground = Ground::new();
    let (first, _second) = two_hubs(&ground);
    let mut sender = Raw::join(&first, &id("a1"), NETWORK);
    sender.offer(&id("b2"), NETWORK, &json!({"sdp": "v=0"}));
    let error = sender.wait_type("error");
    assert_eq!(
        (&error["code"], &error["targetPeerId"], &error["networkName"]),
        (&json!("peer-unreachable"), &json!(id("b2")), &json!(NETWORK))
    );
    assert!(error["error"].is_string() && error["timestamp"].is_u64(), "{error}");
}
