//! What must hold at every moment, and what must hold once the world is at rest.

use std::collections::{BTreeMap, BTreeSet};

use pigeonhub_proto::control::MeshState;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;

use super::graph::{least_mean_path, mean_path};
use super::host::Host;
use super::network::State;
use super::world::{Event, Micros, SEC, World};

/// Links over data channels beyond `max_peers` that there may be while links
/// are replaced, and for how long after the latest change of the mesh.
const SPARE_LINKS: usize = 2;
const SPARE_TIME: Micros = 20 * SEC;

/// After this no presence of a gone peer, or of a hub out of reach, is left:
/// heartbeats missed, grace, and time for the news to travel.
const STALE: Micros = 25 * SEC;

/// The largest network whose clients are all told of each other.
const ALL_TOLD: usize = 64;

impl World {
    /// The hosts whose hubs should be one mesh.
    pub(crate) fn members(&self) -> impl Iterator<Item = (usize, &Host)> {
        self.hosts.iter().enumerate().filter(|(_, host)| host.up && !host.intruder)
    }

    /// The most outputs that one input may lead to.
    pub(crate) fn output_limit(&self, number: usize) -> usize {
        // When a hub is lost each client here is told of each of its clients.
        let conns = self.hosts[number].conns.len();
        200 + 8 * self.hosts.len() + conns * (10 + 3 * self.clients.len())
    }

    /// A data channel's end opened or closed.
    pub(crate) fn count_channel(&mut self, number: usize, open: bool) {
        let now = self.now;
        let host = &mut self.hosts[number];
        let most = host.most_links(now);
        if open {
            host.open_channels += 1;
        } else {
            host.open_channels -= 1;
        }
        let count = host.open_channels;
        if count > most {
            host.over_since.get_or_insert(now);
        } else {
            host.over_since = None;
        }
        // Beyond those that are proven links some may be about to prove themselves, or closing.
        let links = host.hub().map_or(0, |hub| hub.status(host.clock(now)).p2p_links);
        if links > most + SPARE_LINKS || count > 2 * (most + SPARE_LINKS) {
            self.fail(format!(
                "hub {number} has {count} data channels open, {links} of them links, for {most}"
            ));
        }
    }

    /// Looks for what must not last.
    pub(crate) fn audit(&mut self) {
        self.at(self.now + 5 * SEC, Event::Audit);
        for number in 0..self.hosts.len() {
            let host = &self.hosts[number];
            if host.stopped || host.resumed.is_some_and(|at| self.now - at < STALE) {
                continue;
            }
            if host.over_since.is_some_and(|since| self.now - since.max(self.changed) > SPARE_TIME) {
                let (count, most) = (host.open_channels, host.most_links(self.now));
                return self.fail(format!(
                    "hub {number} has had more data channels than max_peers for {} s: {count}, not {most}",
                    SPARE_TIME / SEC
                ));
            }
            if let Err(fault) = self.audit_queues(number).and_then(|()| self.audit_presence(number)) {
                return self.fail(format!("hub {number} {fault}"));
            }
        }
    }

    /// Nothing that waits grows beyond what a few clients can have sent lately.
    fn audit_queues(&self, number: usize) -> Result<(), String> {
        let Some(hub) = self.hosts[number].hub() else { return Ok(()) };
        let (gauges, hubs) = (hub.gauges(), self.hosts.len());
        // Signals live for a little more than ten seconds, and so does all else between hubs.
        let lately = self.ledger.signals.iter().rev().take_while(|signal| signal.is_young(self.now)).count();
        let queued = hubs * 200 + lately * (self.clients.len() + hubs);
        if gauges.held > lately || gauges.under_way > lately || gauges.queued > queued {
            return Err(format!("has too much waiting, with {lately} signals of late: {gauges:?}"));
        }
        if gauges.handshakes > 4 * hubs || gauges.channels > 2 * hubs {
            return Err(format!("has too many connections under way: {gauges:?}"));
        }
        Ok(())
    }

