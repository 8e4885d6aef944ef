//! WebSockets that this hub opens, to other hubs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use pigeonhub_proto::io::{ClosedBy, ConnId};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_with_config};

use crate::direct::Sessions;
use crate::edge::{Edge, EdgeEvent, Room};
use crate::outbox::Outbox;
use crate::session::{self, Session};
use crate::stream::Pipe;
use crate::tally::EdgeCounters;
use crate::tls::client_with;

/// Dials at once; further ones wait.
pub const MAX_DIALS: usize = 64;

/// How long a dial may take, name, TCP, TLS and WebSocket together.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a dial failed, in words for a person.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not a `ws:` or `wss:` URL with a host.
    #[error("not a URL that can be dialled: {0}")]
    Url(String),
    /// The name has no address.
    #[error("no such host: {host}")]
    NoHost {
        /// The name.
        host: String,
    },
    /// TCP did not open.
    #[error("{0}")]
    Connect(String),
    /// It answers, but not with a WebSocket.
    #[error("HTTP {status} instead of a WebSocket")]
    Http {
        /// The status.
        status: u16,
    },
    /// It answers, but not in HTTP or not in WebSocket.
    #[error("no WebSocket there: {0}")]
    Handshake(String),
    /// TLS did not open, or the certificates of this machine cannot be read.
    #[error("TLS: {0}")]
    Tls(String),
    /// A panic.
    #[error("a fault in this hub")]
    Fault,
    /// It took too long.
    #[error("no answer within {} s", DIAL_TIMEOUT.as_secs())]
    TimedOut,
}

type Stream = WebSocketStream<Pipe<MaybeTlsStream<TcpStream>>>;

/// Opens WebSockets. Cheap to clone.
#[derive(Clone)]
pub struct Dialler {
    edge: Edge,
    max_message_size: usize,
    places: Arc<Semaphore>,
    // As configured.
    roots: Option<Arc<ClientConfig>>,
    // Else the system's, read from disk when the first `wss:` URL is dialled.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl Dialler {
    /// A dialler whose sessions take messages up to `max_message_size` bytes.
    pub fn new(edge: Edge, max_message_size: usize) -> Self {
        let places = Arc::new(Semaphore::new(MAX_DIALS));
        Self { edge, max_message_size, places, roots: None, tls: Arc::default() }
    }

    /// Sessions from now on take messages up to that many bytes.
    pub fn set_max_message_size(&mut self, bytes: usize) {
        self.max_message_size = bytes;
    }

    /// Other hubs are checked with these roots from now on; with none, with the system's.
    pub fn set_roots(&mut self, roots: Option<Arc<ClientConfig>>) {
        self.roots = roots;
    }

    /// Which sessions signals may go straight to.
    pub fn sessions(&self) -> &Arc<Sessions> {
        self.edge.sessions()
    }

    /// What the edge counts.
    pub fn counters(&self) -> &Arc<EdgeCounters> {
        self.edge.counters()
    }

    /// Opens a WebSocket and runs its session to the end. A close that is put
    /// into the outbox meanwhile ends the dial.
    pub async fn run(self, conn: ConnId, url: String, outbox: Arc<Outbox>) {
        let opened = {
            let open = std::pin::pin!(AssertUnwindSafe(self.open(&url)).catch_unwind());
            let closing = std::future::poll_fn(|cx| outbox.poll_closing(cx));
            match select(open, closing).await {
                Either::Left((opened, _)) => opened,
                Either::Right(_) => {
                    self.edge
                        .send(EdgeEvent::Closed { conn, reason: ClosedBy::Local, room: Room::default() })
                        .await;
                    return;
                }
            }
        };
        // A panic ends this dial alone.
        match opened.unwrap_or(Err(DialError::Fault)) {
            Ok((ws, remote)) => {
                if self.edge.send(EdgeEvent::Dialled { conn, remote }).await {
                    Session::new(conn, ws, outbox, self.edge.clone(), true).run().await;
                }
            }
            Err(error) => {
                self.edge.send(EdgeEvent::DialFailed { conn, error: error.to_string() }).await;
            }
        }
    }

    async fn open(&self, url: &str) -> Result<(Stream, Option<IpAddr>), DialError> {
        let _place = self.places.acquire().await;
        timeout(DIAL_TIMEOUT, self.connect(url)).await.unwrap_or(Err(DialError::TimedOut))
    }

    async fn connect(&self, url: &str) -> Result<(Stream, Option<IpAddr>), DialError> {
        let request = url.into_client_request().map_err(|error| DialError::Url(error.to_string()))?;
        let secure = match request.uri().scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(DialError::Url(String::from("it starts with neither ws:// nor wss://"))),
        };
        let tcp = connect_tcp(&request, secure).await?;
        let remote = tcp.peer_addr().ok().map(|remote| remote.ip().to_canonical());
        let stream = if secure { self.secure(&request, tcp).await? } else { MaybeTlsStream::Plain(tcp) };
        let config = Some(session::config(self.max_message_size));
        client_async_with_config(request, Pipe::new(stream), config)
            .await
            .map(|(ws, _)| (ws, remote))
            .map_err(|error| match error {
                WsError::Http(response) => DialError::Http { status: response.status().as_u16() },
                WsError::Tls(error) => DialError::Tls(error.to_string()),
                WsError::Io(error) => DialError::Handshake(words(&error)),
                error => DialError::Handshake(error.to_string()),
            })
    }

    /// Opens TLS with the host that the request is for.
    async fn secure(
        &self,
        request: &Request,
        tcp: TcpStream,
    ) -> Result<MaybeTlsStream<TcpStream>, DialError> {
        let config = self.tls().await?;
        let name = ServerName::try_from(bare_host(request)?.to_owned())
            .map_err(|error| DialError::Tls(error.to_string()))?;
        let stream = TlsConnector::from(config).connect(name, tcp).await;
        stream.map(MaybeTlsStream::Rustls).map_err(|error| DialError::Tls(words(&error)))
    }

    /// TLS with the certificates that this machine trusts.
    async fn tls(&self) -> Result<Arc<ClientConfig>, DialError> {
        if let Some(roots) = &self.roots {
            return Ok(Arc::clone(roots));
        }
        self.tls
            .get_or_try_init(|| async {
                tokio::task::spawn_blocking(client_config)
                    .await
                    .unwrap_or_else(|error| Err(DialError::Tls(error.to_string())))
            })
            .await
            .cloned()
    }
}

