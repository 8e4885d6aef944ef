//! Ports and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pigeonhub_proto::config::Host;
use pigeonhubd::listener::{ListenError, bind, look_up, named};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[tokio::test]
async fn a_taken_port_is_named() {
    let first = bind(&[V4], 0).unwrap();
    let port = first[0].local_addr().unwrap().port();
    let error = bind(&[V4], port).unwrap_err();
    assert!(matches!(error, ListenError::Taken { .. }), "{error}");
    let message = error.to_string();
    assert!(message.starts_with(&format!("port {port} is taken")) && message.contains("--port"), "{message}");
    // A wildcard takes the same port on all addresses, so it is taken for it too.
    let error = bind(&[Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()], port).unwrap_err();
    assert!(matches!(error, ListenError::Taken { .. }), "{error}");
    drop(first);
    bind(&[V4], port).unwrap();
}

/// The kernel gives ports to connections as well.
#[tokio::test]
async fn a_port_that_a_connection_has_is_called_that() {
    let far = std::net::TcpListener::bind((V4, 0)).unwrap();
    let connection = std::net::TcpStream::connect(far.local_addr().unwrap()).unwrap();
    let port = connection.local_addr().unwrap().port();
    let message = bind(&[V4], port).unwrap_err().to_string();
    let expected =
        format!("port {port} is taken: a connection from here to {} has it", far.local_addr().unwrap());
    assert!(message.starts_with(&expected) && message.contains("--port"), "{message}");
}

#[tokio::test]
async fn both_families_share_a_port() {
    let has_v6 = std::net::TcpListener::bind((V6, 0)).is_ok();
    let listeners = bind(&[V6, V4], 0).unwrap();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    assert_eq!(addresses.len(), if has_v6 { 2 } else { 1 }, "{addresses:?}");
    let port = addresses[0].port();
    for address in addresses {
        assert_eq!(address.port(), port);
        tokio::net::TcpStream::connect(address).await.unwrap();
    }
}

#[tokio::test]
async fn an_address_that_may_come_is_listened_on() {
    // TEST-NET-1 (RFC 5737), and its like of IPv6 (RFC 3849): nobody's.
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let listeners = bind(&[elsewhere], 0).unwrap();
    assert_eq!(listeners[0].local_addr().unwrap().ip(), elsewhere);
    if std::net::TcpListener::bind((V6, 0)).is_ok() {
        let elsewhere = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        assert_eq!(bind(&[elsewhere], 0).unwrap()[0].local_addr().unwrap().ip(), elsewhere);
    }
    assert_eq!(bind(&[elsewhere, V4], 0).unwrap().len(), 1, "those that there are do");
}

#[tokio::test]
async fn a_name_is_looked_up() {
    assert!(look_up("localhost").unwrap().is_loopback());
    let error = look_up("no-such-name.invalid").unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on no-such-name.invalid, which listen.host names"), "{error}");
}

#[tokio::test]
async fn a_name_that_comes_late_is_waited_for() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let second_time = move |name: &str| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Err(look_up("no-such-name.invalid").unwrap_err()),
        _ => Ok(if name == "late" { V4 } else { V6 }),
    };
    let host: Host = "late".parse().unwrap();
    assert_eq!(named(host, second_time).await.unwrap().addresses(), [V4]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let host: Host = "127.0.0.2".parse().unwrap();
    let nobody = |_: &str| unreachable!("an address needs no question");
    assert_eq!(named(host.clone(), nobody).await.unwrap(), host);
}

#[tokio::test]
async fn the_file_limit_is_raised_to_the_hard_one() {
    let hard = pigeonhubd::daemon::raise_file_limit().unwrap();
    use nix::sys::resource::{Resource, getrlimit};
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
}
