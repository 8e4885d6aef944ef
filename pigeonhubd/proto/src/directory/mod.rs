//! Who is where: every peer this hub knows, by network.
//!
//! A peer may be claimed by more than one hub for a moment, as when it moves.
//! The best claim counts: one from the peer's own hub before one through an
//! older hub, then the later stamp, then the smaller hub id. All hubs come to
//! the same from the same claims, also those that make them.

mod census;
mod closest;
mod held;

pub use closest::closest;
pub use held::{CLAIM_SHARE, CLIENT_SHARE, Held, MOST};

use self::census::{Census, Where};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use slab::Slab;

use crate::id::{Id, Spelled};
use crate::io::ConnId;
use crate::time::Time;

/// Claims of one peer that are kept; the worst is forgotten beyond that.
const MAX_CLAIMS: usize = 4;

/// Where a peer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// Here.
    Session(ConnId),
    /// At an older hub, which this hub speaks to.
    Legacy(ConnId),
    /// At another hub of the mesh.
    Hub(Id),
}

/// One hub's word that a peer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Where.
    pub home: Home,
    /// Orders announcements; larger is later.
    pub stamp: u64,
    /// Through an older hub, here or there.
    pub legacy: bool,
    /// Which subscription told us; 0 for our own.
    pub subscription: u32,
    /// When it announced itself, in ms since the Unix epoch.
    pub announced_at: u64,
    /// When it was first made here, by this hub's own clock.
    pub since: Time,
    /// Its announce data for others, as JSON.
    pub shown: Arc<str>,
}

impl Claim {
    /// Whether this one counts rather than the other, as the hub `me` sees them.
    fn beats(&self, other: &Self, me: Id) -> bool {
        let rank = |claim: &Self| {
            let hub = match claim.home {
                Home::Hub(hub) => hub,
                Home::Session(_) | Home::Legacy(_) => me,
            };
            (!claim.legacy, claim.stamp, Reverse(hub), Reverse(claim.home))
        };
        rank(self) > rank(other)
    }
}

/// The number of an entry, for as long as the peer is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey(u32);

/// A peer in a network.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who.
    pub peer: Spelled,
    /// Where.
    pub network: Arc<str>,
    /// The best first; never empty.
    claims: Vec<Claim>,
    /// The peers it was introduced to. Symmetric; at least one of two is local.
    pub met: Vec<EntryKey>,
    /// How it was said to be reached; see [`Directory::came`].
    direct: Option<Reach>,
}

/// How a signal gets to a peer that is not at an older hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is connected here, with this session.
    Session(ConnId),
    /// It is connected elsewhere.
    Hub {
        /// There.
        hub: Id,
        /// Which announcement counts.
        stamp: u64,
    },
}

/// How a peer is reached in a network, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// How.
    pub reach: Reach,
    /// The peer.
    pub peer: Spelled,
    /// The network's name.
    pub network: Arc<str>,
    /// The network's number, which no other network gets.
    pub number: u64,
}

impl Entry {
    /// The claim that counts.
    pub fn claim(&self) -> &Claim {
        // An entry is removed with its last claim.
        self.claims.first().expect("an entry has a claim")
    }

    /// Where the peer is.
    pub fn home(&self) -> Home {
        self.claim().home
    }

    fn reach(&self) -> Option<Reach> {
        match self.home() {
            Home::Session(conn) => Some(Reach::Session(conn)),
            Home::Hub(hub) => Some(Reach::Hub { hub, stamp: self.claim().stamp }),
            Home::Legacy(_) => None,
        }
    }

    /// The claim of the hub whose directory it is, whether or not it counts.
    pub fn own_claim(&self) -> Option<&Claim> {
        self.claims.iter().find(|claim| !matches!(claim.home, Home::Hub(_)))
    }

    fn place(&self) -> Where {
        if self.session().is_some() { Where::Here } else { Where::Elsewhere }
    }

    /// Whether it is connected here.
    pub fn session(&self) -> Option<ConnId> {
        match self.home() {
            Home::Session(conn) => Some(conn),
            _ => None,
        }
    }
}

