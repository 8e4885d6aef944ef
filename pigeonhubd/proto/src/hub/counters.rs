//! Figures that only grow, counted where things happen; for monitoring.
//!
//! Every label is an enum: what strangers send can never make a new one.

mod figures;
mod labels;

pub use figures::{Histogram, Tally};
pub use labels::{
    ChannelOutcome, DialOutcome, HubRejection, Label, LinkEnd, LinkKind, Refusal, SessionEnd, SignalOutcome,
    TurnedAway, Undelivered,
};

use crate::directory::Held;
use crate::wire::reply::ErrorCode;

/// From a tenth of a millisecond on, in microseconds.
const ROUND_TRIPS: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];
/// From a millisecond to the longest [`signal_timeout`](crate::settings::Settings) that anyone wants, in microseconds.
const DELIVERIES: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];
const HOPS: &[u64] = &[1, 2, 3, 4, 5, 6, 8, 12, 16];

/// What was counted since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Sessions opened.
    pub sessions_opened: u64,
    pub sessions_closed: Tally<SessionEnd>,
    pub turned_away: Tally<TurnedAway>,
    /// Announces that were accepted.
    pub announces: u64,
    /// Announces told of by other hubs and old ones of which nothing but the id was kept, for want of room.
    pub announces_cut: u64,
    pub signals: Tally<SignalOutcome>,
    pub undelivered: Tally<Undelivered>,
    /// Links on the shortest path of each relayed signal.
    pub relay_hops: Histogram,
    /// From sending a signal to another hub to its acknowledgement, in microseconds.
    pub delivery: Histogram,
    /// Mesh frames between two other hubs that were passed on.
    pub forwarded: u64,
    /// Mesh frames between two other hubs for which no hop or no way was left.
    pub stranded: u64,
    pub links_opened: Tally<LinkKind>,
    pub links_closed: Tally<LinkEnd>,
    /// Round trips of heartbeats over data channels, in microseconds.
    pub rtt_p2p: Histogram,
    /// The same over WebSockets.
    pub rtt_ws: Histogram,
    pub dials: Tally<DialOutcome>,
    pub channels: Tally<ChannelOutcome>,
    pub rejections: Tally<HubRejection>,
    pub refusals: Tally<Refusal>,
    /// Times that the mesh became ready here.
    pub became_ready: u64,
    /// Times that it was so no longer, leaving on purpose aside.
    pub degraded: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            sessions_opened: 0,
            sessions_closed: Tally::default(),
            turned_away: Tally::default(),
            announces: 0,
            announces_cut: 0,
            signals: Tally::default(),
            undelivered: Tally::default(),
            relay_hops: Histogram::new(HOPS),
            delivery: Histogram::new(DELIVERIES),
            forwarded: 0,
            stranded: 0,
            links_opened: Tally::default(),
            links_closed: Tally::default(),
            rtt_p2p: Histogram::new(ROUND_TRIPS),
            rtt_ws: Histogram::new(ROUND_TRIPS),
            dials: Tally::default(),
            channels: Tally::default(),
            rejections: Tally::default(),
            refusals: Tally::default(),
            became_ready: 0,
            degraded: 0,
        }
    }
}

impl Counters {
    /// An `error` went to a client. That a peer is out of reach is told by `undelivered`.
    pub(super) fn complained(&mut self, code: ErrorCode) {
        self.refusals.count(match code {
            ErrorCode::BadMessage => Refusal::BadMessage,
            ErrorCode::UnknownType => Refusal::UnknownType,
            ErrorCode::NotAnnounced => Refusal::NotAnnounced,
            ErrorCode::LimitReached => Refusal::Limit,
            ErrorCode::NotAllowed => Refusal::NotAllowed,
            ErrorCode::AlreadyConnected => Refusal::AlreadyConnected,
            ErrorCode::PeerUnreachable => return,
        });
    }
}

/// How many there are at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Clients' connections that are open.
    pub sessions: usize,
    /// Connections that wait for an older one of the same peer to fail its probe.
    pub waiting: usize,
    /// Handshakes between hubs, dials included.
    pub handshakes: usize,
    /// Data channels on their way to being links.
    pub channels: usize,
    pub links_p2p: usize,
    pub links_ws: usize,
    pub links_legacy: usize,
    /// WebSockets that stand in for data channels.
    pub fallbacks: usize,
    /// Data channels that the topology wants.
    pub wanted: usize,
    /// Records of other hubs.
    pub records: usize,
    /// Hubs whose records are known and that are out of reach.
    pub unreachable: usize,
    /// Those of them that readiness still waits for.
    pub missed: usize,
    /// Signals that wait for news of their targets.
    pub held: usize,
    /// Signals that other hubs have not acknowledged.
    pub under_way: usize,
    /// Messages for other hubs that are not acknowledged, and their bytes.
    pub queued: usize,
    pub queued_bytes: usize,
    /// Announce data.
    pub announce_data: Held,
}
