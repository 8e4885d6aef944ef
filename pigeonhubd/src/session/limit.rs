//! What the address of a session may send, and what it is told beyond that.

use pigeonhub_proto::time::{Now, Time};
use pigeonhub_proto::wire::client::ClientFrame;
use pigeonhub_proto::wire::reply::{self, ErrorCode};
use tokio_tungstenite::tungstenite::Message;

use crate::driver::Clock;
use crate::outbox::{Item, Outbox};
use crate::per_address::Place;

/// Messages of one session that are refused before it is closed.
pub const MAX_REFUSED: u32 = 1000;

/// One session's share in what its address may send.
#[derive(Debug)]
pub struct Limit {
    place: Place,
    /// Whether it is a hub, or says so: binary messages of the mesh have limits of their own.
    hub: bool,
    refused: u32,
}

impl Limit {
    /// For a session that counts as `place`.
    pub fn new(place: Place, hub: bool) -> Self {
        Self { place, hub, refused: 0 }
    }

    /// Whether a message may be passed on.
    pub(super) fn takes(&self, message: &Message) -> bool {
        (self.hub && message.is_binary()) || self.place.message()
    }

    /// Tells the sender that a message was not, or closes a session that sends on and on.
    pub(super) fn refuse(&mut self, message: &Message, outbox: &Outbox) {
        self.refused += 1;
        let full = match message {
            _ if self.refused > MAX_REFUSED => Some(String::from("Too many messages from your address")),
            Message::Text(text) => {
                outbox.push(Item::Text(self.error(text))).err().map(|full| format!("too slow: {full}"))
            }
            Message::Binary(_) => {
                outbox.push(Item::Text(self.error(""))).err().map(|full| format!("too slow: {full}"))
            }
            _ => None,
        };
        if let Some(reason) = full {
            outbox.abort(1008, reason);
        }
    }

    /// As floor 1 would say it, with the target that a signal had.
    fn error(&self, text: &str) -> String {
        let told = format!(
            "too many messages from your address: {} a second are carried; this one was not",
            self.place.rate()
        );
        let frame = ClientFrame::parse(text).ok();
        let target = frame.as_ref().and_then(|frame| frame.target);
        let network = frame.as_ref().filter(|_| target.is_some()).map(|frame| &*frame.network);
        let now = Now { mono: Time(0), unix_ms: Clock::unix_ms() };
        reply::error(&told, ErrorCode::LimitReached, target, network, now)
    }
}
