//! What the system says of this process; what it does not tell is left out.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

/// This process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Time on processors, in user and system mode together.
    pub cpu: Option<Duration>,
    /// Memory held in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Of what is held in RAM, what this process made itself, its heap above all, in bytes; no files.
    pub anonymous_bytes: Option<u64>,
    /// Open files, sockets included.
    pub open_files: Option<u64>,
    /// Open files at most.
    pub max_files: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// As it is now.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let kib = |name| field(name)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024);
        Self {
            cpu: cpu(),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            anonymous_bytes: kib("RssAnon:"),
            open_files: open_files(),
            max_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            threads: field("Threads:").and_then(|count| count.parse().ok()),
        }
    }
}

fn cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds().checked_add(usage.system_time().num_microseconds())?;
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}

/// Newer kernels tell it as the folder's size (Linux 6.2); else its entries are counted.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count() as u64),
        told => Some(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_of_this_process() {
        let kept: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/status").expect("a file")).collect();
        let process = Process::now();
        assert!(process.open_files.expect("open files") >= kept.len() as u64);
        assert!(process.max_files.expect("a limit") >= process.open_files.expect("open files"));
        assert!(process.resident_bytes.expect("memory") > 100_000);
        assert!(process.virtual_bytes >= process.resident_bytes);
        let anonymous = process.anonymous_bytes.expect("memory");
        assert!(anonymous > 10_000 && Some(anonymous) < process.resident_bytes);
        assert!(process.threads.expect("threads") >= 1);
        assert!(process.cpu.is_some());
    }
}
