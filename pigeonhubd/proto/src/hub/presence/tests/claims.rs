//! A peer that two hubs have, or may have.

use std::sync::Arc;
use std::time::Duration;

use super::bundles::Pair;
use super::grace::{NETWORK, OURS, THEIRS, here, record};
use crate::directory::Home;
use crate::id::Id;
use crate::io::{ConnId, Input, Output, Request};
use crate::ticket::Ticket;
use crate::wire::mesh::{HubMessage, PresenceChange};

/// The connection of the older client here, and of the newer one.
const OLDER: ConnId = ConnId(1);
const NEWER: ConnId = ConnId(3);

/// A client connects under the id of the one at the other hub, and announces itself.
fn newer() -> (Pair, Vec<String>) {
    newer_with(None)
}

fn for_id(peer: Id) -> Option<Arc<Ticket>> {
    Some(Arc::new(Ticket { peer: Some(peer), ..Ticket::default() }))
}

fn newer_with(ticket: Option<Arc<Ticket>>) -> (Pair, Vec<String>) {
    let mut pair = Pair::new();
    let (peer_id, remote) = (Some(THEIRS.to_string()), std::net::Ipv4Addr::LOCALHOST.into());
    let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket };
    pair.take(Input::Accepted { conn: NEWER, request });
    say(&mut pair, r#"{"type":"announce","data":{}}"#);
    let there = pair.heard();
    (pair, there)
}

fn say(pair: &mut Pair, text: &str) {
    pair.take(Input::Text { conn: NEWER, text });
}

fn later(pair: &mut Pair, millis: u64) {
    for _ in 0..millis / 100 {
        pair.bench.after(Duration::from_millis(100));
    }
}

fn home(pair: &Pair, peer: &Id) -> Option<Home> {
    pair.bench.hub.directory.find(NETWORK, peer).map(|entry| entry.home())
}

/// With which reason a connection was closed, if it was.
fn closed(pair: &mut Pair, of: ConnId) -> Option<String> {
    pair.heard();
    pair.others.drain(..).find_map(|output| match output {
        Output::Close { conn, reason, .. } if conn == of => Some(reason),
        _ => None,
    })
}

/// The other hub says that the one here is at it, too.
fn claim(pair: &mut Pair, stamp: u64) {
    let PresenceChange::Here { network, legacy, announced_at, shown, .. } = here(1) else { return };
    let there = PresenceChange::Here { peer: OURS.into(), network, stamp, legacy, announced_at, shown };
    let network = Some(NETWORK.into());
    pair.say(&HubMessage::Presence { network, subscription: 1, changes: vec![there], complete: false });
}

#[test]
fn whoever_announces_anothers_id_waits_and_is_turned_away_if_that_one_answers() {
    let (mut pair, there) = newer();
    assert_eq!(there, [format!("Ask {{ network: \"global\", peer: {THEIRS:?}, number: 1 }}")]);
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())));
    say(&mut pair, &format!(r#"{{"type":"offer","targetPeerId":"{OURS}","data":"a theft"}}"#));
    pair.say(&HubMessage::Answer { number: 1, kept: true });
    assert_eq!(closed(&mut pair, NEWER).as_deref(), Some("Peer already connected"));
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())));
    assert_eq!(pair.bench.hub.counters().signals.get(crate::hub::counters::SignalOutcome::Local), 0);
    assert_eq!(pair.bench.hub.held_bytes(), 0);
}

#[test]
fn whoever_has_moved_is_there_with_all_that_it_said_meanwhile() {
    let (mut pair, _) = newer();
    for n in 0..2 {
        say(&mut pair, &format!(r#"{{"type":"offer","targetPeerId":"{OURS}","data":{n}}}"#));
    }
    say(&mut pair, r#"{"type":"ping","data":{}}"#);
    pair.heard();
    let pong =
        |output: &Output| matches!(output, Output::Text { conn: NEWER, text } if text.contains("pong"));
    assert!(pair.others.iter().any(pong), "a ping is of no network");
    pair.say(&HubMessage::Answer { number: 2, kept: true });
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())), "that is no answer to this");
    pair.say(&HubMessage::Answer { number: 1, kept: false });
    assert_eq!(home(&pair, &THEIRS), Some(Home::Session(NEWER)));
    assert_eq!(pair.bench.hub.counters().signals.get(crate::hub::counters::SignalOutcome::Local), 2);
    assert_eq!(pair.bench.hub.held_bytes(), 0);
}

