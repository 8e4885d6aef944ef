//! Networks as they are: eight hubs on eight hosts of their own, while the
//! network between them cuts, loses, blocks, translates or changes. Afterwards
//! there is one mesh again, and what was sent was delivered or told.

mod addresses;
mod listening;
mod moves;
mod nat;
mod standstill;

use std::process::Command;
use std::time::{Duration, Instant};

use pigeonhub_proto::control::LinkInfo;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::harness::{Crowd, Ground, Hub, Need, Net, Plan, Sums, daemon, skipped, until_ok};

const HUBS: usize = 8;
const PORT: u16 = 3000;
const NO_UDP: &str = "meta l4proto udp drop";
/// How long a change of the network lasts.
const SPELL: Duration = Duration::from_secs(8);

/// Eight hosts with a hub and a client each.
struct Scene {
    _ground: Ground,
    hubs: Vec<Hub>,
    crowd: Crowd,
    rng: StdRng,
    net: Net,
}

/// A hub on `host`, with more lines for its `[mesh]`.
fn plan(net: &Net, host: usize, v6: bool, mesh: &str) -> Plan {
    let address = |host| if v6 { net.address6(host) } else { net.address(host) };
    let url = |host| format!("ws://{}", std::net::SocketAddr::new(address(host), PORT));
    let bootstraps: Vec<String> = (1..=2).filter(|other| *other != host).map(url).collect();
    Plan::through(bootstraps.iter().map(String::as_str))
        .migrating_after(Duration::from_secs(1))
        .config(&format!("[mesh]\nadvertise = \"{}\"\n{mesh}", url(host)))
        .on(net, host, address(host))
}

/// What `pigeonctl doctor` says of a hub, on its host.
fn doctor(net: &Net, host: usize, hub: &Hub) -> String {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &net.namespace(host)]).arg(daemon().with_file_name("pigeonctl"));
    let output = command.arg("--socket").arg(hub.control_socket()).arg("doctor").output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Scene {
    fn new() -> Self {
        Self::with(false, |_| ())
    }

    /// `before` prepares the network.
    fn with(v6: bool, before: impl FnOnce(&Net)) -> Self {
        let (ground, net) = (Ground::new(), Net::new(HUBS));
        before(&net);
        let hubs: Vec<Hub> =
            (1..=HUBS).map(|host| plan(&net, host, v6, "").start_on(&ground, PORT)).collect();
        let (mut crowd, rng) = (Crowd::new(HUBS), StdRng::seed_from_u64(1));
        for (client, hub) in hubs.iter().enumerate() {
            crowd.join(client, hub);
        }
        Self { _ground: ground, hubs, crowd, rng, net }
    }

    /// Everyone signals for a while.
    fn talk(&mut self) {
        let end = Instant::now() + SPELL;
        while Instant::now() < end {
            self.crowd.talk(&mut self.rng);
            self.crowd.listen();
            self.crowd.judge();
        }
    }

    /// Waits until each hub reaches all others, and knows every client.
    fn wait_joined(&mut self) {
        let (hubs, crowd) = (&self.hubs, &mut self.crowd);
        until_ok("there is one mesh", || {
            crowd.listen();
            let all: Vec<_> = hubs.iter().map(|hub| (hub.status().known_hubs, hub.peers().len())).collect();
            if all.iter().all(|known| *known == (HUBS - 1, HUBS)) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }

    /// One mesh over data channels again, and every signal accounted for.
    fn finish(mut self) {
        self.hubs.iter().for_each(|hub| hub.wait_ready(HUBS - 1));
        self.wait_joined();
        self.crowd.wait_introduced();
        self.crowd.all_reach_all();
        self.crowd.settle();
        println!("{:?}", self.crowd.sums);
        let Sums { sent, delivered, told, both, .. } = self.crowd.sums;
        assert_eq!(sent, delivered + told + both, "all is delivered or told");
        assert_eq!(self.crowd.sums.moved, 0, "signals delivered twice");
    }
}

#[test]
fn links_cut_one_by_one() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::new();
    scene.wait_joined();
    // One host loses the others one by one, until it is alone, and gets them back.
    for other in 2..=HUBS {
        scene.net.cut(&[(1, other)]);
        scene.crowd.talk(&mut scene.rng);
        scene.crowd.listen();
    }
    scene.talk();
    for other in 2..=HUBS {
        scene.net.heal(&[(1, other)]);
    }
    scene.finish();
}

#[test]
fn halves_cut_from_each_other() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::new();
    scene.wait_joined();
    let across: Vec<_> = (1..=HUBS / 2).flat_map(|a| (HUBS / 2 + 1..=HUBS).map(move |b| (a, b))).collect();
    scene.net.cut(&across);
    scene.talk();
    until_ok("each half has lost the other", || {
        scene.crowd.listen();
        let known: Vec<_> = scene.hubs.iter().map(|hub| hub.status().known_hubs).collect();
        if known == [HUBS / 2 - 1; HUBS] { Ok(()) } else { Err(format!("{known:?}")) }
    });
    scene.talk();
    scene.net.heal(&across);
    scene.finish();
}

