//! What the edge counts for monitoring; what the hub itself counts is in
//! `pigeonhub_proto::hub::counters`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pigeonhub_proto::control::OnDisk;

use crate::direct::Handed;
use crate::pulse::Pulse;

/// A figure that only grows. Anyone may count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// At zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the last one who knew said. Anyone may say and ask.
#[derive(Debug, Default)]
pub struct Told<T>(Mutex<T>);

impl<T: Clone> Told<T> {
    /// From now on it is this; returns what it was.
    pub fn set(&self, now: T) -> T {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// What it is.
    pub fn get(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Messages of one kind in one direction, and their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Whole messages.
    pub messages: Count,
    /// Their payload.
    pub bytes: Count,
}

impl Traffic {
    /// One more message.
    pub fn one(&self, bytes: usize) {
        self.several(1, bytes as u64);
    }

    /// So many more messages, and their bytes.
    pub fn several(&self, messages: u64, bytes: u64) {
        self.messages.add(messages);
        self.bytes.add(bytes);
    }
}

/// Messages that passed without the driver and are not counted yet: sessions
/// that each counted every one of them would wait for each other's processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Messages that came in.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages that go out because of them, to sessions here.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// How many of those are signals.
    pub signals: u64,
}

impl Passed {
    /// One more message that came in, and what became of it.
    pub fn count(&mut self, bytes_in: usize, handed: Handed) {
        self.messages_in += 1;
        self.bytes_in += bytes_in as u64;
        let (signal, bytes_out) = match handed {
            Handed::Answered(bytes) => (false, bytes),
            Handed::Signal(bytes) => (true, bytes),
            // The hub counts it.
            Handed::Bundled => return,
        };
        self.messages_out += 1;
        self.bytes_out += bytes_out as u64;
        self.signals += u64::from(signal);
    }
}

/// Connections that did not become WebSockets or were closed again at once, by why.
#[derive(Debug, Default)]
pub struct Refusals {
    /// The web page's origin is not allowed.
    pub origin: Count,
    /// No token, or a wrong one.
    pub token: Count,
    /// A WebSocket handshake with a fault.
    pub handshake: Count,
    /// TLS did not open.
    pub tls: Count,
    /// Plain HTTP where TLS is spoken.
    pub plain_http: Count,
    /// No whole request in time.
    pub slow: Count,
    /// Cut off while slow, for newer ones.
    pub crowded: Count,
    /// As many connections of one address as may be.
    pub address_connections: Count,
    /// As many connects of one address in a short time as may be.
    pub address_connects: Count,
    /// As many TCP connections of one address in a short time as may be.
    pub address_arrivals: Count,
    /// As many requests of one address in a short time as may be.
    pub address_requests: Count,
}

impl Refusals {
    /// Each reason, as monitoring shows it, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("origin", &self.origin),
            ("token", &self.token),
            ("bad-handshake", &self.handshake),
            ("tls", &self.tls),
            ("plain-http", &self.plain_http),
            ("slow", &self.slow),
            ("crowded-out", &self.crowded),
            ("address-connections", &self.address_connections),
            ("address-connects", &self.address_connects),
            ("address-arrivals", &self.address_arrivals),
            ("address-requests", &self.address_requests),
        ]
        .into_iter()
        .map(|(reason, count)| (reason, count.get()))
    }
}

/// Everything that the edge counts.
#[derive(Debug, Default)]
pub struct EdgeCounters {
    /// Text messages from clients and old hubs.
    pub text_in: Traffic,
    /// Text messages to them.
    pub text_out: Traffic,
    /// Signals that went straight from session to session.
    pub signals_direct: Count,
    /// Messages of the mesh from other hubs, and stray ones.
    pub binary_in: Traffic,
    /// Messages of the mesh to other hubs.
    pub binary_out: Traffic,
    /// Mesh frames dropped because the queue of their connection was full.
    pub frames_dropped: Count,
    /// Connections given up because their far end did not read.
    pub overflows: Count,
    /// Text messages that still waited for a connection when it was over.
    pub unsent: Count,
    /// HTTP requests answered, WebSocket upgrades included.
    pub requests: Count,
    /// TCP connections turned away because there were too many.
    pub refused: Count,
    /// Callers that did not get what they came for.
    pub refusals: Refusals,
    /// Messages of clients beyond what their address may send.
    pub messages_refused: Count,
    /// Reloads that were applied.
    pub reloads_applied: Count,
    /// Reloads that changed nothing because the new configuration is wrong.
    pub reloads_refused: Count,
    /// Whether the driver works.
    pub pulse: Pulse,
    /// How the configuration on disk is.
    pub on_disk: Told<Option<OnDisk>>,
}

impl EdgeCounters {
    /// Counts what passed without the driver.
    pub fn passed(&self, passed: Passed) {
        self.text_in.several(passed.messages_in, passed.bytes_in);
        self.text_out.several(passed.messages_out, passed.bytes_out);
        self.signals_direct.add(passed.signals);
    }
}
