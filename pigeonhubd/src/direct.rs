//! Signals that one session hands to another, or puts into a bundle for another
//! hub, without the driver. The rules, and why the order holds, are in
//! [`pigeonhub_proto::direct`].
//!
//! The driver alone writes who is where, as the hub says; sessions read it.
//! Locks are taken in one order: a session's own standing, a shard of
//! [`Sessions`], the target's outbox or what waits for its hub.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use pigeonhub_proto::direct::Direct;
use pigeonhub_proto::directory::Place;
use pigeonhub_proto::id::{Id, Spelled};
use pigeonhub_proto::time::{Now, Time};
use pigeonhub_proto::wire::reply;

use crate::bundles::{Bundles, ToHub};
use crate::outbox::Outbox;

/// How announced peers are reached, by their network's number and their id. As
/// many as the hub knows, which it limits.
#[derive(Debug, Default)]
pub struct Sessions {
    targets: DashMap<(u64, Id), Target>,
    bundles: Bundles,
}

#[derive(Debug)]
enum Target {
    Session { outbox: Arc<Outbox>, peer: Spelled },
    Hub { to: Arc<ToHub>, stamp: u64 },
}

impl Sessions {
    /// A peer's session may take part from now on.
    pub fn enter(&self, place: Place, outbox: &Arc<Outbox>) {
        let target = Target::Session { outbox: Arc::clone(outbox), peer: place.peer };
        self.targets.insert((place.number, place.peer.id), target);
        let mut places = outbox.standing.places();
        // Most have one, and there are many.
        places.reserve_exact(1);
        places.push(place);
    }

    /// From now on signals for a peer may go into bundles for its hub. `stamp`: its announcement
    /// that counts.
    pub fn enter_elsewhere(&self, place: &Place, hub: Id, stamp: u64) {
        let target = Target::Hub { to: self.bundles.for_hub(hub), stamp };
        self.targets.insert((place.number, place.peer.id), target);
    }

    /// From now on no longer. When this returns, none of its signals is still on
    /// its way to another session here, or waits in a bundle for another hub.
    pub fn leave(&self, place: &Place) {
        let left = self.targets.remove(&(place.number, place.peer.id));
        let Some((_, Target::Session { outbox, .. })) = left else { return };
        let mut places = outbox.standing.places();
        places.retain(|other| other.number != place.number);
        places.shrink_to_fit();
        drop(places);
        self.bundles.strike(&place.peer.id, &place.network);
    }

    /// What waits for other hubs.
    pub fn bundles(&self) -> &Bundles {
        &self.bundles
    }
}

/// What was done without the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// A ping was answered with so many bytes.
    Answered(usize),
    /// A signal went straight to its target, in so many bytes.
    Signal(usize),
    /// A signal waits in a bundle for its target's hub.
    Bundled,
}

/// What one session may do by itself.
#[derive(Debug, Default)]
pub struct Standing {
    /// Messages of this session that the driver is not done with.
    waiting: AtomicUsize,
    places: Mutex<Vec<Place>>,
}

impl Standing {
    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message of this session to its target's, or to a bundle for its target's
    /// hub, if it is a signal that may go there, or answers a ping. `own`: this session's outbox.
    /// Without an answer the message is the driver's, as is whatever overfills the target's
    /// outbox or its hub's bundles: then the queue of the driver holds its senders up.
    pub fn hand_over(
        &self,
        message: &str,
        own: &Outbox,
        sessions: &Sessions,
        unix_ms: u64,
    ) -> Option<Handed> {
        // Its other half is in `Turn`: what the driver did before is seen here.
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        // Held to the end, for the sake of `Sessions::leave`.
        let places = self.places();
        let peer = places.first()?.peer;
        let signal = match Direct::parse(message, &peer.id)? {
            Direct::Signal(signal) => signal,
            Direct::Ping => {
                let pong = reply::pong(peer, Now { mono: Time(0), unix_ms });
                own.push_direct(&[pong.as_bytes()]).ok()?;
                return Some(Handed::Answered(pong.len()));
            }
        };
        let own = places.iter().find(|place| *place.network == *signal.network())?;
        let target = sessions.targets.get(&(own.number, signal.target()))?;
        match &*target {
            Target::Session { outbox, peer } => {
                let text = signal.text(own.peer, *peer, unix_ms);
                let parts = text.parts();
                outbox.push_direct(&parts).ok()?;
                Some(Handed::Signal(parts.iter().map(|part| part.len()).sum()))
            }
            Target::Hub { to, stamp } => {
                let signal = signal.for_hub(own.peer, *stamp);
                sessions.bundles.put(to, &signal, &own.network).then_some(Handed::Bundled)
            }
        }
    }
}

/// A message's turn at the driver: until it is dropped, those behind it wait
/// for the driver too.
#[derive(Debug)]
pub struct Turn(Arc<Outbox>);

impl Turn {
    /// For the next message of the session with that outbox.
    pub fn new(outbox: &Arc<Outbox>) -> Self {
        outbox.standing.waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(outbox))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.standing.waiting.fetch_sub(1, Ordering::Release);
    }
}
