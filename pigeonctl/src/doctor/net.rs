//! The network: UDP, STUN and TURN, links, bootstraps.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::SystemTime;

use pigeonhub_proto::config::{Host, UdpPorts, WhenAlone};
use pigeonhub_proto::control::Offered;
use url::Url;

use super::ground::Ground;
use super::probe::{self, PATIENCE, Upgrade};
use super::{Finding, Verdict};
use crate::look::{count, duration};
use crate::show::not_offered;

/// Addresses of this machine that are tried at most.
const MOST_ADDRESSES: usize = 8;
/// Seconds that a bootstrap's clock may differ.
const SKEW: u64 = 30;

const UDP_CURE: &str = "allow UDP between the hubs in their firewalls; where that cannot be, configure TURN servers \
                        as [[mesh.ice_servers]]";

pub(super) const NO_ADDRESS_CURE: &str =
    "set listen.host to an address of this machine: ip -brief address lists them";

/// Where the hub listens, as it looks a name up.
pub(super) fn host(ground: &Ground) -> io::Result<Host> {
    ground.config.listen.host.clone().resolved(|name| {
        let first = (name, 0).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        Ok(first.ip())
    })
}

/// Who was turned away since the start. That strangers are is as it should be;
/// that there is no room may hit others as well.
pub(super) fn refused(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "refused";
    let Some(running) = &ground.running else { return Vec::new() };
    let refused = &running.status.refused;
    let told: Vec<String> = refused.iter().map(|(why, count)| format!("{why} {count}")).collect();
    let of_room = |why: &str| {
        matches!(
            why,
            "full"
                | "no-place"
                | "address-connections"
                | "address-connects"
                | "address-arrivals"
                | "address-requests"
                | "too-many-messages"
        )
    };
    vec![match told.is_empty() {
        true => Finding::ok(WHAT, "nobody since the start"),
        false if refused.keys().any(|why| of_room(why)) => Finding::warning(
            WHAT,
            told.join(", "),
            "if these are honest clients raise the listen.max_… keys; if all come through a proxy name it in \
             listen.trusted_proxies",
        ),
        false => Finding::ok(WHAT, told.join(", ")),
    }]
}

/// What the running hub offers to others for data channels.
fn offered(ground: &Ground) -> Option<&Offered> {
    ground.running.as_ref()?.status.offered.as_ref()
}

/// Whether other hubs are told where this machine is reached.
pub(super) fn addresses(ground: &Ground) -> Vec<Finding> {
    let Some(offered) = offered(ground) else { return Vec::new() };
    let mesh = &ground.config.mesh;
    addresses_of(offered, mesh.udp_ports.as_ref().map(UdpPorts::count), mesh.max_peers)
}

/// `ports` is how many `mesh.udp_ports` are.
pub(super) fn addresses_of(offered: &Offered, ports: Option<usize>, max_peers: usize) -> Vec<Finding> {
    const WHAT: &str = "addresses";
    let all = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let told = all(&offered.addresses);
    let mut findings = vec![match (offered.addresses.is_empty(), offered.left_out.is_empty()) {
        (true, _) => Finding::failed(
            WHAT,
            "none is offered to other hubs",
            "listen.host, mesh.addresses and mesh.interfaces leave none of those that this machine has now: \
             ip -brief address lists them",
        ),
        (false, true) => Finding::ok(WHAT, format!("offered to other hubs: {told}")),
        (false, false) => Finding::warning(
            WHAT,
            format!("offered to other hubs: {told}; too many for it: {}", all(&offered.left_out)),
            "if other hubs reach this machine at one of the latter, choose with mesh.addresses or mesh.interfaces, \
             such as mesh.interfaces = [\"!br-*\", \"!docker*\"]",
        ),
    }];
    let needed = max_peers + 2;
    let short = ports.filter(|ports| *ports < needed || offered.no_port > 0);
    findings.extend(short.map(|ports| {
        let found = match offered.no_port {
            0 => format!("mesh.udp_ports has {}", count(ports, "port")),
            vain => format!(
                "mesh.udp_ports has {}, of which none was free for {} since the start",
                count(ports, "port"),
                count(usize::try_from(vain).unwrap_or(usize::MAX), "data channel")
            ),
        };
        let cure = format!(
            "give it {needed} ports for each hub of this machine: mesh.max_peers and 2 for links that change hands"
        );
        Finding::warning("UDP ports", found, cure)
    }));
    findings
}

