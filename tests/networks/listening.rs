//! Machines whose addresses come late or not at all, and names whose first address is dead.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{PORT, doctor, plan};
use crate::harness::{Ground, Hub, Need, Net, Plan, skipped, until};

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

#[test]
fn an_address_that_comes_late_is_waited_for() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    let first = plan(&net, 1, false, "").start_on(&ground, PORT);
    let late = [("10.0.0.77/24", 2), ("fd00::77/64", 3)].map(|(address, host)| {
        let ip: IpAddr = address.split('/').next().and_then(|ip| ip.parse().ok()).expect("an address");
        // Of the second one duplicates are looked for while the hub starts.
        if ip.is_ipv6() {
            net.run(host, &format!("ip addr add {address} dev eth0"));
        }
        let plan = Plan::through(["ws://10.0.0.1:3000"]).migrating_after(Duration::from_secs(1));
        let hub = plan.config("").on(&net, host, ip).start_on(&ground, PORT);
        if ip.is_ipv4() {
            let found = doctor(&net, host, &hub);
            assert!(found.contains("10.0.0.77:3000, an address that this machine does not have"), "{found}");
            assert!(found.contains("none is offered to other hubs"), "{found}");
            net.run(host, &format!("ip addr add {address} dev eth0"));
        }
        reached(ip);
        hub
    });
    let told = late[0].log().iter().any(|line| line.contains("does not have the address 10.0.0.77 now"));
    assert!(told, "{:#?}", late[0].log());
    // Its data channels come to be, too; the other one has no address in common with the first for them.
    late[0].wait("has a data channel", |status| status.p2p_links >= 1);
    drop(first);
}

#[test]
fn a_name_whose_first_address_is_a_black_hole() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(2));
    for host in 1..=2 {
        // Not an address of a site of its own: those come after IPv4 (RFC 6724).
        net.run(host, &format!("ip addr add 2001:470:0:1::{host}/64 dev eth0 nodad"));
    }
    net.weather("ip6 daddr 2001:470:0:1::1 drop");
    let first: Hub = Plan::first().on(&net, 1, [0, 0, 0, 0].into()).start_on(&ground, PORT);
    let hosts = ground.folder().join("hosts");
    fs::write(&hosts, "2001:470:0:1::1 first.test\n10.0.0.1 first.test\n").expect("written");
    let with_hosts = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let namespace = net.namespace(2);
    let second = Plan::through(["ws://first.test:3000"]).on(&net, 2, net.address(2)).under(&[
        "ip",
        "netns",
        "exec",
        &namespace,
        "sh",
        "-c",
        &with_hosts,
        "sh",
    ]);
    let second = second.start_on(&ground, PORT);
    second.wait("has joined", |status| status.known_hubs == 1);
    let bootstrap = second.events().into_iter().find(|event| event.starts_with("bootstrap"));
    assert_eq!(bootstrap, Some("bootstrapConnected"), "with its first dial");
    drop(first);
}
