use std::net::IpAddr;

use pigeonhub_proto::control::{
    Answer, ConfigChange, ConfigValue, EventInfo, HubInfo, LinkInfo, MeshState, NetworkInfo, Offered,
    PeerInfo, ProbeHop, ReloadReport, RouteInfo, Status,
};
use pigeonhub_proto::id::Id;
use serde_json::{Map, Value, json};

use super::*;
use crate::golden::{ASCII, COLOURED, NOW, PLAIN, WIDE, golden, shown};
use crate::look::Look;

fn id(byte: u8) -> Id {
    Id([byte; 20])
}

fn a_status(state: MeshState) -> Status {
    Status {
        hub_id: id(0x1f),
        port: 3001,
        state,
        reason: String::from("2 of 3 links"),
        ready: state == MeshState::Ready,
        migrated: state == MeshState::Ready,
        p2p_links: 2,
        ws_links: 1,
        known_hubs: 5,
        local_peers: 12,
        remote_peers: 106,
        networks: 1,
        connections: 14,
        uptime: 93_784,
        config_age: Some(7_262),
        twin: None,
        listening: Vec::new(),
        offered: None,
        on_disk: None,
        refused: [(String::from("token"), 12), (String::from("origin"), 3)].into(),
        rejected: None,
        version: String::from("0.1.0"),
    }
}

fn an_event(number: u64, ago_s: u64, name: &str, fields: &Value) -> EventInfo {
    let fields: Map<String, Value> = fields.as_object().cloned().expect("an object");
    EventInfo { number, at: NOW - ago_s * 1000, event: name.to_owned(), fields }
}

fn some_events() -> Vec<EventInfo> {
    vec![
        an_event(1, 3_700, "bootstrapDisconnected", &json!({ "uri": "ws://a", "reason": "refused" })),
        an_event(2, 61, "hubMeshReady", &json!({ "p2pConnections": 2, "totalHubs": 6 })),
        an_event(3, 0, "peerAnnounced", &json!({ "peerId": "a1".repeat(20), "network": "a\u{1b}[2Jb c" })),
        an_event(4, 0, "hubRejected", &json!({ "hub": "x".repeat(90), "reason": "" })),
    ]
}

#[test]
fn a_status_fits_one_screen() {
    let events = some_events();
    golden("status.txt", &shown(|out| status(out, &PLAIN, &a_status(MeshState::Ready), &events, 8)));
    golden(
        "status-colour.txt",
        &shown(|out| status(out, &COLOURED, &a_status(MeshState::Degraded), &events, 8)),
    );
    let old = Status { config_age: None, ..a_status(MeshState::Joining) };
    golden("status-ascii.txt", &shown(|out| status(out, &ASCII, &old, &[], 8)));
}

#[test]
fn addresses_that_are_not_offered_are_told() {
    let line = |offered: Offered| {
        let with = Status { offered: Some(offered), ..a_status(MeshState::Degraded) };
        let text = shown(|out| status(out, &PLAIN, &with, &[], 0));
        text.lines().find_map(|line| line.strip_prefix(" addresses ")).map(str::to_owned)
    };
    let some = |count: u8| (0..count).map(|at| IpAddr::from([10, 0, 0, at])).collect::<Vec<_>>();
    assert_eq!(line(Offered { addresses: some(2), ..Offered::default() }), None);
    let told = line(Offered { addresses: some(16), left_out: some(5), no_port: 0 });
    assert_eq!(
        told.as_deref(),
        Some("16 of 21 offered to other hubs, not 10.0.0.0, 10.0.0.1, 10.0.0.2 and 2 more")
    );
    let told = line(Offered { addresses: some(1), left_out: Vec::new(), no_port: 2 });
    assert_eq!(told.as_deref(), Some("all ports of mesh.udp_ports were taken, 2 times"));
    assert!(line(Offered::default()).expect("a fault").starts_with("none is offered"));
}

#[test]
fn a_hub_that_is_alone_against_its_will_says_why() {
    let hint = |known_hubs, events: &[EventInfo]| {
        let alone = Status { known_hubs, ..a_status(MeshState::Ready) };
        let text = shown(|out| status(out, &PLAIN, &alone, events, 0));
        text.lines().find_map(|line| line.strip_prefix("      hint ")).map(str::to_owned)
    };
    let refused = json!({ "uri": "ws://a", "reason": "connection refused" });
    let rejected = json!({ "hub": "ws://b", "reason": "the mesh keys differ" });
    let mut events = vec![an_event(1, 90, "bootstrapDisconnected", &refused)];
    assert_eq!(hint(0, &[]), None, "the first hub of a mesh");
    assert_eq!(hint(1, &events), None);
    let told = hint(0, &events).expect("a hint");
    assert!(
        told.starts_with("alone, and not by choice: ws://a: connection refused; pigeonctl doctor"),
        "{told}"
    );
    events.insert(0, an_event(2, 100, "hubRejected", &rejected));
    assert!(hint(0, &events).expect("a hint").contains("ws://b: the mesh keys differ"));
    let told =
        Status { rejected: Some(String::from("ws://c: no")), known_hubs: 0, ..a_status(MeshState::Ready) };
    let text = shown(|out| status(out, &PLAIN, &told, &events, 0));
    assert!(text.contains("alone, and not by choice: ws://c: no;"), "the hub knows best: {text}");
    events[0].at -= 3_600_000;
    assert!(hint(0, &events).expect("a hint").contains("refused"), "that was long ago");
}

