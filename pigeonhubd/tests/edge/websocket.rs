//! Accepted WebSockets: what goes in and out, and how they end.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::header::HeaderValue;
use pigeonhub_proto::io::ClosedBy;
use pigeonhubd::edge::EdgeEvent;
use pigeonhubd::outbox::Item;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::ground::{Ground, HANDSHAKE, LIMIT, close_of, frame, send};

#[tokio::test]
async fn the_request_is_passed_on() {
    let mut ground = Ground::new();
    let table = [
        ("/?peerId=a%62%43", Some("abC"), false),
        ("/ws?mesh=1&peerId=", Some(""), true),
        ("/x", None, false),
    ];
    for (path, peer_id, mesh) in table {
        let (_client, _) = connect_async(ground.url(path)).await.unwrap();
        let (_, request, _) = ground.accepted().await;
        assert_eq!((request.peer_id.as_deref(), request.mesh), (peer_id, mesh), "{path}");
        assert_eq!(request.remote.to_string(), "127.0.0.1");
        assert_eq!(request.host, Some(ground.address.to_string()));
    }
}

#[tokio::test]
async fn nothing_is_read_before_the_hub_says_so() {
    let mut ground = Ground::new();
    let (mut early, conn, outbox) = ground.connect().await;
    send(&mut early, "early").await.unwrap();
    // Another connection's message comes through all the same, and first.
    let (mut late, other, _) = ground.reading().await;
    send(&mut late, "late").await.unwrap();
    assert_eq!(ground.text().await, (other, "late".into()));
    outbox.read();
    assert_eq!(ground.text().await, (conn, "early".into()));
}

#[tokio::test]
async fn what_comes_right_behind_the_handshake_is_not_lost() {
    let mut ground = Ground::new();
    let mut tcp = TcpStream::connect(ground.address).await.unwrap();
    let bytes = [HANDSHAKE.as_bytes(), &frame(0x81, b"first"), &frame(0x81, &[b'x'; 5000])].concat();
    tcp.write_all(&bytes).await.unwrap();
    let (conn, _, outbox) = ground.accepted().await;
    outbox.read();
    assert_eq!(ground.text().await, (conn, "first".into()));
    assert_eq!(ground.text().await, (conn, "x".repeat(5000)));
}

#[tokio::test]
async fn messages_pass_in_order_both_ways() {
    let mut ground = Ground::new();
    let (mut client, conn, outbox) = ground.reading().await;
    for i in 0..500 {
        outbox.push(Item::Text(format!("out {i}"))).unwrap();
    }
    outbox.push(Item::Binary(Bytes::from_static(b"\x00\xff"))).unwrap();
    for i in 0..500 {
        client.feed(Message::from(format!("in {i}"))).await.unwrap();
    }
    client.feed(Message::Binary(Bytes::from_static(b"\xff"))).await.unwrap();
    client.flush().await.unwrap();
    for i in 0..500 {
        assert_eq!(ground.text().await, (conn, format!("in {i}")));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::from(format!("out {i}")));
    }
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x00\xff")));
    let EdgeEvent::Binary { bytes, .. } = ground.next().await else { panic!("a binary message") };
    assert_eq!(&*bytes, b"\xff");
}

#[tokio::test]
async fn a_clients_text_may_come_in_a_binary_message_and_a_hubs_may_not() {
    let mut ground = Ground::new();
    let (mut client, conn, _) = ground.reading().await;
    for (message, text) in [
        (Message::from("one"), "one"),
        (Message::Binary(Bytes::from_static("zwei ü".as_bytes())), "zwei ü"),
        (Message::Binary(Bytes::new()), ""),
        (Message::from("last"), "last"),
    ] {
        send(&mut client, message).await.unwrap();
        assert_eq!(ground.text().await, (conn, text.into()));
    }
    let (mut hub, _) = connect_async(ground.url("/?peerId=me&mesh=1")).await.unwrap();
    let (_, _, outbox) = ground.accepted().await;
    outbox.read();
    send(&mut hub, Message::Binary(Bytes::from_static(b"{}"))).await.unwrap();
    assert!(matches!(ground.next().await, EdgeEvent::Binary { bytes, .. } if &*bytes == b"{}"));
}

#[tokio::test]
async fn a_subprotocol_is_answered() {
    let ground = Ground::new();
    let mut request = ground.url("/?peerId=me").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat.v1, chat.v2"));
    let (_client, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat.v1");
}

#[tokio::test]
async fn pings_are_answered_and_pongs_reported() {
    let mut ground = Ground::new();
    let (mut client, conn, outbox) = ground.reading().await;
    send(&mut client, Message::Ping(Bytes::from_static(b"you?"))).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"you?")));
    outbox.ping(7);
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping(Bytes::from_static(&[0, 0, 0, 7])));
    client.flush().await.unwrap();
    assert!(matches!(ground.next().await, EdgeEvent::Pong { conn: from, number: Some(7) } if from == conn));
}

