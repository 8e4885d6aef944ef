//! The addresses that this machine offers to other hubs for data channels.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use pigeonhub_proto::config::{Host, InterfacePattern};
use pigeonhub_proto::control::Offered;
use pigeonhub_proto::settings::AddressRange;

use crate::listener::is_here;

/// How many local addresses a channel gathers on; the rest are left out. Each
/// costs a UDP socket and about 150 kB of receive buffers.
pub const MAX_ADDRESSES: usize = 16;

/// Addresses that belong to nobody (RFC 5737, RFC 3849): the way to them is the default route.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Which addresses the operator wants to be offered.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Where the hub listens: what counts if there is nothing else here.
    pub host: Host,
    /// `mesh.addresses`.
    pub networks: Vec<AddressRange>,
    /// `mesh.interfaces`.
    pub interfaces: Vec<InterfacePattern>,
}

/// An address of this machine.
#[derive(Clone, Debug)]
struct Local {
    ip: IpAddr,
    interface: String,
}

impl Wish {
    /// The addresses to gather candidates on, at most [`MAX_ADDRESSES`]: first those from which the
    /// default route and the ways to `far` leave, then the others of their interfaces; and which are left out.
    ///
    /// # Errors
    ///
    /// If the system does not tell its interfaces.
    pub fn offered(&self, far: &[IpAddr]) -> io::Result<Offered> {
        if let (Some(own), false) = (self.own(), self.chooses()) {
            // It may come later.
            let addresses = if is_here(own) { vec![own] } else { Vec::new() };
            return Ok(Offered { addresses, ..Offered::default() });
        }
        let ways: Vec<IpAddr> = ELSEWHERE.iter().chain(far).filter_map(|to| way_to(*to).ok()).collect();
        Ok(self.choose(locals()?, &ways))
    }

    /// Whether more counts than where the hub listens.
    fn chooses(&self) -> bool {
        !self.networks.is_empty() || !self.interfaces.is_empty()
    }

    /// The one address that the hub listens on, if it is one.
    fn own(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address) | Host::Name(_, Some(address)) => Some(*address),
            Host::Any | Host::Localhost | Host::Name(_, None) => None,
        }
        .filter(|address| !address.is_unspecified())
    }

    fn fits(&self, local: &Local) -> bool {
        if !self.chooses() {
            return self.host != Host::Localhost || local.ip.is_loopback();
        }
        let named = self.networks.is_empty() || self.networks.iter().any(|range| range.contains(local.ip));
        named && InterfacePattern::allow(&self.interfaces, &local.interface)
    }

    /// Of those the ones that fit, the best first. `ways` are sources of routes, the most important first.
    fn choose(&self, mut found: Vec<Local>, ways: &[IpAddr]) -> Offered {
        found.retain(|local| self.fits(local));
        let used: Vec<String> = found
            .iter()
            .filter(|local| ways.contains(&local.ip))
            .map(|local| local.interface.clone())
            .collect();
        found.sort_by_key(|Local { ip, interface }| {
            let way = ways.iter().position(|way| way == ip).unwrap_or(ways.len());
            (way, ip.is_loopback(), !used.contains(interface), ip.is_ipv6(), *ip)
        });
        let mut addresses: Vec<IpAddr> = Vec::new();
        for Local { ip, .. } in found {
            // Two interfaces may have the same one.
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        let left_out = addresses.split_off(addresses.len().min(MAX_ADDRESSES));
        Offered { addresses, left_out, no_port: 0 }
    }
}

/// The addresses of every interface that is up, loopback included.
///
/// Link-local IPv6 addresses are left out: they mean nothing without an interface name.
fn locals() -> io::Result<Vec<Local>> {
    let up = getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let local = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        // A further address of IPv4 may have a label of its own, `eth0:1`.
        let name = interface.interface_name.split(':').next()?;
        Some(Local { ip, interface: name.to_owned() })
    });
    Ok(local.filter(|local| is_usable(&local.ip)).collect())
}

fn is_usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

