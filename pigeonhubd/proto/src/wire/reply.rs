//! Messages to clients and older hubs: one JSON object each.

use super::json::Json;
use super::{LITERAL, SignalKind};
use crate::id::Spelled;
use crate::time::Now;
use serde::{Serialize, Serializer};

/// Why a message was not done; the `code` of an `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The message itself is wrong.
    BadMessage,
    /// Its `type` is none that a hub routes.
    UnknownType,
    /// Its sender has not announced itself in that network.
    NotAnnounced,
    /// The target is not in that network, or could not be reached in time.
    PeerUnreachable,
    /// A limit of this hub is reached.
    LimitReached,
    /// Its sender's ticket does not allow that.
    NotAllowed,
    /// Its sender is in that network with an older connection, at another hub.
    AlreadyConnected,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a, D: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_peer_id: Option<&'a str>,
    #[serde(rename = "fromPeerId", skip_serializing_if = "Option::is_none")]
    from: Option<Spelled>,
    #[serde(rename = "targetPeerId", skip_serializing_if = "Option::is_none")]
    target: Option<Spelled>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "network_name")]
    network_name: Option<&'a str>,
    timestamp: u64,
}

/// A network's name as its clients wrote it.
fn network_name<S: Serializer>(name: &Option<&str>, to: S) -> Result<S::Ok, S::Error> {
    match name.and_then(literal) {
        Some(literal) => literal.serialize(to),
        None => name.serialize(to),
    }
}

/// The number that a network's name is, if it is none of letters. Other hubs' names may be anything.
fn literal(name: &str) -> Option<Json<'_>> {
    Json::parse(name.strip_prefix(LITERAL)?)
}

impl<'a, D: Serialize> Message<'a, D> {
    fn new(kind: &'a str, now: Now) -> Self {
        Self {
            kind,
            data: None,
            error: None,
            code: None,
            from_peer_id: None,
            from: None,
            target: None,
            network_name: None,
            timestamp: now.unix_ms,
        }
    }

    fn system(kind: &'a str, data: D, now: Now) -> Self {
        Self { data: Some(data), from_peer_id: Some("system"), ..Self::new(kind, now) }
    }

    fn write(&self) -> String {
        // Strings, numbers and raw JSON: there is nothing in it that can fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The first message on a connection. `mesh` is a hub's challenge to another hub.
pub fn connected<M: Serialize>(peer: Spelled, mesh: Option<M>, now: Now) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<M> {
        peer_id: Spelled,
        #[serde(skip_serializing_if = "Option::is_none")]
        mesh: Option<M>,
    }
    Message::system("connected", Data { peer_id: peer, mesh }, now).write()
}

/// The answer to `ping`.
pub fn pong(peer: Spelled, now: Now) -> String {
    #[derive(Serialize)]
    struct Data {
        timestamp: u64,
    }
    Message { target: Some(peer), ..Message::system("pong", Data { timestamp: now.unix_ms }, now) }.write()
}

/// One peer of the receiver's network. `shown` is the peer's announce data as JSON.
pub fn peer_discovered(shown: &str, network: &str, receiver: Option<Spelled>, now: Now) -> String {
    Message {
        target: receiver,
        network_name: Some(network),
        ..Message::system("peer-discovered", Json::parse(shown), now)
    }
    .write()
}

/// A peer of the receiver's network left.
pub fn peer_disconnected(peer: Spelled, network: &str, receiver: Option<Spelled>, now: Now) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        peer_id: Spelled,
        is_hub: bool,
    }
    Message {
        target: receiver,
        network_name: Some(network),
        ..Message::system("peer-disconnected", Data { peer_id: peer, is_hub: false }, now)
    }
    .write()
}

/// The same in the words that clients act on.
pub fn goodbye(peer: Spelled, network: &str, receiver: Spelled, now: Now) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data {
        peer_id: Spelled,
    }
    Message {
        data: Some(Data { peer_id: peer }),
        from: Some(peer),
        target: Some(receiver),
        network_name: Some(network),
        ..Message::new("goodbye", now)
    }
    .write()
}

/// A signal, as its target gets it. `data` is passed on as it was written.
pub fn signal(
    kind: SignalKind,
    data: Option<Json<'_>>,
    from: Spelled,
    target: Spelled,
    network: &str,
    now: Now,
) -> String {
    let data = data.map(Json::get);
    let mut text = String::with_capacity(TAIL + 64 + network.len() + data.map_or(0, str::len));
    head(kind.name(), data).iter().for_each(|piece| text.push_str(piece));
    push_tail(&mut text, from, target, network, now.unix_ms);
    text
}

/// The message of [`signal`], not yet put together: `data`, which is nearly
/// all of it, is copied once, to where it is sent from.
#[derive(Clone, Debug)]
pub struct SignalText<'a> {
    kind: &'static str,
    data: Option<&'a str>,
    tail: String,
}

impl<'a> SignalText<'a> {
    /// See [`signal`].
    pub fn new(
        kind: SignalKind,
        data: Option<Json<'a>>,
        from: Spelled,
        target: Spelled,
        network: &str,
        unix_ms: u64,
    ) -> Self {
        let mut tail = String::with_capacity(TAIL + network.len());
        push_tail(&mut tail, from, target, network, unix_ms);
        Self { kind: kind.name(), data: data.map(Json::get), tail }
    }

