//! Envelopes that go over a link together.
//!
//! What a hub sends over a link while it deals with inputs that came at once
//! goes in as few messages as it fits into: each message costs its packets,
//! its encryption and a wake-up at both ends, whatever its size. Nothing waits
//! for company: a batch goes out when the inputs at hand are dealt with.

use super::frame::{HEADER, MAX_PIECE, TAG};
use crate::wire::mesh::{Routed, encode};

/// Envelopes in one batch, at most: as many as one stream has under way. So
/// what one message may cause is bounded.
pub const MAX_FRAMES: usize = 256;
/// Their bytes, at most: with what stands before them they fit into one message.
const MAX_BYTES: usize = MAX_PIECE - HEAD;
/// Bytes of the variant and of the count, at most.
const HEAD: usize = 4;
/// Room for what stands before the envelopes of a message, in bytes.
const ROOM: usize = HEADER + HEAD;

/// The index of [`crate::wire::mesh::LinkFrame::Routed`] in postcard's format.
const ROUTED: u8 = 4;
/// The index of [`crate::wire::mesh::LinkFrame::Batch`].
const BATCH: u8 = 9;

/// Envelopes that wait to go over one link, already encoded.
#[derive(Debug, Default)]
pub struct Batch {
    /// Behind [`ROOM`], if there are any.
    bytes: Vec<u8>,
    count: usize,
    /// Room that the next one gets in advance, in bytes: it is mostly about as large as the last ones.
    likely: usize,
}

/// A frame that carries what waited, with room before it for the header of a message
/// ([`super::frame::Framing::split_in_place`]).
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Room, then the frame.
    pub buffer: Vec<u8>,
    /// Where the frame begins.
    pub start: usize,
}

impl Batch {
    /// Adds the envelope that `write` appends to what it is given, by
    /// [`crate::wire::mesh::encode_onto`] or the like. If there is no room beside the others, the
    /// frame that carries those is returned, and goes first. An envelope that is too large for
    /// any batch is then alone in this one.
    pub fn push(&mut self, write: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Option<Gathered> {
        if self.count == 0 {
            self.begin(self.likely);
        }
        let end = self.bytes.len();
        self.bytes = write(std::mem::take(&mut self.bytes));
        self.count += 1;
        if self.count == 1 || self.count <= MAX_FRAMES && self.bytes.len() - ROOM <= MAX_BYTES {
            return None;
        }
        let last = self.bytes.get(end..).unwrap_or_default().to_vec();
        self.bytes.truncate(end);
        self.count -= 1;
        let full = self.take();
        self.begin(self.likely.max(last.len()));
        self.bytes.extend_from_slice(&last);
        self.count = 1;
        full
    }

    fn begin(&mut self, likely: usize) {
        self.bytes = Vec::with_capacity(ROOM + likely.min(MAX_PIECE) + TAG);
        self.bytes.resize(ROOM, 0);
    }

    /// The frame that carries all that waits; none if nothing does.
    pub fn take(&mut self) -> Option<Gathered> {
        let count = std::mem::take(&mut self.count);
        let mut buffer = std::mem::take(&mut self.bytes);
        self.likely = buffer.len().max(self.likely / 2);
        let head = match count {
            0 => return None,
            1 => vec![ROUTED],
            _ => encode(&(BATCH, count)),
        };
        let start = ROOM.checked_sub(head.len())?;
        buffer.get_mut(start..ROOM)?.copy_from_slice(&head);
        Some(Gathered { buffer, start })
    }
}

/// Whether a batch has no more envelopes than it may.
pub fn is_within_limit(batch: &[Routed<'_>]) -> bool {
    batch.len() <= MAX_FRAMES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::wire::mesh::{LinkFrame, decode, encode_onto};

    fn envelope(body: &[u8]) -> Routed<'_> {
        Routed { src: Id([1; 20]), dst: Id([2; 20]), hops: 9, body: body.into() }
    }

    fn push(batch: &mut Batch, envelope: &Routed<'_>) -> Option<Vec<u8>> {
        batch.push(|buffer| encode_onto(envelope, buffer)).map(frame)
    }

    /// With room for a header before it.
    fn frame(gathered: Gathered) -> Vec<u8> {
        assert!(gathered.start >= HEADER);
        gathered.buffer[gathered.start..].to_vec()
    }

    /// The envelopes of a frame.
    fn read(frame: &[u8]) -> Vec<Routed<'_>> {
        match decode(frame).expect("a frame") {
            LinkFrame::Routed(routed) => vec![routed],
            LinkFrame::Batch(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn envelopes_come_back_in_order_and_one_is_sent_as_ever() {
        let mut batch = Batch::default();
        assert_eq!(batch.take(), None);
        assert_eq!(push(&mut batch, &envelope(b"alone")), None);
        assert_eq!(batch.take().map(frame), Some(encode(&LinkFrame::Routed(envelope(b"alone")))));
        let bodies: Vec<[u8; 2]> = (0..200u8).map(|i| [i, 0]).collect();
        assert!(bodies.iter().all(|body| push(&mut batch, &envelope(body)).is_none()));
        let frame = frame(batch.take().expect("a batch"));
        let envelopes: Vec<Routed<'_>> = bodies.iter().map(|body| envelope(body)).collect();
        assert_eq!(frame, encode(&LinkFrame::Batch(envelopes.clone())));
        assert_eq!(read(&frame), envelopes);
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn no_batch_exceeds_a_message_or_the_count() {
        for (size, count) in [(0, 1000), (1200, 500), (MAX_PIECE, 3), (3 * MAX_PIECE, 3)] {
            let (mut batch, body) = (Batch::default(), vec![7; size]);
            let mut frames: Vec<Vec<u8>> =
                (0..count).filter_map(|_| push(&mut batch, &envelope(&body))).collect();
            frames.extend(batch.take().map(frame));
            for frame in &frames {
                let envelopes = read(frame);
                assert!(is_within_limit(&envelopes));
                assert!(envelopes.len() == 1 || frame.len() <= MAX_PIECE);
            }
            assert_eq!(frames.iter().map(|frame| read(frame).len()).sum::<usize>(), count);
            // None is sent before it has to be.
            assert!(
                frames.len()
                    <= (count * (size + 50))
                        .div_ceil(MAX_PIECE - 1300)
                        .max(count.div_ceil(MAX_FRAMES))
                        .max(1)
                    || size >= MAX_PIECE
            );
        }
    }
}