    fn audit_presence(&self, number: usize) -> Result<(), String> {
        let Some(hub) = self.hosts[number].hub() else { return Ok(()) };
        let long_ago = |at: Micros| self.now - at > STALE;
        let calm = self.is_whole()
            && self.ledger.parted.is_none_or(|at| self.now - at > 60 * SEC)
            && self.ledger.crashes.last().is_none_or(|at| self.now - at > 60 * SEC);
        for entry in hub.peers(None) {
            let client = self.clients.iter().find(|client| client.name == entry.peer_id);
            let client = client.ok_or_else(|| format!("knows a peer that does not exist: {entry:?}"))?;
            if client.network != entry.network && !client.also.contains(&entry.network) {
                return Err(format!("knows a peer in a network that is not its own: {entry:?}"));
            }
            let home = self.hosts.iter().position(|host| host.id == entry.hub_id);
            let home = home.ok_or_else(|| format!("knows a peer of a hub that does not exist: {entry:?}"))?;
            if !self.hosts[home].up && long_ago(self.hosts[home].died) {
                return Err(format!("still lists a peer of hub {home}, which is down: {entry:?}"));
            }
            if let Some((since, marked)) = &self.parted
                && marked[home] != marked[number]
                && long_ago(*since)
            {
                return Err(format!("still lists a peer of hub {home}, which is out of reach: {entry:?}"));
            }
            let here = client.session.map(|session| &self.sessions[session]);
            let right = here.is_some_and(|s| s.host == home && s.announced.is_some());
            let left = client.left.is_some_and(|(_, until)| self.now > until + STALE);
            let settled = here.is_none_or(|s| s.announced.is_some_and(long_ago));
            if calm && !right && left && settled {
                return Err(format!("still lists a peer that is not at hub {home} any more: {entry:?}"));
            }
        }
        Ok(())
    }

    /// What must hold once every fault is over and the mesh had time to settle.
    pub(crate) fn at_rest(&self) -> Result<(), String> {
        if let Some((number, _)) = self.members().find(|(_, host)| host.draining) {
            return Err(format!("hub {number} still drains"));
        }
        let members: Vec<(usize, &Host, &Hub)> =
            self.members().filter_map(|(number, host)| Some((number, host, host.hub()?))).collect();
        let all: BTreeSet<Id> = members.iter().map(|(_, host, _)| host.id).collect();
        let place: BTreeMap<Id, usize> =
            members.iter().enumerate().map(|(i, (_, host, _))| (host.id, i)).collect();
        // The quick ones first: until the mesh is at rest one of them mostly ends the look.
        if !self.udp_blocked() {
            for (number, host, hub) in &members {
                self.hub_at_rest(*number, host, hub)?;
            }
        }
        let mut links = Vec::new();
        for (number, host, hub) in &members {
            let now = host.clock(self.now);
            let mut reach = BTreeSet::from([host.id]);
            let mut own = Vec::new();
            for info in hub.hubs(now) {
                if info.reachable || info.own {
                    reach.insert(info.hub_id);
                }
                if info.link.as_deref() == Some("p2p") {
                    let peer = place.get(&info.hub_id).copied();
                    own.push(
                        peer.ok_or_else(|| format!("hub {number} links to a stranger, {}", info.hub_id))?,
                    );
                }
            }
            if reach != all {
                let of = |ids: BTreeSet<Id>| self.numbers(&ids);
                let (less, more) = (of(&all - &reach), of(&reach - &all));
                return Err(format!(
                    "hub {number} does not reach hubs {less:?} and reaches strangers {more:?}"
                ));
            }
            links.push(own);
        }
        for (from, to) in links.iter().enumerate().flat_map(|(from, to)| to.iter().map(move |to| (from, *to)))
        {
            if !links[to].contains(&from) {
                return Err(format!(
                    "hub {} has a link to hub {}, but not back",
                    members[from].0, members[to].0
                ));
            }
        }
        if !self.udp_blocked() {
            self.paths_at_rest(&links)?;
        }
        self.intruders_at_rest()?;
        self.clients_at_rest()
    }

    fn udp_blocked(&self) -> bool {
        self.members().any(|(_, host)| host.udp_blocked)
    }

    fn numbers(&self, ids: &BTreeSet<Id>) -> Vec<Option<usize>> {
        ids.iter().map(|id| self.hosts.iter().position(|host| host.id == *id)).collect()
    }

    fn hub_at_rest(&self, number: usize, host: &Host, hub: &Hub) -> Result<(), String> {
        let status = hub.status(host.clock(self.now));
        let (most, gauges) = (host.settings.max_peers, hub.gauges());
        if gauges.held + gauges.under_way + gauges.channels > 0 {
            return Err(format!("hub {number} still has something under way: {gauges:?}"));
        }
        if status.state != MeshState::Ready || !status.ready || !status.migrated || status.ws_links != 0 {
            return Err(format!("hub {number} is not ready and migrated: {status:?}"));
        }
        if status.p2p_links > most || host.open_channels != status.p2p_links {
            let open = host.open_channels;
            return Err(format!("hub {number} has {open} channels, max_peers {most}, and says {status:?}"));
        }
        Ok(())
    }

