//! What the system says of other processes: time on processors and memory.

use std::fs;
use std::time::Duration;

/// Time on processors of all threads of those processes, to the nanosecond
/// where the kernel tells it so.
pub(crate) fn time(pids: &[u32]) -> Duration {
    pids.iter().map(|pid| threads(*pid).or_else(|| ticks(*pid)).unwrap_or_default()).sum()
}

fn threads(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = task.ok()?.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(path) else { continue };
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanos > 0).then_some(Duration::from_nanos(nanos))
}

/// In hundredths of a second.
fn ticks(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_name = stat.rsplit_once(')')?.1;
    let ticks: u64 =
        behind_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 10))
}

/// Memory held in RAM, in KiB.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}
