//! Machines whose addresses come late or not at all.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{PORT, doctor};
use crate::harness::{Ground, Need, Net, Plan, skipped, until};

/// Waits until TCP opens there.
fn reached(address: IpAddr) {
    let at = SocketAddr::new(address, PORT);
    until("the hub is reached", || TcpStream::connect_timeout(&at, Duration::from_millis(500)).ok());
}

#[test]
fn everywhere_is_both_families_and_ipv4_where_there_is_no_other() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(2));
    net.run(2, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    // The second one has no IPv6.
    for host in 1..=2 {
        let everywhere = Plan::first().on(&net, host, "::".parse().expect("an address"));
        let hub = everywhere.start_on(&ground, PORT);
        reached(net.address(host));
        if host == 1 {
            reached(net.address6(host));
        }
        let found = doctor(&net, host, &hub);
        let port: Vec<&str> = found.lines().filter(|line| line.contains(" port  ")).collect();
        assert_eq!(port.len(), 3 - host, "{found}");
        assert!(port.iter().all(|line| line.ends_with(":3000 answers")), "{found}");
    }
}
