//! Published clients on one, three and eight hubs: they discover each other,
//! open data channels, and hear each other.

use std::time::Duration;

use crate::harness::{
    Cable, Client, Clients, Ground, Hub, Need, Plan, all_hear_all, skipped, tcp_between, until, until_ok,
};

const NETWORK: &str = "pigeons";
/// Longer than any test runs, and the longest there is.
const NEVER: Duration = Duration::from_secs(3600);
/// Clients that see a hub killed and go on with newcomers.
const STAYING: usize = 2;
const SOON: Duration = Duration::from_secs(1);

/// Where a test's clients live: all in Node, or every other one in Chromium.
struct Hosts {
    hosts: Vec<Clients>,
}

impl Hosts {
    /// Two processes: with more than some four clients in one, the client library's own ICE starves.
    fn node(ground: &Ground) -> Self {
        Self { hosts: vec![Clients::node(ground), Clients::node(ground)] }
    }

    /// A page for each.
    fn chromium(ground: &Ground) -> Self {
        Self { hosts: vec![Clients::chromium(ground)] }
    }

    fn mixed(ground: &Ground) -> Self {
        Self { hosts: vec![Clients::chromium(ground), Clients::node(ground)] }
    }

    /// One client at each of `urls`, whose names begin with `name`.
    fn join(&self, name: &str, urls: &[String]) -> Vec<Client> {
        self.join_in(NETWORK, name, urls)
    }

    fn join_in(&self, network: &str, name: &str, urls: &[String]) -> Vec<Client> {
        let hosts = self.hosts.iter().cycle();
        let joined = urls.iter().zip(hosts).enumerate();
        joined.map(|(i, (url, host))| host.join(&format!("{name}{i}"), url, network)).collect()
    }
}

/// Rooms of so many clients that come at once, one room after the other, each spread over `hubs`.
fn rooms(hosts: &Hosts, hubs: &[Hub], sizes: &[usize]) {
    for size in sizes {
        let room = format!("of{size}");
        let urls: Vec<String> = urls(hubs).into_iter().cycle().take(*size).collect();
        let clients = hosts.join_in(&room, &room, &urls);
        hear_each_other(&clients);
        clients.iter().for_each(Client::close);
    }
}

/// Clients of `hubs` hear each other while `trouble` comes over hubs or connections, which is none of
/// their data channels' business; each loses its hub and is at one again, as many as `losers` says.
fn stay_together(clients: &[Client], losers: &[usize], trouble: impl FnOnce()) {
    hear_each_other(clients);
    let before: Vec<usize> = clients.iter().map(Client::connections).collect();
    let partings: Vec<usize> = clients.iter().map(Client::partings).collect();
    trouble();
    until("who lost its hub is at one again", || {
        losers.iter().all(|at| clients[*at].connections() > before[*at]).then_some(())
    });
    hear_each_other(clients);
    let after: Vec<usize> = clients.iter().map(Client::partings).collect();
    assert_eq!(after, partings, "no data channel was closed");
}

fn hear_each_other(clients: &[Client]) {
    all_hear_all(&clients.iter().collect::<Vec<_>>());
}

/// `count` hubs that know each other; all but the first joined through it.
fn mesh(ground: &Ground, count: usize, migration_delay: Duration) -> Vec<Hub> {
    let first = Plan::first().migrating_after(migration_delay).start(ground);
    let joining = Plan::through([first.url().as_str()]).migrating_after(migration_delay);
    let mut hubs = vec![first];
    hubs.extend((1..count).map(|_| joining.start(ground)));
    for hub in &hubs {
        hub.wait_ready(count - 1);
    }
    hubs
}

fn urls(hubs: &[Hub]) -> Vec<String> {
    hubs.iter().map(Hub::url).collect()
}

/// Four hubs at most, far apart, for a room that is one piece in each run: of eight clients that come at
/// eight hubs, some to a room that others just left, it is not in all. `tests/clients/compare` has figures.
fn spread(hubs: &[Hub]) -> Vec<String> {
    hubs.iter().step_by(hubs.len().div_ceil(4)).map(Hub::url).collect()
}

fn pids(hubs: &[Hub]) -> Vec<u32> {
    hubs.iter().map(Hub::pid).collect()
}

