//! Connections that are not sessions yet: so many, and for a new one an older
//! one has to go: the oldest of the address that has most of them. An honest
//! caller is through in a moment; who is slow on purpose, or comes in floods,
//! keeps only itself waiting.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pigeonhub_proto::io::customer;
use tokio::sync::{Notify, watch};

/// All of them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Handshakes(Arc<Mutex<All>>, watch::Receiver<bool>);

#[derive(Debug, Default)]
struct All {
    /// By address and in the order in which they came; none is empty.
    open: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
    count: usize,
    last: u64,
}

/// One of them; over when dropped.
#[derive(Debug)]
pub struct Handshake {
    all: Handshakes,
    address: IpAddr,
    number: u64,
    cut: Arc<Notify>,
}

impl Handshakes {
    /// None yet. They are to end when `stop` turns true.
    pub(super) fn new(stop: watch::Receiver<bool>) -> Self {
        Self(Arc::default(), stop)
    }

    /// One more; with `most` under way another is cut off.
    pub(super) fn begin(&self, remote: IpAddr, most: usize) -> Handshake {
        let (address, cut) = (customer(remote), Arc::new(Notify::new()));
        let mut all = self.lock();
        if all.count >= most {
            all.cut_one();
        }
        all.last += 1;
        all.count += 1;
        let number = all.last;
        all.open.entry(address).or_default().insert(number, Arc::clone(&cut));
        Handshake { all: self.clone(), address, number, cut }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn cut_one(&mut self) {
        let oldest = |of: &BTreeMap<u64, _>| of.first_key_value().map(|(number, _)| Reverse(*number));
        let most = self.open.iter().max_by_key(|(_, of)| (of.len(), oldest(of)));
        let Some((address, Some(Reverse(number)))) = most.map(|(address, of)| (*address, oldest(of))) else {
            return;
        };
        if let Some(cut) = self.remove(address, number) {
            cut.notify_one();
        }
    }

    fn remove(&mut self, address: IpAddr, number: u64) -> Option<Arc<Notify>> {
        let of = self.open.get_mut(&address)?;
        let cut = of.remove(&number)?;
        if of.is_empty() {
            self.open.remove(&address);
        }
        self.count -= 1;
        Some(cut)
    }
}

impl Handshake {
    /// Waits until a newer one needs the place.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Waits until the hub stops.
    pub async fn stopping(&self) {
        // Without a sender it has stopped.
        let _ = self.all.1.clone().wait_for(|stop| *stop).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().remove(self.address, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn none() -> Handshakes {
        let (_run, stop) = watch::channel(false);
        Handshakes::new(stop)
    }

    fn is_cut(handshake: &Handshake) -> bool {
        handshake.cut().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_that_is_not_over_has_to_go() {
        let all = none();
        let [first, second, third] = std::array::from_fn(|_| all.begin(ip(1), 3));
        drop(second);
        let fourth = all.begin(ip(1), 3);
        assert!(!is_cut(&first), "there is room");
        let fifth = all.begin(ip(1), 3);
        assert!(is_cut(&first) && !is_cut(&third) && !is_cut(&fourth));
        for _ in 0..100 {
            drop(all.begin(ip(1), 3));
        }
        drop((first, third, fourth, fifth));
        let left = all.lock();
        assert_eq!((left.count, left.open.len()), (0, 0));
    }

    #[test]
    fn a_flood_from_one_address_cuts_off_its_own() {
        let all = none();
        let honest: Vec<Handshake> = (1..=4).map(|last| all.begin(ip(last), 10)).collect();
        let flood: Vec<Handshake> = (0..1000).map(|_| all.begin(ip(9), 10)).collect();
        assert!(!honest.iter().any(is_cut));
        assert_eq!(flood.iter().filter(|handshake| is_cut(handshake)).count(), 1000 - 6);
        let late = all.begin(ip(5), 10);
        let _more = all.begin(ip(9), 10);
        assert!(!is_cut(&late));
    }
}
