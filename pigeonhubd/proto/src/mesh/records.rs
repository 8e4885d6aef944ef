//! The records that a hub has, and what two neighbours must tell each other
//! so that both have the same.
//!
//! Reconciliation by version, each hub the only writer of its own record:
//! van Renesse, Dumitriu, Gough and Thomas, "Efficient Reconciliation and Flow
//! Control for Anti-Entropy Protocols", LADIS 2008.

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::{Record, SignedRecord};
use crate::id::Id;
use crate::time::{Now, Time};
use crate::wire::mesh::RecordVersion;

/// Hubs whose records are kept; those of further ones are refused.
pub const MAX_HUBS: usize = 4096;
/// How long the record of a hub out of reach is kept, to find it again.
pub const KEEP_UNREACHABLE: Duration = Duration::from_secs(24 * 3600);
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
}

/// All records of other hubs, by hub. This hub's own is kept by its owner.
#[derive(Debug, Default)]
pub struct Records {
    stored: BTreeMap<Id, Stored>,
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
        self.stored.get(hub)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&Id, &Stored)> {
        self.stored.iter()
    }

    /// Whether `version` is newer than what is here.
    pub fn is_news(&self, version: &RecordVersion) -> bool {
        self.stored.get(&version.hub).is_none_or(|stored| {
            (version.epoch, version.version) > (stored.record.epoch, stored.record.version)
        })
    }

    /// Keeps a record that [is news](Self::is_news) and whose signature holds.
    pub fn store(&mut self, hub: Id, record: Record, signed: SignedRecord, now: Now) -> Stores {
        if !self.stored.contains_key(&hub) && self.stored.len() >= MAX_HUBS {
            return Stores::Full;
        }
        let added = fingerprint(&record.version_of(hub));
        let Some(stored) = self.stored.get_mut(&hub) else {
            // Out of reach until a path to it is known.
            let (unreachable_since, was_reachable) = (Some(now.mono), false);
            let (registered_at, last_activity) = (now.unix_ms, now.unix_ms);
            let stored =
                Stored { record, signed, registered_at, last_activity, unreachable_since, was_reachable };
            self.stored.insert(hub, stored);
            self.digest = self.digest.wrapping_add(added);
            return Stores::Discovered;
        };
        let removed = fingerprint(&stored.record.version_of(hub));
        let restarted = record.epoch != stored.record.epoch;
        stored.record = record;
        stored.signed = signed;
        stored.last_activity = now.unix_ms;
        if shared(stored, now.mono) {
            self.digest = self.digest.wrapping_sub(removed).wrapping_add(added);
        }
        if restarted { Stores::Restarted } else { Stores::Changed }
    }

    /// Notes whether a hub is within reach. True if that is a change.
    pub fn set_reachable(&mut self, hub: &Id, reachable: bool, now: Time) -> bool {
        let Some(stored) = self.stored.get_mut(hub) else { return false };
        if stored.unreachable_since.is_none() == reachable {
            return false;
        }
        stored.unreachable_since = (!reachable).then_some(now);
        stored.was_reachable = true;
        self.recount(now);
        true
    }

    /// Forgets hubs long out of reach and stops sharing those out of reach for
    /// a while. To be called now and then.
    pub fn expire(&mut self, now: Time) -> Vec<Id> {
        let gone: Vec<Id> = self
            .stored
            .iter()
            .filter(|(_, stored)| stored.unreachable_since.is_some_and(|at| now.since(at) > KEEP_UNREACHABLE))
            .map(|(hub, _)| *hub)
            .collect();
        for hub in &gone {
            self.stored.remove(hub);
        }
        self.recount(now);
        gone
    }

    fn recount(&mut self, now: Time) {
        self.digest = self
            .stored
            .iter()
            .filter(|(_, stored)| shared(stored, now))
            .fold(0, |sum, (hub, stored)| sum.wrapping_add(fingerprint(&stored.record.version_of(*hub))));
    }

    /// Stands for all records here and `own`.
    pub fn digest(&self, own: &RecordVersion) -> u64 {
        self.digest.wrapping_add(fingerprint(own))
    }

    /// What this hub has, for a neighbour to compare with.
    pub fn summary(&self, own: RecordVersion, now: Time) -> Vec<RecordVersion> {
        let mut summary: Vec<RecordVersion> = self
            .stored
            .iter()
            .filter(|(_, stored)| shared(stored, now))
            .map(|(hub, stored)| stored.record.version_of(*hub))
            .collect();
        summary.push(own);
        summary
    }

    /// The records that a neighbour with that summary lacks.
    pub fn lacking(&self, summary: &[RecordVersion], now: Time) -> Vec<Id> {
        let theirs: BTreeMap<Id, (u64, u64)> =
            summary.iter().map(|version| (version.hub, (version.epoch, version.version))).collect();
        self.stored
            .iter()
            .filter(|(_, stored)| shared(stored, now))
            .filter(|(hub, stored)| {
                theirs.get(hub).is_none_or(|theirs| *theirs < (stored.record.epoch, stored.record.version))
            })
            .map(|(hub, _)| *hub)
            .collect()
    }
}

fn shared(stored: &Stored, now: Time) -> bool {
    stored.unreachable_since.is_none_or(|at| now.since(at) <= SHARE_UNREACHABLE)
}
