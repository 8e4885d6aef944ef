use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

type Records = BTreeMap<Id, Vec<Link>>;

fn id(byte: u8) -> Id {
    Id([byte; 20])
}

/// Records of two-sided P2P links.
fn mutual(pairs: &[(u8, u8)]) -> Records {
    let mut records = Records::new();
    for &(a, b) in pairs {
        for (from, to) in [(a, b), (b, a)] {
            records.entry(id(from)).or_default().push(Link { hub: id(to), p2p: true });
        }
    }
    records
}

fn routes(own: Id, records: &Records, trust: OwnLinks) -> Routes {
    let open = records.get(&own).cloned().unwrap_or_default();
    Routes::new(own, &open, trust, records.iter().map(|(hub, links)| (*hub, links.iter().copied())))
}

fn from_zero(pairs: &[(u8, u8)]) -> Routes {
    routes(id(0), &mutual(pairs), OwnLinks::Confirmed)
}

/// Some links one-sided, some to hubs that nobody heard of, some twice, some
/// WebSockets for one end or both.
fn random(rng: &mut ChaCha8Rng, n: usize) -> Records {
    let ids: Vec<Id> = (0..n).map(|_| Id(rng.random())).collect();
    let mut records: Records = ids.iter().map(|id| (*id, Vec::new())).collect();
    for _ in 0..rng.random_range(0..3 * n) {
        let (a, b) = (ids[rng.random_range(0..n)], ids[rng.random_range(0..n)]);
        let p2p = rng.random_bool(0.7);
        records.entry(a).or_default().push(Link { hub: b, p2p });
        if rng.random_bool(0.9) {
            let p2p = if rng.random_bool(0.1) { !p2p } else { p2p };
            records.entry(b).or_default().push(Link { hub: a, p2p });
        }
        if rng.random_bool(0.05) {
            records.entry(a).or_default().push(Link { hub: Id(rng.random()), p2p });
        }
    }
    records
}

/// All shortest distances, by Floyd and Warshall, from the definition of a counted link.
fn naive(records: &Records, p2p_only: bool, without: Option<Id>) -> BTreeMap<(Id, Id), usize> {
    let lists = |a: &Id, b: &Id| records[a].iter().any(|link| link.hub == *b && (link.p2p || !p2p_only));
    let ids: Vec<Id> = records.keys().copied().filter(|id| Some(*id) != without).collect();
    let mut distance = BTreeMap::new();
    for a in &ids {
        for b in &ids {
            if a == b {
                distance.insert((*a, *b), 0);
            } else if lists(a, b) && lists(b, a) {
                distance.insert((*a, *b), 1);
            }
        }
    }
    for via in &ids {
        for a in &ids {
            for b in &ids {
                if let (Some(to), Some(on)) = (distance.get(&(*a, *via)), distance.get(&(*via, *b))) {
                    let through = to + on;
                    let best = distance.entry((*a, *b)).or_insert(through);
                    *best = through.min(*best);
                }
            }
        }
    }
    distance
}

#[test]
fn distances_are_those_of_the_reference() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for trial in 0..150 {
        let n = rng.random_range(1..30);
        let records = random(&mut rng, n);
        let (all, p2p) = (naive(&records, false, None), naive(&records, true, None));
        for own in records.keys() {
            let routes = routes(*own, &records, OwnLinks::Confirmed);
            for to in records.keys() {
                assert_eq!(routes.distance(to), all.get(&(*own, *to)).copied(), "trial {trial}");
                assert_eq!(routes.p2p_distance(to), p2p.get(&(*own, *to)).copied(), "trial {trial}");
                assert_eq!(routes.is_reachable(to), all.contains_key(&(*own, *to)));
            }
            let reachable: BTreeMap<Id, usize> = routes.reachable().map(|(id, far)| (*id, far)).collect();
            let expected = all.iter().filter(|((from, to), _)| from == own && to != own);
            assert_eq!(reachable, expected.map(|((_, to), far)| (*to, *far)).collect());
            let cut_off = records.keys().filter(|to| !all.contains_key(&(*own, **to)));
            assert!(routes.out_of_reach().eq(cut_off));
        }
    }
}