/// Waits until every hub has migrated and the operating system knows of no TCP connection between two of them.
fn wait_migrated(hubs: &[Hub]) {
    for hub in hubs {
        hub.wait_migrated(hubs.len() - 1);
    }
    until_ok("no TCP connection is left between two hubs", || match tcp_between(&pids(hubs)) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

/// Clients at each hub of a mesh before migration.
fn before_migration(ground: &Ground, hosts: &Hosts, count: usize) {
    let hubs = mesh(ground, count, NEVER);
    assert!(!tcp_between(&pids(&hubs)).is_empty(), "before migration hubs are joined by WebSockets");
    let clients = hosts.join("early", &urls(&hubs));
    hear_each_other(&clients);
    assert!(clients.iter().all(|client| !client.was_disconnected()), "none lost its hub");
    assert!(hubs.iter().all(|hub| !hub.status().migrated), "it was before migration");
}

/// Clients at each hub after migration, and at those that are left after the one that all joined through is killed.
fn after_migration_and_a_kill(ground: &Ground, hosts: &Hosts, count: usize) {
    let mut hubs = mesh(ground, count, SOON);
    wait_migrated(&hubs);
    let clients = hosts.join("late", &spread(&hubs));
    hear_each_other(&clients);
    assert_eq!(tcp_between(&pids(&hubs)), [], "clients bring no WebSocket between hubs back");

    // At the killed hub was the first of the clients. Two stay; the others leave, since
    // a process bears only so many WebRTC connections.
    let mut middle = hubs.remove(0);
    middle.kill();
    let (staying, leaving) = clients[1..].split_at(STAYING);
    leaving.iter().for_each(Client::close);
    let fresh = hosts.join("last", &spread(&hubs)[..2]);
    all_hear_all(&staying.iter().chain(&fresh).collect::<Vec<_>>());
    for hub in &hubs {
        hub.wait("has forgotten the killed hub and its client", |status| {
            status.known_hubs == hubs.len() - 1
                // A hub without clients of a network knows none of it.
                && (status.networks == 0 || status.local_peers + status.remote_peers == STAYING + fresh.len())
        });
    }
}

#[test]
fn rooms_in_node_on_one_hub() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    rooms(&Hosts::node(&ground), &mesh(&ground, 1, SOON), &[2, 4, 6]);
}

#[test]
fn rooms_in_node_on_three_hubs() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let hubs = mesh(&ground, 3, SOON);
    wait_migrated(&hubs);
    rooms(&Hosts::node(&ground), &hubs, &[2, 4, 6]);
}

#[test]
fn rooms_in_chromium() {
    if skipped(&[Need::Node, Need::Chromium]) {
        return;
    }
    let ground = Ground::new();
    rooms(&Hosts::chromium(&ground), &mesh(&ground, 1, SOON), &[2, 4]);
}

#[test]
fn clients_stay_together_when_a_websocket_breaks() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    for count in [1, 2] {
        let hubs = mesh(&ground, count, SOON);
        let cable = Cable::to(hubs[0].port);
        let urls = [cable.url(), hubs[count - 1].url(), hubs[0].url()];
        let clients = Hosts::node(&ground).join("any", &urls);
        stay_together(&clients, &[0], || cable.cut());
        // Whatever it was told meanwhile, the hub still introduces newcomers to it.
        let newcomer = Hosts::node(&ground).join("late", &urls[2..]);
        hear_each_other(&clients.into_iter().chain(newcomer).collect::<Vec<_>>());
    }
}

#[test]
fn clients_stay_together_when_a_hub_is_restarted_or_killed() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    for killed in [false, true] {
        let mut hubs = mesh(&ground, 2, SOON);
        wait_migrated(&hubs);
        let [here, there] = [hubs[0].url(), hubs[1].url()];
        let clients = Hosts::node(&ground).join("any", &[here.clone(), there.clone(), there]);
        let mut ending = hubs.remove(1);
        stay_together(&clients, &[1, 2], || {
            if killed {
                ending.kill();
            } else {
                assert!(ending.stop().success());
            }
            let again = Plan::through([here.as_str()]).migrating_after(SOON);
            hubs.push(again.start_on(&ground, ending.port));
        });
    }
}

