//! Prints what the topology is worth: the table in ARCHITECTURE.md.
//!
//! For each size: the mean path and its ratio to the lower bound for the degree,
//! the diameter, and how many links differ once one more hub has come, each on
//! average and in the worst membership; and the time that [`wanted`] takes.
//!
//! `cargo run --release -p pigeonhub-proto --example topology [max_peers] [trials]`

use std::time::Instant;

use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::topology::{Member, edges, wanted};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let max_peers = args.next().unwrap_or(3usize) as u8;
    let trials = args.next().unwrap_or(1000);
    println!("max_peers {max_peers}, {trials} random memberships of each size\n");
    let columns = [
        "hubs",
        "mean path",
        "worst",
        "over bound",
        "worst",
        "diameter",
        "worst",
        "links changed",
        "worst",
        "µs",
    ];
    println!("| {} |\n|{}", columns.join(" | "), " --- |".repeat(columns.len()));
    let mut gate = (0.0, 0);
    let sizes = (3..=64).chain([80, 100, 150, 200, 300, 500, 1000]);
    for n in sizes {
        let trials = if n <= 64 { trials } else { (trials * 100 / n).min(trials) };
        let row = Row::measure(n, max_peers, trials);
        if n <= 64 && row.worst_ratio > gate.0 {
            gate = (row.worst_ratio, n);
        }
        row.print(n);
    }
    println!("\nWorst of all with 3 to 64 hubs: {:.3} times the bound, with {} hubs.", gate.0, gate.1);
}

#[derive(Default)]
struct Row {
    mean: f64,
    worst_mean: f64,
    ratio: f64,
    worst_ratio: f64,
    diameter: f64,
    worst_diameter: usize,
    changed: f64,
    worst_changed: usize,
    micros: f64,
}

impl Row {
    fn measure(n: usize, max_peers: u8, trials: usize) -> Self {
        let mut row = Self::default();
        let bound = moore_bound(n, max_peers.into());
        for trial in 0..trials {
            let mut rng = ChaCha8Rng::seed_from_u64((n * 1_000_000 + trial) as u64);
            let mut members: Vec<_> = (0..n).map(|_| Member { id: Id(rng.random()), max_peers }).collect();
            let started = Instant::now();
            std::hint::black_box(wanted(&members[0].id, &members));
            row.micros += started.elapsed().as_secs_f64() * 1e6;
            let before = edges(&members);
            let (mean, diameter) = paths(&members);
            row.mean += mean;
            row.worst_mean = row.worst_mean.max(mean);
            row.ratio += mean / bound;
            row.worst_ratio = row.worst_ratio.max(mean / bound);
            row.diameter += diameter as f64;
            row.worst_diameter = row.worst_diameter.max(diameter);
            members.push(Member { id: Id(rng.random()), max_peers });
            let changed = edges(&members).symmetric_difference(&before).count();
            row.changed += changed as f64;
            row.worst_changed = row.worst_changed.max(changed);
        }
        for sum in [&mut row.mean, &mut row.ratio, &mut row.diameter, &mut row.changed, &mut row.micros] {
            *sum /= trials as f64;
        }
        row
    }

    fn print(&self, n: usize) {
        println!(
            "| {n} | {:.2} | {:.2} | {:.3} | {:.3} | {:.1} | {} | {:.1} | {} | {:.0} |",
            self.mean,
            self.worst_mean,
            self.ratio,
            self.worst_ratio,
            self.diameter,
            self.worst_diameter,
            self.changed,
            self.worst_changed,
            self.micros,
        );
    }
}

/// The least mean path that any graph of this degree can have: `degree` hubs
/// at distance 1, and from each `degree - 1` new ones.
fn moore_bound(n: usize, degree: usize) -> f64 {
    let (mut left, mut level, mut total, mut distance) = (n - 1, degree, 0, 1);
    while left > 0 {
        let here = level.min(left);
        total += distance * here;
        left -= here;
        level *= degree - 1;
        distance += 1;
    }
    total as f64 / (n - 1) as f64
}

/// Mean path and diameter over all pairs; panics if there is more than one piece.
fn paths(members: &[Member]) -> (f64, usize) {
    let mut ids: Vec<Id> = members.iter().map(|member| member.id).collect();
    ids.sort();
    let at = |id: &Id| ids.binary_search(id).expect("a member");
    let mut near = vec![Vec::new(); ids.len()];
    for (a, b) in edges(members) {
        near[at(&a)].push(at(&b));
        near[at(&b)].push(at(&a));
    }
    let (mut total, mut diameter) = (0, 0);
    for from in 0..ids.len() {
        let mut distance = vec![usize::MAX; ids.len()];
        distance[from] = 0;
        let mut queue = vec![from];
        let mut next = 0;
        while let Some(&at) = queue.get(next) {
            next += 1;
            for &to in &near[at] {
                if distance[to] == usize::MAX {
                    distance[to] = distance[at] + 1;
                    queue.push(to);
                }
            }
        }
        assert_eq!(queue.len(), ids.len(), "one piece");
        total += distance.iter().sum::<usize>();
        diameter = diameter.max(*distance.iter().max().expect("hubs"));
    }
    (total as f64 / (ids.len() * (ids.len() - 1)) as f64, diameter)
}
