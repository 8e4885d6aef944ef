//! Peers that are back after others were told that they left.

use std::time::Duration;

use super::super::View;
use super::grace::{Bench, NETWORK, OURS, THEIRS, here, record};
use crate::io::Output;
use crate::mesh::record::{Record, SignedRecord};
use crate::wire::mesh::PresenceChange;

impl Bench {
    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.hub.now = self.now;
    }

    fn told(&mut self, change: PresenceChange<'_>) {
        self.hub.got_presence(record().hub(), Some(NETWORK), 1, vec![change], false);
    }

    /// Messages that wait for the other hub.
    fn queued(&self) -> usize {
        self.hub.queued_to_hubs().0
    }

    /// What the clients here are told.
    fn texts(&mut self) -> Vec<String> {
        let texts = std::iter::from_fn(|| self.hub.poll_output()).filter_map(|output| match output {
            Output::Text { text, .. } => Some(text),
            _ => None,
        });
        texts.collect()
    }
}

fn gone() -> PresenceChange<'static> {
    PresenceChange::Gone { peer: THEIRS, network: NETWORK.into() }
}

#[test]
fn the_hub_of_a_peer_that_is_back_hears_that_it_was_told_gone() {
    let mut bench = Bench::new();
    assert_eq!(bench.queued(), 0, "one that was not told gone needs no word");
    bench.told(here(2));
    assert_eq!(bench.queued(), 0, "nor one that is there all the time");
    bench.told(gone());
    bench.told(here(3));
    assert_eq!(bench.queued(), 1);
    bench.told(gone());
    bench.pass(Duration::from_secs(601));
    bench.told(here(4));
    assert_eq!(bench.queued(), 1, "nor one that is back after long");
}

#[test]
fn the_hub_to_which_it_moved_on_hears_so_too() {
    let mut bench = Bench::new();
    let third = Record { key: [8; 32], ..record() };
    let hub = third.hub();
    bench.hub.gossip.records.store(hub, third, SignedRecord::new(&[], &[0; 64]), bench.now);
    bench.hub.gossip.records.set_reachable(&hub, true, bench.now.mono);
    let view = View { subscription: 1, asked_at: bench.now.mono, complete: true };
    bench.hub.presence.views.insert((hub, Some(NETWORK.into())), view);
    bench.told(gone());
    bench.told(here(2));
    assert_eq!(bench.queued(), 1);
    for stamp in [3, 4] {
        bench.hub.got_presence(hub, Some(NETWORK), 1, vec![here(stamp)], false);
        assert_eq!(bench.queued(), 2, "but once");
    }
}

#[test]
fn its_hub_hears_so_again_when_it_lists_its_peers_anew() {
    let mut bench = Bench::new();
    bench.told(gone());
    bench.told(here(3));
    assert_eq!(bench.queued(), 1);
    let key = (record().hub(), Some(NETWORK.into()));
    let view = bench.hub.presence.views.get_mut(&key).expect("it was asked");
    view.complete = true;
    bench.told(here(3));
    assert_eq!(bench.queued(), 1, "it told of a change");
    bench.hub.presence.views.get_mut(&key).expect("it was asked").complete = false;
    bench.told(here(3));
    assert_eq!(bench.queued(), 2, "it was asked anew: the first word may be lost");
}

#[test]
fn a_peer_is_told_again_of_those_that_it_met_before_they_were_told_that_it_left() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(1));
    bench.texts();
    bench.hub.got_back(NETWORK, OURS, &[THEIRS], 2_000);
    assert!(bench.texts().is_empty(), "it announced itself later than that");
    bench.hub.got_back(NETWORK, OURS, &[OURS], 500);
    bench.hub.got_back(NETWORK, THEIRS, &[OURS], 500);
    bench.hub.got_back("other", OURS, &[THEIRS], 500);
    assert!(bench.texts().is_empty(), "it has not met those, or is not here");
    bench.hub.got_back(NETWORK, OURS, &[THEIRS], 500);
    let texts = bench.texts();
    assert!(texts.len() == 1 && texts[0].contains("peer-discovered"), "{texts:?}");
}

#[test]
fn few_are_remembered_that_were_told_gone() {
    let mut bench = Bench::new();
    let (network, now) = (NETWORK.into(), bench.now.mono);
    for number in 0..10_000u32 {
        let mut peer = OURS;
        peer.0[..4].copy_from_slice(&number.to_be_bytes());
        bench.hub.introductions.told_gone(&network, peer, now);
    }
    assert_eq!(bench.hub.introductions.remembered(), 4096);
}
