//! Messages from clients and older hubs: one JSON object each.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::json::{Json, Quick};
use super::{DEFAULT_NETWORK, LITERAL, MAX_NETWORK_NAME, SignalKind};
use crate::id::Spelled;

/// The largest `data` of an announce, in bytes of JSON.
pub const MAX_ANNOUNCE_DATA: usize = 16 * 1024;

/// What is told of a fault at most, in characters.
const MAX_FAULT: usize = 200;

/// One message, parsed as far as the hub needs it. `data` stays as it was
/// written, byte for byte.
#[derive(Debug)]
pub struct ClientFrame<'a> {
    /// What it is.
    pub kind: ClientKind<'a>,
    /// The network it belongs to; `global` if it names none.
    pub network: Cow<'a, str>,
    /// Whether it named one.
    pub network_named: bool,
    /// The `data` member, as written.
    pub data: Option<Json<'a>>,
    /// The `targetPeerId` member.
    pub target: Option<Spelled>,
    /// The `fromPeerId` member. Only an older hub's word on it counts.
    pub from: Option<Spelled>,
}

/// The `type` of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientKind<'a> {
    /// Join a network.
    Announce,
    /// Leave.
    Goodbye,
    /// Are you there?
    Ping,
    /// `cleanup`, `cleanup-all`: accepted and ignored.
    Cleanup,
    /// `connection-rejected`: accepted and ignored, as the JavaScript hub does. Two published clients
    /// may offer at once; the one with the larger id rejects the other's offer, and that one would
    /// close the connection in which it is just answering.
    Rejection,
    /// To pass on.
    Signal(SignalKind),
    /// From an older hub: a peer of its own.
    PeerDiscovered,
    /// From an older hub: a peer of its own left.
    PeerDisconnected,
    /// From a hub that was dialled: the connection is accepted.
    Connected,
    /// From another hub of ours: steps of the handshake.
    MeshHello,
    /// The same, from the accepting end.
    MeshWelcome,
    /// From an older hub, about something it was sent.
    Error,
    /// `pong`.
    Pong,
    /// Anything else, by its name.
    Other(Cow<'a, str>),
}

/// What is wrong with a message; the text is for its sender.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object with members of the right types.
    #[error("wrong shape: {0}")]
    WrongShape(String),
    /// No `type`.
    #[error(
        "no 'type': a message is an object like {{\"type\":\"announce\",\"data\":{{}},\"networkName\":\"global\"}}"
    )]
    NoType,
    /// A signal's `targetPeerId` that is no id.
    #[error("'targetPeerId' is not 40 hexadecimal digits")]
    BadTarget,
    /// A network name that is too long.
    #[error("'networkName' has {0} bytes; it has at most {MAX_NETWORK_NAME}")]
    LongNetwork(usize),
    /// A network name of another kind.
    #[error("'networkName' is a text, or a number")]
    OddNetwork,
}

/// The members that matter, of whatever type: those that a kind of message has no use for are no fault of it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object with a 'type'")]
struct Raw<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Member<'a>,
    #[serde(borrow, default)]
    network_name: Member<'a>,
    #[serde(borrow, default)]
    target_peer_id: Member<'a>,
    #[serde(borrow, default)]
    from_peer_id: Member<'a>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<Json<'a>>,
}

/// serde would take null for nothing, and a signal's data is passed on as it was written.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json<'a>>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// A member that is a string nearly always.
#[derive(Debug, Default, PartialEq, Eq)]
enum Member<'a> {
    /// Not there, or null.
    #[default]
    None,
    /// Borrowed unless it has escapes.
    Text(Cow<'a, str>),
    /// A number, or true or false, as written.
    Literal(&'a str),
    /// An array or object.
    Nested,
}

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Json::deserialize(deserializer)?.get();
        Ok(match text.as_bytes().first() {
            Some(b'"') => Self::Text(serde_json::from_str::<Text<'_>>(text).map_err(Error::custom)?.0),
            Some(b'n') => Self::None,
            Some(b'[' | b'{') | None => Self::Nested,
            Some(_) => Self::Literal(text),
        })
    }
}

