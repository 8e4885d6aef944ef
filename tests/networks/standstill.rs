//! A hub that stands still for longer than anyone waits for it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{PORT, plan};
use crate::harness::{Crowd, Ground, Hub, Need, Net, skipped, until_ok};

const HUBS: usize = 3;
const CLIENTS: usize = 2 * HUBS;
/// Longer than `mesh.signal_timeout`, three heartbeats, and the grace of a lost hub's peers together.
const STANDSTILL: Duration = Duration::from_secs(25);

struct Scene {
    _ground: Ground,
    hubs: Vec<Hub>,
    crowd: Crowd,
    rng: StdRng,
    _net: Net,
}

impl Scene {
    fn new() -> Self {
        let (ground, net) = (Ground::new(), Net::new(HUBS));
        let start = |host| plan(&net, host, false, "").start_on(&ground, PORT);
        let hubs: Vec<Hub> = (1..=HUBS).map(start).collect();
        let (mut crowd, rng) = (Crowd::new(CLIENTS), StdRng::seed_from_u64(1));
        for client in 0..CLIENTS {
            crowd.join(client, &hubs[client % HUBS]);
        }
        let mut scene = Self { _ground: ground, hubs, crowd, rng, _net: net };
        scene.wait_homes([0, 1, 2, 0, 1, 2]);
        scene
    }

    /// Waits until there is one mesh, and each hub knows each client once, at its hub and nowhere else.
    fn wait_homes(&mut self, homes: [usize; CLIENTS]) {
        self.hubs.iter().for_each(|hub| hub.wait_ready(HUBS - 1));
        let ids: Vec<_> = self.hubs.iter().map(|hub| hub.status().hub_id).collect();
        let mut expected: Vec<_> = homes
            .iter()
            .enumerate()
            .map(|(client, at)| (self.crowd.id(client).to_owned(), ids[*at]))
            .collect();
        expected.sort();
        let (hubs, crowd) = (&self.hubs, &mut self.crowd);
        until_ok("each hub knows where each client is", || {
            crowd.listen();
            for hub in hubs {
                let mut known: Vec<_> =
                    hub.peers().into_iter().map(|peer| (peer.peer_id, peer.hub_id)).collect();
                known.sort();
                if known != expected {
                    return Err(format!("{known:#?} instead of {expected:#?}"));
                }
            }
            Ok(())
        });
    }

    fn talk_until(&mut self, what: &str, mut is: impl FnMut(&[Hub]) -> bool) {
        let (hubs, crowd, rng) = (&self.hubs, &mut self.crowd, &mut self.rng);
        until_ok(what, || {
            crowd.talk(rng);
            crowd.listen();
            if is(hubs) { Ok(()) } else { Err(String::from("not yet")) }
        });
    }

    fn finish(mut self) {
        self.crowd.wait_introduced();
        self.crowd.all_reach_all();
        self.crowd.settle();
        println!("{:?}", self.crowd.sums);
        assert_eq!(self.crowd.sums.moved, 0, "signals delivered twice");
    }
}

#[test]
fn a_hub_that_stands_still_for_longer_than_anyone_waits() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::new();
    scene.crowd.talk(&mut scene.rng);
    scene.hubs[2].signal(Signal::SIGSTOP);
    [2, 5].into_iter().for_each(|client| scene.crowd.stand_still(client, true));
    let begin = Instant::now();
    scene.talk_until("the others have lost it, and its clients", |hubs| {
        hubs[..2].iter().all(|hub| hub.status().known_hubs == 1 && hub.peers().len() == 4)
    });
    // One of its clients waits; the other goes elsewhere, and the hub cannot hear of it.
    scene.crowd.forget(5);
    scene.crowd.join(5, &scene.hubs[0]);
    scene.crowd.stand_still(5, false);
    scene.talk_until("it stood still for long enough", |_| begin.elapsed() > STANDSTILL);
    scene.hubs[2].signal(Signal::SIGCONT);
    scene.crowd.stand_still(2, false);
    scene.talk_until("it is back", |hubs| hubs[2].status().known_hubs == HUBS - 1);
    scene.wait_homes([0, 1, 2, 0, 1, 0]);
    scene.finish();
}
