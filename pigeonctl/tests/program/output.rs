//! What goes where, and what is asked.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fake::{Dir, ok, pigeonctl, refuse, run, status};

/// What the hub was asked, without the frame around it.
fn asked(arguments: &[&str]) -> Value {
    let dir = Dir::new();
    let seen = Arc::new(Mutex::new(Value::Null));
    let request = Arc::clone(&seen);
    dir.hub(3001, move |mut line| {
        assert_eq!(line["v"], 1);
        let object = line.as_object_mut().expect("an object");
        object.remove("v");
        object.remove("id");
        *request.lock().expect("no panic") = line;
        refuse("bad-request", "no")
    });
    assert_eq!(run(&dir, arguments).0, 1, "{arguments:?}");
    let seen = seen.lock().expect("no panic");
    seen.clone()
}

#[test]
fn each_command_asks_its_question() {
    for (arguments, request) in [
        (&["peers", "--network", "a b"][..], json!({ "cmd": "peers", "network": "a b" })),
        (&["peers", "show", "a1"], json!({ "cmd": "peer", "target": "a1" })),
        (&["networks"], json!({ "cmd": "networks" })),
        (&["links"], json!({ "cmd": "links" })),
        (&["topology", "--dot"], json!({ "cmd": "topology" })),
        (&["route", "a1"], json!({ "cmd": "route", "target": "a1" })),
        (&["trace", "a1"], json!({ "cmd": "trace", "target": "a1" })),
        (&["ping", "a1"], json!({ "cmd": "trace", "target": "a1" })),
        (
            &["events", "--since", "7", "--type", "hubmeshready", "--type", "refused,hubP2PConnected"],
            json!({ "cmd": "events", "since": 7, "types": ["hubMeshReady", "refused", "hubP2PConnected"], "follow": true }),
        ),
        (
            &["events", "--since", "10m", "--no-follow"],
            json!({ "cmd": "events", "since": 0, "types": [], "follow": false }),
        ),
        (&["config", "show"], json!({ "cmd": "config" })),
        (&["reload"], json!({ "cmd": "reload", "dry_run": false })),
        (&["reload", "--dry-run"], json!({ "cmd": "reload", "dry_run": true })),
        (&["drain"], json!({ "cmd": "drain" })),
        (&["undrain"], json!({ "cmd": "undrain" })),
        (&["disconnect", "a1"], json!({ "cmd": "disconnect", "target": "a1" })),
        (&["log-level", "debug"], json!({ "cmd": "log-level", "level": "debug" })),
        (
            &["log-level", "debug", "--for", "10m"],
            json!({ "cmd": "log-level", "level": "debug", "seconds": 600 }),
        ),
        (&["metrics"], json!({ "cmd": "metrics" })),
        (&["wait", "--ready"], json!({ "cmd": "status" })),
    ] {
        assert_eq!(asked(arguments), request, "{arguments:?}");
    }
}

fn events(numbers: &[u64]) -> String {
    let event =
        |number| json!({ "number": number, "at": 1000 * number, "event": "hubMeshReady", "fields": {} });
    ok(&json!({ "events": numbers.iter().map(event).collect::<Vec<_>>() }))
}

#[test]
fn events_are_followed_until_the_hub_hangs_up() {
    let dir = Dir::new();
    // Twelve that there were, then one after another; then it hangs up, as it does for a second question.
    let first = Mutex::new(true);
    let kept: Vec<u64> = (1..=12).collect();
    dir.hub(3001, move |_| match std::mem::take(&mut *first.lock().expect("no panic")) {
        true => format!("{}{}{}\u{0}\n", events(&kept), events(&[13]), events(&[14])),
        false => String::new(),
    });
    let (code, out, _) = run(&dir, &["events", "--json"]);
    let numbers: Vec<u64> = out
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("an object")["number"].as_u64().expect("a number")
        })
        .collect();
    assert_eq!(code, 1);
    assert_eq!(numbers, (3..=14).collect::<Vec<_>>(), "the last ten, and what followed");
}

#[test]
fn a_status_has_the_last_events_and_stands_without() {
    let dir = Dir::new();
    dir.hub(3001, |request| match request["cmd"].as_str() {
        Some("status") => ok(&status("ready")),
        _ => events(&[1, 2]),
    });
    let (code, out, err) = run(&dir, &["status"]);
    assert_eq!((code, err.as_str(), out.matches("hubMeshReady").count()), (0, "", 2), "{out}");
    let dir = Dir::new();
    dir.hub(3001, |request| match request["cmd"].as_str() {
        Some("status") => ok(&status("ready")),
        _ => refuse("bad-request", "unknown"),
    });
    assert_eq!(run(&dir, &["status"]).0, 0);
}

