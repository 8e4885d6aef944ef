//! Exit statuses, each with a message that helps.

use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::fake::{Dir, ok, refuse, run, status};

/// Asks a hub that answers everything with `answer`.
fn against(answer: String, arguments: &[&str]) -> (i32, String, String) {
    let dir = Dir::new();
    dir.hub(3001, move |_| answer.clone());
    run(&dir, &[&["--instance", "3001"], arguments].concat())
}

#[test]
fn done_is_0() {
    let (code, out, err) = against(ok(&status("degraded")), &["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("degraded"), "that the mesh is not well is an answer: {out}");
    let done = ok(&json!({ "done": "this hub leaves" }));
    let (code, out, err) = against(done.clone(), &["drain"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "this hub leaves\n"));
    let (code, out, _) = against(done, &["drain", "--json"]);
    assert_eq!((code, out.as_str()), (0, "{\"done\":\"this hub leaves\"}\n"));
}

#[test]
fn what_is_not_understood_is_1() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n", "{\"v\":2,\"id\":1,\"ok\":{}}\n", "\u{0}\n", "{}\n"] {
        let (code, out, err) = against(answer.to_owned(), &["hubs"]);
        assert_eq!((code, out.as_str()), (1, ""), "{answer:?}");
        assert!(err.contains("is not understood") && err.contains("version"), "{answer:?}: {err}");
    }
    let newer = format!("{}\n", json!({ "v": 9, "id": 1, "ok": status("ready") }));
    assert!(against(newer, &["hubs"]).2.contains("speaks version 9"));
    let (code, _, err) = against(String::new(), &["hubs"]);
    assert_eq!((code, err.contains("hung up")), (1, true), "{err}");
    // An answer, but to something else.
    assert_eq!(against(ok(&json!({ "done": "" })), &["status"]).0, 1);
}

#[test]
fn wrong_usage_is_2() {
    let dir = Dir::new();
    for arguments in [
        &["fly"][..],
        &[],
        &["--instance", "0x", "status"],
        &["--instance", "1", "--socket", "x", "status"],
        &["topology", "--dot", "--mermaid"],
        &["wait"],
        &["ping", "a", "--count", "0"],
        &["events", "--type", "pigeonLanded"],
        &["events", "--since", "yesterday"],
        &["log-level", "info", "--for", "0s"],
        &["log-level", "loud"],
    ] {
        assert_eq!(run(&dir, arguments).0, 2, "{arguments:?}");
    }
    for port in [3001, 3002] {
        dir.hub(port, |_| ok(&status("ready")));
    }
    let (code, _, err) = run(&dir, &["status"]);
    assert_eq!(code, 2);
    assert!(err.contains("--instance 3001, --instance 3002"), "{err}");
}

#[test]
fn not_running_is_3() {
    let dir = Dir::new();
    let (code, _, err) = run(&dir, &["status"]);
    assert_eq!(code, 3);
    assert!(err.contains(&*dir.path().to_string_lossy()), "it says where it looked: {err}");
    // What a killed hub leaves behind.
    let socket = dir.path().join("dead.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let (code, _, err) = run(&dir, &["--socket", socket.to_str().expect("plain"), "peers"]);
    assert_eq!((code, err.contains("is pigeonhubd running?")), (3, true), "{err}");
}

#[test]
fn no_permission_is_4() {
    let told = "drain is for root, user 990 and control.admins; you are user 7";
    let (code, _, err) = against(refuse("not-permitted", told), &["drain"]);
    assert_eq!((code, err.contains(told)), (4, true), "{err}");
}

#[test]
fn not_ready_is_5() {
    let (code, out, err) = against(ok(&status("joining")), &["wait", "--ready", "--timeout", "0s"]);
    assert_eq!((code, out.as_str(), err.as_str()), (5, "", "pigeonctl: not ready: joining: because\n"));
    assert_eq!(against(ok(&status("ready")), &["wait", "--ready", "--timeout", "0s"]).0, 0);
    // Alone because another hub does not have it is no mesh; alone because nobody answers may be the first of one.
    let mut alone = status("ready");
    alone["status"]["known_hubs"] = 0.into();
    assert_eq!(against(ok(&alone), &["wait", "--ready", "--timeout", "0s"]).0, 0);
    alone["status"]["rejected"] = "ws://b: the mesh keys differ".into();
    let (code, _, err) = against(ok(&alone), &["wait", "--ready", "--timeout", "0s"]);
    assert_eq!(
        (code, err.contains("alone") && err.contains("ws://b: the mesh keys differ")),
        (5, true),
        "{err}"
    );
    // Never started is another matter.
    assert_eq!(run(&Dir::new(), &["wait", "--ready", "--timeout", "0s"]).0, 3);
    assert_eq!(against(ok(&status("joining")), &["wait", "--mesh", "--timeout", "0s"]).0, 5);
    assert_eq!(run(&Dir::new(), &["wait", "--ready", "--serving"]).0, 2);
}

#[test]
fn not_serving_is_9_whatever_the_mesh_is() {
    let serving = ["wait", "--serving", "--timeout", "0s"];
    for state in ["joining", "isolated", "degraded", "ready"] {
        assert_eq!(against(ok(&status(state)), &serving), (0, String::new(), String::new()), "{state}");
    }
    let (code, out, err) = against(ok(&status("draining")), &serving);
    let told = "pigeonctl: not serving: draining: because\n";
    assert_eq!((code, out.as_str(), err.as_str()), (9, "", told));
    assert_eq!(run(&Dir::new(), &serving).0, 3);
}

/// `systemctl restart pigeonhubd` may return while the process before still shuts down.
#[test]
fn the_next_process_is_waited_for_while_one_shuts_down() {
    let dir = Dir::new();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    dir.hub(3001, move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 | 1 => refuse("busy", "the hub is shutting down"),
        2 => ok(&status("draining")),
        3 => refuse("busy", "the hub is too busy to answer; try again"),
        _ => ok(&status("ready")),
    });
    for what in ["--ready", "--serving"] {
        let (code, _, err) = run(&dir, &["--instance", "3001", "wait", what, "--timeout", "30s"]);
        assert_eq!((code, err.as_str()), (0, ""), "{what}");
    }
    let over = refuse("busy", "the hub is shutting down");
    let (code, _, err) = against(over, &["wait", "--ready", "--timeout", "300ms"]);
    assert_eq!((code, err.as_str()), (1, "pigeonctl: the hub is shutting down\n"));
}

#[test]
fn a_rejected_configuration_is_6() {
    let (code, out, err) = against(refuse("config-rejected", "a.toml:1:1: x\n    x\n    ^"), &["reload"]);
    assert_eq!((code, out.as_str()), (6, ""));
    assert!(err.ends_with("a.toml:1:1: x\n    x\n    ^\n"), "{err}");
    let dir = Dir::new();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, "[listen]\nprot = 1\n").expect("a file");
    let file = file.to_str().expect("plain");
    let (code, out, err) = run(&dir, &["check", file]);
    assert_eq!((code, err.as_str()), (6, "pigeonctl: 1 mistake in 1 file\n"));
    assert!(out.ends_with(
        "a.toml:2:1: listen.prot: unknown key; did you mean listen.port?\n    prot = …\n    ^^^^\n"
    ));
    let (_, out, _) = run(&dir, &["check", file, "--json"]);
    let mistake: serde_json::Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(
        (&mistake["line"], &mistake["column"], &mistake["key"]),
        (&2.into(), &1.into(), &"listen.prot".into())
    );
    std::fs::write(file, "[listen]\nport = 1\n").expect("a file");
    assert_eq!(run(&dir, &["check", file]), (0, String::new(), String::from("1 file: no mistake\n")));
    assert_eq!(run(&dir, &["check", "absent.toml"]).0, 1);
}

