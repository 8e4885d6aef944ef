//! What a channel's UDP sockets need.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// Bulk data overflows the usual 208 KiB. This is a ceiling, not memory that is taken;
/// the kernel lowers it to `net.core.rmem_max` and `wmem_max`.
const BUFFER: usize = 4 * 1024 * 1024;

/// Lets the kernel hold more datagrams. A kernel that will not is no reason to fail.
pub(super) fn enlarge_buffers(socket: &UdpSocket) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBuf, &BUFFER) {
        tracing::debug!(%error, "a channel's receive buffer keeps its size");
    }
    if let Err(error) = setsockopt(socket, sockopt::SndBuf, &BUFFER) {
        tracing::debug!(%error, "a channel's send buffer keeps its size");
    }
}

/// A socket that hands each datagram to the kernel by itself. Several at once, which
/// the kernel splits up (generic segmentation offload), cross virtual links unsplit:
/// whoever drops what is larger than a path's MTU there would drop all of them.
#[derive(Debug)]
pub(super) struct OneByOne(pub(super) Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for OneByOne {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn max_gso_segments(&self) -> usize {
        1
    }

    fn max_gro_segments(&self) -> usize {
        self.0.max_gro_segments()
    }
}
