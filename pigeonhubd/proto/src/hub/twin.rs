//! Another hub that runs with this hub's key, as from a copied state folder.
//!
//! Each looks to the mesh like a later or earlier run of the other, so they take each other's
//! links away, in turns. Neither can help that; whoever knows of it says so.

use std::time::Duration;

use super::Hub;
use crate::event::Event;
use crate::time::Time;

/// How long a twin is spoken of after the last sign of it. While it is there
/// are more: see `LONGEST_TWIN_PAUSE` of `gossip`, and the pauses between dials.
const REMEMBERED: Duration = Duration::from_secs(300);

/// A sign of a twin.
#[derive(Debug)]
pub(super) struct Twin {
    seen_at: Time,
    /// Its URL or address, as far as that is known.
    at: Option<String>,
}

impl Hub {
    /// A sign of another hub with this hub's key.
    pub(super) fn note_twin(&mut self, at: Option<String>) {
        let before = self.twin.take().and_then(|twin| twin.at);
        self.twin = Some(Twin { seen_at: self.now.mono, at: at.or(before) });
        self.mesh_changed_now();
    }

    /// A handshake with it: told once for as long as it is spoken of.
    pub(super) fn met_twin(&mut self, at: String) {
        let known = self.twin_at().is_some();
        self.note_twin(Some(at));
        if !known && let Some(reason) = self.twin_text() {
            self.event(Event::Refused { from: self.id.to_string(), reason });
        }
    }

    /// Where the twin is, if there is one; empty if nobody knows. None as soon as a hub with a key
    /// of its own is there.
    pub(super) fn twin_at(&self) -> Option<&str> {
        let recent = |twin: &&Twin| self.now.mono.since(twin.seen_at) < REMEMBERED;
        let at = self.twin.as_ref().filter(recent).map(|twin| twin.at.as_deref().unwrap_or_default())?;
        let is_there = |url: &String| url == at || url.split_once("//").is_some_and(|(_, place)| place == at);
        let mut others = self.gossip.records.iter().filter(|(_, it)| it.unreachable_since.is_none());
        let another = others.any(|(_, it)| it.record.urls.iter().any(is_there));
        (!another).then_some(at)
    }

    /// In words, with the cure.
    pub(super) fn twin_text(&self) -> Option<String> {
        let at = match self.twin_at()? {
            "" => String::new(),
            at => format!(" at {at}"),
        };
        Some(format!(
            "another hub{at} runs with this hub's key, or did until a few minutes ago: remove hub.key from the \
             state_dir that is a copy, and restart that hub"
        ))
    }
}
