#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use pigeonhub_proto::control::MeshState;
use pigeonhub_proto::id::Id;

use super::*;

const DOCUMENT: &str = include_str!("../../METRICS.md");
const TABLE: &str = "| family | type | labels | tells |\n| --- | --- | --- | --- |\n";

fn snapshot() -> Snapshot {
    let status = Status {
        hub_id: Id([0xab; 20]),
        port: 3000,
        state: MeshState::Ready,
        reason: String::from("a reason in words"),
        ready: true,
        migrated: false,
        p2p_links: 2,
        ws_links: 1,
        known_hubs: 2,
        local_peers: 5,
        remote_peers: 7,
        networks: 3,
        connections: 8,
        uptime: 60,
        config_age: None,
        twin: None,
        listening: Vec::new(),
        offered: None,
        on_disk: None,
        refused: Default::default(),
        rejected: None,
        version: String::from("1.2.3"),
    };
    let mut counters = Counters { announces: 41, ..Counters::default() };
    counters.rtt_p2p.observe(1_500);
    counters.rtt_p2p.observe(7_000_000);
    Snapshot {
        status,
        gauges: Gauges { sessions: 6, ..Gauges::default() },
        counters,
        edge: Arc::default(),
        events: (3, 1024),
        channel_events: (2, 256),
        backlog: 655_360,
        panics: 0,
        log_dropped: 0,
        tasks: 9,
        process: Process::now(),
        started: 1_700_000_000.5,
    }
}

/// A family's type, its labels with all their values, and its help.
#[derive(Default)]
struct Family {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
    help: String,
}

/// The families of a text, in order.
fn families(text: &str) -> Vec<(String, Family)> {
    let mut found: Vec<(String, Family)> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.push((name.to_owned(), Family { help: help.to_owned(), ..Family::default() }));
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.last_mut().unwrap().1.kind = kind.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let family = &mut found.last_mut().unwrap().1;
            for label in labels.split('}').next().unwrap().split(',') {
                let (name, value) = label.split_once('=').unwrap();
                family.labels.entry(name.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
            }
        }
    }
    found
}

fn table(text: &str) -> String {
    let row = |(name, family): (String, Family)| {
        let labels: Vec<String> = family
            .labels
            .iter()
            .filter(|(label, _)| *label != "le")
            .map(|(label, values)| match label.as_str() {
                "version" => String::from("`version`"),
                _ => format!("`{label}`: {}", values.iter().cloned().collect::<Vec<_>>().join(", ")),
            })
            .collect();
        format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join("; "), family.help)
    };
    families(text).into_iter().map(row).collect()
}

/// With `WRITE_METRICS=1` set, the document is written instead.
#[test]
fn the_document_lists_every_family_with_all_its_labels() {
    let expected = table(&render(snapshot()).unwrap());
    let (head, rest) = DOCUMENT.split_once(TABLE).expect("the document has the table");
    let (listed, tail) = rest.split_once("\n\n").map_or((rest, ""), |(listed, tail)| (listed, tail));
    if std::env::var_os("WRITE_METRICS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/METRICS.md");
        std::fs::write(path, format!("{head}{TABLE}{expected}\n{tail}")).unwrap();
        return;
    }
    assert_eq!(listed.trim_end(), expected.trim_end(), "WRITE_METRICS=1 writes it anew");
}

#[test]
fn the_text_is_whole_and_each_family_comes_once() {
    let text = render(snapshot()).unwrap();
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let names: Vec<String> = families(&text).into_iter().map(|(name, _)| name).collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    for (name, family) in families(&text) {
        assert!(["counter", "gauge", "histogram", "info"].contains(&family.kind.as_str()), "{name}");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    }
}

#[test]
fn values_are_those_of_the_hub() {
    let text = render(snapshot()).unwrap();
    for line in [
        "pigeonhubd_sessions 6",
        "pigeonhubd_announces_total 41",
        "pigeonhubd_peers{home=\"remote\"} 7",
        "pigeonhubd_mesh_state{state=\"ready\"} 1",
        "pigeonhubd_mesh_state{state=\"degraded\"} 0",
        "pigeonhubd_link_round_trip_seconds_bucket{le=\"0.001\",transport=\"p2p\"} 0",
        "pigeonhubd_link_round_trip_seconds_bucket{le=\"0.0025\",transport=\"p2p\"} 1",
        "pigeonhubd_link_round_trip_seconds_bucket{le=\"1.0\",transport=\"p2p\"} 1",
        "pigeonhubd_link_round_trip_seconds_bucket{le=\"+Inf\",transport=\"p2p\"} 2",
        "pigeonhubd_link_round_trip_seconds_count{transport=\"p2p\"} 2",
        "pigeonhubd_link_round_trip_seconds_sum{transport=\"p2p\"} 7.0015",
        "pigeonhubd_event_queue_capacity 1024",
        "pigeonhubd_channel_queue_length 2",
        "pigeonhubd_websocket_queue_bytes 655360",
        "pigeonhubd_build_info{version=\"1.2.3\"} 1",
        "process_start_time_seconds 1700000000.5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn nothing_tells_who_or_where() {
    let text = render(snapshot()).unwrap();
    assert!(!text.contains(&"ab".repeat(20)) && !text.contains("a reason in words"), "{text}");
}
