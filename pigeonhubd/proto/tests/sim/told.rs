//! What each client was told of each other one, and when.
//!
//! A published client closes its data channel to a peer of which it hears a
//! goodbye. So it hears one for each that the peer said, and no other.

use pigeonhub_proto::id::Id;
use serde_json::Value;

use super::world::{Micros, World};

/// What hubs wrote to a client of another, over the connection that it has now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// When last that it is there.
    here: Option<Micros>,
    /// When last that it left.
    left: Option<Micros>,
}

/// A goodbye that a client said in a whole mesh.
#[derive(Debug)]
pub(crate) struct Goodbye {
    of: Id,
    /// The sessions of those who knew the client then.
    to: Vec<usize>,
}

impl World {
    /// A hub writes something to a client: news of another one, perhaps.
    pub(crate) fn note_told(&mut self, session: usize, text: &str) {
        let client = self.sessions[session].client;
        if self.clients[client].session != Some(session)
            || !["\"peer-discovered\"", "\"peer-disconnected\"", "\"goodbye\""]
                .iter()
                .any(|it| text.contains(it))
        {
            return;
        }
        let Ok(message) = serde_json::from_str::<Value>(text) else { return };
        let (peer, here) = match message.get("type").and_then(Value::as_str) {
            Some("peer-discovered") => (message.pointer("/data/peerId"), true),
            Some("peer-disconnected") => (message.pointer("/data/peerId"), false),
            Some("goodbye") => (message.get("fromPeerId"), false),
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

    /// A client says goodbye. In a whole mesh all that know it are to hear it.
    pub(crate) fn note_goodbye(&mut self, client: usize) {
        self.clients[client].goodbyes += 1;
        if !self.partings {
            return;
        }
        let (of, network) = (self.clients[client].id, &self.clients[client].network);
        let knows = |other: &&super::client::Client| other.network == *network && other.view.contains(&of);
        let to = self.clients.iter().filter(knows).filter_map(|other| other.session).collect();
        self.goodbyes.push(Goodbye { of, to });
    }

    /// A client hears a goodbye, which has to be one that was said.
    pub(crate) fn hear_goodbye(&mut self, session: usize, of: Id) -> Result<(), String> {
        let said: usize = self.clients.iter().filter(|it| it.id == of).map(|it| it.goodbyes).sum();
        let heard = self.sessions[session].goodbyes.entry(of).or_default();
        *heard += 1;
        if *heard > said {
            Err(format!("hears goodbye {heard} of a client that said {said}"))
        } else {
            Ok(())
        }
    }

    /// A goodbye that somebody who is still there has not heard.
    pub(crate) fn unheard_goodbye(&self) -> Option<String> {
        let there = |session: &usize| {
            let client = self.sessions[*session].client;
            self.clients[client].session == Some(*session)
        };
        let heard = |session: usize, of: Id| self.sessions[session].goodbyes.contains_key(&of);
        self.goodbyes.iter().find_map(|Goodbye { of, to }| {
            let session =
                *to.iter().filter(|session| there(session)).find(|session| !heard(**session, *of))?;
            let client = self.sessions[session].client;
            Some(format!("client {client} has not heard the goodbye of {of}"))
        })
    }
}
