//! One instance: start, journal, reload, watchdog, restart, stop.

use futures_util::StreamExt;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::booted::{
    boot, configure, entries, inside, install, property, shell, status, succeed, text, wait_property,
};
use super::harness::until;
use super::traffic::Traffic;

const PORT: u16 = 3000;
/// Clients that connect all the while.
const CLIENTS: usize = 200;

#[test]
fn one_instance_is_a_good_service() {
    boot("one::all_of_one_instance", &[]);
}

#[test]
#[ignore = "runs inside the system that one_instance_is_a_good_service boots"]
fn all_of_one_instance() {
    if !inside() {
        return;
    }
    install();
    started_means_ready();
    the_doctor_finds_its_way_about();
    the_journal_has_entries_with_fields();
    a_reload_has_an_outcome();
    a_driver_that_stands_still_is_replaced();
    a_restart_refuses_nobody();
    a_restart_may_change_where_it_listens();
    a_stop_drains();
    a_stop_may_take_as_long_as_it_is_configured_to();
    a_wrong_configuration_is_not_tried_again();
    what_failed_is_told_where_one_looks();
}

fn started_means_ready() {
    succeed("systemctl start pigeonhubd@3000");
    assert_eq!(status(PORT)["ready"], true, "as soon as the start is over");
    let words = property(PORT, "StatusText");
    assert_eq!(words, "ready: no links, 0 peers in 0 networks");
    let shown = succeed("systemctl status --no-pager pigeonhubd@3000");
    assert!(shown.contains(&format!("Status: \"{words}\"")), "{shown}");
    // Own folders, and the mesh key beside them.
    let modes = succeed(
        "stat --format '%n %U:%G %a' /run/pigeonhubd/3000 /run/pigeonhubd/3000/control.sock \
         /var/lib/pigeonhubd/3000/hub.key /var/lib/pigeonhubd/mesh.key",
    );
    let expected = "/run/pigeonhubd/3000 pigeonhub:pigeonhub 750\n\
                    /run/pigeonhubd/3000/control.sock pigeonhub:pigeonhub 660\n\
                    /var/lib/pigeonhubd/3000/hub.key pigeonhub:pigeonhub 600\n\
                    /var/lib/pigeonhubd/mesh.key pigeonhub:pigeonhub 600\n";
    assert_eq!(modes, expected);
}

/// Root's doctor looks at the service's own folders and keys, not at root's.
fn the_doctor_finds_its_way_about() {
    let found = succeed("pigeonctl doctor --json");
    for (check, part) in [
        ("hub", "runs on port 3000, ready"),
        ("state folder", "/var/lib/pigeonhubd/3000"),
        ("runtime folder", "/run/pigeonhubd/3000"),
        ("hub key", "/var/lib/pigeonhubd/3000/hub.key"),
        ("mesh key", "/var/lib/pigeonhubd/mesh.key, fingerprint "),
        ("port", "127.0.0.1:3000 answers"),
    ] {
        let is = |line: &&str| {
            line.contains(&format!("\"check\":\"{check}\",\"verdict\":\"ok\"")) && line.contains(part)
        };
        assert!(found.lines().any(|line| is(&line)), "{check}: {part} in {found}");
    }
}

fn the_journal_has_entries_with_fields() {
    let ready = until("the journal has it", || entries(PORT, "hubMeshReady").pop());
    for (field, value) in [
        ("MESSAGE", "hubMeshReady p2p_connections=0 total_hubs=1"),
        ("MESSAGE_ID", "a66e4e2a9e614aa29c049f7c8392cf7f"),
        ("PRIORITY", "6"),
        ("PIGEONHUB_LINKS", "0"),
        ("PIGEONHUB_TOTAL_HUBS", "1"),
        ("SYSLOG_IDENTIFIER", "pigeonhubd"),
        ("_TRANSPORT", "journal"),
        ("_SYSTEMD_UNIT", "pigeonhubd@3000.service"),
    ] {
        assert_eq!(ready[field], value, "{field} in {ready}");
    }
    let explained = succeed("journalctl --no-pager --catalog MESSAGE_ID=a66e4e2a9e614aa29c049f7c8392cf7f");
    assert!(explained.contains("The mesh is ready at this hub"), "{explained}");
    assert!(explained.contains("This hub has 0 data channels in a mesh of"), "with its values: {explained}");
    let listed = succeed("journalctl --no-pager --list-catalog");
    let known = listed.lines().filter(|line| line.contains("pigeonhubd:")).count();
    assert_eq!(known, pigeonhubd::journal::MESSAGES.len(), "{listed}");
    // Whatever is logged, at any level, the secrets are not.
    succeed("pigeonctl --instance 3000 log-level trace");
    succeed("pigeonctl --instance 3000 status");
    let journal = succeed("journalctl --no-pager --output export");
    for secret in ["/var/lib/pigeonhubd/mesh.key", "/var/lib/pigeonhubd/3000/hub.key"] {
        let secret = std::fs::read_to_string(secret).expect("root reads it");
        assert!(secret.trim().len() == 64 && !journal.contains(secret.trim()), "a secret is in the journal");
    }
    let command = until("the journal has it", || entries(PORT, "controlCommand").pop());
    assert_eq!((&command["PIGEONHUB_UID"], &command["PRIORITY"]), (&"0".into(), &"6".into()), "{command}");
    succeed("pigeonctl --instance 3000 log-level info");
    // Who is in the group may look, and not change anything.
    succeed("systemd-sysusers --inline 'u visitor -' && usermod --append --groups pigeonhub visitor");
    let looked =
        shell("setpriv --reuid visitor --regid visitor --init-groups pigeonctl --instance 3000 status");
    assert!(looked.status.success(), "{}", text(&looked.stderr));
    let refused =
        shell("setpriv --reuid visitor --regid visitor --init-groups pigeonctl --instance 3000 drain");
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("pigeonhub"), "{}", text(&refused.stderr));
    let stranger =
        shell("setpriv --reuid nobody --regid nogroup --clear-groups pigeonctl --instance 3000 status");
    assert_eq!(stranger.status.code(), Some(4), "{}", text(&stranger.stderr));
}

