//! The peer connection under a channel: all that knows how the WebRTC crate is set up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCIceServer, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription, SettingEngineBuilder,
};

use super::handle::ChannelPath;
use super::limits::Limits;
use super::runtime::ChannelRuntime;
use super::{ChannelConfig, LABEL, MAX_ADDRESSES, sdp, sockets};

/// How much of the far end's data may wait for us, in bytes.
const RECEIVE_WINDOW: u32 = 1024 * 1024;

/// How often an address of the far end is tried, 200 ms apart: 8 s, because what it must know
/// to answer may come to it over several hubs. The crate's default is 1.4 s.
const KNOCKS: u16 = 40;

/// How many notices may wait: more than all candidates of all addresses.
const NOTICES: usize = 128;

/// What the connection reports while it opens.
pub(super) enum Notice {
    /// One of our candidates.
    Candidate(RTCIceCandidateInit),
    /// The far end made a data channel.
    Channel(Arc<dyn DataChannel>),
}

/// A peer connection and what it reports.
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) notices: mpsc::Receiver<Notice>,
}

/// What can be asked of a peer connection.
pub(super) struct Connection {
    inner: Arc<dyn PeerConnection>,
    state: watch::Receiver<RTCPeerConnectionState>,
    /// The largest message, in bytes.
    most: usize,
}

impl Peer {
    /// Binds a socket on each of the addresses. Nothing is sent yet.
    pub(super) async fn new(
        config: &ChannelConfig,
        limits: &Limits,
        runtime: Arc<ChannelRuntime>,
    ) -> Result<Self, Error> {
        let (notice, notices) = mpsc::channel(NOTICES);
        let state_sender = watch::Sender::new(RTCPeerConnectionState::New);
        let state = state_sender.subscribe();
        let handler = Handler {
            notice,
            state: state_sender,
            #[cfg(test)]
            _alive: Arc::clone(&limits.alive),
        };
        let addresses = config.addresses.get(..MAX_ADDRESSES).unwrap_or(&config.addresses);
        let places = config.ports.reserve(addresses).map_err(Error::Other)?;
        let inner = PeerConnectionBuilder::new()
            .with_configuration(configuration(config))
            // No codecs: media that an offer brings is refused, and costs nothing.
            .with_media_engine(MediaEngine::default())
            .with_setting_engine(settings(config, limits).build())
            .with_udp_addrs(places)
            .with_data_channel_send_buffer_limit(limits.in_flight)
            .with_handler(Arc::new(handler))
            .with_runtime(runtime)
            .build()
            .await?;
        let connection = Connection { inner: Arc::new(inner), state, most: limits.message };
        Ok(Self { connection, notices })
    }
}

impl Connection {
    /// Makes the data channel and our offer; gathering starts.
    pub(super) async fn offer(&self) -> Result<(Arc<dyn DataChannel>, String), Error> {
        // The crate's default is ordered and reliable.
        let channel = self.inner.create_data_channel(LABEL, None).await?;
        let offer = self.inner.create_offer(None).await?;
        let sdp = sdp::declare(&offer.sdp, self.most);
        self.inner.set_local_description(offer).await?;
        Ok((channel, sdp))
    }

    /// Takes the far end's offer and makes our answer; gathering starts.
    pub(super) async fn answer(&self, offer: &str) -> Result<String, Error> {
        self.inner.set_remote_description(RTCSessionDescription::offer(sdp::bound(offer))?).await?;
        let answer = self.inner.create_answer(None).await?;
        let sdp = sdp::declare(&answer.sdp, self.most);
        self.inner.set_local_description(answer).await?;
        Ok(sdp)
    }

    /// Takes the far end's answer.
    pub(super) async fn accept(&self, answer: &str) -> Result<(), Error> {
        self.inner.set_remote_description(RTCSessionDescription::answer(sdp::bound(answer))?).await
    }

    /// Takes a candidate of the far end, after its description.
    pub(super) async fn candidate(&self, candidate: RTCIceCandidateInit) -> Result<(), Error> {
        self.inner.add_ice_candidate(candidate).await
    }

