//! Signals that go from session to session, past the driver.

use std::sync::Arc;

use futures_util::SinkExt;
use pigeonhub_proto::directory::{Place, Reach};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::ConnId;
use pigeonhub_proto::wire::mesh::{HubMessage, decode};
use pigeonhubd::edge::EdgeEvent;
use pigeonhubd::outbox::Outbox;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::daemon::{hear, start};
use crate::ground::{Client, Folder, Ground, send};

const NETWORK: u64 = 7;
const HUB: Id = Id([9; 20]);

fn id(digit: &str) -> String {
    digit.repeat(40)
}

fn signal(to: &str, n: usize) -> String {
    json!({"type": "offer", "networkName": "n", "targetPeerId": id(to), "fromPeerId": id("e"), "data": n})
        .to_string()
}

fn place(conn: ConnId, digit: &str) -> Place {
    let reach = Reach::Session(conn);
    Place { reach, peer: id(digit).parse().unwrap(), network: "n".into(), number: NETWORK }
}

/// A client that the driver, which is the test, lets take part.
async fn announced(ground: &mut Ground, digit: &str) -> (Client, Place, Arc<Outbox>) {
    let (client, conn, outbox) = ground.reading().await;
    let place = place(conn, digit);
    ground.edge.sessions().enter(place.clone(), &outbox);
    (client, place, outbox)
}

#[tokio::test]
async fn the_driver_hears_of_life_alone_and_the_target_of_the_true_sender() {
    let mut ground = Ground::new();
    let (mut one, from, _) = announced(&mut ground, "a").await;
    let (mut two, ..) = announced(&mut ground, "b").await;
    for n in 0..100 {
        send(&mut one, signal("b", n)).await.unwrap();
        let got = hear(&mut two).await;
        assert_eq!(
            (&got["type"], &got["fromPeerId"], &got["data"]),
            (&json!("offer"), &json!(id("a")), &json!(n))
        );
    }
    assert!(matches!(ground.next().await, EdgeEvent::Alive { conn } if Reach::Session(conn) == from.reach));
    send(&mut one, "last").await.unwrap();
    // More signs of life only if the test took a while.
    while let event = ground.next().await
        && !matches!(event, EdgeEvent::Texts { .. })
    {
        assert!(matches!(event, EdgeEvent::Alive { .. }), "{event:?}");
    }
    let counters = ground.edge.counters();
    assert_eq!((counters.signals_direct.get(), counters.text_out.messages.get()), (100, 100));
}

#[tokio::test]
async fn a_signal_behind_a_message_for_the_driver_waits_until_that_is_done() {
    let mut ground = Ground::new();
    let (mut one, ..) = announced(&mut ground, "a").await;
    let (mut two, ..) = announced(&mut ground, "b").await;
    for text in [String::from("an announce, say"), signal("b", 1), signal("b", 2)] {
        send(&mut one, text).await.unwrap();
    }
    let (mut waiting, mut said) = (Vec::new(), Vec::new());
    while said.len() < 3 {
        let event = ground.next().await;
        let EdgeEvent::Texts { texts, .. } = &event else { panic!("{event:?}") };
        said.extend(texts.iter().map(ToString::to_string));
        waiting.push(event);
    }
    assert_eq!(said, [String::from("an announce, say"), signal("b", 1), signal("b", 2)]);
    drop(waiting);
    send(&mut one, signal("b", 3)).await.unwrap();
    assert_eq!(hear(&mut two).await["data"], 3);
}

#[tokio::test]
async fn what_may_not_go_straight_is_the_drivers() {
    let mut ground = Ground::new();
    let (mut one, place, _) = announced(&mut ground, "a").await;
    let (_two, other, outbox) = announced(&mut ground, "b").await;
    let elsewhere = signal("b", 1).replace("\"n\"", "\"other\"");
    for text in [signal("a", 1), signal("c", 1), elsewhere, String::from("{}")] {
        send(&mut one, text.as_str()).await.unwrap();
        // Dropped at once, as by a driver that is done with it.
        let (conn, said) = ground.text().await;
        assert_eq!((Reach::Session(conn), said), (place.reach, text));
    }
    let sessions = Arc::clone(ground.edge.sessions());
    sessions.leave(&other);
    send(&mut one, signal("b", 1)).await.unwrap();
    assert_eq!(ground.text().await.1, signal("b", 1), "the target left");
    sessions.enter(other, &outbox);
    sessions.leave(&place);
    send(&mut one, signal("b", 2)).await.unwrap();
    assert_eq!(ground.text().await.1, signal("b", 2), "the sender left");
}

/// A peer at another hub.
fn elsewhere(digit: &str) -> Place {
    Place { reach: Reach::Hub { hub: HUB, stamp: 9 }, ..place(ConnId(0), digit) }
}

/// The data of all signals in bundles, once there are so many.
async fn bundled(ground: &Ground, count: usize) -> Vec<(Id, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        ground.edge.sessions().bundles().wait().await;
        for (hub, bundle) in ground.edge.sessions().bundles().take() {
            assert_eq!(hub, HUB);
            let (message, senders) = bundle.into_message();
            if senders.is_empty() {
                continue;
            }
            let Ok(HubMessage::Signals(signals)) = decode(&message) else { panic!("signals were expected") };
            assert_eq!(senders.len(), signals.len());
            for (signal, sender) in signals.iter().zip(&senders) {
                assert_eq!((signal.stamp, signal.from.id, &*signal.network), (9, sender.from, "n"));
                all.push((sender.from, signal.data.clone().unwrap_or_default().into_owned()));
            }
        }
    }
    all
}

