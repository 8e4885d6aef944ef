//! The HTTP side of the port: a few pages, and the door to the WebSockets.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_VERSION,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use pigeonhub_proto::control::{Answer, Command, HubInfo, Status};
use pigeonhub_proto::io::Request;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::edge::{Edge, EdgeEvent};
use crate::handshake;
use crate::monitor;
use crate::outbox::Outbox;
use crate::process::Process;
use crate::session::{self, Session};
use crate::stream::{Counted, linger};

/// The request line and headers together, in bytes; more is answered with 431.
const MAX_HEADERS: usize = 16 * 1024;

/// How long a far end may take for its request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may stay plain HTTP, all its requests together.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// What the pages say and how WebSockets are treated.
#[derive(Debug)]
pub struct Site {
    /// The way to the driver.
    pub edge: Edge,
    /// The value of `Access-Control-Allow-Origin`.
    pub cors_origin: HeaderValue,
    /// Whether this hub takes part in a mesh.
    pub hub_enabled: bool,
    /// The mesh's name.
    pub namespace: String,
    /// The largest message that a session takes, in bytes.
    pub max_message_size: usize,
    /// Which pages there are.
    pub pages: Pages,
}

/// Which pages a port has. `/health`, `/livez` and `/readyz` are on every one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// The port for clients and hubs, without the figures for monitoring.
    #[default]
    Public,
    /// The same with `/metrics`.
    PublicWithMetrics,
    /// The port for monitoring: no WebSockets.
    Monitoring,
}

pub(crate) type Body = Full<Bytes>;

/// Serves one TCP connection to its end: HTTP, and then perhaps a session.
/// `upgraded` is dropped when it is no longer plain HTTP.
pub async fn serve(tcp: TcpStream, remote: IpAddr, site: Arc<Site>, upgraded: impl Send) {
    // Boxed, so that a session, which may last for days, does not keep HTTP's buffers.
    let Some((tcp, sent_early, request)) = Box::pin(pages(tcp, remote, Arc::clone(&site))).await else {
        return;
    };
    drop(upgraded);
    let (edge, max_message_size) = (site.edge.clone(), site.max_message_size);
    drop(site);
    let (conn, outbox) = (edge.next_accepted(), Arc::new(Outbox::new()));
    let config = Some(session::config(max_message_size));
    let stream = Counted::new(tcp);
    let ws = WebSocketStream::from_partially_read(stream, sent_early, Role::Server, config).await;
    if !edge.send(EdgeEvent::Accepted { conn, request, outbox: Arc::clone(&outbox) }).await {
        // The hub stopped just now: a close in order tells the client to come again.
        outbox.close(1001, String::from("This hub is shutting down"));
    }
    Session::new(conn, ws, outbox, edge, false).run().await;
}

