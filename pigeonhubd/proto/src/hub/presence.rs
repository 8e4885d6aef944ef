//! Which peers are at which hub.
//!
//! A hub asks each hub that serves one of its networks for that network's
//! peers, and from then on gets every change. What it is told goes over the
//! stream between the two, so it is complete and in order. When the stream to
//! a hub starts anew, this hub asks again, and tells again what it was asked for.

mod subscribers;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::subscribers::{Subscriber, Subscribers};
use super::Hub;
use crate::directory::{Claim, Claimed, Home, network_hash};
use crate::id::Id;
use crate::mesh::records::Stored;
use crate::time::Time;
use crate::wire::MAX_NETWORK_NAME;
use crate::wire::client::MAX_ANNOUNCE_DATA;
use crate::wire::mesh::{HubMessage, PresenceChange};

/// How long a network is still served after its last peer here left: a client
/// that reconnects need not wait for all the others' peers again.
const LINGER: Duration = Duration::from_secs(10);
/// How long changes are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(5);
/// A subscription without a complete answer is renewed after this. None needs it, but if a hub whose clock
/// went back starts under one epoch twice: the other end takes its second run's messages for the first's.
const RENEW: Duration = Duration::from_secs(15);
/// Changes in one message.
const BATCH: usize = 64;
/// Peers that are known at most, here and elsewhere; further ones of other hubs are not taken.
const MAX_PEERS: usize = 500_000;

/// A network, or all of them.
pub(super) type Topic = Option<Arc<str>>;

/// What this hub asked of another.
#[derive(Debug)]
struct View {
    subscription: u32,
    asked_at: Time,
    complete: bool,
}

/// A network that this hub serves.
#[derive(Debug)]
struct Served {
    hash: u64,
    /// Without a peer: until when.
    until: Option<Time>,
}

/// What is asked and told between hubs about peers.
#[derive(Debug, Default)]
pub(super) struct Presence {
    views: BTreeMap<(Id, Topic), View>,
    subscribers: Subscribers,
    /// Views that ended with their stream, and when: their peers stay for the
    /// grace, then only if another view tells of them.
    lapsed: BTreeMap<(Id, Topic), Time>,
    last_subscription: u32,
    served: BTreeMap<Arc<str>, Served>,
    flush_at: Option<Time>,
}

impl Presence {
    /// The hashes of networks with peers here, or that had until a moment ago.
    pub(super) fn own_networks(&self) -> impl Iterator<Item = u64> {
        self.served.values().map(|served| served.hash)
    }
}

impl Hub {
    pub(super) fn presence_at(&self) -> Time {
        self.presence.flush_at.unwrap_or(Time::NEVER)
    }

    /// A peer of this hub came, changed or left: subscribers are to be told.
    pub(super) fn presence_changed(&mut self, network: &str, peer: Id) {
        self.served_changed(network);
        if self.presence.subscribers.changed(&Arc::from(network), peer) {
            self.presence_soon();
        }
    }

    /// Something waits for the next flush.
    pub(super) fn presence_soon(&mut self) {
        self.presence.flush_at.get_or_insert(self.now.mono + GATHER);
    }

    /// Perhaps a network is served that was not, or no longer.
    pub(super) fn served_changed(&mut self, network: &str) {
        if !self.settings.hub_enabled {
            // Nobody is told, nobody is asked, and nothing would be forgotten.
            return;
        }
        let here = self.directory.network(network).is_some_and(|network| !network.own.is_empty())
            || self.claims.holds(network);
        let linger = self.now.mono + LINGER;
        match (self.presence.served.get_mut(network), here) {
            (None, true) => {
                let (name, hash) = (Arc::from(network), network_hash(network));
                self.presence.served.insert(Arc::clone(&name), Served { hash, until: None });
                self.gossip.networks_changed = true;
                self.ask_for(&name, hash);
            }
            (Some(served), true) => served.until = None,
            (Some(served), false) => {
                served.until.get_or_insert(linger);
            }
            (None, false) => {}
        }
    }

