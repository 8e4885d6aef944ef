//! A mesh is given a new key, hub by hub, and stays one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::control::steer;
use crate::harness::{Ground, Plan, Raw, until_ok};

const OLD: &str = "the key that the mesh began with";
const NEW: &str = "the key that it is given later on";

fn key(file: &Path, key: &str) {
    fs::write(file, key).expect("a key file");
    fs::set_permissions(file, Permissions::from_mode(0o600)).expect("it is ours");
}

fn named(ground: &Ground, name: &str, text: &str) -> (PathBuf, String) {
    let file = ground.folder().join(name);
    key(&file, text);
    let argument = file.to_str().expect("a plain path").to_owned();
    (file, argument)
}

#[test]
fn a_mesh_is_given_a_new_key_hub_by_hub() {
    let ground = Ground::new();
    let (of_first, first_key) = named(&ground, "first.key", OLD);
    let (of_second, second_key) = named(&ground, "second.key", OLD);
    let first = Plan::first().with(&["--key-file", &first_key]).start(&ground);
    let plan = Plan::through([first.url().as_str()]).with(&["--key-file", &second_key]);
    let mut second = plan.start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let client = Raw::join(&first, &"a1".repeat(20), "pigeons");

    key(&of_first, NEW);
    let (code, changed, told) = steer(&first, &["reload"]);
    assert_eq!(
        (code, changed.as_str()),
        (0, "+ another mesh key; the old one is accepted for a day\n"),
        "{told}"
    );
    assert_eq!(first.status().p2p_links, 1, "the link stays");
    drop(client);
    // A hub that has the old key still, and begins anew, is let in.
    assert!(second.stop().success());
    let second = plan.start_on(&ground, second.port);
    first.wait_ready(1);
    second.wait_ready(1);
    // The one with the new key as well, which remembers the old one.
    let mut first = first;
    assert!(first.stop().success());
    let first = Plan::first().with(&["--key-file", &first_key]).start_on(&ground, first.port);
    first.wait_ready(1);
    second.wait_ready(1);
    let mut client = Raw::join(&first, &"a1".repeat(20), "pigeons");
    key(&of_second, NEW);
    assert_eq!(steer(&second, &["reload"]).0, 0);

    // One that never had the old key.
    let (_, third_key) = named(&ground, "third.key", NEW);
    let third = Plan::through([second.url().as_str()]).with(&["--key-file", &third_key]).start(&ground);
    for hub in [&first, &second, &third] {
        hub.wait_ready(2);
    }
    // And one that has neither.
    let (_, other_key) = named(&ground, "other.key", "a key of another mesh altogether");
    let stranger = Plan::through([third.url().as_str()]).with(&["--key-file", &other_key]).start(&ground);
    until_ok("the stranger hears why", || match steer(&stranger, &["status"]).1 {
        told if told.contains("alone, and not by choice") && told.contains("the mesh keys differ") => Ok(()),
        told => Err(told),
    });
    stranger.wait("is ready by itself", |status| status.ready);
    // Whoever waits for a mesh is told that it is in none.
    let (code, _, told) = steer(&stranger, &["wait", "--ready", "--timeout", "0s"]);
    assert!(code == 5 && told.contains("alone") && told.contains("the mesh keys differ"), "{code} {told}");
    let (code, found, _) = steer(&stranger, &["doctor"]);
    assert!(
        code == 1 && found.contains("the mesh keys differ") && found.contains("mesh.key_file"),
        "{found}"
    );
    assert_eq!(first.status().known_hubs, 2);
    assert!(client.closed_by_now().is_none(), "the client stays");
}

/// A hub whose key is another one at its next start, as with a credential or a file that was replaced.
#[test]
fn a_hub_that_is_restarted_with_a_new_key_is_in_its_mesh_all_the_same() {
    let ground = Ground::new();
    let (of_first, first_key) = named(&ground, "first.key", OLD);
    let (_, second_key) = named(&ground, "second.key", OLD);
    let first = Plan::first().with(&["--key-file", &first_key]).start(&ground);
    let plan = Plan::through([first.url().as_str()]).with(&["--key-file", &second_key]);
    let second = plan.start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let mut first = first;
    assert!(first.stop().success());
    key(&of_first, NEW);
    let first = Plan::first().with(&["--key-file", &first_key]).start_on(&ground, first.port);
    first.wait_ready(1);
    second.wait_ready(1);
}

/// Credentials are encrypted where they lie, perhaps, so no copy is kept of them.
#[test]
fn the_key_before_may_be_a_credential_too() {
    let ground = Ground::new();
    let credentials = ground.folder().join("credentials");
    fs::create_dir(&credentials).expect("a folder");
    key(&credentials.join("mesh.key"), NEW);
    key(&credentials.join("mesh.key.before"), OLD);
    let first = Plan::first().credentials(&credentials).start(&ground);
    let (_, old_key) = named(&ground, "old.key", OLD);
    let second = Plan::through([first.url().as_str()]).with(&["--key-file", &old_key]).start(&ground);
    first.wait_ready(1);
    second.wait_ready(1);
    let state = ground.folder().join(format!("state-{}", first.port));
    assert!(!state.join("mesh-keys.json").exists());
}
