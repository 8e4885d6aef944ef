//! The mesh as a graph.

use std::collections::VecDeque;

/// Links from each to every vertex, or `None` where there is no path.
pub(crate) fn distances(neighbours: &[Vec<usize>], from: usize) -> Vec<Option<u32>> {
    let mut out = vec![None; neighbours.len()];
    let mut queue = VecDeque::from([from]);
    out[from] = Some(0);
    while let Some(here) = queue.pop_front() {
        for &next in &neighbours[here] {
            if out[next].is_none() {
                out[next] = out[here].map(|d: u32| d + 1);
                queue.push_back(next);
            }
        }
    }
    out
}

/// The mean number of links between two vertices and the greatest, if all are connected.
pub(crate) fn mean_path(neighbours: &[Vec<usize>]) -> Option<(f64, u32)> {
    let n = neighbours.len();
    let (mut sum, mut diameter) = (0u64, 0);
    for from in 0..n {
        for distance in distances(neighbours, from) {
            sum += u64::from(distance?);
            diameter = diameter.max(distance?);
        }
    }
    Some((sum as f64 / (n * n.saturating_sub(1)).max(1) as f64, diameter))
}

/// The least mean path that a graph of `n` vertices with `degree` links each
/// can have: `degree` at distance 1, each of which leads to `degree − 1` more,
/// and so on (Moore's bound; Cerf et al. 1974).
pub(crate) fn least_mean_path(n: usize, degree: usize) -> f64 {
    let (mut left, mut level, mut distance, mut sum) = (n.saturating_sub(1), degree, 1, 0);
    while left > 0 {
        let here = level.min(left);
        sum += here * distance;
        left -= here;
        level *= degree.saturating_sub(1).max(1);
        distance += 1;
    }
    sum as f64 / n.saturating_sub(1).max(1) as f64
}

#[test]
fn known_graphs_have_their_known_paths() {
    // The Petersen graph meets Moore's bound.
    let mut petersen = vec![Vec::new(); 10];
    for i in 0..5 {
        for (a, b) in [(i, (i + 1) % 5), (5 + i, 5 + (i + 2) % 5), (i, i + 5)] {
            petersen[a].push(b);
            petersen[b].push(a);
        }
    }
    assert_eq!(mean_path(&petersen), Some((least_mean_path(10, 3), 2)));
    assert!((least_mean_path(10, 3) - 15.0 / 9.0).abs() < 1e-9);
    assert!((least_mean_path(4, 3) - 1.0).abs() < 1e-9);
    // Taking away a vertex's links takes it out of reach.
    for list in &mut petersen {
        list.retain(|v| *v != 3);
    }
    assert_eq!(mean_path(&petersen), None);
}
