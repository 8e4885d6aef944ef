//! The HTTP side of the port: a few pages, and the door to the WebSockets.

mod cors;
mod door;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode, http};
use hyper_util::rt::{TokioIo, TokioTimer};
use pigeonhub_proto::control::{Answer, Command, HubInfo, Status};
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

pub use self::cors::Cors;
use self::door::Wanted;
use crate::admission::Admission;
use crate::edge::{Edge, EdgeEvent};
use crate::handshake;
use crate::listener::Handshake;
use crate::monitor;
use crate::outbox::Outbox;
use crate::process::Process;
use crate::session::{self, Session};
use crate::stream::{Pipe, linger};

/// The request line and headers together, in bytes; more is answered with 431.
const MAX_HEADERS: usize = 16 * 1024;

/// How long a far end may take for its request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How old a connection is whose next answer says that it is the last.
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// How long requests and answers that are under way may take when the hub stops.
pub(crate) const LEAVE: Duration = Duration::from_secs(1);

/// What the pages say and how WebSockets are treated.
#[derive(Debug)]
pub struct Site {
    /// The way to the driver.
    pub edge: Edge,
    /// Which web pages may read the answers.
    pub cors: Cors,
    /// Whether this hub takes part in a mesh.
    pub hub_enabled: bool,
    /// The mesh's name.
    pub namespace: String,
    /// The largest message that a session takes, in bytes.
    pub max_message_size: usize,
    /// Which pages there are.
    pub pages: Pages,
    /// The certificate; without one the port speaks plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// How long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// How old one is whose next answer says that it is the last: [`MAX_AGE`].
    pub max_age: Duration,
    /// Who may open a WebSocket.
    pub admission: Admission,
}

impl Site {
    /// Whether one more TCP connection may come from that address.
    pub fn arrives(&self, remote: IpAddr) -> bool {
        !self.admission.counts_arrivals_of(remote)
            || self.edge.addresses().arrives(remote, self.admission.rates)
    }
}

/// Which pages a port has. `/health`, `/livez`, `/readyz` and `/meshz` are on every one.
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

/// Serves one TCP connection to its end: TLS if the port speaks it, HTTP, and
/// then perhaps a session. `handshake` is over when it is one, and ends it if it is cut before.
pub fn serve(
    tcp: TcpStream,
    remote: IpAddr,
    site: Arc<Site>,
    handshake: Handshake,
) -> impl Future<Output = ()> + Send {
    // Each boxed, and this one before there is a future: a session, which may
    // last for days, keeps nothing of what was before, nor room for it.
    let open = Box::pin(open(tcp, remote, site, handshake));
    async move {
        if let Some(session) = open.await {
            session.await;
        }
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn open(tcp: TcpStream, remote: IpAddr, site: Arc<Site>, handshake: Handshake) -> Option<Running> {
    match site.tls.clone() {
        None => enter(Pipe::new(tcp), remote, site, handshake).await,
        Some(tls) => {
            let stream = door::secure(tcp, tls, &site, &handshake).await?;
            enter(Pipe::new(stream), remote, site, handshake).await
        }
    }
}

/// HTTP, up to a session that the driver knows of, if the far end wants one
/// and may have it.
async fn enter<S>(stream: Pipe<S>, remote: IpAddr, site: Arc<Site>, handshake: Handshake) -> Option<Running>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, sent_early, wanted) = pages(stream, remote, Arc::clone(&site), &handshake).await?;
    let (config, request) = (session::config(site.max_message_size), &wanted.request);
    let is_client = !(request.mesh && site.hub_enabled) && request.peer_id.is_some();
    let ws = WebSocketStream::from_partially_read(stream, sent_early, Role::Server, Some(config)).await;
    let limit = match door::enter(&site, &wanted) {
        Ok(limit) => limit,
        // It has a place among those on their way until it is gone.
        Err(too_many) => {
            let reason = too_many.to_string();
            tokio::select! {
                () = session::turn_away(ws, &reason) => {}
                () = handshake.cut() => {}
            }
            return None;
        }
    };
    drop(handshake);
    let request = wanted.request;
    let (conn, outbox) = (site.edge.next_accepted(), Arc::new(Outbox::new()));
    if !site.edge.send(EdgeEvent::Accepted { conn, request, outbox: Arc::clone(&outbox) }).await {
        // The hub stopped just now: a close in order tells the client to come again.
        outbox.close(1001, String::from("This hub is shutting down"));
    }
    let session = Session::new(conn, ws, outbox, site.edge.clone(), false);
    let session = session.with_limit(limit).with_binary_text(is_client);
    Some(Box::pin(session.run()))
}

