//! The addresses that this machine can be reached at.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The addresses to gather candidates on: `host` alone if the listener is bound to
/// one address, else those of every interface that is up, loopback included.
///
/// Link-local IPv6 addresses are left out: they mean nothing without an interface name.
///
/// # Errors
///
/// If the system does not tell its interfaces.
pub fn local_addresses(host: Option<IpAddr>) -> io::Result<Vec<IpAddr>> {
    if let Some(host) = host.filter(|host| !host.is_unspecified()) {
        return Ok(vec![host]);
    }
    let mut addresses: Vec<IpAddr> = getifaddrs()?
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(is_usable)
        .collect();
    // Loopback last: only the first few addresses are used on a machine that has many.
    addresses.sort_by_key(|address| (address.is_loopback(), address.is_ipv6(), *address));
    addresses.dedup();
    Ok(addresses)
}

fn is_usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_named_address_stands_alone() {
        let host = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(local_addresses(Some(host)).expect("no system call is made"), [host]);
    }

    #[test]
    fn a_wildcard_means_every_interface() {
        let all = local_addresses(None).expect("the system tells its interfaces");
        assert!(all.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{all:?} has no loopback");
        assert!(all.iter().all(is_usable), "{all:?} has an address that cannot be reached");
        let wildcards = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        for wildcard in wildcards {
            assert_eq!(local_addresses(Some(wildcard)).expect("as before"), all);
        }
    }

    #[test]
    fn link_local_addresses_are_left_out() {
        assert!(!is_usable(&IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))));
        assert!(is_usable(&IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
}