#[test]
fn a_hub_that_does_not_answer_has_lost_the_peer() {
    let (mut pair, _) = newer();
    later(&mut pair, 1300);
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())));
    later(&mut pair, 100);
    assert_eq!(home(&pair, &THEIRS), Some(Home::Session(NEWER)));
}

#[test]
fn what_waits_behind_an_announcement_has_a_limit() {
    let (mut pair, _) = newer();
    let before = pair.bench.hub.held_bytes();
    let offer = format!(r#"{{"type":"offer","targetPeerId":"{OURS}","data":0}}"#);
    (0..200).for_each(|_| say(&mut pair, &offer));
    assert_eq!(pair.bench.hub.held_bytes(), before + 63 * offer.len());
    pair.heard();
    let told = |output: &&Output| matches!(output, Output::Text { conn: NEWER, text } if text.contains("limit-reached"));
    assert_eq!(pair.others.iter().filter(told).count(), 200 - 63);
    say(&mut pair, r#"{"type":"goodbye","data":{}}"#);
    assert_eq!(pair.bench.hub.held_bytes(), 0);
    later(&mut pair, 2000);
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())), "it left before it was there");
}

#[test]
fn a_hub_is_told_whether_the_older_connection_answers() {
    for answers in [true, false] {
        let mut pair = Pair::new();
        pair.say(&HubMessage::Ask { network: NETWORK.into(), peer: OURS, number: 5 });
        assert_eq!(pair.heard(), [""; 0], "it is asked first");
        // Nothing else that it says is an answer.
        pair.take(Input::Text { conn: OLDER, text: r#"{"type":"ping","data":{}}"# });
        if answers {
            later(&mut pair, 900);
            pair.take(Input::Pong { conn: OLDER, number: Some(1) });
        } else {
            later(&mut pair, 1000);
        }
        let there = pair.heard();
        assert!(there.contains(&format!("Answer {{ number: 5, kept: {answers} }}")), "{there:?}");
        assert_eq!(home(&pair, &OURS).is_some(), answers);
    }
    let mut pair = Pair::new();
    for (network, peer) in [(NETWORK, Id([77; 20])), ("another", OURS)] {
        pair.say(&HubMessage::Ask { network: network.into(), peer, number: 6 });
        assert_eq!(pair.heard(), ["Answer { number: 6, kept: false }"], "who is not here keeps nothing");
    }
}

#[test]
fn of_two_announcements_the_older_one_whose_client_answers_stays() {
    let mut pair = Pair::new();
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp + 1;
    claim(&mut pair, stamp);
    assert_eq!(home(&pair, &OURS), Some(Home::Hub(record().hub())));
    pair.take(Input::Pong { conn: OLDER, number: Some(1) });
    let keeps = format!("Keeps {{ network: \"global\", peer: {OURS:?}, stamp: {stamp} }}");
    assert_eq!(pair.heard(), [keeps]);
    let gone = PresenceChange::Gone { peer: OURS, network: NETWORK.into() };
    let network = Some(NETWORK.into());
    pair.say(&HubMessage::Presence { network, subscription: 1, changes: vec![gone], complete: false });
    later(&mut pair, 10_000);
    assert_eq!((closed(&mut pair, OLDER), home(&pair, &OURS)), (None, Some(Home::Session(OLDER))));
}

#[test]
fn a_hub_that_does_not_yield_keeps_the_peer_and_so_does_one_whose_rival_does_not_answer() {
    for answers in [true, false] {
        let mut pair = Pair::new();
        let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp + 1;
        claim(&mut pair, stamp);
        if answers {
            pair.take(Input::Pong { conn: OLDER, number: Some(1) });
            pair.heard();
            pair.acknowledge();
            later(&mut pair, 2900);
            assert_eq!(closed(&mut pair, OLDER), None);
            later(&mut pair, 200);
        } else {
            later(&mut pair, 1000);
        }
        let reason = closed(&mut pair, OLDER);
        assert_eq!(reason.as_deref(), Some("Replaced by a newer connection of this peer"));
    }
}

#[test]
fn a_session_yields_only_to_a_hub_that_claims_its_peer() {
    let mut pair = Pair::new();
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp;
    let keeps = HubMessage::Keeps { network: NETWORK.into(), peer: OURS, stamp };
    pair.say(&keeps);
    assert_eq!(closed(&mut pair, OLDER), None);
    claim(&mut pair, stamp - 1);
    pair.say(&HubMessage::Keeps { network: NETWORK.into(), peer: OURS, stamp: stamp - 1 });
    assert_eq!(closed(&mut pair, OLDER), None, "that is not its announcement");
    pair.say(&keeps);
    assert_eq!(closed(&mut pair, OLDER).as_deref(), Some("Peer already connected"));
    assert_eq!(home(&pair, &OURS), Some(Home::Hub(record().hub())));
}

/// A second connection of the client here, with a ticket or without.
fn again(pair: &mut Pair, conn: ConnId, ticket: Option<Arc<Ticket>>) {
    let (peer_id, remote) = (Some(OURS.to_string()), std::net::Ipv4Addr::LOCALHOST.into());
    let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket };
    pair.take(Input::Accepted { conn, request });
}

#[test]
fn the_holder_of_a_ticket_for_an_id_has_it_at_once() {
    let (mut pair, there) = newer_with(for_id(THEIRS));
    assert_eq!(home(&pair, &THEIRS), Some(Home::Session(NEWER)));
    assert!(there.contains(&format!("Takes {{ network: \"global\", peer: {THEIRS:?} }}")), "{there:?}");
    // The other hub's connection is alive, and that is no reason to yield.
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &THEIRS).expect("it is here").stamp;
    pair.say(&HubMessage::Keeps { network: NETWORK.into(), peer: THEIRS, stamp });
    assert_eq!(closed(&mut pair, NEWER), None);
    // At this hub nobody is asked either, and whoever waits is turned away.
    again(&mut pair, ConnId(5), None);
    again(&mut pair, ConnId(7), for_id(OURS));
    assert_eq!(closed(&mut pair, ConnId(5)).as_deref(), Some("Peer already connected"));
    assert_eq!(pair.bench.hub.sessions.by_peer(&OURS), Some(ConnId(7)));
    again(&mut pair, ConnId(9), None);
    assert_eq!(closed(&mut pair, ConnId(9)).as_deref(), Some("Peer already connected"), "at once");
    again(&mut pair, ConnId(11), for_id(OURS));
    assert_eq!(pair.bench.hub.sessions.by_peer(&OURS), Some(ConnId(11)), "the later of two holders");
}

