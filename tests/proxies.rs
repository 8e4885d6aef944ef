//! Clients behind a reverse proxy as a distribution ships it: what it thinks of those that are silent.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite;

use crate::harness::{Closed, Ground, Need, Plan, Process, Raw, skipped, tied, until_ok};

/// Longer than Debian's HAProxy leaves a connection open on which nothing passes: 50 s.
const SILENCE: Duration = Duration::from_secs(56);

/// HAProxy before the hub on `port`, with all that its package sets by default.
fn haproxy(ground: &Ground, hub: u16, port: u16) -> Process {
    let packaged = fs::read_to_string("/etc/haproxy/haproxy.cfg").expect("the package's configuration");
    let defaults = packaged.lines().skip_while(|line| line.trim() != "defaults");
    let mut config: String =
        defaults.filter(|line| !line.contains("log")).fold(String::from("global\n"), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        });
    assert!(config.contains("timeout client  50000"), "{config}");
    let _ = write!(config, "\nlisten clients\n\tbind 127.0.0.1:{port}\n\tserver hub 127.0.0.1:{hub}\n");
    let file = ground.folder().join("haproxy.cfg");
    fs::write(&file, config).expect("a file");
    let process = Process::start("haproxy", tied("haproxy").arg("-db").arg("-f").arg(file));
    until_ok("HAProxy listens", || {
        TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    });
    process
}

#[test]
fn haproxy_with_its_packages_defaults_cuts_off_no_silent_client() {
    if skipped(&[Need::Haproxy]) {
        return;
    }
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let port = ground.port();
    let _haproxy = haproxy(&ground, hub.port, port);
    let mut clients = Vec::new();
    for n in 0..30 {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("HAProxy listens");
        let url = format!("ws://127.0.0.1:{port}/?peerId={n:040x}");
        let (socket, _) = tungstenite::client(url, stream).expect("a WebSocket through HAProxy");
        let mut client = Raw::over(socket);
        client.wait_type("connected");
        clients.push(client);
        // Whatever the hub's rhythm, some come at a bad moment.
        sleep(Duration::from_millis(50));
    }
    let start = Instant::now();
    let mut cut: Vec<Closed> = Vec::new();
    while start.elapsed() < SILENCE {
        sleep(Duration::from_millis(500));
        clients.retain_mut(|client| {
            let closed = client.closed_by_now();
            cut.extend(closed.clone());
            closed.is_none()
        });
    }
    assert_eq!(cut, [], "{} of 30 stayed", clients.len());
}
