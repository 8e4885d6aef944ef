//! Whole hubs, in this process and as the built program.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::paths::Surroundings;
use pigeonhubd::daemon::{Daemon, DaemonError};
use pigeonhubd::{listener, paths};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::ground::{Client, Folder, close_of, send};

fn config(folder: &Folder, port: u16, toml: &str) -> Config {
    let path = folder.path().display();
    let mut config = Config::default();
    let toml = format!(
        "runtime_dir = \"{path}/run-{port}\"\nstate_dir = \"{path}/state-{port}\"\n{toml}\n[bootstrap]\nhubs = []\n"
    );
    config.apply_file("test.toml", &toml).unwrap();
    let mut config = config.checked().unwrap();
    // A free port: no configuration may say so.
    (config.listen.host, config.listen.port) = ("127.0.0.1".parse().unwrap(), port);
    config
}

pub(crate) fn around(folder: &Folder) -> Surroundings {
    Surroundings { home: Some(folder.path().to_owned()), ..paths::surroundings(|_| None) }
}

pub(crate) fn start(folder: &Folder, toml: &str) -> Daemon {
    Daemon::start(&config(folder, 0, toml), &around(folder)).unwrap()
}

/// A free port of 127.0.0.1.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) async fn join(address: SocketAddr, digit: &str) -> Client {
    let id = digit.repeat(40);
    let (mut client, _) = connect_async(format!("ws://{address}/?peerId={id}")).await.unwrap();
    let connected = hear(&mut client).await;
    assert_eq!((&connected["type"], &connected["data"]["peerId"]), (&json!("connected"), &json!(id)));
    let announce = json!({"type": "announce", "networkName": "global", "data": {"peerId": id}});
    send(&mut client, announce.to_string()).await.unwrap();
    client
}

pub(crate) async fn hear(client: &mut Client) -> Value {
    match client.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("a message was expected, not {other:?}"),
    }
}

