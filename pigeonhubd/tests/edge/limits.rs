//! Far ends that take or give too much, and what others notice of it.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use pigeonhub_proto::io::{ClosedBy, Output};
use pigeonhubd::channel::ChannelConfig;
use pigeonhubd::connections::Connections;
use pigeonhubd::dial::Dialler;
use pigeonhubd::edge::{EVENT_BUDGET_KIB, EVENT_QUEUE, weight};
use pigeonhubd::listener::SPARE_CONNECTIONS;
use pigeonhubd::outbox::MAX_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::ground::{Ground, HANDSHAKE, LIMIT, send};

fn connections(ground: &Ground) -> Connections {
    let (events, _) = mpsc::channel(1);
    let dialler = Dialler::new(ground.edge.clone(), LIMIT);
    Connections::new(dialler, ChannelConfig::default(), events)
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_nobody_else_suffers() {
    let mut ground = Ground::new();
    let mut connections = connections(&ground);
    let (_slow, slow, outbox) = ground.reading().await;
    connections.accepted(slow, IpAddr::from([127, 0, 0, 1]), outbox);
    let (mut quick, other, outbox) = ground.reading().await;
    connections.accepted(other, IpAddr::from([127, 0, 0, 1]), outbox);

    let text = "x".repeat(LIMIT);
    // Far more than the sockets' own buffers and the queue hold.
    for i in 0..32 * MAX_BYTES / LIMIT {
        connections.apply(Output::Text { conn: slow, text: text.clone() });
        connections.apply(Output::Text { conn: other, text: i.to_string() });
        assert_eq!(quick.next().await.unwrap().unwrap(), Message::from(i.to_string()));
    }
    let reason = ground.closed(slow).await;
    let ClosedBy::Broken(reason) = reason else { panic!("not in order: {reason:?}") };
    assert!(reason.starts_with("too slow: ") && reason.ends_with("wait to be read"), "{reason}");
    send(&mut quick, "still here").await.unwrap();
    assert_eq!(ground.text().await, (other, "still here".into()));
}

#[tokio::test]
async fn mesh_frames_over_the_limit_are_dropped_without_a_close() {
    let mut ground = Ground::new();
    let mut connections = connections(&ground);
    let (mut client, conn, outbox) = ground.reading().await;
    connections.accepted(conn, IpAddr::from([127, 0, 0, 1]), outbox);
    // Far more than the queue holds, and the session gets no turn meanwhile.
    let frame = Bytes::from(vec![1; 60 * 1024]);
    for _ in 0..500 {
        connections.apply(Output::Binary { conn, bytes: frame.clone() });
    }
    let mut received = 0;
    while received < MAX_BYTES / frame.len() {
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(frame.clone()));
        received += 1;
    }
    connections.apply(Output::Text { conn, text: String::from("goes on") });
    assert_eq!(client.next().await.unwrap().unwrap(), Message::from("goes on"));
}

#[tokio::test]
async fn a_flood_waits_for_the_driver_and_arrives_whole() {
    let mut ground = Ground::new();
    let (client, conn, _) = ground.reading().await;
    let count = 5 * EVENT_QUEUE;
    let (mut sink, _stream) = client.split();
    let flood = tokio::spawn(async move {
        for i in 0..count {
            sink.send(Message::from(i.to_string())).await.unwrap();
        }
        sink
    });
    // The driver sleeps: what waits fills up to its limit, and no further.
    while ground.edge.try_room(weight(32, 0)).is_some() {
        tokio::task::yield_now().await;
    }
    for i in 0..count {
        assert!(ground.events.len() <= EVENT_QUEUE);
        assert_eq!(ground.text().await, (conn, i.to_string()));
    }
    let _sink = flood.await.unwrap();
}

#[tokio::test]
async fn large_messages_wait_for_room_in_the_budget() {
    const COUNT: usize = 600;
    let mut ground = Ground::new();
    let (client, conn, _) = ground.reading().await;
    let (mut sink, _stream) = client.split();
    let text = "x".repeat(LIMIT);
    tokio::spawn(async move {
        for _ in 0..COUNT {
            sink.send(Message::from(text.clone())).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let fit = EVENT_BUDGET_KIB as usize * 1024 / LIMIT;
    while ground.events.len() < fit {
        tokio::task::yield_now().await;
    }
    for _ in 0..COUNT {
        assert!(ground.events.len() <= fit, "{} waiting", ground.events.len());
        let (from, text) = ground.text().await;
        assert_eq!((from, text.len()), (conn, LIMIT));
    }
}

#[tokio::test]
async fn over_the_hard_limit_there_is_a_503() {
    let mut ground = Ground::with(|_| {}, 0);
    // max_connections 0 and the spare ones: every further socket is refused.
    let mut taken = Vec::new();
    for _ in 0..SPARE_CONNECTIONS {
        let mut tcp = TcpStream::connect(ground.address).await.unwrap();
        tcp.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let (conn, _, outbox) = ground.accepted().await;
        taken.push((tcp, conn, outbox));
    }
    let mut last = TcpStream::connect(ground.address).await.unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("no place for you\n"), "{answer}");

    let (first, conn, outbox) = taken.swap_remove(0);
    drop(first);
    outbox.close(1000, String::from("bye"));
    ground.closed(conn).await;
    // Its place is free again, as soon as its task is gone.
    loop {
        let mut again = TcpStream::connect(ground.address).await.unwrap();
        again.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // Whoever is refused may find the connection reset.
        if again.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.0 200") {
            break;
        }
    }
}
