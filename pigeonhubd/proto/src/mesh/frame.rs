//! How a frame becomes messages of a connection and a frame again.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | flags: 1 = first piece of a frame, 2 = last piece |
//! | 8 | the message's number on this connection, big-endian, from 1 |
//! | 1 to [`MAX_PIECE`] | the piece |
//! | 16 | on a WebSocket only: HMAC-SHA-256 of all before, cut short |
//!
//! A data channel has DTLS instead of the tag. The sender's queue may drop
//! messages, so numbers may skip, but they only ever grow: a repeated one is a
//! replay. A frame that lost a piece is lost as a whole.

use std::borrow::Cow;

use bytes::Bytes;
use subtle::ConstantTimeEq;

use super::identity::hmac_sha256;
use crate::io::MAX_BINARY;

/// The largest piece of a frame in one message, in bytes.
pub const MAX_PIECE: usize = MAX_BINARY - HEADER - TAG;
/// The largest frame, in bytes; a larger one ends the link.
pub const MAX_FRAME: usize = 2 * 1024 * 1024;

/// What stands before each piece, in bytes.
pub const HEADER: usize = 9;
/// What stands behind it on a WebSocket, in bytes.
pub const TAG: usize = 16;
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// Why a message is refused. Every one of them ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Too short, or with an unknown flag.
    #[error("malformed message on a link")]
    Malformed,
    /// Not sent by the hub at the other end.
    #[error("message on a link with a wrong tag: forged")]
    Forged,
    /// Its number has been seen.
    #[error("message on a link for the second time: replayed")]
    Replayed,
    /// The frame would exceed [`MAX_FRAME`].
    #[error("frame of more than {MAX_FRAME} bytes")]
    TooLarge,
}

/// Keys of a WebSocket's messages.
pub struct FrameKeys {
    /// For those that this end sends.
    pub send: [u8; 32],
    /// For those that it receives.
    pub receive: [u8; 32],
}

/// Both directions of one connection.
pub struct Framing {
    keys: Option<FrameKeys>,
    sent: u64,
    received: u64,
    /// Pieces of the frame that is coming in; `None` when there is none, or one
    /// of them was lost.
    partial: Option<Vec<u8>>,
}

impl Framing {
    /// For a new connection: with keys for a WebSocket, without for a data channel.
    pub fn new(keys: Option<FrameKeys>) -> Self {
        Self { keys, sent: 0, received: 0, partial: None }
    }

    /// The messages that carry `frame`, in order.
    pub fn split(&mut self, frame: &[u8]) -> Vec<Bytes> {
        let pieces = frame.chunks(MAX_PIECE);
        let last = pieces.len().saturating_sub(1);
        pieces
            .enumerate()
            .map(|(i, piece)| {
                let first = if i == 0 { FIRST } else { 0 };
                self.seal(first | if i == last { LAST } else { 0 }, piece)
            })
            .collect()
    }

    /// The same as [`Self::split`] of what `buffer` holds behind its first `start` bytes, of which
    /// the last [`HEADER`] are for the header: a frame of one piece is not copied.
    pub fn split_in_place(&mut self, mut buffer: Vec<u8>, start: usize) -> Vec<Bytes> {
        let frame = buffer.get(start..).unwrap_or_default();
        let place = start.checked_sub(HEADER).filter(|_| frame.len() <= MAX_PIECE);
        let header = place.and_then(|at| buffer.get_mut(at..start));
        let (Some(header), Some(at)) = (header, place) else {
            return self.split(buffer.get(start..).unwrap_or_default());
        };
        header.copy_from_slice(&self.header(FIRST | LAST));
        if let Some(keys) = &self.keys {
            let tag = tag(&keys.send, buffer.get(at..).unwrap_or_default());
            buffer.extend_from_slice(&tag);
        }
        vec![Bytes::from(buffer).slice(at..)]
    }

    fn seal(&mut self, flags: u8, piece: &[u8]) -> Bytes {
        let mut message = Vec::with_capacity(HEADER + piece.len() + TAG);
        message.extend_from_slice(&self.header(flags));
        message.extend_from_slice(piece);
        if let Some(keys) = &self.keys {
            let tag = tag(&keys.send, &message);
            message.extend_from_slice(&tag);
        }
        message.into()
    }

    /// Of the next message.
    fn header(&mut self, flags: u8) -> [u8; HEADER] {
        self.sent += 1;
        let [a, b, c, d, e, f, g, h] = self.sent.to_be_bytes();
        [flags, a, b, c, d, e, f, g, h]
    }