#[test]
fn no_colour_without_a_terminal() {
    let dir = Dir::new();
    dir.hub(3001, |_| ok(&status("ready")));
    let output = pigeonctl(&dir, &["status"]);
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn instances_are_listed_with_their_states() {
    let dir = Dir::new();
    dir.hub(3001, |_| ok(&status("ready")));
    dir.hub(3002, |_| String::from("?\n"));
    let dead = dir.path().join("pigeonhubd/3003");
    std::fs::create_dir_all(&dead).expect("a folder");
    drop(std::os::unix::net::UnixListener::bind(dead.join("control.sock")).expect("a socket"));
    let (code, out, _) = run(&dir, &["instances"]);
    assert_eq!(code, 0);
    let here = &*dir.path().to_string_lossy();
    let states: Vec<_> = out
        .lines()
        .filter(|line| line.contains(here))
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(states, ["3001 ready", "3002 unknown", "3003 stopped"], "{out}");
    let (_, out, _) = run(&dir, &["instances", "--json"]);
    let first: Value =
        serde_json::from_str(out.lines().find(|line| line.contains(here)).expect("ours")).expect("JSON");
    assert_eq!(
        (&first["port"], &first["status"]["state"], &first["error"]),
        (&3001.into(), &"ready".into(), &Value::Null)
    );
}

#[test]
fn versions_of_both_are_told() {
    let dir = Dir::new();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(run(&dir, &["version"]).1, format!("pigeonctl {own}\n"));
    dir.hub(3001, |_| ok(&status("ready")));
    assert_eq!(run(&dir, &["version"]).1, format!("pigeonctl {own}\npigeonhubd 0.1.0 (port 3001, up 5 s)\n"));
    assert_eq!(
        run(&dir, &["version", "--json"]).1,
        format!("{{\"pigeonctl\":\"{own}\",\"pigeonhubd\":\"0.1.0\"}}\n")
    );
}

#[test]
fn completions_know_every_shell() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, err) = run(&dir, &["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("topology") && out.contains("mermaid"), "{shell}");
    }
}

#[test]
fn a_picture_goes_to_its_file() {
    let dir = Dir::new();
    let hub = json!({ "hub_id": "1f".repeat(20), "own": true, "reachable": true, "ready": true, "draining": false, "url": null });
    dir.hub(3001, move |_| ok(&json!({ "topology": { "hubs": [hub], "links": [] } })));
    let file = dir.path().join("mesh.svg");
    let (code, out, _) = run(&dir, &["topology", "--svg", file.to_str().expect("plain")]);
    assert_eq!((code, out.as_str()), (0, ""));
    let image = std::fs::read_to_string(file).expect("written");
    assert!(image.starts_with("<svg ") && image.ends_with("</svg>\n"));
    assert_eq!(run(&dir, &["topology", "--svg", "-"]).1, image);
    assert_eq!(run(&dir, &["topology", "--svg", "/nowhere/mesh.svg"]).0, 1);
}

#[test]
fn a_doctor_works_without_a_hub() {
    let dir = Dir::new();
    let etc = dir.path().join("etc");
    std::fs::create_dir_all(&etc).expect("a folder");
    let key = dir.path().join("mesh.key");
    std::fs::write(&key, "0123456789abcdef").expect("a file");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let text = format!(
        "[listen]\nport = {port}\nhost = \"127.0.0.1\"\n[mesh]\nkey_file = {:?}\n[bootstrap]\nhubs = []\n",
        key.display()
    );
    std::fs::write(etc.join("pigeonhubd.toml"), text).expect("a file");
    let (code, out, err) = run(&dir, &["doctor", "--json"]);
    let findings: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let of = |check: &str| findings.iter().find(|finding| finding["check"] == check).expect(check);
    assert_eq!(code, 1, "the key is open to all: {out}{err}");
    assert_eq!(of("hub")["verdict"], "skipped");
    assert_eq!(of("configuration")["verdict"], "ok");
    assert_eq!(of("mesh key")["verdict"], "failed");
    assert!(of("mesh key")["cure"].as_str().is_some_and(|cure| cure.starts_with("chmod 600 ")));
    assert_eq!(of("UDP")["verdict"], "ok");
    assert_eq!(of("bootstrap")["verdict"], "skipped");
}
