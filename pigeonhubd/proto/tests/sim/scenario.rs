//! From a seed to a verdict: build the world, let it form, break it, let it heal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::mesh::identity::{Identity, MeshKey, hub_id};
use pigeonhub_proto::settings::Settings;

use super::dial::BLACK_HOLE;
use super::faults::Action;
use super::host::{Factory, Host, address, authority};
use super::identity::identity;
use super::params::{Bootstrap, Fault, Joining, Params};
use super::world::{Event, Machine, Micros, SEC, SimHub, World, trace};

/// The mesh has to be at rest within this after the last fault.
const SETTLE: Micros = 120 * SEC;

/// Of a thousand turns of a client at the end, in how many it leaves.
const PARTINGS: u64 = 150;

const SECRET: &[u8] = b"a secret that the hubs share";

/// How long it is watched at rest, behind what was still on its way.
const QUIET: Micros = 5 * SEC;

/// Builds the world of some parameters; nothing has started yet.
pub(crate) fn build(seed: u64, params: Params) -> World {
    let mut world = World::new(seed, params);
    let hubs = world.params.hubs;
    let bootstraps = world.bootstraps();
    let named: BTreeSet<String> = bootstraps.iter().flatten().cloned().collect();
    for (number, bootstrap) in bootstraps.into_iter().enumerate() {
        world.add_hub(number, bootstrap, SECRET, "pigeonhub-mesh");
        // Somebody has to be reached by those that nobody can reach.
        let unreached = number > 0 && !named.contains(&authority(number));
        world.hosts[number].unreached = unreached && world.rng.percent(world.params.unreached);
    }
    if world.params.wrong_key {
        world.add_hub(hubs, vec![authority(0)], b"a secret of somebody else", "pigeonhub-mesh");
    }
    if world.params.wrong_namespace {
        let number = world.hosts.len();
        world.add_hub(number, vec![authority(0)], SECRET, "another-mesh");
    }
    for intruder in &mut world.hosts[hubs..] {
        intruder.intruder = true;
    }
    world.at(5 * SEC, Event::Audit);
    world
}

fn factory(identity: Arc<dyn Identity>, secret: &[u8]) -> Factory {
    let key = MeshKey::new(secret).expect("the secrets here are long enough");
    Box::new(move |settings, seed, now| {
        let hub = Hub::new(settings, identity.clone(), key.clone(), seed, now);
        Box::new(SimHub { hub, key: key.clone() }) as Box<dyn Machine>
    })
}

impl World {
    /// At its next start a hub is another one, for its state was lost.
    pub(crate) fn give_new_key(&mut self, number: usize) {
        let identity = identity(self.rng.next(), self.params.real_keys);
        self.hosts[number].id = hub_id(&identity.public_key());
        self.hosts[number].factory = factory(identity, SECRET);
    }

    /// At their next starts two hubs have the same key, as if one's state had been copied.
    pub(crate) fn give_same_key(&mut self, one: usize, other: usize) {
        let identity = identity(self.rng.next(), self.params.real_keys);
        for number in [one, other] {
            self.hosts[number].id = hub_id(&identity.public_key());
            self.hosts[number].factory = factory(identity.clone(), SECRET);
        }
    }

    /// The addresses that each hub dials.
    fn bootstraps(&mut self) -> Vec<Vec<String>> {
        let mut out = vec![Vec::new(); self.params.hubs];
        let mut order: Vec<usize> = (0..self.params.hubs).collect();
        if self.params.bootstrap == Bootstrap::AnyTree {
            self.rng.shuffle(&mut order);
        }
        for i in 1..order.len() {
            let (here, first) = (order[i], order[0]);
            let earlier = order[self.rng.index(i)];
            let targets = match self.params.bootstrap {
                Bootstrap::Star => vec![authority(first)],
                Bootstrap::Chain => vec![authority(order[i - 1])],
                Bootstrap::Earlier => vec![authority(earlier)],
                Bootstrap::AnyTree if self.rng.percent(50) => {
                    out[earlier].push(authority(here));
                    continue;
                }
                Bootstrap::AnyTree => vec![authority(earlier)],
                Bootstrap::Halves if i + 1 == order.len() => vec![authority(first), authority(order[1])],
                Bootstrap::Halves if i == 1 => continue,
                Bootstrap::Halves => vec![authority(order[i % 2])],
                Bootstrap::Two if earlier == order[i - 1] => vec![authority(earlier)],
                Bootstrap::Two => vec![authority(earlier), authority(order[i - 1])],
                Bootstrap::DeadFirst => {
                    let dead = if self.rng.percent(50) { BLACK_HOLE } else { "10.255.255.2:3000" };
                    vec![dead.to_owned(), authority(first)]
                }
            };
            out[here].extend(targets);
        }
        out
    }