/// The host of a request, an IPv6 address without brackets.
fn bare_host(request: &Request) -> Result<&str, DialError> {
    let host = request.uri().host().ok_or_else(|| DialError::Url(String::from("it names no host")))?;
    Ok(host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host))
}

async fn connect_tcp(request: &Request, secure: bool) -> Result<TcpStream, DialError> {
    let bare = bare_host(request)?;
    let port = request.uri().port_u16().unwrap_or(if secure { 443 } else { 80 });
    let no_host = || DialError::NoHost { host: bare.to_owned() };
    let addresses = lookup_host((bare, port)).await.map_err(|_| no_host())?;
    let tcp = first_of(in_turn(addresses), TcpStream::connect).await.map_err(|error| match error {
        Some(error) => DialError::Connect(words(&error)),
        None => no_host(),
    })?;
    // Without it signals wait for the acknowledgement of the ones before.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// How long one address is tried before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses of a name that are tried at most.
const MOST_ADDRESSES: usize = 16;

/// IPv6 and IPv4 in turn, each in the system's order, whose first is the first (RFC 8305, section 4).
fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.collect();
    let first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.is_ipv6() == first);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let pairs = std::iter::repeat_with(|| [ours.next(), others.next()]);
    let some = pairs.take_while(|pair| pair.iter().any(Option::is_some));
    some.flatten().flatten().take(MOST_ADDRESSES).collect()
}

/// The first that opens. Each is tried when the one before has failed or had its [`HEAD_START`]; what is
/// still under way then is given up. Else the last error, if there was an address.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    open: impl Fn(SocketAddr) -> F,
) -> Result<T, Option<io::Error>> {
    let (mut left, mut under_way, mut last) = (addresses.into_iter(), FuturesUnordered::new(), None);
    loop {
        let next = left.next();
        under_way.extend(next.map(&open));
        let patience = if left.len() > 0 { HEAD_START } else { DIAL_TIMEOUT };
        match timeout(patience, under_way.next()).await {
            Ok(Some(Ok(opened))) => return Ok(opened),
            Ok(Some(Err(error))) => last = Some(error),
            Ok(None) => return Err(last),
            Err(_) => {}
        }
    }
}

/// A system error as a person says it.
fn words(error: &io::Error) -> String {
    let known = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::TimedOut => "connection timed out",
        io::ErrorKind::UnexpectedEof => "connection closed before the handshake was over",
        _ => return error.to_string(),
    };
    String::from(known)
}

fn client_config() -> Result<Arc<ClientConfig>, DialError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let none = "this machine trusts no certificate authority; install the package ca-certificates, or set tls.ca";
        return Err(DialError::Tls(String::from(none)));
    }
    client_with(roots).map_err(|error| DialError::Tls(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_are_tried_in_turn() {
        let of = |all: &[&str]| in_turn(all.iter().map(|text| at(text)));
        assert!(of(&[]).is_empty());
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1"];
        assert_eq!(of(&all), ["[::1]:1", "1.0.0.1:1", "[::2]:1", "[::3]:1"].map(at));
        let all = ["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"];
        assert_eq!(of(&all), ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"].map(at));
        let many: Vec<SocketAddr> = (0..99).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        assert_eq!(in_turn(many.into_iter()).len(), MOST_ADDRESSES);
    }

    /// Port 1 is a black hole, port 2 refuses at once, port 3 opens after a while; the others at once.
    async fn open(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            1 => std::future::pending().await,
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            3 => {
                sleep(Duration::from_millis(400)).await;
                Ok(3)
            }
            port => Ok(port),
        }
    }

    #[tokio::test]
    async fn a_dead_address_delays_the_next_for_a_quarter_of_a_second() {
        for (ports, opened, millis) in [
            (&[5][..], Some(5), 0),
            (&[1, 5], Some(5), 250),
            (&[1, 1, 1, 5], Some(5), 750),
            (&[2, 5], Some(5), 0),
            (&[3, 1, 1], Some(3), 400),
            (&[1, 3], Some(3), 650),
            (&[2, 2], None, 0),
        ] {
            let begin = Instant::now();
            let all = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
            let tried = Mutex::new(0);
            let found = first_of(all, |address| {
                *tried.lock().expect("no panic") += 1;
                open(address)
            });
            let found = found.await;
            assert_eq!(found.as_ref().ok().copied(), opened, "{ports:?}");
            let took = begin.elapsed();
            // A busy machine takes longer, but a black hole would take DIAL_TIMEOUT.
            let fits = took >= Duration::from_millis(millis) && took < DIAL_TIMEOUT / 2;
            assert!(fits, "{ports:?}: {took:?}");
            assert!(*tried.lock().expect("no panic") <= ports.len());
        }
        assert!(first_of(Vec::new(), open).await.expect_err("no address").is_none());
    }
}
