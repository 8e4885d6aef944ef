use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn members(rng: &mut ChaCha8Rng, n: usize, max_peers: u8) -> Vec<Member> {
    (0..n).map(|_| Member { id: Id(rng.random()), max_peers }).collect()
}

/// Every hub with 2 to 6.
fn mixed(rng: &mut ChaCha8Rng, n: usize) -> Vec<Member> {
    (0..n).map(|_| Member { id: Id(rng.random()), max_peers: rng.random_range(2..=6) }).collect()
}

/// Distances from one hub to all by breadth-first search over the public edges.
fn distances(members: &[Member], from: Id) -> std::collections::BTreeMap<Id, u64> {
    let edges = edges(members);
    let mut found = std::collections::BTreeMap::from([(from, 0)]);
    let mut queue = std::collections::VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        let beyond = found[&at] + 1;
        for to in members.iter().map(|member| member.id) {
            let linked = edges.contains(&(at, to)) || edges.contains(&(to, at));
            if linked && !found.contains_key(&to) {
                found.insert(to, beyond);
                queue.push_back(to);
            }
        }
    }
    found
}

/// The least sum of distances from one hub of a graph of this degree.
fn moore(n: u64, degree: u64) -> u64 {
    let (mut left, mut level, mut total) = (n - 1, degree, 0);
    for distance in 1.. {
        total += distance * level.min(left);
        left = left.saturating_sub(level);
        level *= degree - 1;
        if left == 0 {
            break;
        }
    }
    total
}

#[test]
fn every_mesh_is_one_piece_symmetric_and_within_limits() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for n in 2..=200 {
        for kind in [2, 3, 4, 5, 0] {
            let members = if kind == 0 { mixed(&mut rng, n) } else { members(&mut rng, n, kind) };
            let plan = Plan::new(&members);
            assert_eq!(plan.ids.len(), n);
            let mut reached = BTreeSet::from([0]);
            let mut queue = vec![0];
            while let Some(at) = queue.pop() {
                for &to in plan.graph.of(at) {
                    assert!(plan.graph.linked(to as usize, at), "symmetric");
                    assert_ne!(to as usize, at);
                    if reached.insert(to as usize) {
                        queue.push(to as usize);
                    }
                }
            }
            assert_eq!(reached.len(), n, "one piece, {n} hubs, max_peers {kind}");
            for member in &members {
                let at = plan.ids.binary_search(&member.id).expect("planned");
                let links: BTreeSet<_> = plan.graph.of(at).iter().collect();
                assert_eq!(links.len(), plan.graph.of(at).len(), "no link twice");
                assert!(links.len() <= member.max_peers.into());
                assert!(links.len() >= 2.min(n - 1));
            }
        }
    }
}

#[test]
fn paths_are_within_a_quarter_of_the_bound() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for n in 3..=64 {
        for trial in 0..200 {
            let plan = Plan::new(&members(&mut rng, n, 3));
            let (total, bound) = (plan.graph.total_path(), n as u64 * moore(n as u64, 3));
            assert!(total * 100 <= bound * 125, "{n} hubs, trial {trial}: {total} of {bound}");
        }
    }
}

#[test]
fn paths_of_larger_meshes_are_within_a_quarter_too() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for n in [65, 128, 129, 160] {
        let members = members(&mut rng, n, 3);
        let total: u64 = members.iter().map(|m| distances(&members, m.id).into_values().sum::<u64>()).sum();
        let bound = n as u64 * moore(n as u64, 3);
        assert!(total * 100 <= bound * 125, "{n} hubs: {total} of {bound}");
    }
}

#[test]
fn the_measured_paths_are_the_real_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for n in [3, 9, 33, 64, 65, 128] {
        let members = mixed(&mut rng, n);
        let total: u64 = members.iter().flat_map(|m| distances(&members, m.id).into_values()).sum();
        assert_eq!(Plan::new(&members).graph.total_path(), total);
    }
}

