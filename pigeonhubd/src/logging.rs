//! What a person gets to read: one line for each event, on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use pigeonhub_proto::event::Event;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines about misbehaviour of others that are written in one [`WINDOW`];
/// further ones are counted. A stranger could fill the disk otherwise.
const MAX_COMPLAINTS: u32 = 20;

/// See [`MAX_COMPLAINTS`].
const WINDOW: Duration = Duration::from_secs(10);

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[error(
    "log level `{level}`: {reason}; it is one of error, warn, info, debug, trace, or a list such as `info,pigeonhubd=debug`"
)]
pub struct LevelError {
    level: String,
    reason: String,
}

/// Starts logging at `level`: a level, or a filter as tracing-subscriber's `EnvFilter` reads it.
pub fn start(level: &str) -> Result<(), LevelError> {
    let fault = |reason: String| LevelError { level: level.to_owned(), reason };
    // A bare level is for the hub's own lines: the WebRTC crates report as
    // errors what is normal for them, such as a pair of addresses that leads nowhere.
    let own = match level.parse::<tracing::Level>() {
        Ok(_) => format!("pigeonhubd={level}"),
        Err(_) => level.to_owned(),
    };
    let filter = EnvFilter::builder().parse(own).map_err(|error| fault(error.to_string()))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| fault(error.to_string()))
}

/// Writes events, within a limit for those that strangers can cause at will.
#[derive(Debug, Default)]
pub struct EventLog {
    window: Option<tokio::time::Instant>,
    written: u32,
    skipped: u32,
}

impl EventLog {
    /// Writes one event: its name, then its fields.
    pub fn write(&mut self, event: &Event) {
        if matches!(event, Event::Refused { .. } | Event::HubRejected { .. }) && !self.may_complain() {
            return;
        }
        line(event);
    }

    fn may_complain(&mut self) -> bool {
        let now = tokio::time::Instant::now();
        if self.window.is_none_or(|start| now - start >= WINDOW) {
            if self.skipped > 0 {
                warn!(count = self.skipped, "more of them were not written");
            }
            (self.window, self.written, self.skipped) = (Some(now), 0, 0);
        }
        let may = self.written < MAX_COMPLAINTS;
        if may {
            self.written += 1;
        } else {
            self.skipped += 1;
        }
        may
    }
}

/// The field names are part of what others rely on, like the events' names.
/// Text from outside is recorded as a string, which is quoted and escaped.
fn line(event: &Event) {
    match event {
        Event::PeerConnected { peer_id } => info!(%peer_id, "peerConnected"),
        Event::PeerAnnounced { peer_id, network } => info!(%peer_id, network, "peerAnnounced"),
        Event::PeerDisconnected { peer_id, reason } => info!(%peer_id, reason, "peerDisconnected"),
        Event::HubRegistered { hub_id } => info!(%hub_id, "hubRegistered"),
        Event::HubUnregistered { hub_id, reason } => info!(%hub_id, reason, "hubUnregistered"),
        Event::HubDiscovered { hub_id, via } => info!(%hub_id, via, "hubDiscovered"),
        Event::BootstrapConnected { uri, hub_id } => info!(uri, %hub_id, "bootstrapConnected"),
        Event::BootstrapDisconnected { uri, reason } => info!(uri, reason, "bootstrapDisconnected"),
        Event::HubP2pConnected { hub_id } => info!(%hub_id, "hubP2PConnected"),
        Event::HubP2pDisconnected { hub_id, reason } => info!(%hub_id, reason, "hubP2PDisconnected"),
        Event::HubMeshReady { p2p_connections, total_hubs } => {
            info!(p2p_connections, total_hubs, "hubMeshReady");
        }
        Event::HubMeshDegraded { p2p_connections, total_hubs, reason } => {
            warn!(p2p_connections, total_hubs, reason, "hubMeshDegraded");
        }
        Event::HubMeshMigrated { migrated_count, p2p_connections } => {
            info!(migrated_count, p2p_connections, "hubMeshMigrated");
        }
        Event::HubRejected { hub, reason } => warn!(hub, reason, "hubRejected"),
        Event::Refused { from, reason } => info!(from, reason, "refused"),
    }
}
