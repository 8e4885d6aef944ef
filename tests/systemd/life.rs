//! The package's life on a system: installed, used, upgraded, removed, purged, and installed again.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use super::booted::{
    boot, configure, entries, inside, property, shell, status, succeed, text, wait_property,
};
use super::built::{NEXT_VERSION, cannot_be_built, packages};
use super::harness::{Client, Clients, Ground, Need, all_hear_all, skipped, until};
use super::traffic::Traffic;

const HUBS: [u16; 3] = [3000, 3001, 3002];
/// Clients that connect to one hub all through the upgrade.
const CLIENTS: usize = 50;
/// Where the packages are, inside.
const DEB: &str = "PIGEONHUBD_DEB";
const NEXT: &str = "PIGEONHUBD_DEB_NEXT";

#[test]
fn the_package_is_installed_used_upgraded_and_purged() {
    if cannot_be_built() || skipped(&[Need::Node]) {
        return;
    }
    let packages = packages();
    boot("life::all_of_a_packages_life", &[(DEB, &packages.deb), (NEXT, &packages.next)]);
}

#[test]
#[ignore = "runs inside the system that the_package_is_installed_used_upgraded_and_purged boots"]
fn all_of_a_packages_life() {
    if !inside() {
        return;
    }
    // Each installation would have all manual pages of this system sorted anew.
    succeed("rm --force /var/lib/man-db/auto-update");
    let before = files();
    policy_may_say_no();
    installing_starts_a_hub();
    the_hub_is_confined();
    three_hubs_serve_clients();
    an_upgrade_restarts_what_runs_and_refuses_nobody();
    an_upgrade_with_a_broken_file_stops_nobody();
    an_upgrade_that_fails_says_so_and_can_be_continued();
    what_is_disabled_stays_disabled();
    removing_stops_all_and_keeps_what_is_the_administrators();
    purging_leaves_nothing(&before);
    it_can_be_installed_again_with_a_key_of_the_meshs();
    purging_leaves_nothing(&before);
}

fn deb(variable: &str) -> PathBuf {
    PathBuf::from(env::var_os(variable).expect("set by the test outside"))
}

/// What installing says; it must succeed.
fn install(variable: &str) -> String {
    succeed(&format!("{} 2>&1", apt(variable)))
}

fn apt(variable: &str) -> String {
    // Nobody is there to be asked about changed configuration files.
    let options = "--yes --no-install-recommends --allow-downgrades --option Dpkg::Options::=--force-confold";
    format!("DEBIAN_FRONTEND=noninteractive apt-get install {options} {}", deb(variable).display())
}

/// Every file of the system that stays, but for what apt, dpkg and systemd keep books with.
fn files() -> BTreeSet<String> {
    let books =
        ["/var/tmp", "/var/lib/apt", "/var/lib/dpkg", "/var/cache", "/var/log", "/var/lib/PackageKit"];
    let pruned: Vec<String> = books.iter().map(|path| format!("-path {path} -prune -o")).collect();
    let listed = succeed(&format!("find /etc /lib /opt /srv /usr /var -xdev {} -print", pruned.join(" ")));
    listed.lines().map(str::to_owned).collect()
}

/// The hubs that run, as the kernel knows them.
fn running() -> usize {
    text(&shell("pgrep --exact --count pigeonhubd").stdout).trim().parse().expect("a number")
}

fn pids() -> [String; 3] {
    HUBS.map(|port| property(port, "MainPID"))
}

fn policy_may_say_no() {
    configure_policy(Some("exit 101"));
    let said = install(DEB);
    assert!(said.contains("policy-rc.d returned 101"), "{said}");
    assert_eq!((running(), property(3000, "ActiveState").as_str()), (0, "inactive"));
    configure_policy(None);
    succeed("apt-get purge --yes pigeonhubd");
    // A preset of the administrator's, likewise.
    std::fs::create_dir_all("/etc/systemd/system-preset").expect("made");
    let preset = "/etc/systemd/system-preset/10-test.preset";
    std::fs::write(preset, "disable pigeonhubd@.service\n").expect("written");
    install(DEB);
    assert_eq!((running(), property(3000, "ActiveState").as_str()), (0, "inactive"));
    assert_eq!(property(3000, "UnitFileState"), "disabled");
    succeed(&format!(
        "apt-get purge --yes pigeonhubd && rm {preset} && rmdir /etc/systemd/system-preset || true"
    ));
}

