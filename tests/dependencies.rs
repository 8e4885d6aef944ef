//! What this project is built from: licences, bans and sources, as `deny.toml` has them.

use std::process::Command;

use crate::harness::{Need, skipped, tool};

#[test]
fn licences_bans_and_sources_are_those_allowed() {
    if skipped(&[Need::CargoDeny]) {
        return;
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let run = Command::new(tool("cargo-deny"))
        .current_dir(workspace)
        .args([
            "--all-features",
            "--locked",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ])
        .output()
        .expect("cargo-deny runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