    /// Networks whose last peer left a while ago are given up.
    pub(super) fn tick_presence(&mut self) {
        let now = self.now.mono;
        let before = self.presence.served.len();
        self.presence.served.retain(|_, served| served.until.is_none_or(|until| until > now));
        if self.presence.served.len() != before {
            self.gossip.networks_changed = true;
        }
        let late =
            self.presence.views.values().any(|view| !view.complete && now.since(view.asked_at) >= RENEW);
        if self.presence.served.len() != before || late {
            self.presence_check();
        }
        self.drop_lapsed();
        self.lose_unreachable();
    }

    /// Peers of a view that ended a grace ago are gone, unless the hub was asked again.
    fn drop_lapsed(&mut self) {
        let (now, grace) = (self.now.mono, self.settings.presence_grace);
        let due = |at: &Time| now.since(*at) >= grace;
        let over: Vec<(Id, Topic)> =
            self.presence.lapsed.iter().filter(|(_, at)| due(at)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.presence.lapsed.remove(&key);
            let (hub, topic) = key;
            for (network, peer) in self.directory.claimed_by(hub, topic.as_deref(), None) {
                let views = &self.presence.views;
                if !views.contains_key(&(hub, Some(Arc::clone(&network))))
                    && !views.contains_key(&(hub, None))
                {
                    let unclaimed = self.directory.unclaim(&network, &peer, Home::Hub(hub));
                    self.unclaimed(unclaimed);
                }
            }
        }
    }

    /// Hubs out of reach for longer than the grace take their peers with them.
    fn lose_unreachable(&mut self) {
        let (now, grace) = (self.now.mono, self.settings.presence_grace);
        let records = &self.gossip.records;
        let over = |since: Time| now.since(since) >= grace;
        if !records.absent().any(|(_, absent)| over(absent.since)) {
            return;
        }
        let lost = |hub: &&Id| records.absent_since(hub).is_some_and(over);
        let Presence { views, lapsed, subscribers, .. } = &self.presence;
        // One that asked a moment ago is back: its word may arrive before the news that a path leads to it.
        let long_ago = |subscriber: &Subscriber| over(subscriber.asked_at);
        // One whose stream was given up meanwhile has no views any more, but peers all the same.
        let known = views.keys().chain(lapsed.keys()).map(|(hub, _)| hub).filter(lost);
        let asked = subscribers.hubs().filter(lost).filter(|hub| subscribers.any_of(**hub, long_ago));
        let hubs: BTreeSet<Id> = known.chain(asked).copied().collect();
        for hub in hubs {
            self.peers_lost(hub);
            self.presence.subscribers.remove_of(hub, long_ago);
        }
    }

    /// A hub is gone: its peers leave, and what waits for it is told.
    pub(super) fn hub_lost(&mut self, hub: Id) {
        self.peers_lost(hub);
        self.presence.subscribers.remove_of(hub, |_| true);
    }

    fn peers_lost(&mut self, hub: Id) {
        self.reset_stream(hub);
        self.presence.views.retain(|(of, _), _| *of != hub);
        self.presence.lapsed.retain(|(of, _), _| *of != hub);
        self.introductions.forget(hub);
        self.drop_claims(hub, None, None);
    }

    /// A hub's stream started anew: it asks again for what it wants, and what it told may be incomplete.
    pub(super) fn presence_missed(&mut self, hub: Id) {
        self.presence.subscribers.remove_of(hub, |_| true);
        self.ask_again(hub);
    }

    /// The stream to a hub started anew: what was told and asked may be lost. What that hub asked of this
    /// one still counts, for it may not ask again: to a hub that heard nothing on the stream before, this
    /// one is the first.
    pub(super) fn presence_unsent(&mut self, hub: Id) {
        for topic in self.presence.subscribers.topics_of(hub) {
            let changed = self.all_here(&topic);
            self.presence.subscribers.restart(hub, topic, changed);
            self.presence.flush_at = Some(self.now.mono);
        }
        self.ask_again(hub);
    }

    fn ask_again(&mut self, hub: Id) {
        let now = self.now.mono;
        let lapsed = self.presence.views.extract_if(.., |(of, _), _| *of == hub);
        for (key, _) in lapsed {
            self.presence.lapsed.entry(key).or_insert(now);
        }
        // Peers known through it stay until the new answer is complete, or the grace is over.
        self.presence_check();
    }

