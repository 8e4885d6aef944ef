//! This hub in the JavaScript hub's place: the same is tried with both, and the answers are compared.
//! What a client is told of other peers besides is in other tests; where the two differ on purpose
//! is in `differences`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Ground, Hub, JsHub, Need, Plan, Process, Raw, daemon, scripts, skipped, tied, until};

fn id(digits: &str) -> String {
    digits.repeat(20)
}

/// Runs a program of the published package, or a script beside it.
fn node(ground: &Ground, script: &str, arguments: &[&str]) -> String {
    let mut command: Command = tied("node");
    command.current_dir(ground.folder()).env("HOME", ground.folder());
    let Output { status, stdout, stderr } =
        command.arg(scripts().join(script)).args(arguments).output().expect("node runs");
    let (told, faults) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{script} {arguments:?}: {status}\n{told}\n{faults}");
    told.into_owned()
}

/// One with its defaults that can be told nothing by others on this machine.
fn ours(ground: &Ground) -> Hub {
    Plan::first().start(ground)
}

#[test]
fn at_its_door_it_answers_as_the_javascript_hub_does() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let (old, new) = (JsHub::start(&ground, &[]), ours(&ground));
    let answers = |url: &str| {
        let told = node(&ground, "door.mjs", &[url.trim_start_matches("ws://")]);
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let (there, here) = (answers(&old.url()), answers(&new.url()));
    assert!(there.len() > 80, "{there:?}");
    for (there, here) in there.iter().zip(&here) {
        assert_eq!(here, there);
    }
    assert_eq!(here.len(), there.len());
}

/// What `/health` says at once, if anybody listens there.
fn health(host: &str, port: u16) -> Option<String> {
    let mut tcp = TcpStream::connect((host, port)).ok()?;
    write!(
        tcp,
        "GET /health HTTP/1.1\r\nHost: hub\r\nOrigin: https://b.example\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

#[test]
fn it_starts_with_the_javascript_hubs_environment() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux");
    let hostname = hostname.trim();
    let origins = ("CORS_ORIGIN", "https://a.example,https://b.example");
    let mut rows = vec![
        ("localhost", vec![("HOST", "localhost"), ("MAX_CONNECTIONS", "0"), origins]),
        (
            "localhost",
            vec![("HOST", ""), ("MAX_CONNECTIONS", ""), ("CORS_ORIGIN", ""), ("HUB_MESH_NAMESPACE", "")],
        ),
        ("127.0.0.1", vec![("HOST", "0.0.0.0"), ("MAX_CONNECTIONS", "7"), ("HUB_MESH_NAMESPACE", "x")]),
    ];
    // Both families, where a machine has them.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        rows.push(("127.0.0.1", vec![("HOST", "::")]));
    }
    // Not every machine knows itself by its name.
    if (hostname, 0).to_socket_addrs().is_ok() {
        rows.push((hostname, vec![("HOST", hostname)]));
    }
    for (host, environment) in rows {
        let mut old = tied("node");
        old.arg(scripts().join("node_modules/peerpigeon/server/start.js"));
        let mut new = tied(daemon());
        new.args(["--metrics-listen=off", "--runtime-dir=run", "--state-dir=state"]);
        for mut command in [old, new] {
            let port = ground.port();
            command.arg("--bootstraps=").current_dir(ground.folder()).env_clear();
            command.envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", ground.folder());
            command.env("PIGEONHUBD_CONFIG_DIR", ground.folder()).env("PORT", port.to_string());
            let hub = Process::start("a hub", command.envs(environment.iter().copied()));
            until("it answers on its port", || health(host, port));
            drop(hub);
        }
    }
}

#[test]
fn each_page_of_several_is_told_that_it_may_read() {
    let ground = Ground::new();
    let config = "[listen]\ncors_origin = \"https://a.example, https://b.example\"\n";
    let hub = Plan::first().config(config).start(&ground);
    // The JavaScript hub tells each of them the whole list, which browsers take for none of them.
    let answer = health("127.0.0.1", hub.port).expect("it answers").to_lowercase();
    assert!(answer.contains("access-control-allow-origin: https://b.example\r\n"), "{answer}");
    assert!(answer.contains("vary: origin\r\n"), "{answer}");
}

#[test]
fn the_packages_own_program_shows_it() {
    if skipped(&[Need::Node]) {
        return;
    }
    let ground = Ground::new();
    let hub = ours(&ground);
    let _clients = [Raw::join(&hub, &id("a1"), "n"), Raw::join(&hub, &id("b2"), "n")];
    let port = hub.port.to_string();
    let shown = node(&ground, "node_modules/peerpigeon/cli.js", &["server-status", "--port", &port]);
    let line = |name: &str| {
        let line = shown.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {shown}")).trim()
    };
    assert_eq!((line("Status:"), line("Connections:"), line("Peers:")), ("healthy", "2", "2"));
    let whole =
        |text: &str, unit| text.strip_suffix(unit).is_some_and(|number| number.parse::<u32>().is_ok());
    assert!(whole(line("Uptime:"), "s"), "{shown}");
    assert!(whole(line("Memory:"), "MB") && line("Memory:") != "0MB", "{shown}");
}
