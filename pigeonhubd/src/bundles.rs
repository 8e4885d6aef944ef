//! Signals for other hubs that sessions gather, and the driver takes in bundles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pigeonhub_proto::bundle::Bundle;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::wire::mesh::MeshSignal;
use tokio::sync::Notify;

/// Full bundles that may wait for the driver, for each hub. Beyond that signals go to the driver
/// one by one, whose queue holds their senders up.
const MAX_FULL: usize = 16;

/// Bytes that may wait for the driver, for all hubs together; beyond that likewise.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What waits for the driver, for all hubs.
#[derive(Debug, Default)]
pub struct Bundles {
    /// The driver alone adds and removes.
    hubs: Mutex<HashMap<Id, Arc<ToHub>>>,
    /// Those with something in them.
    ready: Mutex<Vec<Arc<ToHub>>>,
    any: AtomicBool,
    bytes: AtomicUsize,
    wake: Notify,
}

/// What waits for one hub.
#[derive(Debug)]
pub struct ToHub {
    hub: Id,
    // Held for as long as it takes to encode one signal.
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    full: Vec<Bundle>,
    /// Behind those.
    filling: Bundle,
    /// Whether [`Bundles::ready`] has it.
    listed: bool,
}

impl Bundles {
    /// Where sessions gather signals for a hub.
    pub fn for_hub(&self, hub: Id) -> Arc<ToHub> {
        let mut hubs = lock(&self.hubs);
        if let Some(known) = hubs.get(&hub) {
            return Arc::clone(known);
        }
        // Those that no peer is reached by any more.
        hubs.retain(|_, to| Arc::strong_count(to) > 1);
        let new = Arc::new(ToHub { hub, waiting: Mutex::default() });
        hubs.insert(hub, Arc::clone(&new));
        new
    }

    /// Puts a signal behind those that wait for that hub. False if too many do.
    pub fn put(&self, to: &Arc<ToHub>, signal: &MeshSignal<'_>, network: &Arc<str>) -> bool {
        let mut waiting = lock(&to.waiting);
        if waiting.full.len() >= MAX_FULL || self.bytes.load(Ordering::Relaxed) >= MAX_BYTES {
            return false;
        }
        let mut before = waiting.filling.size();
        if let Some(full) = waiting.filling.push(signal, Arc::clone(network)) {
            waiting.full.push(full);
            before = 0;
        }
        self.bytes.fetch_add(waiting.filling.size() - before, Ordering::Relaxed);
        if !std::mem::replace(&mut waiting.listed, true) {
            lock(&self.ready).push(Arc::clone(to));
            self.any.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        true
    }

    /// Returns when something may wait.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }

    /// All that waits, in order for each hub.
    pub fn take(&self) -> Vec<(Id, Bundle)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.any.store(false, Ordering::Relaxed);
        let ready = std::mem::take(&mut *lock(&self.ready));
        let mut all = Vec::new();
        for to in ready {
            let mut waiting = lock(&to.waiting);
            waiting.listed = false;
            all.extend(waiting.full.drain(..).map(|bundle| (to.hub, bundle)));
            all.push((to.hub, waiting.filling.take()));
        }
        let bytes = all.iter().map(|(_, bundle)| bundle.size()).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        all
    }

