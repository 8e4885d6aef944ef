//! The last events, kept for whoever asks, and told to whoever follows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pigeonhub_proto::control::EventInfo;
use pigeonhub_proto::event::{KEPT, Kind};
use serde_json::{Map, Value};
use tokio::sync::broadcast;

/// Events that a follower may be behind; what it missed shows in their numbers.
const BEHIND: usize = 1024;

/// The last events.
#[derive(Debug)]
pub struct Events {
    // Held for a push or a copy only, never across an await.
    ring: Mutex<Ring>,
    news: broadcast::Sender<Arc<EventInfo>>,
}

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    kept: BTreeMap<Kind, VecDeque<Arc<EventInfo>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }
}

impl Events {
    /// One more. `at` is milliseconds since the Unix epoch.
    pub fn push(&self, event: String, fields: Map<String, Value>, at: u64) {
        let mut ring = self.lock();
        ring.last += 1;
        let info = Arc::new(EventInfo { number: ring.last, at, event, fields });
        let kept = ring.kept.entry(Kind::of(&info.event)).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&info));
        // Nobody may be following.
        let _ = self.news.send(info);
    }

    /// One more, of now.
    pub fn tell(&self, event: &str, fields: Map<String, Value>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.push(event.to_owned(), fields, at);
    }

    /// Those after number `since` whose names are in `types`, or all if that is empty.
    pub fn since(&self, since: u64, types: &[String]) -> Vec<EventInfo> {
        Self::select(&self.lock(), since, types)
    }

    /// As [`Self::since`], and all that come from then on, of every type.
    pub fn follow(
        &self,
        since: u64,
        types: &[String],
    ) -> (Vec<EventInfo>, broadcast::Receiver<Arc<EventInfo>>) {
        let ring = self.lock();
        (Self::select(&ring, since, types), self.news.subscribe())
    }

    fn select(ring: &Ring, since: u64, types: &[String]) -> Vec<EventInfo> {
        let kept = ring.kept.values().flatten().filter(|info| info.number > since && wanted(info, types));
        let mut kept: Vec<EventInfo> = kept.map(|info| EventInfo::clone(info)).collect();
        kept.sort_unstable_by_key(|info| info.number);
        kept
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here panics half-way, so a poisoned ring is a whole one.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody who asked for `types` wants it.
pub fn wanted(info: &EventInfo, types: &[String]) -> bool {
    types.is_empty() || types.iter().any(|name| name.eq_ignore_ascii_case(&info.event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_and_followers_miss_none() {
        let events = Events::default();
        for i in 0..KEPT as u64 + 5 {
            events.push(String::from(if i % 2 == 0 { "even" } else { "odd" }), Map::new(), i);
        }
        let all = events.since(0, &[]);
        assert_eq!((all.len(), all.first().map(|info| info.number)), (KEPT, Some(6)));
        assert_eq!(events.since(1000, &[String::from("EVEN")]).len(), 3, "1001, 1003 and 1005");
        let (before, mut news) = events.follow(1004, &[]);
        assert_eq!(before.len(), 1);
        events.push(String::from("last"), Map::new(), 0);
        assert_eq!(news.try_recv().map(|info| info.number).ok(), Some(1006));
    }

    #[test]
    fn however_many_clients_come_and_go_what_the_mesh_did_is_kept() {
        let events = Events::default();
        events.push(String::from("hubMeshReady"), Map::new(), 0);
        for i in 0..3 * KEPT as u64 {
            events.push(String::from("peerConnected"), Map::new(), i);
            events.push(String::from("refused"), Map::new(), i);
        }
        events.push(String::from("hubMeshDegraded"), Map::new(), 0);
        let all = events.since(0, &[]);
        assert_eq!(all.len(), 2 + 2 * KEPT);
        assert!(all.is_sorted_by_key(|info| info.number));
        let ends = [all.first(), all.last()].map(|info| info.map(|info| info.event.as_str()));
        assert_eq!(ends, [Some("hubMeshReady"), Some("hubMeshDegraded")]);
    }
}