    fn paths_at_rest(&self, links: &[Vec<usize>]) -> Result<(), String> {
        let (mean, _) = mean_path(links).ok_or("the mesh's data channels are not one component")?;
        if self.members().all(|(_, host)| host.settings.max_peers == 3) {
            let least = least_mean_path(links.len(), 3);
            if mean > least * 1.25 + 1e-9 || (links.len() <= 4 && mean > least + 1e-9) {
                return Err(format!(
                    "the mean path of {} hubs is {mean:.3}; the least is {least:.3}",
                    links.len()
                ));
            }
        }
        Ok(())
    }

    /// The mean path and the diameter over the data channels that are open at both ends.
    pub(crate) fn mesh_paths(&self) -> Option<(f64, u32)> {
        let mut links = vec![Vec::new(); self.hosts.len()];
        for pipe in self.pipes.iter().filter(|pipe| pipe.ends.iter().all(|end| end.counted)) {
            if let [Some(a), Some(b)] = [0, 1].map(|side: usize| pipe.ends[side].party.host()) {
                links[a].push(b);
                links[b].push(a);
            }
        }
        let up: Vec<usize> = self.members().map(|(number, _)| number).collect();
        let place = |host: &usize| up.iter().position(|other| other == host);
        let links: Vec<Vec<usize>> =
            up.iter().map(|host| links[*host].iter().filter_map(place).collect()).collect();
        mean_path(&links)
    }

    fn intruders_at_rest(&self) -> Result<(), String> {
        for (number, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.intruder && host.up) {
            let Some(hub) = host.hub() else { continue };
            let status = hub.status(host.clock(self.now));
            if status.p2p_links + status.ws_links + status.known_hubs > 0 || host.open_channels > 0 {
                return Err(format!("hub {number} has no business in the mesh, but got in: {status:?}"));
            }
        }
        Ok(())
    }

    fn clients_at_rest(&self) -> Result<(), String> {
        for (number, client) in self.clients.iter().enumerate() {
            let here = client.session.map(|session| &self.sessions[session]);
            if !client.retired && here.is_none_or(|s| s.announced.is_none_or(|at| self.now - at < 2 * SEC)) {
                return Err(format!("client {number} is not back yet"));
            }
            // A hub that lost its power holds nothing, though nobody told the client.
            let held = |pipe: usize| self.pipes[pipe].ends.iter().all(|end| end.state == State::Open);
            let old = self.sessions.iter().enumerate().find(|(i, session)| {
                session.client == number
                    && Some(*i) != client.session
                    && self.hosts[session.host].up
                    && session.pipe.is_some_and(held)
            });
            if let (Some((old, _)), false) = (old, client.retired) {
                return Err(format!("client {number} was not cut off from its earlier session {old}"));
            }
        }
        let mut networks: BTreeMap<&str, BTreeMap<&str, Id>> = BTreeMap::new();
        let mut served: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for (client, session) in self.announced() {
            let host = &self.hosts[session.host];
            networks.entry(&client.network).or_default().insert(&client.name, host.id);
            served.entry(session.host).or_default().insert(&client.network);
        }
        for (number, host) in self.members() {
            let Some(hub) = host.hub() else { continue };
            let known: BTreeSet<(String, String, Id)> =
                hub.peers(None).into_iter().map(|p| (p.network, p.peer_id, p.hub_id)).collect();
            let mut truth = BTreeSet::new();
            for network in served.get(&number).into_iter().flatten() {
                for (name, hub) in &networks[network] {
                    truth.insert(((*network).to_owned(), (*name).to_owned(), *hub));
                }
            }
            if known != truth {
                let (less, more) = (&truth - &known, &known - &truth);
                return Err(format!("hub {number} does not know of {less:?} and knows too much: {more:?}"));
            }
        }
        self.unheard_goodbye().map_or(Ok(()), Err)?;
        for (number, client) in self.clients.iter().enumerate().filter(|(_, client)| client.session.is_some())
        {
            let peers = &networks[client.network.as_str()];
            let truth: BTreeSet<Id> = peers.keys().filter_map(|name| name.parse().ok()).collect();
            let mut view = client.view.clone();
            view.insert(client.id);
            if peers.len() <= ALL_TOLD && view != truth {
                let (less, more) = (self.names(&(&truth - &view)), self.names(&(&view - &truth)));
                let session = client.session.unwrap_or_default();
                return Err(format!(
                    "client {number}, at hub {}, is not told of clients {less:?} and still believes in {more:?}",
                    self.sessions[session].host
                ));
            }
        }
        Ok(())
    }

    fn names(&self, ids: &BTreeSet<Id>) -> Vec<Option<usize>> {
        ids.iter().map(|id| self.clients.iter().position(|client| client.id == *id)).collect()
    }
}
