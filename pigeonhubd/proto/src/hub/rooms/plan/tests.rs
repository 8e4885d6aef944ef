//! What a plan comes to, and whether clients that follow it come to the same.

use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn peers(seed: u64, count: usize) -> Vec<Id> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| Id(rng.random())).collect()
}

fn check(plan: &Plan) {
    assert!(plan.is_whole(), "{plan:?}");
    for (peer, links) in &plan.links {
        assert!(links.len() <= PLACES, "{peer} has {links:?}");
        assert!(links.iter().all(|other| other != peer && plan.is_linked(other, peer)), "{peer}: {links:?}");
        let different: BTreeSet<&Id> = links.iter().collect();
        assert_eq!(different.len(), links.len(), "{peer}: {links:?}");
    }
}

#[test]
fn all_that_come_together_have_three_but_for_the_smallest_of_an_odd_number() {
    for seed in 0..20 {
        for count in 4..=65 {
            let mut ids = peers(seed, count);
            let mut plan = Plan::default();
            let steps = plan.add(ids.clone());
            check(&plan);
            ids.sort_unstable();
            let places: Vec<usize> = ids.iter().map(|id| plan.places(id)).collect();
            assert!(steps.second.is_empty() && steps.dropped.is_empty(), "nobody is to be dropped");
            assert_eq!(places.iter().sum::<usize>(), count % 2, "{count}, {seed}: {places:?}");
            let loud = ids.iter().find(|id| plan.places(id) > 0 && plan.listeners(id) > 0);
            assert_eq!(loud, None, "{count}, {seed}: its place would part others");
        }
    }
}

#[test]
fn hubs_plan_alike_whatever_they_hear_first() {
    for count in 1..=65 {
        let ids = peers(7, count);
        let (mut one, mut two) = (Plan::default(), Plan::default());
        let steps = one.add(ids.clone());
        let other = two.add(ids.iter().rev().copied().collect());
        assert_eq!((steps.first, steps.second), (other.first, other.second));
    }
}

/// What the clients do by themselves when they are told of the steps' pairs.
fn follow(links: &mut BTreeMap<Id, Vec<Id>>, steps: &Steps, backwards: bool) {
    for pairs in [&steps.first, &steps.second] {
        let mut pairs: Vec<&Pair> = pairs.iter().collect();
        if backwards {
            pairs.reverse();
        }
        for (larger, smaller) in pairs {
            assert!(larger > smaller, "the larger one offers");
            for id in [larger, smaller] {
                links.entry(*id).or_default();
            }
            assert!(links[larger].len() < PLACES, "{larger} has no place");
            if links[smaller].len() == PLACES {
                let farthest =
                    *links[smaller].iter().max_by_key(|other| other.distance(smaller)).expect("three");
                assert!(larger.distance(smaller) < farthest.distance(smaller), "{smaller} would refuse");
                links.entry(farthest).or_default().retain(|other| other != smaller);
                links.entry(*smaller).or_default().retain(|other| *other != farthest);
            }
            links.entry(*larger).or_default().push(*smaller);
            links.entry(*smaller).or_default().push(*larger);
        }
    }
}

#[test]
fn clients_that_follow_come_to_what_was_planned() {
    for seed in 0..50 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut plan, mut links) = (Plan::default(), BTreeMap::new());
        let mut ahead = peers(seed, 65);
        while !ahead.is_empty() {
            let count = rng.random_range(1..=6).min(ahead.len());
            let steps = plan.add(ahead.drain(..count).collect());
            follow(&mut links, &steps, seed % 2 == 0);
            for links in links.values_mut().chain(plan.links.values_mut()) {
                links.sort_unstable();
            }
            links.extend(
                plan.links.iter().filter(|(_, links)| links.is_empty()).map(|(id, _)| (*id, Vec::new())),
            );
            assert_eq!(links, plan.links, "seed {seed}");
        }
    }
}

#[test]
fn whoever_comes_alone_is_let_in_unless_nobody_can() {
    let (mut alone, mut rooms) = (0, 0);
    for seed in 0..40 {
        for count in [4, 8, 16, 32, 64] {
            let ids = peers(seed, count + 1);
            let mut plan = Plan::default();
            plan.add(ids[..count].to_vec());
            let newcomer = ids[count];
            plan.add(vec![newcomer]);
            rooms += 1;
            if plan.is_whole() {
                check(&plan);
                continue;
            }
            alone += 1;
            let listens =
                ids[..count].iter().any(|other| *other < newcomer && !plan.refuses(other, &newcomer));
            assert!(!listens, "seed {seed}: somebody would have taken it");
        }
    }
    assert!(alone * 5 < rooms, "{alone} of {rooms} were not let in");
}

#[test]
fn of_strangers_the_closest_smaller_one_gets_the_offer() {
    let ids = peers(3, 12);
    let mut plan = Plan::default();
    ids[1..].iter().for_each(|id| plan.add_stranger(*id));
    let steps = plan.add(vec![ids[0]]);
    let closest = ids[1..].iter().filter(|id| **id < ids[0]).min_by_key(|id| id.distance(&ids[0]));
    assert_eq!(steps.first, closest.map(|closest| (ids[0], *closest)).into_iter().collect());
    ids.iter().for_each(|id| plan.remove(id));
    assert_eq!(plan.len(), 0);
}
