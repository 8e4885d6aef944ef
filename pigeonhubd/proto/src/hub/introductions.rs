//! Introductions that another hub is to make.
//!
//! In large networks a hub chooses pairs, and the other one does not choose
//! the same by itself. Changes of presence are gathered before they are told,
//! and an introduction of a peer that the other hub has yet to hear of would
//! come to nothing: only one of the two would know of the other. So
//! introductions wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Hub;
use crate::id::Id;
use crate::wire::mesh::HubMessage;

/// Peers and hubs for which introductions wait; further ones are not made.
const MAX_WAITING: usize = 4096;

/// Introductions that wait.
#[derive(Debug, Default)]
pub(super) struct Introductions {
    /// Peers of other hubs that are to be told of one here: by their hub, network
    /// and whom they are to be told of. Each as many as one peer may meet.
    waiting: BTreeMap<(Id, Arc<str>, Id), BTreeSet<Id>>,
}

impl Introductions {
    /// A hub is gone, and its peers with it.
    pub(super) fn forget(&mut self, hub: Id) {
        self.waiting.retain(|(of, _, _), _| *of != hub);
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
}