/// For good: those who were at the hub that is gone have lost nothing but the way to meet newcomers.
#[test]
fn clients_stay_together_when_their_hub_is_gone_for_good() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let mut hubs = mesh(&ground, 2, SOON);
    wait_migrated(&hubs);
    let [here, there] = [hubs[0].url(), hubs[1].url()];
    let clients = Hosts::node(&ground).join("any", &[here, there.clone(), there]);
    let mut gone = hubs.remove(1);
    stay_together(&clients, &[], || {
        gone.kill();
        hubs[0].wait("has forgotten the killed hub and its clients", |status| {
            status.known_hubs == 0 && status.local_peers + status.remote_peers == 1
        });
    });
}

#[test]
fn node_clients_on_three_hubs_before_migration() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    before_migration(&ground, &Hosts::node(&ground), 3);
}

#[test]
fn node_clients_on_three_hubs_after_migration_and_after_a_kill() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    after_migration_and_a_kill(&ground, &Hosts::node(&ground), 3);
}

#[test]
fn node_clients_on_eight_hubs_before_migration() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    before_migration(&ground, &Hosts::node(&ground), 8);
}

#[test]
fn node_clients_on_eight_hubs_after_migration_and_after_a_kill() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    after_migration_and_a_kill(&ground, &Hosts::node(&ground), 8);
}

#[test]
fn chromium_and_node_clients_on_one_hub() {
    if skipped(&[Need::Node, Need::Chromium]) {
        return;
    }
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    hear_each_other(&Hosts::mixed(&ground).join("any", &[hub.url(), hub.url(), hub.url()]));
}

#[test]
fn chromium_and_node_clients_on_three_hubs_before_migration() {
    if skipped(&[Need::Node, Need::Chromium]) {
        return;
    }
    let ground = Ground::new();
    before_migration(&ground, &Hosts::mixed(&ground), 3);
}

#[test]
fn chromium_and_node_clients_on_three_hubs_after_migration_and_after_a_kill() {
    if skipped(&[Need::Node, Need::Chromium]) {
        return;
    }
    let ground = Ground::new();
    after_migration_and_a_kill(&ground, &Hosts::mixed(&ground), 3);
}

#[test]
fn chromium_and_node_clients_on_eight_hubs_after_migration_and_after_a_kill() {
    if skipped(&[Need::Node, Need::Chromium]) {
        return;
    }
    let ground = Ground::new();
    after_migration_and_a_kill(&ground, &Hosts::mixed(&ground), 8);
}

#[test]
fn a_client_that_leaves_is_gone_for_those_on_other_hubs() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let hubs = mesh(&ground, 3, SOON);
    let hosts = Hosts::node(&ground);
    let clients = hosts.join("any", &urls(&hubs));
    hear_each_other(&clients);
    clients[0].close();
    until("the others have no data channel to it", || {
        clients[1..].iter().all(|client| !client.connected(&clients[0])).then_some(())
    });
    for hub in &hubs {
        hub.wait("knows two peers", |status| status.local_peers + status.remote_peers == 2);
    }
    assert!(
        clients[1].connected(&clients[2]) && clients[2].connected(&clients[1]),
        "those who stay keep theirs"
    );
}

/// The source document's "Event Flow", at a hub that joins.
#[test]
fn events_come_in_the_source_documents_order() {
    let ground = Ground::new();
    let hubs = mesh(&ground, 3, SOON);
    wait_migrated(&hubs);
    let order = [
        "bootstrapConnected",
        "hubDiscovered",
        "hubP2PConnected",
        "hubMeshReady",
        "hubMeshMigrated",
        "bootstrapDisconnected",
    ];
    for hub in &hubs[1..] {
        until_ok("a hub that joined logs its way in order", || {
            let events = hub.events();
            let places: Option<Vec<usize>> =
                order.iter().map(|name| events.iter().position(|event| event == name)).collect();
            match places {
                // Closing the bootstrap WebSocket is what migration is; either may be told first.
                Some(places)
                    if places.len() == order.len() && places[..5].is_sorted() && places[3] < places[5] =>
                {
                    Ok(())
                }
                _ => Err(format!("{events:?}")),
            }
        });
    }
}