/// The address that what goes there would come from. Nothing is sent.
fn way_to(far: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((far, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(host: &str, networks: &[&str], interfaces: &[&str]) -> Wish {
        Wish {
            host: host.parse().expect("a host"),
            networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
            interfaces: interfaces.iter().map(|text| text.parse().expect("a pattern")).collect(),
        }
    }

    fn local(interface: &str, ip: &str) -> Local {
        Local { ip: ip.parse().expect("an address"), interface: interface.to_owned() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A machine with 20 bridges of containers.
    fn docker() -> Vec<Local> {
        let mut found = vec![local("lo", "127.0.0.1"), local("lo", "::1")];
        found.extend((0..20).map(|at| local(&format!("br-{at}"), &format!("172.{}.0.1", 17 + at))));
        found.extend(
            [("eth0", "203.0.113.5"), ("eth0", "203.0.113.6"), ("eth0", "2001:db8:1::5")]
                .map(|(interface, ip)| local(interface, ip)),
        );
        found.push(local("wg0", "198.51.100.9"));
        found
    }

    #[test]
    fn a_named_address_stands_alone() {
        let of = |host| wish(host, &[], &[]).offered(&[]).expect("nothing is asked that can fail").addresses;
        assert_eq!(of("127.0.0.2"), [ip("127.0.0.2")]);
        assert!(of("240.0.0.1").is_empty(), "it is nobody's");
    }

    #[test]
    fn a_wildcard_means_every_interface() {
        let all = wish("*", &[], &[]).offered(&[]).expect("the system tells its interfaces").addresses;
        assert!(all.contains(&ip("127.0.0.1")), "{all:?} has no loopback");
        assert!(all.iter().all(is_usable), "{all:?} has an address that cannot be reached");
        for wildcard in ["0.0.0.0", "::"] {
            let offered = wish(wildcard, &[], &[]).offered(&[]).expect("as before");
            assert_eq!(offered.addresses, all);
        }
        let local = wish("localhost", &[], &[]).offered(&[]).expect("as before").addresses;
        assert!(local.contains(&ip("127.0.0.1")) && local.iter().all(IpAddr::is_loopback), "{local:?}");
    }

    #[test]
    fn link_local_addresses_are_left_out() {
        assert!(!is_usable(&ip("fe80::1")));
        assert!(is_usable(&ip("::1")));
    }

    #[test]
    fn addresses_that_ways_lead_from_come_before_bridges() {
        let ways = ["203.0.113.5", "2001:db8:1::5", "198.51.100.9", "203.0.113.5"].map(ip);
        let Offered { addresses, left_out, .. } = Wish::default().choose(docker(), &ways);
        assert_eq!(addresses.len(), MAX_ADDRESSES);
        let first = ["203.0.113.5", "2001:db8:1::5", "198.51.100.9", "203.0.113.6"].map(ip);
        assert_eq!(addresses.get(..4).expect("there are 16"), first, "the last for its interface");
        assert_eq!(left_out.len(), 10);
        assert!(left_out.ends_with(&["127.0.0.1", "::1"].map(ip)), "{left_out:?}");
        // Another hub on this machine.
        let with = Wish::default().choose(docker(), &["203.0.113.5", "127.0.0.1"].map(ip)).addresses;
        assert!(with.contains(&ip("127.0.0.1")));
    }

    #[test]
    fn the_operator_chooses() {
        let of = |networks: &[&str], interfaces: &[&str]| {
            let offered = wish("127.0.0.1", networks, interfaces).choose(docker(), &[]);
            assert!(offered.left_out.is_empty(), "on purpose");
            offered.addresses
        };
        assert_eq!(of(&["203.0.113.0/24"], &[]), ["203.0.113.5", "203.0.113.6"].map(ip));
        assert_eq!(of(&[], &["wg*"]), [ip("198.51.100.9")]);
        assert_eq!(of(&[], &["!br-*", "!lo", "!wg0"]).len(), 3);
        assert_eq!(of(&["2001:db8::/32", "198.51.100.9"], &["eth0"]), [ip("2001:db8:1::5")]);
        assert!(of(&["10.0.0.0/8"], &[]).is_empty());
    }

    #[test]
    fn the_way_to_loopback_is_from_loopback() {
        assert_eq!(way_to(ip("127.0.0.1")).expect("it is up"), ip("127.0.0.1"));
    }
}
