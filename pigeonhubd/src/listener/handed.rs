//! Listening on sockets that systemd handed over.

use std::net::{IpAddr, TcpListener as StdListener};

use tokio::net::TcpListener;

use super::{ListenError, bind};
use crate::inherit::Inherited;

/// Listening sockets.
#[derive(Debug)]
pub struct Listening {
    /// All of them.
    pub listeners: Vec<TcpListener>,
    /// How many, the last ones or all, are to be given to systemd to keep.
    pub new: usize,
    /// Of those that systemd kept some are of no use any more.
    pub outdated: bool,
}

/// As [`bind`], with what systemd handed over: the sockets of a socket unit
/// are used alone; those kept from the run before are used as far as they fit.
pub fn bind_or_take(addresses: &[IpAddr], port: u16, inherited: Inherited) -> Result<Listening, ListenError> {
    if !inherited.units.is_empty() {
        let taken: Result<Vec<_>, _> = inherited.units.into_iter().map(|unit| of_unit(unit, port)).collect();
        return Ok(Listening { listeners: taken?, new: 0, outdated: false });
    }
    let (mut listeners, mut missing, mut outdated) = (Vec::new(), addresses.to_vec(), false);
    for stored in inherited.stored {
        let local = stored.local_addr().ok().filter(|local| local.port() == port);
        let wanted = missing.iter().position(|address| local.is_some_and(|local| local.ip() == *address));
        match (wanted, adopt(stored)) {
            (Some(at), Some(listener)) => {
                missing.remove(at);
                listeners.push(listener);
            }
            // The configuration is another than in the run before.
            _ => outdated = true,
        }
    }
    // If some are outdated, systemd forgets all that it kept, and is given the rest anew.
    let mut new = if outdated { listeners.len() } else { 0 };
    if !missing.is_empty() {
        match bind(&missing, port) {
            Ok(bound) => {
                new += bound.len();
                listeners.extend(bound);
            }
            // As when all are bound: an address that this machine lacks is no fault if there is another.
            Err(error) if listeners.is_empty() || !super::missing(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Listening { listeners, new, outdated })
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

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn listening(address: IpAddr) -> (StdListener, u16) {
        let listener = StdListener::bind((address, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        (listener, port)
    }

    #[tokio::test]
    async fn what_was_kept_is_used_as_far_as_it_fits() {
        let (kept, port) = listening(V4);
        let (other, _) = listening(V4);
        let inherited = Inherited { units: Vec::new(), stored: vec![other, kept] };
        let taken = bind_or_take(&[V6, V4], port, inherited).expect("the port is ours");
        assert!(taken.outdated, "one is for another port");
        assert_eq!((taken.listeners.len(), taken.new), (2, 2), "both are to be kept anew");
        let addresses: Vec<_> = taken.listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        assert!(addresses.contains(&(V4, port).into()) && addresses.contains(&(V6, port).into()));

        let (kept, port) = listening(V4);
        let inherited = Inherited { units: Vec::new(), stored: vec![kept] };
        let taken = bind_or_take(&[V4], port, inherited).expect("the port is ours");
        assert_eq!((taken.listeners.len(), taken.new, taken.outdated), (1, 0, false));
    }

    #[tokio::test]
    async fn a_socket_unit_is_used_alone_and_must_fit() {
        let (unit, port) = listening(V4);
        let inherited = Inherited { units: vec![unit], stored: Vec::new() };
        let taken = bind_or_take(&[V6], port, inherited).expect("as the unit says");
        assert_eq!((taken.listeners.len(), taken.new), (1, 0));
        let (unit, port) = listening(V4);
        let inherited = Inherited { units: vec![unit], stored: Vec::new() };
        let error = bind_or_take(&[V4], 1, inherited).expect_err("another port").to_string();
        assert!(
            error.contains(&format!("a socket for 127.0.0.1:{port}, but this hub's port is 1:")),
            "{error}"
        );
    }
}
