//! What each client was told of each other one, and when.
//!
//! A published client that is told that another one left hangs up on it, and of
//! two the one with the larger id calls the other. So whenever one was told that
//! the other left, and both are there, each has to be told of the other again.

use std::collections::BTreeMap;

use pigeonhub_proto::id::Id;
use serde_json::Value;

use super::client::Client;
use super::world::{Micros, World};

/// What hubs wrote to a client of another, over the connection that it has now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// When last that it is there.
    here: Option<Micros>,
    /// When last that it left.
    left: Option<Micros>,
}

impl World {
    /// A hub writes something to a client: news of another one, perhaps.
    pub(crate) fn note_told(&mut self, session: usize, text: &str) {
        let here = text.contains("\"peer-discovered\"");
        let client = self.sessions[session].client;
        if self.clients[client].session != Some(session) || !(here || text.contains("\"goodbye\"")) {
            return;
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else { return };
        let peer = match message.get("type").and_then(Value::as_str) {
            Some("peer-discovered") => message.pointer("/data/peerId"),
            Some("goodbye") => message.get("fromPeerId"),
            _ => return,
        };
        let Some(peer) = peer.and_then(Value::as_str).and_then(|peer| peer.parse::<Id>().ok()) else {
            return;
        };
        let told = self.clients[client].told.entry(peer).or_default();
        *(if here { &mut told.here } else { &mut told.left }) = Some(self.now);
    }

    /// A hub writes a signal to a client: whether it was told before that its sender left, since
    /// then not of a new arrival, and means the session that sent it.
    pub(crate) fn is_ghost(&self, session: usize, sender: usize) -> bool {
        let (to, from) = (&self.clients[self.sessions[session].client], &self.sessions[sender]);
        let told = to.told.get(&self.clients[from.client].id).copied().unwrap_or_default();
        to.session == Some(session)
            && told.left > told.here
            && from.ended.is_some_and(|ended| told.left > Some(ended))
    }

    /// Two clients of one network of which one was told that the other left, and
    /// not both of each other since.
    pub(crate) fn estranged(&self, members: &BTreeMap<&str, Id>) -> Option<String> {
        let there: Vec<&Client> =
            self.announced().map(|(client, _)| client).filter(|it| members.contains_key(&*it.name)).collect();
        let pairs = there.iter().flat_map(|one| there.iter().map(move |two| (*one, *two)));
        let told = |one: &Client, of: &Client| one.told.get(&of.id).copied().unwrap_or_default();
        let number = |client: &Client| self.clients.iter().position(|other| other.id == client.id);
        let mut apart =
            pairs.filter(|(one, two)| one.id != two.id && told(one, two).left > told(two, one).here);
        let (one, two) = apart.next()?;
        Some(format!(
            "client {:?} was told that client {:?} left, which has not been told of it again: {:?}, {:?}",
            number(one),
            number(two),
            told(one, two),
            told(two, one)
        ))
    }
}
