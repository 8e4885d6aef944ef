//! Which hubs asked for which networks' peers, and what they have yet to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Topic;
use crate::id::Id;
use crate::time::Time;

/// Subscriptions that one hub may hold here; further ones are not answered.
const MAX_OF_ONE: usize = 16_384;
/// Subscriptions of all hubs together.
const MAX_OF_ALL: usize = 262_144;

/// What another hub asked of this one.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) subscription: u32,
    pub(super) asked_at: Time,
    /// Changes to tell.
    pub(super) changed: BTreeSet<(Arc<str>, Id)>,
    /// The first full list was sent.
    pub(super) complete: bool,
}

/// A topic and the hub that asked for it.
pub(super) type Key = (Topic, Id);

/// The keys of one topic.
fn every_hub(topic: Topic) -> RangeInclusive<Key> {
    (topic.clone(), Id([0; 20]))..=(topic, Id([0xff; 20]))
}

/// All subscribers: by topic, so that one change is told without a look at the others.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    all: BTreeMap<Key, Subscriber>,
    /// Those with something to tell.
    due: BTreeSet<Key>,
    /// How many each hub has.
    held: BTreeMap<Id, usize>,
}

impl Subscribers {
    /// The hubs that asked for something.
    pub(super) fn hubs(&self) -> impl Iterator<Item = &Id> {
        self.held.keys()
    }

    /// The hubs that are told of a network's peers.
    pub(super) fn hubs_of(&self, network: &str) -> BTreeSet<Id> {
        let topics = [Some(Arc::from(network)), None];
        let keys = topics.into_iter().flat_map(|topic| self.all.range(every_hub(topic)));
        keys.map(|((_, hub), _)| *hub).collect()
    }

    pub(super) fn get(&self, hub: Id, topic: Topic) -> Option<&Subscriber> {
        self.all.get(&(topic, hub))
    }

    /// One that is told something now; what is left is to be said with [`Self::more`].
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Subscriber> {
        self.all.get_mut(key)
    }

    /// Takes what a hub asked for, in place of what it asked before. False if it has too much already.
    pub(super) fn insert(&mut self, hub: Id, topic: Topic, subscriber: Subscriber) -> bool {
        let (key, all) = ((topic, hub), self.all.len());
        let held = self.held.get(&hub).copied().unwrap_or_default();
        if !self.all.contains_key(&key) {
            if held >= MAX_OF_ONE || all >= MAX_OF_ALL {
                return false;
            }
            self.held.insert(hub, held + 1);
        }
        self.due.insert(key.clone());
        self.all.insert(key, subscriber);
        true
    }

    pub(super) fn remove(&mut self, hub: Id, topic: Topic) {
        let key = (topic, hub);
        self.due.remove(&key);
        if self.all.remove(&key).is_none() {
            return;
        }
        match self.held.get_mut(&hub) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(self.held.remove(&hub)),
        }
    }

    /// Forgets what a hub asked, all of it or some.
    pub(super) fn remove_of(&mut self, hub: Id, which: impl Fn(&Subscriber) -> bool) {
        if !self.held.contains_key(&hub) {
            return;
        }
        let of =
            |(key, subscriber): (&Key, &Subscriber)| (key.1 == hub && which(subscriber)).then(|| key.clone());
        let removed: Vec<Key> = self.all.iter().filter_map(of).collect();
        for (topic, hub) in removed {
            self.remove(hub, topic);
        }
    }

    /// Whether any of what a hub asked for is so.
    pub(super) fn any_of(&self, hub: Id, so: impl Fn(&Subscriber) -> bool) -> bool {
        self.all.iter().any(|((_, of), subscriber)| *of == hub && so(subscriber))
    }

    /// What a hub asked for.
    pub(super) fn topics_of(&self, hub: Id) -> Vec<Topic> {
        if !self.held.contains_key(&hub) {
            return Vec::new();
        }
        self.all.keys().filter(|(_, of)| *of == hub).map(|(topic, _)| topic.clone()).collect()
    }

    /// All that was told to one may be lost: it is told again of what there is.
    pub(super) fn restart(&mut self, hub: Id, topic: Topic, changed: BTreeSet<(Arc<str>, Id)>) {
        let key = (topic, hub);
        if let Some(subscriber) = self.all.get_mut(&key) {
            subscriber.changed = changed;
            subscriber.complete = false;
            self.due.insert(key);
        }
    }

    /// A peer here came, changed or left. True if somebody is to be told.
    pub(super) fn changed(&mut self, network: &Arc<str>, peer: Id) -> bool {
        let mut told = false;
        for topic in [Some(Arc::clone(network)), None] {
            for (key, subscriber) in self.all.range_mut(every_hub(topic)) {
                subscriber.changed.insert((Arc::clone(network), peer));
                self.due.insert(key.clone());
                told = true;
            }
        }
        told
    }

    /// Those with something to tell, once.
    pub(super) fn take_due(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.due)
    }

    /// There is more to tell to one of those taken.
    pub(super) fn more(&mut self, key: &Key) {
        if self.all.contains_key(key) {
            self.due.insert(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber() -> Subscriber {
        Subscriber { subscription: 1, asked_at: Time(0), changed: BTreeSet::new(), complete: true }
    }

    fn topic(name: &str) -> Topic {
        Some(Arc::from(name))
    }

    #[test]
    fn a_change_is_due_to_those_alone_that_asked_for_its_network_or_for_all() {
        let mut subscribers = Subscribers::default();
        let [one, all, other] = [1, 2, 3].map(|id| Id([id; 20]));
        assert!(subscribers.insert(one, topic("n"), subscriber()));
        assert!(subscribers.insert(all, None, subscriber()));
        assert!(subscribers.insert(other, topic("m"), subscriber()));
        assert_eq!(subscribers.take_due().len(), 3, "each is told first what there is");
        assert!(subscribers.changed(&Arc::from("n"), Id([9; 20])));
        let due = subscribers.take_due();
        assert_eq!(due, BTreeSet::from([(topic("n"), one), (None, all)]));
        subscribers.more(&(topic("n"), one));
        subscribers.remove_of(one, |_| true);
        assert!(subscribers.take_due().is_empty() && subscribers.get(one, topic("n")).is_none());
        subscribers.remove(all, None);
        assert!(!subscribers.changed(&Arc::from("n"), Id([9; 20])));
        assert_eq!(subscribers.hubs().collect::<Vec<_>>(), [&other]);
    }

    #[test]
    fn a_hub_with_too_much_may_change_it_but_not_ask_for_more() {
        let mut subscribers = Subscribers::default();
        let (greedy, other) = (Id([1; 20]), Id([2; 20]));
        for number in 0..MAX_OF_ONE {
            assert!(subscribers.insert(greedy, topic(&number.to_string()), subscriber()));
        }
        assert!(!subscribers.insert(greedy, topic("one more"), subscriber()));
        assert!(subscribers.insert(greedy, topic("0"), subscriber()), "this one it has");
        assert!(subscribers.insert(other, topic("one more"), subscriber()));
        subscribers.remove(greedy, topic("1"));
        assert!(subscribers.insert(greedy, topic("one more"), subscriber()));
    }
}
