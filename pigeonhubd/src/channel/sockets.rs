//! What a channel's UDP sockets need.

use std::net::UdpSocket;

use nix::sys::socket::{setsockopt, sockopt};

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
