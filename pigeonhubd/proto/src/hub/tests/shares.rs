//! No address takes all networks that hubs ask each other for.

use super::*;

fn client(bench: &mut Bench, conn: u64, remote: [u8; 4], via_proxy: bool) {
    let peer_id = Some(format!("{conn:040x}"));
    let request =
        Request { peer_id, mesh: false, remote: remote.into(), via_proxy, host: None, ticket: None };
    bench.tell(Input::Accepted { conn: ConnId(conn), request });
}

/// Announces a client in a network; whether it is there then.
fn announce(bench: &mut Bench, conn: u64, network: &str) -> bool {
    let text = format!(r#"{{"type":"announce","networkName":"{network}","data":{{}}}}"#);
    let said = bench.tell(Input::Text { conn: ConnId(conn), text: &text });
    let refused = texts_to(&said, conn).iter().any(|text| text.contains("limit-reached"));
    !refused
}

#[test]
fn the_clients_of_one_address_are_in_so_many_networks() {
    let mut bench = Bench::new(Settings::default());
    let (one, two) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for conn in 0..64 {
        client(&mut bench, 2 * conn + 1, one, false);
        assert!((0..16).all(|n| announce(&mut bench, 2 * conn + 1, &format!("{conn}-{n}"))));
    }
    client(&mut bench, 1001, one, false);
    assert!(!announce(&mut bench, 1001, "one more"));
    assert!(announce(&mut bench, 1001, "3-7"), "where others of it are there is room");
    client(&mut bench, 1003, two, false);
    assert!(announce(&mut bench, 1003, "one more"), "another address has its own");
    // A place comes back with its client's goodbye, and with its end.
    bench.tell(Input::Text { conn: ConnId(5), text: r#"{"type":"goodbye","networkName":"2-0","data":{}}"# });
    assert!(announce(&mut bench, 1001, "one more") && !announce(&mut bench, 1001, "yet one"));
    for conn in (0..64).map(|conn| 2 * conn + 1).chain([1001, 1003]) {
        bench.tell(Input::Closed { conn: ConnId(conn), reason: ClosedBy::Local });
    }
    assert!(bench.hub.shares.is_empty());
}

#[test]
fn this_machine_has_no_share_and_what_a_proxy_tells_of_it_has() {
    for (via_proxy, refused) in [(false, 0), (true, 16)] {
        let mut bench = Bench::new(Settings::default());
        let mut count = 0;
        for conn in 0..65 {
            client(&mut bench, 2 * conn + 1, [127, 0, 0, 1], via_proxy);
            count += (0..16).filter(|n| !announce(&mut bench, 2 * conn + 1, &format!("{conn}-{n}"))).count();
        }
        assert_eq!(count, refused);
    }
}