/// serde copies a bare `Cow<str>` always.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Member<'a> {
    /// An id; anything else is none.
    fn id(&self) -> Option<Spelled> {
        if let Self::Text(text) = self { text.parse().ok() } else { None }
    }

    /// The name of a network. What JavaScript takes for false names none, as there.
    fn network(self) -> Result<Option<Cow<'a, str>>, FrameError> {
        let name = match self {
            Self::None | Self::Literal("false") => return Ok(None),
            Self::Text(name) if name.starts_with(LITERAL) => return Err(FrameError::OddNetwork),
            Self::Text(name) => name,
            Self::Literal("true") => Cow::Owned(format!("{LITERAL}true")),
            // However it is written, 5 is 5.
            Self::Literal(number) => match number.parse::<f64>() {
                Ok(0.0) => return Ok(None),
                Ok(number) if number.is_finite() => Cow::Owned(format!("{LITERAL}{number}")),
                _ => return Err(FrameError::OddNetwork),
            },
            Self::Nested => return Err(FrameError::OddNetwork),
        };
        if name.len() > MAX_NETWORK_NAME {
            return Err(FrameError::LongNetwork(name.len()));
        }
        Ok(Some(name).filter(|name| !name.is_empty()))
    }
}

impl<'a> Raw<'a> {
    /// All messages, and what is wrong with them.
    fn thorough(text: &'a str) -> Result<Self, FrameError> {
        let raw = serde_json::from_str(text).map_err(|error| describe(text, &error))?;
        // serde also reads a struct from an array.
        if text.trim_ascii_start().starts_with('[') {
            return Err(FrameError::WrongShape(String::from("an array where an object belongs")));
        }
        Ok(raw)
    }

    /// What nearly all messages are: an object whose members are strings without escapes, or `data`.
    fn quick(text: &'a str) -> Option<Self> {
        let (mut raw, mut text) = (Self::default(), Quick::new(text));
        let mut before = b'{';
        loop {
            match text.punctuation()? {
                b'}' if before == b',' => return text.is_at_end().then_some(raw),
                separator if separator == before => before = b',',
                _ => return None,
            }
            let name = text.plain_string()?;
            (text.punctuation()? == b':').then_some(())?;
            let member = match name {
                "type" => &mut raw.kind,
                "networkName" => &mut raw.network_name,
                "targetPeerId" => &mut raw.target_peer_id,
                "fromPeerId" => &mut raw.from_peer_id,
                "data" if raw.data.is_some() => return None,
                "data" => {
                    raw.data = Some(text.value()?);
                    continue;
                }
                _ => {
                    text.value()?;
                    continue;
                }
            };
            let value = Member::Text(Cow::Borrowed(text.plain_string()?));
            if std::mem::replace(member, value) != Member::None {
                return None;
            }
        }
    }
}

impl<'a> ClientFrame<'a> {
    /// Parses one message.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        let raw = Raw::quick(text).map_or_else(|| Raw::thorough(text), Ok)?;
        let kind = match raw.kind {
            Member::Text(name) => ClientKind::from_name(name),
            Member::None => return Err(FrameError::NoType),
            _ => return Err(FrameError::WrongShape(String::from("'type' is not a text"))),
        };
        let signal = matches!(kind, ClientKind::Signal(_));
        let network = match raw.network_name.network() {
            // To one that needs none it is no fault.
            Err(_) if kind == ClientKind::Ping => None,
            network => network?,
        };
        let target = raw.target_peer_id.id();
        if signal && target.is_none() && raw.target_peer_id != Member::None {
            return Err(FrameError::BadTarget);
        }
        Ok(Self {
            network_named: network.is_some(),
            network: network.unwrap_or(Cow::Borrowed(DEFAULT_NETWORK)),
            data: raw.data.filter(|data| signal || data.get() != "null"),
            kind,
            target,
            // A hub signs as "system", which is nobody's id.
            from: raw.from_peer_id.id(),
        })
    }
}

fn describe(text: &str, error: &serde_json::Error) -> FrameError {
    use serde_json::error::Category;
    // It may quote what it read, whole.
    let said = || error.to_string().chars().take(MAX_FAULT).collect();
    match error.classify() {
        Category::Data => FrameError::WrongShape(said()),
        _ if serde_json::from_str::<&RawValue>(text).is_ok() => FrameError::WrongShape(said()),
        _ => FrameError::NotJson(said()),
    }
}