#[test]
fn a_third_of_all_packets_lost() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::with(false, |net| net.weather("numgen random mod 100 < 30 drop"));
    scene.wait_joined();
    scene.talk();
    scene.net.fine_weather();
    scene.finish();
}

#[test]
fn a_fifth_of_a_second_from_hub_to_hub() {
    if skipped(&[Need::Namespaces, Need::SlowNetwork]) {
        return;
    }
    let mut switch = None;
    let mut scene = Scene::with(false, |net| switch = Some(net.far(200, 50)));
    scene.wait_joined();
    scene.talk();
    // Heartbeats tell that they really are that far.
    let far = |link: &LinkInfo| link.rtt_us.is_some_and(|micros| micros > 300_000);
    for hub in &scene.hubs {
        let links = hub.links();
        assert!(!links.is_empty() && links.iter().filter(|link| link.rtt_us.is_some()).all(far), "{links:?}");
    }
    scene.finish();
}

#[test]
fn udp_blocked() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::with(false, |net| net.weather(NO_UDP));
    scene.wait_joined();
    scene.talk();
    assert!(scene.hubs.iter().all(|hub| hub.status().p2p_links == 0), "no data channel can open");
    scene.crowd.settle();
    scene.crowd.all_reach_all();
    scene.net.fine_weather();
    scene.finish();
}

#[test]
fn udp_blocked_from_one_moment_to_the_next() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::new();
    scene.wait_joined();
    scene.hubs.iter().for_each(|hub| hub.wait_migrated(HUBS - 1));
    scene.net.weather(NO_UDP);
    scene.talk();
    // WebSockets carry the mesh in place of the data channels.
    for hub in &scene.hubs {
        hub.wait("has lost its data channels", |status| status.p2p_links == 0 && status.ws_links > 0);
    }
    scene.wait_joined();
    scene.crowd.settle();
    scene.crowd.all_reach_all();
    scene.net.fine_weather();
    scene.finish();
}

#[test]
fn ipv6_alone() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::with(true, |net| {
        (1..=HUBS).for_each(|host| net.run(host, &format!("ip addr del 10.0.0.{host}/24 dev eth0")));
    });
    scene.wait_joined();
    scene.talk();
    scene.finish();
}

#[test]
fn packets_of_1280_bytes_at_most() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::with(false, |net| {
        (1..=HUBS).for_each(|host| net.run(host, "ip link set eth0 mtu 1280"));
        // What is larger is lost without a word, as where the messages of ICMP are filtered.
        net.weather("meta length > 1280 drop");
    });
    scene.crowd.pad(10_000);
    scene.wait_joined();
    scene.talk();
    scene.finish();
}
