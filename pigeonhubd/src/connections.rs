//! What the driver knows of each connection, and how it sends on it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use pigeonhub_proto::config::Host;
use pigeonhub_proto::directory::Reach;
use pigeonhub_proto::io::{ConnId, Output};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::channel::{self, ChannelConfig, ChannelEvent, ChannelHandle, ChannelPath};
use crate::dial::Dialler;
use crate::direct::Sessions;
use crate::outbox::{Item, Outbox};
use crate::tally::EdgeCounters;

/// Channel events that may wait for the driver, of at most 64 KiB each. A
/// channel with one more waits, and its far end with it.
pub const CHANNEL_QUEUE: usize = 256;

/// One connection, as the driver sees it.
enum Connection {
    /// A WebSocket, accepted or dialled.
    WebSocket(Arc<Outbox>, FarEnd),
    /// A data channel. Dropping the handle closes it. Boxed: there are many more WebSockets.
    Channel(Box<ChannelHandle>),
    /// A data channel that was told to close.
    Closing,
}

/// Where a WebSocket leads.
enum FarEnd {
    /// It was accepted from there.
    Address(IpAddr),
    /// It was dialled.
    Url(Box<str>),
}

/// Every open connection. Dials and their sessions end when this is dropped;
/// accepted ones belong to the listener.
pub struct Connections {
    open: HashMap<ConnId, Connection>,
    dialler: Dialler,
    dials: JoinSet<()>,
    host: Host,
    channels: ChannelConfig,
    channel_events: mpsc::Sender<ChannelEvent>,
}

impl Connections {
    /// None yet. Channels use the addresses that `host` stands for, and report
    /// to `channel_events`.
    pub fn new(
        dialler: Dialler,
        host: Host,
        channels: ChannelConfig,
        channel_events: mpsc::Sender<ChannelEvent>,
    ) -> Self {
        let (open, dials) = (HashMap::new(), JoinSet::new());
        Self { open, dialler, dials, host, channels, channel_events }
    }

    /// Dials and channels from now on are of this kind; those that are open stay as they are.
    pub fn reconfigure(
        &mut self,
        max_message_size: usize,
        roots: Option<Arc<ClientConfig>>,
        channels: ChannelConfig,
    ) {
        self.dialler.set_max_message_size(max_message_size);
        self.dialler.set_roots(roots);
        self.channels = channels;
    }

    /// What the edge counts.
    pub fn counters(&self) -> &Arc<EdgeCounters> {
        self.dialler.counters()
    }

    /// Which signals sessions may pass on.
    pub fn sessions(&self) -> &Arc<Sessions> {
        self.dialler.sessions()
    }

    /// A WebSocket accepted from `remote`.
    pub fn accepted(&mut self, conn: ConnId, remote: IpAddr, outbox: Arc<Outbox>) {
        self.open.insert(conn, Connection::WebSocket(outbox, FarEnd::Address(remote)));
    }

    /// A connection is over.
    pub fn closed(&mut self, conn: ConnId) {
        if let Some(Connection::WebSocket(outbox, _)) = self.open.remove(&conn) {
            self.counters().unsent.add(outbox.discard().into());
        }
    }

    /// Does what the hub wants done with a connection. Nothing here waits.
    /// Outputs about connections that are over meanwhile are for nobody.
    pub fn apply(&mut self, output: Output) {
        match output {
            Output::Text { conn, text } => self.text(conn, text),
            Output::Binary { conn, bytes } => self.binary(conn, bytes),
            Output::Ping { conn } => {
                if let Some(outbox) = self.outbox(conn) {
                    // With no room for a ping there is no need for one: the queue's limit ends it.
                    let _ = outbox.push(Item::Ping);
                }
            }
            Output::Read { conn } => {
                if let Some(outbox) = self.outbox(conn) {
                    outbox.read();
                }
            }
            Output::Close { conn, code, reason } => self.close(conn, code, reason),
            Output::Dial { conn, url } => self.dial(conn, url),
            Output::ChannelStart { conn, offer } => self.start_channel(conn, offer),
            Output::ChannelAnswer { conn, sdp } => {
                if let Some(Connection::Channel(channel)) = self.open.get_mut(&conn) {
                    channel.answer(sdp);
                }
            }
            Output::ChannelCandidate { conn, candidate } => {
                if let Some(Connection::Channel(channel)) = self.open.get_mut(&conn) {
                    channel.candidate(candidate);
                }
            }
            Output::Direct(place) => match place.reach {
                Reach::Session(conn) => {
                    if let Some(outbox) = self.outbox(conn) {
                        self.sessions().enter(place, outbox);
                    }
                }
                Reach::Hub { hub, stamp } => self.sessions().enter_elsewhere(&place, hub, stamp),
            },
            Output::NotDirect(place) => self.sessions().leave(&place),
            // The driver's own affair.
            Output::Event(_) | Output::Probed { .. } => {}
        }
    }

