//! The hubs of the mesh that an earlier run of this one was in.
//!
//! A hub that crashed and is back dials them beside its bootstraps. Else one
//! that has none, because it is the bootstrap of the others, would wait until
//! they notice. They are dialled a few times and then left in peace, for they
//! may be gone, or the hub may have moved to another mesh.

use std::time::Duration;

use super::Purpose;
use crate::hub::Hub;
use crate::mesh::record::MAX_URL;
use crate::time::Time;

/// URLs that are remembered.
const MOST: usize = 16;
/// Dials of one of them.
const TRIES: u32 = 4;
/// The first pause between two; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Dials at once: one that answers is enough, so they need not all.
const AT_ONCE: usize = 4;

/// A URL that is yet to be dialled.
#[derive(Debug)]
pub(super) struct Remembered {
    url: String,
    at: Time,
    tries: u32,
}

impl Hub {
    /// What [`Self::urls_to_remember`] said in an earlier run of this hub, in
    /// the same namespace. To be told before the first input. Of more than 16
    /// the rest is not dialled, nor is what a record could not hold.
    pub fn remember(&mut self, urls: impl IntoIterator<Item = String>) {
        if !self.settings.auto_connect || !self.settings.hub_enabled {
            return;
        }
        let bootstraps = &self.settings.bootstrap_hubs;
        let fresh = urls.into_iter().filter(|url| url.len() <= MAX_URL && !bootstraps.contains(url));
        let at = self.now.mono;
        self.joining.remembered = fresh.take(MOST).map(|url| Remembered { url, at, tries: 0 }).collect();
    }

    /// One URL of each hub within reach, the neighbours first, at most 16; the
    /// same in the same mesh. None while there is no other hub.
    pub fn urls_to_remember(&self) -> Vec<String> {
        let mut hubs: Vec<_> = self
            .gossip
            .records
            .iter()
            .filter(|(_, stored)| stored.unreachable_since.is_none() && !stored.record.draining)
            .filter_map(|(hub, stored)| Some((hub, stored.record.urls.first()?)))
            .collect();
        hubs.sort_by_cached_key(|(hub, _)| (self.links.to(hub).is_none(), **hub));
        hubs.into_iter().take(MOST).map(|(_, url)| url.clone()).collect()
    }

    /// Dials those that are due. Whoever is within reach already is left in peace.
    pub(super) fn dial_remembered(&mut self) {
        let now = self.now.mono;
        if self.joining.remembered.is_empty() {
            return;
        }
        let records = &self.gossip.records;
        let within_reach = |url: &String| {
            records.iter().any(|(_, it)| it.unreachable_since.is_none() && it.record.urls.contains(url))
        };
        self.joining.remembered.retain(|it| it.tries < TRIES && !within_reach(&it.url));
        let mut room = AT_ONCE.saturating_sub(self.joining.dials_of(Purpose::Remembered));
        let mut due = Vec::new();
        for remembered in &mut self.joining.remembered {
            if remembered.at <= now && room > 0 {
                room -= 1;
                // Longer than the dial takes, in most cases; two at once do no harm.
                remembered.at = now + PAUSE.saturating_mul(2u32.saturating_pow(remembered.tries));
                remembered.tries += 1;
                due.push(remembered.url.clone());
            }
        }
        for url in due {
            self.dial(Purpose::Remembered, &url);
        }
    }

    /// Whoever answers there does not want this hub, or is none of its mesh.
    pub(super) fn forget_remembered(&mut self, url: &str) {
        self.joining.remembered.retain(|it| it.url != url);
    }
}
