//! Who hears a goodbye: all that know the peer, and of no peer but one that said it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::grace::{Bench, NETWORK, OURS, THEIRS, here, record};
use crate::hub::presence::View;
use crate::hub::presence::subscribers::Subscriber;
use crate::io::{ClosedBy, ConnId, Input, Output};
use crate::mesh::record::{Record, SignedRecord};
use crate::time::Time;
use crate::wire::mesh::PresenceChange;

impl Bench {
    /// The types of what the client here is told.
    fn told(&mut self) -> Vec<String> {
        // By then all introductions are made.
        (0..3).for_each(|_| self.after(Duration::from_secs(1)));
        let texts = std::iter::from_fn(|| self.hub.poll_output()).filter_map(|output| match output {
            Output::Text { text, .. } => Some(text),
            _ => None,
        });
        let kind = |text: String| {
            let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            message["type"].as_str().expect("a type").to_owned()
        };
        texts.map(kind).collect()
    }

    fn presence(&mut self, change: PresenceChange<'_>) {
        self.hub.got_presence(record().hub(), Some(NETWORK), 1, vec![change], false);
    }

    /// Messages that wait for the other hub, which asked for the peers here.
    fn queued(&self) -> usize {
        self.hub.queued_to_hubs().0
    }
}

fn gone() -> PresenceChange<'static> {
    PresenceChange::Gone { peer: THEIRS, network: NETWORK.into() }
}

#[test]
fn a_peer_of_another_hub_that_only_left_says_no_goodbye() {
    let mut bench = Bench::new();
    bench.told();
    bench.presence(gone());
    assert_eq!(bench.told(), ["peer-disconnected"]);
    bench.presence(here(2));
    assert_eq!(bench.told(), ["peer-discovered"]);
    bench.hub.hub_lost(record().hub());
    assert_eq!(bench.told(), ["peer-disconnected"]);
}

#[test]
fn a_goodbye_at_another_hub_is_told_before_the_peer_is_gone() {
    let mut bench = Bench::new();
    bench.told();
    bench.hub.got_goodbye(record().hub(), NETWORK, THEIRS);
    bench.presence(gone());
    bench.hub.got_goodbye(record().hub(), NETWORK, THEIRS);
    assert_eq!(bench.told(), ["goodbye", "peer-disconnected"], "and once");
}

#[test]
fn a_goodbye_at_a_hub_that_the_peer_is_not_at_any_more_is_old_news() {
    let mut bench = Bench::new();
    let third = Record { key: [8; 32], ..record() };
    let hub = third.hub();
    bench.hub.gossip.records.store(hub, third, SignedRecord::new(&[], &[0; 64]), bench.now);
    bench.hub.gossip.records.set_reachable(&hub, true, bench.now.mono);
    let view = View { subscription: 1, asked_at: bench.now.mono, complete: true };
    bench.hub.presence.views.insert((hub, Some(NETWORK.into())), view);
    bench.hub.got_presence(hub, Some(NETWORK), 1, vec![here(2)], false);
    bench.told();
    bench.hub.got_goodbye(record().hub(), NETWORK, THEIRS);
    // It never was in this one, and nobody takes a hub's word about the peers here.
    bench.hub.got_goodbye(hub, "other", THEIRS);
    bench.hub.got_goodbye(hub, NETWORK, OURS);
    assert_eq!(bench.told(), [""; 0]);
    bench.hub.got_goodbye(hub, NETWORK, THEIRS);
    assert_eq!(bench.told(), ["goodbye"]);
}

#[test]
fn other_hubs_hear_of_a_goodbye_and_not_of_a_connection_that_broke() {
    for (says_goodbye, messages) in [(true, 2), (false, 1)] {
        let mut bench = Bench::new();
        let subscriber =
            Subscriber { subscription: 1, asked_at: Time(0), changed: BTreeSet::new(), complete: true };
        bench.hub.presence.subscribers.insert(record().hub(), Some(NETWORK.into()), subscriber);
        bench.after(Duration::from_secs(1));
        assert_eq!(bench.queued(), 0);
        if says_goodbye {
            let text = r#"{"type":"goodbye","data":{}}"#;
            bench.hub.handle(Input::Text { conn: ConnId(1), text }, bench.now);
        }
        let reason = ClosedBy::Broken(String::from("reset"));
        bench.hub.handle(Input::Closed { conn: ConnId(1), reason }, bench.now);
        bench.after(Duration::from_secs(1));
        assert_eq!(bench.queued(), messages, "its goodbye if it said one, and that it is gone");
    }
}