#[tokio::test]
async fn signals_for_another_hub_wait_in_bundles_of_their_true_senders() {
    let mut ground = Ground::new();
    let (mut one, place, _) = announced(&mut ground, "a").await;
    let sessions = Arc::clone(ground.edge.sessions());
    sessions.enter_elsewhere(&elsewhere("c"), HUB, 9);
    for n in 0..100 {
        send(&mut one, signal("c", n)).await.unwrap();
    }
    let all = bundled(&ground, 100).await;
    assert_eq!(all, (0..100).map(|n| (place.peer.id, n.to_string())).collect::<Vec<_>>());
    let counters = ground.edge.counters();
    let text = (counters.text_in.messages.get(), counters.text_out.messages.get());
    assert_eq!((text, counters.signals_direct.get()), ((100, 0), 0), "the hub counts them");

    sessions.leave(&elsewhere("c"));
    send(&mut one, signal("c", 100)).await.unwrap();
    let said = loop {
        match ground.next().await {
            EdgeEvent::Texts { texts, .. } => break texts,
            event => assert!(matches!(event, EdgeEvent::Alive { .. }), "{event:?}"),
        }
    };
    assert_eq!(said, [signal("c", 100)], "the target left");
}

#[tokio::test]
async fn what_waits_in_bundles_is_struck_out_when_its_sender_leaves() {
    let mut ground = Ground::new();
    let (mut one, place, _) = announced(&mut ground, "a").await;
    let (mut two, other, _) = announced(&mut ground, "b").await;
    let sessions = Arc::clone(ground.edge.sessions());
    sessions.enter_elsewhere(&elsewhere("c"), HUB, 9);
    for n in 0..3 {
        send(&mut one, signal("c", n)).await.unwrap();
    }
    // They are in when the sign of life is out.
    assert!(matches!(ground.next().await, EdgeEvent::Alive { .. }));
    let counters = Arc::clone(ground.edge.counters());
    while counters.text_in.messages.get() < 3 {
        tokio::task::yield_now().await;
    }
    sessions.leave(&place);
    send(&mut two, signal("c", 7)).await.unwrap();
    assert_eq!(bundled(&ground, 1).await, [(other.peer.id, String::from("7"))]);
}

/// Sends signals one after the other, with an announce and a goodbye around them.
async fn speak(mut client: Client, from: &str, count: usize) -> Client {
    let announce = json!({"type": "announce", "networkName": "n", "data": {"peerId": id(from)}});
    client.feed(Message::from(announce.to_string())).await.unwrap();
    for n in 0..count {
        client.feed(Message::from(signal("b", n))).await.unwrap();
    }
    client.feed(Message::from(json!({"type": "goodbye", "networkName": "n"}).to_string())).await.unwrap();
    client.flush().await.unwrap();
    client
}

/// The first three of a network are introduced at once, and the target has the largest id.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hub_keeps_the_order_of_announce_introduction_signals_and_goodbye() {
    keeps_the_order(&["1", "2"], None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hub_keeps_the_order_of_announce_signals_and_goodbye_where_introductions_wait() {
    keeps_the_order(&["1", "2", "3"], Some(0)).await;
}

/// `unheard_of`: the signal that may come first of who has not been introduced yet.
async fn keeps_the_order(speakers: &'static [&'static str], unheard_of: Option<usize>) {
    // All of them fit the target's outbox, however late it gets its turn.
    const COUNT: usize = 300;
    let folder = Folder::new();
    let daemon = start(&folder, "[hub]\nenabled = false");
    let address = daemon.addresses()[0];
    let connect = async |digit: &str| {
        let mut client = connect_async(format!("ws://{address}/?peerId={}", id(digit))).await.unwrap().0;
        assert_eq!(hear(&mut client).await["type"], "connected");
        client
    };
    let mut target = connect("b").await;
    let announce = json!({"type": "announce", "networkName": "n", "data": {"peerId": id("b")}});
    send(&mut target, announce.to_string()).await.unwrap();
    let mut speaking = Vec::new();
    for from in speakers {
        speaking.push(tokio::spawn(speak(connect(from).await, from, COUNT)));
    }
    let mut next = [unheard_of; 4];
    let mut gone = [false; 4];
    let mut left = 0;
    while left < speakers.len() {
        let got: Value = hear(&mut target).await;
        let from = |value: &Value| value.as_str().and_then(|id| id[..1].parse::<usize>().ok()).unwrap_or(0);
        match got["type"].as_str().unwrap() {
            "peer-discovered" => {
                let from = from(&got["data"]["peerId"]);
                assert!(!gone[from], "nobody is introduced after a goodbye");
                next[from].get_or_insert(0);
            }
            "offer" => {
                let expected =
                    next[from(&got["fromPeerId"])].as_mut().expect("told of it, and not of its end");
                assert_eq!(got["data"], json!(*expected));
                *expected += 1;
            }
            "goodbye" => {
                assert_eq!(next[from(&got["fromPeerId"])].take(), Some(COUNT), "all came before the goodbye");
                gone[from(&got["fromPeerId"])] = true;
                left += 1;
            }
            "peer-disconnected" => {}
            other => panic!("{other}: {got}"),
        }
    }
    for speaker in speaking {
        drop(speaker.await.unwrap());
    }
    daemon.stop().await.unwrap();
}
