//! One peer that comes to several hubs in the same moment: one of them keeps it.

use pigeonhub_proto::io::ClosedBy;

use super::faults::Action;
use super::params::{Joining, Params};
use super::scenario;
use super::world::{MS, Micros, SEC, World};

/// No client acts by itself before that.
const NEVER: Micros = 1 << 50;

/// The first is a client's own.
const NETWORKS: [&str; 3] = ["global", "net-1", "net-2"];

/// A mesh at rest whose messages take as long as they are told, with a client at each hub.
fn mesh(seed: u64, hubs: usize, latency: Micros) -> World {
    let mut params = Params::plain(hubs);
    (params.clients, params.joining, params.migration_ms) = (0, Joining::AtOnce, 1_000);
    (params.latency, params.jitter_percent) = ((latency, latency), 0);
    let mut world = scenario::build(seed, params);
    world.trace = super::number("SIM_TRACE").unwrap_or(0) as u8;
    world.join();
    assert_eq!(world.failure, None, "seed {seed}");
    for hub in 0..hubs {
        let resident = connect(&mut world, &[hub]);
        world.run_for(SEC);
        world.announce(resident[0]);
    }
    world.run_for(SEC);
    world
}

/// A client dials these hubs at once; its connections.
fn connect(world: &mut World, hubs: &[usize]) -> Vec<usize> {
    let client = world.clients.len();
    world.add_client("global".to_owned(), hubs[0], NEVER);
    for hub in hubs {
        world.client_dials_host(client, *hub);
    }
    // It holds none of them for its own: it does nothing by itself.
    world.clients[client].session = None;
    world.clients[client].also.extend(NETWORKS.map(String::from));
    (world.sessions.len() - hubs.len()..world.sessions.len()).collect()
}

/// Of one peer's connections one is left, the others were ended in its favour. The hub that keeps it.
fn keeper(world: &World, sessions: &[usize]) -> usize {
    let hubs: Vec<usize> = sessions.iter().map(|session| world.sessions[*session].host).collect();
    let (open, over): (Vec<usize>, Vec<usize>) =
        sessions.iter().copied().partition(|session| world.sessions[*session].ended.is_none());
    assert_eq!(world.failure, None);
    assert_eq!(open.len(), 1, "of {sessions:?} to hubs {hubs:?} there are left {open:?}");
    for session in over {
        let closed = world.sessions[session].closed.clone();
        let reason = String::from("Replaced by a newer connection of this peer");
        assert_eq!(closed, Some(ClosedBy::Remote { code: 1008, reason }));
    }
    world.sessions[open[0]].host
}

/// All hubs have a client at its keeper.
fn assert_known(world: &World, session: usize, keeper: usize) {
    let name = &world.clients[world.sessions[session].client].name;
    for (number, host) in world.hosts.iter().enumerate() {
        let peers = host.hub().map(|hub| hub.peers(Some("global"))).unwrap_or_default();
        let homes: Vec<_> =
            peers.iter().filter(|peer| peer.peer_id == *name).map(|peer| peer.hub_id).collect();
        assert_eq!(homes, [world.hosts[keeper].id], "hub {number}");
    }
}

/// The same millisecond by both clocks; some pairs of hubs are not linked.
#[test]
fn of_hubs_that_a_peer_comes_to_at_once_the_one_with_the_smallest_id_keeps_it() {
    for (seed, hubs) in [2, 3, 5, 12].into_iter().enumerate() {
        let mut world = mesh(seed as u64, hubs, MS);
        for round in 0..12 {
            let mut several: Vec<usize> = (0..hubs).collect();
            world.rng.shuffle(&mut several);
            several.truncate(2 + round % 2);
            let sessions = connect(&mut world, &several);
            world.run_for(SEC);
            for session in &sessions {
                world.announce(*session);
            }
            world.run_for(2 * SEC);
            let smallest = several.iter().copied().min_by_key(|hub| world.hosts[*hub].id);
            let keeper = keeper(&world, &sessions);
            assert_eq!(Some(keeper), smallest, "{hubs} hubs, round {round}");
            assert_known(&world, sessions[0], keeper);
        }
        assert_eq!(world.failure, None);
    }
}

#[test]
fn of_halves_that_a_peer_came_to_at_once_one_keeps_it_when_they_meet_again() {
    for (seed, hubs) in [2, 5, 8].into_iter().enumerate() {
        let mut world = mesh(seed as u64, hubs, MS);
        world.act(Action::Part((0..hubs).map(|hub| hub % 2 == 1).collect()));
        world.run_for(60 * SEC);
        let pairs: Vec<Vec<usize>> = (0..6)
            .map(|round| {
                connect(&mut world, &[2 * round % (hubs - hubs % 2), (2 * round + 1) % (hubs - hubs % 2)])
            })
            .collect();
        world.run_for(SEC);
        for session in pairs.iter().flatten() {
            world.announce(*session);
        }
        world.run_for(20 * SEC);
        for session in pairs.iter().flatten() {
            assert_eq!(world.sessions[*session].ended, None, "each half has it, and knows no better");
        }
        world.heal_all();
        world.run_for(90 * SEC);
        for pair in pairs {
            let keeper = keeper(&world, &pair);
            assert_known(&world, pair[0], keeper);
        }
        assert_eq!(world.failure, None);
    }
}

/// In one network the one hub's announcement is the later, in another network the other's.
#[test]
fn hubs_that_a_peer_comes_to_in_several_networks_do_not_all_turn_it_out() {
    let mut world = mesh(1, 6, 60 * MS);
    for hub in 0..6 {
        let resident = connect(&mut world, &[hub]);
        world.run_for(SEC);
        for network in NETWORKS {
            world.announce_in(resident[0], network);
        }
    }
    for round in 0..60 {
        let hubs = [round % 6, (round + 1) % 6, (round + 3) % 6];
        let sessions = connect(&mut world, &hubs[..2 + round % 2]);
        world.run_for(SEC);
        let mut order: Vec<(usize, &str)> =
            sessions.iter().flat_map(|session| NETWORKS.map(|network| (*session, network))).collect();
        world.rng.shuffle(&mut order);
        for (session, network) in order {
            world.announce_in(session, network);
            let wait = world.rng.below(40 * MS);
            world.run_for(wait);
        }
        world.run_for(3 * SEC);
        let keeper = keeper(&world, &sessions);
        assert_known(&world, sessions[0], keeper);
    }
    assert_eq!(world.failure, None);
}