/// A namespace of peers.
#[derive(Debug, Default)]
pub struct Network {
    number: u64,
    /// All peers of the network.
    pub peers: BTreeMap<Id, EntryKey>,
    /// Those connected here or through an older hub.
    pub own: BTreeMap<Id, EntryKey>,
}

/// A network's name, hashed to 64 bits: enough for hubs to tell whether they
/// share one. A clash costs a little traffic, nothing else.
pub fn network_hash(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// What a claim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The peer is new in the network.
    New(EntryKey),
    /// It has a new best claim from another announcement than before.
    Moved(EntryKey),
    /// It has new data; nothing else changed.
    Updated(EntryKey),
    /// Another claim counts.
    Ignored(EntryKey),
}

/// What taking a claim back did.
#[derive(Debug)]
pub enum Unclaimed {
    /// The peer is gone; here is what it was.
    Gone(Entry),
    /// Another claim counts now.
    Moved(EntryKey),
    /// Another claim counted all along, or there was none.
    Nothing,
}

/// Who is where.
#[derive(Debug, Default)]
pub struct Directory {
    /// The hub whose directory it is.
    me: Id,
    entries: Slab<Entry>,
    networks: BTreeMap<Arc<str>, Network>,
    /// Networks that there were so far.
    numbers: u64,
    /// Entries that got another home.
    moved: Vec<EntryKey>,
    left: Vec<Place>,
    held: Held,
    census: Census,
    /// Networks with a peer of this hub's own.
    own_networks: usize,
}

impl Directory {
    /// The directory of the hub `me`; nobody is known yet.
    pub fn new(me: Id) -> Self {
        Self { me, ..Self::default() }
    }