#[test]
fn next_hops_are_those_of_the_reference() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut straight, mut around, mut suspect) = (0, 0, 0);
    for trial in 0..150 {
        let n = rng.random_range(2..30);
        let records = random(&mut rng, n);
        let all = naive(&records, false, None);
        let own = *records.keys().nth(n / 2).expect("a hub");
        let beyond = naive(&records, false, Some(own));
        let avoid: BTreeSet<Id> = records.keys().filter(|_| rng.random_bool(0.3)).copied().collect();
        let routes = routes(own, &records, OwnLinks::Confirmed);
        let near: Vec<Id> = records.keys().filter(|id| all.get(&(own, **id)) == Some(&1)).copied().collect();
        for to in records.keys().filter(|to| **to != own) {
            let best = |suspects: bool| {
                let ways = near.iter().filter(|id| avoid.contains(id) == suspects);
                ways.filter_map(|id| Some((*beyond.get(&(*id, *to))?, id.distance(to), *id))).min()
            };
            let expected = best(false).or_else(|| best(true));
            match expected {
                Some((far, _, _)) if Some(&(far + 1)) == all.get(&(own, *to)) => straight += 1,
                Some(_) => around += 1,
                None => {}
            }
            suspect += usize::from(best(false).is_none() && expected.is_some());
            let found = routes.next_hop(to, |id| avoid.contains(id));
            assert_eq!(found, expected.map(|(_, _, id)| id), "trial {trial}, to {to}");
        }
    }
    assert!(straight > 100 && around > 100 && suspect > 100, "{straight} {around} {suspect}");
}

#[test]
fn paths_are_shortest_and_what_each_hub_on_them_would_choose() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..50 {
        let n = rng.random_range(2..30);
        let records = random(&mut rng, n);
        let all = naive(&records, false, None);
        let hubs: BTreeMap<Id, Routes> =
            records.keys().map(|own| (*own, routes(*own, &records, OwnLinks::Confirmed))).collect();
        for (own, routes) in &hubs {
            for to in records.keys() {
                let path = routes.path(to);
                assert_eq!(path.as_ref().map(Vec::len), all.get(&(*own, *to)).copied());
                let mut at = *own;
                for step in path.unwrap_or_default() {
                    assert_eq!(hubs[&at].next_hop(to, |_| false), Some(step));
                    at = step;
                }
            }
        }
    }
}

#[test]
fn a_link_that_one_end_does_not_list_does_not_count() {
    let mut records = mutual(&[(0, 1), (1, 2), (2, 3)]);
    records.insert(id(2), vec![Link { hub: id(3), p2p: true }]);
    let routes = routes(id(0), &records, OwnLinks::Trusted);
    assert_eq!(routes.distance(&id(1)), Some(1));
    assert_eq!(routes.distance(&id(2)), None);
    assert_eq!(routes.next_hop(&id(3), |_| false), None);
    assert_eq!(routes.path(&id(3)), None);
}

#[test]
fn an_own_link_counts_by_itself_only_if_trusted() {
    let mut records = mutual(&[(1, 2)]);
    records.insert(id(0), vec![Link { hub: id(1), p2p: true }, Link { hub: id(9), p2p: false }]);
    let trusting = routes(id(0), &records, OwnLinks::Trusted);
    assert_eq!(trusting.distance(&id(2)), Some(2));
    assert_eq!(trusting.p2p_distance(&id(2)), Some(2));
    assert_eq!(trusting.distance(&id(9)), Some(1), "even without a record");
    assert_eq!(trusting.p2p_distance(&id(9)), None);
    let strict = routes(id(0), &records, OwnLinks::Confirmed);
    assert_eq!(strict.distance(&id(2)), None);
    assert_eq!(strict.fallback(&id(2), None, 5), [id(1), id(9)], "an open link may still be tried");
}

#[test]
fn what_others_say_of_links_with_this_hub_is_not_enough() {
    let records = mutual(&[(0, 1), (1, 2), (0, 3)]);
    let open = [Link { hub: id(3), p2p: true }];
    let lists = records.iter().map(|(hub, links)| (*hub, links.iter().copied()));
    let routes = Routes::new(id(0), &open, OwnLinks::Trusted, lists);
    assert_eq!(routes.distance(&id(3)), Some(1));
    assert_eq!(routes.distance(&id(1)), None, "this hub's own record is old news to itself");
}

