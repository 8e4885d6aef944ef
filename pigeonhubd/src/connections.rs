//! What the driver knows of each connection, and how it sends on it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use pigeonhub_proto::control::Offered;
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

/// Addresses of other hubs that are remembered, for the ways to them.
const FAR_ADDRESSES: usize = 32;

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
    /// It was dialled, and answered from there.
    Url(Box<str>, Option<IpAddr>),
}

/// Every open connection. Dials and their sessions end when this is dropped;
/// accepted ones belong to the listener.
pub struct Connections {
    open: HashMap<ConnId, Connection>,
    dialler: Dialler,
    dials: JoinSet<()>,
    channels: ChannelConfig,
    channel_events: mpsc::Sender<ChannelEvent>,
    /// Where other hubs are or were, the latest first.
    far: Vec<IpAddr>,
    /// What was told of addresses that are not offered.
    told: Option<Offered>,
}

impl Connections {
    /// None yet. Channels report to `channel_events`.
    pub fn new(
        dialler: Dialler,
        channels: ChannelConfig,
        channel_events: mpsc::Sender<ChannelEvent>,
    ) -> Self {
        let (open, dials) = (HashMap::new(), JoinSet::new());
        Self { open, dialler, dials, channels, channel_events, far: Vec::new(), told: None }
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
        let mut ports = self.channels.ports.clone();
        ports.change(&channels.ports);
        self.channels = ChannelConfig { ports, ..channels };
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

    /// A dialled WebSocket is open, to that address.
    pub fn dialled(&mut self, conn: ConnId, address: Option<IpAddr>) {
        if let Some(Connection::WebSocket(_, FarEnd::Url(_, remote))) = self.open.get_mut(&conn) {
            *remote = address;
        }
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
            Output::Ping { conn, number } => {
                if let Some(outbox) = self.outbox(conn) {
                    outbox.ping(number);
                }
            }
            Output::Charge { conn, messages } => {
                if let Some(outbox) = self.outbox(conn) {
                    outbox.charge(messages);
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
            Some(Connection::WebSocket(_, FarEnd::Url(url, _))) => Some(url.to_string()),
            _ => None,
        }
    }

    /// The address at the far end of a WebSocket.
    pub fn remote(&self, conn: ConnId) -> Option<IpAddr> {
        match self.open.get(&conn)? {
            Connection::WebSocket(_, FarEnd::Address(address)) => Some(address.to_canonical()),
            Connection::WebSocket(_, FarEnd::Url(_, address)) => *address,
            _ => None,
        }
    }

    /// Other hubs are at these addresses: ways to them should be among those that channels are offered on.
    pub fn know(&mut self, far: impl IntoIterator<Item = IpAddr>) {
        for address in far {
            self.far.retain(|known| *known != address);
            self.far.insert(0, address);
        }
        self.far.truncate(FAR_ADDRESSES);
    }

    /// The addresses that a channel would be offered on now. Anew for each: a machine's addresses come and go.
    pub fn offered(&self) -> Offered {
        let no_port = self.channels.ports.vain();
        let offered = self.channels.wish.offered(&self.far).unwrap_or_else(|error| {
            tracing::warn!("this machine's addresses are unknown; no data channel can open: {error}");
            Offered::default()
        });
        Offered { no_port, ..offered }
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
        let far_end = FarEnd::Url(url.split('?').next().unwrap_or_default().into(), None);
        self.open.insert(conn, Connection::WebSocket(Arc::clone(&outbox), far_end));
        self.dials.spawn(self.dialler.clone().run(conn, url, outbox));
    }

    fn start_channel(&mut self, conn: ConnId, offer: Option<String>) {
        let offered = self.offered();
        self.channels.addresses.clone_from(&offered.addresses);
        self.tell(offered);
        let handle = channel::start(conn, offer, &self.channels, self.channel_events.clone());
        self.open.insert(conn, Connection::Channel(Box::new(handle)));
    }

    /// Says what is not offered, once.
    fn tell(&mut self, offered: Offered) {
        let same = |told: &Offered| {
            told.left_out == offered.left_out && told.addresses.is_empty() == offered.addresses.is_empty()
        };
        if self.told.as_ref().is_some_and(same) {
            return;
        }
        let (all, most) = (offered.addresses.len() + offered.left_out.len(), channel::MAX_ADDRESSES);
        if all == 0 {
            tracing::warn!(
                "no address is offered to other hubs, so no data channel can open: this machine has none that \
                 mesh.addresses, mesh.interfaces and listen.host allow"
            );
        } else if !offered.left_out.is_empty() {
            let left_out: Vec<String> = offered.left_out.iter().map(IpAddr::to_string).collect();
            tracing::warn!(
                "of this machine's {all} addresses {most} are offered for data channels, which is the most; choose \
                 them with mesh.addresses or mesh.interfaces. Left out: {}",
                left_out.join(", ")
            );
        }
        self.told = Some(offered);
    }
}