    /// The network of that name, if it has a peer.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.get(name)
    }

    /// The name of a network, as all that know it share it.
    pub fn name(&self, network: &str) -> Arc<str> {
        self.networks.get_key_value(network).map_or_else(|| Arc::from(network), |(name, _)| Arc::clone(name))
    }

    /// All networks with a peer.
    pub fn networks(&self) -> impl Iterator<Item = (&Arc<str>, &Network)> {
        self.networks.iter()
    }

    /// All peers.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.networks.values().flat_map(|network| network.peers.values()).filter_map(|key| self.get(*key))
    }

    /// Networks with a peer of this hub's own.
    pub fn own_networks(&self) -> impl Iterator<Item = &Arc<str>> {
        self.networks.iter().filter(|(_, network)| !network.own.is_empty()).map(|(name, _)| name)
    }

    /// Number of peers, counted once a network.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry by its number.
    pub fn get(&self, key: EntryKey) -> Option<&Entry> {
        self.entries.get(key.0 as usize)
    }

    /// The number of a peer's entry.
    pub fn key(&self, network: &str, peer: &Id) -> Option<EntryKey> {
        self.networks.get(network)?.peers.get(peer).copied()
    }

    /// A peer's entry.
    pub fn find(&self, network: &str, peer: &Id) -> Option<&Entry> {
        self.get(self.key(network, peer)?)
    }

    /// How much announce data there is.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Announce data of a peer in a network, as `home` claims it, in bytes.
    pub fn held_for(&self, network: &str, peer: &Id, home: Home) -> usize {
        let claims = self.find(network, peer).map_or(&[][..], |entry| &entry.claims);
        claims.iter().find(|claim| claim.home == home).map_or(0, |claim| claim.shown.len())
    }

    /// Whether a claim may have so many bytes of announce data though that is
    /// more than a share: all together have less than [`MOST`] then, or it had as many before.
    pub fn has_room(&self, network: &str, peer: &Id, home: Home, bytes: usize) -> bool {
        self.held.has_room(home, self.held_for(network, peer, home), bytes)
    }

    /// Takes a claim. One from the same home replaces the one before.
    pub fn claim(&mut self, network: &str, peer: Spelled, claim: Claim) -> Claimed {
        let name = self.name(network);
        let numbers = &mut self.numbers;
        let place = self.networks.entry(Arc::clone(&name)).or_insert_with(|| {
            *numbers += 1;
            Network { number: *numbers, ..Network::default() }
        });
        let own = !matches!(claim.home, Home::Hub(_));
        let Some(key) = place.peers.get(&peer.id).copied() else {
            let entry = Entry { peer, network: name, claims: vec![claim], met: Vec::new(), direct: None };
            self.held.replace(Held::default(), Held::of(&entry.claims));
            let key = EntryKey(u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX));
            place.peers.insert(peer.id, key);
            if own {
                self.own_networks += usize::from(place.own.is_empty());
                place.own.insert(peer.id, key);
            }
            self.moved.push(key);
            self.census.moved(peer.id, None, self.get(key).map(Entry::place));
            return Claimed::New(key);
        };
        if own {
            self.own_networks += usize::from(place.own.is_empty());
            place.own.insert(peer.id, key);
        }
        let Some(entry) = self.entries.get_mut(key.0 as usize) else { return Claimed::Ignored(key) };
        let (before, held, was) = (entry.claim().clone(), Held::of(&entry.claims), entry.place());
        entry.claims.retain(|other| other.home != claim.home);
        let at =
            entry.claims.iter().position(|other| claim.beats(other, self.me)).unwrap_or(entry.claims.len());
        entry.claims.insert(at, claim);
        entry.claims.truncate(MAX_CLAIMS);
        self.held.replace(held, Held::of(&entry.claims));
        if at == 0 {
            entry.peer = peer;
        }
        self.census.moved(peer.id, Some(was), Some(entry.place()));
        let after = entry.claim();
        let claimed = if (after.home, after.stamp) != (before.home, before.stamp) {
            Claimed::Moved(key)
        } else if after.shown != before.shown {
            Claimed::Updated(key)
        } else {
            Claimed::Ignored(key)
        };
        self.note_home(key);
        claimed
    }

    /// Takes a claim back.
    pub fn unclaim(&mut self, network: &str, peer: &Id, home: Home) -> Unclaimed {
        let Some(key) = self.key(network, peer) else { return Unclaimed::Nothing };
        let Some(entry) = self.entries.get_mut(key.0 as usize) else { return Unclaimed::Nothing };
        let counted = entry.home() == home;
        let known = entry.claims.len();
        if known == 1 && counted {
            return self.remove(key);
        }
        let (held, was) = (Held::of(&entry.claims), entry.place());
        entry.claims.retain(|claim| claim.home != home);
        self.held.replace(held, Held::of(&entry.claims));
        self.census.moved(*peer, Some(was), Some(entry.place()));
        let changed = entry.claims.len() != known;
        let own = entry.claims.iter().any(|claim| !matches!(claim.home, Home::Hub(_)));
        if !own && let Some(network) = self.networks.get_mut(network) {
            let removed = network.own.remove(peer).is_some();
            self.own_networks -= usize::from(removed && network.own.is_empty());
        }
        self.note_home(key);
        if counted && changed { Unclaimed::Moved(key) } else { Unclaimed::Nothing }
    }

    /// An entry may have another home than before.
    fn note_home(&mut self, key: EntryKey) {
        let Some(entry) = self.entries.get_mut(key.0 as usize) else { return };
        if entry.direct == entry.reach() {
            return;
        }
        if let Some(reach) = entry.direct.take() {
            let (peer, network) = (entry.peer, Arc::clone(&entry.network));
            let number = self.networks.get(&network).map_or(0, |network| network.number);
            self.left.push(Place { reach, peer, network, number });
        }
        self.moved.push(key);
    }

    /// Peers that are not reached as before any more, since the last call.
    pub fn left(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.left)
    }

    /// How peers are reached that came or moved, since the last call.
    pub fn came(&mut self) -> Vec<Place> {
        let moved = std::mem::take(&mut self.moved);
        let came = moved.into_iter().filter_map(|key| {
            // Under that number there may be another entry by now, which counts as well.
            let entry = self.entries.get_mut(key.0 as usize)?;
            let reach = entry.reach().filter(|reach| entry.direct != Some(*reach))?;
            entry.direct = Some(reach);
            let (peer, network) = (entry.peer, Arc::clone(&entry.network));
            let number = self.networks.get(&network)?.number;
            Some(Place { reach, peer, network, number })
        });
        came.collect()
    }

    fn remove(&mut self, key: EntryKey) -> Unclaimed {
        let Some(entry) = self.entries.try_remove(key.0 as usize) else { return Unclaimed::Nothing };
        self.held.replace(Held::of(&entry.claims), Held::default());
        self.census.moved(entry.peer.id, Some(entry.place()), None);
        if let Some(network) = self.networks.get_mut(&entry.network) {
            if let Some(reach) = entry.direct {
                let (peer, name, number) = (entry.peer, Arc::clone(&entry.network), network.number);
                self.left.push(Place { reach, peer, network: name, number });
            }
            network.peers.remove(&entry.peer.id);
            let removed = network.own.remove(&entry.peer.id).is_some();
            self.own_networks -= usize::from(removed && network.own.is_empty());
            if network.peers.is_empty() {
                self.networks.remove(&entry.network);
            }
        }
        for other in &entry.met {
            if let Some(other) = self.entries.get_mut(other.0 as usize) {
                other.met.retain(|met| *met != key);
            }
        }
        Unclaimed::Gone(entry)
    }

    /// Notes that two peers were introduced. False if they had been before.
    pub fn introduce(&mut self, a: EntryKey, b: EntryKey) -> bool {
        let (Some(one), Some(_)) = (self.get(a), self.get(b)) else { return false };
        if a == b || one.met.contains(&b) {
            return false;
        }
        for (from, to) in [(a, b), (b, a)] {
            if let Some(entry) = self.entries.get_mut(from.0 as usize) {
                entry.met.push(to);
            }
        }
        true
    }

    /// Forgets whom a peer has met, as when it starts anew; returns whom it had met.
    pub fn forget_meetings(&mut self, key: EntryKey) -> Vec<EntryKey> {
        let Some(entry) = self.entries.get_mut(key.0 as usize) else { return Vec::new() };
        let met = std::mem::take(&mut entry.met);
        for other in &met {
            if let Some(other) = self.entries.get_mut(other.0 as usize) {
                other.met.retain(|met| *met != key);
            }
        }
        met
    }

    /// The peers that `hub` claims, in one network or in all, other than by `subscription`.
    pub fn claimed_by(&self, hub: Id, network: Option<&str>, except: Option<u32>) -> Vec<(Arc<str>, Id)> {
        let home = Home::Hub(hub);
        let stale = |claim: &Claim| claim.home == home && Some(claim.subscription) != except;
        let (one, all) = match network {
            Some(network) => (self.networks.get(network), None),
            None => (None, Some(self.networks.values())),
        };
        one.into_iter()
            .chain(all.into_iter().flatten())
            .flat_map(|network| network.peers.values())
            .filter_map(|key| self.get(*key))
            .filter(|entry| entry.claims.iter().any(stale))
            .map(|entry| (Arc::clone(&entry.network), entry.peer.id))
            .collect()
    }

    /// The largest stamp of any claim of this peer.
    pub fn latest_stamp(&self, network: &str, peer: &Id) -> u64 {
        self.find(network, peer)
            .and_then(|entry| entry.claims.iter().map(|claim| claim.stamp).max())
            .unwrap_or(0)
    }

    /// This hub's own claim of a peer, whether or not it counts.
    pub fn own_claim(&self, network: &str, peer: &Id) -> Option<&Claim> {
        self.find(network, peer)?.own_claim()
    }

    /// Whether a peer is said to be at `home`, whether or not that counts.
    pub fn is_claimed(&self, network: &str, peer: &Id, home: Home) -> bool {
        self.find(network, peer).is_some_and(|entry| entry.claims.iter().any(|claim| claim.home == home))
    }

    /// Other hubs that say that a peer is connected there, whether or not that counts.
    pub fn hubs_with(&self, network: &str, peer: &Id) -> impl Iterator<Item = Id> {
        let claims = self.find(network, peer).map_or(&[][..], |entry| &entry.claims);
        claims.iter().filter(|claim| !claim.legacy).filter_map(|claim| match claim.home {
            Home::Hub(hub) => Some(hub),
            Home::Session(_) | Home::Legacy(_) => None,
        })
    }

    /// Number of peers connected here, and of others.
    pub fn counts(&self) -> (usize, usize) {
        self.census.counts()
    }

    /// Number of networks with a peer of this hub's own.
    pub fn own_network_count(&self) -> usize {
        self.own_networks
    }
}

#[cfg(test)]
mod tests;
