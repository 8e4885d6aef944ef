//! Prints what routes cost: to build them, and then to ask for every next hop.
//!
//! `cargo run --release -p pigeonhub-proto --example routes`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::routes::{Link, OwnLinks, Routes};
use pigeonhub_proto::mesh::topology::{Member, edges};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RUNS: usize = 50;

fn main() {
    println!("| hubs | WebSockets of this hub | build, µs | next hop to all, µs | the long way to all, µs |");
    println!("| --- | --- | --- | --- | --- |");
    for (n, websockets) in [(64, 0), (500, 0), (1000, 0), (1000, 900), (4096, 0), (4096, 1000)] {
        let [build, straight, around] = measure(n, websockets).map(|time| time.as_micros());
        println!("| {n} | {websockets} | {build} | {straight} | {around} |");
    }
}

/// The shortest time of [`RUNS`] runs of each step, least disturbed by whatever else runs.
fn measure(n: usize, websockets: usize) -> [Duration; 3] {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let members: Vec<_> = (0..n).map(|_| Member { id: Id(rng.random()), max_peers: 3 }).collect();
    let own = members[0].id;
    let mut records: BTreeMap<Id, Vec<Link>> = BTreeMap::new();
    let mut link = |a: Id, b: Id, p2p| {
        records.entry(a).or_default().push(Link { hub: b, p2p });
        records.entry(b).or_default().push(Link { hub: a, p2p });
    };
    edges(&members).into_iter().for_each(|(a, b)| link(a, b, true));
    members[1..=websockets].iter().for_each(|member| link(own, member.id, false));

    let mut times = [Duration::MAX; 3];
    for _ in 0..RUNS {
        let started = Instant::now();
        let lists = records.iter().map(|(hub, links)| (*hub, links.iter().copied()));
        let routes = Routes::new(own, &records[&own], OwnLinks::Trusted, lists);
        times[0] = times[0].min(started.elapsed());
        assert_eq!(routes.reachable().count(), n - 1);
        let started = Instant::now();
        assert_eq!(members.iter().filter_map(|to| routes.next_hop(&to.id, |_| false)).count(), n - 1);
        times[1] = times[1].min(started.elapsed());
        let started = Instant::now();
        assert_eq!(members.iter().filter_map(|to| routes.next_hop(&to.id, |_| true)).count(), n - 1);
        times[2] = times[2].min(started.elapsed());
    }
    times
}
