//! Every command by its output, as a person and as a program gets it, and
//! against hubs that are not as they should be. To write the files anew:
//! `PIGEONCTL_GOLDEN=write cargo test -p pigeonctl`, then read the difference.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use crate::fake::{Dir, ok, run, status};

/// Later than any test runs: shown as `now`.
const AT: u64 = 253_370_764_800_000;

fn id(byte: &str) -> String {
    byte.repeat(20)
}

/// What a hub with one link and one peer answers, to everything that there is to ask.
fn answer(request: &Value) -> Value {
    let (own, other, peer) = (id("1f"), id("2a"), id("B2"));
    let hub = |hub: &str, own: bool| {
        json!({ "hub_id": hub, "own": own, "reachable": true, "link": if own { None } else { Some("p2p") },
            "distance": usize::from(!own), "next_hop": if own { None } else { Some(hub) },
            "urls": [format!("ws://{}.example", &hub[..2])], "ready": true, "draining": false,
            "rtt_us": if own { None } else { Some(812) }, "registered_at": AT, "last_activity": AT })
    };
    let event = |number: u64, name: &str, fields: Value| json!({ "number": number, "at": AT, "event": name, "fields": fields });
    let drawn = |hub: &str, own: bool| {
        json!({ "hub_id": hub, "own": own, "reachable": true, "ready": true, "draining": false,
            "url": format!("ws://{}.example", &hub[..2]) })
    };
    let done = |what: &str| json!({ "done": what });
    match request["cmd"].as_str().expect("a command") {
        "status" => status("ready"),
        "hubs" => json!({ "hubs": [hub(&own, true), hub(&other, false)] }),
        "peers" | "peer" => json!({ "peers": [
            { "peer_id": peer, "network": "global", "hub_id": other, "local": false, "announced_at": AT }
        ] }),
        "networks" => json!({ "networks": [
            { "network": "global", "local_peers": 0, "remote_peers": 1, "hubs": 1 }
        ] }),
        "links" => json!({ "links": [
            { "conn": 4, "hub_id": other, "transport": "p2p", "fallback": false, "wanted": true, "age": 60,
              "silence_ms": 12, "rtt_us": 812, "bytes_sent": 4096, "bytes_received": 999,
              "local_address": "udp host 10.0.0.1:5000", "remote_address": "udp srflx 10.0.0.2:5001" }
        ] }),
        "topology" => json!({ "topology": {
            "hubs": [drawn(&own, true), drawn(&other, false)],
            "links": [{ "a": own, "b": other, "p2p": true, "counted": true }],
        } }),
        "route" => json!({ "route": { "peer_id": peer, "network": "global", "hub_id": other,
            "path": [own, other], "why": "linked directly" } }),
        "trace" => json!({ "trace": [{ "hub_id": other, "hop": 1, "rtt_us": 900, "last": true }] }),
        "config" => json!({ "config": [
            { "key": "listen.port", "value": "3001", "origin": "--port" },
            { "key": "mesh.max_peers", "value": "4", "origin": "/etc/pigeonhubd/pigeonhubd.toml:3" },
            { "key": "mesh.min_peers", "value": "2", "origin": "default" },
        ] }),
        "events" => json!({ "events": [
            event(1, "peerAnnounced", json!({ "peerId": peer, "network": "a\u{9b}2J" })),
            event(2, "hubMeshReady", json!({ "p2pConnections": 1, "totalHubs": 2 })),
        ] }),
        "metrics" => {
            json!({ "metrics": "# HELP pigeonhubd_links Open links.\n# TYPE pigeonhubd_links gauge\n\
            pigeonhubd_links{transport=\"p2p\"} 1\n# EOF\n" })
        }
        "reload" => json!({ "reload": { "changed": [
            { "key": "mesh.max_peers", "old": "3", "new": "4", "needs_restart": false },
            { "key": "listen.port", "old": "3001", "new": "3002", "needs_restart": true },
        ], "mesh_key_changed": true, "files_changed": ["tls.cert"] } }),
        "drain" => done("draining"),
        "undrain" => done("takes clients again"),
        "disconnect" => done("disconnected"),
        "log-level" => done("the log level is debug"),
        other => panic!("nobody asks for {other}"),
    }
}

