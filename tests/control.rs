//! `pigeonctl` against running hubs.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
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
    assert_eq!(here.wait_type("peer-disconnected")["data"]["peerId"], "b2".repeat(20));
    first.wait("has forgotten it", |status| status.known_hubs == 0 && status.remote_peers == 0);
    until_ok("its control socket is gone", || match second.control_socket() {
        path if path.exists() => Err(path.display().to_string()),
        _ => Ok(()),
    });
}

/// The exit status, and what it prints, of one command to that hub.
pub(crate) fn steer(hub: &Hub, command: &[&str]) -> (i32, String, String) {
    let socket = hub.control_socket();
    let output = pigeonctl(&[&["--socket", socket.to_str().expect("a plain path")], command].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit status"), text(&output.stdout), text(&output.stderr))
}

/// The folder of a user goes with the last session of that user; rotators of logs send signals.
#[test]
fn a_hub_whose_folder_is_removed_and_that_is_sent_signals_goes_on_and_is_found_again() {
    let ground = Ground::new();
    let mut hub = Plan::first().start(&ground);
    let mut client = Raw::join(&hub, &"a1".repeat(20), "pigeons");
    std::fs::remove_dir_all(hub.control_socket().parent().expect("a folder")).expect("its own");
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        hub.signal(signal);
    }
    let socket = hub.control_socket();
    until_ok("the hub is found again", || UnixStream::connect(&socket).map_err(|error| error.to_string()));
    assert_eq!(hub.status().local_peers, 1);
    client.clock();
    assert!(hub.stop().success());
    assert!(!socket.exists());
}

#[test]
fn who_is_connected_can_be_disconnected_announced_or_not() {
    let ground = Ground::new();
    let hub = Plan::first().start(&ground);
    let (socket, silent) = (hub.control_socket(), "a1".repeat(20));
    let ctl = |words: &[&str]| {
        let output = pigeonctl(&[&["--socket", socket.to_str().expect("a plain path")], words].concat());
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    };
    let mut client = Raw::connect(&hub, &silent);
    let (found, told) = ctl(&["peers", "show", "a1a1"]);
    assert!(!found && told.contains("has announced itself in no network"), "{told}");
    let (done, told) = ctl(&["disconnect", "a1a1"]);
    assert!(done && told.contains(&format!("disconnected {silent}")), "{told}");
    let closed = client.wait_closed();
    assert!(format!("{closed:?}").contains("1008"), "{closed:?}");
    assert!(!ctl(&["disconnect", "a1a1"]).0, "it is gone");
}

#[test]
fn pigeonctl_finds_ways_through_the_mesh() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let second = Plan::through([first.url().as_str()]).start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let (own, other) = (first.status().hub_id.to_string(), second.status().hub_id.to_string());
    let mut there = Raw::join(&second, &"b2".repeat(20), "pigeons");
    let _here = Raw::join(&first, &"a1".repeat(20), "pigeons");
    first.wait("knows both peers", |status| (status.local_peers, status.remote_peers) == (1, 1));

    let [route] = &json_lines(&first, &["route", "b2b2"])[..] else { panic!("one line") };
    assert_eq!(
        (&route["hub_id"], &route["path"]),
        (&other.as_str().into(), &serde_json::json!([own, other]))
    );
    let [hop] = &json_lines(&first, &["trace", &other])[..] else { panic!("one hop") };
    assert_eq!(
        (&hop["hub_id"], &hop["hop"], &hop["last"]),
        (&other.as_str().into(), &1.into(), &true.into())
    );
    assert_eq!(steer(&first, &["ping", &other, "--count", "1"]).0, 0);
    let [mesh] = &json_lines(&first, &["topology"])[..] else { panic!("one line") };
    assert_eq!(
        (mesh["hubs"].as_array().map(Vec::len), mesh["links"].as_array().map(Vec::len)),
        (Some(2), Some(1))
    );
    // Beside it, until the mesh migrates, the WebSocket through which the second joined.
    let links = json_lines(&first, &["links"]);
    let link = links.iter().find(|link| link["transport"] == "p2p").expect("a data channel");
    assert_eq!(link["hub_id"], other);
    let (code, drawing, _) = steer(&first, &["topology"]);
    assert!(code == 0 && drawing.contains(&own[..8]) && drawing.contains(&other[..8]), "{drawing}");

    let (code, _, told) = steer(&first, &["disconnect", "b2b2"]);
    assert!(code == 8 && told.contains(&other), "a peer elsewhere, and where: {told}");
    assert_eq!(steer(&second, &["disconnect", "b2b2"]).0, 0);
    there.wait_closed();
    assert_eq!(steer(&first, &["route", "ffff"]).0, 8);
}

