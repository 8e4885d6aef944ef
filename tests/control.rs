//! `pigeonctl` against running hubs.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Ground, Hub, Plan, Raw, daemon, until_ok};

fn pigeonctl(arguments: &[&str]) -> Output {
    // Cargo builds all binaries into one folder; tests/run builds this one first.
    let program: PathBuf = daemon().with_file_name("pigeonctl");
    assert!(program.is_file(), "{} is not built: cargo build --workspace --bins", program.display());
    Command::new(program).args(arguments).output().expect("pigeonctl runs")
}

/// What it prints as JSON, one object a line.
fn json_lines(hub: &Hub, command: &[&str]) -> Vec<Value> {
    let socket = hub.control_socket();
    let arguments = [&["--socket", socket.to_str().expect("a plain path")], command, &["--json"]].concat();
    let output = pigeonctl(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

#[test]
fn pigeonctl_shows_a_hub_its_mesh_and_its_peers() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let second = Plan::through([first.url().as_str()]).start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let _here = Raw::join(&first, &"a1".repeat(20), "pigeons");
    let _there = Raw::join(&second, &"B2".repeat(20), "pigeons");
    first.wait("knows both peers", |status| (status.local_peers, status.remote_peers) == (1, 1));

    let [status] = &json_lines(&first, &["status"])[..] else { panic!("one line") };
    for key in
        ["hub_id", "state", "ready", "migrated", "p2p_links", "ws_links", "networks", "uptime", "version"]
    {
        assert!(!status[key].is_null(), "{key} in {status}");
    }
    assert_eq!((&status["port"], &status["known_hubs"]), (&first.port.into(), &1.into()));
    assert_eq!((&status["local_peers"], &status["remote_peers"]), (&1.into(), &1.into()));

    let hubs = json_lines(&first, &["hubs"]);
    let other = hubs.iter().find(|hub| hub["own"] == false).expect("the other hub");
    assert_eq!(other["hub_id"], second.status().hub_id.to_string());
    assert_eq!(other["reachable"], true);
    assert_eq!(hubs.len(), first.hubs().len());

    let peers = json_lines(&first, &["peers"]);
    let mut ids: Vec<_> =
        peers.iter().map(|peer| (peer["peer_id"].as_str().expect("an id"), &peer["local"])).collect();
    ids.sort_by_key(|(id, _)| id.to_lowercase());
    let (a, b) = ("a1".repeat(20), "B2".repeat(20));
    assert_eq!(ids, [(a.as_str(), &Value::Bool(true)), (b.as_str(), &Value::Bool(false))]);
    assert_eq!(peers.len(), first.peers().len());
}

#[test]
fn pigeonctl_says_clearly_that_no_hub_is_there() {
    let ground = Ground::new();
    let socket = ground.folder().join("nobody.sock");
    let socket = socket.to_str().expect("a plain path");
    let output = pigeonctl(&["--socket", socket, "status"]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(socket), "it names the socket: {told}");
}

#[test]
fn a_hub_that_is_told_to_end_leaves_no_socket_and_no_peer_behind() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let mut second = Plan::through([first.url().as_str()]).start(&ground);
    first.wait_ready(1);
    let mut here = Raw::join(&first, &"a1".repeat(20), "pigeons");
    let mut there = Raw::join(&second, &"b2".repeat(20), "pigeons");
    here.wait_type("peer-discovered");
    assert!(second.stop().success(), "SIGTERM is an orderly end");
    there.wait_closed();
    assert_eq!(here.wait_type("goodbye")["fromPeerId"], "b2".repeat(20));
    first.wait("has forgotten it", |status| status.known_hubs == 0 && status.remote_peers == 0);
    until_ok("its control socket is gone", || match second.control_socket() {
        path if path.exists() => Err(path.display().to_string()),
        _ => Ok(()),
    });
}