impl<'a> ClientKind<'a> {
    fn from_name(name: Cow<'a, str>) -> Self {
        if let Some(kind) = SignalKind::from_name(&name) {
            return Self::Signal(kind);
        }
        match &*name {
            "announce" => Self::Announce,
            "goodbye" => Self::Goodbye,
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "cleanup" | "cleanup-all" => Self::Cleanup,
            "connection-rejected" => Self::Rejection,
            "peer-discovered" => Self::PeerDiscovered,
            "peer-disconnected" => Self::PeerDisconnected,
            "connected" => Self::Connected,
            "mesh-hello" => Self::MeshHello,
            "mesh-welcome" => Self::MeshWelcome,
            "error" => Self::Error,
            _ => Self::Other(name),
        }
    }
}

/// What a peer says of itself in an announce.
#[derive(Debug, PartialEq, Eq)]
pub struct AnnounceData {
    /// It calls itself a hub.
    pub claims_hub: bool,
    /// Its `data` for others: `peerId` and `isHub` as the hub knows them, and
    /// whatever else it sent.
    pub shown: String,
}

/// The `data` of an announce is too large.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'data' of an announce has {0} bytes; it has at most {MAX_ANNOUNCE_DATA}")]
pub struct TooLarge(usize);

impl AnnounceData {
    /// What is shown of a peer in any case.
    pub fn bare(peer: Spelled) -> String {
        format!("{{\"peerId\":\"{peer}\",\"isHub\":false}}")
    }

    /// Reads the `data` of `peer`'s announce. Without one, or with one that is no object, it is `{}`.
    pub fn parse(peer: Spelled, data: Option<Json<'_>>) -> Result<Self, TooLarge> {
        let text = data.map_or("{}", Json::get);
        if text.len() > MAX_ANNOUNCE_DATA {
            return Err(TooLarge(text.len()));
        }
        let mut members: BTreeMap<Cow<'_, str>, Json<'_>> = serde_json::from_str(text).unwrap_or_default();
        members.remove("peerId");
        let claims_hub = members.remove("isHub").is_some_and(|value| value.get() == "true");
        let mut shown = Self::bare(peer);
        shown.pop();
        for (name, value) in &members {
            shown.push(',');
            shown.push_str(&serde_json::to_string(name).unwrap_or_default());
            shown.push(':');
            shown.push_str(value.get());
        }
        shown.push('}');
        Ok(Self { claims_hub, shown })
    }
}

/// The `data` of a `peer-discovered` or `peer-disconnected` from an older hub.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredData {
    /// The peer.
    pub peer_id: Spelled,
    /// Whether it is a hub.
    #[serde(default)]
    pub is_hub: bool,
}