    /// The candidate pair that ICE chose, if it has.
    pub(super) async fn path(&self) -> Option<ChannelPath> {
        let ice = self.inner.sctp().await?.transport().ice_transport();
        let pair = ice.get_selected_candidate_pair().await.ok()??.to_string();
        let (local, remote) = pair.split_once(" <-> ")?;
        let (local, remote) = (local.trim_start_matches("(local) "), remote.trim_start_matches("(remote) "));
        Some(ChannelPath { local: local.to_owned(), remote: remote.to_owned() })
    }

    /// Waits until ICE or DTLS has failed or ended; says which.
    pub(super) async fn over(&self) -> RTCPeerConnectionState {
        let mut state = self.state.clone();
        // An error means that the connection is gone altogether.
        state.wait_for(is_over).await.map_or(RTCPeerConnectionState::Closed, |state| *state)
    }

    pub(super) fn is_over(&self) -> bool {
        is_over(&self.state.borrow())
    }

    /// Ends the connection in order, as far as the far end is concerned.
    pub(super) async fn close(&self) {
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "a channel's connection did not close in order");
        }
    }
}

fn is_over(state: &RTCPeerConnectionState) -> bool {
    matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
}

fn configuration(config: &ChannelConfig) -> webrtc::peer_connection::RTCConfiguration {
    let servers = config.ice_servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    RTCConfigurationBuilder::default().with_ice_servers(servers.collect()).build()
}

/// How long a pair that was only found by a check waits for one that was signalled.
const PATIENCE: Duration = Duration::from_millis(20);

fn settings(config: &ChannelConfig, limits: &Limits) -> SettingEngineBuilder {
    let (third, keep_alive) = (limits.silence / 3, limits.silence / 8);
    // A hub knows its addresses; the crate would open a multicast socket for each connection.
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_timeouts(Some(third), Some(limits.silence - third), Some(keep_alive))
        .with_ice_connection_attempts(None, Some(KNOCKS))
        // Checks often come before the candidates that tell of them; by default
        // the crate then waits a second for a better pair.
        .with_prflx_acceptance_min_wait(Some(PATIENCE))
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(
            u32::try_from(limits.message * sdp::HEADROOM).unwrap_or(u32::MAX),
        ))
        .with_sctp_max_receive_buffer_size(RECEIVE_WINDOW);
    match sockets::packet_size(&config.addresses) {
        Some(size) => settings.with_sctp_mtu(size),
        None => settings,
    }
}

/// Passes on what the crate's driver reports. It must never wait: the driver would stand still.
struct Handler {
    notice: mpsc::Sender<Notice>,
    state: watch::Sender<RTCPeerConnectionState>,
    #[cfg(test)]
    _alive: Arc<()>,
}

/// What `#[async_trait]` makes of the return type of the crate's trait methods.
type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl PeerConnectionEventHandler for Handler {
    fn on_ice_candidate<'a, 'b>(&'a self, event: RTCPeerConnectionIceEvent) -> Boxed<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        match event.candidate.to_json() {
            Ok(candidate) => {
                if self.notice.try_send(Notice::Candidate(candidate)).is_err() {
                    tracing::debug!("a channel has too many local candidates; one is left out");
                }
            }
            Err(error) => tracing::debug!(%error, "a local candidate is left out"),
        }
        Box::pin(async {})
    }

    fn on_connection_state_change<'a, 'b>(&'a self, state: RTCPeerConnectionState) -> Boxed<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        self.state.send_replace(state);
        Box::pin(async {})
    }

    fn on_data_channel<'a, 'b>(&'a self, channel: Arc<dyn DataChannel>) -> Boxed<'b>
    where
        'a: 'b,
        Self: 'b,
    {
        // If it is full, the far end has opened many channels, and the first will end it all.
        let _ = self.notice.try_send(Notice::Channel(channel));
        Box::pin(async {})
    }
}
