//! Hubs behind routers that translate addresses, and coturn for STUN and TURN.

use std::time::Duration;

use nix::sys::signal::Signal;
use pigeonhub_proto::control::LinkInfo;

use super::{PORT, plan};
use crate::harness::{Crowd, Ground, Hub, Need, Net, Plan, Process, skipped, tied, until_ok};

/// Where the relay is, and no hub.
const RELAY: &str = "10.0.0.254:";

/// Debian's coturn in the middle, for STUN and TURN alike.
fn coturn(ground: &Ground) -> Process {
    let mut command = tied("turnserver");
    command.args(["-n", "--listening-ip", "10.0.0.254", "--relay-ip", "10.0.0.254", "--log-file", "stdout"]);
    command.args(["--lt-cred-mech", "--realm", "pigeons", "--user", "hub:secret", "--no-tls", "--no-dtls"]);
    command.args(["--no-cli", "--simple-log", "--verbose"]);
    command.arg("--userdb").arg(ground.folder().join("turndb"));
    command.arg("--pidfile").arg(ground.folder().join("turn.pid"));
    Process::start("coturn", &mut command)
}

fn ice_servers(password: &str) -> String {
    format!(
        r#"
[[mesh.ice_servers]]
urls = ["stun:10.0.0.254:3478", "turn:10.0.0.254:3478?transport=udp"]
username = "hub"
credential = "{password}"
"#
    )
}

/// Nobody can dial a hidden hub, so it tells no URL.
fn hidden(net: &Net, (host, address): (usize, std::net::IpAddr), password: &str) -> Plan {
    Plan::through(["ws://10.0.0.1:3000", "ws://10.0.0.2:3000"])
        .migrating_after(Duration::from_secs(1))
        .config(&format!("[mesh]\n{}", ice_servers(password)))
        .on(net, host, address)
}

/// The data channel from one hub to another, once there is one: the chosen candidates of both ends.
fn path(from: &Hub, to: &Hub) -> Option<(String, String)> {
    let id = to.status().hub_id;
    let is_it = |link: &LinkInfo| link.hub_id == Some(id) && link.transport == "p2p";
    let link = from.links().into_iter().find(is_it)?;
    Some((link.local_address?, link.remote_address?))
}

fn everyone_hears_everyone(hubs: &[Hub]) {
    let mut crowd = Crowd::new(hubs.len());
    hubs.iter().enumerate().for_each(|(at, hub)| crowd.join(at, hub));
    until_ok("every hub knows every client", || {
        crowd.listen();
        let known: Vec<_> = hubs.iter().map(|hub| hub.peers().len()).collect();
        if known.iter().all(|known| *known == hubs.len()) { Ok(()) } else { Err(format!("{known:?}")) }
    });
    crowd.all_reach_all();
}

#[test]
fn hubs_behind_cone_and_symmetric_nat() {
    if skipped(&[Need::Namespaces, Need::Coturn]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(4));
    let coturn = coturn(&ground);
    // A source port that stays is a cone; one that is another for each target is symmetric.
    let cone = net.behind_nat(3, "masquerade");
    let symmetric = net.behind_nat(4, "masquerade random,fully-random");
    let mut hubs: Vec<Hub> =
        (1..=2).map(|host| plan(&net, host, false, &ice_servers("secret")).start_on(&ground, PORT)).collect();
    // Without the right password nobody relays, and the two cannot reach each other.
    for host in [cone, symmetric] {
        hubs.push(hidden(&net, host, "wrong").start_on(&ground, PORT));
    }
    for hub in &hubs[2..] {
        hub.wait("has data channels to those who are not hidden", |status| status.p2p_links == 2);
    }
    until_ok("the hidden hubs try each other in vain", || {
        let failed = |hub: &Hub| {
            hub.metrics().lines().any(|line| {
                line.strip_prefix("pigeonhubd_channel_attempts_total{outcome=\"failed\"} ")
                    .is_some_and(|n| n != "0")
            })
        };
        if hubs[2..].iter().all(failed) { Ok(()) } else { Err(String::from("not yet")) }
    });
    assert_eq!(path(&hubs[2], &hubs[3]), None);
    // Their signals go through the others.
    everyone_hears_everyone(&hubs);

    for (hub, host) in hubs[2..].iter().zip([cone, symmetric]) {
        // Its command writes the configuration.
        hidden(&net, host, "secret").command(&ground, PORT);
        hub.signal(Signal::SIGHUP);
    }
    for hub in &hubs {
        hub.wait("has data channels to all others", |status| status.ready && status.p2p_links == 3);
        hub.wait_migrated(3);
    }
    // The chosen pairs tell how: only a relay joins those two, and the others need none.
    let ends = [(2, 3), (3, 2)].map(|(from, to)| path(&hubs[from], &hubs[to]).expect("a data channel"));
    // One end may see the relay's packets before it is told of that candidate, and names it otherwise.
    let is_at_relay = |(local, remote): &(String, String)| local.contains(RELAY) || remote.contains(RELAY);
    let is_relay = |(local, remote): &(String, String)| local.contains("relay") || remote.contains("relay");
    assert!(ends.iter().all(is_at_relay) && ends.iter().any(is_relay), "{ends:?}");
    for (hidden, open) in [(2, 0), (2, 1), (3, 0), (3, 1)] {
        let path = path(&hubs[hidden], &hubs[open]).expect("a data channel");
        assert!(!is_at_relay(&path), "{path:?}");
    }
    let told = |words: &str| coturn.log().iter().any(|line| line.contains(words));
    assert!(told("ALLOCATE processed, success"), "{:#?}", coturn.log());
    everyone_hears_everyone(&hubs);
}
