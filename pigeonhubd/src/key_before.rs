//! The mesh key before, kept in the state folder: a hub that was given another key is one of its
//! mesh for a day more, also if it restarts, until the other hubs have the new one.
//!
//! A key that systemd hands over as a credential is not kept: it may be encrypted where it lies. For
//! such a one the unit hands over the key before as a second credential.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pigeonhub_proto::mesh::identity::MeshKey;
use pigeonhub_proto::mesh::keyring::OLD_KEY;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::remembered;

/// The file in the state folder.
const FILE: &str = "mesh-keys.json";

/// What the file says. Keys are as hubs use them, which is not how they are written in key files.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The key in use, unless it may not be kept.
    current: Option<[u8; 32]>,
    /// The key before it.
    before: Option<[u8; 32]>,
    /// Until when that one counts, in ms since the Unix epoch.
    until: u64,
}

impl Kept {
    /// As it is when `key` is in use at `now`.
    fn followed_by(self, key: &MeshKey, now: u64) -> Self {
        let current = Some(key.to_bytes());
        if self.current.is_some() && self.current != current {
            return Self { current, before: self.current, until: now.saturating_add(millis(OLD_KEY)) };
        }
        let before = self.before.filter(|before| self.until > now && Some(*before) != current);
        Self { current, before, until: self.until }
    }

    /// The key before, and how long it counts. No clock that was wrong makes it count longer than from now.
    fn before(&self, now: u64) -> Option<(MeshKey, Duration)> {
        let left = Duration::from_millis(self.until.checked_sub(now)?).min(OLD_KEY);
        self.before.map(|before| (MeshKey::from_bytes(before), left))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps the file.
#[derive(Clone, Debug)]
pub struct KeyBefore {
    dir: PathBuf,
    /// Whether keys may be kept there.
    may: bool,
}

impl KeyBefore {
    /// In the state folder `dir`.
    pub fn new(dir: &Path, may: bool) -> Self {
        Self { dir: dir.to_owned(), may }
    }

    /// This key is in use from now on, in ms since the Unix epoch. Returns the one before, and how
    /// long it still counts. Without the file there is none, and that is all.
    pub fn in_use(&self, key: &MeshKey, now: u64) -> Option<(MeshKey, Duration)> {
        if !self.may {
            return None;
        }
        let path = self.dir.join(FILE);
        let kept: Kept = remembered::read(&path)
            .unwrap_or_else(|error| {
                warn!(
                    "{}: {error}; no mesh key before is known, and it will be written anew",
                    path.display()
                );
                None
            })
            .unwrap_or_default();
        let was = (kept.current, kept.before, kept.until);
        let kept = kept.followed_by(key, now);
        if was != (kept.current, kept.before, kept.until) {
            let text = serde_json::to_vec(&kept).unwrap_or_default();
            if let Err(error) = remembered::write(&path, &text) {
                warn!(
                    "{}: cannot be written: {error}; after a restart no mesh key before is known",
                    path.display()
                );
            }
        }
        kept.before(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    const HOUR: u64 = 3_600_000;

    fn key(text: &str) -> MeshKey {
        MeshKey::new(text.repeat(16).as_bytes()).expect("long enough")
    }

    #[test]
    fn the_key_before_counts_for_a_day_whether_or_not_the_hub_restarts() {
        let dir = TestDir::new();
        let keys = KeyBefore::new(&dir, true);
        let (one, two) = (key("1"), key("2"));
        assert_eq!(keys.in_use(&one, 0), None);
        assert_eq!(keys.in_use(&two, HOUR), Some((one.clone(), OLD_KEY)));
        // Another run.
        let keys = KeyBefore::new(&dir, true);
        assert_eq!(keys.in_use(&two, 2 * HOUR), Some((one.clone(), OLD_KEY - Duration::from_secs(3600))));
        assert_eq!(keys.in_use(&two, 25 * HOUR), None);
        assert_eq!(keys.in_use(&two, HOUR), None, "it was over, and is not there any more");
        // Back again.
        assert_eq!(keys.in_use(&one, 26 * HOUR), Some((two, OLD_KEY)));
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_key_count_for_more_than_a_day() {
        let dir = TestDir::new();
        let keys = KeyBefore::new(&dir, true);
        keys.in_use(&key("1"), 1000 * HOUR);
        keys.in_use(&key("2"), 1000 * HOUR);
        assert_eq!(keys.in_use(&key("2"), HOUR), Some((key("1"), OLD_KEY)));
    }

    #[test]
    fn a_damaged_file_and_keys_that_may_not_be_kept_are_no_harm() {
        let dir = TestDir::new();
        std::fs::write(dir.join(FILE), "{\"current\": [1]}").expect("a file");
        assert_eq!(KeyBefore::new(&dir, false).in_use(&key("1"), 0), None);
        assert_eq!(KeyBefore::new(&dir, true).in_use(&key("1"), 0), None);
        assert_eq!(KeyBefore::new(&dir, true).in_use(&key("2"), 1), Some((key("1"), OLD_KEY)));
    }
}
