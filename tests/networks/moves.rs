//! A hub whose machine is given another address while it runs.

use std::time::Duration;

use pigeonhub_proto::control::LinkInfo;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{PORT, plan};
use crate::harness::{Crowd, Ground, Hub, Need, Net, Plan, skipped, until_ok};

/// Whether one end of each data channel of the hub is at `address`.
fn all_at(hub: &Hub, address: &str) -> Result<(), String> {
    let links = hub.links();
    let at = |end: &Option<String>| end.as_ref().is_some_and(|end| end.contains(address));
    let is_there = |link: &LinkInfo| link.transport == "p2p" && at(&link.local_address);
    if links.len() == 2 && links.iter().all(is_there) { Ok(()) } else { Err(format!("{links:?}")) }
}

#[test]
fn an_address_that_changes() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    let mut hubs: Vec<Hub> =
        (1..=2).map(|host| plan(&net, host, false, "").start_on(&ground, PORT)).collect();
    // It listens everywhere, and tells no URL of its own.
    let anywhere = Plan::through(["ws://10.0.0.1:3000"]).migrating_after(Duration::from_secs(1)).on(
        &net,
        3,
        [0, 0, 0, 0].into(),
    );
    hubs.push(anywhere.start_on(&ground, PORT));
    hubs[2].address = net.address(3);
    hubs.iter().for_each(|hub| hub.wait_migrated(2));
    all_at(&hubs[2], "10.0.0.3:").expect("at its first address");
    let (mut crowd, mut rng) = (Crowd::new(4), StdRng::seed_from_u64(1));
    (0..3).for_each(|at| crowd.join(at, &hubs[at]));

    net.run(3, "ip addr del 10.0.0.3/24 dev eth0");
    net.run(3, "ip addr add 10.0.0.33/24 dev eth0");
    // The client there has lost its hub and does not know it yet; what it is sent is told.
    until_ok("all data channels are at the new address", || {
        crowd.talk(&mut rng);
        crowd.listen();
        all_at(&hubs[2], "10.0.0.33:")
    });
    hubs.iter().for_each(|hub| hub.wait_ready(2));
    hubs[2].address = [10, 0, 0, 33].into();
    // It comes back at the new address, with the id it had; and another one comes.
    crowd.forget(2);
    crowd.join(2, &hubs[2]);
    crowd.join(3, &hubs[2]);
    until_ok("every hub knows every client", || {
        crowd.listen();
        let known: Vec<_> = hubs.iter().map(|hub| hub.peers().len()).collect();
        if known == [4; 3] { Ok(()) } else { Err(format!("{known:?}")) }
    });
    crowd.all_reach_all();
    crowd.settle();
    println!("{:?}", crowd.sums);
    assert_eq!(crowd.sums.moved, 0, "signals delivered twice");
}
