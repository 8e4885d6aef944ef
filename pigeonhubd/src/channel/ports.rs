//! The UDP ports of data channels.

use std::io;
use std::iter::{Once, once};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pigeonhub_proto::config::UdpPorts;

use crate::tally::Count;

/// Which ports channels may take. Copies count together.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    range: Option<UdpPorts>,
    told: Arc<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Channels that found no port.
    vain: Count,
    /// The last one was one of these.
    short: AtomicBool,
}

impl Ports {
    /// Of that range; without one those that the system gives.
    pub fn new(range: Option<UdpPorts>) -> Self {
        Self { range, told: Arc::default() }
    }

    /// That range from now on.
    pub(crate) fn change(&mut self, other: &Self) {
        self.range = other.range;
    }

    /// How many channels found no port so far.
    pub fn vain(&self) -> u64 {
        self.told.vain.get()
    }

    /// Reserves a port, the same at each of the addresses.
    pub(super) fn reserve(&self, addresses: &[IpAddr]) -> Result<Vec<Reserved>, String> {
        let Some(range) = self.range else {
            let free = |ip: &IpAddr| Reserved { address: SocketAddr::new(*ip, 0), held: Mutex::new(None) };
            return Ok(addresses.iter().map(free).collect());
        };
        // Not always the same first: whoever comes from elsewhere may still send to the last channel's.
        let from: u16 = rand::random_range(range.first..=range.last);
        match (from..=range.last).chain(range.first..from).find_map(|port| all_at(addresses, port)) {
            Some(reserved) => {
                self.told.short.store(false, Ordering::Relaxed);
                Ok(reserved)
            }
            None => {
                self.told.vain.one();
                let (ports, are) = if range.count() == 1 { ("port", "is") } else { ("ports", "are all") };
                let error = format!("the UDP {ports} of mesh.udp_ports, {range}, {are} taken");
                if !self.told.short.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "no data channel can open: {error}; a hub needs mesh.max_peers and 2 more"
                    );
                }
                Err(error)
            }
        }
    }
}

/// A socket on each of the addresses, if the port is free there. An address that
/// this machine does not have, or not any more, is for others to complain of.
fn all_at(addresses: &[IpAddr], port: u16) -> Option<Vec<Reserved>> {
    let hold = |ip: &IpAddr| {
        let address = SocketAddr::new(*ip, port);
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            held => Some(Reserved { address, held: Mutex::new(held.ok()) }),
        }
    };
    addresses.iter().map(hold).collect()
}

/// A place for a socket, kept free of others until the WebRTC crate asks for
/// its address, which it does in order to bind it at once.
#[derive(Debug)]
pub(super) struct Reserved {
    address: SocketAddr,
    held: Mutex<Option<UdpSocket>>,
}

impl ToSocketAddrs for Reserved {
    type Iter = Once<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(once(self.address))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn as_many_channels_as_ports_and_no_more() {
        let addresses = [Ipv4Addr::new(127, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()];
        // Below those that the system gives to others.
        let range = UdpPorts { first: 9_341, last: 9_343 };
        let ports = Ports::new(Some(range));
        let mut taken: Vec<Vec<Reserved>> =
            (0..3).map(|_| ports.reserve(&addresses).expect("one is free")).collect();
        let mut numbers: Vec<u16> = taken.iter().flatten().map(|it| it.address.port()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [9_341, 9_341, 9_342, 9_342, 9_343, 9_343]);
        let error = ports.reserve(&addresses).expect_err("none is left");
        assert_eq!(error, "the UDP ports of mesh.udp_ports, 9341-9343, are all taken");
        assert_eq!(ports.clone().vain(), 1);
        let over = taken.pop().expect("three");
        // The crate binds what it asks for.
        for place in &over {
            let address = place.to_socket_addrs().expect("it is one").next().expect("it is one");
            drop(UdpSocket::bind(address).expect("nobody holds it any more"));
        }
        assert_eq!(ports.reserve(&addresses).expect("it is free again").len(), 2);
    }
}