/// What the doctor asks of a bootstrap nobody has to wonder about.
#[test]
fn a_doctors_probe_is_refused_by_nobody() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let second = Plan::through([first.url().as_str()]).start(&ground);
    second.wait_ready(1);
    let findings = json_lines(&second, &["doctor"]);
    let bootstrap = findings.iter().find(|finding| finding["check"] == "bootstrap").expect("it has one");
    assert_eq!(bootstrap["verdict"], "ok", "{bootstrap}");
    // Asked for over the same listener, so its WebSocket was here before this answer.
    let seen = Raw::join(&first, &"a1".repeat(20), "pigeons");
    assert_eq!(first.status().refused.len(), 0, "{:?}", first.status().refused);
    assert!(!first.events().contains(&"refused"));
    drop(seen);
}

#[test]
fn pigeonctl_reloads_drains_and_waits() {
    let ground = Ground::new();
    let hub = Plan::first().config("[mesh]\nmax_peers = 3\n").start(&ground);
    assert_eq!(steer(&hub, &["wait", "--ready", "--timeout", "1m"]).0, 0);
    let file = ground.folder().join(format!("{}.toml", hub.port));
    std::fs::write(&file, "[mesh]\nmax_peers = 1000\n").expect("a file");
    let (code, changed, told) = steer(&hub, &["reload"]);
    assert_eq!((code, changed.as_str()), (6, ""), "{told}");
    assert!(told.contains(".toml:2:13: mesh.max_peers = 1000: out of range"), "{told}");
    std::fs::write(&file, "[mesh]\nmax_peers = 5\n").expect("a file");
    let difference = "- mesh.max_peers = 3\n+ mesh.max_peers = 5\n";
    for command in [&["reload", "--dry-run"][..], &["reload"]] {
        let (code, changed, told) = steer(&hub, command);
        assert_eq!((code, changed.as_str()), (0, difference), "{told}");
    }
    let (_, config, _) = steer(&hub, &["config", "show", "--origin"]);
    let line = config.lines().find(|line| line.starts_with("max_peers = 5 ")).expect("the new value");
    assert!(line.ends_with(&format!("{}.toml:2", hub.port)), "{line}");

    assert_eq!(steer(&hub, &["drain"]).0, 0);
    let (code, _, told) = steer(&hub, &["wait", "--ready", "--timeout", "0s"]);
    assert!(code == 5 && told.contains("draining"), "{told}");
    assert_eq!(steer(&hub, &["undrain"]).0, 0);
    assert_eq!(steer(&hub, &["wait", "--ready", "--timeout", "1m"]).0, 0);
    assert!(
        json_lines(&hub, &["events", "--no-follow"]).iter().any(|event| event["event"] == "hubMeshReady")
    );
    assert!(steer(&hub, &["metrics"]).1.ends_with("# EOF\n"));
}

#[test]
fn pigeonctl_shows_what_a_link_carried_and_over_which_candidates() {
    let ground = Ground::new();
    let first = Plan::first().start(&ground);
    let second = Plan::through([first.url().as_str()]).start(&ground);
    second.wait("has a data channel", |status| status.p2p_links == 1);
    let links = json_lines(&second, &["links"]);
    let link = links.iter().find(|link| link["transport"] == "p2p").expect("the data channel");
    assert_eq!(link["hub_id"], first.status().hub_id.to_string());
    for end in ["local_address", "remote_address"] {
        assert!(link[end].as_str().is_some_and(|address| address.contains("127.0.0.1:")), "{end} of {link}");
    }
    // Until the mesh migrates, the WebSocket through which it joined is there too, at both ends.
    let far_end = |hub: &Hub| {
        let links = json_lines(hub, &["links"]);
        let socket = links.iter().find(|link| link["transport"] == "ws")?.clone();
        Some(socket["remote_address"].as_str().expect("an address or URL").to_owned())
    };
    let ends = [(far_end(&second), first.url()), (far_end(&first), String::from("127.0.0.1"))];
    for (end, expected) in ends.into_iter().filter_map(|(end, expected)| Some((end?, expected))) {
        assert_eq!(end.trim_end_matches('/'), expected.trim_end_matches('/'));
    }
    until_ok("something was sent and received", || {
        let links = json_lines(&second, &["links"]);
        let link = links.iter().find(|link| link["transport"] == "p2p").expect("the data channel");
        let counted = |name: &str| link[name].as_u64().is_some_and(|bytes| bytes > 0);
        if counted("bytes_sent") && counted("bytes_received") { Ok(()) } else { Err(link.to_string()) }
    });
    let status = &json_lines(&second, &["status"])[0];
    assert!(status["config_age"].is_u64(), "{status}");
    let refused = pigeonctl(&[
        "--socket",
        second.control_socket().to_str().expect("a plain path"),
        "log-level",
        "loud",
    ]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && told.contains("loud") && told.contains("debug"), "{told}");
}
