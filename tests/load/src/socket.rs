//! A WebSocket client that costs next to nothing, so that a hub is measured
//! and not this program: no masking (a mask of zeros), no checks of what a hub
//! sends but those that keep counts right, whole messages in single frames.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

/// The reading end.
pub(crate) struct Reader {
    tcp: OwnedReadHalf,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Ping,
    Close,
    Other,
}

/// Where in the buffer a frame's payload is.
struct Found {
    kind: Kind,
    from: usize,
    to: usize,
}

/// Opens a WebSocket as `peer` from an address of 127/8 that `number` picks:
/// a single one has ports for 28,000 connections.
pub(crate) async fn connect(
    hub: SocketAddr,
    peer: &str,
    number: usize,
) -> io::Result<(Reader, OwnedWriteHalf)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    if hub.ip().is_loopback() {
        let [_, b, c, d] = u32::try_from(number / 16 + 2).unwrap_or(2).to_be_bytes();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, b, c, d), 0)))?;
    }
    let mut tcp = socket.connect(hub).await?;
    let request = format!(
        "GET /?peerId={peer} HTTP/1.1\r\nHost: {hub}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await?;
    let early = answer(&mut tcp).await?;
    let end = early.len();
    let (tcp, out) = tcp.into_split();
    Ok((Reader { tcp, buffer: early, start: 0, end }, out))
}

/// Reads the answer to the handshake; what came behind it.
async fn answer(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 101 ") {
                let text = String::from_utf8_lossy(head.get(..at).unwrap_or_default()).into_owned();
                return Err(io::Error::other(format!("no WebSocket: {text}")));
            }
            return Ok(head.split_off(at + 4));
        }
        if tcp.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A text message as a frame.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// The answer to a ping.
pub(crate) fn pong() -> Vec<u8> {
    frame(0x8a, b"")
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..126), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

impl Reader {
    /// The next message, waiting for it.
    pub(crate) async fn next(&mut self) -> io::Result<(Kind, &[u8])> {
        loop {
            if let Some(found) = self.find()? {
                return Ok((found.kind, self.buffer.get(found.from..found.to).unwrap_or_default()));
            }
            self.fill().await?;
        }
    }

    /// The next message, if it is here already.
    pub(crate) fn ready(&mut self) -> io::Result<Option<(Kind, &[u8])>> {
        let found = self.find()?;
        Ok(found.map(|found| (found.kind, self.buffer.get(found.from..found.to).unwrap_or_default())))
    }

    async fn fill(&mut self) -> io::Result<()> {
        // A buffer of its own only while something comes: thousands of clients are idle.
        self.tcp.readable().await?;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + 4096 {
            self.buffer.resize((self.end * 2).max(8192), 0);
        }
        match self.tcp.try_read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.end += count;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.start == self.end {
                    self.buffer = Vec::new();
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn find(&mut self) -> io::Result<Option<Found>> {
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
        let (header, len) = match second & 0x7f {
            126 => match bytes.get(2..4).and_then(|len| len.try_into().ok()) {
                Some(len) => (4, usize::from(u16::from_be_bytes(len))),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
                Some(len) => (10, usize::try_from(u64::from_be_bytes(len)).unwrap_or(usize::MAX)),
                None => return Ok(None),
            },
            short => (2, usize::from(short)),
        };
        if len > 1 << 20 {
            return Err(io::Error::other("a message of over a megabyte"));
        }
        if bytes.len() < header + len {
            return Ok(None);
        }
        let kind = match first {
            0x81 => Kind::Text,
            0x89 => Kind::Ping,
            0x88 => Kind::Close,
            _ => Kind::Other,
        };
        let from = self.start + header;
        self.start = from + len;
        Ok(Some(Found { kind, from, to: self.start }))
    }
}

/// The bytes behind `name` in `text`, as many as `count`.
pub(crate) fn after<'a>(text: &'a [u8], name: &[u8], count: usize) -> Option<&'a [u8]> {
    let at = text.windows(name.len()).position(|it| it == name)? + name.len();
    text.get(at..at + count)
}
