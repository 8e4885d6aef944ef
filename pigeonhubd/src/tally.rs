//! What the edge counts for monitoring; what the hub itself counts is in
//! `pigeonhub_proto::hub::counters`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A figure that only grows. Anyone may count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
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
        self.messages.one();
        self.bytes.add(bytes as u64);
    }
}

/// Everything that the edge counts.
#[derive(Debug, Default)]
pub struct EdgeCounters {
    /// Text messages from clients and old hubs.
    pub text_in: Traffic,
    /// Text messages to them.
    pub text_out: Traffic,
    /// Messages of the mesh from other hubs, and stray ones.
    pub binary_in: Traffic,
    /// Messages of the mesh to other hubs.
    pub binary_out: Traffic,
    /// Mesh frames dropped because the queue of their connection was full.
    pub frames_dropped: Count,
    /// Connections given up because their far end did not read.
    pub overflows: Count,
    /// HTTP requests answered, WebSocket upgrades included.
    pub requests: Count,
    /// TCP connections turned away because there were too many.
    pub refused: Count,
    /// Reloads that were applied.
    pub reloads_applied: Count,
    /// Reloads that changed nothing because the new configuration is wrong.
    pub reloads_refused: Count,
}
