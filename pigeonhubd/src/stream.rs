//! Byte streams: one that reads and writes in large pieces without keeping a
//! buffer while nothing passes, and how to end one.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::buffers;

/// Bytes thrown away at most while a far end still sends.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Ends a stream such that the far end gets to read the last that was written:
/// a socket dropped with unread data resets the connection, and what was
/// written goes with it. Takes until the far end ends too, or the deadline.
pub async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), deadline: Instant) {
    let drained = async {
        // Not in the future itself, which is part of every session's memory.
        let mut waste = vec![0; 4096];
        let mut left = LINGER_BYTES;
        stream.shutdown().await?;
        loop {
            let count = stream.read(&mut waste).await?;
            left = left.saturating_sub(count);
            if count == 0 || left == 0 {
                return io::Result::Ok(());
            }
        }
    };
    // The connection is over either way.
    let _ = timeout_at(deadline, drained).await;
}

/// Bytes that may wait to be written before a writer has to wait itself.
const MOST_WAITING: usize = 64 * 1024;

/// Bytes read without a pause before others get their turn: a far end that sends on and on would
/// else keep its thread for milliseconds, and those behind it waiting.
pub const TURN: usize = 16 * 1024;

/// The same for a far end whose messages are small, and take little time each.
pub const LONG_TURN: usize = buffers::READ;

/// A stream with buffers that it has only while there is something in them.
///
/// What is written waits for a flush, so that many messages leave in one piece,
/// whoever wrote them: a WebSocket through [`AsyncWrite`], its session
/// through [`Self::put`].
#[derive(Debug)]
pub struct Pipe<S> {
    inner: S,
    /// What was read and is not taken yet.
    incoming: Option<(Box<[u8]>, Range<usize>)>,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that are written.
    sent: usize,
    written: u64,
    /// Bytes read since others had their turn.
    in_a_row: usize,
    /// How many that may be.
    turn: usize,
}

impl<S> Pipe<S> {
    /// Nothing has passed yet.
    pub fn new(inner: S) -> Self {
        Self { inner, incoming: None, outgoing: Vec::new(), sent: 0, written: 0, in_a_row: 0, turn: TURN }
    }

    /// Bytes that the stream below took so far: by these a session tells a slow
    /// far end from one that takes nothing at all.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes read without a pause.
    pub fn turn(&self) -> usize {
        self.turn
    }

    /// From now on so many, [`LONG_TURN`] at most.
    pub fn set_turn(&mut self, turn: usize) {
        self.turn = turn.min(LONG_TURN);
    }

    /// Whether nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Puts whole messages behind what waits to be written.
    pub fn put(&mut self, messages: Vec<u8>) {
        if self.is_flushed() {
            buffers::written(std::mem::replace(&mut self.outgoing, messages));
        } else {
            self.outgoing.extend_from_slice(&messages);
            buffers::written(messages);
        }
    }

    /// Nothing more is taken for a while: what was read is kept in no more room than it needs.
    pub fn rest(&mut self) {
        let Some((buffer, range)) = self.incoming.take() else { return };
        let left = buffer.get(range).unwrap_or_default().to_vec().into_boxed_slice();
        buffers::read(buffer);
        let len = left.len();
        self.incoming = Some((left, 0..len));
    }

    fn hand_out(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some((buffer, range)) = &mut self.incoming else { return false };
        let count = into.remaining().min(range.len());
        into.put_slice(buffer.get(range.start..range.start + count).unwrap_or_default());
        range.start += count;
        if range.start == range.end
            && let Some((buffer, _)) = self.incoming.take()
        {
            buffers::read(buffer);
        }
        true
    }
}

impl<S: AsyncWrite + Unpin> Pipe<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
            self.written = self.written.wrapping_add(count as u64);
        }
        self.sent = 0;
        buffers::written(std::mem::take(&mut self.outgoing));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pipe<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hand_out(buf) {
            return Poll::Ready(Ok(()));
        }
        if self.in_a_row >= self.turn {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut buffer = buffers::reading();
        let turn = self.turn;
        let mut piece = ReadBuf::new(buffer.get_mut(..turn).unwrap_or_default());
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut piece);
        let count = piece.filled().len();
        if matches!(read, Poll::Ready(Ok(()))) && count > 0 {
            self.in_a_row += count;
            self.incoming = Some((buffer, 0..count));
            self.hand_out(buf);
        } else {
            self.in_a_row = 0;
            buffers::read(buffer);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pipe<S> {
    /// Takes all or, while much waits, nothing.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.outgoing.len() - self.sent > MOST_WAITING {
            ready!(self.poll_drain(cx))?;
        }
        if self.outgoing.capacity() == 0 {
            self.outgoing = buffers::writing();
        }
        self.outgoing.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_flushed() {
            ready!(self.poll_drain(cx))?;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_waits_to_be_taken_takes_no_more_room_than_it_needs() {
        let all: Vec<u8> = (0..=255).cycle().take(3 * TURN).collect();
        let mut pipe = Pipe::new(all.as_slice());
        let (mut piece, mut got) = (vec![0; 1000], Vec::new());
        loop {
            match pipe.read(&mut piece).now_or_never() {
                Some(Ok(0)) => break,
                Some(count) => {
                    got.extend_from_slice(&piece[..count.expect("memory can be read")]);
                    pipe.rest();
                    let held = pipe.incoming.as_ref().map_or(0, |(buffer, _)| buffer.len());
                    assert_eq!(held, (TURN - got.len() % TURN) % TURN);
                }
                None => {}
            }
        }
        assert_eq!(got, all);
        assert_eq!(buffers::reading().len(), buffers::READ, "none of another size is lent to anybody");
    }

    #[test]
    fn others_get_their_turn_while_much_comes_in() {
        for turn in [TURN, LONG_TURN] {
            let much = vec![7; 3 * turn];
            let mut pipe = Pipe::new(much.as_slice());
            pipe.set_turn(turn);
            let (mut piece, mut bytes, mut turns) = (vec![0; 5000], 0, 0);
            loop {
                match pipe.read(&mut piece).now_or_never() {
                    Some(Ok(0)) => break,
                    Some(count) => bytes += count.expect("memory can be read"),
                    None => turns += 1,
                }
            }
            assert_eq!((bytes, turns), (much.len(), 3));
        }
    }
}
