//! Keys on disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use pigeonhub_proto::config::find;
use pigeonhub_proto::mesh::identity::Identity;

use super::*;
use crate::test_dir::TestDir;

fn around(home: &Path) -> Surroundings {
    Surroundings { xdg_state_home: Some(home.to_owned()), ..Surroundings::default() }
}

/// Tells keys apart without showing them.
fn mark(key: &MeshKey) -> [u8; 32] {
    key.mac(b"which")
}

fn named(path: &Path) -> Config {
    let key = find("mesh.key_file").expect("a key");
    let mut config = Config::default();
    let flag = key.flag.expect("a flag");
    config.apply_flag(key, flag, &[path.to_string_lossy().into_owned()]).expect("a path");
    config
}

#[test]
fn a_mesh_key_is_made_once_for_all_hubs_of_a_user() {
    let dir = TestDir::new();
    let mut config = Config::default();
    let first = mesh_key(&config, &around(&dir)).expect("made");
    let path = dir.join("pigeonhubd/mesh.key");
    let text = fs::read_to_string(&path).expect("there");
    assert_eq!((text.len(), text.trim_end().len()), (65, 64));
    assert!(text.trim_end().bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
    assert_eq!(dir.join("pigeonhubd").metadata().expect("there").mode() & 0o7777, 0o700);
    config.listen.port = 3001;
    config.state_dir = Some(dir.join("elsewhere"));
    assert_eq!(mark(&mesh_key(&config, &around(&dir)).expect("read")), mark(&first));
    let other = TestDir::new();
    assert_ne!(mark(&mesh_key(&config, &around(&other)).expect("made")), mark(&first));
}

#[test]
fn hubs_that_start_at_once_agree_and_leave_nothing_behind() {
    for _ in 0..20 {
        let dir = TestDir::new();
        let start = Barrier::new(8);
        let hub = || {
            start.wait();
            mark(&mesh_key(&Config::default(), &around(&dir)).expect("a key"))
        };
        let marks: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let hubs: Vec<_> = (0..8).map(|_| scope.spawn(hub)).collect();
            hubs.into_iter().map(|hub| hub.join().expect("no panic")).collect()
        });
        assert!(marks.iter().all(|mark| Some(mark) == marks.first()));
        let names = fs::read_dir(dir.join("pigeonhubd")).expect("a folder").count();
        assert_eq!(names, 1, "drafts are removed");
    }
}

#[test]
fn without_hard_links_the_first_stays_too() {
    let dir = TestDir::new();
    let (start, path) = (Barrier::new(8), dir.join("key"));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (start, path, dir) = (&start, &path, &dir);
            scope.spawn(move || {
                let draft = dir.join(format!("draft-{number}"));
                fs::write(&draft, number.to_string()).expect("written");
                start.wait();
                rename_unless_there(dir, &draft, path).expect("the folder can be locked");
            });
        }
    });
    assert_eq!(fs::read_dir(&*dir).expect("a folder").count(), 8, "one draft was renamed");
    let kept = fs::read_to_string(&path).expect("there");
    assert!(!dir.join(format!("draft-{kept}")).exists(), "and no other came after it");
}

#[test]
fn a_named_key_must_exist_and_not_be_everyones() {
    let dir = TestDir::new();
    let path = dir.join("k");
    let message = || mesh_key(&named(&path), &around(&dir)).expect_err("a fault").to_string();
    let shown = path.display();
    assert_eq!(
        message(),
        format!("--key-file: mesh.key_file: {shown}: cannot be read: No such file or directory (os error 2)")
    );
    assert!(!path.exists() && !dir.join("pigeonhubd").exists(), "nothing was made instead");
    fs::write(&path, "0123456789abcdef\n").expect("written");
    for mode in [0o604, 0o644, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(
            message(),
            format!(
                "--key-file: mesh.key_file: {shown}: mode {mode:04o} shows this secret to everyone; right would be: \
                 chmod 600 '{shown}'"
            )
        );
    }
    for mode in [0o600, 0o400, 0o440, 0o640] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        mesh_key(&named(&path), &around(&dir)).expect("a key");
    }
}

