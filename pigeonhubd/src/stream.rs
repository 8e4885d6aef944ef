//! Byte streams: one that counts what it could write, so that a session can
//! tell a slow far end from one that takes nothing at all, and how to end one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::MaybeTlsStream;

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

/// Passes everything on and counts the bytes written.
#[derive(Debug)]
pub struct Counted<S> {
    inner: S,
    written: u64,
}

impl<S> Counted<S> {
    /// Counts from zero.
    pub fn new(inner: S) -> Self {
        Self { inner, written: 0 }
    }
}

/// A stream that knows how many bytes it wrote.
pub trait Written {
    /// Bytes that the socket took so far.
    fn written(&self) -> u64;
}

impl<S> Written for Counted<S> {
    fn written(&self) -> u64 {
        self.written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Written for MaybeTlsStream<Counted<S>> {
    fn written(&self) -> u64 {
        match self {
            MaybeTlsStream::Plain(stream) => stream.written(),
            MaybeTlsStream::Rustls(stream) => stream.get_ref().0.written(),
            // A kind that this crate has not enabled: never made.
            _ => 0,
        }
    }
}

impl<S> Written for TlsStream<Counted<S>> {
    fn written(&self) -> u64 {
        self.get_ref().0.written()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.written = self.written.wrapping_add(count as u64);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
