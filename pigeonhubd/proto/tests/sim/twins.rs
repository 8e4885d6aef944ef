//! A hub whose state folder was copied, and the copy.

use pigeonhub_proto::control::Status;

use super::params::Params;
use super::scenario;
use super::world::{SEC, World};

fn status(world: &World, number: usize) -> Status {
    let host = &world.hosts[number];
    host.hub().map(|hub| hub.status(host.clock(world.now))).expect("it runs")
}

fn world(seed: u64, hubs: usize) -> World {
    let mut params = Params::plain(hubs);
    params.clients = 0;
    let mut world = scenario::build(seed, params);
    world.trace = super::number("SIM_TRACE").unwrap_or(0) as u8;
    world
}

#[test]
fn a_hub_that_dials_its_copy_and_the_copy_both_say_so() {
    let mut world = world(1, 2);
    world.give_same_key(0, 1);
    world.start(0);
    world.start(1);
    world.run_for(3 * SEC);
    for (number, at) in [(0, "10.0.0.1:3000"), (1, "ws://10.0.0.0:3000")] {
        let Status { twin, reason, .. } = status(&world, number);
        assert_eq!(twin.as_deref(), Some(at));
        assert!(reason.contains(&format!("another hub at {at} runs with this hub's key")), "{reason}");
        assert!(!reason.contains("leads to this hub itself"), "{reason}");
    }
    world.kill(1, false);
    world.give_new_key(1);
    world.start(1);
    // Whoever has another key there is no twin any more.
    world.run_for(30 * SEC);
    for number in [0, 1] {
        let Status { twin, reason, p2p_links, .. } = status(&world, number);
        assert_eq!((twin, p2p_links), (None, 1), "{reason}");
    }
    assert_eq!(world.failure, None);
}

#[test]
fn a_hub_and_its_copy_in_one_mesh_both_say_so() {
    for seed in 0..4 {
        let mut world = world(seed, 4 + seed as usize);
        world.give_same_key(1, 2);
        for number in 0..world.hosts.len() {
            world.start(number);
            world.run_for(5 * SEC);
        }
        // Once and again they take each other's links away, and neither is sure before that.
        world.run_for(60 * SEC);
        for second in 0..400 {
            world.run_for(SEC);
            for (number, at) in [(1, "ws://10.0.0.2:3000"), (2, "ws://10.0.0.1:3000")] {
                let Status { twin, reason, .. } = status(&world, number);
                assert_eq!(twin.as_deref(), Some(at), "seed {seed}, hub {number}, {second} s: {reason}");
                assert!(reason.contains("remove hub.key from the state_dir that is a copy"), "{reason}");
            }
            assert_eq!(status(&world, 0).twin, None, "it is none of its business");
        }
    }
}