#[test]
fn the_neighbour_closest_to_the_target_breaks_a_tie() {
    // 1 and 6 both lead to 7: 6 ^ 7 = 1, 1 ^ 7 = 6. And to 3: 1 ^ 3 = 2, 6 ^ 3 = 5.
    let routes = from_zero(&[(0, 1), (0, 6), (1, 7), (6, 7), (1, 3), (6, 3)]);
    assert_eq!(routes.next_hop(&id(7), |_| false), Some(id(6)));
    assert_eq!(routes.next_hop(&id(3), |_| false), Some(id(1)));
    assert_eq!(routes.path(&id(7)), Some(vec![id(6), id(7)]));
}

#[test]
fn a_suspect_is_taken_only_if_nothing_else_leads_there() {
    let routes = from_zero(&[(0, 1), (0, 2), (1, 7), (2, 3), (3, 4), (4, 7), (1, 8)]);
    let suspect = |hub: &Id| *hub == id(1);
    assert_eq!(routes.next_hop(&id(7), |_| false), Some(id(1)));
    assert_eq!(routes.next_hop(&id(7), suspect), Some(id(2)), "the long way round");
    assert_eq!(routes.next_hop(&id(1), suspect), Some(id(2)), "even to the suspect itself");
    assert_eq!(routes.next_hop(&id(7), |_| true), Some(id(1)), "all suspect: the shortest");
    let alone = from_zero(&[(0, 1), (0, 2), (1, 8)]);
    assert_eq!(alone.next_hop(&id(8), suspect), Some(id(1)), "2 leads there through this hub only");
}

#[test]
fn the_way_to_oneself_has_no_hops() {
    let routes = from_zero(&[(0, 1)]);
    assert_eq!(routes.distance(&id(0)), Some(0));
    assert_eq!(routes.path(&id(0)), Some(vec![]));
    assert_eq!(routes.next_hop(&id(0), |_| true), None);
    let alone = from_zero(&[]);
    assert_eq!(alone.distance(&id(0)), Some(0));
    assert_eq!(alone.next_hop(&id(1), |_| false), None);
    assert_eq!(alone.reachable().count(), 0);
}

#[test]
fn two_links_between_the_same_hubs_are_one() {
    let mut records = mutual(&[(0, 1), (1, 2)]);
    for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 1)] {
        records.entry(id(from)).or_default().insert(0, Link { hub: id(to), p2p: false });
    }
    let routes = routes(id(0), &records, OwnLinks::Confirmed);
    assert_eq!(routes.p2p_distance(&id(2)), Some(2));
    assert_eq!(routes.fallback(&id(2), None, 5), [id(1)]);
}

#[test]
fn without_a_path_the_closest_neighbours_are_tried() {
    let routes = from_zero(&[(0, 1), (0, 2), (0, 4), (0, 6)]);
    let unknown = id(7);
    assert!(!routes.is_reachable(&unknown));
    assert_eq!(routes.fallback(&unknown, None, 2), [id(6), id(4)]);
    assert_eq!(routes.fallback(&unknown, Some(id(6)), 2), [id(4), id(2)]);
    assert_eq!(routes.fallback(&unknown, None, 9).len(), 4);
    assert!(routes.fallback(&unknown, None, 0).is_empty());
}

#[test]
fn a_hub_with_hundreds_of_links_uses_them_all() {
    let numbered = |n: usize| {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        Id(bytes)
    };
    // 0 has 300 neighbours, each of which has one hub behind it.
    let mut records = Records::new();
    for spoke in 1..=300 {
        for (from, to) in [(0, spoke), (spoke, 0), (spoke, 300 + spoke), (300 + spoke, spoke)] {
            records.entry(numbered(from)).or_default().push(Link { hub: numbered(to), p2p: false });
        }
    }
    let routes = routes(numbered(0), &records, OwnLinks::Confirmed);
    for spoke in 1..=300 {
        assert_eq!(routes.next_hop(&numbered(300 + spoke), |_| false), Some(numbered(spoke)));
        assert_eq!(routes.distance(&numbered(300 + spoke)), Some(2));
    }
}

#[test]
fn ids_that_begin_alike_are_told_apart() {
    let alike = |last: u8| {
        let mut bytes = [5; 20];
        bytes[19] = last;
        Id(bytes)
    };
    let index = Index::new((0..10).map(alike).chain([id(4), id(6)]).collect());
    for known in (0..10).map(alike).chain([id(4), id(6)]) {
        assert_eq!(index.find(&known).map(|at| *index.id(at)), Some(known));
    }
    for stranger in [alike(10), id(3), id(7), Id([0; 20]), Id([255; 20])] {
        assert_eq!(index.find(&stranger), None);
    }
}
