//! The published JavaScript hub beside ours, in both directions.

use std::time::Duration;

use crate::harness::{Clients, Ground, Hub, JsHub, Need, Plan, all_hear_all, skipped, tcp_between};

const NETWORK: &str = "old-and-new";

/// A hub that takes the hubs of this machine that have no key for old ones.
fn lenient(plan: Plan) -> Plan {
    plan.with(&["--legacy-hub", "127.0.0.1"])
}

/// Two clients at each side: the second pair comes when the hubs have long known of the first.
fn both_sides_hear_each_other(ground: &Ground, old: &JsHub, ours: &Hub) {
    let node = Clients::node(ground);
    let a = node.join("at-old-1", &old.url(), NETWORK);
    let b = node.join("at-ours-1", &ours.url(), NETWORK);
    all_hear_all(&[&a, &b]);
    let c = node.join("at-ours-2", &ours.url(), NETWORK);
    let d = node.join("at-old-2", &old.url(), NETWORK);
    all_hear_all(&[&a, &b, &c, &d]);
    assert_eq!(old.told("hubMeshMigrated"), 0, "an old hub that migrates delivers nothing any more");
}

#[test]
fn ours_bootstraps_to_the_old_hub() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let old = JsHub::start(&ground, &[]);
    let plan = Plan::through([old.url().as_str()]).migrating_after(Duration::ZERO);
    let ours = lenient(plan).start(&ground);
    ours.wait("is linked to the old hub", |status| status.known_hubs == 1 && status.ws_links == 1);
    let reason = ours.wait("says what it is linked to", |status| status.reason.contains("older hub")).reason;
    assert!(reason.contains(old.url().trim_end_matches('/')), "{reason}");
    both_sides_hear_each_other(&ground, &old, &ours);
    assert!(!ours.status().migrated, "there was nothing to migrate");
    assert_eq!(tcp_between(&[old.pid(), ours.pid()]).len(), 1, "they stay on their one WebSocket");
}

#[test]
fn the_old_hub_bootstraps_to_ours() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let ours = lenient(Plan::first()).start(&ground);
    let old = JsHub::start(&ground, &[ours.url()]);
    old.wait("bootstrapConnected");
    ours.wait("is linked to the old hub", |status| status.known_hubs == 1 && status.ws_links == 1);
    both_sides_hear_each_other(&ground, &old, &ours);
}

/// Clients of an old hub reach those of a hub of ours that the old hub is not linked to.
#[test]
fn an_old_hub_reaches_the_whole_mesh_through_one_of_ours() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let near = lenient(Plan::first()).start(&ground);
    let far = Plan::through([near.url().as_str()]).start(&ground);
    far.wait_ready(1);
    let old = JsHub::start(&ground, &[near.url()]);
    old.wait("bootstrapConnected");
    both_sides_hear_each_other(&ground, &old, &far);
}

/// Without `--legacy-hub` a hub that proves no key is a client like any other.
#[test]
fn an_old_hub_that_is_not_listed_learns_nothing() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let ours = Plan::first().start(&ground);
    let node = Clients::node(&ground);
    let a = node.join("hidden", &ours.url(), NETWORK);
    a.wait_connected();
    ours.wait("has its client", |status| status.local_peers == 1);
    let old = JsHub::start(&ground, &[ours.url()]);
    old.wait("bootstrapConnected");
    let b = node.join("outside", &old.url(), NETWORK);
    b.wait_connected();
    // The old hub passes its clients on at once; ours answers a client of its own after that.
    let c = node.join("inside", &ours.url(), NETWORK);
    all_hear_all(&[&a, &c]);
    assert!(!a.discovered(&b) && !b.discovered(&a), "no peer crosses to a hub that proved nothing");
    assert_eq!(ours.status().known_hubs, 0);
}
