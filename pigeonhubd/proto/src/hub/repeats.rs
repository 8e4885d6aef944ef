//! Announcements that a client makes again.
//!
//! One announcement is told to all that are to know the peer, and they are told to it. So a client that
//! announces itself again and again in a large network would have the hub say a hundred times as much as
//! it says itself. What did not change is told to nobody else. What did is told once in as much time as
//! the telling is worth, and then as it is by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use crate::directory::Home;
use crate::io::{ConnId, Output};
use crate::time::Time;

/// What each message counts that an announcement causes: a thousand a second.
const WORTH: Duration = Duration::from_millis(1);

/// What a client has announced again.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    /// Nothing is told before.
    rest: Time,
    /// The networks in which it is yet to be told, and whether others are to hear of it.
    untold: BTreeMap<Arc<str>, bool>,
}

/// The clients that wait for that, and until when.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    due: BTreeSet<(Time, ConnId)>,
}

impl Repeats {
    pub(super) fn due(&self) -> Time {
        self.due.first().map_or(Time::NEVER, |(due, _)| *due)
    }
}

impl Hub {
    /// A client announced itself again in a network; `news`: with other data than before.
    pub(super) fn repeat(&mut self, conn: ConnId, network: &Arc<str>, news: bool) {
        let now = self.now.mono;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let repeated = session.repeated.get_or_insert_default();
        *repeated.untold.entry(Arc::clone(network)).or_default() |= news;
        self.repeats.due.insert((repeated.rest.max(now), conn));
        self.tell_repeats();
    }

    /// Tells what waited for its time.
    pub(super) fn tell_repeats(&mut self) {
        let now = self.now.mono;
        while let Some((_, conn)) = self.repeats.due.first().copied().filter(|(due, _)| *due <= now) {
            self.repeats.due.pop_first();
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            let (peer, home) = (session.peer.id, Home::Session(conn));
            let untold = session.repeated.as_mut().map(|repeated| std::mem::take(&mut repeated.untold));
            let mut messages = 0;
            for (network, news) in untold.into_iter().flatten() {
                let Some(key) = self.directory.key(&network, &peer) else { continue };
                if self.directory.get(key).is_none_or(|entry| entry.home() != home) {
                    continue;
                }
                if news {
                    self.presence_changed(&network, peer);
                    self.introduce_anew(key);
                    self.tell_legacies_here(key);
                } else {
                    self.tell_again(key);
                }
                messages += self.charge(conn, &network);
            }
            let repeated = self.sessions.get_mut(conn).and_then(|session| session.repeated.as_mut());
            if let Some(repeated) = repeated {
                repeated.rest = now + WORTH * messages;
            }
        }
    }

    /// Each announcement of a connection but its first counts for its address as the messages that it
    /// causes; connects have a limit of their own. How many those are.
    pub(super) fn charge(&mut self, conn: ConnId, network: &str) -> u32 {
        let Some(session) = self.sessions.get_mut(conn) else { return 0 };
        let (peer, again) = (session.peer.id, std::mem::replace(&mut session.announced, true));
        let met = self.directory.find(network, &peer).map_or(0, |entry| entry.met.len());
        let messages = u32::try_from(2 * met).unwrap_or(u32::MAX);
        if again && messages > 0 {
            self.outputs.push_back(Output::Charge { conn, messages });
        }
        messages
    }
}
