//! One peer that comes to several hubs: one of them keeps it.

use pigeonhub_proto::io::ClosedBy;

use super::faults::Action;
use super::network::State;
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

/// Of one peer's connections one is left, the others were turned away. The hub that keeps it.
fn keeper(world: &World, sessions: &[usize]) -> usize {
    let open = left(world, sessions);
    let hubs: Vec<usize> = sessions.iter().map(|session| world.sessions[*session].host).collect();
    assert_eq!(open.len(), 1, "of {sessions:?} to hubs {hubs:?} there are left {open:?}");
    world.sessions[open[0]].host
}

/// Those that are left of one peer's connections.
fn left(world: &World, sessions: &[usize]) -> Vec<usize> {
    assert_eq!(world.failure, None);
    let (open, over): (Vec<usize>, Vec<usize>) =
        sessions.iter().copied().partition(|session| world.sessions[*session].ended.is_none());
    for session in over {
        let closed = world.sessions[session].closed.clone();
        let reason = String::from("Peer already connected");
        assert_eq!(closed, Some(ClosedBy::Remote { code: 1008, reason }));
    }
    open
}

/// The one hub at which all that know a client have it. Those without a client in that network do not.
fn home(world: &World, session: usize, network: &str) -> usize {
    let name = &world.clients[world.sessions[session].client].name;
    let mut all = Vec::new();
    for host in &world.hosts {
        let peers = host.hub().map(|hub| hub.peers(Some(network))).unwrap_or_default();
        all.extend(peers.iter().filter(|peer| peer.peer_id == *name).map(|peer| peer.hub_id));
    }
    let all_know = if network == "global" { world.hosts.len() } else { 1 };
    assert!(all.len() >= all_know && all.len() <= world.hosts.len(), "one home at each hub: {all:?}");
    assert!(all.iter().all(|hub| *hub == all[0]), "{all:?}");
    world.hosts.iter().position(|host| host.id == all[0]).expect("a hub of this mesh")
}

fn assert_known(world: &World, session: usize, keeper: usize) {
    assert_eq!(home(world, session, "global"), keeper);
}

/// The same millisecond by both clocks; some pairs of hubs are not linked.
#[test]
fn of_hubs_that_a_peer_comes_to_at_once_one_keeps_it() {
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
            let keeper = keeper(&world, &sessions);
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

/// In one network the one hub's announcement is the older, in another network the other's.
#[test]
fn of_hubs_that_a_peer_comes_to_in_several_networks_one_keeps_it_in_each() {
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
        let open: Vec<usize> =
            left(&world, &sessions).iter().map(|session| world.sessions[*session].host).collect();
        for network in NETWORKS {
            let home = home(&world, sessions[0], network);
            assert!(open.contains(&home), "round {round}: {network} is at {home}, and open are {open:?}");
        }
    }
    assert_eq!(world.failure, None);
}

/// The older connection talks, whichever hub the newer one comes to, and whatever that hub knows.
#[test]
fn a_peer_that_answers_keeps_its_id_at_every_hub() {
    let mut world = mesh(2, 6, 20 * MS);
    for round in 0..40 {
        let (first, then) = (round % 6, (round + 1 + round % 5) % 6);
        let older = connect(&mut world, &[first]);
        // Now and then nobody at the other hub is in that network.
        let network = if round % 2 == 0 { "global" } else { "net-1" };
        world.run_for(SEC);
        world.announce_in(older[0], network);
        world.run_for(SEC);
        let client = world.sessions[older[0]].client;
        world.client_dials_host(client, then);
        world.clients[client].session = None;
        let newer = world.sessions.len() - 1;
        world.run_for(SEC);
        world.announce_in(newer, network);
        for _ in 0..40 {
            world.run_for(50 * MS);
            assert_eq!(home(&world, older[0], network), first, "round {round}");
        }
        assert_eq!(left(&world, &[older[0], newer]), [older[0]], "round {round}");
    }
    assert_eq!(world.failure, None);
}

/// Its old connection is half open, at a hub whose clock is five hours ahead, or five hours behind.
#[test]
fn a_peer_that_moves_is_at_its_new_hub_whatever_the_clocks_say() {
    const HOURS: i64 = 5 * 3_600_000;
    let mut world = mesh(3, 6, 20 * MS);
    for (number, host) in world.hosts.iter_mut().enumerate() {
        host.skew_ms += if number % 2 == 0 { HOURS } else { 0 };
    }
    for round in 0..40 {
        let (first, then) = (round % 6, (round + 1 + round % 5) % 6);
        let network = if round % 2 == 0 { "global" } else { "net-1" };
        let older = connect(&mut world, &[first])[0];
        world.run_for(SEC);
        world.announce_in(older, network);
        world.run_for(SEC);
        // Nobody reads it any more, and nobody closes it.
        let pipe = world.sessions[older].pipe.expect("it is open");
        world.pipes[pipe].ends[0].state = State::Gone;
        let client = world.sessions[older].client;
        world.client_dials_host(client, then);
        world.clients[client].session = None;
        let newer = world.sessions.len() - 1;
        world.run_for(SEC);
        world.announce_in(newer, network);
        world.run_for(1500 * MS);
        assert_eq!(home(&world, newer, network), then, "round {round}, from hub {first}");
        world.run_for(5 * SEC);
        assert_eq!(home(&world, newer, network), then, "round {round}, from hub {first}");
        assert_eq!(world.sessions[newer].ended, None, "round {round}");
    }
    assert_eq!(world.failure, None);
}
