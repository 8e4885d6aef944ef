//! The records that a hub has, and what two neighbours must tell each other
//! so that both have the same.
//!
//! Reconciliation by version, each hub the only writer of its own record:
//! van Renesse, Dumitriu, Gough and Thomas, "Efficient Reconciliation and Flow
//! Control for Anti-Entropy Protocols", LADIS 2008.

mod outlines;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use slab::Slab;

pub use self::outlines::{Outline, Outlines};
use super::identity::PublicKey;
use super::record::{Record, SignedRecord};
use crate::id::Id;
use crate::time::{Now, Time};
use crate::wire::mesh::RecordVersion;

/// Hubs whose records are kept; those of further ones are refused.
pub const MAX_HUBS: usize = 4096;
/// How long the record of a hub out of reach is kept, to find it again.
pub const KEEP_UNREACHABLE: Duration = Duration::from_secs(24 * 3600);
/// The same of a hub that never was within reach: anybody in the mesh can
/// invent such, and they take the places of others.
pub const KEEP_UNSEEN: Duration = Duration::from_secs(3600);
/// How long the record of a hub out of reach is still passed on. Shorter than
/// it is kept, or two hubs could hand a dead hub's record to each other for ever.
pub const SHARE_UNREACHABLE: Duration = Duration::from_secs(300);

/// A record and what this hub knows of it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// As it travels.
    pub signed: SignedRecord,
    /// When this hub first heard of that hub, in ms since the Unix epoch.
    pub registered_at: u64,
    /// When its record last changed here, likewise.
    pub last_activity: u64,
    /// Since when it is out of reach; `None` while within reach.
    pub unreachable_since: Option<Time>,
    /// It was within reach before: its absence is a loss, not a delay.
    pub was_reachable: bool,
    /// Its version is in the digest.
    counted: bool,
}

impl Stored {
    fn outline(&self, hub: Id) -> Outline<'_> {
        Outline {
            hub,
            within_reach: self.unreachable_since.is_none(),
            max_peers: self.record.max_peers,
            draining: self.record.draining,
            links: &self.record.links,
        }
    }
}

/// What is asked of a hub out of reach at every tick, without a look at its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Since when.
    pub since: Time,
    /// It was within reach before, and did not leave on purpose.
    pub missed: bool,
    /// Its record names a URL at which it can be dialled.
    pub has_url: bool,
}

/// All records of other hubs, by hub. This hub's own is kept by its owner.
#[derive(Debug, Default)]
pub struct Records {
    stored: Slab<Stored>,
    by_hub: BTreeMap<Id, usize>,
    /// The version of each, and its place in `stored`. Most records that come in are no news, and tell
    /// their hub's key, not its id. What is listed of it is sorted.
    versions: HashMap<PublicKey, (RecordVersion, usize)>,
    /// Those out of reach: few, and looked at far more often than the others.
    absent: BTreeMap<Id, Absent>,
    outlines: Outlines,
    /// Sum of [`fingerprint`] over the shared ones.
    digest: u64,
}

/// What became of a record that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Kept; the hub was not known before.
    Discovered,
    /// Kept; the hub started anew.
    Restarted,
    /// Kept; an ordinary change.
    Changed,
    /// There is no room for another hub.
    Full,
}

