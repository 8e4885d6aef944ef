//! The listening sockets, and a task for each connection that they accept.

mod handed;
mod handshakes;
mod holder;
mod places;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use pigeonhub_proto::config::Host;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::handed::{Listening, bind_or_take};
pub use self::handshakes::Handshake;
use self::handshakes::Handshakes;
pub use self::holder::Holder;
use self::places::{Place, Places};

use crate::http::{self, Site};

/// Connections that may be on their way to being sessions at once. For a
/// further one another is cut off: the oldest of the address that has most.
pub const MAX_HANDSHAKES: usize = 1024;

/// Connections above `max_connections`: those on their way, and some that are
/// let in to be told so in WebSocket's own words. Beyond these a 503 is all there is.
pub const SPARE_CONNECTIONS: usize = MAX_HANDSHAKES + 512;

/// Bytes of a connection that the system keeps unsent before its session waits (`TCP_NOTSENT_LOWAT` of tcp(7)).
const MOST_UNSENT: u32 = 32 * 1024;

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const BACKLOG: u32 = 1024;

/// How long a name may stand for no address at the start: what tells names may come up later.
const NAME_PATIENCE: Duration = Duration::from_secs(30);

/// Pause before it is asked for again.
const NAME_PAUSE: Duration = Duration::from_secs(1);

/// As `host` is, once its name stands for an address, which `look_up` tells.
///
/// # Errors
/// If it does not within half a minute. Systemd, which gives up after some quick failures, then tries on.
pub async fn named(
    host: Host,
    look_up: impl Fn(&str) -> Result<IpAddr, ListenError> + Clone + Send + 'static,
) -> Result<Host, ListenError> {
    let until = Instant::now() + NAME_PATIENCE;
    let mut told = false;
    loop {
        let (asked, look_up) = (host.clone(), look_up.clone());
        let found = tokio::task::spawn_blocking(move || asked.resolved(look_up)).await;
        match found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            Err(error) if Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("{error}; trying on for {} s", NAME_PATIENCE.as_secs());
                }
                tokio::time::sleep(NAME_PAUSE).await;
            }
            found => return found,
        }
    }
}

/// The address that a name stands for: the first that the system tells.
///
/// # Errors
/// If it tells none.
pub fn look_up(name: &str) -> Result<IpAddr, ListenError> {
    let found = (name, 0).to_socket_addrs().and_then(|mut all| all.next().ok_or(ErrorKind::NotFound.into()));
    found.map(|socket| socket.ip()).map_err(|error| ListenError::Unknown { name: name.to_owned(), error })
}

