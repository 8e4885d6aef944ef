//! Floods of what costs a stranger little: pages, TLS handshakes, and what clients say of themselves.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pigeonhub_proto::wire::client::MAX_ANNOUNCE_DATA;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use serde_json::json;

use super::{MIB, PROXY, Siege, from, in_parallel, peer, stranger};
use crate::harness::{Ground, Hub, Need, Net, Plan, Raw, skipped, until};

/// Announces as large as may be, in as many networks as may be, from ever other addresses.
#[test]
fn announces_as_large_as_may_be() {
    const CLIENTS: usize = 320;
    const NETWORKS: usize = 16;
    let most = pigeonhub_proto::directory::MOST;
    let mut siege = Siege::new();
    // 80 MiB are offered. What is held costs a little more than its length, and all connections their buffers.
    let bound = most as u64 / MIB * 3 / 2 + 64;
    let refused = AtomicUsize::new(0);
    siege.attacked("320 clients that announce 256 KiB each", bound, |hub, turn| {
        let pad = "x".repeat(MAX_ANNOUNCE_DATA - 100);
        let peer = |number| peer(turn * 1000 + number);
        let clients = std::sync::Mutex::new(Vec::new());
        in_parallel(CLIENTS, |number| {
            let address = format!("198.51.{}.{}", number / 250, number % 250);
            let socket = stranger(hub, &peer(number), &address).expect("each has an address of its own");
            let mut raw = Raw::over(socket);
            for network in 0..NETWORKS {
                raw.say(&json!({
                    "type": "announce", "networkName": format!("{number}-{network}"), "data": {"pad": pad},
                }));
            }
            let errors = raw.settle().into_iter().filter(|message| message["type"] == "error");
            let errors = errors.inspect(|error| assert_eq!(error["code"], "limit-reached", "{error}"));
            refused.fetch_add(errors.count(), Ordering::Relaxed);
            clients.lock().expect("nobody panics").push(raw);
        });
        // An ordinary client is told of nothing wrong.
        let mut honest = Raw::join(hub, &peer(CLIENTS), "ordinary");
        let said = honest.settle();
        assert!(said.iter().all(|message| message["type"] != "error"), "{said:?}");
        let held = hub.figure("pigeonhubd_announce_data_bytes{home=\"local\"}");
        assert!(held <= most as u64 + 64 * 1024 && held >= most as u64 / 2, "{held}");
    });
    let refused = refused.into_inner();
    assert!(refused >= CLIENTS * NETWORKS / 10, "{refused}");
}

