//! Who has a port that this hub should listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the kernel calls a socket that listens, and one that waits after its connection's end
/// (`include/net/tcp_states.h`).
const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;

/// What has a port, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A socket that listens, where this hub would.
    Listener(IpAddr),
    /// A connection that somebody here made to there: the kernel gave it that port.
    Connection(SocketAddr),
    /// Such a connection that is over; its port is kept for another minute at most.
    Ended(SocketAddr),
    /// It cannot be found out.
    Unknown(IpAddr),
}

impl Holder {
    /// Of the port that `wanted` names, as far as it keeps others from listening at that address.
    pub fn of(wanted: SocketAddr) -> Self {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
        let tables: Vec<String> = tables.into_iter().flatten().collect();
        Self::among(tables.iter().flat_map(|table| table.lines().filter_map(socket)), wanted)
    }

    fn among(sockets: impl Iterator<Item = Socket>, wanted: SocketAddr) -> Self {
        let clash = |socket: &Socket| {
            let (own, other) = (wanted.ip().to_canonical(), socket.local.ip().to_canonical());
            let same = own == other || own.is_unspecified() || other.is_unspecified();
            socket.local.port() == wanted.port() && same
        };
        let rank = |socket: &Socket| match socket.state {
            LISTEN => 0,
            TIME_WAIT => 2,
            _ => 1,
        };
        match sockets.filter(clash).min_by_key(rank) {
            Some(Socket { state: LISTEN, .. }) => Self::Listener(wanted.ip()),
            Some(Socket { state: TIME_WAIT, remote, .. }) => Self::Ended(remote),
            Some(Socket { remote, .. }) => Self::Connection(remote),
            None => Self::Unknown(wanted.ip()),
        }
    }

    /// What to do about it, as the beginning of a sentence.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Listener(_) | Self::Unknown(_) => "Stop it",
            Self::Connection(_) => "End it and list the port in net.ipv4.ip_local_reserved_ports (sysctl)",
            Self::Ended(_) => "Wait a minute and list the port in net.ipv4.ip_local_reserved_ports (sysctl)",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(address) => write!(f, "another process listens on {address}"),
            Self::Connection(remote) => write!(f, "a connection from here to {remote} has it"),
            Self::Ended(remote) => write!(f, "a connection from here to {remote} had it until just now"),
            Self::Unknown(address) => {
                write!(f, "another process listens on {address}, or a connection from there has it")
            }
        }
    }
}

/// One line of `/proc/net/tcp` (proc_net_tcp(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
}

fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Socket {
        local: address(local)?,
        remote: address(remote)?,
        state: u8::from_str_radix(state, 16).ok()?,
    })
}

/// Hexadecimal; of the address each four bytes as this machine's kernel has them in a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0200007F:0BB9 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   2: 0200007F:0BBA 0100007F:1F90 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0
   3: 00000000000000000000000001000000:0BBB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1 1 0 100 0
   4: 0000000000000000FFFF00000100007F:0BBC 0000000000000000FFFF00000200007F:0050 01 0:0 00:0 0 0 0 1 1 0 100 0
   5: truncated";

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let of = |wanted: &str| {
            Holder::among(TABLE.lines().filter_map(socket), wanted.parse().expect("an address"))
        };
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(of("127.0.0.1:3000"), Holder::Listener(at("127.0.0.1:0").ip()));
        assert_eq!(of("0.0.0.0:3000"), Holder::Listener(at("0.0.0.0:0").ip()));
        assert_eq!(of("127.0.0.9:3000"), Holder::Unknown(at("127.0.0.9:0").ip()), "another address");
        assert_eq!(of("0.0.0.0:3001"), Holder::Connection(at("127.0.0.1:8080")));
        assert_eq!(of("127.0.0.2:3002"), Holder::Ended(at("127.0.0.1:8080")));
        assert_eq!(of("[::1]:3003"), Holder::Listener(at("[::1]:0").ip()));
        assert_eq!(of("127.0.0.1:3004"), Holder::Connection(at("[::ffff:127.0.0.2]:80")));
        assert_eq!(of("127.0.0.1:3005"), Holder::Unknown(at("127.0.0.1:0").ip()));
    }
}