    /// The pieces, in order.
    pub fn parts(&self) -> [&[u8]; 5] {
        self.strings().map(str::as_bytes)
    }

    fn strings(&self) -> [&str; 5] {
        let [start, kind, name, data] = head(self.kind, self.data);
        [start, kind, name, data, &self.tail]
    }
}

/// Bytes of what follows a signal's data, at most, if its network's name is as long as it is written.
const TAIL: usize = 192;

fn head<'a>(kind: &'a str, data: Option<&'a str>) -> [&'a str; 4] {
    let (name, data) = match data {
        Some(data) => ("\",\"data\":", data),
        None => ("\"", ""),
    };
    ["{\"type\":\"", kind, name, data]
}

fn push_tail(text: &mut String, from: Spelled, target: Spelled, network: &str, unix_ms: u64) {
    let mut push = |before: &str, peer: Spelled| {
        text.push_str(before);
        // Digits are ASCII.
        text.push_str(std::str::from_utf8(&peer.digits()).unwrap_or_default());
    };
    push(",\"fromPeerId\":\"", from);
    push("\",\"targetPeerId\":\"", target);
    text.push_str("\",\"networkName\":");
    if network.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        text.extend(["\"", network, "\""]);
    } else if let Some(literal) = literal(network) {
        text.push_str(literal.get());
    } else {
        // A string can always be written.
        text.push_str(&serde_json::to_string(network).unwrap_or_default());
    }
    text.push_str(",\"timestamp\":");
    text.push_str(itoa::Buffer::new().format(unix_ms));
    text.push('}');
}

/// What was wrong with a message of the receiver's. `network` decides whether
/// the client looks at it at all.
pub fn error(
    text: &str,
    code: ErrorCode,
    target: Option<Spelled>,
    network: Option<&str>,
    now: Now,
) -> String {
    Message::<()> {
        error: Some(text),
        code: Some(code),
        target,
        network_name: network,
        ..Message::new("error", now)
    }
    .write()
}

/// This hub's announce to an older hub.
pub fn hub_announce(namespace: &str, port: u16, host: &str, now: Now) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        is_hub: bool,
        port: u16,
        host: &'a str,
        capabilities: [&'static str; 2],
        timestamp: u64,
    }
    let data =
        Data { is_hub: true, port, host, capabilities: ["signaling", "relay"], timestamp: now.unix_ms };
    Message { data: Some(data), network_name: Some(namespace), ..Message::new("announce", now) }.write()
}

/// A step of the handshake between two hubs.
pub fn handshake<D: Serialize>(kind: &str, data: &D, now: Now) -> String {
    Message { data: Some(data), ..Message::new(kind, now) }.write()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    const NOW: Now = Now { mono: crate::time::Time(0), unix_ms: 5 };

    fn peer() -> Spelled {
        "AA112233445566778899aabbccddeeff00112233".parse().expect("an id")
    }

    #[test]
    fn messages_are_as_clients_expect_them() {
        let id = peer();
        assert_eq!(
            connected::<()>(id, None, NOW),
            format!(
                r#"{{"type":"connected","data":{{"peerId":"{id}"}},"fromPeerId":"system","timestamp":5}}"#
            )
        );
        assert_eq!(
            pong(id, NOW),
            format!(
                r#"{{"type":"pong","data":{{"timestamp":5}},"fromPeerId":"system","targetPeerId":"{id}","timestamp":5}}"#
            )
        );
        assert_eq!(
            peer_discovered(r#"{"peerId":"x"}"#, "n", Some(id), NOW),
            format!(
                r#"{{"type":"peer-discovered","data":{{"peerId":"x"}},"fromPeerId":"system","targetPeerId":"{id}","networkName":"n","timestamp":5}}"#
            )
        );
        assert_eq!(
            error("why", ErrorCode::PeerUnreachable, Some(id), Some("n"), NOW),
            format!(
                r#"{{"type":"error","error":"why","code":"peer-unreachable","targetPeerId":"{id}","networkName":"n","timestamp":5}}"#
            )
        );
    }

    #[test]
    fn a_signal_is_written_as_any_json_is() {
        let data = Json::parse(r#"{"sdp" : "\u00e9\"", "n":1.50}"#);
        for (kind, data) in [(SignalKind::IceCandidate, data), (SignalKind::Offer, None)] {
            for (network, written) in [
                ("a \"net\\work\" é\n", r#""a \"net\\work\" é\n""#),
                ("\0-1.5", "-1.5"),
                ("\0true", "true"),
                ("\0}, ", r#""\u0000}, ""#),
            ] {
                let expected = Message {
                    data,
                    from: Some(peer()),
                    target: Some(Id([0xab; 20]).into()),
                    network_name: Some(network),
                    ..Message::new(kind.name(), NOW)
                };
                let text = signal(kind, data, peer(), Id([0xab; 20]).into(), network, NOW);
                assert_eq!(text, expected.write());
                assert!(text.contains(&format!("\"networkName\":{written},")), "{text}");
            }
        }
    }

    #[test]
    fn a_signal_without_data_has_none() {
        let text = signal(SignalKind::ConnectionRejected, None, peer(), peer(), "n", NOW);
        assert!(!text.contains("data"), "{text}");
    }
}
