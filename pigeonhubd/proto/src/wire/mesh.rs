//! Frames between hubs, in postcard's wire format (version 1): varints, and
//! enum variants by their index. New variants go to the end; a frame that
//! cannot be read is dropped and counted, so hubs of two versions can meet.

use std::borrow::Cow;

use postcard::ser_flavors::Size;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::SignalKind;
use crate::id::{Id, Spelled};

/// What goes over one link, from hub to neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkFrame<'a> {
    /// Every second. `digest` stands for all records that the sender has.
    Heartbeat {
        /// Sum over the sender's records; see `mesh::records`.
        digest: u64,
        /// The sender's clock, to be echoed.
        sent_us: u64,
    },
    /// The echo.
    HeartbeatEcho {
        /// As received.
        sent_us: u64,
    },
    /// What the sender has, by (hub, epoch, version).
    #[serde(borrow)]
    Summary(Cow<'a, [RecordVersion]>),
    /// Signed records that the receiver lacks.
    #[serde(borrow)]
    Records(Vec<SignedBytes<'a>>),
    /// Something between two hubs, passed on from link to link.
    #[serde(borrow)]
    Routed(Routed<'a>),
    /// The sender is about to close this link, on purpose.
    Bye(Bye),
    /// Every hub on the way to `dst` answers and passes it on.
    Probe(Probe),
    /// An answer, on its way back.
    ProbeReply(ProbeReply),
    /// The first frame of a link: what its sender reads beyond the frames above.
    /// Nobody sends a hub more than it says it reads.
    Reads(Reads),
    /// What would else be several [`LinkFrame::Routed`], in the same order; at
    /// most [`crate::mesh::batch::MAX_FRAMES`].
    #[serde(borrow)]
    Batch(Vec<Routed<'a>>),
}

/// What a hub reads that the first hubs of its version did not. Grows at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// [`LinkFrame::Batch`].
    pub batches: bool,
}

/// A live probe of the way from one hub to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The hub that probes.
    pub src: Id,
    /// The hub that is probed.
    pub dst: Id,
    /// Chosen by `src`.
    pub number: u64,
    /// The clock of `src`, echoed.
    pub sent_us: u64,
    /// Links crossed so far.
    pub crossed: u8,
}

/// One hub's answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReply {
    /// The hub that probes.
    pub to: Id,
    /// The hub that answers.
    pub from: Id,
    /// The probe as it arrived there.
    pub probe: Probe,
    /// It has arrived.
    pub last: bool,
    /// Links that the answer may still cross.
    pub hops: u8,
}

/// Which version of a hub's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordVersion {
    /// Whose record.
    pub hub: Id,
    /// When that hub started, in ms since the Unix epoch.
    pub epoch: u64,
    /// Counts that hub's changes since then.
    pub version: u64,
}

/// A record with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBytes<'a> {
    /// The record, in postcard.
    #[serde(borrow, with = "bytes_cow")]
    pub body: Cow<'a, [u8]>,
    /// Ed25519, 64 bytes.
    #[serde(borrow, with = "bytes_cow")]
    pub signature: Cow<'a, [u8]>,
}

/// The envelope of what travels between two hubs that may not be neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed<'a> {
    /// The hub it comes from.
    pub src: Id,
    /// The hub it is for.
    pub dst: Id,
    /// Links it may still cross.
    pub hops: u8,
    /// A frame of the stream between the two; see `mesh::stream`.
    #[serde(borrow, with = "bytes_cow")]
    pub body: Cow<'a, [u8]>,
}

/// Why a link is closed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bye {
    /// The topology does not want it.
    Unwanted,
    /// The WebSocket's work is done; data channels carry on.
    Migrated,
    /// Another link between the same two hubs stays.
    Duplicate,
    /// The sender leaves the mesh.
    Draining,
}

impl Bye {
    /// In words, for logs and close reasons.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unwanted => "not wanted by the topology",
            Self::Migrated => "migrated to data channels",
            Self::Duplicate => "another link to the same hub stays",
            Self::Draining => "the hub is leaving",
        }
    }
}