/// Why this hub cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Someone else has the port.
    #[error("port {port} is taken: {holder}. {}, or choose another port with --port", .holder.cure())]
    Taken {
        /// The port.
        port: u16,
        /// What has it.
        holder: Holder,
    },
    /// A socket unit is for another port.
    #[error(
        "systemd handed over a socket for {address}, but this hub's port is {port}: ListenStream= in the socket unit, and --port or the name of the instance, should be the same"
    )]
    HandedOver {
        /// The socket's address.
        address: SocketAddr,
        /// The configured port.
        port: u16,
    },
    /// A port under 1024 and no right to it.
    #[error("port {port} is not allowed to this user; choose one from 1024 on")]
    NotAllowed {
        /// The port.
        port: u16,
    },
    /// The name to listen on means nothing here.
    #[error("cannot listen on {name}, which listen.host names: {error}; name an address of this machine")]
    Unknown {
        /// The name.
        name: String,
        /// What the system says of it.
        error: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// Listens on those of the addresses that this machine has. If it is to be one,
/// that may come later: an interface that is not up yet, or an address that is
/// still being probed for duplicates.
/// Port 0 is a free port, the same on all of them.
pub fn bind(addresses: &[IpAddr], mut port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let (mut listeners, mut absent) = (Vec::new(), None);
    let may_come = addresses.len() == 1;
    for address in addresses {
        match bind_one(*address, port, may_come) {
            Ok(listener) => {
                port = listener.local_addr().map_or(port, |local| local.port());
                listeners.push(listener);
            }
            Err(error) if missing(&error) => absent = Some(error),
            Err(error) => return Err(error),
        }
    }
    match absent {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Whether an address could not be bound because this machine does not have it.
fn missing(error: &ListenError) -> bool {
    let ListenError::Other { error, .. } = error else { return false };
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

fn bind_one(ip: IpAddr, port: u16, may_come: bool) -> Result<TcpListener, ListenError> {
    let address = SocketAddr::new(ip, port);
    let listen = || {
        let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if ip.is_ipv6() {
            // Else `::` would take the IPv4 port too, on most machines, and not on others.
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        if may_come {
            // Of IPv6 too, says Linux' `ipv6_setsockopt`. Where it is refused, binding says why.
            let _ = setsockopt(&socket, sockopt::IpFreebind, &true);
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { port, holder: Holder::of(address) },
        io::ErrorKind::PermissionDenied => ListenError::NotAllowed { port },
        _ => ListenError::Other { address, error },
    })?;
    if may_come && !is_here(ip) {
        tracing::warn!(
            "this machine does not have the address {ip} now: {address} is reached as soon as it has"
        );
    }
    Ok(listener)
}

/// Whether this machine has that address.
pub(crate) fn is_here(ip: IpAddr) -> bool {
    !UdpSocket::bind((ip, 0)).is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

/// What a new configuration changes for connections that are accepted from then on.
#[derive(Clone, Debug)]
pub struct Live {
    /// What they find.
    pub site: Arc<Site>,
    /// How many the hub takes at once.
    pub max_connections: usize,
}

/// Accepts until `stop` turns true (or its sender is dropped), then waits for
/// the connections to end. Dropping this future ends them at once.
pub async fn serve(listeners: Vec<TcpListener>, live: watch::Receiver<Live>, stop: watch::Receiver<bool>) {
    let handshakes = Handshakes::new(stop.clone());
    let places = Places::default();
    let mut loops = JoinSet::new();
    for listener in listeners {
        let gate = Gate { handshakes: handshakes.clone(), places: places.clone() };
        loops.spawn(accept(listener, live.clone(), gate, stop.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        // A hub that hears nobody any more has to say so.
        if let Some(fault) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            std::panic::resume_unwind(fault);
        }
    }
}

struct Gate {
    handshakes: Handshakes,
    places: Places,
}

async fn accept(
    listener: TcpListener,
    live: watch::Receiver<Live>,
    gate: Gate,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut short = false;
    loop {
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((tcp, remote)) => {
                short = false;
                let Live { site, max_connections } = live.borrow().clone();
                if !site.arrives(remote.ip()) {
                    site.edge.counters().refusals.address_arrivals.one();
                    continue;
                }
                // Without it signals wait for the acknowledgement of the ones before.
                let _ = tcp.set_nodelay(true);
                // What waits is in the session's queue then, which a ping overtakes.
                let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(MOST_UNSENT);
                match gate.places.take(max_connections.saturating_add(SPARE_CONNECTIONS)) {
                    Some(place) => {
                        let handshake = gate.handshakes.begin(remote.ip(), MAX_HANDSHAKES);
                        tasks.spawn(connection(tcp, remote, site, handshake, place));
                    }
                    None => {
                        site.edge.counters().refused.one();
                        refuse(&tcp);
                    }
                }
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                if !short {
                    tracing::warn!("cannot accept connections for the moment: {error}");
                }
                short = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

fn connection(
    tcp: TcpStream,
    remote: SocketAddr,
    site: Arc<Site>,
    handshake: Handshake,
    place: Place,
) -> impl Future<Output = ()> + Send {
    let served = http::serve(tcp, remote.ip(), site, handshake);
    async move {
        served.await;
        drop(place);
    }
}

/// Says that the hub is full, as far as the socket takes it at once.
fn refuse(tcp: &TcpStream) {
    let _ = tcp.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\
          Content-Length: 30\r\n\r\nthis hub has no place for you\n",
    );
}

/// Whether an accept failed because of the one connection alone.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