fn configure_policy(script: Option<&str>) {
    let path = "/usr/sbin/policy-rc.d";
    match script {
        Some(line) => {
            std::fs::write(path, format!("#!/bin/sh\n{line}\n")).expect("written");
            succeed(&format!("chmod 755 {path}"));
        }
        None => std::fs::remove_file(path).expect("removed"),
    }
}

fn installing_starts_a_hub() {
    install(DEB);
    assert_eq!(property(3000, "ActiveState"), "active");
    assert_eq!(status(3000)["ready"], true, "as soon as it is installed");
    assert_eq!(succeed("systemctl is-enabled pigeonhubd pigeonhubd@3000"), "enabled\nenabled\n");
    let catalog = succeed("journalctl --no-pager --list-catalog");
    assert_eq!(catalog.lines().filter(|line| line.contains("pigeonhubd:")).count(), 19, "{catalog}");
    for page in ["pigeonhubd", "pigeonhubd@.service", "pigeonctl", "pigeonhubd.toml", "pigeonhub-control"] {
        assert!(Path::new(succeed(&format!("man --where {page}")).trim()).is_file(), "{page}");
    }
}

fn the_hub_is_confined() {
    // What is not allowed would be told as a warning: the limit of open files, this machine's addresses.
    let warned = succeed("journalctl --no-pager --unit pigeonhubd@3000 --priority warning --output cat");
    let warned: Vec<&str> = warned.lines().filter(|line| !line.starts_with("-- ")).collect();
    assert_eq!(warned, [""; 0]);
    let process = succeed(&format!("cat /proc/{}/status", property(3000, "MainPID")));
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(process.lines().any(|is| is == line), "{line} in {process}");
    }
    // As the manager sees it, in tenths.
    succeed("systemd-analyze security --threshold=10 pigeonhubd@3000");
    // Who it does not see may not change anything, whatever the configuration says; and it says so.
    configure("conf.d/10-admins.toml", "control.admins = [65534]\n");
    succeed("systemctl reload pigeonhubd@3000");
    succeed("usermod --append --groups pigeonhub nobody");
    let asked = shell("setpriv --reuid nobody --regid nogroup --init-groups pigeonctl --instance 3000 drain");
    assert_eq!(asked.status.code(), Some(4), "{}", text(&asked.stderr));
    let journal = succeed("journalctl --no-pager --unit pigeonhubd@3000");
    assert!(journal.contains("control.admins: user 65534 cannot be told from others"), "{journal}");
    std::fs::remove_file("/etc/pigeonhubd/conf.d/10-admins.toml").expect("removed");
    succeed("gpasswd --delete nobody pigeonhub && systemctl reload pigeonhubd@3000");
}

fn three_hubs_serve_clients() {
    succeed("systemctl start pigeonhubd@3001 pigeonhubd@3002");
    for port in HUBS {
        until("it has a link to both others", || (status(port)["p2p_links"] == 2).then_some(()));
        let screen = succeed(&format!("pigeonctl --instance {port} status"));
        assert!(screen.contains("ready"), "{screen}");
    }
    // The clients' WebRTC takes no loopback addresses.
    succeed(
        "ip link add here type veth peer name there && ip address add 10.99.0.1/24 dev here && \
         ip link set here up && ip link set there up",
    );
    let ground = Ground::new();
    let host = Clients::node(&ground);
    let clients =
        HUBS.map(|port| host.join(&format!("of{port}"), &format!("ws://127.0.0.1:{port}"), "pigeons"));
    let clients: Vec<&Client> = clients.iter().collect();
    all_hear_all(&clients);
    a_wrong_configuration_disturbs_nobody(&clients);
    clients.iter().for_each(|client| client.close());
}

