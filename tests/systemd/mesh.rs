//! Several instances: they form a mesh, wait for one another, and take sockets from systemd.

use super::booted::{
    boot, configure, inside, install, property, shell, status, succeed, text, wait_property,
};
use super::harness::until;

#[test]
fn three_instances_form_a_mesh() {
    boot("mesh::all_of_several_instances", &[]);
}

#[test]
#[ignore = "runs inside the system that three_instances_form_a_mesh boots"]
fn all_of_several_instances() {
    if !inside() {
        return;
    }
    install();
    a_hub_can_wait_for_others();
    all_are_linked();
    what_is_theirs_together_works_on_all();
    a_socket_unit_is_used();
}

fn a_hub_can_wait_for_others() {
    configure("3001.toml", "mesh.ready_when_alone = \"wait\"\nbootstrap.reconnect_interval = \"200ms\"\n");
    succeed("systemctl start --no-block pigeonhubd@3001");
    wait_property(3001, "StatusText", |words| words.starts_with("waiting: alone, none of 1 bootstrap is"));
    assert_eq!(property(3001, "ActiveState"), "activating");
    // This waits until the mesh is ready there.
    succeed("systemctl start pigeonhubd@3000");
    succeed("systemctl start pigeonhubd@3001");
    let status = status(3001);
    assert_eq!((&status["ready"], &status["p2p_links"]), (&true.into(), &1.into()), "{status}");
    configure("3001.toml", "");
}

fn all_are_linked() {
    succeed("systemctl start pigeonhubd@3002");
    let last = status(3002);
    assert_eq!((&last["state"], &last["known_hubs"]), (&"ready".into(), &2.into()), "{last}");
    for port in [3000, 3001, 3002] {
        until("it has a link to both others", || (status(port)["p2p_links"] == 2).then_some(()));
        wait_property(port, "StatusText", |words| words.starts_with("ready: 2 links"));
    }
}

fn what_is_theirs_together_works_on_all() {
    succeed("systemctl start pigeonhubd");
    let pids = || [3000, 3001, 3002].map(|port| property(port, "MainPID"));
    let before = pids();
    configure("conf.d/10-test.toml", "listen.max_connections = 777\n");
    succeed("systemctl reload pigeonhubd");
    for port in [3000, 3001, 3002] {
        until("it has reloaded", || {
            succeed(&format!("pigeonctl --instance {port} config show")).contains("777").then_some(())
        });
    }
    assert_eq!(pids(), before);
    succeed("systemctl stop pigeonhubd");
    for port in [3000, 3001, 3002] {
        let state = wait_property(port, "ActiveState", |state| state != "deactivating");
        assert_eq!((state.as_str(), property(port, "Result").as_str()), ("inactive", "success"));
    }
}

fn a_socket_unit_is_used() {
    let unit = |port: u16| format!("[Socket]\nListenStream=127.0.0.1:{port}\n");
    for (instance, port) in [(3003, 3003), (3004, 3999)] {
        let path = format!("/etc/systemd/system/pigeonhubd@{instance}.socket");
        std::fs::write(path, unit(port)).expect("written");
    }
    succeed("systemctl daemon-reload && systemctl start pigeonhubd@3003.socket pigeonhubd@3004.socket");
    assert_eq!(property(3003, "ActiveState"), "inactive");
    // Who comes first starts it, and is answered.
    let page = "exec 3<>/dev/tcp/127.0.0.1/3003 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    let answer = succeed(page);
    assert!(answer.contains("\"status\":\"healthy\""), "{answer}");
    wait_property(3003, "ActiveState", |state| state == "active");
    assert_eq!(property(3003, "NFileDescriptorStore"), "0", "the socket is the unit's");
    assert!(!shell("systemctl start pigeonhubd@3004").status.success());
    let journal = text(&shell("journalctl --no-pager --unit pigeonhubd@3004").stdout);
    assert!(
        journal.contains("systemd handed over a socket for 127.0.0.1:3999, but this hub's port is 3004"),
        "{journal}"
    );
}
