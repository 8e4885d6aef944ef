//! A machine that fails, and what was left by earlier runs: each is a clear
//! message and the right exit status, or the hub goes on.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::fcntl::OFlag;
use serde_json::json;

use crate::harness::{Ground, Hub, Need, Plan, Raw, skipped, until_ok};

const NETWORK: &str = "pigeons";
/// In ms.
const DAY: i64 = 86_400_000;

fn id(digits: &str) -> String {
    digits.repeat(40 / digits.len())
}

/// Two clients of two hubs, or of one.
struct Pair {
    one: Raw,
    other: Raw,
    signals: u32,
}

impl Pair {
    fn join(first: &Hub, second: &Hub) -> Self {
        let mut one = Raw::join(first, &id("a1"), NETWORK);
        let other = Raw::join(second, &id("b2"), NETWORK);
        one.wait_type("peer-discovered");
        Self { one, other, signals: 0 }
    }

    /// The other one leaves, and connects again.
    fn comes_again(self, to: &Hub) -> Self {
        let Self { mut one, other, signals } = self;
        drop(other);
        let other = Raw::join(to, &id("b2"), NETWORK);
        one.wait_type("peer-discovered");
        Self { one, other, signals }
    }

    /// A signal in each direction arrives.
    fn goes_on(&mut self) {
        self.signals += 1;
        let data = json!({"n": self.signals});
        self.one.offer(&id("b2"), NETWORK, &data);
        assert_eq!(self.other.wait_type("offer")["data"], data);
        self.other.offer(&id("a1"), NETWORK, &data);
        assert_eq!(self.one.wait_type("offer")["data"], data);
    }
}

/// Where `plan` on `port` keeps its key.
fn state(ground: &Ground, port: u16) -> PathBuf {
    ground.folder().join(format!("state-{port}"))
}

