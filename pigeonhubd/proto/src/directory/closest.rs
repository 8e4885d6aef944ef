//! The XOR-closest ids of a sorted map, without looking at all of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::id::{ID_LEN, Id};

/// Up to `count` ids of `map`, closest to `target` first; `target` itself is left out.
///
/// Ids that share a longer prefix with `target` are closer, and those that
/// share exactly `p` bits stand next to each other in the map: so the buckets
/// of Kademlia are ranges, taken from the nearest outward. Only the last bucket
/// taken may be larger than needed.
pub fn closest<V>(map: &BTreeMap<Id, V>, target: &Id, count: usize) -> Vec<Id> {
    let mut found = Vec::new();
    for shared in (0..ID_LEN * 8).rev() {
        if found.len() >= count {
            break;
        }
        let (first, last) = bucket(target, shared);
        let mut ids: Vec<Id> =
            map.range((Bound::Included(first), Bound::Included(last))).map(|(id, _)| *id).collect();
        ids.sort_unstable_by_key(|id| id.distance(target));
        found.extend(ids);
    }
    found.truncate(count);
    found
}

/// The first and last id that share exactly `shared` leading bits with `target`.
fn bucket(target: &Id, shared: usize) -> (Id, Id) {
    let (mut first, mut last) = (*target, *target);
    for (i, (low, high)) in first.0.iter_mut().zip(last.0.iter_mut()).enumerate() {
        let bits_before = i * 8;
        if bits_before > shared {
            (*low, *high) = (0, 255);
        } else if bits_before + 8 > shared {
            let flip = 0x80u8 >> (shared - bits_before);
            let below = flip - 1;
            *low = (*low ^ flip) & !below;
            *high = (*high ^ flip) | below;
        }
    }
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn agrees_with_sorting_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for size in [0, 1, 2, 10, 300] {
            let mut map: BTreeMap<Id, ()> = (0..size).map(|_| (Id(rng.random()), ())).collect();
            let target = Id(rng.random());
            map.insert(target, ());
            for count in [0, 1, 5, 64] {
                let mut all: Vec<Id> = map.keys().copied().filter(|id| *id != target).collect();
                all.sort_unstable_by_key(|id| id.distance(&target));
                all.truncate(count);
                assert_eq!(closest(&map, &target, count), all, "{size} {count}");
            }
        }
    }
}
