//! Which tickets with limits are in use, by how many connections.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Granted;
use crate::per_address::{Bucket, TooMany, bucket};

/// Those that are. Each belongs to a connection, so connections bound their number.
#[derive(Debug)]
pub struct InUse {
    origin: Instant,
    tickets: Mutex<HashMap<[u8; 32], Use>>,
}

#[derive(Debug)]
struct Use {
    open: u32,
    messages: Option<Arc<Bucket>>,
}

impl Default for InUse {
    fn default() -> Self {
        Self { origin: Instant::now(), tickets: Mutex::default() }
    }
}

/// One connection of a ticket with limits; counted until it is dropped.
#[derive(Debug)]
pub struct TicketPlace {
    in_use: Arc<InUse>,
    name: [u8; 32],
    messages: Option<Arc<Bucket>>,
    rate: u32,
}

impl InUse {
    /// One more connection with that ticket, if it may be; none if it has no limits.
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn enter(self: &Arc<Self>, granted: &Granted) -> Result<Option<TicketPlace>, TooMany> {
        if granted.connections.is_none() && granted.messages.is_none() {
            return Ok(None);
        }
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = granted.messages.map_or(0, NonZeroU32::get);
        let new = || Use { open: 0, messages: bucket(rate, self.origin).map(Arc::new) };
        let ticket = tickets.entry(granted.name).or_insert_with(new);
        if granted.connections.is_some_and(|most| ticket.open >= most.get()) {
            return Err(TooMany::Ticket);
        }
        ticket.open += 1;
        let (in_use, messages) = (Arc::clone(self), ticket.messages.clone());
        Ok(Some(TicketPlace { in_use, name: granted.name, messages, rate }))
    }
}

impl TicketPlace {
    /// Whether one more message may come.
    pub fn message(&self) -> bool {
        self.messages.as_ref().is_none_or(|bucket| bucket.check().is_ok())
    }

    /// Messages a second that may come.
    pub fn rate(&self) -> u32 {
        self.rate
    }
}

impl Drop for TicketPlace {
    fn drop(&mut self) {
        let mut tickets = self.in_use.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = tickets.get_mut(&self.name) {
            ticket.open -= 1;
            if ticket.open == 0 {
                tickets.remove(&self.name);
            }
        }
    }
}
