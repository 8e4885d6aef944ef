//! What one end of a stream sends to the other.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::WINDOW_MESSAGES;

/// One datagram of a stream, without the envelope that routes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// A message, and what was received of the other direction.
    #[serde(borrow)]
    Data(Data<'a>),
    /// Only what was received of the other direction.
    Ack(Ack),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The stream's sender, by its start time …
    pub epoch: u64,
    /// … and the stream's generation.
    pub generation: u32,
    /// This message and all before it were delivered; 0 for none.
    pub upto: u64,
    /// Bit `i`: message `upto + 2 + i` is here and waits for an earlier one.
    pub held: u64,
    /// Which of the messages up to `upto` were of no use to their receiver.
    pub refused: Refused,
}

impl Ack {
    /// Whether message `seq`, delivered by what this says, was refused.
    pub(super) fn refuses(&self, seq: u64) -> bool {
        self.upto.checked_sub(seq).is_some_and(|back| self.refused.contains(back))
    }
}

/// Words of 64 bits for a whole window of messages.
const WORDS: usize = WINDOW_MESSAGES.div_ceil(64);

/// A set of messages, each by how far it is below [`Ack::upto`], 0 for that one
/// itself. It reaches back a whole window: no message that an acknowledgement
/// can be the first to tell of is further away.
///
/// On the wire a list of words without the zeros at its end, so mostly one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused([u64; WORDS]);

impl Refused {
    /// The empty set.
    pub const NONE: Self = Self([0; WORDS]);

    /// One further away than a window is left out.
    pub(super) fn insert(&mut self, back: u64) {
        if let Some(word) = usize::try_from(back / 64).ok().and_then(|at| self.0.get_mut(at)) {
            *word |= 1 << (back % 64);
        }
    }

    fn contains(&self, back: u64) -> bool {
        let word = usize::try_from(back / 64).ok().and_then(|at| self.0.get(at));
        word.is_some_and(|word| word >> (back % 64) & 1 == 1)
    }
}

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = self.0.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        let mut words = serializer.serialize_seq(Some(len))?;
        self.0.iter().take(len).try_for_each(|word| words.serialize_element(word))?;
        words.end()
    }
}

impl<'de> Deserialize<'de> for Refused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Words)
    }
}

/// Reads the words of a [`Refused`], and none beyond.
struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Refused;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at most {WORDS} words")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Refused, A::Error> {
        let mut refused = Refused::NONE;
        for place in &mut refused.0 {
            let Some(word) = words.next_element()? else { return Ok(refused) };
            *place = word;
        }
        match words.next_element::<u64>()? {
            None => Ok(refused),
            Some(_) => Err(A::Error::invalid_length(WORDS + 1, &self)),
        }
    }
}

/// Whole, where serde would go byte by byte.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