/// Answers requests until the connection ends, or is accepted as a WebSocket:
/// then the socket, what was sent on it behind the request, and the request.
async fn pages(tcp: TcpStream, remote: IpAddr, site: Arc<Site>) -> Option<(TcpStream, Vec<u8>, Request)> {
    let wanted = Mutex::new(None);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (site, wanted) = (&site, &wanted);
        Box::pin(async move { Ok::<_, Infallible>(answer(request, remote, site, wanted).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADERS)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(tcp), service);
    let over = poll_fn(|cx| connection.poll_without_shutdown(cx));
    // However it went: what was to be answered was answered.
    let _ = timeout(HTTP_TIMEOUT, over).await;
    let parts = connection.into_parts();
    let mut tcp = parts.io.into_inner();
    let request = wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
    if request.is_none() {
        linger(&mut tcp, Instant::now() + session::CLOSE_WAIT).await;
    }
    Some((tcp, parts.read_buf.to_vec(), request?))
}

async fn answer(
    request: http::Request<Incoming>,
    remote: IpAddr,
    site: &Site,
    wanted: &Mutex<Option<Request>>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    site.edge.counters().requests.one();
    let mut response = if handshake::wanted(&parts.headers) && site.pages != Pages::Monitoring {
        upgrade(&parts, remote, wanted)
    } else {
        match parts.method {
            Method::OPTIONS => Response::default(),
            Method::GET | Method::HEAD => page(parts.uri.path(), &parts.headers, site).await,
            _ => {
                let mut refused =
                    text(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD and OPTIONS are answered here");
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
                refused
            }
        }
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, site.cors_origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, Authorization"));
    response
}

fn upgrade(parts: &http::request::Parts, remote: IpAddr, wanted: &Mutex<Option<Request>>) -> Response<Body> {
    match handshake::accept(parts) {
        Ok(headers) => {
            let request = handshake::request(parts, remote);
            *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
            let mut response = Response::default();
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().extend(headers);
            response
        }
        Err(refusal) => {
            let mut response = text(refusal.status(), &refusal.to_string());
            if refusal.status() == StatusCode::UPGRADE_REQUIRED {
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            response
        }
    }
}

async fn page(path: &str, headers: &HeaderMap, site: &Site) -> Response<Body> {
    let answer = match path {
        "/metrics" => return monitor::metrics(headers, site).await,
        "/livez" => return monitor::alive(site).await,
        "/readyz" => return monitor::ready(site).await,
        "/health" => site.edge.ask(Command::Status).await,
        "/hubs" => site.edge.ask(Command::Hubs).await,
        _ => {
            let version = env!("CARGO_PKG_VERSION");
            let name = format!("PigeonHub WebSocket signaling server (pigeonhubd {version})\n");
            return text(StatusCode::OK, &name);
        }
    };
    match answer {
        Ok(Answer::Status(status)) => json(&health(&status, site)),
        Ok(Answer::Hubs(hubs)) => json(&hub_list(&hubs, site)),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        // The driver answers what it was asked.
        Ok(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the hub gave another answer than it was asked for"),
    }
}

fn health(status: &Status, site: &Site) -> serde_json::Value {
    json!({
        "status": "healthy",
        "timestamp": timestamp(),
        "uptime": status.uptime,
        "isHub": site.hub_enabled,
        "connections": status.connections,
        "peers": status.local_peers,
        "hubs": status.known_hubs,
        "networks": status.networks,
        "memory": { "rss": Process::now().resident_bytes },
        "mesh": {
            "hubId": status.hub_id,
            "namespace": site.namespace,
            "state": status.state,
            "reason": status.reason,
            "ready": status.ready,
            "migrated": status.migrated,
            "p2pLinks": status.p2p_links,
            "wsLinks": status.ws_links,
            "knownHubs": status.known_hubs,
            "remotePeers": status.remote_peers,
        },
        "version": status.version,
    })
}

/// The other hubs within reach, in the form that clients of the JavaScript hub know.
fn hub_list(hubs: &[HubInfo], site: &Site) -> serde_json::Value {
    let others = hubs.iter().filter(|hub| !hub.own && hub.reachable);
    let hubs: Vec<_> = others
        .map(|hub| {
            json!({
                "peerId": hub.hub_id,
                "registeredAt": hub.registered_at,
                "connectedAt": hub.registered_at,
                "lastActivity": hub.last_activity,
                "networkName": site.namespace,
                "data": {
                    "isHub": true,
                    "urls": hub.urls,
                    "link": hub.link,
                    "distance": hub.distance,
                    "ready": hub.ready,
                    "draining": hub.draining,
                },
            })
        })
        .collect();
    json!({ "timestamp": timestamp(), "totalHubs": hubs.len(), "hubs": hubs })
}

fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response<Body> {
    content(status, "text/plain; charset=utf-8", body.to_owned())
}

fn json(body: &serde_json::Value) -> Response<Body> {
    let mut response = content(StatusCode::OK, "application/json", body.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn content(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