/// One message of the stream between two hubs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubMessage<'a> {
    /// Clients' signals for peers at the receiving hub, in the order in which they came; at most
    /// [`crate::bundle::MAX_SIGNALS`]. Each is a part of its own in the message's acknowledgement.
    #[serde(borrow)]
    Signals(Vec<MeshSignal<'a>>),
    /// Tell me the peers of this network (none: of all), now and as they change.
    Subscribe {
        /// The network.
        network: Option<Cow<'a, str>>,
        /// Marks the answers.
        subscription: u32,
        /// Always false: hubs of 0.1.0 told clients more then, and read it.
        spare: bool,
    },
    /// No longer.
    Unsubscribe {
        /// As subscribed.
        network: Option<Cow<'a, str>>,
    },
    /// Peers that came, changed or left.
    Presence {
        /// As subscribed.
        network: Option<Cow<'a, str>>,
        /// As subscribed.
        subscription: u32,
        /// In the order they happened.
        changes: Vec<PresenceChange<'a>>,
        /// The first full list is complete with this message.
        complete: bool,
    },
    /// Introduce this peer, which is at the sending hub, to those of yours.
    Introduce {
        /// The network.
        network: Cow<'a, str>,
        /// The peer.
        peer: Id,
        /// Whom it should meet.
        to: Vec<Id>,
    },
    /// Of hubs of 0.1.0 alone, and ignored: they ask for introductions that no client needs any more.
    Back {
        /// The network.
        network: Cow<'a, str>,
        /// A peer.
        peer: Id,
        /// Others.
        to: Vec<Id>,
        /// How long ago they were told that it had left.
        ago_ms: u64,
    },
    /// A step towards a data channel between the two hubs.
    Channel {
        /// Chosen by the hub that offers.
        attempt: u64,
        /// The step.
        step: ChannelStep<'a>,
    },
    /// This peer, which is at the sending hub, said goodbye to the network: clients are to be told so.
    /// A peer whose connection broke says none. Hubs of 0.1.0 drop this as a message that they cannot read.
    Goodbye {
        /// The network.
        network: Cow<'a, str>,
        /// The peer.
        peer: Id,
    },
    /// A client announced this peer, which is at the receiving hub. Is its connection there alive? The
    /// announcement waits for that. Hubs of 0.1.0 drop this, as they do the three below.
    Ask {
        /// The network.
        network: Cow<'a, str>,
        /// The peer.
        peer: Id,
        /// Marks the answer.
        number: u64,
    },
    /// The answer.
    Answer {
        /// As asked.
        number: u64,
        /// It is, and keeps the peer. Else it is over, if there was one.
        kept: bool,
    },
    /// The sender's connection of this peer is alive, and older than the one of this announcement at the
    /// receiving hub, which is to give that up.
    Keeps {
        /// The network.
        network: Cow<'a, str>,
        /// The peer.
        peer: Id,
        /// Of the announcement.
        stamp: u64,
    },
    /// This peer announced itself at the sending hub with a ticket for its id: the receiving hub ends
    /// its connection of that peer.
    Takes {
        /// The network.
        network: Cow<'a, str>,
        /// The peer.
        peer: Id,
    },
}

/// A signal on its way to another hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshSignal<'a> {
    /// What it is.
    pub kind: SignalKind,
    /// The network of both peers.
    #[serde(borrow)]
    pub network: Cow<'a, str>,
    /// Its sender.
    pub from: Spelled,
    /// Its target, as the sender writes it.
    pub target: Spelled,
    /// Which announcement of the target is meant: an older or newer one is
    /// another connection, which must not get it.
    pub stamp: u64,
    /// The `data`, as the client wrote it.
    #[serde(borrow, deserialize_with = "borrowed")]
    pub data: Option<Cow<'a, str>>,
}

/// A string where it lies: serde copies every `Option<Cow<str>>`. As bytes at first, which postcard
/// writes alike: it is long, and the standard library's check takes as long as all else about it.
fn borrowed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    let bytes = Option::<&'de [u8]>::deserialize(deserializer)?;
    let text = bytes.map(simdutf8::basic::from_utf8).transpose().map_err(D::Error::custom)?;
    Ok(text.map(Cow::Borrowed))
}

