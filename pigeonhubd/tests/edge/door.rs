//! Who is let in: origins, tokens, proxies, limits of one address.

use std::io::Write;
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use futures_util::StreamExt;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::io::ClosedBy;
use pigeonhubd::admission::Admission;
use pigeonhubd::listener::MAX_HANDSHAKES;
use pigeonhubd::session::MAX_REFUSED;
use pigeonhubd::tickets::{self, Claims, TicketKeys};
use pigeonhubd::tokens::Tokens;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::ground::{Client, Folder, Ground, HANDSHAKE, close_of, send};

pub(crate) fn secret(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

/// A hub with such a configuration.
fn ground(toml: &str) -> Ground {
    let mut config = Config::default();
    config.apply_file("test.toml", toml).unwrap();
    let (tokens, ticket_keys) = (Tokens::load(&config).unwrap(), TicketKeys::load(&config).unwrap());
    Ground::with(|site| site.admission = Admission::new(&config, tokens, ticket_keys), 2000)
}

/// The answer to a handshake with more headers and query, head and body.
async fn shake(ground: &Ground, query: &str, headers: &str) -> String {
    let request = HANDSHAKE.replace("?peerId=me", &format!("?peerId=me{query}"));
    let request = request.replace("Host: hub\r\n", &format!("Host: hub\r\n{headers}"));
    let mut tcp = TcpStream::connect(ground.address).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = tcp.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

fn refusals(ground: &Ground, reason: &str) -> u64 {
    let refusals = &ground.edge.counters().refusals;
    refusals.iter().find(|(known, _)| *known == reason).unwrap().1
}

/// A client as a trusted proxy on loopback presents it.
async fn from(ground: &Ground, address: &str) -> Client {
    let mut request = ground.url("/?peerId=me").into_client_request().unwrap();
    request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
    connect_async(request).await.unwrap().0
}

#[tokio::test]
async fn pages_of_other_origins_get_no_websocket() {
    let ground = ground("listen.allowed_origins = [\"https://app.example.org\"]\n");
    let refused = shake(&ground, "", "Origin: https://evil.example\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("listen.allowed_origins"), "{refused}");
    assert_eq!(refusals(&ground, "origin"), 1);
    for good in ["Origin: https://app.example.org\r\n", ""] {
        assert!(shake(&ground, "", good).await.starts_with("HTTP/1.1 101"), "{good}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_in_either_place_and_never_of_hubs() {
    let folder = Folder::new();
    let file = secret(&folder, "tokens", "# of the app\n0123456789abcdef\n0123456789+/ab==\n");
    let ground = ground(&format!("auth.token_file = \"{}\"\n", file.display()));
    for (query, headers) in [
        ("", ""),
        ("&token=", ""),
        ("&token=0123456789abcdeF", ""),
        ("&token=0123456789%20/ab==", ""),
        ("", "Authorization: Bearer wrong\r\n"),
        ("", "Authorization: Basic 0123456789abcdef\r\n"),
        // The header counts: a wrong one is not made good by the query.
        ("&token=0123456789abcdef", "Authorization: Bearer wrong\r\n"),
        ("&mesh=2", ""),
    ] {
        let refused = shake(&ground, query, headers).await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{query} {headers}: {refused}");
        assert!(refused.to_lowercase().contains("www-authenticate: bearer"), "{refused}");
        assert!(!refused.contains("wrong") && !refused.contains("0123"), "it is not repeated: {refused}");
    }
    assert_eq!(refusals(&ground, "token"), 8);
    for (query, headers) in [
        ("&token=0123456789abcdef", ""),
        ("&token=0123456789+/ab==", ""),
        ("&token=0123456789%2B%2Fab%3D%3D", ""),
        ("", "Authorization: Bearer 0123456789+/ab==\r\n"),
        ("", "Authorization: Bearer 0123456789abcdef\r\n"),
        ("", "Authorization: bearer 0123456789abcdef\r\n"),
        // A hub has to prove the mesh key instead.
        ("&mesh=1", ""),
    ] {
        assert!(shake(&ground, query, headers).await.starts_with("HTTP/1.1 101"), "{query} {headers}");
    }
    let (health, _) = ground.http("GET /health", "").await;
    assert!(health.starts_with("http/1.1 200"), "pages need none");
}

/// `me` is no peer id, which is the hub's to say.
#[tokio::test]
async fn a_ticket_does_where_a_token_does() {
    let folder = Folder::new();
    let tokens = secret(&folder, "tokens", "0123456789abcdef\n");
    let line = "HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    let keys = secret(&folder, "keys", line);
    let mut ground = ground(&format!(
        "auth.token_file = \"{}\"\nauth.ticket_keys = \"{}\"\n",
        tokens.display(),
        keys.display()
    ));
    let exp = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 60;
    let sign = |claims: Claims| tickets::sign(&Claims { exp, ..claims }, &keys).unwrap();
    let peer = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
    let networks = Some(vec![String::from("game-*")]);
    let [free, bound] = [None, Some(peer.to_owned())]
        .map(|peer_id| sign(Claims { peer_id, networks: networks.clone(), ..Claims::default() }));
    for good in [format!("&token={free}"), String::from("&token=0123456789abcdef")] {
        assert!(shake(&ground, &good, "").await.starts_with("HTTP/1.1 101"), "{good}");
    }
    let header = format!("Authorization: Bearer {free}\r\n");
    assert!(shake(&ground, "", &header).await.starts_with("HTTP/1.1 101"));
    let (_, request, _) = ground.accepted().await;
    assert_eq!(request.ticket.map(|ticket| ticket.networks.clone()), Some(networks));
    for (bad, fault) in [
        (bound.as_str(), "it is for another peer id"),
        (&free[..free.len() - 5], "no key of this hub signed it"),
        ("a.b", "that token is not valid here"),
    ] {
        let refused = shake(&ground, &format!("&token={bad}"), "").await;
        assert!(refused.starts_with("HTTP/1.1 401") && refused.contains(fault), "{refused}");
        assert!(!refused.contains(bad), "{refused}");
    }
    assert!(shake(&ground, "", "").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn a_ticket_has_so_many_connections_and_messages() {
    let folder = Folder::new();
    let keys = secret(&folder, "keys", "HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    let mut ground = ground(&format!("auth.ticket_keys = \"{}\"\n", keys.display()));
    let exp = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 60;
    let (max_connections, max_messages_per_second) = (NonZeroU32::new(1), NonZeroU32::new(1));
    let claims = Claims { exp, max_connections, max_messages_per_second, ..Claims::default() };
    let url = ground.url(&format!("/?peerId=me&token={}", tickets::sign(&claims, &keys).unwrap()));
    let (mut first, _) = connect_async(&url).await.unwrap();
    let (_, _, outbox) = ground.accepted().await;
    outbox.read();
    let (mut second, _) = connect_async(&url).await.unwrap();
    let reason = String::from("Too many connections with your ticket");
    assert_eq!(close_of(&mut second).await, (1008, reason));
    for _ in 0..100 {
        send(&mut first, r#"{"type":"ping"}"#).await.unwrap();
    }
    let told = first.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(told.contains("too many messages with your ticket: 1 a second are carried"), "{told}");
}

#[tokio::test]
async fn the_address_is_the_proxys_word_only_if_it_is_trusted() {
    let mut trusting = ground("listen.trusted_proxies = [\"127.0.0.1\"]\n");
    let _client = from(&trusting, "10.1.1.1, 198.51.100.7").await;
    let (_, request, _) = trusting.accepted().await;
    assert_eq!((request.remote.to_string().as_str(), request.via_proxy), ("198.51.100.7", true));
    let mut other = ground("listen.trusted_proxies = [\"192.0.2.1\"]\n");
    let _client = from(&other, "198.51.100.7").await;
    let (_, request, _) = other.accepted().await;
    assert_eq!((request.remote.to_string().as_str(), request.via_proxy), ("127.0.0.1", false));
}

#[tokio::test]
async fn one_address_gets_so_many_connections_and_others_theirs() {
    let mut ground = ground(
        "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_connections_per_address = 2\nmax_connects_per_second = 0\n",
    );
    let first = from(&ground, "2001:db8::1").await;
    let (conn, _, outbox) = ground.accepted().await;
    outbox.read();
    let _second = from(&ground, "2001:db8::2").await;
    let mut third = from(&ground, "2001:db8::3").await;
    assert_eq!(close_of(&mut third).await, (1008, "Too many connections from your address".into()));
    assert_eq!(refusals(&ground, "address-connections"), 1);
    let _other = from(&ground, "2001:db8:0:1::1").await;
    drop(first);
    assert!(matches!(ground.closed(conn).await, ClosedBy::Broken(_)));
    // The place is free as soon as the session's task is gone.
    loop {
        let mut again = from(&ground, "2001:db8::4").await;
        match tokio::time::timeout(std::time::Duration::from_millis(200), again.next()).await {
            Err(_) => break,
            Ok(closed) => assert!(matches!(closed, Some(Ok(Message::Close(_)))), "{closed:?}"),
        }
    }
}

#[tokio::test]
async fn one_address_may_connect_so_often() {
    let ground = ground("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_connects_per_second = 1\n");
    for _ in 0..10 {
        let _client = from(&ground, "198.51.100.7").await;
    }
    // Time passes: a few more may be let in.
    loop {
        let mut client = from(&ground, "198.51.100.7").await;
        let said = tokio::time::timeout(std::time::Duration::from_millis(100), client.next()).await;
        if let Ok(Some(Ok(Message::Close(Some(frame))))) = said {
            assert_eq!(u16::from(frame.code), 1008);
            assert_eq!(frame.reason.as_str(), "Too many connects from your address; wait a few seconds");
            break;
        }
    }
    assert!(refusals(&ground, "address-connects") >= 1);
    let _other = from(&ground, "198.51.100.8").await;
}

/// Pages and refused WebSockets are counted together, and apart from the WebSockets that are granted.
#[tokio::test]
async fn one_address_gets_pages_so_often() {
    let ground = ground(
        "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\nallowed_origins = [\"https://app.example.org\"]\nmax_connects_per_second = 1\n",
    );
    let page =
        async |address: &str| ground.http("GET /health", &format!("X-Forwarded-For: {address}\r\n")).await.0;
    let mut served = 0;
    let refused = loop {
        let head = page("198.51.100.7").await;
        if !head.starts_with("http/1.1 200") {
            break head;
        }
        served += 1;
        assert!(served < 1000, "no limit");
    };
    assert!(served >= 10, "{served}");
    assert!(refused.starts_with("http/1.1 429") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    assert!(refusals(&ground, "address-requests") >= 1);
    let _client = from(&ground, "198.51.100.7").await;
    let mut bad = String::new();
    // Time passes: some are still told what is wrong with them.
    while !bad.starts_with("HTTP/1.1 429") {
        let foreign = "X-Forwarded-For: 198.51.100.7\r\nOrigin: https://evil.example\r\n";
        bad = shake(&ground, "", foreign).await;
        assert!(bad.starts_with("HTTP/1.1 403") || bad.starts_with("HTTP/1.1 429"), "{bad}");
    }
    assert!(page("198.51.100.8").await.starts_with("http/1.1 200"), "another address");
}

#[tokio::test]
async fn messages_over_the_limit_are_told_and_then_close() {
    let mut ground = ground("[listen]\ntrusted_proxies = [\"127.0.0.1\"]\nmax_messages_per_second = 1\n");
    let mut client = from(&ground, "198.51.100.7").await;
    let (conn, _, outbox) = ground.accepted().await;
    outbox.read();
    let target = "b2".repeat(20);
    let offer = format!(r#"{{"type":"offer","networkName":"n","targetPeerId":"{target}","data":1}}"#);
    let mut carried = 0;
    let error: Value = loop {
        send(&mut client, offer.as_str()).await.unwrap();
        tokio::select! {
            (from, text) = ground.text() => {
                assert_eq!((from, text.as_str()), (conn, offer.as_str()));
                carried += 1;
            }
            answer = client.next() => break serde_json::from_str(&answer.unwrap().unwrap().into_text().unwrap()).unwrap(),
        }
    };
    assert!(carried >= 10, "{carried}");
    assert_eq!((&error["type"], &error["code"]), (&"error".into(), &"limit-reached".into()), "{error}");
    assert_eq!((&error["targetPeerId"], &error["networkName"]), (&target.into(), &"n".into()), "{error}");
    let (mut sink, mut stream) = client.split();
    let flood = tokio::spawn(async move {
        // Some are let through meanwhile, one a second.
        for _ in 0..2 * MAX_REFUSED {
            if futures_util::SinkExt::send(&mut sink, Message::from("x")).await.is_err() {
                return;
            }
        }
    });
    let close = loop {
        match stream.next().await.unwrap().unwrap() {
            Message::Close(frame) => break frame.unwrap(),
            other => assert!(other.is_text()),
        }
    };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "Too many messages from your address"));
    flood.await.unwrap();
    assert!(ground.edge.counters().messages_refused.get() >= u64::from(MAX_REFUSED));
}

/// As many callers as may be say nothing: a further one is served all the same.
#[tokio::test]
async fn slow_handshakes_keep_nobody_out() {
    let ground = ground("");
    let mut slow = Vec::new();
    for _ in 0..MAX_HANDSHAKES {
        let mut tcp = TcpStream::connect(ground.address).await.unwrap();
        tcp.write_all(b"GET / HT").await.unwrap();
        slow.push(tcp);
    }
    let started = std::time::Instant::now();
    let (head, _) = ground.http("GET /health", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    // The first of them had to go for it, and long before its time was over.
    let mut rest = Vec::new();
    let _ = slow[0].read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    if started.elapsed() < pigeonhubd::http::HEADER_TIMEOUT {
        assert!(refusals(&ground, "crowded-out") >= 1);
    }
}