/// Whether UDP goes from each address of this machine to itself.
pub(super) fn udp(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "UDP";
    let mesh = &ground.config.mesh;
    let chosen = !mesh.addresses.is_empty() || !mesh.interfaces.is_empty();
    let addresses = match (offered(ground), host(ground)) {
        (Some(offered), _) => offered.addresses.clone(),
        (None, Ok(host)) if host == Host::Any || chosen => own_addresses(),
        (None, Ok(host)) => host.addresses(),
        // The port's finding says so.
        (None, Err(_)) => Vec::new(),
    };
    let mut through = Vec::new();
    for ip in addresses.into_iter().take(MOST_ADDRESSES) {
        match udp_pair(ip) {
            Ok(()) => through.push(ip.to_string()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable) => {}
            Err(error) => return vec![Finding::failed(WHAT, format!("{ip}: {error}"), UDP_CURE)],
        }
    }
    vec![match through.is_empty() {
        true => Finding::failed(WHAT, "no address that a link could use", NO_ADDRESS_CURE),
        false => Finding::ok(WHAT, format!("passes on {}", through.join(", "))),
    }]
}

/// Sends a datagram from one socket to another.
pub(super) fn udp_pair(ip: IpAddr) -> io::Result<()> {
    let (from, to) = (UdpSocket::bind((ip, 0))?, UdpSocket::bind((ip, 0))?);
    let word = b"pigeonctl doctor";
    to.set_read_timeout(Some(PATIENCE))?;
    from.send_to(word, to.local_addr()?)?;
    let mut got = [0; 64];
    match to.recv(&mut got) {
        Ok(len) if got.get(..len) == Some(word) => Ok(()),
        Ok(_) => Err(io::Error::other("another datagram came than was sent")),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "a datagram that was sent did not arrive")),
    }
}

/// Addresses of interfaces that are up; loopback only if there are no others.
fn own_addresses() -> Vec<IpAddr> {
    let found = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| Some(IpAddr::from(address.as_sockaddr_in6()?.ip())))
    });
    // A link-local address needs its interface named.
    let usable = |ip: &IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let found: BTreeSet<IpAddr> = found.filter(usable).collect();
    let others: Vec<IpAddr> = found.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    if others.is_empty() { found.into_iter().collect() } else { others }
}

/// Whether each STUN or TURN server answers.
pub(super) fn ice_servers(ground: &Ground) -> Vec<Finding> {
    let urls = ground.config.mesh.ice_servers.iter().flat_map(|server| &server.urls);
    urls.map(|url| ice_server(url)).collect()
}

pub(super) fn ice_server(url: &str) -> Finding {
    const WHAT: &str = "ICE server";
    let (scheme, rest) = url.split_once(':').unwrap_or(("stun", url));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let secure = scheme.ends_with('s');
    let default = if secure { 5349 } else { 3478 };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().unwrap_or(default))
        }
        _ => (place, default),
    };
    let asked = if secure || query == "transport=tcp" {
        probe::connect(host, port).map(|_| String::from("takes connections"))
    } else {
        let servers = probe::resolve(host, port);
        servers.and_then(|servers| stun(&servers)).map(|seen| format!("answers; sees us as {seen}"))
    };
    match asked {
        Ok(found) => Finding::ok(WHAT, format!("{url} {found}")),
        Err(error) => {
            let cure = format!(
                "check its name and port, and that {} to it is allowed",
                if secure { "TCP" } else { "UDP" }
            );
            Finding::warning(WHAT, format!("{url}: {error}"), cure)
        }
    }
}

