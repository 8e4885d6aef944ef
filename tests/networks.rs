//! Networks as they are: eight hubs on eight hosts of their own, while the
//! network between them cuts, loses, blocks, translates or changes. Afterwards
//! there is one mesh again, and what was sent was delivered or told.

use std::process::Command;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::harness::{Crowd, Ground, Hub, Need, Net, Plan, Process, skipped, until_ok};

const HUBS: usize = 8;
const PORT: u16 = 3000;
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
        self.crowd.settle();
        self.crowd.all_reach_all();
        assert_eq!(
            (self.crowd.sums.sender_gone, self.crowd.sums.target_gone),
            (0, 0),
            "no client was harmed"
        );
        println!("{:?}", self.crowd.sums);
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
fn udp_blocked() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let mut scene = Scene::with(false, |net| net.weather("meta l4proto udp drop"));
    scene.wait_joined();
    scene.talk();
    assert!(scene.hubs.iter().all(|hub| hub.status().p2p_links == 0), "no data channel can open");
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

#[test]
fn an_address_that_changes() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(3));
    let mut hubs: Vec<Hub> =
        (1..=2).map(|host| plan(&net, host, false, "").start_on(&ground, PORT)).collect();
    // It listens everywhere, and tells no URL.
    let anywhere = Plan::through(["ws://10.0.0.1:3000"]).migrating_after(Duration::from_secs(1)).on(
        &net,
        3,
        [0, 0, 0, 0].into(),
    );
    hubs.push(anywhere.start_on(&ground, PORT));
    let (mut crowd, mut rng) = (Crowd::new(2), StdRng::seed_from_u64(1));
    hubs.iter().for_each(|hub| hub.wait_migrated(2));
    crowd.join(0, &hubs[0]);
    crowd.join(1, &hubs[1]);
    net.run(3, "ip addr del 10.0.0.3/24 dev eth0");
    net.run(3, "ip addr add 10.0.0.33/24 dev eth0");
    let lost = Instant::now();
    until_ok("the others notice", || {
        crowd.talk(&mut rng);
        crowd.listen();
        let known = hubs[0].status().known_hubs;
        if known == 1 || lost.elapsed() > SPELL { Ok(()) } else { Err(known.to_string()) }
    });
    hubs.iter().for_each(|hub| hub.wait_ready(2));
    // A client at the new address.
    hubs[2].address = [10, 0, 0, 33].into();
    let mut all = Crowd::new(3);
    crowd.settle();
    drop(crowd);
    (0..3).for_each(|at| all.join(at, &hubs[at]));
    until_ok("every hub knows every client", || {
        all.listen();
        let known: Vec<_> = hubs.iter().map(|hub| hub.peers().len()).collect();
        if known == [3; 3] { Ok(()) } else { Err(format!("{known:?}")) }
    });
    all.all_reach_all();
}

/// Debian's coturn in the middle, for STUN and TURN alike.
fn coturn(ground: &Ground) -> Process {
    let mut command = Command::new("turnserver");
    command.args(["-n", "--listening-ip", "10.0.0.254", "--relay-ip", "10.0.0.254", "--log-file", "stdout"]);
    command.args(["--lt-cred-mech", "--realm", "pigeons", "--user", "hub:secret", "--no-tls", "--no-dtls"]);
    command.args(["--no-cli", "--simple-log"]);
    command.arg("--userdb").arg(ground.folder().join("turndb"));
    command.arg("--pidfile").arg(ground.folder().join("turn.pid"));
    Process::start("coturn", &mut command)
}

const ICE_SERVERS: &str = r#"
[[mesh.ice_servers]]
urls = ["stun:10.0.0.254:3478", "turn:10.0.0.254:3478?transport=udp"]
username = "hub"
credential = "secret"
"#;

#[test]
fn hubs_behind_cone_and_symmetric_nat() {
    if skipped(&[Need::Namespaces, Need::Coturn]) {
        return;
    }
    let (ground, net) = (Ground::new(), Net::new(4));
    let _coturn = coturn(&ground);
    // A source port that stays is a cone; one that is another for each target is symmetric.
    let cone = net.behind_nat(3, "masquerade");
    let symmetric = net.behind_nat(4, "masquerade random,fully-random");
    let mut hubs: Vec<Hub> =
        (1..=2).map(|host| plan(&net, host, false, ICE_SERVERS).start_on(&ground, PORT)).collect();
    for (host, address) in [cone, symmetric] {
        let hidden = Plan::through(["ws://10.0.0.1:3000", "ws://10.0.0.2:3000"])
            .migrating_after(Duration::from_secs(1))
            .config(&format!("[mesh]\n{ICE_SERVERS}"))
            .on(&net, host, address);
        hubs.push(hidden.start_on(&ground, PORT));
    }
    // All pairs, also that of the two hidden ones, which only TURN can join.
    for hub in &hubs {
        hub.wait("has data channels to all others", |status| status.ready && status.p2p_links == 3);
        hub.wait_migrated(3);
    }
    let mut crowd = Crowd::new(4);
    hubs.iter().enumerate().for_each(|(at, hub)| crowd.join(at, hub));
    until_ok("every hub knows every client", || {
        crowd.listen();
        let known: Vec<_> = hubs.iter().map(|hub| hub.peers().len()).collect();
        if known == [4; 4] { Ok(()) } else { Err(format!("{known:?}")) }
    });
    crowd.all_reach_all();
}
