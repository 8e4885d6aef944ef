//! Machines with more addresses than a hub offers, and firewalls that let few ports through.

use std::time::Duration;

use super::{PORT, doctor};
use crate::harness::{Ground, Hub, Need, Net, Plan, skipped, until_ok};

/// On each host of `net` 20 bridges of containers, their addresses the same everywhere, and its own address,
/// which as a number is larger.
fn among_bridges(net: &Net, hosts: usize) {
    for host in 1..=hosts {
        net.run(host, "ip addr flush dev eth0 scope global");
        net.run(host, &format!("ip addr add 203.0.113.{host}/24 dev eth0"));
        net.run(host, &format!("ip addr add fd00::{host}/64 dev eth0 nodad"));
        for bridge in 0..20 {
            net.run(host, &format!("ip link add br-{bridge} type bridge forward_delay 0"));
            net.run(host, &format!("ip addr add 172.{}.0.1/16 dev br-{bridge}", 17 + bridge));
            net.run(host, &format!("ip link set br-{bridge} up"));
        }
    }
}

fn port(host: usize) -> u16 {
    PORT + u16::try_from(host).expect("few hosts")
}

/// A hub that listens everywhere and tells no URL.
fn anywhere(net: &Net, host: usize, mesh: &str) -> Plan {
    let others = (1..=2).filter(|other| *other != host);
    let urls: Vec<String> = others.map(|other| format!("ws://203.0.113.{other}:{}", port(other))).collect();
    Plan::through(urls.iter().map(String::as_str))
        .migrating_after(Duration::from_secs(1))
        .config(&format!("[mesh]\n{mesh}"))
        .on(net, host, [0, 0, 0, 0].into())
}

/// The UDP ports that a hub has bound.
fn udp_ports(hub: &Hub) -> Vec<u16> {
    let tables =
        ["udp", "udp6"].map(|name| std::fs::read_to_string(format!("/proc/{}/net/{name}", hub.pid())));
    let tables = tables.map(|table| table.expect("the kernel tells"));
    let port = |line: &str| {
        let local = line.split_ascii_whitespace().nth(1)?.rsplit_once(':')?.1;
        u16::from_str_radix(local, 16).ok()
    };
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(port).collect()
}

#[test]
fn twenty_bridges_beside_the_real_address() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    among_bridges(&net, 3);
    let hubs: Vec<Hub> = (1..=3).map(|host| anywhere(&net, host, "").start_on(&ground, port(host))).collect();
    hubs.iter().for_each(|hub| hub.wait_migrated(2));
    for (at, hub) in hubs.iter().enumerate() {
        let offered = hub.status().offered.expect("it is in a mesh");
        assert_eq!(offered.addresses.len(), 16);
        assert_eq!(offered.addresses.first().map(ToString::to_string), Some(format!("203.0.113.{}", at + 1)));
        assert_eq!(offered.left_out.len(), 20 + 4 - 16, "bridges and loopback: {:?}", offered.left_out);
        let told = hub.log().iter().filter(|line| line.contains("Left out: ")).count();
        assert_eq!(told, 1, "once, however many channels were opened");
    }
    let found = doctor(&net, 1, &hubs[0]);
    assert!(found.contains("too many for it: 172."), "{found}");
}

#[test]
fn data_channels_keep_to_their_ports_and_addresses() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    among_bridges(&net, 3);
    // All else is closed between the hosts.
    net.weather("meta l4proto udp udp dport != 40000-40004 drop");
    let mesh = "udp_ports = \"40000-40004\"\ninterfaces = [\"!br-*\"]\naddresses = [\"203.0.113.0/24\"]";
    let hubs: Vec<Hub> =
        (1..=3).map(|host| anywhere(&net, host, mesh).start_on(&ground, port(host))).collect();
    hubs.iter().for_each(|hub| hub.wait_migrated(2));
    for (at, hub) in hubs.iter().enumerate() {
        let ports = udp_ports(hub);
        assert!(ports.len() >= 2 && ports.iter().all(|port| (40_000..=40_004).contains(port)), "{ports:?}");
        let offered = hub.status().offered.expect("it is in a mesh");
        assert_eq!(
            offered.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("203.0.113.{}", at + 1)]
        );
        assert!(offered.left_out.is_empty() && offered.no_port == 0, "{offered:?}");
    }
}

#[test]
fn one_port_is_one_data_channel_and_that_is_told() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    among_bridges(&net, 3);
    let mesh = "udp_ports = 40000\ninterfaces = [\"eth0\"]";
    let hubs: Vec<Hub> =
        (1..=3).map(|host| anywhere(&net, host, mesh).start_on(&ground, port(host))).collect();
    let at = until_ok("a hub says that it has no port for a second data channel", || {
        let all: Vec<_> = hubs.iter().map(Hub::status).collect();
        let is = all.iter().position(|status| {
            let vain = status.offered.as_ref().is_some_and(|offered| offered.no_port > 0);
            vain && status.p2p_links == 1 && status.reason.contains("mesh.udp_ports, 40000, is taken")
        });
        is.ok_or_else(|| format!("{all:?}"))
    });
    let warned = hubs[at].log().iter().filter(|line| line.contains("no data channel can open")).count();
    assert!(warned >= 1, "{:#?}", hubs[at].log());
    let found = doctor(&net, at + 1, &hubs[at]);
    assert!(found.contains("mesh.udp_ports has 1 port, of which none was free"), "{found}");
    assert!(hubs.iter().all(|hub| udp_ports(hub).iter().all(|port| *port == 40_000)));
}