    /// Closes every data channel, and waits until what was said last on them is
    /// sent; then waits for the dialled sessions to end.
    pub async fn end(mut self, channel_events: &mut mpsc::Receiver<ChannelEvent>) {
        self.open.retain(|_, connection| {
            let channel = !matches!(connection, Connection::WebSocket(..));
            *connection = Connection::Closing;
            channel
        });
        while !self.open.is_empty() {
            match channel_events.recv().await {
                Some(ChannelEvent::Closed { conn, .. }) => self.closed(conn),
                Some(_) => {}
                None => break,
            }
        }
        while self.dials.join_next().await.is_some() {}
    }

    /// The two ends of an open data channel.
    pub fn path(&self, conn: ConnId) -> Option<&ChannelPath> {
        match self.open.get(&conn) {
            Some(Connection::Channel(channel)) => channel.path(),
            _ => None,
        }
    }

    /// Where a WebSocket leads: the address it came from, or the URL that was dialled.
    pub fn far_end(&self, conn: ConnId) -> Option<String> {
        match self.open.get(&conn) {
            Some(Connection::WebSocket(_, FarEnd::Address(address))) => {
                Some(address.to_canonical().to_string())
            }
            Some(Connection::WebSocket(_, FarEnd::Url(url))) => Some(url.to_string()),
            _ => None,
        }
    }

    fn outbox(&self, conn: ConnId) -> Option<&Arc<Outbox>> {
        match self.open.get(&conn) {
            Some(Connection::WebSocket(outbox, _)) => Some(outbox),
            _ => None,
        }
    }

    fn text(&mut self, conn: ConnId, text: String) {
        self.counters().text_out.one(text.len());
        match self.open.get(&conn) {
            Some(Connection::WebSocket(outbox, _)) => {
                // Text must not be lost in silence, so a far end that does not read it has to go.
                if let Err(full) = outbox.push(Item::Text(text)) {
                    self.counters().overflows.one();
                    self.counters().unsent.one();
                    outbox.abort(1008, format!("too slow: {full}"));
                }
            }
            Some(Connection::Channel(_)) => {
                tracing::error!(conn = conn.0, "text for a data channel, which carries none; dropped");
            }
            _ => {}
        }
    }

    /// A full queue drops it: whoever needs it sends it again.
    fn binary(&mut self, conn: ConnId, bytes: Bytes) {
        self.counters().binary_out.one(bytes.len());
        match self.open.get(&conn) {
            Some(Connection::WebSocket(outbox, _)) => {
                if let Err(full) = outbox.push(Item::Binary(bytes)) {
                    self.counters().frames_dropped.one();
                    tracing::debug!(conn = conn.0, %full, "dropped a mesh frame");
                }
            }
            Some(Connection::Channel(channel)) => {
                if let Err(error) = channel.send(bytes) {
                    self.counters().frames_dropped.one();
                    tracing::debug!(conn = conn.0, %error, "dropped a mesh frame");
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: String) {
        let Some(connection) = self.open.get_mut(&conn) else { return };
        match connection {
            Connection::WebSocket(outbox, _) => outbox.close(code, reason),
            Connection::Channel(_) | Connection::Closing => *connection = Connection::Closing,
        }
    }

    fn dial(&mut self, conn: ConnId, url: String) {
        while self.dials.try_join_next().is_some() {}
        let outbox = Arc::new(Outbox::dialled());
        // What follows is for the far end alone.
        let far_end = FarEnd::Url(url.split('?').next().unwrap_or_default().into());
        self.open.insert(conn, Connection::WebSocket(Arc::clone(&outbox), far_end));
        self.dials.spawn(self.dialler.clone().run(conn, url, outbox));
    }

    fn start_channel(&mut self, conn: ConnId, offer: Option<String>) {
        // Anew for each channel: a machine's addresses come and go.
        self.channels.addresses = addresses(&self.host);
        let handle = channel::start(conn, offer, &self.channels, self.channel_events.clone());
        self.open.insert(conn, Connection::Channel(Box::new(handle)));
    }
}

/// The addresses of this machine that `host` stands for.
fn addresses(host: &Host) -> Vec<IpAddr> {
    let found = match host {
        Host::Address(address) | Host::Name(_, Some(address)) => channel::local_addresses(Some(*address)),
        Host::Any | Host::Name(_, None) => channel::local_addresses(None),
        Host::Localhost => channel::local_addresses(None).map(|mut all| {
            all.retain(IpAddr::is_loopback);
            all
        }),
    };
    found.unwrap_or_else(|error| {
        tracing::warn!("this machine's addresses are unknown; no data channel can open: {error}");
        Vec::new()
    })
}
