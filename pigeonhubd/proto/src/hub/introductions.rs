//! Introductions that another hub is to make, and those to be made once more.
//!
//! In large networks a hub chooses pairs, and the other one does not choose
//! the same by itself. Changes of presence are gathered before they are told,
//! and an introduction of a peer that the other hub has yet to hear of would
//! come to nothing: only one of the two would know of the other. So
//! introductions wait for that.
//!
//! A peer that moves, or is back at once, is told of the others by its hub as
//! soon as it announces itself. Another hub may hear only after that that the
//! peer has left where it was before, and then that it is back. Clients there
//! hang up on it, while the peer itself takes them for met. So that hub asks
//! for it to be told of them once more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use crate::directory::{EntryKey, Home};
use crate::id::Id;
use crate::time::Time;
use crate::wire::mesh::{HubMessage, PresenceChange};

/// Peers and hubs for which introductions wait; further ones are not made.
const MAX_WAITING: usize = 4096;
/// Peers remembered of whom clients here were told that they left; the oldest go.
const MAX_LEFT: usize = 4096;
/// How long they are remembered: longer than it takes to give a stream up and begin it anew.
const REMEMBER: Duration = Duration::from_secs(600);

/// A peer in a network.
type Place = (Arc<str>, Id);

/// Introductions that wait, and what tells which are to be made once more.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    /// Peers of other hubs that are to be told of one here: by their hub, network
    /// and whom they are to be told of. Each as many as one peer may meet.
    waiting: BTreeMap<(Id, Arc<str>, Id), BTreeSet<Id>>,
    /// When clients here were last told that a peer had left.
    left: BTreeMap<Place, Time>,
    /// The same in the order of time, with earlier times of the same peers.
    order: VecDeque<(Time, Place)>,
}

impl Introductions {
    /// A hub is gone, and its peers with it.
    pub(super) fn forget(&mut self, hub: Id) {
        self.waiting.retain(|(of, _, _), _| *of != hub);
    }

    /// Clients here are told that a peer has left.
    pub(super) fn told_gone(&mut self, network: &Arc<str>, peer: Id, now: Time) {
        let place = (Arc::clone(network), peer);
        self.left.insert(place.clone(), now);
        self.order.push_back((now, place));
        while let Some((at, _)) = self.order.front()
            && (self.order.len() > MAX_LEFT || now.since(*at) > REMEMBER)
        {
            let Some((at, place)) = self.order.pop_front() else { return };
            if self.left.get(&place) == Some(&at) {
                self.left.remove(&place);
            }
        }
    }

    /// How many peers are remembered of whom clients were told that they left.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.left.len().max(self.order.len())
    }

    /// How long ago they were told so of one that is back. Kept, since the
    /// stream that carries word of it may be given up.
    fn back(&self, network: &Arc<str>, peer: Id, now: Time) -> Option<Duration> {
        let at = self.left.get(&(Arc::clone(network), peer))?;
        Some(now.since(*at)).filter(|ago| *ago <= REMEMBER)
    }
}

impl Hub {
    /// `hub` is to introduce `peer`, who is here, to its peers `to`.
    pub(super) fn introduce_at(&mut self, hub: Id, network: &Arc<str>, peer: Id, to: Vec<Id>) {
        let (waiting, key) = (&mut self.introductions.waiting, (hub, Arc::clone(network), peer));
        if waiting.len() < MAX_WAITING || waiting.contains_key(&key) {
            waiting.entry(key).or_default().extend(to);
            self.presence_soon();
        }
    }

    /// Sends the introductions of those whom the other hub was told of.
    pub(super) fn flush_introductions(&mut self) {
        for ((hub, network, peer), to) in std::mem::take(&mut self.introductions.waiting) {
            if self.directory.own_claim(&network, &peer).is_none() {
                continue;
            }
            if self.has_told(hub, &network, peer) && self.has_room_for(hub) {
                let to = to.into_iter().collect();
                self.send_to_hub(hub, &HubMessage::Introduce { network: (&*network).into(), peer, to });
            } else {
                // The flush that tells of the peer comes by here again.
                self.introductions.waiting.insert((hub, network, peer), to);
            }
        }
    }

    /// Whether `hub` tells of a peer that others were told had left. In a list of
    /// all, one that it told of before counts too: word of it may have been lost
    /// with the stream before.
    pub(super) fn perhaps_back(&self, hub: Id, change: &PresenceChange<'_>, listing: bool) -> Option<Place> {
        let PresenceChange::Here { peer, network, .. } = change else { return None };
        if self.introductions.left.is_empty()
            // One that is known to be elsewhere has moved on since it was back: then this hub is to hear of it.
            || (!listing && self.directory.is_claimed(network, &peer.id, Home::Hub(hub)))
        {
            return None;
        }
        let place = (Arc::from(&**network), peer.id);
        self.introductions.left.contains_key(&place).then_some(place)
    }

    /// `hub` told of a peer of its own that others here were told had left.
    pub(super) fn perhaps_introduce_back(&mut self, hub: Id, network: &str, peer: Id) {
        let Some(key) = self.directory.key(network, &peer) else { return };
        let entry = self.directory.get(key).filter(|entry| entry.home() == Home::Hub(hub));
        let Some(met) = entry.map(|entry| entry.met.clone()) else { return };
        self.introduce_back(key, &met);
    }

    /// If peers here were told that one of another hub had left, that hub is to
    /// tell it of those that have met it again.
    pub(super) fn introduce_back(&mut self, peer: EntryKey, met: &[EntryKey]) {
        let Some(entry) = self.directory.get(peer) else { return };
        let Home::Hub(hub) = entry.home() else { return };
        let (network, peer) = (Arc::clone(&entry.network), entry.peer.id);
        let Some(ago) = self.introductions.back(&network, peer, self.now.mono) else { return };
        let met = met.iter().filter_map(|met| self.directory.get(*met));
        let to: Vec<Id> = met.map(|entry| entry.peer.id).collect();
        if !to.is_empty() {
            let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            self.send_to_hub(hub, &HubMessage::Back { network: (&*network).into(), peer, to, ago_ms });
        }
    }

    /// Another hub had told its clients `to`, so long ago, that a peer here had left.
    pub(super) fn got_back(&mut self, network: &str, peer: Id, to: &[Id], ago_ms: u64) {
        let Some(claim) = self.directory.own_claim(network, &peer) else { return };
        // Whoever announced itself later than that was told of nobody before.
        if self.now.mono.since(claim.since) < Duration::from_millis(ago_ms) {
            return;
        }
        let Some(key) = self.directory.key(network, &peer) else { return };
        let to: BTreeSet<EntryKey> = to.iter().filter_map(|id| self.directory.key(network, id)).collect();
        let met = self.directory.get(key).map(|entry| entry.met.clone()).unwrap_or_default();
        for other in met.into_iter().filter(|other| to.contains(other)) {
            self.tell_of(key, other);
        }
    }
}
