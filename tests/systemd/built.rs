//! The packages, built by `packaging/build` from the binaries that the tests have.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, io};

use super::booted::{binaries, text};
use super::harness::skip::{on_path, skip};

/// The version that [`Packages::next`] has.
pub(crate) const NEXT_VERSION: &str = "99.0.0-1";

/// What is built.
pub(crate) struct Packages {
    /// As the sources say.
    pub(crate) deb: PathBuf,
    /// The same files in another format.
    pub(crate) rpm: PathBuf,
    /// The same files as a later version.
    pub(crate) next: PathBuf,
    /// The first one built again.
    pub(crate) again: PathBuf,
}

/// Where `tests/run` installs what cargo installs.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/.cache/cargo/bin");

/// Whether no packages can be built and looked at here. If so, says it.
pub(crate) fn cannot_be_built() -> bool {
    let absent = |tool: &str| !Path::new(TOOLS).join(tool).is_file() && on_path(tool).is_none();
    let because = if ["cargo-deb", "cargo-generate-rpm"].iter().any(|tool| absent(tool)) {
        "cargo-deb and cargo-generate-rpm are not installed: tests/run installs them with cargo"
    } else if ["lintian", "rpm", "apparmor_parser", "man"].iter().any(|tool| absent(tool)) {
        "lintian, rpm, apparmor and man-db are not installed: tests/run installs them when root runs it on Debian"
    } else {
        return false;
    };
    skip(because);
    true
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// Where they are, beside the binaries.
fn folder() -> PathBuf {
    binaries().join("packages")
}

/// All that goes into the packages was changed then, or before.
fn last_change() -> SystemTime {
    fn newest(path: &Path) -> SystemTime {
        let below = fs::read_dir(path).map(|entries| {
            entries
                .map(|entry| newest(&entry.expect("an entry").path()))
                .max()
                .unwrap_or(SystemTime::UNIX_EPOCH)
        });
        below.unwrap_or_else(|_| path.metadata().and_then(|meta| meta.modified()).expect("a file"))
    }
    let sources = ["packaging", "man", "etc", "pigeonhubd/Cargo.toml", "Cargo.lock", "CHANGELOG.md"];
    let sources = sources.iter().map(|source| newest(&repository().join(source)));
    let programs = ["pigeonhubd", "pigeonctl"].iter().map(|program| newest(&binaries().join(program)));
    sources.chain(programs).max().expect("some")
}

/// Builds them, unless they are newer than all that they are made of.
pub(crate) fn packages() -> Packages {
    fs::create_dir_all(folder()).expect("a folder");
    // Test processes that come at once wait for the first.
    let lock = File::create(folder().join("lock")).expect("a lock");
    lock.lock().expect("locked");
    let stamp = folder().join("stamp");
    let built = stamp.metadata().and_then(|meta| meta.modified());
    if built.is_err() || built.is_ok_and(|built| built < last_change()) {
        // As old as the build's beginning: what changes while it goes on is built the next time.
        let began = folder().join("began");
        File::create(&began).expect("a stamp");
        for name in ["first", "next", "again"] {
            let _ = fs::remove_dir_all(folder().join(name));
        }
        build("first", &["--rpm"]);
        build("next", &["--version", NEXT_VERSION]);
        build("again", &[]);
        fs::rename(&began, &stamp).expect("renamed");
    }
    Packages {
        deb: only("first", "deb"),
        rpm: only("first", "rpm"),
        next: only("next", "deb"),
        again: only("again", "deb"),
    }
}

fn build(name: &str, more: &[&str]) {
    let path = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths([PathBuf::from(TOOLS)].into_iter().chain(env::split_paths(&path))).expect("a path");
    let binaries = binaries();
    // cargo names profiles and their folders alike, but for one.
    let profile = match binaries.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let output = Command::new(repository().join("packaging/build"))
        .args(["--no-build", "--fast", "--profile", profile, "--output"])
        .arg(folder().join(name))
        .args(more)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", binaries.parent().expect("a folder"))
        .output()
        .expect("packaging/build runs");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// The one file of that kind in a folder.
fn only(name: &str, extension: &str) -> PathBuf {
    let entries = fs::read_dir(folder().join(name)).expect("a folder");
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut found: Vec<PathBuf> = paths.expect("readable");
    found.retain(|path| path.extension().is_some_and(|is| is == extension));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