/// Answers requests until the connection ends, or is accepted as a WebSocket:
/// then the stream, what was sent on it behind the request, and the request.
async fn pages<S>(
    stream: S,
    remote: IpAddr,
    site: Arc<Site>,
    handshake: &Handshake,
) -> Option<(S, Vec<u8>, Wanted)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let begin = Instant::now();
    let wanted = Mutex::new(None);
    // When the last request came, and whether there was one.
    let asked = (AtomicBool::new(false), Mutex::new(begin));
    let service = service_fn(|request: http::Request<Incoming>| {
        let (site, wanted) = (&site, &wanted);
        asked.0.store(true, Ordering::Relaxed);
        *asked.1.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Box::pin(async move {
            let mut response = answer(request, remote, site, wanted).await;
            if begin.elapsed() > site.max_age && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // Said in time: a load balancer that finds the connection closed has lost a request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT.max(site.keep_alive))
        .max_header_size(MAX_HEADERS)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let refusals = &site.edge.counters().refusals;
    let mut leaving = None;
    let over = loop {
        let last = *asked.1.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if asked.0.load(Ordering::Relaxed) { site.keep_alive } else { Duration::ZERO };
        // The next head may begin at the end of that.
        let until = leaving.unwrap_or(last + patience + HEADER_TIMEOUT);
        tokio::select! {
            over = timeout_at(until, poll_fn(|cx| connection.poll_without_shutdown(cx))) => match over {
                // There was another request since.
                Err(_) if *asked.1.lock().unwrap_or_else(PoisonError::into_inner) > last && leaving.is_none() => {}
                over => break over,
            },
            () = handshake.cut() => {
                refusals.crowded.one();
                return None;
            }
            () = handshake.stopping(), if leaving.is_none() => {
                // Who just came is heard; what was asked is answered; who waits for the next request is not.
                leaving = Some(Instant::now() + LEAVE);
                if asked.0.load(Ordering::Relaxed) {
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    let answered = asked.0.load(Ordering::Relaxed);
    // However it went: what was to be answered was answered.
    let slow = over.is_err() || over.is_ok_and(|over| over.is_err_and(|error| error.is_timeout()));
    if slow && !answered && leaving.is_none() {
        refusals.slow.one();
    }
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    let request = wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
    if request.is_none() && leaving.is_none() {
        linger(&mut stream, Instant::now() + session::CLOSE_WAIT).await;
    }
    Some((stream, parts.read_buf.to_vec(), request?))
}

async fn answer(
    request: http::Request<Incoming>,
    remote: IpAddr,
    site: &Site,
    wanted: &Mutex<Option<Wanted>>,
) -> Response<Body> {
    let (parts, _) = request.into_parts();
    site.edge.counters().requests.one();
    let upgrade = (handshake::wanted(&parts.headers) && site.pages != Pages::Monitoring)
        .then(|| door::upgrade(&parts, remote, site, wanted));
    let mut response = match upgrade {
        // It counts among the connects.
        Some(granted) if granted.status() == StatusCode::SWITCHING_PROTOCOLS => granted,
        _ if !door::may_ask(&parts.headers, remote, site) => door::too_often(),
        Some(refused) => refused,
        None => match parts.method {
            Method::OPTIONS => Response::default(),
            // Some health checks post. What they say is not read.
            Method::GET | Method::HEAD | Method::POST => page(parts.uri.path(), &parts.headers, site).await,
            _ => {
                let mut refused =
                    text(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, POST and OPTIONS are answered here");
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
                refused
            }
        },
    };
    // The figures are for collectors, which ask for no page's leave; a page in a browser of this machine is to
    // read none.
    if parts.uri.path() != "/metrics" {
        site.cors.tell(&parts.headers, response.headers_mut());
    }
    response
}

async fn page(path: &str, headers: &HeaderMap, site: &Site) -> Response<Body> {
    let answer = match path {
        "/metrics" => return monitor::metrics(headers, site).await,
        "/livez" => return monitor::alive(site),
        "/readyz" => return monitor::ready(site).await,
        "/meshz" => return monitor::mesh(site).await,
        "/health" => site.edge.ask(Command::Status).await,
        "/hubs" => site.edge.ask(Command::Hubs).await,
        _ => {
            let version = env!("CARGO_PKG_VERSION");
            // Some health checks look for the JavaScript hub's words.
            let name = format!("PeerPigeon WebSocket Signaling Server (pigeonhubd {version})\n");
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
        // In the JavaScript hub's word as long as it serves. Tools read the body, whatever the HTTP status.
        "status": if status.serves() { "healthy" } else { "draining" },
        "timestamp": timestamp(),
        "uptime": status.uptime,
        "isHub": site.hub_enabled,
        "connections": status.connections,
        "peers": status.local_peers,
        // With this one, as in /hubs.
        "hubs": status.known_hubs + usize::from(site.hub_enabled),
        "networks": status.networks,
        "memory": memory(&Process::now()),
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

/// As node names them, so that the JavaScript version's tools show them. Here the heap is what this
/// process made itself, its stacks with it, and nothing is outside of it.
fn memory(process: &Process) -> serde_json::Value {
    json!({
        "rss": process.resident_bytes,
        "heapTotal": process.anonymous_bytes,
        "heapUsed": process.anonymous_bytes,
        "external": 0,
        "arrayBuffers": 0,
    })
}

/// This hub and the others within reach, in the form that clients of the JavaScript hub know.
fn hub_list(hubs: &[HubInfo], site: &Site) -> serde_json::Value {
    let listed = hubs.iter().filter(|hub| hub.reachable && site.hub_enabled);
    let hubs: Vec<_> = listed
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
