//! Both sides of the boot: starting one from outside, and working in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use serde_json::Value;

use super::harness::skip::skip;
use super::harness::until_ok;

/// Set for what runs inside.
const INSIDE: &str = "PIGEONHUBD_BOOTED";

const UNITS: [(&str, &str); 2] = [
    ("pigeonhubd@.service", include_str!("../../packaging/pigeonhubd@.service")),
    ("pigeonhubd.service", include_str!("../../packaging/pigeonhubd.service")),
];
const CATALOG: &str = include_str!("../../packaging/pigeonhubd.catalog");

/// The built binaries' folder.
pub(crate) fn binaries() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_pigeonhubd")).parent().expect("a folder").to_owned()
}

/// Runs the ignored test `name` of this program under a systemd of its own;
/// says so where a person sees it if that cannot be done here. It gets
/// `variables` in its environment.
pub(crate) fn boot(name: &str, variables: &[(&str, &Path)]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/booted-systemd");
    let check = Command::new(script).arg("--check").output().expect("the script runs");
    if !check.status.success() {
        return skip(String::from_utf8_lossy(&check.stdout).trim());
    }
    let own = env::current_exe().expect("this program");
    let output = Command::new(script)
        .arg("--bind")
        .arg(binaries())
        .arg("--bind")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests"))
        .args(["--timeout", "1100", "--setenv", &format!("{INSIDE}=1")])
        .args(
            variables
                .iter()
                .flat_map(|(name, value)| [String::from("--setenv"), format!("{name}={}", value.display())]),
        )
        .arg(own)
        .args(["--ignored", "--exact", name, "--nocapture"])
        .stdin(Stdio::null())
        .output()
        .expect("the script runs");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "inside the booted system {name} failed: see above");
    assert!(said.contains("1 passed"), "{name} was not found inside");
}

/// Whether this is inside. An inside test that somebody starts elsewhere must not touch their system.
pub(crate) fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Puts everything where a package would.
pub(crate) fn install() {
    for program in ["pigeonhubd", "pigeonctl"] {
        let built = binaries().join(program);
        assert!(built.is_file(), "{} is not built: cargo build --workspace --bins", built.display());
        fs::copy(built, Path::new("/usr/bin").join(program)).expect("copied");
    }
    for (name, unit) in UNITS {
        fs::write(Path::new("/etc/systemd/system").join(name), unit).expect("written");
    }
    fs::write("/usr/lib/systemd/catalog/pigeonhubd.catalog", CATALOG).expect("written");
    succeed("journalctl --update-catalog");
    succeed("systemd-sysusers --inline 'u pigeonhub -'");
    fs::create_dir_all("/etc/pigeonhubd/conf.d").expect("made");
    configure("pigeonhubd.toml", "listen.host = \"127.0.0.1\"\nlisten.drain_timeout = \"1s\"\n");
    succeed("systemctl daemon-reload");
}

/// Writes a file of the configuration.
pub(crate) fn configure(name: &str, toml: &str) {
    fs::write(Path::new("/etc/pigeonhubd").join(name), toml).expect("written");
}

/// Runs a line of shell.
pub(crate) fn shell(line: &str) -> Output {
    Command::new("bash").args(["-c", line]).stdin(Stdio::null()).output().expect("bash runs")
}

/// Runs a line of shell that must succeed: what it prints.
pub(crate) fn succeed(line: &str) -> String {
    let output = shell(line);
    if !output.status.success() {
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let journal = text(&shell("journalctl --no-pager --lines 60").stdout);
        panic!("{line}: {}\n{out}{err}\n{journal}", output.status);
    }
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A property of an instance, as systemd tells it.
pub(crate) fn property(port: u16, name: &str) -> String {
    succeed(&format!("systemctl show --property {name} --value pigeonhubd@{port}")).trim().to_owned()
}

/// Waits until an instance's property is as it should be.
pub(crate) fn wait_property(port: u16, name: &str, is: impl Fn(&str) -> bool) -> String {
    until_ok(&format!("{name} of {port} is as it should be"), || match property(port, name) {
        value if is(&value) => Ok(value),
        value => Err(format!("{value}; {}", property(port, "StatusText"))),
    })
}

/// What pigeonctl says of an instance's status.
pub(crate) fn status(port: u16) -> Value {
    let line = succeed(&format!("pigeonctl --instance {port} status --json"));
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The journal's entries of an instance with that event, oldest first.
pub(crate) fn entries(port: u16, event: &str) -> Vec<Value> {
    let lines = succeed(&format!(
        "journalctl --no-pager --output json --unit pigeonhubd@{port} PIGEONHUB_EVENT={event} || true"
    ));
    lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}
