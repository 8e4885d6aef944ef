//! What becomes of the peers of hubs that are lost.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Topic, View};
use crate::directory::network_hash;
use crate::hub::Hub;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Input, Output, Request};
use crate::mesh::identity::{HubKey, MeshKey};
use crate::mesh::record::{Record, SignedRecord};
use crate::settings::Settings;
use crate::time::{Now, Time};
use crate::wire::mesh::PresenceChange;

pub(super) const NETWORK: &str = "global";
pub(super) const OURS: Id = Id([1; 20]);
pub(super) const THEIRS: Id = Id([2; 20]);

pub(super) fn record() -> Record {
    Record {
        key: [9; 32],
        epoch: 1,
        version: 1,
        urls: Vec::new(),
        links: Vec::new(),
        networks: vec![network_hash(NETWORK)],
        more_networks: false,
        max_peers: 3,
        ready: true,
        draining: false,
    }
}

/// Word that `THEIRS` is there.
pub(super) fn here(stamp: u64) -> PresenceChange<'static> {
    let (peer, network, shown) = (Spelled::from(THEIRS), NETWORK.into(), "{}".into());
    PresenceChange::Here { peer, network, stamp, legacy: false, announced_at: stamp, shown }
}

pub(super) struct Bench {
    pub(super) hub: Hub,
    pub(super) now: Now,
}

impl Bench {
    /// A hub with a client, which knows another hub and its one client.
    pub(super) fn new() -> Self {
        let now = Now { mono: Time(1_000_000), unix_ms: 1_700_000_000_000 };
        let key = MeshKey::new(b"the key of the bench").expect("long enough");
        let hub = Hub::new(Settings::default(), Arc::new(HubKey::from_bytes(&[7; 32])), key, [1; 32], now);
        let mut bench = Self { hub, now };
        let (peer_id, remote) = (Some(OURS.to_string()), std::net::Ipv4Addr::LOCALHOST.into());
        let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket: None };
        bench.hub.handle(Input::Accepted { conn: ConnId(1), request }, now);
        let text = r#"{"type":"announce","data":{}}"#;
        bench.hub.handle(Input::Text { conn: ConnId(1), text }, now);
        let signed = SignedRecord::new(&[], &[0; 64]);
        let other = record().hub();
        bench.hub.gossip.records.store(other, record(), signed, now);
        bench.hub.gossip.records.set_reachable(&other, true, now.mono);
        let topic: Topic = Some(NETWORK.into());
        let view = View { subscription: 1, asked_at: now.mono, complete: false };
        bench.hub.presence.views.insert((other, topic), view);
        bench.hub.got_presence(other, Some(NETWORK), 1, vec![here(1)], true);
        assert!(bench.knows_theirs());
        bench
    }

    pub(super) fn after(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.hub.handle(Input::Timer, self.now);
    }

    fn knows_theirs(&self) -> bool {
        self.hub.directory.find(NETWORK, &THEIRS).is_some()
    }
}

#[test]
fn a_hub_out_of_reach_keeps_its_peers_for_the_grace_alone() {
    let mut bench = Bench::new();
    let grace = Settings::default().presence_grace;
    bench.hub.gossip.records.set_reachable(&record().hub(), false, bench.now.mono);
    bench.after(grace - Duration::from_millis(500));
    assert!(bench.knows_theirs());
    bench.after(Duration::from_millis(500));
    assert!(!bench.knows_theirs());
}

#[test]
fn a_stream_that_is_given_up_meanwhile_lengthens_no_grace() {
    let mut bench = Bench::new();
    let grace = Settings::default().presence_grace;
    bench.hub.gossip.records.set_reachable(&record().hub(), false, bench.now.mono);
    bench.after(grace - Duration::from_millis(500));
    bench.hub.reset_stream(record().hub());
    assert!(bench.knows_theirs());
    bench.after(Duration::from_millis(500));
    assert!(!bench.knows_theirs());
}

/// The subscription that the other hub is told of next, in full.
fn answers(bench: &Bench) -> Option<u32> {
    let subscriber = bench.hub.presence.subscribers.get(record().hub(), Some(NETWORK.into()))?;
    let all = !subscriber.complete && subscriber.changed.iter().any(|(_, peer)| *peer == OURS);
    all.then_some(subscriber.subscription)
}

#[test]
fn what_a_hub_asked_counts_though_its_new_record_comes_later_than_its_question() {
    let mut bench = Bench::new();
    let restarted = Record { epoch: 2, ..record() };
    let other = restarted.hub();
    bench.hub.got_subscribe(other, Some(NETWORK), 5);
    bench.after(Duration::from_secs(1));
    assert_eq!(answers(&bench), None, "told, to a run of that hub that is over");
    bench.hub.gossip.records.store(other, restarted, SignedRecord::new(&[], &[0; 64]), bench.now);
    bench.hub.hub_restarted(other);
    assert_eq!(answers(&bench), Some(5));
    bench.after(Duration::from_secs(1));
    assert_eq!(bench.hub.queued_to_hubs().0, 1, "the answer");
}

#[test]
fn a_hub_that_asks_is_not_forgotten_before_a_path_to_it_is_known() {
    let mut bench = Bench::new();
    let (other, grace) = (record().hub(), Settings::default().presence_grace);
    bench.hub.gossip.records.set_reachable(&other, false, bench.now.mono);
    bench.after(grace * 2);
    bench.hub.got_subscribe(other, Some(NETWORK), 5);
    assert_eq!(answers(&bench), Some(5));
    bench.after(grace - Duration::from_millis(500));
    let asked = |bench: &Bench| bench.hub.presence.subscribers.get(other, Some(NETWORK.into())).is_some();
    assert!(asked(&bench));
    bench.after(Duration::from_secs(1));
    assert!(!asked(&bench), "no path came");
}

#[test]
fn a_hub_that_left_on_purpose_is_dialled_all_the_same() {
    let mut bench = Bench::new();
    let signed = SignedRecord::new(&[], &[0; 64]);
    let urls = vec![String::from("ws://192.0.2.1:3000")];
    let left = Record { draining: true, version: 2, urls, ..record() };
    bench.hub.gossip.records.store(left.hub(), left, signed, bench.now);
    bench.hub.gossip.records.set_reachable(&record().hub(), false, bench.now.mono);
    let mut dials = 0;
    for _ in 0..300 {
        bench.after(Duration::from_secs(1));
        let outputs: Vec<Output> = std::iter::from_fn(|| bench.hub.poll_output()).collect();
        for output in outputs {
            let Output::Dial { conn, .. } = output else { continue };
            dials += 1;
            let error = String::from("refused");
            bench.hub.handle(Input::DialFailed { conn, error }, bench.now);
        }
    }
    assert!((10..=20).contains(&dials), "soon, then after a fourth of its absence: {dials}");
}
