//! What other hubs are told of a peer, and its signals.

use std::collections::BTreeSet;
use std::time::Duration;

use super::grace::{Bench, NETWORK, OURS, THEIRS, here, record};
use crate::hub::counters::Undelivered;
use crate::hub::presence::subscribers::Subscriber;
use crate::id::Id;
use crate::io::{ClosedBy, ConnId, Input, Output, Request};
use crate::time::Time;
use crate::wire::mesh::PresenceChange;

#[test]
fn a_newcomer_is_told_of_before_its_first_signal() {
    let mut bench = Bench::new();
    let subscriber =
        Subscriber { subscription: 1, asked_at: Time(0), changed: BTreeSet::new(), complete: true };
    bench.hub.presence.subscribers.insert(record().hub(), Some(NETWORK.into()), subscriber);
    let (peer_id, remote) = (Some(Id([3; 20]).to_string()), std::net::Ipv4Addr::LOCALHOST.into());
    let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket: None };
    bench.hub.handle(Input::Accepted { conn: ConnId(3), request }, bench.now);
    let offer = format!(r#"{{"type":"offer","targetPeerId":"{THEIRS}","data":{{}}}}"#);
    let mut queued = Vec::new();
    for text in [r#"{"type":"announce","data":{}}"#, offer.as_str(), offer.as_str()] {
        bench.hub.handle(Input::Text { conn: ConnId(3), text }, bench.now);
        queued.push(bench.hub.queued_to_hubs().0);
    }
    assert_eq!(queued, [0, 2, 3], "gathered; the news and the signal; the signal alone");
    bench.after(Duration::from_secs(1));
    assert_eq!(bench.hub.queued_to_hubs().0, 3, "it is not told again");
}

#[test]
fn a_signal_that_waits_for_its_target_goes_nowhere_once_its_sender_left() {
    const CONN: ConnId = ConnId(1);
    fn say(bench: &mut Bench, text: &str) {
        bench.hub.handle(Input::Text { conn: CONN, text }, bench.now);
    }
    let stay = |bench: &mut Bench| say(bench, r#"{"type":"ping","data":{}}"#);
    let goodbye = |bench: &mut Bench| say(bench, r#"{"type":"goodbye","data":{}}"#);
    let close = |bench: &mut Bench| {
        bench.hub.handle(Input::Closed { conn: CONN, reason: ClosedBy::Local }, bench.now);
    };
    // Nobody is told that a peer left which is at another hub by then.
    let move_on = |bench: &mut Bench| {
        let PresenceChange::Here { network, legacy, announced_at, shown, .. } = here(1) else { return };
        let (peer, stamp) = (OURS.into(), bench.now.unix_ms + 1);
        let there = PresenceChange::Here { peer, network, stamp, legacy, announced_at, shown };
        bench.hub.got_presence(record().hub(), Some(NETWORK), 1, vec![there], false);
        // The connection here is asked, and does not answer.
        (0..11).for_each(|_| bench.after(Duration::from_millis(100)));
        assert!(bench.hub.directory.own_claim(NETWORK, &OURS).is_none());
    };
    type Step<'a> = &'a dyn Fn(&mut Bench);
    let cases: [(Step<'_>, usize, usize); 4] =
        [(&stay, 1, 0), (&goodbye, 0, 1), (&close, 0, 0), (&move_on, 1, 0)];
    for (next, sent, complaints) in cases {
        let mut bench = Bench::new();
        let gone = PresenceChange::Gone { peer: THEIRS, network: NETWORK.into() };
        bench.hub.got_presence(record().hub(), Some(NETWORK), 1, vec![gone], false);
        // The other hub is asked anew, and has not told everything yet.
        for view in bench.hub.presence.views.values_mut() {
            view.complete = false;
        }
        let offer = format!(r#"{{"type":"offer","targetPeerId":"{THEIRS}","data":{{}}}}"#);
        say(&mut bench, &offer);
        assert_eq!(bench.hub.gauges().held, 1);
        next(&mut bench);
        bench.hub.got_presence(record().hub(), Some(NETWORK), 1, vec![here(9)], false);
        assert_eq!(bench.hub.gauges().held, 0);
        assert_eq!(bench.hub.gauges().under_way, sent);
        let lost = bench.hub.counters().undelivered.get(Undelivered::SenderLeft);
        assert_eq!(lost, 1 - sent as u64);
        let told = std::iter::from_fn(|| bench.hub.poll_output());
        let complaint =
            |output: &Output| matches!(output, Output::Text { text, .. } if text.contains("not-announced"));
        assert_eq!(told.filter(complaint).count(), complaints);
    }
}
