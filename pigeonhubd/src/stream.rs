//! A byte stream that counts what it could write, so that a session can tell
//! a slow far end from one that takes nothing at all.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::MaybeTlsStream;

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