async fn page(address: SocketAddr, path: &str) -> Value {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn a_hub_serves_clients_and_tells_them_when_it_leaves() {
    let folder = Folder::new();
    let daemon = start(&folder, "[hub]\nenabled = false");
    let address = daemon.addresses()[0];
    let mut small = join(address, "1").await;
    let mut large = join(address, "f").await;
    for (client, other) in [(&mut small, "f"), (&mut large, "1")] {
        let found = hear(client).await;
        assert_eq!(
            (&found["type"], &found["data"]["peerId"]),
            (&json!("peer-discovered"), &json!(other.repeat(40)))
        );
    }
    let offer = json!({"type": "offer", "networkName": "global", "targetPeerId": "1".repeat(40), "data": {"sdp": "x"}});
    send(&mut large, offer.to_string()).await.unwrap();
    let got = hear(&mut small).await;
    assert_eq!(
        (&got["type"], &got["fromPeerId"], &got["data"]["sdp"]),
        (&json!("offer"), &json!("f".repeat(40)), &json!("x"))
    );

    let health = page(address, "/health").await;
    assert_eq!(
        (&health["isHub"], &health["peers"], &health["connections"]),
        (&json!(false), &json!(2), &json!(2))
    );
    assert_eq!(page(address, "/hubs").await["totalHubs"], 0);

    let stopping = tokio::spawn(daemon.stop());
    for client in [&mut small, &mut large] {
        assert_eq!(close_of(client).await.0, 1001, "going away");
        assert!(client.next().await.is_none(), "in order");
    }
    stopping.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    assert!(!folder.path().join("run-0/control.sock").exists());
}

#[tokio::test]
async fn a_hub_does_not_start_twice() {
    let folder = Folder::new();
    let first = start(&folder, "");
    let port = first.addresses()[0].port();
    let again = |port| Daemon::start(&config(&folder, port, ""), &around(&folder)).err().unwrap();
    let error = again(port);
    assert!(
        matches!(error, DaemonError::Listen(_)) && error.to_string().contains(&port.to_string()),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
    let error = again(0);
    assert!(matches!(error, DaemonError::Path(_)), "{error}");
    drop(first);
    // Its tasks, and what they hold, go as soon as they get a turn.
    while Daemon::start(&config(&folder, 0, ""), &around(&folder)).is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_key_file_that_is_named_must_exist() {
    let folder = Folder::new();
    let config = config(&folder, 0, "[mesh]\nkey_file = \"/nowhere/mesh.key\"");
    let error = Daemon::start(&config, &around(&folder)).err().unwrap();
    assert_eq!(error.exit_code(), 78);
    let message = error.to_string();
    assert!(message.starts_with("test.toml:") && message.contains("/nowhere/mesh.key"), "{message}");
}

/// The built program, on loopback and with folders of its own.
pub(crate) fn program(folder: &Folder, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pigeonhubd"));
    command.env_clear().env("HOME", folder.path()).env("PIGEONHUBD_CONFIG_DIR", folder.path());
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--no-bootstrap"]);
    command.arg("--runtime-dir").arg(folder.path().join("run"));
    command.arg("--state-dir").arg(folder.path().join("state"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits until it listens.
pub(crate) async fn wait_for(port: u16, child: &mut Child) -> TcpStream {
    loop {
        if let Ok(tcp) = TcpStream::connect(("127.0.0.1", port)).await {
            return tcp;
        }
        assert_eq!(child.try_wait().unwrap(), None, "it ended at its start");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

pub(crate) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn signals_end_the_program_in_order() {
    for ending in [Signal::SIGTERM, Signal::SIGINT] {
        let (folder, port) = (Folder::new(), free_port());
        let mut child = program(&folder, port, &[]).spawn().unwrap();
        let address = wait_for(port, &mut child).await.peer_addr().unwrap();
        let mut client = join(address, "a").await;
        signal(&child, ending);
        assert_eq!(close_of(&mut client).await.0, 1001);
        drop(client);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let log = told(&output);
        let id = "a".repeat(40);
        for line in
            ["hubMeshReady p2p_connections=0 total_hubs=1", &format!("peerConnected peer_id={id}"), "leaving"]
        {
            assert!(log.contains(line), "{line} in {log}");
        }
        assert!(!log.contains('\u{1b}'), "no colours outside a terminal: {log}");
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let (folder, port) = (Folder::new(), free_port());
    let mut child = program(&folder, port, &[]).spawn().unwrap();
    let address = wait_for(port, &mut child).await.peer_addr().unwrap();
    // A client that does not answer the close keeps the hub waiting for it.
    let client = join(address, "a").await;
    signal(&child, Signal::SIGTERM);
    let mut tcp = client.into_inner();
    let mut first = [0; 1];
    tcp.read_exact(&mut first).await.unwrap();
    signal(&child, Signal::SIGTERM);
    let output = child.wait_with_output().unwrap();
    // It may have left in order in the time between.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", told(&output));
    assert_eq!(output.status.code() == Some(1), told(&output).contains("second signal"), "{}", told(&output));
}

#[test]
fn a_refused_configuration_is_78_and_starts_nothing() {
    let folder = Folder::new();
    let table: [(&[&str], &str); 4] = [
        (&["--max-peers", "1"], "--max-peers"),
        (&["--bootstrap", "http://example"], "--bootstrap"),
        (&["--key-file", "/nowhere/mesh.key"], "/nowhere/mesh.key"),
        (&["--config", "/nowhere/hub.toml"], "/nowhere/hub.toml"),
    ];
    for (arguments, message) in table {
        let output = program(&folder, free_port(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", told(&output));
        assert!(told(&output).contains(message), "{}", told(&output));
        assert!(!told(&output).contains("listening"), "{}", told(&output));
    }
}

#[tokio::test]
async fn a_taken_port_is_1_and_is_named() {
    let folder = Folder::new();
    let taken = listener::bind(&["127.0.0.1".parse().unwrap()], 0).unwrap();
    let port = taken[0].local_addr().unwrap().port();
    let output = program(&folder, port, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        told(&output),
        format!(
            "pigeonhubd: port {port} is taken: another process listens on 127.0.0.1. \
             Stop it, or choose another port with --port\n"
        )
    );
}
