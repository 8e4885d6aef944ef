//! What one end of a stream sends to the other.

use serde::{Deserialize, Serialize, Serializer};

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
}

/// Whole, where serde would go byte by byte.
fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