/// One peer that came, changed or left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PresenceChange<'a> {
    /// Here, or here with other data.
    Here {
        /// Who.
        peer: Spelled,
        /// Where.
        network: Cow<'a, str>,
        /// Orders announcements of one peer across hubs; larger is later.
        stamp: u64,
        /// Reached through an older hub.
        legacy: bool,
        /// When it announced itself, in ms since the Unix epoch.
        announced_at: u64,
        /// Its announce data, as JSON.
        shown: Cow<'a, str>,
    },
    /// Gone.
    Gone {
        /// Who.
        peer: Id,
        /// Where.
        network: Cow<'a, str>,
    },
}

/// Steps towards a data channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelStep<'a> {
    /// From the hub with the larger id.
    Offer {
        /// SDP text.
        sdp: Cow<'a, str>,
        /// Fresh, for the proof.
        nonce: [u8; 32],
    },
    /// From the other.
    Answer {
        /// SDP text.
        sdp: Cow<'a, str>,
        /// Fresh, for the proof.
        nonce: [u8; 32],
    },
    /// From either.
    Candidate(Cow<'a, str>),
    /// The offer is turned down, or the attempt is over.
    Abandon,
    /// Steps of the attempt may have been lost: a new one is to begin.
    Restart,
}

/// A frame that is not in the format of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable mesh frame")]
pub struct UnreadableFrame;

/// Writes a frame.
pub fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // Serialising into memory fails only for types that postcard cannot hold.
    postcard::to_allocvec(frame).unwrap_or_default()
}

/// Writes a frame behind what `buffer` holds; beyond its capacity it grows piecemeal.
pub fn encode_onto<T: Serialize>(frame: &T, buffer: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(frame, buffer).unwrap_or_default()
}

/// Writes a [`Routed`] with `body` as its body behind what `buffer` holds. The body is written
/// where it belongs at once.
pub fn encode_routed_onto<T: Serialize>(src: Id, dst: Id, hops: u8, body: &T, buffer: Vec<u8>) -> Vec<u8> {
    let len = postcard::serialize_with_flavor(body, Size::default()).unwrap_or_default();
    // A struct is its fields, and a byte string its length and its bytes.
    encode_onto(body, encode_onto(&(src, dst, hops, len), buffer))
}

/// Reads a frame; all of `bytes` must belong to it.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableFrame> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Ok(frame),
        _ => Err(UnreadableFrame),
    }
}

/// Reads the first fields of a frame, whatever follows them.
pub fn decode_head<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableFrame> {
    postcard::take_from_bytes(bytes).map(|(head, _)| head).map_err(|_| UnreadableFrame)
}

/// Byte strings as one block instead of one by one.
mod bytes_cow {
    use std::borrow::Cow;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'a, [u8]>, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Cow<'de, [u8]>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(bytes))
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let routed = LinkFrame::Routed(Routed {
            src: Id([1; 20]),
            dst: Id([2; 20]),
            hops: 9,
            body: Cow::Borrowed(b"xyz"),
        });
        let bytes = encode(&routed);
        assert_eq!(decode::<LinkFrame<'_>>(&bytes), Ok(routed));
        let LinkFrame::Routed(read) = decode(&bytes).expect("a frame") else { panic!("another frame") };
        assert!(matches!(read.body, Cow::Borrowed(_)), "the body is not copied");
        for size in [0, 1, 127, 128, 20_000] {
            let body = vec![7_u64; size];
            let encoded =
                Routed { src: Id([1; 20]), dst: Id([2; 20]), hops: 200, body: encode(&body).into() };
            let at_once = encode_routed_onto(Id([1; 20]), Id([2; 20]), 200, &body, vec![1, 2]);
            assert_eq!(at_once, [vec![1, 2], encode(&encoded)].concat());
        }
    }

    #[test]
    fn rubbish_and_trailing_bytes_are_refused() {
        assert_eq!(decode::<LinkFrame<'_>>(b""), Err(UnreadableFrame));
        assert_eq!(decode::<LinkFrame<'_>>(&[250, 1, 2]), Err(UnreadableFrame));
        let mut bytes = encode(&LinkFrame::Bye(Bye::Migrated));
        bytes.push(0);
        assert_eq!(decode::<LinkFrame<'_>>(&bytes), Err(UnreadableFrame));
        // A length far over what is there must not be believed.
        assert_eq!(decode::<LinkFrame<'_>>(&[3, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(UnreadableFrame));
    }
}
