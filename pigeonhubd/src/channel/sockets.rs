//! What a channel's UDP sockets need.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
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

/// The size of packets on a path that stays on this machine, if no path of a channel leaves
/// it; in bytes, without what DTLS and UDP add. Each packet costs the same whatever its size.
const WITHIN: u32 = 16_000;

/// What UDP, IP and DTLS add to a packet, in bytes.
const HEADERS: u32 = 48 + 37;

/// The most that the kernel takes at once, in bytes: what fits into an IPv4 packet with its headers.
const MAX_DATAGRAM: u32 = 65_507;

/// The largest SCTP packet for a channel at these local addresses, if it is other than what
/// fits through any network.
pub(super) fn packet_size(addresses: &[IpAddr]) -> Option<u32> {
    let within = !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback);
    (within && loopback_mtu()? >= WITHIN + HEADERS).then_some(WITHIN)
}

/// The MTU of the loopback interface; nothing is sent.
fn loopback_mtu() -> Option<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.connect((Ipv4Addr::LOCALHOST, 9)).ok()?;
    u32::try_from(getsockopt(&socket, sockopt::IpMtu).ok()?).ok()
}

/// A channel's socket. Several datagrams go to the kernel in one piece, which it splits up
/// (generic segmentation offload), only if their way does not leave this machine. Elsewhere
/// they would cross virtual links unsplit, and whoever drops what is larger than a path's MTU
/// there would drop all of them.
#[derive(Debug)]
pub(super) struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// This machine's addresses, as far as the channel uses them.
    own: Arc<[IpAddr]>,
    /// How many datagrams go to the kernel at once, at most.
    together: usize,
    /// How much of what is being sent one by one is sent.
    sent: AtomicUsize,
}

impl Socket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, own: Arc<[IpAddr]>) -> Self {
        // The crate gathers as many as are worth it, or as there may be. Of large ones four are.
        let together =
            packet_size(&own).map_or(usize::MAX, |size| (MAX_DATAGRAM / (size + HEADERS)) as usize);
        Self { inner, own, together, sent: AtomicUsize::new(0) }
    }

    /// Whether datagrams to that address cross the loopback interface alone.
    fn stays_here(&self, to: IpAddr) -> bool {
        to.is_loopback() || self.own.contains(&to)
    }

    /// Sends one datagram after the other. The crate's driver asks again about the same ones
    /// until all are sent, or one cannot be.
    fn poll_send_each(
        &self,
        cx: &mut Context<'_>,
        transmit: &Transmit<'_>,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        let rest = transmit.contents.get(self.sent.load(Ordering::Relaxed)..).unwrap_or_default();
        for contents in rest.chunks(size) {
            let one = Transmit { contents, segment_size: None, ..transmit.clone() };
            if let Err(error) = ready!(self.inner.poll_send(cx, &one)) {
                self.sent.store(0, Ordering::Relaxed);
                return Poll::Ready(Err(error));
            }
            self.sent.fetch_add(contents.len(), Ordering::Relaxed);
        }
        self.sent.store(0, Ordering::Relaxed);
        Poll::Ready(Ok(transmit.contents.len()))
    }
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        match transmit.segment_size {
            Some(size) if size > 0 && !self.stays_here(transmit.destination.ip()) => {
                self.poll_send_each(cx, transmit, size)
            }
            _ => self.inner.poll_send(cx, transmit),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments().min(self.together)
    }

    /// The crate's buffer for what it receives has room for that many packets of 1,500 bytes.
    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments().max((WITHIN + HEADERS).div_ceil(1500) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was to be sent, and the size of its pieces.
    type Sending = (Vec<u8>, Option<usize>);

    /// Takes down how it was asked to send; every second time it is not ready.
    #[derive(Debug, Default)]
    struct Scribe {
        asked: AtomicUsize,
        sent: Mutex<Vec<Sending>>,
    }

    impl AsyncUdpSocket for Scribe {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
            if self.asked.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                return Poll::Pending;
            }
            if transmit.contents == b"bad" {
                return Poll::Ready(Err(io::ErrorKind::HostUnreachable.into()));
            }
            let sent = (transmit.contents.to_vec(), transmit.segment_size);
            self.sent.lock().expect("no test panics with it").push(sent);
            Poll::Ready(Ok(transmit.contents.len()))
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    /// Sends `contents` in pieces of three bytes to that address, and says how the kernel was asked to.
    fn send(contents: &[u8], to: [u8; 4]) -> (io::Result<usize>, Vec<Sending>) {
        let scribe = Arc::new(Scribe::default());
        let inner: Arc<dyn AsyncUdpSocket> = Arc::<Scribe>::clone(&scribe);
        let socket = Socket::new(inner, [IpAddr::from([192, 0, 2, 1])].into());
        let destination = (to, 9).into();
        let transmit = Transmit { destination, ecn: None, contents, segment_size: Some(3), src_ip: None };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let result = loop {
            if let Poll::Ready(result) = socket.poll_send(&mut cx, &transmit) {
                break result;
            }
        };
        assert_eq!(socket.sent.load(Ordering::Relaxed), 0, "the next one begins at its beginning");
        let sent = std::mem::take(&mut *scribe.sent.lock().expect("no test panics with it"));
        (result, sent)
    }

    #[test]
    fn datagrams_go_in_one_piece_only_to_this_machine() {
        for here in [[127, 0, 0, 3], [192, 0, 2, 1]] {
            let (result, sent) = send(b"onetwoend", here);
            assert_eq!(result.expect("it is sent"), 9);
            assert_eq!(sent, [(b"onetwoend".to_vec(), Some(3))]);
        }
        let (result, sent) = send(b"onetwo.", [192, 0, 2, 2]);
        assert_eq!(result.expect("all are sent"), 7);
        assert_eq!(sent, ["one", "two", "."].map(|one| (one.into(), None)));
        let (result, sent) = send(b"onebadend", [192, 0, 2, 2]);
        assert_eq!(result.expect_err("one is not").kind(), io::ErrorKind::HostUnreachable);
        assert_eq!(sent, [(b"one".to_vec(), None)]);
    }

    #[test]
    fn only_a_channel_that_cannot_leave_this_machine_has_large_packets() {
        let (v4, v6) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST));
        let large = loopback_mtu().expect("Linux tells it") >= WITHIN + HEADERS;
        assert_eq!(packet_size(&[v4, v6]), large.then_some(WITHIN));
        assert_eq!(packet_size(&[v4, IpAddr::from([192, 0, 2, 1])]), None);
        assert_eq!(packet_size(&[]), None);
    }
}
