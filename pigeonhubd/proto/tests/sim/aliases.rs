//! Hubs that are reached under several names, or several under one.

use pigeonhub_proto::control::Status;

use super::params::Params;
use super::scenario;
use super::world::{MS, SEC, World};

fn status(world: &World, number: usize) -> Status {
    let host = &world.hosts[number];
    host.hub().map(|hub| hub.status(host.clock(world.now))).expect("it runs")
}

/// As behind a balancer, or a name that stands for several hubs.
#[test]
fn a_name_that_once_led_to_the_hub_itself_is_dialled_again() {
    let mut params = Params::plain(2);
    params.clients = 0;
    let mut world = scenario::build(1, params);
    let name = "192.0.2.1:3000";
    for host in &mut world.hosts {
        host.settings.bootstrap_hubs.clear();
    }
    world.hosts[0].settings.bootstrap_hubs = vec![format!("ws://{name}")];
    world.by_address.insert(name.to_owned(), 0);
    world.start(0);
    world.start(1);
    world.run_for(20 * SEC);
    let alone = status(&world, 0);
    assert!(alone.ready && alone.known_hubs == 0, "{alone:?}");
    assert!(alone.reason.contains("ws://192.0.2.1:3000 leads to this hub itself"), "{}", alone.reason);
    assert_eq!(alone.twin, None);
    world.by_address.remove(name);
    world.run_for(20 * SEC);
    assert_eq!(status(&world, 0).reason, "no other hub is known");
    world.by_address.insert(name.to_owned(), 1);
    world.run_for(8 * SEC);
    for number in [0, 1] {
        let met = status(&world, number);
        assert!(met.ready && met.p2p_links == 1, "{met:?}");
    }
    assert_eq!(world.failure, None);
}

/// Its two WebSockets open at the same moment, in another order at each end.
#[test]
fn a_hub_that_is_dialled_under_two_names_keeps_one_link() {
    for seed in 0..30 {
        let mut params = Params::plain(2);
        (params.clients, params.jitter_percent) = (0, 150);
        let mut world = scenario::build(seed, params);
        world.by_address.insert("192.0.2.1:3000".to_owned(), 0);
        world.hosts[1].settings.bootstrap_hubs =
            vec![String::from("ws://10.0.0.0:3000"), String::from("ws://192.0.2.1:3000")];
        world.start(0);
        world.run_for(SEC);
        world.start(1);
        world.run_for(700 * MS);
        for number in [0, 1] {
            let met = status(&world, number);
            assert!(met.ready && met.p2p_links == 1 && met.ws_links == 1, "seed {seed}: {met:?}");
        }
        assert_eq!(world.failure, None, "seed {seed}");
    }
}