#[test]
fn events_are_one_line_each() {
    golden("events.txt", &shown(|out| some_events().iter().try_for_each(|it| event(out, &PLAIN, it))));
}

fn some_hubs() -> Vec<HubInfo> {
    let hub = HubInfo {
        hub_id: id(0x1f),
        own: true,
        reachable: true,
        link: None,
        distance: Some(0),
        next_hop: None,
        urls: vec![String::from("ws://10.0.0.1:3000")],
        ready: true,
        draining: false,
        state: Some(MeshState::Ready),
        rtt_us: None,
        registered_at: NOW - 5_000,
        last_activity: NOW,
    };
    let linked = HubInfo {
        hub_id: id(0x2a),
        own: false,
        state: None,
        link: Some(String::from("p2p")),
        distance: Some(1),
        next_hop: Some(id(0x2a)),
        rtt_us: Some(812),
        ..hub.clone()
    };
    let far = HubInfo { hub_id: id(0x3b), link: None, distance: Some(2), rtt_us: None, ..linked.clone() };
    let gone = HubInfo { hub_id: id(0x4c), reachable: false, distance: None, next_hop: None, ..far.clone() };
    let leaving = HubInfo { hub_id: id(0x5d), draining: true, ..linked.clone() };
    let old = HubInfo { hub_id: id(0), link: Some(String::from("legacy")), ready: false, ..linked.clone() };
    vec![hub, linked, far, gone, leaving, old]
}

/// `status`, `hubs` and `topology` call this hub the same, and do not claim more of others than they tell.
#[test]
fn a_state_has_one_name_wherever_it_is_shown() {
    let [own, other] = [0, 1].map(|at| some_hubs().swap_remove(at));
    for state in MeshState::ALL {
        let name = state.name();
        assert_eq!(serde_json::to_value(state).expect("JSON"), name);
        let hub = HubInfo { ready: state == MeshState::Ready, state: Some(state), ..own.clone() };
        let text = shown(|out| hubs(out, &WIDE, std::slice::from_ref(&hub)));
        assert!(text.contains(&format!("{name}, this hub")), "{text}");
        let text = shown(|out| status(out, &PLAIN, &a_status(state), &[], 8));
        assert!(text.contains(&format!("state {name}")), "{text}");
        assert_eq!(standing(true, false, false, Some(state)).0, name, "the topology's word");
    }
    for (ready, draining, name) in
        [(true, false, "ready"), (false, true, "draining"), (false, false, "not ready")]
    {
        let hub = HubInfo { ready, draining, ..other.clone() };
        let text = shown(|out| hubs(out, &WIDE, std::slice::from_ref(&hub)));
        assert!(text.contains(name) && !text.contains("joining"), "{text}");
    }
}

fn some_links() -> Vec<LinkInfo> {
    let link = LinkInfo {
        conn: 4,
        hub_id: Some(id(0x2a)),
        transport: String::from("p2p"),
        fallback: false,
        wanted: true,
        age: 3_600,
        silence_ms: 12,
        rtt_us: Some(12_345),
        bytes_sent: 5 << 20,
        bytes_received: 999,
        local_address: Some(String::from("10.0.0.1:5000 host")),
        remote_address: Some(String::from("10.0.0.2:5001 srflx")),
    };
    let fallback = LinkInfo {
        transport: String::from("ws"),
        fallback: true,
        hub_id: Some(id(0x3b)),
        local_address: None,
        ..link.clone()
    };
    let old = LinkInfo {
        transport: String::from("legacy"),
        hub_id: None,
        rtt_us: None,
        local_address: None,
        remote_address: None,
        ..link.clone()
    };
    vec![link, fallback, old]
}

#[test]
fn hubs_and_links_are_tables() {
    golden("hubs.txt", &shown(|out| hubs(out, &WIDE, &some_hubs())));
    golden("hubs-colour.txt", &shown(|out| hubs(out, &Look { width: 200, ..COLOURED }, &some_hubs())));
    golden("hubs-narrow.txt", &shown(|out| hubs(out, &PLAIN, &some_hubs())));
    golden("links.txt", &shown(|out| links(out, &WIDE, &some_links())));
    golden("links-ascii.txt", &shown(|out| links(out, &Look { width: 200, ..ASCII }, &some_links())));
}