#[test]
fn all_hubs_are_asked_and_one_that_refuses_fails_it() {
    let dir = Dir::new();
    let applied = ok(&serde_json::json!({ "reload": { "changed": [], "mesh_key_changed": false } }));
    dir.hub(3001, |_| refuse("config-rejected", "a.toml:1:1: x"));
    let fine = applied.clone();
    dir.hub(3002, move |_| fine.clone());
    let (code, _, err) = run(&dir, &["reload", "--all"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("hub on port 3001: a.toml:1:1: x"), "{err}");
    assert!(err.contains("hub on port 3002:\nthe configuration is valid; nothing changed"), "{err}");
    let dir = Dir::new();
    dir.hub(3002, move |_| applied.clone());
    assert_eq!(run(&dir, &["reload", "--all"]).0, 0);
    assert_eq!(run(&Dir::new(), &["reload", "--all"]).0, 3, "none runs");
}

#[test]
fn a_time_out_is_7() {
    let (code, _, err) = against(refuse("timed-out", "no answer from 2a2a2a2a"), &["trace", "2a"]);
    assert_eq!((code, err.contains("no answer from 2a2a2a2a")), (7, true), "{err}");
    // Nobody on the way was the one asked for.
    let hop = json!({ "trace": [{ "hub_id": "2a".repeat(20), "hop": 1, "rtt_us": 900, "last": false }] });
    let (code, out, _) = against(ok(&hop), &["trace", "3b"]);
    assert_eq!((code, out.contains("2a2a2a2a")), (7, true), "what is known is shown: {out}");
    let (code, out, err) = against(refuse("timed-out", "no answer"), &["ping", "2a", "--count", "1"]);
    assert_eq!((code, out.as_str()), (7, "1: no answer\n"));
    assert!(err.contains("answered none of 1 probe"), "{err}");
}

#[test]
fn a_hub_that_never_answers_is_7() {
    let dir = Dir::new();
    // Nobody accepts: the system does, and nothing comes back.
    let socket = dir.path().join("slow.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    for timeout in ["0s", "300ms"] {
        let arguments =
            ["--socket", socket.to_str().expect("plain"), "wait", "--ready", "--timeout", timeout];
        let (code, _, err) = run(&dir, &arguments);
        assert_eq!((code, err.contains("does not answer within")), (7, true), "{err}");
        assert!(!err.contains("within 0 "), "it had some time: {err}");
    }
}

/// Whom a socket names is meant, and nobody else's defaults.
#[test]
fn a_doctor_who_gets_no_answer_says_so_and_nothing_else() {
    let dir = Dir::new();
    let socket = dir.path().join("dead.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    drop(listener);
    let arguments = ["--socket", socket.to_str().expect("plain"), "doctor", "--json"];
    let (code, out, err) = run(&dir, &arguments);
    let findings: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let [hub] = &findings[..] else { panic!("one finding: {out}") };
    assert_eq!((code, &hub["check"], &hub["verdict"]), (1, &"hub".into(), &"failed".into()), "{err}");
    assert!(hub["found"].as_str().is_some_and(|found| found.contains("dead.sock")), "{hub}");
}

#[test]
fn a_doctor_names_the_way_back_from_draining() {
    let dir = Dir::new();
    let answer = |request: serde_json::Value| match request["cmd"].as_str() {
        Some("status") => ok(&status("draining")),
        _ => refuse("bad-request", "not now"),
    };
    let socket = dir.hub(3001, answer);
    let (_, out, _) = run(&dir, &["--socket", socket.to_str().expect("plain"), "doctor"]);
    assert!(out.contains("draining") && out.contains("pigeonctl undrain"), "{out}");
}

#[test]
fn not_found_is_8() {
    let told = "'a' is ambiguous: a1, a2";
    for command in [&["peers", "show", "a"][..], &["route", "a"], &["disconnect", "a"], &["ping", "a"]] {
        let (code, out, err) = against(refuse("not-found", told), command);
        assert_eq!((code, out.as_str(), err.contains(told)), (8, "", true), "{command:?}: {err}");
    }
}

#[test]
fn a_network_without_peers_is_named() {
    let nobody = || ok(&json!({ "peers": [] }));
    let (code, out, err) = against(nobody(), &["peers", "--network", "loft"]);
    assert_eq!((code, out.as_str(), err.contains("'loft'")), (0, "", true), "{err}");
    let (code, _, err) = against(nobody(), &["peers"]);
    assert_eq!((code, err.as_str()), (0, "no peer is known to this hub\n"));
}

#[test]
fn a_hub_that_is_busy_is_1() {
    let (code, _, err) = against(refuse("busy", "8 callers are being answered; try again"), &["hubs"]);
    assert_eq!((code, err.contains("try again")), (1, true), "{err}");
}