fn a_reload_has_an_outcome() {
    let pid = property(PORT, "MainPID");
    configure("conf.d/10-test.toml", "listen.max_connections = 777\n");
    succeed("systemctl reload pigeonhubd@3000");
    let shown = || succeed("pigeonctl --instance 3000 config show");
    assert!(shown().contains("777"), "{}", shown());
    configure("conf.d/10-test.toml", "listen.max_connections = 888\nlisten.max_connection = 1\n");
    let refused = shell("systemctl reload pigeonhubd@3000");
    assert!(!refused.status.success(), "a wrong configuration fails the reload");
    assert_eq!(property(PORT, "ActiveState"), "active");
    assert!(shown().contains("777") && !shown().contains("888"), "nothing of it is in force");
    let rejected = until("the journal has it", || entries(PORT, "configRejected").pop());
    let message = rejected["MESSAGE"].as_str().expect("a text");
    assert!(message.contains("/etc/pigeonhubd/conf.d/10-test.toml:2:8"), "{message}");
    succeed("systemctl start pigeonhubd");
    assert!(!shell("systemctl reload pigeonhubd").status.success(), "that of all hubs as well");
    until("the unit's status says so", || {
        property(PORT, "StatusText").contains("configuration on disk refused").then_some(())
    });
    configure("tokens", "0123456789abcdef\n");
    configure("conf.d/10-test.toml", "auth.token_file = \"/etc/pigeonhubd/tokens\"\n");
    succeed("chown root:root /etc/pigeonhubd/tokens && chmod 600 /etc/pigeonhubd/tokens");
    assert!(!shell("systemctl reload pigeonhubd").status.success(), "its user may not read the file");
    let check = shell("pigeonctl check");
    assert_eq!(check.status.code(), Some(6), "{}", text(&check.stderr));
    assert!(text(&check.stdout).contains("the service runs as pigeonhub"), "{}", text(&check.stdout));
    configure("conf.d/10-test.toml", "listen.max_connections = 999\n");
    succeed("systemctl kill --signal SIGHUP pigeonhubd@3000");
    until("SIGHUP reloads too", || shown().contains("999").then_some(()));
    assert_eq!(property(PORT, "MainPID"), pid, "without a restart");
}

fn a_driver_that_stands_still_is_replaced() {
    let folder = "/etc/systemd/system/pigeonhubd@3000.service.d";
    succeed(&format!(
        "mkdir -p {folder} && printf '[Service]\\nWatchdogSec=2\\nLimitCORE=0\\n' > {folder}/watchdog.conf && \
         systemctl daemon-reload && systemctl restart pigeonhubd@3000"
    ));
    let pid = property(PORT, "MainPID");
    succeed(&format!("kill -STOP {pid}"));
    wait_property(PORT, "MainPID", |now| now != pid && now != "0");
    wait_property(PORT, "ActiveState", |state| state == "active");
    assert_eq!(property(PORT, "NRestarts"), "1");
    let journal = succeed("journalctl --no-pager --unit pigeonhubd@3000");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    assert_eq!(status(PORT)["ready"], true);
    succeed(&format!("rm -r {folder} && systemctl daemon-reload && systemctl restart pigeonhubd@3000"));
}

fn a_restart_refuses_nobody() {
    assert_eq!(property(PORT, "NFileDescriptorStore"), "1", "systemd keeps the listening socket");
    let traffic = Traffic::start(PORT, CLIENTS);
    for _ in 0..3 {
        let pid = property(PORT, "MainPID");
        succeed("systemctl restart pigeonhubd@3000");
        assert_ne!(property(PORT, "MainPID"), pid);
        traffic.all_are_back();
    }
    println!("{} connections over three restarts, none refused", traffic.end_without_a_refusal());
}

