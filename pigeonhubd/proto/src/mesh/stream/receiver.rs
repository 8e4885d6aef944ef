//! The receiving half: puts messages in order and says what came.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::frame::{Ack, Data, Parts, Refused};
use super::{Dropped, Event, HELD_BYTES, HELD_MESSAGES, MAX_PAYLOAD, WINDOW_MESSAGES};
use crate::time::Time;

/// How long an acknowledgement may wait for company.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(20);
/// This many messages are acknowledged without waiting.
pub(super) const ACK_EVERY: u32 = 8;

/// What is known of the far end's outgoing stream.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The stream; none before the first message.
    stream: Option<Incoming>,
    /// When an acknowledgement is due.
    ack_at: Time,
    /// Messages that came since the last acknowledgement.
    unacked: u32,
}

#[derive(Debug)]
struct Incoming {
    /// The sender's epoch and the stream's generation: a larger pair is a newer stream.
    name: (u64, u32),
    /// The message to deliver next; all before were.
    next: u64,
    /// Later ones that came early.
    held: BTreeMap<u64, Bytes>,
    /// Their bytes.
    held_bytes: usize,
    /// Those of the last window that were delivered and refused, by their parts.
    refused: BTreeMap<u64, Parts>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { stream: None, ack_at: Time::NEVER, unacked: 0 }
    }

    /// Takes a message for this hub; what it makes deliverable goes to `events`.
    pub(super) fn handle(
        &mut self,
        data: &Data<'_>,
        events: &mut VecDeque<Event>,
        now: Time,
    ) -> Result<(), Dropped> {
        check(data)?;
        // Beside what one acknowledgement may have acknowledged, which may have come with it.
        if events.len() >= HELD_MESSAGES + WINDOW_MESSAGES {
            return Err(Dropped::Full);
        }
        let outcome = self.find(data, events)?.place(data, events);
        self.unacked += 1;
        // The sender must hear soon of a gap, which only it can fill, and of a
        // duplicate, which says that the first acknowledgement was lost.
        let wait = outcome.is_ok() && self.held().0 == 0 && self.unacked < ACK_EVERY;
        self.ack_at = self.ack_at.min(if wait { now + ACK_DELAY } else { now });
        outcome
    }

    /// The stream that `data` belongs to, started or replaced if `data` is of a newer one.
    fn find(&mut self, data: &Data<'_>, events: &mut VecDeque<Event>) -> Result<&mut Incoming, Dropped> {
        let name = (data.src_epoch, data.generation);
        let known = self.stream.as_ref().map(|stream| stream.name);
        if known.is_some_and(|known| name < known) {
            return Err(Dropped::OldStream);
        }
        if known.is_some_and(|known| name > known) {
            events.push_back(Event::Restarted);
            *self = Self::new();
        }
        Ok(self.stream.get_or_insert_with(|| Incoming {
            name,
            next: 1,
            held: BTreeMap::new(),
            held_bytes: 0,
            refused: BTreeMap::new(),
        }))
    }

    /// The far end is a later process than the one whose stream this may be.
    pub(super) fn forget_before(&mut self, epoch: u64) {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.name.0 < epoch) {
            stream.held.clear();
            stream.held_bytes = 0;
            self.unacked = 0;
            self.ack_at = Time::NEVER;
        }
    }

    /// What to tell the sender, if there is a stream. From now on it counts as told.
    pub(super) fn take_ack(&mut self) -> Option<Ack> {
        self.ack_at = Time::NEVER;
        self.unacked = 0;
        let stream = self.stream.as_ref()?;
        let (epoch, generation) = stream.name;
        let first = stream.next + 1;
        let held = stream.held.range(first..first + 64).fold(0, |bits, (seq, _)| bits | 1 << (seq - first));
        let upto = stream.next - 1;
        let refused = stream.refused.iter().map(|(seq, parts)| (upto.saturating_sub(*seq), *parts));
        let refused = Refused::new(refused.filter(|(back, _)| *back < WINDOW_MESSAGES as u64));
        Some(Ack { epoch, generation, upto, held, refused })
    }

    /// Parts of the message delivered `later` messages before the latest are of no use here.
    pub(super) fn refuse(&mut self, later: usize, parts: Parts, now: Time) {
        let Some(stream) = self.stream.as_mut() else { return };
        let latest = stream.next - 1;
        let Some(seq) = latest.checked_sub(later as u64).filter(|seq| *seq > 0) else { return };
        *stream.refused.entry(seq).or_default() |= parts;
        // The sender cannot have messages further back that are unacknowledged.
        stream.refused = stream.refused.split_off(&latest.saturating_sub(WINDOW_MESSAGES as u64 - 1));
        self.ack_at = self.ack_at.min(now);
    }

    /// When an acknowledgement must go out.
    pub(super) fn ack_at(&self) -> Time {
        self.ack_at
    }

    /// Messages and bytes that wait for an earlier message.
    pub(super) fn held(&self) -> (usize, usize) {
        self.stream.as_ref().map_or((0, 0), |stream| (stream.held.len(), stream.held_bytes))
    }
}

impl Incoming {
    /// Delivers the message or keeps it until its turn.
    fn place(&mut self, data: &Data<'_>, events: &mut VecDeque<Event>) -> Result<(), Dropped> {
        self.rise(data.floor, events);
        if data.seq < self.next || self.held.contains_key(&data.seq) {
            return Err(Dropped::Duplicate);
        }
        if data.seq > self.next {
            return self.hold(data);
        }
        self.next += 1;
        events.push_back(Event::Delivered(Bytes::copy_from_slice(data.payload)));
        self.release(events);
        Ok(())
    }

    /// The sender sends nothing below `floor` any more. That is above the next
    /// message only if an earlier life of this end took what is between.
    fn rise(&mut self, floor: u64, events: &mut VecDeque<Event>) {
        if floor <= self.next {
            return;
        }
        events.push_back(Event::Missed);
        self.next = floor;
        let later = self.held.split_off(&floor);
        self.held_bytes = later.values().map(Bytes::len).sum();
        self.held = later;
        self.release(events);
    }

    /// Keeps a message that came too early.
    fn hold(&mut self, data: &Data<'_>) -> Result<(), Dropped> {
        let bytes = self.held_bytes + data.payload.len();
        if self.held.len() >= HELD_MESSAGES || bytes > HELD_BYTES {
            return Err(Dropped::Full);
        }
        self.held.insert(data.seq, Bytes::copy_from_slice(data.payload));
        self.held_bytes = bytes;
        Ok(())
    }

    /// Delivers the messages whose turn has come.
    fn release(&mut self, events: &mut VecDeque<Event>) {
        while let Some(payload) = self.held.remove(&self.next) {
            self.next += 1;
            self.held_bytes -= payload.len();
            events.push_back(Event::Delivered(payload));
        }
    }
}

/// Whether a sender that keeps the rules could have sent this.
fn check(data: &Data<'_>) -> Result<(), Dropped> {
    // So far below the largest number that no sum overflows.
    let sane = (1..=u64::MAX / 2).contains(&data.floor)
        && data.generation > 0
        && data.seq.checked_sub(data.floor).is_some_and(|ahead| ahead < WINDOW_MESSAGES as u64)
        && data.payload.len() <= MAX_PAYLOAD;
    if sane { Ok(()) } else { Err(Dropped::Malformed) }
}