    /// Takes one message; the frame, if it completes one.
    pub fn join<'a>(&mut self, message: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, MessageError> {
        let message = self.open(message)?;
        let (header, piece) = message.split_at_checked(HEADER).ok_or(MessageError::Malformed)?;
        let (flags, number) = header.split_first().ok_or(MessageError::Malformed)?;
        let number = number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if *flags & !(FIRST | LAST) != 0 {
            return Err(MessageError::Malformed);
        }
        if number <= self.received {
            return Err(MessageError::Replayed);
        }
        let skipped = number != self.received + 1;
        self.received = number;
        if *flags == FIRST | LAST && piece.len() <= MAX_FRAME {
            self.partial = None;
            return Ok(Some(Cow::Borrowed(piece)));
        }
        let mut frame = match self.partial.take() {
            _ if flags & FIRST != 0 => Vec::new(),
            Some(partial) if !skipped => partial,
            _ => return Ok(None),
        };
        if frame.len() + piece.len() > MAX_FRAME {
            return Err(MessageError::TooLarge);
        }
        frame.extend_from_slice(piece);
        if flags & LAST != 0 {
            return Ok(Some(Cow::Owned(frame)));
        }
        self.partial = Some(frame);
        Ok(None)
    }

    fn open<'a>(&self, message: &'a [u8]) -> Result<&'a [u8], MessageError> {
        let Some(keys) = &self.keys else { return Ok(message) };
        let at = message.len().checked_sub(TAG).ok_or(MessageError::Malformed)?;
        let (message, theirs) = message.split_at_checked(at).ok_or(MessageError::Malformed)?;
        if bool::from(tag(&keys.receive, message).ct_eq(theirs)) {
            Ok(message)
        } else {
            Err(MessageError::Forged)
        }
    }
}

fn tag(key: &[u8; 32], message: &[u8]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    for (to, from) in tag.iter_mut().zip(hmac_sha256(key, message)) {
        *to = from;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Framing, Framing) {
        let (a, b) = ([1; 32], [2; 32]);
        (
            Framing::new(Some(FrameKeys { send: a, receive: b })),
            Framing::new(Some(FrameKeys { send: b, receive: a })),
        )
    }

    #[test]
    fn frames_of_every_size_come_back() {
        for (mut a, mut b) in [pair(), (Framing::new(None), Framing::new(None))] {
            for size in [1, 2, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE, MAX_FRAME] {
                let frame: Vec<u8> = (0..size).map(|i| i as u8).collect();
                let messages = a.split(&frame);
                assert!(messages.iter().all(|message| message.len() <= MAX_BINARY));
                let mut joined = messages.iter().filter_map(|message| b.join(message).expect("a message"));
                assert_eq!(joined.next().as_deref(), Some(&*frame));
                assert_eq!(joined.next(), None);
            }
        }
    }

    #[test]
    fn a_frame_with_room_before_it_becomes_the_same_messages() {
        for (mut a, mut b) in [pair(), (Framing::new(None), Framing::new(None))] {
            for size in [1, 2, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE] {
                let frame: Vec<u8> = (0..size).map(|i| i as u8).collect();
                for start in [HEADER, HEADER + 5, 3] {
                    let buffer = [&vec![0; start], frame.as_slice()].concat();
                    let messages = a.split_in_place(buffer, start);
                    assert!(messages.iter().all(|message| message.len() <= MAX_BINARY));
                    let mut joined =
                        messages.iter().filter_map(|message| b.join(message).expect("a message"));
                    assert_eq!(joined.next().as_deref(), Some(&*frame));
                    assert_eq!(joined.next(), None);
                }
            }
        }
    }

    #[test]
    fn a_frame_that_lost_a_piece_is_lost_alone() {
        let (mut a, mut b) = pair();
        let pieces = a.split(&vec![7; 3 * MAX_PIECE]);
        assert_eq!(b.join(&pieces[0]), Ok(None));
        assert_eq!(b.join(&pieces[2]), Ok(None));
        let next = a.split(b"next").remove(0);
        assert_eq!(b.join(&next), Ok(Some(b"next".into())));
    }

    #[test]
    fn forged_replayed_reflected_and_oversized_messages_are_refused() {
        let (mut a, mut b) = pair();
        let message = a.split(b"hello").remove(0);
        let mut forged = message.to_vec();
        forged[2] ^= 1;
        assert_eq!(b.join(&forged), Err(MessageError::Forged));
        assert_eq!(a.join(&message), Err(MessageError::Forged), "reflected");
        assert_eq!(b.join(&message), Ok(Some(b"hello".into())));
        assert_eq!(b.join(&message), Err(MessageError::Replayed));
        assert_eq!(b.join(b"short"), Err(MessageError::Malformed));

        let (mut a, mut b) = (Framing::new(None), Framing::new(None));
        let too_large = a.split(&vec![0; MAX_FRAME + 1]);
        assert_eq!(too_large.iter().find_map(|message| b.join(message).err()), Some(MessageError::TooLarge));
    }
}
