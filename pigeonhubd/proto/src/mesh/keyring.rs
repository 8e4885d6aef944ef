//! The mesh keys that a hub accepts: the current one and, for a while after a
//! change, the one before. So the hubs of a mesh can be given a new key one by
//! one without falling apart.

use std::time::Duration;

use super::identity::MeshKey;
use crate::time::Time;

/// How long the key before is still accepted.
pub const OLD_KEY: Duration = Duration::from_secs(24 * 3600);

/// The keys of one hub.
#[derive(Clone, Debug)]
pub struct Keyring {
    current: MeshKey,
    previous: Option<(MeshKey, Time)>,
}

impl Keyring {
    /// With one key.
    pub fn new(current: MeshKey) -> Self {
        Self { current, previous: None }
    }

    /// Takes a new key. False if it is the current one.
    pub fn change(&mut self, key: MeshKey, now: Time) -> bool {
        if key == self.current {
            return false;
        }
        let before = std::mem::replace(&mut self.current, key);
        self.previous = Some((before, now + OLD_KEY));
        true
    }

    /// A key of an earlier run of this hub counts too, until then.
    pub fn accept(&mut self, before: MeshKey, until: Time) {
        self.previous = Some((before, until)).filter(|(before, _)| *before != self.current);
    }

    /// The keys that count, the current one first.
    pub fn accepted(&self, now: Time) -> impl Iterator<Item = &MeshKey> + Clone {
        let previous = self.previous.iter().filter(move |(_, until)| now < *until).map(|(key, _)| key);
        std::iter::once(&self.current).chain(previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_before_counts_for_a_day() {
        let key = |text: &str| MeshKey::new(text.as_bytes()).expect("a key");
        let (one, two) = (key("0123456789abcdef-one"), key("0123456789abcdef-two"));
        let mut ring = Keyring::new(one.clone());
        assert!(!ring.change(one.clone(), Time(0)));
        assert!(ring.change(two.clone(), Time(0)));
        assert_eq!(ring.accepted(Time(1)).collect::<Vec<_>>(), [&two, &one]);
        assert_eq!(ring.accepted(Time(0) + OLD_KEY).collect::<Vec<_>>(), [&two]);
        ring.accept(one.clone(), Time(5));
        assert_eq!(ring.accepted(Time(4)).collect::<Vec<_>>(), [&two, &one]);
        assert_eq!(ring.accepted(Time(5)).collect::<Vec<_>>(), [&two]);
    }
}
