//! A channel's life: it opens, carries messages, closes.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use pigeonhub_proto::io::{ClosedBy, ConnId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::RTCPeerConnectionState;

use super::handle::{Control, Inbox, Outbound};
use super::limits::Limits;
use super::opening;
use super::peer::{Connection, Notice, Peer};
use super::runtime::ChannelRuntime;
use super::{ChannelConfig, ChannelEvent};

/// How often a closing channel looks whether all is sent.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// How long the crate may take to end a connection.
const CRATE_CLOSE: Duration = Duration::from_secs(1);

/// What a channel starts from.
pub(super) struct Start {
    pub(super) conn: ConnId,
    pub(super) offer: Option<String>,
    pub(super) config: ChannelConfig,
    pub(super) limits: Limits,
    pub(super) inbox: Inbox,
    pub(super) events: mpsc::Sender<ChannelEvent>,
}

/// The whole life of a channel, sockets and last event included.
pub(super) async fn run(start: Start) {
    let Start { conn, offer, config, limits, mut inbox, events } = start;
    let runtime = ChannelRuntime::new(&config.addresses);
    let live = live(conn, offer, &config, &limits, &mut inbox, &events, &runtime);
    let reason = match AssertUnwindSafe(live).catch_unwind().await {
        Ok(reason) => reason,
        Err(_) => ClosedBy::Broken("an internal error ended the channel".to_owned()),
    };
    runtime.end_all().await;
    drop((inbox, limits, runtime));
    // Fails only if nobody wants to know.
    let _ = events.send(ChannelEvent::Closed { conn, reason }).await;
}

async fn live(
    conn: ConnId,
    offer: Option<String>,
    config: &ChannelConfig,
    limits: &Limits,
    inbox: &mut Inbox,
    events: &mpsc::Sender<ChannelEvent>,
    runtime: &Arc<ChannelRuntime>,
) -> ClosedBy {
    let mut peer = match Peer::new(config, limits, Arc::clone(runtime)).await {
        Ok(peer) => peer,
        Err(error) => return ClosedBy::Broken(format!("no channel could be set up: {error}")),
    };
    let mut open = opening::Opening { conn, peer: &mut peer, control: &mut inbox.control, events };
    let opened = tokio::select! {
        opened = timeout(limits.opening, open.run(offer)) => opened.unwrap_or_else(|_| {
            let seconds = limits.opening.as_secs();
            Err(ClosedBy::Broken(format!("the channel did not open within {seconds} s")))
        }),
        () = runtime.driver_ended() => Err(ClosedBy::Broken("the connection failed while it opened".to_owned())),
    };
    let reason = match opened {
        Err(reason) => reason,
        Ok(channel) => {
            runtime.set_brisk(false);
            #[cfg(test)]
            assert!(!limits.panic_when_open, "a test wants this panic");
            let reason = carry(conn, &*channel, &mut peer, inbox, limits, events, runtime).await;
            runtime.set_brisk(true);
            if !matches!(reason, ClosedBy::Remote { .. }) && !peer.connection.is_over() {
                // The far end sees this at once; that the connection is gone, only seconds later.
                let _ = timeout(limits.goodbye, say_goodbye(&*channel)).await;
            }
            reason
        }
    };
    // The crate waits up to 100 ms for its driver, with a sleep of ours.
    runtime.set_brisk(false);
    let _ = timeout(CRATE_CLOSE, peer.connection.close()).await;
    reason
}

/// Carries messages until something ends the channel; says what.
async fn carry(
    conn: ConnId,
    channel: &dyn DataChannel,
    peer: &mut Peer,
    inbox: &mut Inbox,
    limits: &Limits,
    events: &mpsc::Sender<ChannelEvent>,
    runtime: &ChannelRuntime,
) -> ClosedBy {
    if let Some(path) = peer.connection.path().await {
        // A channel opens once.
        let _ = inbox.path.set(path);
    }
    if events.send(ChannelEvent::Open { conn }).await.is_err() {
        return ClosedBy::Local;
    }
    let Inbox { control, messages, .. } = inbox;
    let Peer { connection, notices } = peer;
    // Reading never waits for writing, nor writing for reading: two ends that both
    // wait till the other reads would wait for ever.
    tokio::select! {
        reason = receive(conn, channel, limits, events) => reason,
        reason = send(channel, messages, limits) => reason,
        reason = tend(conn, connection, control, notices, events) => reason,
        reason = fail(connection, limits, runtime) => reason,
    }
}

