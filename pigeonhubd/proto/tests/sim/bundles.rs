//! Sessions that gather signals for peers at other hubs, as the daemon's do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pigeonhub_proto::bundle::Bundle;
use pigeonhub_proto::direct::Direct;
use pigeonhub_proto::directory::{Place, Reach};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ConnId, Input};

use super::host::TOGETHER;
use super::world::{Event, World};

/// How often, in a hundred times, what waits is given to the hub before an input of someone else.
/// The rest came in while the hub dealt with that input.
const BEFORE: u64 = 75;

/// What a host's sessions know, and what they gathered.
#[derive(Default)]
pub(crate) struct Gathering {
    places: BTreeMap<ConnId, Vec<Place>>,
    elsewhere: BTreeMap<(u64, Id), (Id, u64)>,
    bundles: BTreeMap<Id, Vec<Bundle>>,
    /// Sessions whose signals wait.
    senders: BTreeSet<ConnId>,
    /// An [`Event::Bundles`] is to come.
    coming: bool,
}

impl Gathering {
    pub(crate) fn enter(&mut self, place: Place) {
        match place.reach {
            Reach::Session(conn) => self.places.entry(conn).or_default().push(place),
            Reach::Hub { hub, stamp } => {
                self.elsewhere.insert((place.number, place.peer.id), (hub, stamp));
            }
        }
    }

    pub(crate) fn leave(&mut self, place: &Place) {
        let Reach::Session(conn) = place.reach else {
            self.elsewhere.remove(&(place.number, place.peer.id));
            return;
        };
        if let Some(places) = self.places.get_mut(&conn) {
            places.retain(|other| other.number != place.number);
        }
        for bundle in self.bundles.values_mut().flatten() {
            bundle.strike(&place.peer.id, &place.network);
        }
    }

    /// Whether a session takes a text itself, since it is a signal for a peer elsewhere.
    fn gather(&mut self, conn: ConnId, text: &str) -> bool {
        let Some(places) = self.places.get(&conn) else { return false };
        let Some(Direct::Signal(signal)) =
            places.first().and_then(|place| Direct::parse(text, &place.peer.id))
        else {
            return false;
        };
        let Some(own) = places.iter().find(|place| *place.network == *signal.network()) else { return false };
        let Some((hub, stamp)) = self.elsewhere.get(&(own.number, signal.target())) else { return false };
        let bundles = self.bundles.entry(*hub).or_default();
        let mut filling = bundles.pop().unwrap_or_default();
        bundles.extend(filling.push(&signal.for_hub(own.peer, *stamp), Arc::clone(&own.network)));
        bundles.push(filling);
        self.senders.insert(conn);
        true
    }

    fn take(&mut self) -> Vec<(Id, Bundle)> {
        self.senders.clear();
        let bundles = std::mem::take(&mut self.bundles).into_iter();
        bundles.flat_map(|(hub, bundles)| bundles.into_iter().map(move |bundle| (hub, bundle))).collect()
    }
}

impl World {
    /// The session that deals with an input itself, if one does. If none, the hub gets before
    /// it what it is to have before it.
    pub(crate) fn sessions_take(&mut self, number: usize, input: &Input<'_>) -> Option<ConnId> {
        if !self.params.bundles {
            return None;
        }
        let host = &mut self.hosts[number];
        let conn = match input {
            Input::Text { conn, text } if host.gathering.gather(*conn, text) => {
                if !std::mem::replace(&mut host.gathering.coming, true) {
                    let life = host.life;
                    let at = self.now + self.rng.below(2 * TOGETHER);
                    self.at(at, Event::Bundles { host: number, life });
                }
                return Some(*conn);
            }
            // What comes before the end of a connection is given while it is still there.
            Input::Signals { .. } | Input::Alive { .. } | Input::Closed { .. } => return None,
            Input::Text { conn, .. } | Input::Binary { conn, .. } | Input::Pong { conn, .. } => *conn,
            // Of no session.
            _ => ConnId(0),
        };
        self.before_input_of(number, conn);
        None
    }

    /// A session's own signals come before what it says next; those of others may.
    pub(crate) fn before_input_of(&mut self, number: usize, conn: ConnId) {
        if self.hosts[number].gathering.senders.contains(&conn)
            || self.params.bundles && self.rng.percent(BEFORE)
        {
            self.give_bundles(number);
        }
    }

    fn give_bundles(&mut self, number: usize) {
        for (hub, bundle) in self.hosts[number].gathering.take() {
            self.counts.bundles += 1;
            self.feed(number, Input::Signals { hub, bundle });
        }
    }

    /// The driver wakes up for what sessions gathered.
    pub(crate) fn bundles(&mut self, number: usize, life: u32) {
        let host = &mut self.hosts[number];
        if host.life == life {
            host.gathering.coming = false;
            self.give_bundles(number);
        }
    }
}