/// Every command that asks a hub, by the name of its golden files.
const ASKING: [(&str, &[&str]); 25] = [
    ("status", &["status"]),
    ("instances", &["instances"]),
    ("peers", &["peers"]),
    ("peers-show", &["peers", "show", "b2"]),
    ("networks", &["networks"]),
    ("hubs", &["hubs"]),
    ("links", &["links"]),
    ("topology", &["topology"]),
    ("topology-dot", &["topology", "--dot"]),
    ("topology-mermaid", &["topology", "--mermaid"]),
    ("topology-svg", &["topology", "--svg", "-"]),
    ("route", &["route", "b2"]),
    ("trace", &["trace", "b2"]),
    ("ping", &["ping", "2a", "--count", "1"]),
    ("events", &["events", "--no-follow"]),
    ("config-show", &["config", "show"]),
    ("config-show-origin", &["config", "show", "--origin"]),
    ("reload", &["reload"]),
    ("drain", &["drain"]),
    ("undrain", &["undrain"]),
    ("disconnect", &["disconnect", "b2"]),
    ("log-level", &["log-level", "debug"]),
    ("metrics", &["metrics"]),
    ("wait", &["wait", "--ready", "--timeout", "5s"]),
    ("version", &["version"]),
];

/// Compares with the file of that name.
fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/program").join(name);
    if std::env::var_os("PIGEONCTL_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(&file, text).expect("a file");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(text == kept, "{} should be\n{kept}\nbut is\n{text}", file.display());
}

/// What a command prints, without what is another each time.
fn printed(dir: &Dir, arguments: &[&str]) -> (i32, String) {
    let (code, out, err) = run(dir, arguments);
    let own = out.replace(&*dir.path().to_string_lossy(), "DIR");
    // Other hubs of the machine that runs this.
    let foreign = |line: &&str| {
        !(arguments[0] == "instances" && line.contains("/control.sock") && !line.contains("DIR"))
    };
    let own: String = own.lines().filter(foreign).map(|line| format!("{line}\n")).collect();
    let own = own.replace(&format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"VERSION\"");
    let own = own.replace(&format!("pigeonctl {}", env!("CARGO_PKG_VERSION")), "pigeonctl VERSION");
    (code, if err.is_empty() { own } else { format!("{own}--- told:\n{err}") })
}

fn each_is_as_kept(dir: &Dir) {
    for (name, arguments) in ASKING {
        let (code, text) = printed(dir, arguments);
        assert_eq!(code, 0, "{name}: {text}");
        golden(&format!("{name}.txt"), &text);
        if name.starts_with("topology-") || name == "config-show-origin" {
            continue;
        }
        let (code, text) = printed(dir, &[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{name}: {text}");
        let text = text.split("--- told:").next().expect("the data");
        for line in text.lines() {
            let object: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            assert!(object.is_object() && !line.contains('\u{9b}'), "{name}: {line}");
        }
        golden(&format!("{name}.json"), text);
    }
}

#[test]
fn each_command_prints_what_it_should() {
    let dir = Dir::new();
    dir.hub(3001, |request| ok(&answer(&request)));
    each_is_as_kept(&dir);
}

/// The same with one more field in each object. The kind of an answer is no field.
fn with_more(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(with_more).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), with_more(value)));
            fields.chain([(String::from("later"), json!({ "a": [1] }))]).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn fields_of_later_versions_are_no_trouble() {
    let dir = Dir::new();
    dir.hub(3001, |request| {
        let kind = answer(&request);
        let (name, inner) = kind.as_object().and_then(|kind| kind.iter().next()).expect("one answer");
        // An event's fields are whatever they are.
        let inner = if name == "events" { inner.clone() } else { with_more(inner) };
        format!("{}\n", json!({ "v": 1, "id": 1, "took_us": 7, "ok": { name.as_str(): inner } }))
    });
    each_is_as_kept(&dir);
}

