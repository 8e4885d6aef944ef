//! Envelopes that go over a link together.
//!
//! What a hub sends over a link while it deals with inputs that came at once
//! goes in as few messages as it fits into: each message costs its packets,
//! its encryption and a wake-up at both ends, whatever its size. Nothing waits
//! for company: a batch goes out when the inputs at hand are dealt with.

use super::frame::MAX_PIECE;
use crate::wire::mesh::{Routed, encode, encode_onto};

/// Envelopes in one batch, at most: as many as one stream has under way. So
/// what one message may cause is bounded.
pub const MAX_FRAMES: usize = 256;
/// Their bytes, at most: with what stands before them they fit into one message.
const MAX_BYTES: usize = MAX_PIECE - HEAD;
/// Room for the next ones that a batch keeps, in bytes.
const SPARE: usize = 2 * MAX_BYTES;
/// Bytes of the variant and of the count, at most.
const HEAD: usize = 4;

/// The index of [`crate::wire::mesh::LinkFrame::Routed`] in postcard's format.
const ROUTED: u8 = 4;
/// The index of [`crate::wire::mesh::LinkFrame::Batch`].
const BATCH: u8 = 9;

/// Envelopes that wait to go over one link, already encoded.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

impl Batch {
    /// Adds an envelope. If there is no room beside the others, the frame that
    /// carries those is returned, and goes first. An envelope that is too large
    /// for any batch is then alone in this one.
    pub fn push(&mut self, routed: &Routed<'_>) -> Option<Vec<u8>> {
        let start = self.bytes.len();
        self.bytes = encode_onto(routed, std::mem::take(&mut self.bytes));
        self.count += 1;
        if self.count == 1 || self.count <= MAX_FRAMES && self.bytes.len() <= MAX_BYTES {
            return None;
        }
        let last = self.bytes.split_off(start);
        self.count -= 1;
        let frame = self.take();
        self.bytes.extend_from_slice(&last);
        self.count = 1;
        frame
    }

    /// The frame that carries all that waits; none if nothing does.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let count = std::mem::take(&mut self.count);
        let mut frame = Vec::with_capacity(HEAD + self.bytes.len());
        match count {
            0 => return None,
            1 => frame.push(ROUTED),
            _ => {
                frame.push(BATCH);
                frame.extend(encode(&count));
            }
        }
        frame.extend_from_slice(&self.bytes);
        self.bytes.clear();
        // The next ones are mostly of the same size.
        self.bytes.shrink_to(SPARE);
        Some(frame)
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
    use crate::wire::mesh::{LinkFrame, decode};

    fn envelope(body: &[u8]) -> Routed<'_> {
        Routed { src: Id([1; 20]), dst: Id([2; 20]), hops: 9, body: body.into() }
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
        assert_eq!(batch.push(&envelope(b"alone")), None);
        assert_eq!(batch.take(), Some(encode(&LinkFrame::Routed(envelope(b"alone")))));
        let bodies: Vec<[u8; 2]> = (0..200u8).map(|i| [i, 0]).collect();
        assert!(bodies.iter().all(|body| batch.push(&envelope(body)).is_none()));
        let frame = batch.take().expect("a batch");
        let envelopes: Vec<Routed<'_>> = bodies.iter().map(|body| envelope(body)).collect();
        assert_eq!(frame, encode(&LinkFrame::Batch(envelopes.clone())));
        assert_eq!(read(&frame), envelopes);
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn no_batch_exceeds_a_message_or_the_count() {
        for (size, count) in [(0, 1000), (1200, 500), (MAX_PIECE, 3), (3 * MAX_PIECE, 3)] {
            let (mut batch, body) = (Batch::default(), vec![7; size]);
            let mut frames: Vec<Vec<u8>> = (0..count).filter_map(|_| batch.push(&envelope(&body))).collect();
            frames.extend(batch.take());
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