/// Runs a hub that is not to start.
fn refused(ground: &Ground, plan: &Plan, port: u16) -> String {
    let Output { status, stderr, .. } = plan.command(ground, port).output().expect("it runs");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(!said.contains("listening"), "{said}");
    assert_eq!(said.lines().count(), 1, "one message: {said}");
    said
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn without_open_files_those_inside_go_on_and_it_recovers() {
    let ground = Ground::new();
    // As many as the machine has, and no more.
    let hub = Plan::first().under(&["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]).start(&ground);
    let mut pair = Pair::join(&hub, &hub);
    let crowd: Vec<_> = (0..100)
        .map(|_| std::net::TcpStream::connect((hub.address, hub.port)).expect("the kernel takes it"))
        .collect();
    until_ok("it says that it has none left", || {
        let told = hub.log().iter().any(|line| line.contains("cannot accept connections for the moment: "));
        if told { Ok(()) } else { Err(format!("{:#?}", hub.log())) }
    });
    for _ in 0..20 {
        pair.goes_on();
    }
    drop(crowd);
    // From here on all of this needs new files again.
    Raw::join(&hub, &id("c3"), NETWORK).settle();
    assert!(hub.status().ready);
    let told = hub.log().iter().filter(|line| line.contains("cannot accept")).count();
    assert!(told < 20, "told once, not each time: {:#?}", hub.log());
    pair.goes_on();
}

/// A state folder of 64 KiB that is full; what is in `keep` was there before.
fn full_disk(ground: &Ground, port: u16, keep: &str) -> Plan {
    let folder = state(ground, port);
    fs::create_dir_all(&folder).expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=700 none '{0}' && {{ {keep} head -c 1M /dev/zero >'{0}/full' 2>/dev/null; exec \"$0\" \"$@\"; }}",
        folder.display()
    );
    Plan::first().under(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script])
}

#[test]
fn on_a_full_disk_no_key_can_be_made_and_one_that_is_there_will_do() {
    if skipped(&[Need::Namespaces]) {
        return;
    }
    let ground = Ground::new();
    let port = ground.port();
    let said = refused(&ground, &full_disk(&ground, port, ""), port);
    assert!(said.contains("hub.key: cannot be made: No space left on device"), "{said}");

    let earlier = Plan::first().start(&ground);
    let (hub_id, key) = (earlier.status().hub_id, state(&ground, earlier.port).join("hub.key"));
    drop(earlier);
    let keep = format!("cp -p '{}' '{}/';", key.display(), state(&ground, port).display());
    let hub = full_disk(&ground, port, &keep).start_on(&ground, port);
    assert_eq!(hub.status().hub_id, hub_id);
    Pair::join(&hub, &hub).goes_on();
}

#[test]
fn a_state_folder_that_does_not_do_is_named() {
    let ground = Ground::new();
    let (plan, port) = (Plan::first(), ground.port());
    let folder = state(&ground, port);
    let key = folder.join("hub.key");
    let begin = || {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        mode(&folder, 0o700);
    };
    let write = |bytes: &[u8], rights| {
        begin();
        fs::write(&key, bytes).expect("a file");
        mode(&key, rights);
    };
    let told = |what: &str| {
        let said = refused(&ground, &plan, port);
        assert!(said.contains(&*folder.to_string_lossy()) && said.contains(what), "{what}: {said}");
    };
    for rubbish in [&b""[..], b"\0\0\0\0", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", &[b'f'; 65]] {
        write(rubbish, 0o600);
        told("not 64 hexadecimal digits; restore it from a backup, or delete it and a new one is made");
    }
    write(&[b'f'; 5000], 0o600);
    told("too large");
    write(&[b'f'; 64], 0o644);
    told("shows this secret to everyone; right would be: chmod 600");
    begin();
    fs::create_dir(&key).expect("a folder");
    told("not a file");
    begin();
    fs::create_dir(folder.join("lock")).expect("a folder");
    told("cannot be locked");
    begin();
    mode(&folder, 0o777);
    told("mode 0777 lets others write in it");
    mode(&folder, 0o700);
    fs::remove_dir_all(&folder).expect("ours");
    fs::write(&folder, "a file").expect("a file");
    told("cannot be made");
    fs::remove_file(&folder).expect("ours");
    // Somebody else's could be changed by them at any time.
    if nix::unistd::geteuid().is_root() {
        begin();
        std::os::unix::fs::chown(&folder, Some(54_321), None).expect("root may");
        told("belongs to user 54321");
        fs::remove_dir_all(&folder).expect("root may");
    }
    // Another program's files are in nobody's way.
    begin();
    fs::write(folder.join("notes.txt"), "mine").expect("a file");
    plan.start_on(&ground, port);
}

#[test]
fn what_a_killed_hub_left_is_in_nobodys_way() {
    let ground = Ground::new();
    let (plan, port) = (Plan::first(), ground.port());
    let mut hub = plan.start_on(&ground, port);
    let (hub_id, socket) = (hub.status().hub_id, hub.control_socket());
    hub.kill();
    assert!(socket.exists() && state(&ground, port).join("lock").exists(), "it had no time to clean up");
    let mut hub = plan.start_on(&ground, port);
    assert_eq!(hub.status().hub_id, hub_id);
    assert!(hub.stop().success() && !socket.exists());
    // What is no socket may be somebody's.
    fs::write(&socket, "mine").expect("a file");
    let said = refused(&ground, &plan, port);
    assert!(
        said.contains("is in the way of the control socket, and is not a socket; move it elsewhere"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&socket).expect("untouched"), "mine");
}

#[test]
fn a_second_hub_in_the_same_place_is_told_so_and_the_first_goes_on() {
    let ground = Ground::new();
    let plan = Plan::first();
    let hub = plan.start(&ground);
    let mut pair = Pair::join(&hub, &hub);
    let said = refused(&ground, &plan, hub.port);
    assert!(
        said.contains(&format!("port {} is taken: another process listens on 127.0.0.1", hub.port)),
        "{said}"
    );
    // On another port, but with the same folder.
    let other = ground.port();
    std::os::unix::fs::symlink(state(&ground, hub.port), state(&ground, other)).expect("a link");
    let said = refused(&ground, &plan, other);
    assert!(said.contains(&format!("in use by another pigeonhubd (process {})", hub.pid())), "{said}");
    pair.goes_on();
    assert!(hub.status().ready);
}

/// Back by ten years and forth by twenty: monotonic time alone drives the hub.
#[test]
fn a_wall_clock_that_jumps_disturbs_nobody() {
    if skipped(&[Need::Faketime]) {
        return;
    }
    let ground = Ground::new();
    let offset = ground.folder().join("offset");
    fs::write(&offset, "+0").expect("a file");
    let first = Plan::first().start(&ground);
    let plan = Plan::through([first.url().as_str()]).clock(&offset);
    let mut second = plan.start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let mut pair = Pair::join(&first, &second);
    let before = pair.other.clock();
    for (jump, days) in [("-3650d", -3650), ("+3650d", 3650), ("+0", 0)] {
        fs::write(&offset, jump).expect("a file");
        until_ok("its clock shows it", || {
            let off = pair.other.clock() - before - days * DAY;
            if off.abs() < DAY { Ok(()) } else { Err(format!("off by {off} ms")) }
        });
        // A link would be given up within three seconds.
        for _ in 0..40 {
            pair.goes_on();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert!(first.status().known_hubs == 1 && second.status().known_hubs == 1);
        // Who comes anew is found, whatever the clocks say of who came last.
        pair = pair.comes_again(&second);
        pair.goes_on();
    }
    // A start in the past: the mesh remembers a later run of this hub.
    fs::write(&offset, "-3650d").expect("a file");
    second.kill();
    let second = plan.start_on(&ground, second.port);
    second.wait_ready(1);
    first.wait_ready(1);
    let mut pair = Pair::join(&first, &second);
    pair.goes_on();
}

/// A pager, a log shipper or the journal may stand still.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let ground = Ground::new();
    let path = ground.folder().join("log");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    // Open for both, it waits for no reader; full from the first line on.
    let mut options = fs::OpenOptions::new();
    let mut full =
        options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).expect("a pipe");
    while full.write(&[b'x'; 4096]).is_ok() {}
    let into = format!("exec \"$0\" \"$@\" 2>'{}'", path.display());
    let mut hub = Plan::first().under(&["sh", "-c", &into]).start(&ground);
    let mut pair = Pair::join(&hub, &hub);
    for _ in 0..5 {
        pair = pair.comes_again(&hub);
        pair.goes_on();
    }
    hub.wait("it to answer pigeonctl", |status| status.local_peers == 2);
    let dropped = hub.figure("pigeonhubd_log_dropped_total");
    assert_eq!(dropped, 0, "what waits has room");
    assert!(hub.stop().success());
}
