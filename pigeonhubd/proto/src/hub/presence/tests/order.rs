//! What other hubs are told of a peer, and its signals.

use std::collections::BTreeSet;

use super::grace::{Bench, NETWORK, THEIRS, record};
use crate::hub::presence::subscribers::Subscriber;
use crate::id::Id;
use crate::io::{ConnId, Input, Request};

#[test]
fn a_newcomer_is_told_of_before_its_first_signal() {
    let mut bench = Bench::new();
    let subscriber = Subscriber { subscription: 1, changed: BTreeSet::new(), complete: true };
    bench.hub.presence.subscribers.insert(record().hub(), Some(NETWORK.into()), subscriber);
    let (peer_id, remote) = (Some(Id([3; 20]).to_string()), std::net::Ipv4Addr::LOCALHOST.into());
    let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None };
    bench.hub.handle(Input::Accepted { conn: ConnId(3), request }, bench.now);
    let offer = format!(r#"{{"type":"offer","targetPeerId":"{THEIRS}","data":{{}}}}"#);
    let mut queued = Vec::new();
    for text in [r#"{"type":"announce","data":{}}"#, offer.as_str(), offer.as_str()] {
        bench.hub.handle(Input::Text { conn: ConnId(3), text }, bench.now);
        queued.push(bench.hub.queued_to_hubs().0);
    }
    assert_eq!(queued, [0, 2, 3], "gathered; the news and the signal; the signal alone");
    bench.after(std::time::Duration::from_secs(1));
    assert_eq!(bench.hub.queued_to_hubs().0, 3, "it is not told again");
}
