//! The machine: open files, clock.

use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};

use super::Finding;
use super::ground::Ground;
use crate::look::{duration, now_ms, timestamp};

/// Open files that a hub needs beside one for each connection: listeners,
/// links' UDP sockets, handshakes, logs.
const OTHER_FILES: u64 = 2048;

/// No clock that is right shows less: the first second of 2026, in
/// milliseconds since the Unix epoch.
const LONG_PAST: u64 = 1_767_225_600_000;

/// How far in the future a file may have been written.
const TOLERANCE: Duration = Duration::from_secs(60);

/// Whether as many files may be open as connections are allowed.
pub(super) fn limits(ground: &Ground) -> Vec<Finding> {
    let pid = ground.running.as_ref().and_then(|running| running.pid);
    let of_hub = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    let (limit, whose) = match of_hub.as_deref().and_then(soft_limit) {
        Some(limit) => (limit, "of the hub"),
        // A hub raises its limit as far as it may.
        None => (getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard), "of this shell"),
    };
    vec![open_files(limit, whose, ground.config.listen.max_connections as u64)]
}

/// The limit of open files, from the text of `/proc/PID/limits` (proc(5)).
pub(super) fn soft_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

pub(super) fn open_files(limit: u64, whose: &str, connections: u64) -> Finding {
    let need = connections.saturating_add(OTHER_FILES);
    let found = format!("{limit} {whose}; listen.max_connections = {connections}");
    if limit >= need {
        return Finding::ok("open files", found);
    }
    let cure = format!(
        "allow {need}: LimitNOFILE={need} with systemctl edit, or ulimit -n {need}; or set \
         listen.max_connections to {} or less",
        limit.saturating_sub(OTHER_FILES).max(1)
    );
    Finding::warning("open files", found, cure)
}

/// Whether the clock can be right.
pub(super) fn clock(ground: &Ground) -> Vec<Finding> {
    // Each start writes the lock.
    let files = [ground.state_dir().join("lock"), ground.state_dir().join("hub.key"), ground.mesh_key().0];
    let written = files.iter().filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    vec![sane(now_ms(), written, synchronized())]
}

/// What systemd knows of the clock; nothing without systemd.
fn synchronized() -> Option<bool> {
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    match String::from_utf8_lossy(&asked.ok()?.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

pub(super) fn sane(now: u64, written: Option<SystemTime>, synchronized: Option<bool>) -> Finding {
    let cure = "set it: timedatectl set-ntp true, or install chrony. Hubs with a wrong clock are taken for \
                older than they are, and certificates for not yet valid";
    if now < LONG_PAST {
        return Finding::failed("clock", format!("{}: long past", timestamp(now)), cure);
    }
    let now_time = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    let ahead = written.and_then(|written| written.duration_since(now_time).ok());
    if let Some(ahead) = ahead.filter(|ahead| *ahead > TOLERANCE) {
        let found = format!("{} earlier than when the hub last started", duration(ahead.as_secs()));
        return Finding::failed("clock", found, cure);
    }
    match synchronized {
        Some(false) => Finding::warning("clock", "not synchronized", cure),
        Some(true) => Finding::ok("clock", "synchronized"),
        None => Finding::ok("clock", timestamp(now)),
    }
}