    /// Strikes out what a peer sent in a network.
    pub fn strike(&self, from: &Id, network: &str) {
        let ready = lock(&self.ready).clone();
        for to in ready {
            let Waiting { full, filling, .. } = &mut *lock(&to.waiting);
            for bundle in full.iter_mut().chain([filling]) {
                let before = bundle.size();
                bundle.strike(from, network);
                self.bytes.fetch_sub(before - bundle.size(), Ordering::Relaxed);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use pigeonhub_proto::bundle::MAX_BYTES;
    use pigeonhub_proto::wire::SignalKind;

    use super::*;

    fn put(bundles: &Bundles, to: &Arc<ToHub>, from: u8, data: &str) -> bool {
        let from = Id([from; 20]).into();
        let (kind, target) = (SignalKind::Offer, Id([0; 20]).into());
        let signal =
            MeshSignal { kind, network: "n".into(), from, target, stamp: 1, data: Some(data.into()) };
        bundles.put(to, &signal, &Arc::from("n"))
    }

    /// How many signals wait for each hub.
    fn taken(bundles: &Bundles) -> Vec<(Id, usize)> {
        bundles.take().into_iter().map(|(hub, bundle)| (hub, bundle.len())).collect()
    }

    #[test]
    fn no_more_waits_for_a_hub_than_may() {
        let bundles = Bundles::default();
        let (near, far) = (bundles.for_hub(Id([1; 20])), bundles.for_hub(Id([2; 20])));
        let large = "7".repeat(MAX_BYTES);
        let most = (0..100).take_while(|_| put(&bundles, &near, 3, &large)).count();
        assert_eq!(most, MAX_FULL + 1);
        assert!(put(&bundles, &far, 3, "1"), "another hub has room of its own");
        let waiting = taken(&bundles);
        assert_eq!(waiting.iter().filter(|waiting| **waiting == (Id([1; 20]), 1)).count(), most);
        assert!(waiting.contains(&(Id([2; 20]), 1)));
        assert!(put(&bundles, &near, 3, &large), "there is room again");
    }

    #[test]
    fn no_more_waits_for_all_hubs_than_may() {
        let bundles = Bundles::default();
        let large = "7".repeat(super::MAX_BYTES / 64);
        let hubs: Vec<_> = (0..100).map(|hub| bundles.for_hub(Id([hub; 20]))).collect();
        for _ in 0..2 {
            let most = hubs.iter().take_while(|to| put(&bundles, to, 3, &large)).count();
            assert_eq!(most, 64);
            assert!(!put(&bundles, &hubs[99], 4, "1"), "nor a small one");
            bundles.strike(&Id([3; 20]), "n");
            assert_eq!(bundles.bytes.load(Ordering::Relaxed), 0);
            assert!(put(&bundles, &hubs[99], 3, &large), "there is room again");
            bundles.take();
            assert_eq!(bundles.bytes.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn the_driver_is_woken_once_for_what_it_takes_at_once() {
        let bundles = Bundles::default();
        let to = bundles.for_hub(Id([1; 20]));
        for _ in 0..2 {
            assert!(bundles.wait().now_or_never().is_none());
            assert!(put(&bundles, &to, 3, "1") && put(&bundles, &to, 4, "2"));
            assert!(bundles.wait().now_or_never().is_some());
            assert_eq!((taken(&bundles), taken(&bundles)), (vec![(Id([1; 20]), 2)], vec![]));
        }
    }

    #[test]
    fn what_one_peer_sent_is_struck_out_wherever_it_waits() {
        let bundles = Bundles::default();
        let hubs = [1, 2].map(|hub| bundles.for_hub(Id([hub; 20])));
        for to in &hubs {
            let large = "7".repeat(MAX_BYTES);
            assert!(
                put(&bundles, to, 3, &large) && put(&bundles, to, 4, &large) && put(&bundles, to, 3, "1")
            );
        }
        bundles.strike(&Id([3; 20]), "n");
        let left: usize = taken(&bundles).iter().map(|(_, count)| count).sum();
        assert_eq!(left, 2);
    }

    #[test]
    fn hubs_that_nobody_is_reached_by_are_forgotten() {
        let bundles = Bundles::default();
        let kept = bundles.for_hub(Id([1; 20]));
        (2..100).for_each(|hub| drop(bundles.for_hub(Id([hub; 20]))));
        assert!(lock(&bundles.hubs).len() <= 2);
        assert!(Arc::ptr_eq(&kept, &bundles.for_hub(Id([1; 20]))));
    }
}
