//! The WebSocket handshake (RFC 6455, section 4.2) on a parsed HTTP request.

use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, StatusCode, Version, http};
use pigeonhub_proto::io::Request;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use url::form_urlencoded;

use crate::admission::Caller;

/// The longest `peerId` passed on, in bytes: enough for floor 1 to see that it is none.
const MAX_PEER_ID: usize = 256;

/// The most subprotocols that a request may offer.
const MAX_PROTOCOLS: usize = 64;

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("a WebSocket handshake is a GET request")]
    Method,
    /// HTTP/1.0.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    Http,
    /// No `Connection: Upgrade`.
    #[error(
        "the request has `Upgrade: websocket`, but not `Connection: Upgrade`; a proxy may have removed it"
    )]
    Connection,
    /// Not version 13.
    #[error("this hub speaks WebSocket version 13 (RFC 6455): send `Sec-WebSocket-Version: 13`")]
    Version,
    /// No key, or not 16 bytes in base64.
    #[error("`Sec-WebSocket-Key` is missing or is not 16 bytes in base64")]
    Key,
    /// Subprotocols that are no list of tokens, each once.
    #[error("`Sec-WebSocket-Protocol` is not a list of different names, such as `chat, superchat`")]
    Protocol,
}

impl Refusal {
    /// The HTTP status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Whether a request asks for a WebSocket at all.
pub fn wanted(headers: &HeaderMap) -> bool {
    has_token(headers, &UPGRADE, "websocket")
}

/// Checks a request that asks for a WebSocket: the headers to accept it with.
pub fn accept(parts: &http::request::Parts) -> Result<HeaderMap, Refusal> {
    if parts.method != Method::GET {
        return Err(Refusal::Method);
    }
    if parts.version != Version::HTTP_11 {
        return Err(Refusal::Http);
    }
    if !has_token(&parts.headers, &CONNECTION, "upgrade") {
        return Err(Refusal::Connection);
    }
    if parts.headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?.as_bytes();
    if !is_key(key) {
        return Err(Refusal::Key);
    }
    let answer = HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| Refusal::Key)?;
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, answer);
    if let Some(protocol) = protocol(&parts.headers)? {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(headers)
}

/// The subprotocol to answer: the first of those that are offered, since a browser gives up a
/// WebSocket that has none of them. All mean the same here.
fn protocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let mut offered: Vec<&str> = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for name in value.to_str().map_err(|_| Refusal::Protocol)?.split(',') {
            let name = name.trim_matches([' ', '\t']);
            if offered.len() == MAX_PROTOCOLS || !is_token(name) || offered.contains(&name) {
                return Err(Refusal::Protocol);
            }
            offered.push(name);
        }
    }
    offered.first().map(|name| HeaderValue::from_str(name).map_err(|_| Refusal::Protocol)).transpose()
}

/// A token of HTTP (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(sign)
}

/// What floor 1 wants to know of the request.
pub fn request(parts: &http::request::Parts, caller: Caller) -> Request {
    let mut peer_id = None;
    let mut mesh = false;
    for (key, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
        match &*key {
            "peerId" if peer_id.is_none() => {
                let cut = value.floor_char_boundary(MAX_PEER_ID);
                peer_id = value.get(..cut).map(str::to_owned);
            }
            "mesh" => mesh = value == "1",
            _ => {}
        }
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| host.parse::<http::uri::Authority>().is_ok()).map(str::to_owned);
    Request { peer_id, mesh, remote: caller.address, via_proxy: caller.via_proxy, host, ticket: None }
}

/// Whether a comma-separated header has a token, in any letter case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// 16 bytes in base64: 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    matches!(key.strip_suffix(b"=="), Some(digits) if digits.len() == 22 && digits.iter().all(digit))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn parts(edit: impl FnOnce(http::request::Builder) -> http::request::Builder) -> http::request::Parts {
        let builder = http::Request::get("/ws?peerId=%61bc&mesh=1")
            .header("upgrade", "WebSocket")
            .header("connection", "keep-alive, Upgrade");
        edit(builder).body(()).expect("a request").into_parts().0
    }

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let parts = parts(|b| b.header("sec-websocket-version", "13").header("sec-websocket-key", KEY));
        assert!(wanted(&parts.headers));
        let headers = accept(&parts).expect("accepted");
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455, section 1.3");
        assert!(!headers.contains_key(SEC_WEBSOCKET_PROTOCOL), "none was offered");
    }

    #[test]
    fn the_first_subprotocol_offered_is_answered() {
        let offer = |lines: &[&str]| {
            accept(&parts(|b| {
                let b = b.header("sec-websocket-version", "13").header("sec-websocket-key", KEY);
                lines.iter().fold(b, |b, line| b.header("sec-websocket-protocol", *line))
            }))
        };
        for (lines, answer) in [
            (&["chat.v1"][..], "chat.v1"),
            (&[" b\t, a"], "b"),
            (&["a,b", "c"], "a"),
            (&["!#$%&'*+-.^_`|~9"], "!#$%&'*+-.^_`|~9"),
        ] {
            assert_eq!(offer(lines).expect("accepted")[SEC_WEBSOCKET_PROTOCOL], answer, "{lines:?}");
        }
        let many = vec!["a"; 2];
        for bad in
            [&[""][..], &["a,,b"], &["a,"], &[",a"], &["a b"], &["a;b"], &["\"a\""], &["a,a"], &["é"], &many]
        {
            assert_eq!(offer(bad).err(), Some(Refusal::Protocol), "{bad:?}");
        }
        let many: Vec<String> = (0..=MAX_PROTOCOLS).map(|i| i.to_string()).collect();
        assert_eq!(offer(&[&many.join(",")]).err(), Some(Refusal::Protocol));
    }

    #[test]
    fn each_fault_is_named() {
        let version = |b: http::request::Builder| b.header("sec-websocket-version", "13");
        assert_eq!(accept(&parts(|b| b)).err(), Some(Refusal::Version));
        assert_eq!(accept(&parts(|b| b.header("sec-websocket-version", "8"))).err(), Some(Refusal::Version));
        assert_eq!(accept(&parts(version)).err(), Some(Refusal::Key));
        for bad in ["", "=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZ===", "dGhlIHNhbXBsZSBub25j*Q=="]
        {
            let parts = parts(|b| version(b).header("sec-websocket-key", bad));
            assert_eq!(accept(&parts).err(), Some(Refusal::Key), "{bad}");
        }
        assert_eq!(accept(&parts(|b| b.method("POST"))).err(), Some(Refusal::Method));
        assert_eq!(accept(&parts(|b| b.version(Version::HTTP_10))).err(), Some(Refusal::Http));
    }

    #[test]
    fn the_query_is_decoded() {
        let caller = Caller { address: Ipv4Addr::LOCALHOST.into(), via_proxy: true };
        let request = request(&parts(|b| b.header("host", "hub.example:3000")), caller);
        assert_eq!(request.peer_id.as_deref(), Some("abc"));
        assert!(request.mesh && request.via_proxy);
        assert_eq!(request.host.as_deref(), Some("hub.example:3000"));
        assert_eq!(request.remote.to_string(), "127.0.0.1");
    }
}
