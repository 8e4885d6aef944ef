//! What the address of a session may send, and what it is told beyond that.

use std::time::{Duration, Instant};

use pigeonhub_proto::time::{Now, Time};
use pigeonhub_proto::wire::client::ClientFrame;
use pigeonhub_proto::wire::reply::{self, ErrorCode};
use tokio_tungstenite::tungstenite::Message;

use crate::driver::Clock;
use crate::outbox::{Item, Outbox};
use crate::per_address::Place;
use crate::tickets::TicketPlace;

/// Messages of one session that are refused before it is closed.
pub const MAX_REFUSED: u32 = 1000;

/// Pings and pongs of one session that may come at once.
const MOST_CONTROL: u32 = 32;

/// The time after which there is room for one more: this hub asks for far fewer pongs.
const CONTROL_EVERY: Duration = Duration::from_millis(250);

/// One session's share in what its address may send.
#[derive(Debug)]
pub struct Limit {
    place: Place,
    /// That of its ticket, if that has limits.
    ticket: Option<TicketPlace>,
    /// Whether it is a hub, or says so: binary messages of the mesh have limits of their own.
    hub: bool,
    refused: u32,
    /// Pings and pongs that may come, and since when there are so many.
    control: (u32, Instant),
}

impl Limit {
    /// For a session that counts as `place`.
    pub fn new(place: Place, hub: bool) -> Self {
        Self { place, ticket: None, hub, refused: 0, control: (MOST_CONTROL, Instant::now()) }
    }

    /// With the limits of its ticket.
    pub fn with_ticket(self, ticket: Option<TicketPlace>) -> Self {
        Self { ticket, ..self }
    }

    /// Whether a message may be passed on.
    ///
    /// Pings and pongs have room of their own: a client that cannot answer would lose its id to
    /// whoever shares its address and sends on and on.
    pub(super) fn takes(&mut self, message: &Message, outbox: &Outbox) -> bool {
        match message {
            Message::Ping(_) | Message::Pong(_) => {
                self.place.rate() == 0 || self.has_room_for_control(Instant::now())
            }
            Message::Close(_) | Message::Frame(_) => true,
            Message::Binary(_) if self.hub => true,
            Message::Text(_) | Message::Binary(_) => {
                self.place.charge(outbox.take_charged());
                self.ticket.as_ref().is_none_or(TicketPlace::message) && self.place.message()
            }
        }
    }

    fn has_room_for_control(&mut self, now: Instant) -> bool {
        let (room, since) = &mut self.control;
        let more = now.duration_since(*since).as_millis() / CONTROL_EVERY.as_millis();
        match u32::try_from(more) {
            Ok(more) if more < MOST_CONTROL => {
                *room = (*room + more).min(MOST_CONTROL);
                *since += CONTROL_EVERY * more;
            }
            _ => self.control = (MOST_CONTROL, now),
        }
        let taken = self.control.0.checked_sub(1);
        self.control.0 = taken.unwrap_or(0);
        taken.is_some()
    }

    /// Tells the sender that a message was not, or closes a session that sends on and on.
    pub(super) fn refuse(&mut self, message: &Message, outbox: &Outbox) {
        self.refused += 1;
        let full = match message {
            Message::Ping(_) | Message::Pong(_) if self.refused > MAX_REFUSED => {
                Some(String::from("Too many pings and pongs"))
            }
            _ if self.refused > MAX_REFUSED => Some(format!("Too many messages {}", self.whose().0)),
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

    /// The limit that is met first, and how many a second it is.
    fn whose(&self) -> (&'static str, u32) {
        let (address, ticket) = (self.place.rate(), self.ticket.as_ref().map_or(0, TicketPlace::rate));
        if ticket > 0 && (address == 0 || ticket < address) {
            ("with your ticket", ticket)
        } else {
            ("from your address", address)
        }
    }

    /// As floor 1 would say it, with the target that a signal had.
    fn error(&self, text: &str) -> String {
        let (whose, rate) = self.whose();
        let told = format!("too many messages {whose}: {rate} a second are carried; this one was not");
        let frame = ClientFrame::parse(text).ok();
        let target = frame.as_ref().and_then(|frame| frame.target);
        let network = frame.as_ref().filter(|_| target.is_some()).map(|frame| &*frame.network);
        let now = Now { mono: Time(0), unix_ms: Clock::unix_ms() };
        reply::error(&told, ErrorCode::LimitReached, target, network, now)
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::Bytes;

    use super::*;
    use crate::admission::Caller;
    use crate::per_address::{Addresses, Rates};

    fn of_one_address() -> [Limit; 2] {
        let (addresses, rates) = (Addresses::default(), Rates { messages: 5, ..Rates::default() });
        let caller = Caller { address: [192, 0, 2, 1].into(), via_proxy: true };
        [(); 2].map(|()| Limit::new(addresses.enter(caller, rates).expect("no limit on that"), false))
    }

    #[test]
    fn nobody_takes_the_room_for_anothers_pongs_or_messages() {
        let outbox = Outbox::new();
        let [mut loud, mut victim] = of_one_address();
        let (text, pong) = (Message::text("{}"), Message::Pong(Bytes::new()));
        while loud.takes(&text, &outbox) {}
        assert!(!victim.takes(&text, &outbox), "messages are the address's");
        assert!((0..MOST_CONTROL).all(|_| victim.takes(&pong, &outbox)), "its answers are its own");
        let [mut loud, mut victim] = of_one_address();
        for _ in 0..10_000 {
            loud.takes(&pong, &outbox);
        }
        assert!(victim.takes(&text, &outbox) && victim.takes(&pong, &outbox));
    }

    #[test]
    fn what_a_message_cost_besides_counts_with_the_next() {
        let (outbox, text) = (Outbox::new(), Message::text("{}"));
        let [mut costly, mut other] = of_one_address();
        assert!(costly.takes(&text, &outbox));
        // Of five a second fifty may come at once.
        outbox.charge(40);
        assert!(costly.takes(&text, &outbox));
        outbox.charge(1000);
        assert!((0..20).all(|_| !costly.takes(&text, &outbox)), "it owes more than there is");
        assert!((0..20).all(|_| !other.takes(&text, &Outbox::new())), "and its address does");
        assert_eq!(outbox.take_charged(), 0);
    }

    #[test]
    fn pings_and_pongs_of_one_session_are_bounded() {
        let [mut loud, _] = of_one_address();
        let mut now = Instant::now();
        let mut taken_after = |pause: Duration| {
            now += pause;
            (0..1000).filter(|_| loud.has_room_for_control(now)).count()
        };
        let taken =
            [Duration::ZERO, CONTROL_EVERY * 3, CONTROL_EVERY, Duration::from_secs(3600), CONTROL_EVERY]
                .map(&mut taken_after);
        assert_eq!(taken, [32, 3, 1, 32, 1]);
    }
}
