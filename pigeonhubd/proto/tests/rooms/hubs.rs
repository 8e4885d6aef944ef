//! The hubs: ours, as it is, and the published one as far as it introduces.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ClosedBy, ConnId, Input, Output, Request};
use pigeonhub_proto::mesh::identity::{HubKey, MeshKey};
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};
use serde_json::{Value, json};

use crate::net::{Micros, SEC};

/// What a hub wants done.
pub(crate) enum Deed {
    /// To a client's session.
    Tell(ConnId, String),
    CloseSession(ConnId),
    Dial(ConnId, String),
    Text(ConnId, String),
    Binary(ConnId, bytes::Bytes),
}

pub(crate) trait Signaling {
    fn opened(&mut self, conn: ConnId, peer: Id, now: Micros);
    fn said(&mut self, conn: ConnId, text: &str, now: Micros);
    fn over(&mut self, conn: ConnId, now: Micros);
    fn deeds(&mut self) -> Vec<Deed>;
    /// When it wants to be woken.
    fn wakes(&self) -> Option<Micros> {
        None
    }
    fn wake(&mut self, _: Micros) {}
    /// For pipes between hubs.
    fn take(&mut self, _: Input<'_>, _: Micros) {}
}

fn clock(now: Micros) -> Now {
    Now { mono: Time(1_000_000 + now), unix_ms: 1_767_225_600_000 + now / 1000 }
}

/// A hub of ours.
pub(crate) struct Ours(Hub);

pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number as u8)
}

impl Ours {
    pub(crate) fn new(number: usize, bootstraps: Vec<String>, seed: [u8; 32], now: Micros) -> Self {
        let settings = Settings { bootstrap_hubs: bootstraps, ..Settings::default() };
        let key = MeshKey::new(b"the key of these rooms").expect("long enough");
        let identity = Arc::new(HubKey::from_bytes(&[number as u8 + 1; 32]));
        let mut hub = Self(Hub::new(settings, identity, key, seed, clock(now)));
        hub.wake(now);
        hub
    }
}

impl Signaling for Ours {
    fn opened(&mut self, conn: ConnId, peer: Id, now: Micros) {
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let request = Request {
            peer_id: Some(peer.to_string()),
            mesh: false,
            remote,
            via_proxy: false,
            host: None,
            ticket: None,
        };
        self.take(Input::Accepted { conn, request }, now);
    }

    fn said(&mut self, conn: ConnId, text: &str, now: Micros) {
        self.take(Input::Text { conn, text }, now);
    }

    fn over(&mut self, conn: ConnId, now: Micros) {
        self.take(Input::Closed { conn, reason: ClosedBy::Broken(String::from("reset")) }, now);
    }

    fn deeds(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let mut gone = VecDeque::new();
        while let Some(output) = self.0.poll_output() {
            match output {
                Output::Text { conn, text } => deeds.push(Deed::Text(conn, text)),
                Output::Binary { conn, bytes } => deeds.push(Deed::Binary(conn, bytes)),
                Output::Close { conn, .. } => deeds.push(Deed::CloseSession(conn)),
                Output::Dial { conn, url } => deeds.push(Deed::Dial(conn, url)),
                // Hubs keep to their WebSockets here.
                Output::ChannelStart { conn, .. } => gone.push_back(conn),
                _ => {}
            }
        }
        for conn in gone {
            let reason = ClosedBy::Broken(String::from("no UDP here"));
            self.0.handle(Input::Closed { conn, reason }, clock(0));
        }
        deeds
    }

    fn wakes(&self) -> Option<Micros> {
        Some(self.0.poll_timeout().0.saturating_sub(1_000_000))
    }

    fn wake(&mut self, now: Micros) {
        self.take(Input::Timer, now);
    }

    fn take(&mut self, input: Input<'_>, now: Micros) {
        self.0.handle(input, clock(now));
    }
}

/// The published hub, as `server/index.js` has it: whoever announces itself is told to all that are
/// there, and then of all, in the order in which they came.
pub(crate) struct Published {
    /// In the order of ids instead, the two of a pair one after the other.
    by_id: bool,
    conns: BTreeMap<ConnId, Id>,
    announced: Vec<Id>,
    deeds: Vec<Deed>,
}

impl Published {
    pub(crate) fn new(by_id: bool) -> Self {
        Self { by_id, conns: BTreeMap::new(), announced: Vec::new(), deeds: Vec::new() }
    }

    fn conn(&self, peer: Id) -> Option<ConnId> {
        self.conns.iter().find(|(_, id)| **id == peer).map(|(conn, _)| *conn)
    }

    fn tell(&mut self, to: Id, text: String) {
        if let Some(conn) = self.conn(to) {
            self.deeds.push(Deed::Tell(conn, text));
        }
    }
}

impl Signaling for Published {
    fn opened(&mut self, conn: ConnId, peer: Id, _: Micros) {
        self.conns.insert(conn, peer);
    }

    fn said(&mut self, conn: ConnId, text: &str, _: Micros) {
        let Some(from) = self.conns.get(&conn).copied() else { return };
        let message: Value = serde_json::from_str(text).expect("clients write JSON");
        match message["type"].as_str() {
            Some("announce") => {
                let mut others: Vec<Id> =
                    self.announced.iter().copied().filter(|other| *other != from).collect();
                if others.len() == self.announced.len() {
                    self.announced.push(from);
                }
                let of = |peer: Id| {
                    json!({ "type": "peer-discovered", "data": { "peerId": peer.to_string() } }).to_string()
                };
                if self.by_id {
                    others.sort_unstable();
                    for other in others {
                        self.tell(from, of(other));
                        self.tell(other, of(from));
                    }
                    return;
                }
                for other in &others {
                    self.tell(*other, of(from));
                }
                for other in others {
                    self.tell(from, of(other));
                }
            }
            Some("goodbye") => {
                self.announced.retain(|other| *other != from);
                let text = json!({ "type": "goodbye", "fromPeerId": from.to_string() }).to_string();
                for other in self.announced.clone() {
                    self.tell(other, text.clone());
                }
            }
            Some("offer" | "answer") => {
                if let Some(to) = message["targetPeerId"].as_str().and_then(|to| to.parse().ok()) {
                    self.tell(to, text.to_owned());
                }
            }
            _ => {}
        }
    }

    fn over(&mut self, conn: ConnId, _: Micros) {
        if let Some(peer) = self.conns.remove(&conn)
            && self.conn(peer).is_none()
        {
            self.announced.retain(|other| *other != peer);
        }
    }

    fn deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }
}

/// How long hubs of ours take to find each other before anybody joins.
pub(crate) const HUBS_MEET: Micros = 3 * SEC;

/// The URL of a hub.
pub(crate) fn url(number: usize) -> String {
    format!("ws://{}:3000", address(number))
}

/// Which hub a URL leads to.
pub(crate) fn number_of(url: &str) -> Option<usize> {
    let host = url.strip_prefix("ws://10.0.0.")?;
    host.split(':').next()?.parse().ok()
}

/// What is said to a hub that is dialled.
pub(crate) fn mesh_request(url: &str, from: usize) -> Request {
    let peer_id = url.split("peerId=").nth(1).and_then(|rest| rest.split('&').next()).map(String::from);
    let host = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).map(String::from);
    Request { peer_id, mesh: true, remote: IpAddr::V4(address(from)), via_proxy: false, host, ticket: None }
}

/// Short pauses between hubs.
pub(crate) const HOP: Duration = Duration::from_millis(1);