/// As the first server of a family sees us that answers: a hub asks one of each.
fn stun(servers: &[SocketAddr]) -> Result<SocketAddr, String> {
    let of = |v6| servers.iter().copied().find(|server| server.is_ipv6() == v6);
    let mut answer = Err(String::from("it has no address"));
    for server in [of(true), of(false)].into_iter().flatten() {
        answer = probe::stun(server);
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Whether links are what they should be.
pub(super) fn links(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "links";
    let Some(running) = &ground.running else { return Vec::new() };
    let mut findings: Vec<Finding> = Vec::new();
    for link in running.links.iter().filter(|link| link.fallback) {
        let hub = link.hub_id.map(|hub| hub.short()).unwrap_or_default();
        let found = format!("no data channel to hub {hub} opens; a WebSocket stands in for it");
        let known = offered(ground).and_then(not_offered);
        let cure = match known {
            Some(known) => format!("first see to the addresses: {known}; else {UDP_CURE}"),
            None => String::from(UDP_CURE),
        };
        findings.push(Finding::warning(WHAT, found, cure));
    }
    for link in running.links.iter().filter(|link| link.transport == "p2p") {
        let hub = link.hub_id.map(|hub| hub.short()).unwrap_or_default();
        if let (Some(local), Some(remote)) = (&link.local_address, &link.remote_address) {
            findings.push(Finding::ok(WHAT, format!("to hub {hub}: {local} and {remote}")));
        }
    }
    if findings.is_empty() {
        let p2p = count(running.status.p2p_links, "data channel");
        findings.push(Finding::ok(WHAT, format!("{p2p}, none failed")));
    }
    findings
}

/// Whether each bootstrap can be reached, and is one.
pub(super) fn bootstraps(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "bootstrap";
    if !ground.config.hub.enabled {
        return vec![Finding::skipped(WHAT, "none needed: hub.enabled is false")];
    }
    let hubs = ground.config.settings().bootstrap_hubs;
    if !ground.config.bootstrap.auto_connect || hubs.is_empty() {
        return vec![Finding::skipped(WHAT, "none is dialled; other hubs can dial this one")];
    }
    let mut findings: Vec<Finding> =
        hubs.iter().flat_map(|url| bootstrap(url, ground.config.tls.ca.as_deref())).collect();
    // One that answers, or a mesh that stands, is enough; and the first hub of a mesh needs none.
    let joined = ground.running.as_ref().is_some_and(|running| running.status.known_hubs > 0);
    let any = findings.iter().any(|finding| finding.cure.is_none());
    let needed = ground.config.mesh.ready_when_alone == WhenAlone::Wait;
    if any || joined || !needed {
        for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Failed) {
            finding.verdict = Verdict::Warning;
        }
    }
    findings
}

pub(super) fn bootstrap(text: &str, ca: Option<&Path>) -> Vec<Finding> {
    const WHAT: &str = "bootstrap";
    let Ok(url) = Url::parse(text) else {
        return vec![Finding::failed(
            WHAT,
            format!("{text}: not a URL"),
            "pigeonctl check says what would be right",
        )];
    };
    let answer = match probe::upgrade(&url, ca) {
        Ok(answer) => answer,
        Err(error) => {
            let cure = if error.contains("UnknownIssuer") {
                "set tls.ca to the root certificate of that hub's, or give it one that this system trusts"
            } else {
                "start the hub there, or open its port to this machine; else correct bootstrap.hubs. \
                 The first hub of a mesh needs none"
            };
            return vec![Finding::failed(WHAT, format!("{text}: {error}"), cure)];
        }
    };
    let Upgrade { line, agreed, date } = answer;
    if !agreed {
        let found = format!("{text} answers {line:?}, not as a WebSocket");
        let cure = "correct the URL; a proxy in front of the hub has to pass Upgrade and Connection on";
        return vec![Finding::failed(WHAT, found, cure)];
    }
    let mut findings = vec![Finding::ok(WHAT, format!("{text} takes WebSockets"))];
    let now = SystemTime::now();
    let skew = date.map(|date| date.duration_since(now).or_else(|_| now.duration_since(date)));
    if let Some(Ok(skew)) = skew
        && skew.as_secs() > SKEW
    {
        let found = format!("{} apart from that of {text}", duration(skew.as_secs()));
        findings.push(Finding::warning(
            "clock",
            found,
            "set both: timedatectl set-ntp true, or install chrony",
        ));
    }
    findings
}