/// Passes on what comes in, until the far end closes or breaks a rule.
async fn receive(
    conn: ConnId,
    channel: &dyn DataChannel,
    limits: &Limits,
    events: &mpsc::Sender<ChannelEvent>,
) -> ClosedBy {
    while let Some(event) = channel.poll().await {
        let message = match event {
            DataChannelEvent::OnMessage(message) => message,
            DataChannelEvent::OnClosing | DataChannelEvent::OnClose => return closed_by_far_end(),
            DataChannelEvent::OnError => return ClosedBy::Broken("the data channel failed".to_owned()),
            _ => continue,
        };
        if message.is_string {
            return ClosedBy::Broken("the far end sent text; a channel carries binary messages".to_owned());
        }
        let (len, most) = (message.data.len(), limits.message);
        if len > most {
            return ClosedBy::Broken(format!("the far end sent {len} bytes at once; {most} are allowed"));
        }
        let bytes = message.data.freeze();
        if events.send(ChannelEvent::Binary { conn, bytes }).await.is_err() {
            return ClosedBy::Local;
        }
    }
    ClosedBy::Broken("the connection ended without a close".to_owned())
}

fn closed_by_far_end() -> ClosedBy {
    ClosedBy::Remote { code: 1000, reason: String::new() }
}

/// Sends what is queued; when the handle is gone, sends the rest and is done.
async fn send(channel: &dyn DataChannel, messages: &mut Outbound, limits: &Limits) -> ClosedBy {
    while let Some(message) = messages.next().await {
        if let Err(error) = channel.send(BytesMut::from(message)).await {
            return ClosedBy::Broken(format!("a message could not be sent: {error}"));
        }
    }
    let _ = timeout(limits.flush, flushed(channel)).await;
    ClosedBy::Local
}

/// Waits until the far end has acknowledged everything.
async fn flushed(channel: &dyn DataChannel) {
    while channel.outstanding_bytes().await.is_ok_and(|left| left > 0) {
        tokio::time::sleep(FLUSH_LOOK).await;
    }
}

/// Takes and gives the candidates that are late, and refuses further channels.
async fn tend(
    conn: ConnId,
    connection: &Connection,
    control: &mut mpsc::Receiver<Control>,
    notices: &mut mpsc::Receiver<Notice>,
    events: &mpsc::Sender<ChannelEvent>,
) -> ClosedBy {
    loop {
        tokio::select! {
            Some(control) = control.recv() => {
                if let Control::Candidate(json) = control {
                    opening::apply(connection, &json).await;
                }
            }
            Some(notice) = notices.recv() => match notice {
                Notice::Candidate(candidate) => opening::announce(conn, &candidate, events).await,
                Notice::Channel(_) => {
                    return ClosedBy::Broken("the far end made a second data channel".to_owned());
                }
            },
            // The handle is gone: `send` closes the channel in order.
            else => return std::future::pending().await,
        }
    }
}

/// Waits until the connection under the channel is over.
async fn fail(connection: &Connection, limits: &Limits, runtime: &ChannelRuntime) -> ClosedBy {
    tokio::select! {
        state = connection.over() => match state {
            RTCPeerConnectionState::Closed => {
                // What came before the close may still wait to be received.
                tokio::time::sleep(limits.flush).await;
                closed_by_far_end()
            }
            _ => ClosedBy::Broken("the far end no longer answers".to_owned()),
        },
        () = runtime.driver_ended() => ClosedBy::Broken("the connection failed".to_owned()),
    }
}

/// Closes the data channel and waits until the far end has agreed.
async fn say_goodbye(channel: &dyn DataChannel) {
    if channel.close().await.is_err() {
        return;
    }
    while let Some(event) = channel.poll().await {
        if matches!(event, DataChannelEvent::OnClose) {
            return;
        }
    }
}