#[test]
fn what_later_versions_refuse_is_told_in_their_words() {
    let dir = Dir::new();
    dir.hub(3001, |_| {
        format!(
            "{}\n",
            json!({ "v": 1, "id": 1, "error": "slow\u{1b}[2J down", "code": "too-eager", "retry": 5 })
        )
    });
    for (name, arguments) in ASKING.iter().filter(|(name, _)| !["version", "instances"].contains(name)) {
        let (code, out, err) = run(&dir, arguments);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (1, "", "pigeonctl: slow\u{fffd}[2J down\n"),
            "{name}"
        );
    }
}

#[test]
fn fields_that_earlier_versions_lack_are_no_trouble() {
    let dir = Dir::new();
    dir.hub(3001, |request| {
        let mut answer = answer(&request);
        let later = [
            "config_age",
            "twin",
            "refused",
            "bytes_sent",
            "bytes_received",
            "local_address",
            "remote_address",
            "files_changed",
        ];
        for name in later {
            for of in ["status", "links", "reload"] {
                let object = match &mut answer[of] {
                    Value::Array(all) => all.get_mut(0),
                    other => Some(other),
                };
                if let Some(fields) = object.and_then(Value::as_object_mut) {
                    fields.remove(name);
                }
            }
        }
        answer.as_object_mut().expect("an object").retain(|_, inner| !inner.is_null());
        ok(&answer)
    });
    for (name, arguments) in ASKING {
        assert_eq!(run(&dir, arguments).0, 0, "{name}");
        assert_eq!(run(&dir, &[arguments, &["--json"]].concat()).0, 0, "{name}");
    }
}

/// Commands that say the same with and without a hub, or say so in their output.
const ANYWAY: [&str; 2] = ["instances", "version"];

#[test]
fn no_command_takes_nobody_for_a_hub() {
    let dir = Dir::new();
    for (name, arguments) in ASKING {
        let short: Vec<&str> = arguments.iter().map(|word| if *word == "5s" { "0s" } else { word }).collect();
        let (code, out, err) = run(&dir, &short);
        match ANYWAY.contains(&name) {
            true => assert_eq!(code, 0, "{name}: {err}"),
            false => {
                assert_eq!((code, out.as_str()), (3, ""), "{name}: {err}");
                assert!(err.contains("no running hub was found"), "{name}: {err}");
            }
        }
    }
}

#[test]
fn no_command_takes_somebody_else_for_a_hub() {
    for answer in
        ["220 mail.example ESMTP\r\n", "{\"v\":1,\"id\":1,\"ok\":{\"pong\":{}}}\n", "\u{0}\u{1}\n", "[]\n"]
    {
        let dir = Dir::new();
        dir.hub(3001, move |_| answer.to_owned());
        for (name, arguments) in ASKING {
            let (code, out, err) = run(&dir, arguments);
            match ANYWAY.contains(&name) {
                true => assert_eq!(code, 0, "{name}: {err}"),
                false => {
                    assert_eq!((code, out.as_str()), (1, ""), "{name} after {answer:?}: {err}");
                    assert!(err.contains("is not understood"), "{name} after {answer:?}: {err}");
                }
            }
        }
    }
}

#[test]
fn no_command_waits_for_ever() {
    let dir = Dir::new();
    // The system accepts, and nothing comes back. All at once, since each is patient for a while.
    let folder = dir.path().join("pigeonhubd/3001");
    std::fs::create_dir_all(&folder).expect("a folder");
    let _listener = UnixListener::bind(folder.join("control.sock")).expect("a socket");
    // A reload may take long, so it is given a minute.
    let asking = ASKING.iter().filter(|(name, _)| *name != "reload");
    thread::scope(|scope| {
        let dir = &dir;
        for (name, arguments) in asking {
            scope.spawn(move || {
                let (code, out, err) = run(dir, arguments);
                match *name {
                    "version" => assert_eq!(code, 0, "{err}"),
                    "instances" => assert!(code == 0 && out.contains("no answer"), "{out}{err}"),
                    "ping" => assert_eq!((code, out.contains("does not answer")), (7, true), "{out}{err}"),
                    _ => {
                        assert_eq!((code, out.as_str()), (7, ""), "{name}: {err}");
                        assert!(err.contains("does not answer within"), "{name}: {err}");
                    }
                }
            });
        }
    });
}
