//! The way from TCP to a WebSocket: TLS, who may come in, and how many.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode, http};
use pigeonhub_proto::io::Request;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Body, HEADER_TIMEOUT, LEAVE, Site, text};
use crate::admission::{Caller, Denied};
use crate::handshake;
use crate::listener::Handshake;
use crate::per_address::TooMany;
use crate::session::{self, Limit};
use crate::stream::linger;
use crate::tickets::Granted;

/// The first byte of TLS: a record of its handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 45\r\n\r\nthis port speaks TLS: use wss:// or https://\n";

/// Opens TLS within [`HEADER_TIMEOUT`]. Who speaks plain HTTP is told so.
pub(super) async fn secure(
    tcp: TcpStream,
    tls: Arc<ServerConfig>,
    site: &Site,
    handshake: &Handshake,
) -> Option<TlsStream<TcpStream>> {
    let refusals = &site.edge.counters().refusals;
    let opened = tokio::select! {
        opened = timeout(HEADER_TIMEOUT, open(tcp, tls)) => opened,
        () = handshake.cut() => {
            refusals.crowded.one();
            return None;
        }
        () = async {
            handshake.stopping().await;
            sleep(LEAVE).await;
        } => return None,
    };
    match opened {
        Err(_) => refusals.slow.one(),
        Ok(Ok(Opened::Tls(stream))) => return Some(*stream),
        Ok(Ok(Opened::Plain(mut tcp))) => {
            refusals.plain_http.one();
            if matches!(timeout(session::CLOSE_WAIT, tcp.write_all(PLAIN_HTTP)).await, Ok(Ok(()))) {
                linger(&mut tcp, Instant::now() + session::CLOSE_WAIT).await;
            }
        }
        // Whoever looks whether the port is open hangs up at once.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Err(error)) => {
            refusals.tls.one();
            tracing::debug!("a TLS handshake failed: {error}");
        }
    }
    None
}

enum Opened {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

async fn open(tcp: TcpStream, tls: Arc<ServerConfig>) -> io::Result<Opened> {
    let mut first = [0; 1];
    if tcp.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [TLS_HANDSHAKE] {
        return Ok(Opened::Plain(tcp));
    }
    let stream = TlsAcceptor::from(tls).accept(tcp).await?;
    Ok(Opened::Tls(Box::new(stream)))
}

/// Answers a request for a WebSocket; one that is granted is put into `wanted`.
pub(super) fn upgrade(
    parts: &http::request::Parts,
    remote: IpAddr,
    site: &Site,
    wanted: &Mutex<Option<Wanted>>,
) -> Response<Body> {
    let refusals = &site.edge.counters().refusals;
    let headers = match handshake::accept(parts) {
        Ok(headers) => headers,
        Err(refusal) => {
            refusals.handshake.one();
            let mut response = text(refusal.status(), &refusal.to_string());
            if refusal.status() == StatusCode::UPGRADE_REQUIRED {
                response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            return response;
        }
    };
    let caller = site.admission.caller(&parts.headers, remote);
    let mut request = handshake::request(parts, caller);
    let proves_key = request.mesh && site.hub_enabled;
    let (query, peer) = (parts.uri.query(), request.peer_id.as_deref());
    let checked = site.admission.check(&parts.headers, query, caller, peer, proves_key);
    let granted = checked.as_ref().ok().cloned().flatten();
    if let Err(denied) = checked {
        tracing::debug!("a WebSocket for {} was refused: {denied}", caller.address);
        if denied == Denied::Origin {
            refusals.origin.one();
            return text(StatusCode::FORBIDDEN, &format!("{denied}\n"));
        }
        refusals.token.one();
        let mut response = text(StatusCode::UNAUTHORIZED, &format!("{denied}\n"));
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    request.ticket = granted.as_ref().map(|granted| Arc::clone(&granted.ticket));
    *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Wanted { request, granted });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(headers);
    response
}

/// Whether the caller's address may have one more page.
pub(super) fn may_ask(headers: &HeaderMap, remote: IpAddr, site: &Site) -> bool {
    let caller = site.admission.caller(headers, remote);
    let may = site.edge.addresses().page(caller, site.admission.rates);
    if !may {
        site.edge.counters().refusals.address_requests.one();
    }
    may
}

/// The answer if it may not. The next page costs it a connection.
pub(super) fn too_often() -> Response<Body> {
    let mut response =
        text(StatusCode::TOO_MANY_REQUESTS, "too many requests from your address; wait a few seconds\n");
    let headers = response.headers_mut();
    // By then there is room for one more at the least of rates.
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A WebSocket that may be opened.
pub(super) struct Wanted {
    pub(super) request: Request,
    /// The ticket that was shown for it.
    pub(super) granted: Option<Granted>,
}

/// A place among the connections of the ticket, if it has limits, and one among those of the request's
/// address; none is needed for an old hub.
pub(super) fn enter(site: &Site, wanted: &Wanted) -> Result<Option<Limit>, TooMany> {
    let Wanted { request, granted } = wanted;
    let is_hub = request.mesh && site.hub_enabled;
    let caller = Caller { address: request.remote, via_proxy: request.via_proxy };
    if site.admission.is_old_hub(caller) {
        return Ok(None);
    }
    let refusals = &site.edge.counters().refusals;
    let ticket = granted.as_ref().map_or(Ok(None), |granted| site.edge.tickets().enter(granted));
    let entered = ticket.and_then(|ticket| {
        let place = site.edge.addresses().enter(caller, site.admission.rates)?;
        Ok(Some(Limit::new(place, is_hub).with_ticket(ticket)))
    });
    entered.inspect_err(|too_many| match too_many {
        TooMany::Connections => refusals.address_connections.one(),
        TooMany::Connects => refusals.address_connects.one(),
        TooMany::Ticket => refusals.token.one(),
    })
}