fn some_peers() -> Vec<PeerInfo> {
    let peer = |byte: u8, network: &str, local| PeerInfo {
        peer_id: format!("{byte:02X}").repeat(20),
        network: network.to_owned(),
        hub_id: id(0x2a),
        local,
        announced_at: NOW - 65_000,
    };
    vec![
        peer(0xa1, "global", true),
        peer(0xb2, "鳩 and more", false),
        peer(0xb2, "\u{1b}]0;x\u{9b}2J\u{7}", false),
    ]
}

#[test]
fn peers_and_networks_are_tables() {
    golden("peers.txt", &shown(|out| peers(out, &WIDE, &some_peers())));
    golden("peers-narrow.txt", &shown(|out| peers(out, &PLAIN, &some_peers())));
    golden("peer.txt", &shown(|out| peer(out, &PLAIN, &some_peers()[1..])));
    let network =
        |name: &str| NetworkInfo { network: name.to_owned(), local_peers: 3, remote_peers: 12, hubs: 2 };
    golden("networks.txt", &shown(|out| networks(out, &PLAIN, &[network("global"), network("x")])));
}

fn a_route() -> RouteInfo {
    RouteInfo {
        peer_id: Some("b2".repeat(20)),
        network: Some(String::from("global")),
        hub_id: id(0x3b),
        path: vec![id(0x1f), id(0x2a), id(0x3b)],
        why: String::from("the shortest path, 2 links"),
    }
}

#[test]
fn ways_name_each_hub() {
    golden("route.txt", &shown(|out| route(out, &PLAIN, &a_route())));
    let hub = RouteInfo { peer_id: None, network: None, path: Vec::new(), ..a_route() };
    golden("route-none.txt", &shown(|out| route(out, &ASCII, &hub)));
    let hop = |hop, byte, last| ProbeHop { hub_id: id(byte), hop, rtt_us: 900 * u64::from(hop), last };
    golden("trace.txt", &shown(|out| trace(out, &PLAIN, &[hop(1, 0x2a, false), hop(12, 0x3b, true)])));
}

fn some_values() -> Vec<ConfigValue> {
    let value = |key: &str, value: &str, origin: &str| ConfigValue {
        key: key.to_owned(),
        value: value.to_owned(),
        origin: origin.to_owned(),
    };
    vec![
        value("listen.port", "3001", "--port"),
        value("listen.cors_origin", "\"*\"", "default"),
        value("runtime_dir", "\"\"", "default"),
        value("mesh.max_peers", "4", "/etc/pigeonhubd/pigeonhubd.toml:3:1"),
        value(
            "bootstrap.hubs",
            &format!("[\"{}\"]", "ws://a-long-name.example".repeat(4)),
            "$BOOTSTRAP_HUBS",
        ),
    ]
}

#[test]
fn the_configuration_can_be_read_back() {
    let text = shown(|out| config(out, &PLAIN, &some_values(), false));
    golden("config.txt", &text);
    golden("config-origin.txt", &shown(|out| config(out, &PLAIN, &some_values(), true)));
    let mut read = pigeonhub_proto::config::Config::default();
    let long = text.replace("ws://a-long-name.example", "ws://a");
    read.apply_file("shown", &long.replace("ws://aws://aws://aws://a", "ws://a")).expect("it is TOML");
    assert_eq!((read.listen.port, read.mesh.max_peers), (3001, 4));
}

fn a_report() -> ReloadReport {
    let change = |key: &str, needs_restart| ConfigChange {
        key: key.to_owned(),
        old: String::from("3"),
        new: String::from("4"),
        needs_restart,
    };
    ReloadReport {
        changed: vec![change("mesh.max_peers", false), change("listen.port", true)],
        mesh_key_changed: true,
        files_changed: vec![String::from("tls.cert")],
    }
}

#[test]
fn a_reload_is_a_difference() {
    golden("reload.txt", &shown(|out| difference(out, &PLAIN, &a_report())));
    golden("reload-colour.txt", &shown(|out| difference(out, &COLOURED, &a_report())));
}

#[test]
fn json_is_one_object_a_line() {
    let answers = [
        ("status", Answer::Status(Box::new(a_status(MeshState::Ready)))),
        ("hubs", Answer::Hubs(some_hubs())),
        ("peers", Answer::Peers(some_peers())),
        ("links", Answer::Links(some_links())),
        ("route", Answer::Route(a_route())),
        ("config", Answer::Config(some_values())),
        ("events", Answer::Events(some_events())),
        ("reload", Answer::Reload(a_report())),
        ("done", Answer::Done(String::from("drained"))),
    ];
    for (name, answer) in answers {
        let text = shown(|out| json(out, &answer));
        assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
        golden(&format!("{name}.json"), &text);
    }
}
