//! What this project is built from: licences, bans and sources, as `deny.toml` has them.

use std::fs;
use std::path::Path;
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

/// Every crate of the workspace takes the workspace's lints, which forbid it; `forbid` lets nobody allow it again.
#[test]
fn unsafe_is_forbidden_everywhere() {
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let read = |path: &Path| fs::read_to_string(path.join("Cargo.toml")).expect("readable");
    let root = read(workspace);
    assert!(root.contains("\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"), "{root}");
    let members =
        root.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    let members: Vec<&str> = members.split(',').map(|member| member.trim().trim_matches('"')).collect();
    assert!(members.len() >= 4, "{members:?}");
    for member in members {
        let manifest = read(&workspace.join(member));
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{member}: {manifest}");
    }
}