#[test]
fn a_credential_counts_more_than_an_own_key_and_less_than_a_named_one() {
    let dir = TestDir::new();
    let credentials = Surroundings { credentials_directory: Some(dir.join("c")), ..around(&dir) };
    let key = |config: &Config| mesh_key(config, &credentials).map(|key| mark(&key));
    let own = key(&Config::default()).expect("made: the unit has no such credential");
    fs::create_dir(dir.join("c")).expect("a folder");
    fs::write(dir.join("c/mesh.key"), "short").expect("written");
    let path = dir.join("c/mesh.key");
    fs::set_permissions(&path, Permissions::from_mode(0o440)).expect("chmod");
    assert_eq!(
        key(&Config::default()).expect_err("no key").to_string(),
        format!("{}: 5 bytes; a credential of the unit's, should be at least 16", path.display())
    );
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "handed over by systemd").expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o440)).expect("chmod");
    let handed = key(&Config::default()).expect("a key");
    assert_ne!(handed, own);
    let again = mesh_key_again(&Config::default(), &credentials).expect("read").expect("there");
    assert_eq!(mark(&again), handed);
    fs::write(dir.join("named"), "named in the configuration").expect("written");
    fs::set_permissions(dir.join("named"), Permissions::from_mode(0o600)).expect("chmod");
    assert!(![handed, own].contains(&key(&named(&dir.join("named"))).expect("a key")));
}

#[test]
fn what_is_no_mesh_key_is_refused() {
    let dir = TestDir::new();
    let path = dir.join("k");
    let shown = path.display();
    for (content, found) in [
        (String::new(), "0 bytes; should be at least 16".to_owned()),
        (" 0123456789abcde\n".to_owned(), "15 bytes; should be at least 16".to_owned()),
        ("k".repeat(4097), "too large; should be at most 4096 bytes".to_owned()),
    ] {
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
        let message = mesh_key(&named(&path), &around(&dir)).expect_err("no key").to_string();
        assert_eq!(message, format!("--key-file: mesh.key_file: {shown}: {found}"));
    }
    let message = mesh_key(&named(&dir), &around(&dir)).expect_err("a folder").to_string();
    assert!(message.ends_with(": not a file; should be a file with the key"), "{message}");
    nix::unistd::mkfifo(&dir.join("p"), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let message = mesh_key(&named(&dir.join("p")), &around(&dir)).expect_err("a pipe").to_string();
    assert!(message.ends_with(": not a file; should be a file with the key"), "{message}");
}

#[test]
fn an_own_mesh_key_that_is_spoilt_comes_with_a_cure() {
    let dir = TestDir::new();
    mesh_key(&Config::default(), &around(&dir)).expect("made");
    let path = dir.join("pigeonhubd/mesh.key");
    fs::write(&path, "").expect("emptied");
    assert_eq!(
        mesh_key(&Config::default(), &around(&dir)).expect_err("spoilt").to_string(),
        format!(
            "{}: 0 bytes; delete it, a new one is made, then restart the hubs that share it: should be at least 16",
            path.display()
        )
    );
}

#[test]
fn a_hubs_key_stays_its_own() {
    let dir = TestDir::new();
    let open = |name: &str| StateDir::open(dir.join(name)).expect("free");
    let first = hub_key(&open("a")).expect("made").public_key();
    assert_eq!(hub_key(&open("a")).expect("read").public_key(), first);
    assert_ne!(hub_key(&open("b")).expect("made").public_key(), first);
    let path = dir.join("a/hub.key");
    assert_eq!(path.metadata().expect("there").mode() & 0o7777, 0o600);
    let good = fs::read_to_string(&path).expect("there");
    fs::write(&path, good.trim_end().to_uppercase()).expect("written");
    assert_eq!(hub_key(&open("a")).expect("the same digits").public_key(), first);
    for bad in ["", "00", &good.replace(|c: char| c.is_ascii_hexdigit(), "g"), &good.repeat(2)] {
        fs::write(&path, bad).expect("written");
        assert_eq!(
            hub_key(&open("a")).map(|_| ()).expect_err("spoilt").to_string(),
            format!(
                "{}: not 64 hexadecimal digits; restore it from a backup, or delete it and a new one is made, with \
                 which this hub gets a new id",
                path.display()
            )
        );
    }
}