#[test]
fn a_ticket_for_another_id_takes_none() {
    let (pair, there) = newer_with(for_id(OURS));
    assert_eq!(home(&pair, &THEIRS), Some(Home::Hub(record().hub())));
    assert!(there.iter().any(|message| message.starts_with("Ask")), "{there:?}");
}

#[test]
fn the_holder_of_a_ticket_keeps_its_id_unasked_and_leaves_it_to_the_next() {
    let mut pair = Pair::new();
    again(&mut pair, ConnId(7), for_id(OURS));
    pair.take(Input::Text { conn: ConnId(7), text: r#"{"type":"announce","data":{}}"# });
    pair.heard();
    pair.say(&HubMessage::Ask { network: NETWORK.into(), peer: OURS, number: 5 });
    assert_eq!(pair.heard(), ["Answer { number: 5, kept: true }"]);
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp + 1;
    claim(&mut pair, stamp);
    let there = pair.heard();
    assert!(there.contains(&format!("Keeps {{ network: \"global\", peer: {OURS:?}, stamp: {stamp} }}")));
    pair.say(&HubMessage::Takes { network: "another".into(), peer: OURS });
    assert_eq!(closed(&mut pair, ConnId(7)), None, "it is not in that network");
    pair.say(&HubMessage::Takes { network: NETWORK.into(), peer: OURS });
    let reason = closed(&mut pair, ConnId(7));
    assert_eq!(reason.as_deref(), Some("Replaced by a newer connection of this peer"));
}

#[test]
fn a_ticket_opens_its_networks_and_lets_so_much_be_announced() {
    let networks = Some(vec![String::from("game-*")]);
    let ticket = Ticket { peer: None, networks, max_announce: Some(100) };
    let (mut pair, _) = newer_with(Some(Arc::new(ticket)));
    let large = "x".repeat(100);
    for text in [
        r#"{"type":"announce","networkName":"chess","data":{}}"#,
        &format!(r#"{{"type":"announce","networkName":"game-1","data":{{"name":"{large}"}}}}"#),
    ] {
        say(&mut pair, text);
    }
    pair.heard();
    let told = |output: &&Output| matches!(output, Output::Text { conn: NEWER, text } if text.contains("not-allowed"));
    assert_eq!(pair.others.iter().filter(told).count(), 3, "global, chess, and too much");
    say(&mut pair, r#"{"type":"announce","networkName":"game-1","data":{}}"#);
    let here = pair.bench.hub.directory.find("game-1", &THEIRS).map(|entry| entry.home());
    assert_eq!(here, Some(Home::Session(NEWER)));
}
