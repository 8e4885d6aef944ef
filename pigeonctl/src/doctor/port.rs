//! The port: whether the hub answers there, or could listen.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::ground::{Ground, Running};
use super::net::{NO_ADDRESS_CURE, host};
use super::{Finding, probe};

/// Whether the hub is reached on its port, or could listen on it.
pub(super) fn port(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "port";
    let port = ground.config.listen.port;
    let tls = ground.config.tls.cert.is_some();
    if let Some(Running { status, .. }) = &ground.running
        && !status.listening.is_empty()
    {
        return answering(&status.listening, &status.hub_id.to_string(), tls);
    }
    let host = match host(ground) {
        Ok(host) => host,
        Err(error) => {
            let found = format!("listen.host = \"{}\": {error}", ground.config.listen.host);
            return vec![Finding::failed(WHAT, found, NO_ADDRESS_CURE)];
        }
    };
    if let Some(Running { status, .. }) = &ground.running {
        // A hub that does not tell where it listens.
        let at = host.addresses().into_iter().map(|ip| SocketAddr::new(ip, port)).collect::<Vec<_>>();
        return answering(&at, &status.hub_id.to_string(), tls);
    }
    if ground.hangs {
        return vec![Finding::skipped(WHAT, "the hub that does not answer has it")];
    }
    vec![free(&host.addresses(), port)]
}

/// Whether a hub answers on each of the addresses that it listens on. A machine without IPv6 is none
/// the worse for it, as long as there is another.
pub(super) fn answering(listening: &[SocketAddr], hub_id: &str, tls: bool) -> Vec<Finding> {
    let (mut findings, mut absent) = (Vec::new(), Vec::new());
    for at in listening {
        let address = SocketAddr::new(reachable(at.ip()), at.port());
        match TcpListener::bind((address.ip(), 0)) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => absent.push(lacking(*at)),
            _ => findings.push(answers(address, hub_id, tls)),
        }
    }
    if findings.is_empty() { absent } else { findings }
}

/// It listens on an address that this machine does not have.
fn lacking(at: SocketAddr) -> Finding {
    let found = format!("listens on {at}, an address that this machine does not have now");
    let cure = "wait until its network is up, or set listen.host to one that ip -brief address lists";
    Finding::failed("port", found, cure)
}

fn answers(address: SocketAddr, hub_id: &str, tls: bool) -> Finding {
    const WHAT: &str = "port";
    let (ip, port) = (address.ip(), address.port());
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    match probe::connect(&ip.to_string(), port).and_then(|stream| probe::exchange(stream, &request)) {
        Ok(head) if head.starts_with("HTTP/1.1 200") || head.contains(hub_id) => {
            Finding::ok(WHAT, format!("{address} answers"))
        }
        Ok(head) if tls && head.starts_with("HTTP/1.1 400") => {
            Finding::ok(WHAT, format!("{address} answers, and speaks TLS"))
        }
        Ok(head) => {
            let line = head.lines().next().unwrap_or_default();
            let cure = "the hub reports itself unwell: pigeonctl status says why";
            Finding::warning(WHAT, format!("{address} answers {line:?}"), cure)
        }
        Err(error) => {
            let cure = "look whether the hub hangs, or a firewall of this machine blocks its own port";
            Finding::failed(WHAT, format!("{address}: {error}"), cure)
        }
    }
}

/// Whether a hub could listen there. A machine without IPv6 is none the worse for it.
pub(super) fn free(addresses: &[IpAddr], port: u16) -> Finding {
    const WHAT: &str = "port";
    // Each is closed before the next is tried: one for all addresses takes IPv4 as well.
    let faults: Vec<(IpAddr, io::Error)> = addresses
        .iter()
        .filter_map(|ip| Some((*ip, TcpListener::bind((*ip, port)).map(drop).err()?)))
        .collect();
    let in_use = faults.iter().find(|(_, error)| error.kind() == io::ErrorKind::AddrInUse);
    let all = faults.first().filter(|_| faults.len() == addresses.len());
    match in_use.or(all) {
        Some((ip, error)) => Finding::failed(
            WHAT,
            format!("{}: {error}", SocketAddr::from((*ip, port))),
            bind_cure(error, port),
        ),
        None => Finding::ok(WHAT, format!("{port} is free")),
    }
}

fn bind_cure(error: &io::Error, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "see who has it, a listener or a connection: ss -atnp 'sport = :{port}'; end that, or set \
                 listen.port to another"
            )
        }
        io::ErrorKind::PermissionDenied => {
            String::from("a port below 1024 needs AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit")
        }
        _ => String::from(NO_ADDRESS_CURE),
    }
}

/// Where a listener on that address is reached from here.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    }
}