#[tokio::test]
async fn the_largest_message_passes_and_one_byte_more_is_1009() {
    let mut ground = Ground::new();
    let (mut bystander, other, _) = ground.reading().await;
    for oversize in [vec![LIMIT + 1], vec![LIMIT, 1], vec![LIMIT / 2, LIMIT / 2, 1]] {
        let (mut client, conn, _) = ground.reading().await;
        send(&mut client, "x".repeat(LIMIT)).await.unwrap();
        assert_eq!(ground.text().await.1.len(), LIMIT);
        let mut tcp = client.into_inner();
        for (i, len) in oversize.iter().enumerate() {
            let opcode = if i == 0 { 1 } else { 0 };
            let fin = if i + 1 == oversize.len() { 0x80 } else { 0 };
            let mut header = vec![fin | opcode, 0x80 | 127];
            header.extend((*len as u64).to_be_bytes());
            header.extend([0; 4]);
            // The hub may stop taking it half-way.
            let _ = tcp.write_all(&[header, vec![b'x'; *len]].concat()).await;
        }
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        drop(tcp);
        let told = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!((answer[0], &answer[2..4]), (0x88, &1009u16.to_be_bytes()[..]), "{told}");
        assert!(told.contains(&LIMIT.to_string()), "{told}");
        assert!(matches!(ground.closed(conn).await, ClosedBy::Broken(why) if why.contains("over the limit")));
    }
    send(&mut bystander, "still here").await.unwrap();
    assert_eq!(ground.text().await, (other, "still here".into()));
}

#[tokio::test]
async fn broken_frames_close_with_their_code() {
    let mut ground = Ground::new();
    let unmasked = vec![0x81, 2, b'h', b'i'];
    let table = [
        (frame(0x81, b"\xff\xfe"), 1007, "invalid UTF-8"),
        ([frame(0x01, b"\xc3"), frame(0x80, b"(")].concat(), 1007, "invalid UTF-8 across fragments"),
        (unmasked, 1002, "an unmasked frame"),
        (frame(0x83, b""), 1002, "an unknown opcode"),
        (frame(0xc1, b"x"), 1002, "a reserved bit"),
        (frame(0x80, b"x"), 1002, "a continuation of nothing"),
        (frame(0x09, b"x"), 1002, "a ping in fragments"),
        (frame(0x89, &[0; 126]), 1002, "a ping that is too long"),
    ];
    for (bytes, code, what) in table {
        let (client, conn, _) = ground.reading().await;
        let mut tcp = client.into_inner();
        tcp.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        drop(tcp);
        assert_eq!((answer[0], u16::from_be_bytes([answer[2], answer[3]])), (0x88, code), "{what}");
        assert!(matches!(ground.closed(conn).await, ClosedBy::Broken(_)), "{what}");
    }
}

#[tokio::test]
async fn a_close_goes_out_behind_what_waits() {
    let mut ground = Ground::new();
    let (mut client, conn, outbox) = ground.connect().await;
    for i in 0..100 {
        outbox.push(Item::Text(i.to_string())).unwrap();
    }
    outbox.close(1008, "Invalid peerId format".into());
    for i in 0..100 {
        assert_eq!(client.next().await.unwrap().unwrap(), Message::from(i.to_string()));
    }
    assert_eq!(close_of(&mut client).await, (1008, "Invalid peerId format".into()));
    assert!(client.next().await.is_none(), "then TCP ends");
    assert_eq!(ground.closed(conn).await, ClosedBy::Local);
}

#[tokio::test]
async fn a_close_reason_is_cut_to_what_fits() {
    let mut ground = Ground::new();
    let (mut client, _, outbox) = ground.connect().await;
    outbox.close(1008, format!("x{}", "é".repeat(100)));
    assert_eq!(close_of(&mut client).await, (1008, format!("x{}", "é".repeat(61))));
}

#[tokio::test]
async fn the_far_ends_close_is_reported_as_it_was() {
    let mut ground = Ground::new();
    let (mut client, conn, _) = ground.reading().await;
    let close = CloseFrame { code: CloseCode::Library(4001), reason: "had enough".into() };
    client.close(Some(close)).await.unwrap();
    assert_eq!(close_of(&mut client).await, (4001, "had enough".into()), "it is answered");
    let expected = ClosedBy::Remote { code: 4001, reason: "had enough".into() };
    assert_eq!(ground.closed(conn).await, expected);

    let (mut client, conn, _) = ground.reading().await;
    client.close(None).await.unwrap();
    assert_eq!(ground.closed(conn).await, ClosedBy::Remote { code: 1005, reason: String::new() });

    let (client, conn, _) = ground.reading().await;
    drop(client);
    assert!(
        matches!(ground.closed(conn).await, ClosedBy::Broken(why) if why.contains("without a WebSocket close"))
    );
}
