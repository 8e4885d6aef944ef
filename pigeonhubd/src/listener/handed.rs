//! Listening on sockets that systemd handed over.

use std::net::{IpAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::TcpListener;

use super::ListenError;
use crate::inherit::Inherited;
use crate::service::Service;

/// How often, and with which pauses, an address is tried whose former socket was just given up.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Listening sockets.
#[derive(Debug)]
pub struct Listening {
    /// All of them.
    pub listeners: Vec<TcpListener>,
    /// How many, the last ones or all, are to be given to systemd to keep.
    pub new: usize,
}

/// As [`super::bind`], with what systemd handed over: the sockets of a socket unit
/// are used alone; those kept from the run before are used as far as they fit.
/// The others stop listening, and `service` forgets them, before anything is
/// bound: until then nobody could listen where they do.
pub fn bind_or_take(
    addresses: &[IpAddr],
    port: u16,
    inherited: Inherited,
    service: &Service,
) -> Result<Listening, ListenError> {
    if !inherited.units.is_empty() {
        let taken: Result<Vec<_>, _> = inherited.units.into_iter().map(|unit| of_unit(unit, port)).collect();
        return Ok(Listening { listeners: taken?, new: 0 });
    }
    let (mut listeners, mut missing, mut outdated) = (Vec::new(), addresses.to_vec(), false);
    for stored in inherited.stored {
        let local = stored.local_addr().ok().filter(|local| local.port() == port);
        let fits = |address: &IpAddr| local.is_some_and(|local| local.ip() == *address);
        let wanted = missing.iter().position(fits);
        if !addresses.iter().any(fits) {
            silence(&stored);
        }
        match (wanted, adopt(stored)) {
            (Some(at), Some(listener)) => {
                missing.remove(at);
                listeners.push(listener);
            }
            // The configuration is another than in the run before.
            _ => outdated = true,
        }
    }
    if outdated {
        // Systemd can only forget all of one name.
        service.forget_kept();
        service.keep(&listeners);
    }
    let mut new = 0;
    if !missing.is_empty() {
        match bind_again(&missing, port, if outdated { TRIES } else { 1 }) {
            Ok(bound) => {
                new = bound.len();
                listeners.extend(bound);
            }
            // As when all are bound: an address that this machine lacks is no fault if there is another.
            Err(error) if listeners.is_empty() || !super::missing(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Listening { listeners, new })
}

/// Ends the listening of a socket for all who hold it, as systemd does: closing
/// it here alone would not, and systemd forgets it only when it reads that it should.
fn silence(stored: &StdListener) {
    if let Err(error) = shutdown(stored.as_raw_fd(), Shutdown::Both) {
        tracing::warn!("a listening socket of the run before cannot be shut down: {error}");
    }
}

/// Nothing else runs yet that the pauses could keep waiting.
fn bind_again(addresses: &[IpAddr], port: u16, tries: u32) -> Result<Vec<TcpListener>, ListenError> {
    for _ in 1..tries {
        match super::bind(addresses, port) {
            Err(ListenError::Taken { .. }) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    super::bind(addresses, port)
}

fn of_unit(unit: StdListener, port: u16) -> Result<TcpListener, ListenError> {
    let other = |address, error| ListenError::Other { address, error };
    let nowhere = || ([0, 0, 0, 0], port).into();
    let address = unit.local_addr().map_err(|error| other(nowhere(), error))?;
    if address.port() != port {
        return Err(ListenError::HandedOver { address, port });
    }
    unit.set_nonblocking(true).map_err(|error| other(address, error))?;
    TcpListener::from_std(unit).map_err(|error| other(address, error))
}

fn adopt(stored: StdListener) -> Option<TcpListener> {
    stored.set_nonblocking(true).ok()?;
    TcpListener::from_std(stored).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::test_dir::TestDir;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    /// At a port that is free at every address: of one that is free at this one alone connections
    /// that others made from elsewhere, or that are just over, keep whoever wants to listen there.
    fn listening(address: IpAddr) -> (StdListener, u16) {
        loop {
            let everywhere = StdListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a free port");
            let port = everywhere.local_addr().expect("bound").port();
            drop(everywhere);
            match StdListener::bind((address, port)) {
                Ok(listener) => return (listener, port),
                // Somebody was quicker.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("{address} is ours: {error}"),
            }
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_used_as_far_as_it_fits() {
        let (kept, port) = listening(V4);
        let (other, _) = listening(V4);
        let inherited = Inherited { units: Vec::new(), stored: vec![other, kept] };
        let taken = bind_or_take(&[V6, V4], port, inherited, &Service::default()).expect("the port is ours");
        assert_eq!((taken.listeners.len(), taken.new), (2, 1), "what fits was given back already");
        let addresses: Vec<_> = taken.listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        assert!(addresses.contains(&(V4, port).into()) && addresses.contains(&(V6, port).into()));

        let (kept, port) = listening(V4);
        let inherited = Inherited { units: Vec::new(), stored: vec![kept] };
        let taken = bind_or_take(&[V4], port, inherited, &Service::default()).expect("the port is ours");
        assert_eq!((taken.listeners.len(), taken.new), (1, 0));
    }

    #[tokio::test]
    async fn what_does_not_fit_any_more_does_not_stand_in_the_way() {
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let second = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        for (before, after) in [(everywhere, V4), (V4, everywhere), (V4, second)] {
            let (stored, port) = listening(before);
            // As systemd does all the while.
            let held = stored.try_clone().expect("a copy");
            let inherited = Inherited { units: Vec::new(), stored: vec![stored] };
            let taken = bind_or_take(&[after], port, inherited, &Service::default()).expect("ours alone");
            let addresses: Vec<_> = taken.listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
            assert_eq!((addresses, taken.new), (vec![(after, port).into()], 1), "{before} before");
            let error = held.accept().expect_err("nobody asked").kind();
            assert_eq!(error, std::io::ErrorKind::InvalidInput, "{before} listens no more");
        }
    }

    #[tokio::test]
    async fn systemd_forgets_what_does_not_fit_before_anything_is_bound() {
        let dir = TestDir::new();
        let path = dir.join("notify");
        let systemd = UnixDatagram::bind(&path).expect("bound");
        systemd.set_nonblocking(true).expect("set");
        let service =
            Service::from_env(|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into_os_string()));
        let ((other, _), (kept, port)) = (listening(V4), listening(V4));
        let taken = StdListener::bind((V6, port)).expect("free there too");
        let inherited = Inherited { units: Vec::new(), stored: vec![other, kept] };
        let error = bind_or_take(&[V6, V4], port, inherited, &service).expect_err("another has it");
        assert!(matches!(error, ListenError::Taken { .. }), "{error}");
        drop(taken);
        let heard: Vec<_> = std::iter::from_fn(|| {
            let mut buffer = [0; 512];
            let count = systemd.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(buffer.get(..count)?).into_owned())
        })
        .collect();
        assert_eq!(heard, ["FDSTOREREMOVE=1\nFDNAME=pigeonhubd\n", "FDSTORE=1\nFDNAME=pigeonhubd\n"]);
    }

    #[tokio::test]
    async fn a_socket_unit_is_used_alone_and_must_fit() {
        let (unit, port) = listening(V4);
        let inherited = Inherited { units: vec![unit], stored: Vec::new() };
        let taken = bind_or_take(&[V6], port, inherited, &Service::default()).expect("as the unit says");
        assert_eq!((taken.listeners.len(), taken.new), (1, 0));
        let (unit, port) = listening(V4);
        let inherited = Inherited { units: vec![unit], stored: Vec::new() };
        let error =
            bind_or_take(&[V4], 1, inherited, &Service::default()).expect_err("another port").to_string();
        assert!(
            error.contains(&format!("a socket for 127.0.0.1:{port}, but this hub's port is 1:")),
            "{error}"
        );
    }
}
