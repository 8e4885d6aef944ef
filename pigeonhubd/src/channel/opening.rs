//! From the first description to the open data channel.

use std::sync::Arc;

use pigeonhub_proto::io::{ClosedBy, ConnId};
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{RTCIceCandidateInit, RTCPeerConnectionState};

use super::handle::Control;
use super::peer::{Connection, Notice, Peer};
use super::{ChannelEvent, LABEL};

/// A channel that is not open yet.
pub(super) struct Opening<'a> {
    pub(super) conn: ConnId,
    pub(super) peer: &'a mut Peer,
    pub(super) control: &'a mut mpsc::Receiver<Control>,
    pub(super) events: &'a mpsc::Sender<ChannelEvent>,
}

impl Opening<'_> {
    /// Opens the channel; else says what ended it.
    pub(super) async fn run(&mut self, offer: Option<String>) -> Result<Arc<dyn DataChannel>, ClosedBy> {
        let offered = offer.is_none();
        let mut channel = match offer {
            None => {
                let (channel, sdp) = self
                    .peer
                    .connection
                    .offer()
                    .await
                    .map_err(|error| broken("no offer could be made", &error))?;
                self.describe(sdp).await?;
                Some(channel)
            }
            Some(offer) => {
                let answer = self.peer.connection.answer(&offer).await;
                self.describe(answer.map_err(|error| broken("the far end's offer is unusable", &error))?)
                    .await?;
                None
            }
        };
        // An offerer keeps candidates until it knows whom they belong to.
        let mut early = offered.then(Vec::new);
        loop {
            tokio::select! {
                control = self.control.recv() => match control.ok_or(ClosedBy::Local)? {
                    Control::Answer(sdp) => self.accept(sdp, &mut early).await?,
                    Control::Candidate(json) => match &mut early {
                        Some(early) => early.push(json),
                        None => apply(&self.peer.connection, &json).await,
                    },
                },
                notice = self.peer.notices.recv() => match notice {
                    Some(Notice::Candidate(candidate)) => announce(self.conn, &candidate, self.events).await,
                    Some(Notice::Channel(made)) => channel = Some(usable(made, channel.is_some()).await?),
                    None => return Err(ClosedBy::Broken("the connection ended while it opened".to_owned())),
                },
                event = next_event(channel.as_deref()) => match event {
                    Some(DataChannelEvent::OnOpen) => {
                        // There is a channel, or there would be no event.
                        return channel.ok_or(ClosedBy::Local);
                    }
                    Some(DataChannelEvent::OnClosing | DataChannelEvent::OnClose) => {
                        return Err(ClosedBy::Remote { code: 1000, reason: String::new() });
                    }
                    Some(DataChannelEvent::OnError) | None => {
                        return Err(ClosedBy::Broken("the data channel failed while it opened".to_owned()));
                    }
                    Some(_) => {}
                },
                state = self.peer.connection.over() => return Err(ClosedBy::Broken(match state {
                    RTCPeerConnectionState::Failed => "no way to the far end was found".to_owned(),
                    _ => "the far end gave up while the channel opened".to_owned(),
                })),
            }
        }
    }

    async fn describe(&self, sdp: String) -> Result<(), ClosedBy> {
        let description = ChannelEvent::Description { conn: self.conn, sdp };
        // Nobody listens, so nobody wants the channel.
        self.events.send(description).await.map_err(|_| ClosedBy::Local)
    }

    /// Takes the answer, then the candidates that came before it.
    async fn accept(&self, sdp: String, early: &mut Option<Vec<String>>) -> Result<(), ClosedBy> {
        // Without kept candidates there was no offer of ours, or its answer is here already.
        let Some(early) = early.take() else { return Ok(()) };
        self.peer
            .connection
            .accept(&sdp)
            .await
            .map_err(|error| broken("the far end's answer is unusable", &error))?;
        for json in early {
            apply(&self.peer.connection, &json).await;
        }
        Ok(())
    }
}

fn broken(what: &str, error: &webrtc::error::Error) -> ClosedBy {
    ClosedBy::Broken(format!("{what}: {error}"))
}

/// The channel's next event; never, while there is no channel.
async fn next_event(channel: Option<&dyn DataChannel>) -> Option<DataChannelEvent> {
    match channel {
        Some(channel) => channel.poll().await,
        None => std::future::pending().await,
    }
}

/// Whether the far end's channel is the one that a hub makes: its messages must come in order.
/// Whether they all come, too, the crate does not tell the end that did not make the channel.
async fn usable(channel: Arc<dyn DataChannel>, second: bool) -> Result<Arc<dyn DataChannel>, ClosedBy> {
    if second {
        return Err(ClosedBy::Broken("the far end made a second data channel".to_owned()));
    }
    let named = channel.label().await.is_ok_and(|label| label == LABEL);
    let ordered = channel.ordered().await.is_ok_and(|ordered| ordered);
    if named && ordered {
        Ok(channel)
    } else {
        Err(ClosedBy::Broken(format!("the far end's data channel is not `{LABEL}`, with messages in order")))
    }
}

/// Tells one of our candidates.
pub(super) async fn announce(
    conn: ConnId,
    candidate: &RTCIceCandidateInit,
    events: &mpsc::Sender<ChannelEvent>,
) {
    match serde_json::to_string(candidate) {
        // If nobody listens, the channel's next step notices.
        Ok(candidate) => drop(events.send(ChannelEvent::Candidate { conn, candidate }).await),
        Err(error) => tracing::debug!(%error, "a local candidate is left out"),
    }
}

/// Takes one of the far end's candidates. One that makes no sense, or is of a kind that is
/// not used here, does not keep the others from working.
pub(super) async fn apply(connection: &Connection, json: &str) {
    match serde_json::from_str::<RTCIceCandidateInit>(json) {
        // An empty one says that there are no more.
        Ok(candidate) if candidate.candidate.is_empty() => {}
        Ok(candidate) => {
            if let Err(error) = connection.candidate(candidate).await {
                tracing::debug!(%error, "a candidate of the far end is passed over");
            }
        }
        Err(error) => tracing::debug!(%error, "a candidate of the far end is no JSON of a candidate"),
    }
}
