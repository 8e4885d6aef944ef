//! Pages, headers, and handshakes that are refused.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use pigeonhub_proto::control::MeshState;
use pigeonhubd::http::{Cors, HEADER_TIMEOUT, Pages};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ground::{Ground, HANDSHAKE};

#[tokio::test]
async fn health_is_json_for_everyone() {
    let ground = Ground::new();
    let (head, body) = ground.http("GET /health", "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["isHub"], true);
    for (key, value) in [("uptime", 8), ("connections", 7), ("peers", 4), ("hubs", 4), ("networks", 6)] {
        assert_eq!(health[key], value, "{key}");
    }
    let memory = |key: &str| health["memory"][key].as_u64().unwrap();
    assert!(memory("rss") > memory("heapUsed") && memory("heapUsed") > 10_000, "{health}");
    assert_eq!(memory("heapTotal"), memory("heapUsed"));
    assert_eq!((memory("external"), memory("arrayBuffers")), (0, 0), "of JavaScript there is nothing");
    let timestamp = health["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z') && timestamp.contains('T'), "{timestamp}");
    let mesh = &health["mesh"];
    assert_eq!((&mesh["state"], &mesh["p2pLinks"]), (&Value::from("ready"), &Value::from(2)));
    assert_eq!(mesh["hubId"], "01".repeat(20));
}

#[tokio::test]
async fn hubs_are_this_one_and_the_others() {
    let ground = Ground::new();
    let (_, body) = ground.http("GET /hubs?now", "").await;
    let hubs: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(hubs["totalHubs"], 2);
    assert_eq!(hubs["hubs"][0]["peerId"], "01".repeat(20));
    let hub = &hubs["hubs"][1];
    assert_eq!(hub["peerId"], "02".repeat(20));
    assert_eq!(hub["networkName"], "test-mesh");
    assert_eq!((&hub["registeredAt"], &hub["lastActivity"]), (&11.into(), &12.into()));
    assert_eq!(hub["connectedAt"], 11);
    assert_eq!(hub["data"]["isHub"], true);

    let ground = Ground::with(|site| site.hub_enabled = false, 10);
    let (_, body) = ground.http("GET /hubs", "").await;
    assert!(body.contains("\"totalHubs\":0") && body.contains("\"hubs\":[]"), "no hub: {body}");
    let (_, body) = ground.http("GET /health", "").await;
    assert!(body.contains("\"hubs\":3,"), "{body}");
}

#[tokio::test]
async fn any_other_path_names_the_server() {
    let ground = Ground::new();
    for path in ["/", "/favicon.ico", "/health/", "/%2e%2e/%00?x=%ff"] {
        let (head, body) = ground.http(&format!("GET {path}"), "").await;
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain"), "{head}");
        assert!(body.starts_with("PeerPigeon WebSocket Signaling Server (pigeonhubd "), "{body}");
    }
}

#[tokio::test]
async fn it_is_alive_and_ready_and_says_so() {
    let ground = Ground::new();
    let (head, body) = ground.http("GET /livez", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(body, "alive\n");
    let (head, body) = ground.http("GET /readyz", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(body, "ready: this hub takes clients; /meshz tells how its mesh is\n");
    let (head, body) = ground.http("GET /meshz", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(body, "ready: two links\n");
}

/// What a page says of a hub in that state: its status and its body.
async fn told(state: MeshState, rejected: Option<&str>, page: &str) -> (u16, String) {
    let rejected = rejected.map(str::to_owned);
    let ground = Ground::telling(
        |_| {},
        10,
        move |status| {
            (status.state, status.ready) = (state, state == MeshState::Ready);
            status.rejected.clone_from(&rejected);
        },
    );
    let (head, body) = ground.http(&format!("GET {page}"), "").await;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status"), body)
}

#[tokio::test]
async fn what_is_wrong_with_the_mesh_takes_no_hub_from_its_clients() {
    for state in MeshState::ALL.into_iter().filter(|state| *state != MeshState::Draining) {
        assert_eq!(told(state, None, "/readyz").await.0, 200, "{state:?}");
        let (code, body) = told(state, None, "/meshz").await;
        assert_eq!(
            (code, body),
            (if state == MeshState::Ready { 200 } else { 503 }, format!("{}: two links\n", state.name()))
        );
        assert!(told(state, None, "/health").await.1.contains("\"status\":\"healthy\""), "{state:?}");
    }
    let rejected = Some("ws://b: the mesh keys differ");
    assert_eq!(told(MeshState::Ready, rejected, "/readyz").await.0, 200);
    let (code, body) = told(MeshState::Ready, rejected, "/meshz").await;
    assert_eq!((code, body.as_str()), (503, "alone, and not joined with ws://b: the mesh keys differ\n"));
}

#[tokio::test]
async fn a_hub_that_leaves_is_neither_ready_nor_healthy() {
    let (code, body) = told(MeshState::Draining, None, "/readyz").await;
    assert!(code == 503 && body.starts_with("draining: "), "{code} {body}");
    assert_eq!(told(MeshState::Draining, None, "/meshz").await, (503, String::from("draining: two links\n")));
    // Those who read it read the body: the published command line takes an answer for a hub's if it is JSON.
    let (code, body) = told(MeshState::Draining, None, "/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &health["status"]), (200, &Value::from("draining")));
}

#[tokio::test]
async fn metrics_are_for_those_who_may_see_them_in_the_format_that_they_accept() {
    let ground = Ground::new();
    let (head, body) = ground.http("GET /metrics", "").await;
    assert!(head.starts_with("http/1.1 404") && body.contains("metrics.public"), "{head}\n{body}");

    let ground = Ground::with(|site| site.pages = Pages::PublicWithMetrics, 10);
    for (accept, kind, total) in [
        ("", "text/plain; version=0.0.4; charset=utf-8", "# TYPE a_total counter"),
        (
            "Accept: text/plain, */*;q=0.1\r\n",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE a_total counter",
        ),
        (
            "Accept: text/plain;q=0.3, Application/OpenMetrics-Text;version=1.0.0;q=0.7\r\n",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE a counter",
        ),
    ] {
        let (head, body) = ground.http("GET /metrics", accept).await;
        assert!(
            head.starts_with("http/1.1 200") && head.contains(&format!("content-type: {kind}\r")),
            "{head}"
        );
        assert!(body.lines().any(|line| line == total) && body.ends_with("# EOF\n"), "{body}");
    }
}

#[tokio::test]
async fn the_port_for_monitoring_takes_no_websocket() {
    let ground = Ground::with(|site| site.pages = Pages::Monitoring, 10);
    let answer =
        ground.raw(HANDSHAKE.replace("Connection: Upgrade", "Connection: Upgrade, close").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("pigeonhubd"), "{answer}");
}

#[tokio::test]
async fn other_methods_get_their_answer() {
    let ground = Ground::with(|site| site.cors = Cors::new("https://app.example"), 10);
    let origin = "access-control-allow-origin: https://app.example";
    let (head, body) = ground.http("OPTIONS /anything", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains(origin), "{head}");
    assert!(head.contains("access-control-allow-methods: get, head, post, options"), "{head}");
    assert!(head.contains("access-control-allow-headers: content-type"), "{head}");
    assert_eq!(body, "");

    let (head, body) = ground.http("HEAD /health", "").await;
    assert!(head.starts_with("http/1.1 200") && head.contains(origin), "{head}");
    assert!(!head.contains("content-length: 0") && body.is_empty(), "{head}");

    let (head, body) = ground.http("POST /health", "Content-Length: 0\r\n").await;
    assert!(head.starts_with("http/1.1 200") && body.contains("healthy"), "{head}");
    // What is sent with it may be anything, and even unfinished.
    let (head, body) = ground.http("POST /health", "Content-Length: 5000000\r\n").await;
    assert!(head.starts_with("http/1.1 200") && body.contains("healthy"), "{head}");

    for method in ["PUT", "DELETE", "BREW"] {
        let (head, _) = ground.http(&format!("{method} /health"), "Content-Length: 0\r\n").await;
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get"), "{head}");
        assert!(head.contains(origin), "{head}");
    }
}

#[tokio::test]
async fn each_listed_page_is_told_its_own_origin() {
    let ground =
        Ground::with(|site| site.cors = Cors::new("https://a.example, HTTPS://B.example:443,null"), 10);
    for (origin, told) in [
        ("https://a.example", true),
        ("https://b.example", true),
        ("null", true),
        ("https://a.example.evil", false),
        ("https://a.example, https://b.example", false),
    ] {
        for request in ["GET /health", "OPTIONS /health", "PUT /"] {
            let (head, _) = ground.http(request, &format!("Origin: {origin}\r\n")).await;
            let header = format!("access-control-allow-origin: {origin}\r\n");
            assert_eq!(head.contains(&header), told, "{origin}: {head}");
            assert_eq!(head.contains("access-control-allow-origin"), told, "{origin}: {head}");
            assert!(head.contains("vary: origin"), "{head}");
        }
    }
    let (head, _) = ground.http("GET /health", "").await;
    assert!(!head.contains("access-control-allow-origin"), "no page: {head}");
}

#[tokio::test]
async fn a_hub_that_does_not_answer_is_a_503() {
    let mut ground = Ground::new();
    ground.stop_answering().await;
    for path in ["/health", "/hubs", "/livez", "/readyz", "/meshz"] {
        let (head, body) = ground.http(&format!("GET {path}"), "").await;
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(body.contains("shutting down"), "{body}");
    }
}

/// Asks for a page on a connection that stays open; the head of the answer.
async fn ask(tcp: &mut TcpStream) -> String {
    tcp.write_all(b"GET /livez HTTP/1.1\r\nHost: hub\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"alive\n") {
        assert_ne!(tcp.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).to_lowercase()
}

#[tokio::test]
async fn a_stop_waits_for_nobody_who_asks_nothing() {
    let mut ground = Ground::new();
    let [mut silent, mut idle, mut halfway] =
        [0; 3].map(|_| std::net::TcpStream::connect(ground.address).unwrap()).map(|tcp| {
            tcp.set_nonblocking(true).unwrap();
            TcpStream::from_std(tcp).unwrap()
        });
    ask(&mut idle).await;
    halfway.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
    let began = Instant::now();
    ground.stop().await;
    // What of half a request was not read is answered by a reset.
    assert!(halfway.read_u8().await.is_err());
    for tcp in [&mut silent, &mut idle] {
        assert_eq!(tcp.read_u8().await.map_err(|error| error.kind()).err(), Some(ErrorKind::UnexpectedEof));
    }
    assert!(began.elapsed() < HEADER_TIMEOUT / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_waits_for_its_next_request_as_long_as_load_balancers_keep_it() {
    let ground = Ground::new();
    let mut pooled = TcpStream::connect(ground.address).await.unwrap();
    assert!(!ask(&mut pooled).await.contains("connection: close"));
    tokio::time::sleep(HEADER_TIMEOUT + Duration::from_secs(1)).await;
    assert!(!ask(&mut pooled).await.contains("connection: close"));
}

#[tokio::test]
async fn the_last_answer_of_an_old_connection_says_so() {
    let ground = Ground::with(|site| site.max_age = Duration::ZERO, 2000);
    let mut pooled = TcpStream::connect(ground.address).await.unwrap();
    assert!(ask(&mut pooled).await.contains("connection: close"));
    assert_eq!(pooled.read_u8().await.map_err(|error| error.kind()).err(), Some(ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn too_large_a_head_is_refused() {
    let ground = Ground::new();
    let (head, _) = ground.http("GET /", &format!("X-Large: {}\r\n", "x".repeat(15 * 1024))).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, _) = ground.http("GET /", &format!("X-Large: {}\r\n", "x".repeat(17 * 1024))).await;
    assert!(head.starts_with("http/1.1 431"), "{head}");
    let (head, _) = ground.http("GET /", &"X-Many: x\r\n".repeat(200)).await;
    assert!(head.starts_with("http/1.1 431"), "{head}");
    assert!(ground.raw(b"\x16\x03\x01 this is TLS, not HTTP\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_bad_handshake_is_told_what_is_wrong() {
    let mut ground = Ground::new();
    let good: Vec<&str> = HANDSHAKE.trim_end().lines().collect();
    let table = [
        ("Sec-WebSocket-Key", "", "400", "`Sec-WebSocket-Key`"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: short", "400", "16 bytes in base64"),
        ("Sec-WebSocket-Version", "", "426", "version 13"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", "426", "version 13"),
        ("Connection", "Connection: close", "400", "`Connection: Upgrade`"),
        ("Host", "Sec-WebSocket-Protocol: a,,b", "400", "`Sec-WebSocket-Protocol`"),
        ("GET", "POST /?peerId=me HTTP/1.1", "405", "a GET request"),
        ("GET", "GET /?peerId=me HTTP/1.0", "400", "HTTP/1.1"),
    ];
    for (remove, add, status, told) in table {
        let changed = good.iter().map(|line| if line.starts_with(remove) { add } else { line });
        let lines: Vec<_> = changed.filter(|line| !line.is_empty()).collect();
        // A second request behind it, which ends the connection.
        let end = "GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n";
        let answer = ground.raw(format!("{}\r\n\r\n{end}", lines.join("\r\n")).as_bytes()).await;
        let (version, rest) = answer.split_at(9);
        assert!(version.starts_with("HTTP/1.") && rest.starts_with(status), "{add}: {answer}");
        assert!(answer.contains(told), "{add}: {answer}");
        assert_eq!(status == "426", answer.to_lowercase().contains("sec-websocket-version: 13"), "{answer}");
    }
    assert!(ground.events.try_recv().is_err(), "the driver heard of none of them");
    ground.connect().await;
}

#[tokio::test]
async fn an_upgrade_to_something_else_is_a_page() {
    let ground = Ground::new();
    let (head, body) = ground.http("GET /", "Upgrade: h2c\r\n").await;
    assert!(head.starts_with("http/1.1 200") && body.contains("pigeonhubd"), "{head}");
}
