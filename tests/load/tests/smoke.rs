//! The rig counts right: against the bare forwarder, for a moment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Forwarder(Child);

impl Drop for Forwarder {
    fn drop(&mut self) {
        // It may have ended by itself, which the test then tells.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A forwarder, and where it listens.
fn forwarder() -> (Forwarder, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_forwarder"))
        .arg("0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the forwarder starts");
    let out = child.stdout.take().expect("its output");
    let forwarder = Forwarder(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ").expect("where it listens");
    (forwarder, address.to_owned())
}

fn load(arguments: &[&str]) -> Value {
    let (forwarder, address) = forwarder();
    let pid = forwarder.0.id().to_string();
    let load = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .args(["--hub", &address, "--pid", &pid])
        .output()
        .expect("the generator runs");
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
    serde_json::from_slice(&load.stdout).expect("JSON")
}

#[test]
fn every_signal_is_counted_once() {
    let told = load(&["signals", "--pairs-count", "3", "--in-flight", "4", "--time", "0.3"]);
    let figure = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} in {told}"));
    assert!(figure("signals") > 0 && figure("sent") >= figure("signals"), "{told}");
    assert_eq!((figure("lost"), figure("wrong"), figure("errors")), (0, 0, 0), "{told}");
    assert!(told["cpu_us"].as_f64().is_some_and(|micros| micros > 0.0), "{told}");
}

#[test]
fn round_trips_are_timed() {
    let told = load(&["round-trips", "--rounds", "50"]);
    let (p50, p99) = (told["p50_us"].as_f64(), told["p99_us"].as_f64());
    assert!(p50 > Some(0.0) && p50 <= p99, "{told}");
}

#[test]
fn a_hub_that_dies_meanwhile_is_told_in_words() {
    let (forwarder, address) = forwarder();
    let pid = forwarder.0.id().to_string();
    let load = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["signals", "--pairs-count", "2", "--time", "2", "--hub", &address, "--pid", &pid])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the generator runs");
    // Whether it opens connections or counts by then, there is no hub for it.
    std::thread::sleep(std::time::Duration::from_secs(1));
    drop(forwarder);
    let ended = load.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.starts_with("load: ") && ended.stdout.is_empty(), "{told}");
}
