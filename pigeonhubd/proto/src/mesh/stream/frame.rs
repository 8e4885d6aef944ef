//! What one end of a stream sends to the other.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::WINDOW_MESSAGES;

/// One datagram of a stream, without the envelope that routes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// A message, and what was received of the other direction.
    #[serde(borrow)]
    Data(Data<'a>),
    /// Only what was received of the other direction.
    Ack(Ack),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data<'a> {
    /// The sender's start time.
    pub src_epoch: u64,
    /// The start time of the receiver that is meant; a later one drops the frame.
    pub dst_epoch: u64,
    /// Which of the sender's streams to this receiver, from 1 on.
    pub generation: u32,
    /// The lowest sequence number that the sender may still send: all below are acknowledged.
    pub floor: u64,
    /// This message's place in the stream, from 1 on; at least `floor` and
    /// less than [`super::WINDOW_MESSAGES`] above it.
    pub seq: u64,
    /// For the stream in the other direction, if any of it was received.
    pub ack: Option<Ack>,
    /// The message; at most [`super::MAX_PAYLOAD`] bytes.
    #[serde(borrow, serialize_with = "as_bytes")]
    pub payload: &'a [u8],
}

/// What was received of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The stream's sender, by its start time …
    pub epoch: u64,
    /// … and the stream's generation.
    pub generation: u32,
    /// This message and all before it were delivered; 0 for none.
    pub upto: u64,
    /// Bit `i`: message `upto + 2 + i` is here and waits for an earlier one.
    pub held: u64,
    /// Which parts of the messages up to `upto` were of no use to their receiver.
    pub refused: Refused,
}

impl Ack {
    /// Which parts of message `seq`, delivered by what this says, were refused.
    pub(super) fn refuses(&self, seq: u64) -> Parts {
        self.upto.checked_sub(seq).map_or(0, |back| self.refused.of(back))
    }
}

/// Parts of one message, bit `i` for the part that the caller calls `i`.
pub type Parts = u64;

/// Which parts of which messages were refused: of each message with any, how far
/// it is below [`Ack::upto`], 0 for that one itself, and the parts. It reaches back
/// a whole window: no message that an acknowledgement can be the first to tell of
/// is further away. Mostly empty, which is one byte on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused(Vec<(u64, Parts)>);

impl Refused {
    /// Each message at most once; a whole window of them at most.
    pub(super) fn new(refused: impl Iterator<Item = (u64, Parts)>) -> Self {
        Self(refused.take(WINDOW_MESSAGES).collect())
    }

    fn of(&self, back: u64) -> Parts {
        self.0.iter().find(|(message, _)| *message == back).map_or(0, |(_, parts)| *parts)
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Messages)
    }
}

/// Reads the messages of a [`Refused`], and no more than may be.
struct Messages;

impl<'de> Visitor<'de> for Messages {
    type Value = Refused;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at most {WINDOW_MESSAGES} messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<Refused, A::Error> {
        let mut refused = Vec::new();
        while let Some(message) = messages.next_element()? {
            if refused.len() >= WINDOW_MESSAGES {
                return Err(A::Error::invalid_length(WINDOW_MESSAGES + 1, &self));
            }
            refused.push(message);
        }
        Ok(Refused(refused))
    }
}

/// Whole, where serde would go byte by byte.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
