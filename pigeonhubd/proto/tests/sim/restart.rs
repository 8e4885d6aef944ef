//! A hub that crashed and is back within moments, under its own key or another one.

use super::dial::BLACK_HOLE;
use super::host::authority;
use super::params::{Joining, Params};
use super::scenario;
use super::world::{MS, SEC};

/// Its neighbours have open links to the run before, and would rely on them
/// until three heartbeats are missed.
#[test]
fn a_hub_that_is_back_at_once_is_whole_at_once() {
    for seed in 0..8 {
        let mut params = Params::plain(4 + seed as usize);
        (params.networks, params.migration_ms, params.joining) = (1, 2_000, Joining::AtOnce);
        params.clients = 3 * params.hubs;
        let mut world = scenario::build(seed, params);
        world.join();
        assert_eq!(world.failure, None, "seed {seed}");
        // Not the one that all others dial.
        let restarted = 1 + seed as usize % 3;
        world.trace = super::number("SIM_TRACE").unwrap_or(0) as u8;
        world.kill(restarted, false);
        world.run_for(200 * MS);
        world.start(restarted);
        for client in 0..world.clients.len() {
            if world.clients[client].session.is_none() {
                world.client_dials_host(client, restarted);
            }
        }
        world.run_for(50 * MS);
        for client in 0..world.clients.len() {
            if let Some(session) = world.clients[client].session
                && world.sessions[session].announced.is_none()
            {
                world.announce(session);
            }
        }
        world.run_for(SEC);
        // No hub holds a link whose far end knows nothing of it.
        let link = |from: usize, to: usize| {
            let (from, to) = (&world.hosts[from], world.hosts[to].id);
            let hubs = from.hub().map(|hub| hub.hubs(from.clock(world.now))).unwrap_or_default();
            hubs.into_iter().find(|hub| hub.hub_id == to).and_then(|hub| hub.link)
        };
        for other in (0..world.hosts.len()).filter(|other| *other != restarted) {
            assert_eq!(link(other, restarted), link(restarted, other), "seed {seed}, hub {other}");
        }
        // From now on every signal has to arrive.
        world.ledger.calm_since = Some(world.now);
        world.chatter = true;
        world.run_for(5 * SEC);
        world.chatter = false;
        world.run_for(15 * SEC);
        let picture = world.picture();
        assert_eq!(world.failure, None, "seed {seed}\n{picture}");
    }
}

/// The others' WebSockets to it break at once, also those that were open for a
/// moment only; what data channels there are seem to lead to it for seconds more.
#[test]
fn a_bootstrap_that_is_back_before_migration_is_dialled_at_once() {
    for (seed, after) in [(0, SEC), (1, SEC), (2, 7 * SEC), (3, 7 * SEC)] {
        let mut params = Params::plain(3 + seed as usize);
        params.clients = 0;
        let mut world = scenario::build(seed, params);
        world.start(0);
        world.run_for(100 * MS);
        for hub in 1..world.hosts.len() {
            world.start(hub);
        }
        world.run_for(after);
        world.trace = super::number("SIM_TRACE").unwrap_or(0) as u8;
        world.kill(0, false);
        world.run_for(100 * MS);
        world.start(0);
        world.run_for(1_600 * MS);
        let status = world.hosts[0].hub().map(|hub| hub.status(world.hosts[0].clock(world.now)));
        let known = status.map(|status| status.known_hubs);
        assert_eq!(known, Some(world.hosts.len() - 1), "seed {seed}\n{}", world.picture());
        assert_eq!(world.failure, None, "seed {seed}");
    }
}

/// The others have data channels to the run before, and would rely on them for three seconds.
#[test]
fn the_bootstrap_of_all_that_is_back_after_migration_dials_those_that_it_knew() {
    for seed in 0..6 {
        let mut params = Params::plain(2 + seed as usize);
        (params.clients, params.migration_ms, params.remembers) = (0, 1_000, true);
        let mut world = scenario::build(seed, params);
        world.join();
        assert_eq!(world.failure, None, "seed {seed}");
        assert!(world.hosts[0].settings.bootstrap_hubs.is_empty());
        world.trace = super::number("SIM_TRACE").unwrap_or(0) as u8;
        world.kill(0, false);
        world.run_for(100 * MS);
        world.start(0);
        world.run_for(900 * MS);
        let status = world.hosts[0].hub().map(|hub| hub.status(world.hosts[0].clock(world.now)));
        let known = status.map(|status| status.known_hubs);
        assert_eq!(known, Some(world.hosts.len() - 1), "seed {seed}\n{}", world.picture());
        assert_eq!(world.failure, None, "seed {seed}");
    }
}

/// It knew hubs that are gone, and one that is of another mesh by now.
#[test]
fn hubs_that_are_remembered_in_vain_are_left_in_peace() {
    let mut params = Params::plain(2);
    (params.clients, params.wrong_key) = (0, true);
    let mut world = scenario::build(1, params);
    let stranger = world.hosts.len() - 1;
    world.hosts[stranger].settings.bootstrap_hubs.clear();
    let gone = (0..40).map(|number| format!("ws://192.0.2.{number}:3000"));
    let urls =
        [format!("ws://{}", authority(stranger)), String::from("no URL"), format!("ws://{BLACK_HOLE}")];
    world.hosts[0].remembered = urls.into_iter().chain(gone).collect();
    world.start(0);
    world.start(stranger);
    world.run_for(120 * SEC);
    let dials = world.dials.len();
    assert!((30..=16 * 4).contains(&dials), "{dials} dials");
    let hub = world.hosts[0].hub().expect("it runs");
    assert_eq!(hub.urls_to_remember(), Vec::<String>::new(), "there is nobody");
    world.run_for(300 * SEC);
    assert_eq!(world.dials.len(), dials);
    world.start(1);
    world.run_for(5 * SEC);
    let hub = world.hosts[0].hub().expect("it runs");
    assert_eq!(hub.urls_to_remember(), [format!("ws://{}", authority(1))]);
    assert_eq!(world.failure, None);
}

/// The hub that it was is gone for good. The others look for it at its
/// address, where they find one that they know.
#[test]
fn a_hub_with_a_new_key_at_its_old_address_is_left_in_peace() {
    let mut params = Params::plain(5);
    (params.clients, params.migration_ms) = (0, 1_000);
    let mut world = scenario::build(1, params);
    world.join();
    assert_eq!(world.failure, None);
    let renewed = 3;
    world.kill(renewed, false);
    world.give_new_key(renewed);
    world.start(renewed);
    world.run_for(90 * SEC);
    // As long as it is looked for once a minute at the least.
    let until = world.now + 600 * SEC;
    while world.now < until {
        world.run_for(50 * MS);
        for (number, host) in world.hosts.iter().enumerate() {
            let status = host.hub().map(|hub| hub.status(host.clock(world.now))).expect("it runs");
            assert!(
                status.migrated && status.ws_links == 0,
                "hub {number}, {} s: {status:?}",
                world.now / SEC
            );
        }
    }
    assert_eq!(world.failure, None);
}