    /// Asks for what this hub should be told and is not, and stops the rest.
    pub(super) fn presence_check(&mut self) {
        let wanted = self.wanted_views();
        let needless: Vec<(Id, Topic)> =
            self.presence.views.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for (hub, topic) in needless {
            self.presence.views.remove(&(hub, topic.clone()));
            if self.gossip.records.get(&hub).is_some_and(|stored| stored.unreachable_since.is_none()) {
                let network = topic.as_deref().map(Into::into);
                self.send_to_hub(hub, &HubMessage::Unsubscribe { network });
            }
            self.drop_claims(hub, topic.as_deref(), None);
        }
        for (hub, topic) in wanted {
            self.ask(hub, topic);
        }
    }

    /// Asks all that serve a network that is served here as of now.
    fn ask_for(&mut self, network: &Arc<str>, hash: u64) {
        if !self.legacies.is_empty() {
            // Each hub is asked for everything.
            return;
        }
        let serves = |(_, stored): &(&Id, &Stored)| stored.record.serves(hash);
        let hubs: Vec<Id> = self.gossip.records.iter().filter(serves).map(|(hub, _)| *hub).collect();
        for hub in hubs {
            self.ask(hub, Some(Arc::clone(network)));
        }
    }

    /// Asks a hub within reach, unless it was asked already.
    fn ask(&mut self, hub: Id, topic: Topic) {
        let (now, key) = (self.now.mono, (hub, topic));
        let current = |view: &View| view.complete || now.since(view.asked_at) < RENEW;
        if self.presence.views.get(&key).is_some_and(current) || !self.is_reachable(&hub) {
            return;
        }
        self.presence.last_subscription += 1;
        let subscription = self.presence.last_subscription;
        let network = key.1.as_deref().map(Into::into);
        self.send_to_hub(hub, &HubMessage::Subscribe { network, subscription, spare: false });
        self.presence.views.insert(key, View { subscription, asked_at: now, complete: false });
    }

    /// What this hub should be told by others. Views of hubs out of reach stay
    /// until [`Self::hub_lost`].
    fn wanted_views(&self) -> BTreeSet<(Id, Topic)> {
        let mut wanted = BTreeSet::new();
        let everything = !self.legacies.is_empty();
        if !everything && self.presence.served.is_empty() {
            return wanted;
        }
        for (hub, stored) in self.gossip.records.iter() {
            let within_reach = stored.unreachable_since.is_none();
            let known = |topic: &Topic| self.presence.views.contains_key(&(*hub, topic.clone()));
            if everything && (within_reach || known(&None)) {
                wanted.insert((*hub, None));
                continue;
            }
            for (name, served) in &self.presence.served {
                if !stored.record.serves(served.hash) {
                    continue;
                }
                let topic = Some(Arc::clone(name));
                if within_reach || known(&topic) {
                    wanted.insert((*hub, topic));
                }
            }
        }
        wanted
    }

    /// Whether a hub that serves this network has yet to tell who is there.
    pub(super) fn is_unsure_of(&self, network: &str) -> bool {
        self.unsure_hubs(network).next().is_some()
    }

    /// Hubs that serve this network and have yet to tell who is there.
    pub(super) fn unsure_hubs(&self, network: &str) -> impl Iterator<Item = &Id> {
        let hash = network_hash(network);
        self.gossip.records.iter().filter_map(move |(hub, stored)| {
            let told =
                |topic: Topic| self.presence.views.get(&(*hub, topic)).is_some_and(|view| view.complete);
            let serves = stored.record.serves(hash) && !stored.record.draining;
            let grace = stored
                .unreachable_since
                .is_none_or(|at| self.now.mono.since(at) < self.settings.presence_grace);
            (serves && grace && !told(Some(network.into())) && !told(None)).then_some(hub)
        })
    }