/// One client in a network of 80, from one address, that has something new to say of itself each time.
#[test]
fn announcing_again_and_again() {
    const OTHERS: usize = 79;
    const AGAIN: usize = 900;
    /// The least that each meets, by `max_candidates`.
    const MET: usize = 60;
    let mut siege = Siege::new();
    let begin = Instant::now();
    let (told, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    siege.attacked("900 announces of 4 KiB in a network of 80", 64, |hub, turn| {
        turns.fetch_add(1, Ordering::Relaxed);
        let join = |number: usize| {
            let address = format!("198.51.100.{number}");
            let socket = stranger(hub, &peer(turn * 1000 + number), &address).expect("room for each");
            let mut raw = Raw::over(socket);
            raw.say(&json!({"type": "announce", "networkName": "crowd", "data": {}}));
            raw
        };
        let mut others: Vec<Raw> = (1..=OTHERS).map(join).collect();
        others.iter_mut().for_each(|other| drop(other.settle()));
        let id = peer(turn * 1000);
        let mut attacker = Raw::over(stranger(hub, &id, "203.0.113.7").expect("room for it"));
        for number in 0..AGAIN {
            let pad = format!("{number:04096}");
            attacker.say(&json!({"type": "announce", "networkName": "crowd", "data": {"pad": pad}}));
        }
        attacker.settle();
        let mut heard = vec![0; OTHERS];
        until("somebody hears of the last one", || {
            let mut last = None;
            for (count, other) in heard.iter_mut().zip(&mut others) {
                for message in other.take().0 {
                    let of_it = message["type"] == "peer-discovered" && message["data"]["peerId"] == *id;
                    *count += usize::from(of_it);
                    let pad = message["data"]["pad"].as_str().and_then(|pad| pad.parse().ok());
                    last = last.or((of_it && pad == Some(AGAIN - 1)).then_some(()));
                }
            }
            last
        });
        told.fetch_add(heard.into_iter().max().unwrap_or_default(), Ordering::Relaxed);
    });
    // Each telling takes the time that its messages are worth at a thousand a second.
    let most = begin.elapsed().as_millis() as usize / (2 * MET) + 3 * turns.into_inner();
    let told = told.into_inner();
    assert!(told > 0 && told <= most, "{told} of {most}");
}

/// Asks for pages on one connection until that is closed; how many were answered with which status.
fn pages(hub: &Hub, most: usize) -> (usize, usize) {
    let mut socket = from(PROXY, hub);
    let request = "GET /health HTTP/1.1\r\nHost: hub\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
    // As fast as it goes; a hub that hangs up meanwhile resets the connection.
    let asked = request.repeat(most);
    let _ = socket.write_all(asked.as_bytes()).and_then(|()| socket.shutdown(std::net::Shutdown::Write));
    let mut answers = Vec::new();
    let _ = socket.read_to_end(&mut answers);
    let answers = String::from_utf8_lossy(&answers);
    (answers.matches("HTTP/1.1 200").count(), answers.matches("HTTP/1.1 429").count())
}

#[test]
fn a_flood_of_requests() {
    const CONNECTIONS: usize = 2_000;
    let mut siege = Siege::new();
    let (served, mut asked) = (AtomicUsize::new(0), 0);
    siege.attacked("requests for pages, 50 on each of 2,000 connections", 64, |hub, _| {
        asked += CONNECTIONS * 50;
        in_parallel(CONNECTIONS, |_| {
            served.fetch_add(pages(hub, 50).0, Ordering::Relaxed);
        });
    });
    let (served, refused) = (served.into_inner(), siege.refused("address-requests"));
    println!("hostile: of {asked} requests {served} were served, {refused} refused");
    assert!(served < asked / 2 && refused >= 100, "{served} {refused}");
}

/// A certificate in `ground`, and a client that trusts it.
fn certificate(ground: &Ground) -> (String, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([String::from("10.0.0.1")]).expect("a certificate");
    for (name, pem) in [("hub.crt", made.cert.pem()), ("hub.key.pem", made.signing_key.serialize_pem())] {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o600).open(ground.folder().join(name));
        file.as_mut().expect("a file").write_all(pem.as_bytes()).expect("room for it");
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    // Each handshake is to cost the hub a whole one.
    client.resumption = rustls::client::Resumption::disabled();
    let path = ground.folder().display();
    (format!("[tls]\ncert = \"{path}/hub.crt\"\nkey = \"{path}/hub.key.pem\"\n"), Arc::new(client))
}

/// From an address that is not loopback, which has no limits.
#[test]
fn a_flood_of_tls_handshakes() {
    const COUNT: usize = 5_000;
    const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 253);
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let (net, ground) = (Net::new(1), Ground::new());
    net.run(0, &format!("ip addr add {ATTACKER}/24 dev br0"));
    let (tls, client) = certificate(&ground);
    let config = format!("{tls}[listen]\nmax_connects_per_second = 10\n");
    let plan = Plan::first().config(&config).on(&net, 1, net.address(1));
    let mut siege = Siege::of(&plan, ground, Some(Arc::clone(&client)));
    let (opened, mut tried) = (AtomicUsize::new(0), 0);
    siege.attacked("5,000 TLS handshakes of one address", 64, |hub, _| {
        tried += COUNT;
        in_parallel(COUNT, |_| {
            let name = ServerName::try_from(hub.address.to_string()).expect("an address");
            let mut tls = ClientConnection::new(Arc::clone(&client), name).expect("a client");
            let mut tcp = from(ATTACKER, hub);
            tcp.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
            // Flushing has the handshake done.
            let done = Stream::new(&mut tls, &mut tcp).flush().is_ok() && !tls.is_handshaking();
            opened.fetch_add(usize::from(done), Ordering::Relaxed);
        });
    });
    let (opened, refused) = (opened.into_inner(), siege.refused("address-arrivals"));
    println!("hostile: of {tried} TLS handshakes {opened} were completed, {refused} cut off");
    assert!(opened >= 100 && refused >= 1000, "{opened} {refused}");
}