impl DiscoveredData {
    /// Reads it.
    pub fn parse(data: Option<Json<'_>>) -> Option<Self> {
        serde_json::from_str(data?.get()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899AaBbCcDdEeFf00112233";

    #[test]
    fn a_signal_keeps_its_data_byte_for_byte() {
        let text = format!(
            r#"{{"type":"offer","targetPeerId":"{ID}","data": {{"sdp" : "x\u00e9", "n":1.50}} ,"extra":[]}}"#
        );
        let frame = ClientFrame::parse(&text).expect("a frame");
        assert_eq!(frame.kind, ClientKind::Signal(SignalKind::Offer));
        assert_eq!(frame.network, "global");
        assert_eq!(frame.target.expect("a target").to_string(), ID);
        assert_eq!(frame.data.expect("data").get(), r#"{"sdp" : "x\u00e9", "n":1.50}"#);
        for (kind, data) in [("offer", Some("null")), ("announce", None)] {
            for text in [
                format!(r#"{{"type":"{kind}","data":null}}"#),
                format!(r#"{{"type":"{kind}","\u0064ata":null}}"#),
            ] {
                let frame = ClientFrame::parse(&text).expect("a frame");
                assert_eq!(frame.data.map(Json::get), data, "{text}");
            }
        }
    }

    /// Messages with a byte too few, too many or changed are read quickly only if thoroughly they mean the same.
    #[test]
    fn read_quickly_a_message_means_what_it_says() {
        let others = [
            format!(r#"{{"type":"offer","targetPeerId":"{ID}","data":{{"a":[1,"\\"]}},"x":{{"y":null}}}}"#),
            String::from(r#" { "data" : "}" , "type":"announce","networkName":"n","fromPeerId":"system"} "#),
            String::from(r#"{"type":"ping","data":null}"#),
        ];
        let mut quickly = 0;
        for text in &others {
            for at in 0..text.len() {
                for byte in "\"\\{}[]:,ntud0 \n".chars() {
                    for until in [at, at + 1] {
                        let (before, after) = (&text[..at], &text[until..]);
                        let changed = format!("{before}{byte}{after}");
                        if let Some(raw) = Raw::quick(&changed) {
                            assert_eq!(Ok(raw), Raw::thorough(&changed), "{changed}");
                            quickly += 1;
                        }
                    }
                }
            }
        }
        assert!(quickly > 1000, "{quickly}");
        assert!(others.iter().all(|text| Raw::quick(text).is_some()));
    }

    #[test]
    fn each_fault_is_named() {
        let cases = [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("hello", "not JSON"),
            ("[]", "wrong shape"),
            ("7", "wrong shape"),
            ("null", "wrong shape"),
            (r#"{"type":7}"#, "wrong shape"),
            (r#"{"type":"offer","targetPeerId":{}}"#, "'targetPeerId' is not 40"),
            ("{}", "no 'type'"),
            (r#"{"type":null}"#, "no 'type'"),
            (r#"{"type":"offer","targetPeerId":"xyz"}"#, "'targetPeerId' is not 40"),
            (r#"{"type":"announce","networkName":["a"]}"#, "'networkName' is a text"),
            (r#"{"type":"announce","networkName":{}}"#, "'networkName' is a text"),
            (r#"{"type":"announce","networkName":1e999}"#, "'networkName' is a text"),
            (r#"{"type":"announce","networkName":"\u00005"}"#, "'networkName' is a text"),
        ];
        for (text, expected) in cases {
            let error = ClientFrame::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let long = format!(r#"{{"type":"announce","networkName":"{}"}}"#, "x".repeat(MAX_NETWORK_NAME + 1));
        assert_eq!(ClientFrame::parse(&long).err(), Some(FrameError::LongNetwork(MAX_NETWORK_NAME + 1)));
    }

    #[test]
    fn a_network_may_be_a_number_and_what_javascript_takes_for_false_is_global() {
        let network = |name: &str| {
            let text = format!(r#"{{"type":"announce","networkName":{name}}}"#);
            let frame = ClientFrame::parse(&text).expect(name);
            (frame.network.into_owned(), frame.network_named)
        };
        for none in ["null", "false", "0", "-0.0", "\"\""] {
            assert_eq!(network(none), (String::from(DEFAULT_NETWORK), false), "{none}");
        }
        for (written, name) in [
            ("5", "\u{0}5"),
            ("5.0", "\u{0}5"),
            ("0.5e1", "\u{0}5"),
            ("-1.5", "\u{0}-1.5"),
            ("true", "\0true"),
            ("\"5\"", "5"),
            ("\" \"", " "),
            (r#""\u00e9""#, "é"),
        ] {
            assert_eq!(network(written), (name.to_owned(), true), "{written}");
        }
    }

    /// A member counts only where it is needed.
    #[test]
    fn what_a_message_does_not_need_may_be_anything() {
        for text in [
            r#"{"type":"ping","networkName":[],"targetPeerId":"zz","fromPeerId":7,"maxPeers":"x"}"#,
            r#"{"type":"announce","targetPeerId":5,"fromPeerId":{}}"#,
            r#"{"type":"hello","targetPeerId":"x"}"#,
        ] {
            let frame = ClientFrame::parse(text).expect(text);
            assert_eq!((frame.target, frame.from), (None, None), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_just_data() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let text = format!(r#"{{"type":"offer","targetPeerId":"{ID}","data":{deep}}}"#);
        assert_eq!(ClientFrame::parse(&text).expect("a frame").data.expect("data").get(), deep);
    }

    #[test]
    fn an_announce_cannot_speak_for_another() {
        let peer: Spelled = ID.parse().expect("an id");
        let raw = Json::parse(r#"{"peerId":"me","isHub":true,"name":"A \"b\"","n":{"x":1}}"#);
        let data = AnnounceData::parse(peer, raw).expect("data");
        assert!(data.claims_hub);
        assert_eq!(
            data.shown,
            format!(r#"{{"peerId":"{ID}","isHub":false,"n":{{"x":1}},"name":"A \"b\""}}"#)
        );
        for odd in ["[1]", "7", "true", "\"text\"", "null", "{}"] {
            let data = AnnounceData::parse(peer, Json::parse(odd)).expect("data");
            assert_eq!((data.claims_hub, data.shown), (false, AnnounceData::bare(peer)), "{odd}");
        }
    }
}
