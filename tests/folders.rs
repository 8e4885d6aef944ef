//! Folders that lack what most have.

use crate::harness::{Ground, Need, Plan, skipped};

#[test]
fn hubs_start_where_there_are_no_hard_links() {
    if skipped(&[Need::Python]) {
        return;
    }
    let ground = Ground::new();
    let without = ["python3", concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/no-links.py")];
    let first = Plan::first().under(&without).start(&ground);
    // They agree on the mesh key that the first one made.
    let second = Plan::through([first.url().as_str()]).under(&without).start(&ground);
    second.wait_ready(1);
    let keys = ground.folder().join("home/.local/state/pigeonhubd");
    let names: Vec<_> =
        keys.read_dir().expect("it is made").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names, ["mesh.key"], "nothing else is left");
}
