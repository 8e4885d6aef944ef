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

fn load(arguments: &[&str]) -> Value {
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
    let pid = forwarder.0.id().to_string();
    let load = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments)
        .args(["--hub", address, "--pid", &pid])
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