    fn add_hub(&mut self, number: usize, bootstraps: Vec<String>, secret: &[u8], namespace: &str) {
        let seeds = std::iter::repeat_with(|| self.rng.next());
        // Ids that begin alike: adversarially close ones, as far as that costs nothing.
        let alike = self.params.close_ids;
        let identity = seeds
            .map(|seed| identity(seed, self.params.real_keys))
            .find(|identity| !alike || hub_id(&identity.public_key()).0[0] == 7)
            .expect("there is no end of seeds");
        let (low, high) = self.params.max_peers;
        let max_peers = self.rng.range(low, high);
        let settings = Settings {
            port: 3000,
            host: address(number).to_string(),
            namespace: namespace.to_owned(),
            max_peers: max_peers as usize,
            min_peers: self.params.min_peers.min(max_peers) as usize,
            migration_delay: Duration::from_millis(self.params.migration_ms),
            advertise: self.params.advertise.then(|| format!("ws://{}", authority(number))),
            bootstrap_hubs: bootstraps.iter().map(|to| format!("ws://{to}")).collect(),
            // Half-open clients are to be found within a run.
            peer_timeout: Duration::from_secs(25),
            cleanup_interval: Duration::from_secs(5),
            ..Settings::default()
        };
        let id = hub_id(&identity.public_key());
        let factory = factory(identity, secret);
        let origin = self.rng.below(1 << 40);
        let mut host = Host::new(number, id, settings, factory, origin);
        host.skew_ms = self.rng.range(0, 2 * self.params.skew_ms + 1) as i64 - self.params.skew_ms as i64;
        host.udp_blocked = self.rng.percent(self.params.udp_blocked);
        self.add_host(host);
    }

    /// Lets the hubs start and the clients come, and the mesh form.
    pub(crate) fn join(&mut self) {
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        if matches!(self.params.joining, Joining::Scattered(_)) {
            self.rng.shuffle(&mut order);
        }
        let mut last = 0;
        for (i, host) in order.into_iter().enumerate() {
            let at = match self.params.joining {
                Joining::AtOnce => 0,
                Joining::Apart(gap) => i as Micros * gap,
                Joining::Scattered(span) => self.rng.below(span),
            };
            last = last.max(at);
            self.at(at, Event::Act(Action::Start(host)));
        }
        for _ in 0..self.params.clients {
            let first = self.rng.below(last + 10 * SEC);
            let network = match self.rng.index(self.params.networks) {
                0 => "global".to_owned(),
                other => format!("net-{other}"),
            };
            let home = self.rng.index(self.params.hubs);
            self.add_client(network, home, first);
        }
        self.chatter = true;
        self.run_until(last + 10 * SEC);
        self.settle();
    }

    /// Waits for rest, checks it and that it is quiet; then lets everybody
    /// talk in the whole mesh, where every signal has to arrive.
    pub(crate) fn settle(&mut self) {
        self.churn = false;
        self.chatter = false;
        let deadline = self.now + SETTLE;
        loop {
            self.run_for(3 * SEC);
            match self.at_rest() {
                _ if self.failure.is_some() => return,
                Ok(()) => break,
                Err(fault) if self.now >= deadline => {
                    return self.fail(format!("not at rest after {} s: {fault}", SETTLE / SEC));
                }
                Err(fault) => trace!(self, 2, "not at rest yet: {fault}"),
            }
        }
        trace!(self, 1, "*** at rest");
        self.run_for(SEC);
        let before = self.counts;
        self.run_for(QUIET);
        let hubs = self.members().count() as u64;
        let links: u64 = self.hosts.iter().map(|host| host.open_channels as u64).sum();
        let seconds = QUIET / SEC;
        let messages = self.counts.mesh_messages - before.mesh_messages;
        self.check_quiet(messages, seconds * 4 * links + 16 * hubs, "mesh messages");
        self.check_quiet(self.counts.timers - before.timers, seconds * 30 * hubs, "timer inputs");
        let mut rest = self.at_rest();
        let closing = rest.as_ref().is_err_and(|fault| fault.ends_with("but not back"));
        if closing && self.hosts.iter().any(|host| host.udp_blocked) {
            // Wanted channels that never open keep unwanted ones for a while: one of those may be closing.
            self.run_for(SEC);
            rest = self.at_rest();
        }
        if let Err(fault) = rest {
            return self.fail(format!("no longer at rest, though nothing happened: {fault}"));
        }
        self.ledger.calm_since = Some(self.now);
        self.chatter = true;
        self.run_for(8 * SEC);
        self.chatter = false;
        self.run_for(6 * SEC);
    }

    fn check_quiet(&mut self, count: u64, limit: u64, what: &str) {
        if count > limit && !self.hosts.iter().any(|host| host.udp_blocked) {
            self.fail(format!(
                "not quiet at rest: {count} {what} in {} s; {limit} would be many",
                QUIET / SEC
            ));
        }
    }

    /// One round of faults, then rest again.
    pub(crate) fn round(&mut self, fault: Fault) {
        trace!(self, 1, "*** round: {fault:?}");
        self.churn = true;
        self.chatter = true;
        let span = self.plan(fault);
        self.run_for(span);
        self.heal_all();
        self.run_for(5 * SEC);
        self.settle();
    }

    /// Clients come and go in a whole mesh, where nobody is to hear a peer that left.
    pub(crate) fn part(&mut self) {
        trace!(self, 1, "*** partings");
        self.params.leave_per_mille = self.params.leave_per_mille.max(PARTINGS);
        (self.churn, self.chatter, self.partings) = (true, true, true);
        self.run_for(12 * SEC);
        (self.churn, self.chatter) = (false, false);
    }

    /// The state of every hub, for whoever reads a failure.
    pub(crate) fn picture(&self) -> String {
        let mut out = String::new();
        for (number, host) in self.hosts.iter().enumerate() {
            let state = match host.hub() {
                Some(hub) => {
                    let s = hub.status(host.clock(self.now));
                    format!(
                        "{:?} ({}), migrated {}, p2p {}, ws {}, known {}, peers {}+{}",
                        s.state,
                        s.reason,
                        s.migrated,
                        s.p2p_links,
                        s.ws_links,
                        s.known_hubs,
                        s.local_peers,
                        s.remote_peers
                    )
                }
                None => "down".to_owned(),
            };
            out.push_str(&format!("  hub {number} {}: {state}\n", host.id.short()));
        }
        out
    }
}
