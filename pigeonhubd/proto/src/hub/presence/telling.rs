//! What other hubs are told of the peers here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::subscribers::Key;
use super::{BATCH, GATHER};
use crate::directory::Home;
use crate::hub::Hub;
use crate::id::Id;
use crate::wire::mesh::{HubMessage, PresenceChange};

impl Hub {
    /// Whether a hub that asked for a network's peers knows of this one what there is to know.
    pub(in crate::hub) fn has_told(&self, hub: Id, network: &Arc<str>, peer: Id) -> bool {
        let change = (Arc::clone(network), peer);
        let topics = [Some(Arc::clone(network)), None];
        let mut asked =
            topics.into_iter().filter_map(|topic| self.presence.subscribers.get(hub, topic)).peekable();
        asked.peek().is_some() && asked.all(|subscriber| !subscriber.changed.contains(&change))
    }

    /// Whether there is anything that some hub has yet to be told.
    pub(in crate::hub) fn is_telling(&self) -> bool {
        self.presence.flush_at.is_some()
    }

    /// If a hub has yet to be told of a peer here, it is told before what follows.
    pub(in crate::hub) fn tell_of_first(&mut self, hub: Id, network: &str, peer: Id) {
        if !self.is_telling() {
            return;
        }
        let network: Arc<str> = Arc::from(network);
        for topic in [Some(Arc::clone(&network)), None] {
            let change = (Arc::clone(&network), peer);
            let subscriber = self.presence.subscribers.get(hub, topic.clone());
            if subscriber.is_some_and(|subscriber| subscriber.changed.contains(&change)) {
                let key = (topic, hub);
                while self.tell_subscriber(&key) {}
            }
        }
    }

    /// A peer here says goodbye to a network: clients are told so, here and at other hubs. At once,
    /// since it may be there again before changes are told the next time.
    pub(in crate::hub) fn say_goodbye(&mut self, network: &str, peer: Id) {
        self.tell_goodbye(network, peer);
        for hub in self.presence.subscribers.hubs_of(network) {
            self.tell_of_first(hub, network, peer);
            self.send_to_hub(hub, &HubMessage::Goodbye { network: network.into(), peer });
        }
    }

    /// A peer of another hub said goodbye. If it is at a third one by now this is old news.
    pub(in crate::hub) fn got_goodbye(&mut self, hub: Id, network: &str, peer: Id) {
        let entry = self.directory.find(network, &peer);
        if entry.is_some_and(|entry| entry.home() == Home::Hub(hub)) {
            self.tell_goodbye(network, peer);
        }
    }

    /// What is to be told is told with the next flush, without gathering more.
    pub(in crate::hub) fn presence_now(&mut self) {
        if self.presence.flush_at.is_some() {
            self.presence.flush_at = Some(self.now.mono);
        }
    }

    /// Tells subscribers what changed, as far as their streams have room.
    pub(in crate::hub) fn flush_presence(&mut self) {
        if self.presence.flush_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        self.presence.flush_at = None;
        for key in self.presence.subscribers.take_due() {
            while self.tell_subscriber(&key) {}
        }
        self.flush_introductions();
    }

    /// One message to one subscriber. True if there is more to tell.
    fn tell_subscriber(&mut self, key: &Key) -> bool {
        let (topic, hub) = key;
        if !self.has_room_for(*hub) {
            self.presence.subscribers.more(key);
            self.presence.flush_at.get_or_insert(self.now.mono + GATHER * 10);
            return false;
        }
        let Some(subscriber) = self.presence.subscribers.get_mut(key) else { return false };
        if subscriber.complete && subscriber.changed.is_empty() {
            // All was told before a signal that could not wait.
            return false;
        }
        let rest = match subscriber.changed.iter().nth(BATCH).cloned() {
            Some(at) => subscriber.changed.split_off(&at),
            None => BTreeSet::new(),
        };
        let told = std::mem::replace(&mut subscriber.changed, rest);
        let more = !subscriber.changed.is_empty();
        let subscription = subscriber.subscription;
        let complete = !more;
        subscriber.complete |= complete;
        let changes = told.iter().map(|(network, peer)| self.change_of(network, *peer)).collect();
        let network = topic.as_deref().map(Into::into);
        let message = HubMessage::Presence { network, subscription, changes, complete };
        let message = crate::wire::mesh::encode(&message);
        self.send_encoded(*hub, message.into());
        more
    }

    fn change_of<'a>(&'a self, network: &'a str, peer: Id) -> PresenceChange<'a> {
        let entry = self.directory.find(network, &peer);
        match (entry, self.directory.own_claim(network, &peer)) {
            (Some(entry), Some(claim)) => PresenceChange::Here {
                peer: entry.peer,
                network: network.into(),
                stamp: claim.stamp,
                legacy: claim.legacy,
                announced_at: claim.announced_at,
                shown: (&*claim.shown).into(),
            },
            _ => PresenceChange::Gone { peer, network: network.into() },
        }
    }
}