fn a_wrong_configuration_disturbs_nobody(clients: &[&Client]) {
    let before = pids();
    configure("conf.d/10-test.toml", "listen.max_connection = 1\n");
    for unit in ["pigeonhubd@3000", "pigeonhubd@3001"] {
        assert!(!shell(&format!("systemctl reload {unit}")).status.success(), "{unit}");
    }
    let rejected = until("the journal has it", || entries(3000, "configRejected").pop());
    let message = rejected["MESSAGE"].as_str().expect("a text");
    assert!(message.contains("/etc/pigeonhubd/conf.d/10-test.toml:1:8"), "{message}");
    assert_eq!(pids(), before);
    for client in clients {
        assert!(!client.was_disconnected(), "of its hub");
    }
    all_hear_all(clients);
    std::fs::remove_file("/etc/pigeonhubd/conf.d/10-test.toml").expect("removed");
    succeed("systemctl reload pigeonhubd@3000");
}

fn an_upgrade_restarts_what_runs_and_refuses_nobody() {
    succeed("sed -i 's/^#max_connections = 10000$/max_connections = 9999/' /etc/pigeonhubd/pigeonhubd.toml");
    // Enabled, but stopped: so it stays.
    succeed("systemctl enable pigeonhubd@3003");
    let before = pids();
    let traffic = Traffic::start(3000, CLIENTS);
    install(NEXT);
    traffic.all_are_back();
    println!("{} connections over an upgrade, none refused", traffic.end_without_a_refusal());
    assert_eq!(succeed("dpkg-query --show --showformat '${Version}' pigeonhubd"), NEXT_VERSION);
    assert_eq!(property(3003, "ActiveState"), "inactive");
    let mut spans = Vec::new();
    for (port, pid) in HUBS.iter().zip(before) {
        assert_ne!(property(*port, "MainPID"), pid, "{port} was restarted");
        let at = |name: &str| property(*port, name).parse::<u64>().expect("µs since the boot");
        spans.push((at("ExecMainStartTimestampMonotonic"), at("ActiveEnterTimestampMonotonic")));
        assert_eq!(property(*port, "NRestarts"), "0");
        let shown = succeed(&format!("pigeonctl --instance {port} config show"));
        assert!(shown.contains("9999"), "the changed configuration is kept: {shown}");
        until("it has a link to both others", || (status(*port)["p2p_links"] == 2).then_some(()));
    }
    spans.sort_unstable();
    assert!(spans.is_sorted_by(|(_, ready), (started, _)| ready <= started), "one by one: {spans:?}");
}

fn an_upgrade_with_a_broken_file_stops_nobody() {
    let before = pids();
    // The reader of the hub refuses it, and so do the eyes of its user.
    configure("tokens", "0123456789abcdef # of the app\n");
    configure("3001.toml", "auth.token_file = \"/etc/pigeonhubd/tokens\"\n");
    for (mode, problem) in [("0640", "line 1"), ("0600", "Permission denied")] {
        succeed(&format!(
            "chown root:pigeonhub /etc/pigeonhubd/tokens && chmod {mode} /etc/pigeonhubd/tokens"
        ));
        let failed = shell(&format!("{} 2>&1", apt(DEB)));
        let said = text(&failed.stdout);
        assert!(!failed.status.success(), "{said}");
        assert!(said.contains("pigeonhubd@3001.service would not start again"), "{said}");
        assert!(said.contains("auth.token_file: /etc/pigeonhubd/tokens") && said.contains(problem), "{said}");
        assert_eq!(pids(), before, "all run on");
    }
    succeed("rm /etc/pigeonhubd/3001.toml /etc/pigeonhubd/tokens && dpkg --configure pigeonhubd");
    assert!(pids().iter().zip(&before).all(|(now, before)| now != before), "all were restarted");
}

