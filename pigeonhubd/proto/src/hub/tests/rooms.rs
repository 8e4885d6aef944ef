//! Who is told of whom first.

use super::*;

/// Whom each connection is told of, in order.
fn told(said: &[Output]) -> Vec<(u64, u8)> {
    let told = |output: &Output| {
        let Output::Text { conn, text } = output else { return None };
        let message: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let of = message["data"]["peerId"].as_str().filter(|_| message["type"] == "peer-discovered")?;
        Some((conn.0, of.parse::<Id>().expect("an id").0[0]))
    };
    said.iter().filter_map(told).collect()
}

#[test]
fn of_two_the_larger_is_told_at_once_and_the_smaller_when_it_has_its_offer() {
    for [first, second] in [[1, 2], [2, 1]] {
        let mut bench = Bench::new(Settings::default());
        bench.join(first, peer(first as u8));
        assert_eq!(told(&bench.join(second, peer(second as u8))), [(2, 1)]);
        assert_eq!(told(&bench.wait(Duration::from_millis(500))), []);
        assert_eq!(told(&bench.wait(Duration::from_millis(100))), [(1, 2)]);
        assert_eq!(told(&bench.wait(Duration::from_secs(60))), [], "each once");
    }
}

#[test]
fn of_many_that_come_each_larger_one_is_told_first_of_three_at_most_and_all_of_all_in_time() {
    const COUNT: u8 = 20;
    let mut bench = Bench::new(Settings::default());
    let mut early = Vec::new();
    for n in 1..=COUNT {
        early.extend(told(&bench.join(n.into(), peer(n))));
        early.extend(told(&bench.wait(Duration::from_millis(10))));
    }
    assert_eq!(early, [(2, 1), (3, 1), (3, 2)], "the first three need not wait for company");
    let first = [early, told(&bench.wait(Duration::from_millis(1200)))].concat();
    let (first, answers): (Vec<(u64, u8)>, Vec<_>) =
        first.into_iter().partition(|(receiver, of)| *receiver > u64::from(*of));
    assert!(answers.iter().all(|(smaller, _)| *smaller <= 3), "of the first three alone: {answers:?}");
    for n in 1..=COUNT {
        let pairs = first.iter().filter(|(a, b)| *a == u64::from(n) || *b == n).count();
        assert!((1..=3).contains(&pairs), "{n} is in {pairs}: {first:?}");
    }
    let rest = told(&bench.wait(Duration::from_secs(3)));
    let all: std::collections::BTreeSet<(u64, u8)> = [first, answers, rest].concat().into_iter().collect();
    assert_eq!(all.len(), usize::from(COUNT) * usize::from(COUNT - 1), "by then all are told of all");
    assert_eq!(told(&bench.wait(Duration::from_secs(60))), []);
}

#[test]
fn who_comes_one_by_one_does_not_wait_for_long() {
    let mut bench = Bench::new(Settings::default());
    // Somebody comes every 100 ms, so it is never quiet for 200.
    let mut told_of_first = None;
    for n in 1..=30u8 {
        bench.join(n.into(), peer(n));
        let said = told(&bench.wait(Duration::from_millis(100)));
        if n > 2 && !said.is_empty() {
            told_of_first.get_or_insert(n);
        }
    }
    assert!(told_of_first.is_some_and(|n| n <= 14), "{told_of_first:?}");
}

#[test]
fn who_announces_itself_again_is_told_of_all_again_and_they_of_what_is_new() {
    let mut bench = Bench::new(Settings::default());
    for n in 1..=3 {
        bench.join(n.into(), peer(n));
    }
    bench.wait(Duration::from_secs(5));
    let mut announce = |text| {
        let said = bench.tell(Input::Text { conn: ConnId(2), text });
        let charge = |output: &Output| match output {
            Output::Charge { conn, messages } => Some((*conn, *messages)),
            _ => None,
        };
        assert_eq!(said.iter().filter_map(charge).collect::<Vec<_>>(), [(ConnId(2), 4)]);
        let mut again = [told(&said), told(&bench.wait(Duration::from_secs(5)))].concat();
        again.sort_unstable();
        again
    };
    assert_eq!(announce(r#"{"type":"announce","data":{}}"#), [(2, 1), (2, 3)]);
    let new = announce(r#"{"type":"announce","data":{"name":"new"}}"#);
    assert_eq!(new, [(1, 2), (2, 1), (2, 3), (3, 2)]);
}

#[test]
fn a_goodbye_right_after_an_announce_reaches_those_who_knew_the_peer_before() {
    let mut bench = Bench::new(Settings::default());
    for n in 1..=3 {
        bench.join(n.into(), peer(n));
    }
    bench.wait(Duration::from_secs(5));
    bench.tell(Input::Text { conn: ConnId(2), text: r#"{"type":"announce","data":{}}"# });
    let said = bench.tell(Input::Text { conn: ConnId(2), text: r#"{"type":"goodbye"}"# });
    for other in [1, 3] {
        assert!(texts_to(&said, other).iter().any(|text| text.contains("goodbye")), "{said:?}");
    }
    let later = bench.wait(Duration::from_secs(5));
    assert_eq!(told(&later), [], "nobody is told of who has gone");
}

#[test]
fn a_network_that_is_left_at_once_leaves_nothing_behind() {
    let mut bench = Bench::new(Settings::default());
    for n in 1..=3 {
        bench.join(n.into(), peer(n));
    }
    for n in 1..=3u64 {
        bench.tell(Input::Closed { conn: ConnId(n), reason: ClosedBy::Local });
    }
    assert_eq!(told(&bench.wait(Duration::from_secs(5))), []);
    assert_eq!(bench.hub.rooms.due(), Time::NEVER);
}

#[test]
fn what_waits_for_a_plan_of_a_newcomer_that_leaves_again_is_told_all_the_same() {
    let mut bench = Bench::new(Settings::default());
    for n in 1..=5 {
        bench.join(n.into(), peer(n));
        bench.wait(Duration::from_secs(5));
    }
    bench.join(9, peer(9));
    let mut said =
        bench.tell(Input::Text { conn: ConnId(2), text: r#"{"type":"announce","data":{"name":"new"}}"# });
    said.extend(bench.tell(Input::Closed { conn: ConnId(9), reason: ClosedBy::Local }));
    said.extend(bench.wait(Duration::from_secs(60)));
    assert_eq!(told(&said).len(), 2 * 4, "2 is told of four again, and they of it");
}

#[test]
fn who_has_a_place_left_is_told_of_all_long_after_the_last_plan_too() {
    let mut bench = Bench::new(Settings::default());
    for n in 1..=3 {
        bench.join(n.into(), peer(n));
    }
    bench.wait(Duration::from_secs(60));
    // It has two of three connections, and is not connected to whoever announces itself anew.
    bench.tell(Input::Closed { conn: ConnId(1), reason: ClosedBy::Local });
    bench.join(4, peer(1));
    bench.wait(Duration::from_secs(60));
    let said =
        bench.tell(Input::Text { conn: ConnId(4), text: r#"{"type":"announce","data":{"name":"new"}}"# });
    let again = [told(&said), told(&bench.wait(Duration::from_secs(60)))].concat();
    assert_eq!(again.len(), 4, "{again:?}");
}
