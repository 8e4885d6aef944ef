//! What goes into a hub and what comes out.
//!
//! A *connection* is any pipe of whole messages: a WebSocket that was accepted
//! or dialled, or a WebRTC data channel. The hub sees all three alike; what a
//! connection is used for (a session, a link) is the hub's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bundle::Bundle;
use crate::control::ProbeHop;
use crate::directory::Place;
use crate::event::Event;
use crate::id::Id;
use crate::ticket::Ticket;

/// One connection. The caller gives odd numbers to those it accepts, the hub
/// even ones to those it asks for; a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What the caller tells the hub.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A WebSocket was accepted. The caller reads nothing from it until
    /// [`Output::Read`], so that nothing is lost while an older connection of
    /// the same peer is probed.
    Accepted {
        /// An odd number, new.
        conn: ConnId,
        /// What the request said.
        request: Request,
    },
    /// A WebSocket that [`Output::Dial`] asked for is open.
    Dialled {
        /// The connection.
        conn: ConnId,
        /// The far end's address, if it has one.
        remote: Option<IpAddr>,
    },
    /// A WebSocket that [`Output::Dial`] asked for could not be opened. The connection is over.
    DialFailed {
        /// The connection.
        conn: ConnId,
        /// What a person should know about it.
        error: String,
    },
    /// A text message came in.
    Text {
        /// The connection.
        conn: ConnId,
        /// The whole message.
        text: &'a str,
    },
    /// A binary message came in.
    Binary {
        /// The connection.
        conn: ConnId,
        /// The whole message.
        bytes: &'a [u8],
    },
    /// Signals for peers at another hub, gathered as [`crate::direct`] tells.
    Signals {
        /// That hub.
        hub: Id,
        /// The signals.
        bundle: Bundle,
    },
    /// A WebSocket pong came in, or what is as good.
    Pong {
        /// The connection.
        conn: ConnId,
        /// The number of the ping that it answers, if it has one.
        number: Option<u32>,
    },
    /// Another sign of life came in, that is none of the hub's business.
    Alive {
        /// The connection.
        conn: ConnId,
    },
    /// A connection of any kind is over, by whichever end's doing. The last
    /// input about it; also sent after [`Output::Close`].
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        reason: ClosedBy,
    },
    /// Our own session description for a channel: the offer if the hub asked
    /// for one, else the answer.
    ChannelDescription {
        /// The channel.
        conn: ConnId,
        /// SDP text.
        sdp: String,
    },
    /// Our own ICE candidate for a channel.
    ChannelCandidate {
        /// The channel.
        conn: ConnId,
        /// JSON text of an `RTCIceCandidateInit`.
        candidate: String,
    },
    /// A data channel is open; from now on it carries binary messages.
    ChannelOpen {
        /// The channel.
        conn: ConnId,
    },
    /// The time of [`crate::hub::Hub::poll_timeout`] has come.
    Timer,
    /// The operator wants this hub to leave. Clients are closed one after
    /// another within `over`, then the links; see [`crate::hub::Hub::is_drained`].
    Drain {
        /// How long that may take.
        over: Duration,
    },
    /// The operator wants it to stay after all.
    Undrain,
    /// The operator wants a client of this hub gone.
    Disconnect {
        /// The client.
        peer: Id,
    },
}

/// What an accepted WebSocket's request said.
#[derive(Clone, Debug)]
pub struct Request {
    /// The `peerId` of the query, decoded, as written.
    pub peer_id: Option<String>,
    /// Whether the query has `mesh=1`: a hub that speaks our mesh.
    pub mesh: bool,
    /// Where it came from.
    pub remote: IpAddr,
    /// Whether `remote` is only what a proxy tells: then it proves nothing.
    pub via_proxy: bool,
    /// The `Host` header, as `host:port`: how the far end reaches us.
    pub host: Option<String>,
    /// The ticket that a client showed. One that is for a peer id came with that id.
    pub ticket: Option<Arc<Ticket>>,
}

/// Which end closed a connection, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The far end closed it in order.
    Remote {
        /// The WebSocket close code; 1005 if there was none, 1000 for a data channel.
        code: u16,
        /// The reason it gave, if any.
        reason: String,
    },
    /// It broke: reset, timed out, violated its protocol, or ICE failed.
    Broken(String),
    /// We closed it with [`Output::Close`].
    Local,
}

/// What the hub asks the caller to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a text message.
    Text {
        /// The connection.
        conn: ConnId,
        /// The whole message.
        text: String,
    },
    /// Send a binary message, at most [`MAX_BINARY`] bytes. If the connection's
    /// queue is full, drop it: whoever needs it sends it again.
    Binary {
        /// The connection.
        conn: ConnId,
        /// The whole message.
        bytes: Bytes,
    },
    /// Send a WebSocket ping.
    Ping {
        /// The connection.
        conn: ConnId,
        /// To be its payload, so that the pong tells what it answers: an older one may still be on its way.
        number: u32,
    },
    /// What a client said cost as much as so many messages more: they count for what its address may send.
    Charge {
        /// The connection.
        conn: ConnId,
        /// How many.
        messages: u32,
    },
    /// Start reading an accepted WebSocket.
    Read {
        /// The connection.
        conn: ConnId,
    },
    /// Send what was asked to be sent before, then close.
    Close {
        /// The connection.
        conn: ConnId,
        /// The WebSocket close code; a data channel has none.
        code: u16,
        /// For the far end to read; at most 123 bytes.
        reason: String,
    },
    /// Open a WebSocket; ends in [`Input::Dialled`] or [`Input::DialFailed`].
    Dial {
        /// An even number, new.
        conn: ConnId,
        /// The whole `ws:` or `wss:` URL, query included.
        url: String,
    },
    /// Open a WebRTC data channel and answer with its description and
    /// candidates; ends in [`Input::ChannelOpen`] or [`Input::Closed`].
    ChannelStart {
        /// An even number, new.
        conn: ConnId,
        /// The far end's offer; without one, this end offers.
        offer: Option<String>,
    },
    /// The far end's answer for a channel that this end offered.
    ChannelAnswer {
        /// The channel.
        conn: ConnId,
        /// SDP text.
        sdp: String,
    },
    /// The far end's ICE candidate.
    ChannelCandidate {
        /// The channel.
        conn: ConnId,
        /// JSON text of an `RTCIceCandidateInit`.
        candidate: String,
    },
    /// From now on signals to this peer, and from it if it is connected here, need not go through
    /// the hub in this network if the same was said of their other end: [`crate::direct`] tells
    /// which do, and how. Comes after all that goes with it.
    Direct(Place),
    /// From now on no longer. Comes before all that goes with it.
    NotDirect(Place),
    /// A probe is over; see [`crate::hub::Hub::probe`].
    Probed {
        /// Its number.
        number: u64,
        /// The hubs that answered, nearest first. The probed hub did if one is `last`.
        hops: Vec<ProbeHop>,
    },
    /// Something that a person would want to hear about.
    Event(Event),
}

/// The largest binary message that a hub sends or takes, in bytes. It fits a
/// data channel message of every WebRTC implementation we know.
pub const MAX_BINARY: usize = 60 * 1024;

/// `64:ff9b::/96`.
const TRANSLATED: u128 = 0x64_ff9b << 64;

/// What counts as one address where addresses are counted: of IPv6 the first
/// 64 bits, which one customer has; IPv4 is the same however it is written, also behind a
/// translator with the well-known prefix (RFC 6052): else all of IPv4 would be one customer.
pub fn customer(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == TRANSLATED => {
            IpAddr::V4(Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)))
        }
        other => other,
    }
}