fn an_upgrade_that_fails_says_so_and_can_be_continued() {
    let before = pids();
    // What no look at files finds.
    let folder = "/etc/systemd/system/pigeonhubd@3001.service.d";
    succeed(&format!(
        "mkdir -p {folder} && printf '[Service]\\nEnvironment=MAX_CONNECTIONS=many\\n' > {folder}/test.conf"
    ));
    let failed = shell(&format!("{} 2>&1", apt(NEXT)));
    let said = text(&failed.stdout);
    assert!(!failed.status.success(), "{said}");
    assert!(said.contains("pigeonhubd@3001.service did not start"), "{said}");
    assert_ne!(property(3000, "MainPID"), before[0], "this one was first");
    assert_eq!(property(3001, "ActiveState"), "failed");
    assert_eq!(property(3002, "MainPID"), before[2], "this one is left as it is");
    succeed(&format!("rm -r {folder} && systemctl daemon-reload && dpkg --configure pigeonhubd"));
    assert_eq!(property(3001, "ActiveState"), "active");
    assert_ne!(property(3002, "MainPID"), before[2]);
    assert_eq!(succeed("dpkg --audit"), "");
}

fn what_is_disabled_stays_disabled() {
    succeed("systemctl disable --now pigeonhubd@3000");
    install(DEB);
    assert_eq!(property(3000, "UnitFileState"), "disabled");
    assert_eq!(property(3000, "ActiveState"), "inactive");
    assert_eq!((property(3001, "ActiveState"), running()), ("active".into(), 2));
}

fn removing_stops_all_and_keeps_what_is_the_administrators() {
    succeed("systemctl start pigeonhubd@3004.socket && apt-get remove --yes pigeonhubd");
    assert_eq!(running(), 0);
    let left = succeed("systemctl list-units --plain --no-legend --state=active 'pigeonhubd*'");
    assert_eq!(left, "");
    succeed("grep --quiet 9999 /etc/pigeonhubd/pigeonhubd.toml && test -s /var/lib/pigeonhubd/mesh.key");
    install(NEXT);
    assert_eq!(property(3000, "ActiveState"), "inactive", "it was disabled");
    wait_property(3003, "ActiveState", |state| state == "active");
    assert_eq!(running(), 1, "what was enabled, and nothing else");
}

fn purging_leaves_nothing(before: &BTreeSet<String>) {
    succeed("apt-get purge --yes pigeonhubd");
    assert_eq!(running(), 0);
    let after = files();
    let left: Vec<&String> = after.difference(before).collect();
    let lost: Vec<&String> = before.difference(&after).collect();
    assert_eq!((left, lost), (vec![], vec![]));
    assert!(!Path::new("/run/pigeonhubd").exists() && !Path::new("/run/pigeonhubd.restart").exists());
}

fn it_can_be_installed_again_with_a_key_of_the_meshs() {
    succeed(
        "install -D --mode 600 /dev/stdin /etc/credstore/pigeonhubd.mesh.key <<< 'the key of another server'",
    );
    install(DEB);
    assert_eq!(status(3000)["ready"], true);
    assert_eq!(succeed("systemctl is-enabled pigeonhubd@3000"), "enabled\n");
    // A port below 1024, which systemd opens.
    succeed("systemctl start pigeonhubd@443.socket && systemctl start pigeonhubd@443");
    assert_eq!(status(443)["known_hubs"], 1, "it joined through the one on 3000");
    assert!(!Path::new("/var/lib/pigeonhubd/mesh.key").exists(), "the credential is taken instead");
    let doctor = text(&shell("pigeonctl --instance 443 doctor").stdout);
    assert!(doctor.contains("/run/credentials/pigeonhubd@443.service/mesh.key, fingerprint"), "{doctor}");
    succeed("rm -r /etc/credstore/pigeonhubd.mesh.key && rmdir --ignore-fail-on-non-empty /etc/credstore");
}