    pub(super) fn got_subscribe(&mut self, hub: Id, network: Option<&str>, subscription: u32) {
        if network.is_some_and(|network| network.len() > MAX_NETWORK_NAME) {
            return;
        }
        let topic: Topic = network.map(Arc::from);
        let (asked_at, changed) = (self.now.mono, self.all_here(&topic));
        let subscriber = Subscriber { subscription, asked_at, changed, complete: false };
        if !self.presence.subscribers.insert(hub, topic, subscriber) {
            return;
        }
        self.presence.flush_at = Some(self.now.mono);
    }

    /// The peers of a topic that are here.
    fn all_here(&self, topic: &Topic) -> BTreeSet<(Arc<str>, Id)> {
        let names: Vec<Arc<str>> = match topic {
            Some(name) => vec![Arc::clone(name)],
            None => self.directory.own_networks().cloned().collect(),
        };
        let mut here = BTreeSet::new();
        for name in names {
            let peers = self.directory.network(&name).into_iter().flat_map(|network| network.own.keys());
            here.extend(peers.map(|peer| (Arc::clone(&name), *peer)));
        }
        here
    }

    pub(super) fn got_unsubscribe(&mut self, hub: Id, network: Option<&str>) {
        self.presence.subscribers.remove(hub, network.map(Arc::from));
    }

    pub(super) fn got_presence(
        &mut self,
        hub: Id,
        network: Option<&str>,
        subscription: u32,
        changes: Vec<PresenceChange<'_>>,
        complete: bool,
    ) {
        let topic: Topic = network.map(Arc::from);
        let asked = self.presence.views.get(&(hub, topic.clone()));
        if asked.is_none_or(|view| view.subscription != subscription) {
            return;
        }
        for change in changes {
            self.got_change(hub, network, subscription, change);
        }
        if !complete {
            return;
        }
        let Some(view) = self.presence.views.get_mut(&(hub, topic)) else { return };
        if !std::mem::replace(&mut view.complete, true) {
            // Peers that the new answer does not name have left meanwhile.
            self.drop_claims(hub, network, Some(subscription));
            self.recheck_held();
            self.recheck_announces(network);
        }
    }

    fn got_change(&mut self, hub: Id, topic: Option<&str>, subscription: u32, change: PresenceChange<'_>) {
        let home = Home::Hub(hub);
        match change {
            PresenceChange::Here { peer, network, stamp, legacy, announced_at, shown } => {
                let other = topic.is_some_and(|topic| topic != network);
                let long = network.len() > MAX_NETWORK_NAME || shown.len() > 2 * MAX_ANNOUNCE_DATA;
                let known = self.directory.find(&network, &peer.id).is_some();
                if other || long || (!known && self.directory.len() >= MAX_PEERS) {
                    return;
                }
                let shown = self.kept_data(&network, peer, home, &shown);
                let since = self.now.mono;
                let claim = Claim { home, stamp, legacy, subscription, announced_at, since, shown };
                let claimed = self.directory.claim(&network, peer, claim);
                self.peer_claimed(&network, peer.id, claimed);
            }
            PresenceChange::Gone { peer, network } => {
                let unclaimed = self.directory.unclaim(&network, &peer, home);
                self.unclaimed(unclaimed);
            }
        }
    }

    /// Another hub claims a peer.
    fn peer_claimed(&mut self, network: &str, peer: Id, claimed: Claimed) {
        match claimed {
            Claimed::New(key) => {
                self.introduce_remote(key);
                self.tell_legacies_here(key);
                self.release_held(network, peer);
            }
            Claimed::Moved(key) => {
                self.contest(key);
                if let Some(key) = self.directory.key(network, &peer) {
                    self.introduce_anew(key);
                    self.release_held(network, peer);
                }
            }
            Claimed::Updated(key) => self.tell_met_of(key),
            Claimed::Ignored(_) => {}
        }
    }

    /// Forgets the peers that a hub claims, all or those not of that subscription.
    fn drop_claims(&mut self, hub: Id, network: Option<&str>, except: Option<u32>) {
        for (network, peer) in self.directory.claimed_by(hub, network, except) {
            let unclaimed = self.directory.unclaim(&network, &peer, Home::Hub(hub));
            self.unclaimed(unclaimed);
        }
    }
}
