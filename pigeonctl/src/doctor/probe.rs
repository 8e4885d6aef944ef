//! Probes over the network: STUN, WebSocket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pigeonhub_proto::id::Id;
use url::Url;

use super::tls;

/// How long a far end may take for each step.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// The most of an answer that is read, in bytes.
const MOST_READ: usize = 16 * 1024;
/// A WebSocket close of a client: status 1000, masked with zeros (RFC 6455, section 5).
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
/// STUN's magic cookie (RFC 8489, section 5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// All addresses of a name.
pub(super) fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = (bare, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    if found.is_empty() { Err(format!("{host} has no address")) } else { Ok(found) }
}

/// Opens a connection to the first address that takes one.
pub(super) fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut last = String::new();
    for address in resolve(host, port)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                let set = stream.set_read_timeout(Some(PATIENCE));
                set.and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
                    .map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// Asks a STUN server, which every TURN server is as well, for our address as
/// it sees it (RFC 8489, binding request).
pub(super) fn stun(server: SocketAddr) -> Result<SocketAddr, String> {
    let own: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(own).map_err(|error| error.to_string())?;
    socket.connect(server).map_err(|error| error.to_string())?;
    let mut request = [0; 20];
    // What tells our answer from others': good enough where nothing depends on it.
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    request[1] = 1;
    request[4..8].copy_from_slice(&COOKIE);
    request[8..20].copy_from_slice(&nanos.to_be_bytes()[4..]);
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(500);
    while Instant::now() < until {
        socket.send(&request).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(pause)).map_err(|error| error.to_string())?;
        let mut answer = [0; 1500];
        match socket.recv(&mut answer) {
            Ok(len) => {
                if let Some(seen) = answer.get(..len).and_then(|answer| mapped(answer, &request[8..])) {
                    return Ok(seen);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
        pause *= 2;
    }
    Err(format!("no answer within {} s", PATIENCE.as_secs()))
}

/// The address in a binding response.
pub(super) fn mapped(answer: &[u8], transaction: &[u8]) -> Option<SocketAddr> {
    if answer.get(..2)? != [1, 1] || answer.get(4..8)? != COOKIE || answer.get(8..20)? != transaction {
        return None;
    }
    let mut rest = answer.get(20..)?;
    loop {
        let kind = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?);
        let len = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
        let value = rest.get(4..4 + len)?;
        // XOR-MAPPED-ADDRESS, and MAPPED-ADDRESS of old servers.
        if kind == 0x0020 || kind == 0x0001 {
            return address(value, transaction, kind == 0x0020);
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
}

fn address(value: &[u8], transaction: &[u8], masked: bool) -> Option<SocketAddr> {
    let mask: Vec<u8> = COOKIE.iter().chain(transaction).map(|byte| if masked { *byte } else { 0 }).collect();
    let unmask =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(&mask).map(|(byte, mask)| byte ^ mask).collect() };
    let port = u16::from_be_bytes(unmask(value.get(2..4)?).try_into().ok()?);
    match value.get(1)? {
        1 => Some((<[u8; 4]>::try_from(unmask(value.get(4..8)?)).ok()?, port).into()),
        2 => Some((<[u8; 16]>::try_from(unmask(value.get(4..20)?)).ok()?, port).into()),
        _ => None,
    }
}

/// What a server says to the question for a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// The status line.
    pub(super) line: String,
    /// Whether it agrees.
    pub(super) agreed: bool,
    /// Its clock, if it says.
    pub(super) date: Option<SystemTime>,
}

/// Asks whether there is a WebSocket, as a hub of a random id would, and closes it.
pub(super) fn upgrade(url: &Url, ca: Option<&Path>) -> Result<Upgrade, String> {
    let host = url.host_str().ok_or("no host in the URL")?;
    let secure = url.scheme() == "wss";
    let port = url.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(host, port)?;
    // Whoever names no id is turned away, and counted. A hub is not asked for a client's token.
    let mut peer = [0; 20];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut peer))
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let own = format!("peerId={}&mesh=1", Id(peer));
    let query = url.query().filter(|query| !query.is_empty());
    let query = query.map_or(own.clone(), |query| format!("{query}&{own}"));
    // The key is the one of RFC 6455's example.
    let request = format!(
        "GET {}?{query} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        url.path()
    );
    if secure { greet(tls::wrap(stream, host, ca)?, &request) } else { greet(stream, &request) }
}

fn greet(mut stream: impl Read + Write, request: &str) -> Result<Upgrade, String> {
    let upgrade = parse(&exchange(&mut stream, request)?);
    if upgrade.agreed {
        // It is well whether or not it hears that.
        let _ = stream.write_all(&CLOSE).and_then(|()| stream.flush());
    }
    Ok(upgrade)
}

/// Sends a request and reads the head of the answer.
pub(super) fn exchange(mut stream: impl Read + Write, request: &str) -> Result<String, String> {
    let slow = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    };
    stream.write_all(request.as_bytes()).map_err(slow)?;
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MOST_READ && Instant::now() < until {
        match stream.read(&mut part).map_err(slow)? {
            0 => break,
            len => head.extend_from_slice(part.get(..len).unwrap_or_default()),
        }
    }
    if head.is_empty() {
        Err(String::from("it hung up"))
    } else {
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

pub(super) fn parse(head: &str) -> Upgrade {
    let line = head.lines().next().unwrap_or_default().to_owned();
    let field = |name: &str| {
        let of = head.lines().skip(1).take_while(|line| !line.is_empty());
        let mut of = of.filter_map(|line| line.split_once(':'));
        of.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let agreed = line.split(' ').nth(1) == Some("101");
    Upgrade { agreed, date: field("date").and_then(http_date), line }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
pub(super) fn http_date(text: &str) -> Option<SystemTime> {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = months.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}