/// 64 bits that stand for one version of one record. Sums of them tell two
/// neighbours, with one number a heartbeat, whether they have the same.
pub fn fingerprint(version: &RecordVersion) -> u64 {
    // Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    let mut z = version.hub.fold() ^ version.epoch.rotate_left(32) ^ version.version;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Records {
    /// The record of a hub.
    pub fn get(&self, hub: &Id) -> Option<&Stored> {
        self.stored.get(*self.by_hub.get(hub)?)
    }

    fn get_mut(&mut self, hub: &Id) -> Option<&mut Stored> {
        self.stored.get_mut(*self.by_hub.get(hub)?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_hub.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_hub.is_empty()
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Stored)> {
        self.by_hub.iter().filter_map(|(hub, at)| Some((hub, self.stored.get(*at)?)))
    }

    /// What a look at the mesh needs of each, by id.
    pub fn outlines(&mut self) -> &Outlines {
        let (stored, by_hub) = (&self.stored, &self.by_hub);
        self.outlines.refresh(|hub| Some(stored.get(*by_hub.get(hub)?)?.outline(*hub)));
        &self.outlines
    }

    /// The hubs out of reach, by id.
    pub fn absent(&self) -> impl Iterator<Item = (&Id, &Absent)> {
        self.absent.iter()
    }

    /// Since when a hub is out of reach; `None` while it is within reach, or not known.
    pub fn absent_since(&self, hub: &Id) -> Option<Time> {
        self.absent.get(hub).map(|absent| absent.since)
    }

    /// Which version is here of the record of the hub with this key.
    pub fn version_of(&self, key: &PublicKey) -> Option<&RecordVersion> {
        self.versions.get(key).map(|(version, _)| version)
    }

    /// Keeps a record that is newer than what [is here](Self::version_of) and whose signature holds.
    pub fn store(&mut self, hub: Id, record: Record, signed: SignedRecord, now: Now) -> Stores {
        let (key, version) = (record.key, record.version_of(hub));
        let held = self.versions.get_mut(&key).and_then(|(held, at)| {
            *held = version;
            self.stored.get_mut(*at)
        });
        let Some(stored) = held else {
            if self.stored.len() >= MAX_HUBS {
                return Stores::Full;
            }
            // Out of reach until a path to it is known.
            let stored = Stored {
                record,
                signed,
                registered_at: now.unix_ms,
                last_activity: now.unix_ms,
                unreachable_since: Some(now.mono),
                was_reachable: false,
                counted: false,
            };
            let at = self.stored.insert(stored);
            self.by_hub.insert(hub, at);
            self.versions.insert(key, (version, at));
            self.outlines.changed(hub);
            self.changed(&hub, now.mono);
            return Stores::Discovered;
        };
        if std::mem::take(&mut stored.counted) {
            self.digest = self.digest.wrapping_sub(fingerprint(&stored.record.version_of(hub)));
        }
        let restarted = record.epoch != stored.record.epoch;
        let outline = |of: &Record| (of.max_peers, of.draining);
        if stored.record.links != record.links || outline(&stored.record) != outline(&record) {
            self.outlines.changed(hub);
        }
        stored.record.renew(record);
        stored.signed = signed;
        stored.last_activity = now.unix_ms;
        track(&hub, stored, now.mono, &mut self.digest, &mut self.absent);
        if restarted { Stores::Restarted } else { Stores::Changed }
    }

    /// Notes whether a hub is within reach. True if that is a change.
    pub fn set_reachable(&mut self, hub: &Id, reachable: bool, now: Time) -> bool {
        let Some(stored) = self.get_mut(hub) else { return false };
        if stored.unreachable_since.is_none() == reachable {
            return false;
        }
        stored.unreachable_since = (!reachable).then_some(now);
        stored.was_reachable = true;
        self.outlines.reach(hub, reachable);
        self.changed(hub, now);
        true
    }

    /// Forgets hubs long out of reach and stops sharing those out of reach for
    /// a while. To be called now and then.
    pub fn expire(&mut self, now: Time) -> Vec<Id> {
        let mut gone = Vec::new();
        let long = |absent: &Absent| now.since(absent.since) > SHARE_UNREACHABLE;
        let unshared: Vec<Id> =
            self.absent.iter().filter(|(_, absent)| long(absent)).map(|(hub, _)| *hub).collect();
        for hub in unshared {
            self.changed(&hub, now);
            let over = |stored: &Stored| {
                let keep = if stored.was_reachable { KEEP_UNREACHABLE } else { KEEP_UNSEEN };
                stored.unreachable_since.is_some_and(|at| now.since(at) > keep)
            };
            if self.get(&hub).is_some_and(over)
                && let Some(stored) = self.by_hub.remove(&hub).and_then(|at| self.stored.try_remove(at))
            {
                // Out of the digest by now: it is kept for longer than it is shared.
                self.versions.remove(&stored.record.key);
                self.absent.remove(&hub);
                self.outlines.changed(hub);
                gone.push(hub);
            }
        }
        gone
    }

    fn changed(&mut self, hub: &Id, now: Time) {
        let at = self.by_hub.get(hub).copied();
        if let Some(stored) = at.and_then(|at| self.stored.get_mut(at)) {
            track(hub, stored, now, &mut self.digest, &mut self.absent);
        }
    }

    /// Stands for all records here and `own`.
    pub fn digest(&self, own: &RecordVersion) -> u64 {
        self.digest.wrapping_add(fingerprint(own))
    }

    /// What this hub has, for a neighbour to compare with.
    pub fn summary(&self, own: RecordVersion, now: Time) -> Vec<RecordVersion> {
        let mut summary: Vec<RecordVersion> = self.shared(now).collect();
        summary.sort_unstable();
        summary.push(own);
        summary
    }

    /// The versions of what is passed on, in no order; without a look at the records.
    fn shared(&self, now: Time) -> impl Iterator<Item = RecordVersion> {
        let versions = self.versions.values().map(|(version, _)| *version);
        versions.filter(move |version| is_shared(self.absent_since(&version.hub), now))
    }

    /// The records that a neighbour with that summary lacks.
    pub fn lacking(&self, summary: &[RecordVersion], now: Time) -> Vec<Id> {
        let mut theirs = summary.to_vec();
        // Nearly in order: a summary lists hubs by id, its sender's own last.
        theirs.sort();
        let lacks = |ours: &RecordVersion| {
            theirs
                .get(theirs.partition_point(|theirs| theirs < ours))
                .is_none_or(|theirs| theirs.hub != ours.hub)
        };
        let mut lacking: Vec<Id> = self.shared(now).filter(lacks).map(|ours| ours.hub).collect();
        lacking.sort_unstable();
        lacking
    }
}

/// Takes a record into the digest while it is shared, and out of it after
/// that; and its hub among the absent ones while it is out of reach.
fn track(hub: &Id, stored: &mut Stored, now: Time, digest: &mut u64, absent: &mut BTreeMap<Id, Absent>) {
    if let Some(since) = stored.unreachable_since {
        let missed = stored.was_reachable && !stored.record.draining;
        let has_url = !stored.record.urls.is_empty();
        absent.insert(*hub, Absent { since, missed, has_url });
    } else {
        absent.remove(hub);
    }
    let share = fingerprint(&stored.record.version_of(*hub));
    match (stored.counted, is_shared(stored.unreachable_since, now)) {
        (false, true) => *digest = digest.wrapping_add(share),
        (true, false) => *digest = digest.wrapping_sub(share),
        _ => return,
    }
    stored.counted = !stored.counted;
}

fn is_shared(unreachable_since: Option<Time>, now: Time) -> bool {
    unreachable_since.is_none_or(|at| now.since(at) <= SHARE_UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::record::LinkEntry;
    use super::*;

    fn record(key: u8, version: u64) -> (Id, Record, SignedRecord) {
        let record = Record {
            key: [key; 32],
            epoch: 1,
            version,
            urls: Vec::new(),
            links: Vec::new(),
            networks: Vec::new(),
            more_networks: false,
            max_peers: 3,
            ready: true,
            draining: false,
        };
        (record.hub(), record, SignedRecord::new(&[], &[0; 64]))
    }

    #[test]
    fn hubs_that_never_were_within_reach_soon_make_room_for_others() {
        let mut records = Records::default();
        let mut now = Now::default();
        let (seen, seen_record, signed) = record(1, 1);
        records.store(seen, seen_record, signed, now);
        records.set_reachable(&seen, true, now.mono);
        records.set_reachable(&seen, false, now.mono);
        let mut number = 0u32;
        let mut invent = |records: &mut Records, now| {
            number += 1;
            let (_, mut record, signed) = record(2, 1);
            record.key[..4].copy_from_slice(&number.to_be_bytes());
            records.store(record.hub(), record, signed, now)
        };
        while invent(&mut records, now) == Stores::Discovered {}
        assert_eq!(records.iter().count(), MAX_HUBS);
        now.mono = now.mono + KEEP_UNSEEN;
        assert!(records.expire(now.mono).is_empty() && invent(&mut records, now) == Stores::Full);
        now.mono = now.mono + Duration::from_secs(1);
        assert_eq!(records.expire(now.mono).len(), MAX_HUBS - 1);
        assert_eq!(invent(&mut records, now), Stores::Discovered);
        assert!(records.get(&seen).is_some(), "it may come back");
    }

    /// Two neighbours that would tell each other the same have the same digest,
    /// whatever happened before.
    #[test]
    fn the_digest_is_that_of_the_summary() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut records = Records::default();
        let own = RecordVersion { hub: Id([7; 20]), epoch: 5, version: 6 };
        let (mut now, mut most, mut left_out) = (Now::default(), 0, 0);
        let (mut shape, mut changes, mut same) = (Vec::new(), 0, 0);
        for version in 0..3000 {
            let (hub, mut record, signed) = record(rng.random_range(0..12), version);
            let far_end = |i| LinkEntry { hub: Id([i as u8; 20]), p2p: true };
            record.links = (0..version % 4).map(far_end).collect();
            record.draining = version % 10 == 0;
            match rng.random_range(0..10) {
                0..4 => {
                    records.store(hub, record, signed, now);
                }
                4..8 => {
                    records.set_reachable(&hub, rng.random(), now.mono);
                }
                _ => now.mono = now.mono + Duration::from_secs(rng.random_range(0..400)),
            }
            if rng.random_range(0..1000) == 0 {
                now.mono = now.mono + KEEP_UNREACHABLE;
            }
            records.expire(now.mono);
            let summary = records.summary(own, now.mono);
            let sum = summary.iter().fold(0u64, |sum, version| sum.wrapping_add(fingerprint(version)));
            assert_eq!(records.digest(&own), sum, "after {version} steps");
            let gone = records.iter().filter_map(|(hub, stored)| {
                let missed = stored.was_reachable && !stored.record.draining;
                Some((hub, Absent { since: stored.unreachable_since?, missed, has_url: false }))
            });
            assert!(gone.eq(records.absent().map(|(hub, absent)| (hub, *absent))));
            let held =
                records.iter().map(|(hub, stored)| (stored.record.key, stored.record.version_of(*hub)));
            let versions = records.versions.iter().map(|(key, (version, _))| (*key, *version));
            assert_eq!(versions.collect::<HashMap<_, _>>(), held.collect());
            assert!(records.versions.values().all(|(version, at)| records.by_hub[&version.hub] == *at));
            assert_eq!(records.stored.len(), records.by_hub.len());
            let kept: Vec<String> = records.outlines().iter().map(|it| format!("{it:?}")).collect();
            assert!(kept.into_iter().eq(records.iter().map(|(hub, it)| format!("{:?}", it.outline(*hub)))));
            // Whoever made paths of these may keep them for as long as the number says.
            let outlines = records.outlines();
            let now_shape: Vec<_> = outlines.iter().map(|it| (it.hub, it.links.to_vec())).collect();
            assert!(now_shape == shape || outlines.changes() != changes, "after {version} steps");
            same += usize::from(outlines.changes() == changes);
            (shape, changes) = (now_shape, outlines.changes());
            most = most.max(summary.len());
            left_out = left_out.max(records.iter().count() + 1 - summary.len());
        }
        assert!(most == 13 && left_out > 3 && same > 1000, "{most} {left_out} {same}");
    }
}
