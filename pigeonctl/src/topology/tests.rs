use pigeonhub_proto::control::{MeshState, Topology, TopologyHub, TopologyLink};
use pigeonhub_proto::id::Id;

use super::*;
use crate::golden::{ASCII, COLOURED, PLAIN, golden, shown};

fn id(number: u8) -> Id {
    Id([number.wrapping_mul(29).wrapping_add(7); 20])
}

/// A ring of `count` hubs in the order of their ids, with the chords named.
fn mesh(count: u8, chords: &[(usize, usize)]) -> Topology {
    let mut ids: Vec<Id> = (0..count).map(id).collect();
    ids.sort_unstable();
    let hub = |(at, hub_id): (usize, &Id)| TopologyHub {
        hub_id: *hub_id,
        own: at == 1,
        reachable: true,
        ready: at != 2,
        draining: false,
        state: (at == 1).then_some(MeshState::Ready),
        url: (at != 1).then(|| format!("ws://127.0.0.1:{}", 3000 + at)),
    };
    let hubs = ids.iter().enumerate().map(hub).collect();
    let ring = (0..ids.len()).map(|at| (at, (at + 1) % ids.len())).filter(|(a, b)| ids.len() > 2 || a < b);
    let link = |(a, b): (usize, usize)| TopologyLink {
        a: ids[a].min(ids[b]),
        b: ids[a].max(ids[b]),
        p2p: a != 0,
        counted: a != 3,
    };
    let links = ring.chain(chords.iter().copied()).map(link).collect();
    Topology { hubs, links }
}

fn drawn(look: &Look, mesh: &Topology) -> String {
    shown(|out| terminal(out, look, mesh))
}

#[test]
fn small_meshes_are_drawn_as_rings() {
    golden("topology-2.txt", &drawn(&PLAIN, &mesh(2, &[])));
    golden("topology-3.txt", &drawn(&PLAIN, &mesh(3, &[])));
    golden("topology-8.txt", &drawn(&PLAIN, &mesh(8, &[(1, 4), (2, 5)])));
    golden("topology-8-colour.txt", &drawn(&COLOURED, &mesh(8, &[(1, 4), (2, 5)])));
}

#[test]
fn what_is_out_of_reach_is_named_below() {
    let mut mesh = mesh(4, &[]);
    mesh.hubs[3].reachable = false;
    mesh.hubs[3].url = Some(String::from("wss://gone.example\u{1b}[2J/"));
    let text = drawn(&PLAIN, &mesh);
    assert!(
        text.contains(&format!("out of reach: {} gone.example\u{fffd}[2J", mesh.hubs[3].hub_id)),
        "{text}"
    );
    assert!(text.contains("4 hubs, 3 within reach"), "{text}");
}

#[test]
fn every_drawing_shows_every_hub_and_fits_the_terminal() {
    for (count, width) in (2..=12).flat_map(|count| [60, 70, 78, 200].map(|width| (count, width))) {
        let mesh = mesh(count, &[]);
        let text = drawn(&Look { width, ..PLAIN }, &mesh);
        for hub in &mesh.hubs {
            assert!(text.contains(&hub.hub_id.short()), "{count} hubs in {width} columns:\n{text}");
        }
        assert!(
            text.contains('●') || width < 78 || count > 11,
            "{count} hubs have room in {width} columns:\n{text}"
        );
        if !text.contains('●') {
            continue;
        }
        let drawing = text.split("\n\n").next().expect("a drawing");
        assert!(drawing.lines().all(|line| crate::text::columns(line) <= width), "{width}:\n{text}");
    }
}

#[test]
fn large_meshes_narrow_terminals_and_ascii_get_lists() {
    let chords = [(1, 7), (2, 10), (3, 8), (4, 9), (5, 11), (0, 6)];
    golden("topology-14.txt", &drawn(&PLAIN, &mesh(14, &chords)));
    golden("topology-ascii.txt", &drawn(&ASCII, &mesh(3, &[])));
    assert!(drawn(&Look { width: 40, ..PLAIN }, &mesh(3, &[])).starts_with("HUB "));
    let alone = mesh(1, &[]);
    assert!(drawn(&PLAIN, &alone).starts_with("HUB "), "there is nothing to draw");
}

#[test]
fn exports_are_escaped() {
    let mut mesh = mesh(4, &[]);
    mesh.hubs[0].url = Some(String::from("ws://a\"]\\<b>&'\u{7}/"));
    golden("topology.dot", &dot(&mesh));
    golden("topology.mermaid", &mermaid(&mesh));
    golden("topology.svg", &svg(&mesh));
}