/// Systemd still holds the sockets of the run before, which listen.
fn a_restart_may_change_where_it_listens() {
    let before = std::fs::read_to_string("/etc/pigeonhubd/3000.toml").ok();
    let answers = |address| std::net::TcpStream::connect((address, PORT)).is_ok();
    for (host, everywhere) in [("*", true), ("127.0.0.2", false), ("*", true)] {
        configure("3000.toml", &format!("[listen]\nhost = \"{host}\"\n"));
        // The restarts before count towards the limit of starts.
        succeed("systemctl reset-failed pigeonhubd@3000 && systemctl restart pigeonhubd@3000");
        assert_eq!(property(PORT, "NRestarts"), "0", "at the first try");
        assert_eq!((answers("127.0.0.1"), answers("127.0.0.2")), (everywhere, true), "{host}");
    }
    match before {
        Some(before) => configure("3000.toml", &before),
        None => std::fs::remove_file("/etc/pigeonhubd/3000.toml").expect("removed"),
    }
    succeed("systemctl reset-failed pigeonhubd@3000 && systemctl restart pigeonhubd@3000");
}

fn a_stop_drains() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let url = format!("ws://127.0.0.1:{PORT}/?peerId={:040x}", 0xabc);
    let (mut socket, _) = runtime.block_on(connect_async(url)).expect("it answers");
    let told = runtime.spawn(async move {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("a close was expected, not {other:?}"),
            }
        }
    });
    succeed("systemctl stop pigeonhubd@3000");
    assert_eq!(runtime.block_on(told).expect("no panic"), 1001, "going away");
    assert_eq!((property(PORT, "Result"), property(PORT, "ExecMainStatus")), ("success".into(), "0".into()));
    until("the journal has it", || entries(PORT, "hubLeaving").pop());
    assert_eq!(property(PORT, "NFileDescriptorStore"), "0", "a stopped hub keeps no port");
}

/// The hub asks for more time than the unit gives it.
fn a_stop_may_take_as_long_as_it_is_configured_to() {
    let folder = "/etc/systemd/system/pigeonhubd@3000.service.d";
    succeed(&format!(
        "mkdir -p {folder} && printf '[Service]\\nTimeoutStopSec=2\\n' > {folder}/stop.conf && systemctl daemon-reload"
    ));
    configure("3000.toml", "listen.drain_timeout = \"4s\"\n");
    succeed("systemctl start pigeonhubd@3000");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let leaving: Vec<_> = (1..=60)
        .map(|number| {
            let url = format!("ws://127.0.0.1:{PORT}/?peerId={number:040x}");
            let (mut socket, _) = runtime.block_on(connect_async(url)).expect("it answers");
            runtime.spawn(async move { while let Some(Ok(_)) = socket.next().await {} })
        })
        .collect();
    succeed("systemctl stop pigeonhubd@3000");
    for client in leaving {
        runtime.block_on(client).expect("no panic");
    }
    assert_eq!(property(PORT, "Result"), "success", "and not that its time was over");
    succeed(&format!("rm -r {folder} && systemctl daemon-reload"));
    std::fs::remove_file("/etc/pigeonhubd/3000.toml").expect("removed");
}

fn a_wrong_configuration_is_not_tried_again() {
    configure("3000.toml", "mesh.max_peers = 1\n");
    assert!(!shell("systemctl start pigeonhubd@3000").status.success());
    assert_eq!((property(PORT, "ExecMainStatus"), property(PORT, "NRestarts")), ("78".into(), "0".into()));
    assert_eq!(property(PORT, "ActiveState"), "failed");
    let told = "/etc/pigeonhubd/3000.toml:1:18: mesh.max_peers = 1: out of range";
    let errors = || succeed("journalctl --no-pager --priority err --output cat --unit pigeonhubd@3000");
    let with_mark = format!("pigeonhubd: {told}: 2 to 32\n    mesh.max_peers = 1\n                     ^\n");
    until("the journal has it among the errors", || errors().contains(&with_mark).then_some(()));
    let shown = text(&shell("systemctl status --no-pager --lines 0 pigeonhubd@3000").stdout);
    assert!(shown.contains(&format!("Status: \"failed: {told}")), "{shown}");
    std::fs::remove_file("/etc/pigeonhubd/3000.toml").expect("removed");
    succeed("systemctl reset-failed pigeonhubd@3000");
}

/// As an operator would look for it, when something else than the configuration is wrong.
fn what_failed_is_told_where_one_looks() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", PORT)).expect("the port is free");
    assert!(!shell("systemctl start pigeonhubd@3000").status.success());
    let told = format!("pigeonhubd: port {PORT} is taken: another process listens on 127.0.0.1");
    let errors = || succeed("journalctl --no-pager --priority err --output cat --unit pigeonhubd@3000");
    until("the journal has it among the errors", || errors().contains(&told).then_some(()));
    drop(taken);
    succeed("systemctl stop pigeonhubd@3000");
}