#[test]
fn each_hub_wants_its_own_edges_whatever_the_order() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for n in [1, 2, 5, 40, 90] {
        let mut members = mixed(&mut rng, n);
        let edges = edges(&members);
        for own in members.clone() {
            let at = rng.random_range(0..n);
            members.rotate_left(at);
            let expected: BTreeSet<Id> = edges
                .iter()
                .filter(|(a, b)| own.id == *a || own.id == *b)
                .map(|(a, b)| if own.id == *a { *b } else { *a })
                .collect();
            assert_eq!(wanted(&own.id, &members), expected);
        }
    }
}

#[test]
fn few_hubs_are_all_linked() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for max_peers in 2..=8u8 {
        for n in 1..=usize::from(max_peers) + 1 {
            assert_eq!(edges(&members(&mut rng, n, max_peers)).len(), n * (n - 1) / 2);
        }
        let one_more = members(&mut rng, usize::from(max_peers) + 2, max_peers);
        assert!(one_more.iter().all(|m| wanted(&m.id, &one_more).len() <= max_peers.into()));
    }
}

#[test]
fn no_room_is_left_unused() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for n in 6..=120 {
        for max_peers in [3, 4, 5] {
            let members = members(&mut rng, n, max_peers);
            let most = n * usize::from(max_peers) / 2;
            assert_eq!(edges(&members).len(), most, "{n} hubs, max_peers {max_peers}");
        }
    }
}

#[test]
fn odd_members_are_coped_with() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut members = members(&mut rng, 51, 3);
    let sound = edges(&members);
    let stranger = Id([7; 20]);
    assert!(wanted(&stranger, &members).is_empty());
    assert!(wanted(&stranger, &[]).is_empty());

    members.push(Member { id: stranger, max_peers: 1 });
    assert_eq!(edges(&members), sound, "who takes fewer than two links has no part");
    assert!(wanted(&stranger, &members).is_empty());

    let greedy = Member { id: members[0].id, max_peers: u8::MAX };
    members.push(greedy);
    assert_eq!(edges(&members), sound, "the smaller limit of two holds");
    members[0] = greedy;
    assert_eq!(wanted(&greedy.id, &members).len(), usize::from(MAX_LINKS));
}

#[test]
fn hubs_of_one_hash_are_still_in_the_ring() {
    // Ids whose words XOR to nothing: all of them hash alike.
    let alike = |byte: u8| {
        let mut id = [0; 20];
        (id[0], id[8]) = (byte, byte);
        Member { id: Id(id), max_peers: 3 }
    };
    let members: Vec<_> = (0..40).map(alike).collect();
    assert!(members.iter().all(|member| member.id.fold() == 0));
    assert_eq!(distances(&members, members[0].id).len(), 40);
}

#[test]
fn a_matching_is_the_greedy_one() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for n in [4, 5, 30, 77] {
        let folds: Vec<u64> = (0..n).map(|_| rng.random()).collect();
        let mut ring = Graph::new(&vec![5; n]);
        (0..n).for_each(|at| ring.link(at, (at + 1) % n));
        let mut naive = ring.clone();
        let mut matching = Matching::new(ring, &folds);
        for salt in 0..3 {
            let mut free = matching.free(salt);
            let mut pairs: Vec<_> = free
                .iter()
                .flat_map(|a| free.iter().map(move |b| (a.0 ^ b.0, a.1, b.1)))
                .filter(|(_, a, b)| a < b)
                .collect();
            pairs.sort_unstable();
            let mut taken = BTreeSet::new();
            for (_, a, b) in pairs {
                if !naive.linked(a, b) && !taken.contains(&a) && !taken.contains(&b) {
                    naive.link(a, b);
                    taken.extend([a, b]);
                }
            }
            assert_eq!(matching.pair_up(&mut free), n - taken.len());
            for at in 0..n {
                assert_eq!(matching.graph.of(at), naive.of(at), "hub {at} of {n}, salt {salt}");
            }
        }
    }
}

#[test]
fn one_hub_moves_few_links() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    for n in [10, 30, 100, 500] {
        let mut changed = 0;
        for _ in 0..100 {
            let mut members = members(&mut rng, n, 3);
            let with = edges(&members);
            members.pop();
            changed += edges(&members).symmetric_difference(&with).count();
        }
        assert!(changed < 100 * 12, "{changed} links in 100 trials of {n} hubs");
    }
}
