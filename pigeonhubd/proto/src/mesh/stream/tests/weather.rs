//! Thousands of short, seeded runs in bad weather. A failure prints its seed;
//! run that one alone with [`one`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::world::{Weather, World};
use super::*;

/// What happens besides weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Outages and new routes only: every message must arrive.
    None,
    /// Also resets, restarts, and messages whose time is over.
    Lives,
    /// Also hubs that forget a stream when nothing is under way.
    Forgetting,
    /// Also hubs that forget a stream at any time.
    Careless,
}

fn any_weather(rng: &mut ChaCha8Rng) -> Weather {
    let pick = |rng: &mut ChaCha8Rng, all: &[u32]| all[rng.random_range(0..all.len())];
    Weather {
        lost: pick(rng, &[0, 1, 10, 25, 40]),
        doubled: pick(rng, &[0, 5, 30]),
        delay_ms: u64::from(pick(rng, &[0, 5, 50, 400, 1500])),
    }
}

fn any_len(rng: &mut ChaCha8Rng) -> usize {
    match rng.random_range(0..100) {
        0 => rng.random_range(0..MAX_PAYLOAD - 8),
        1..5 => rng.random_range(0..60_000),
        _ => rng.random_range(0..100),
    }
}

fn any_step(world: &mut World, trouble: Trouble) {
    let at = world.rng.random_range(0..2);
    match world.rng.random_range(0..40) {
        0..25 => {
            let burst = if world.rng.random_ratio(1, 10) { 60 } else { 3 };
            for _ in 0..world.rng.random_range(1..=burst) {
                let len = any_len(&mut world.rng);
                world.push(at, len);
            }
        }
        25..28 => world.cut = !world.cut,
        28..31 => {
            let reachable = world.rng.random_bool(0.5);
            world.tell_reachable(reachable);
        }
        31..34 => world.reroute(at),
        34 if trouble != Trouble::None => world.reset(at),
        35 if trouble != Trouble::None => world.restart(at),
        36..39 if trouble == Trouble::Forgetting && world.quiet() => world.forget(at),
        36 if trouble == Trouble::Careless => world.forget(at),
        _ => {}
    }
    let pause = MS * [1, 30, 300, 5000][world.rng.random_range(0..4)];
    let pause = pause.mul_f64(world.rng.random());
    world.run(world.now + pause);
}

/// One run; returns how many messages were delivered.
fn one(seed: u64, trouble: Trouble) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(seed, any_weather(&mut rng));
    world.forgetful = matches!(trouble, Trouble::Forgetting | Trouble::Careless);
    world.careless = trouble == Trouble::Careless;
    if trouble != Trouble::None && rng.random_bool(0.5) {
        world.patience = MS * 10_000;
    }
    for _ in 0..rng.random_range(5..40) {
        any_step(&mut world, trouble);
    }
    // The outages end, the weather stays.
    world.cut = false;
    world.run(world.now + MS * 2000);
    world.tell_reachable(true);
    world.run(world.now + MS * 3_600_000);
    world.judge_end();
    world.delivered()
}

fn runs(seeds: std::ops::Range<u64>, trouble: Trouble) {
    let mut delivered = 0;
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| one(seed, trouble))) {
            Ok(count) => delivered += count,
            Err(_) => panic!("seed {seed}, {trouble:?}"),
        }
    }
    let least = 10 * seeds.count();
    assert!(delivered > least, "only {delivered} messages were delivered: the runs say little");
}

#[test]
fn every_message_arrives_once_and_in_order() {
    runs(0..1000, Trouble::None);
}

#[test]
fn resets_and_restarts_confuse_nobody() {
    runs(10_000..11_000, Trouble::Lives);
}

#[test]
fn forgotten_streams_come_back() {
    runs(20_000..21_000, Trouble::Forgetting);
}

#[test]
fn streams_forgotten_in_use_come_back() {
    runs(30_000..31_000, Trouble::Careless);
}
