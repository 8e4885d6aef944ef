//! The ground that one test stands on: a folder of its own, and free ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// Ports below those that Linux gives to outgoing connections, so that none of those takes one first.
const PORTS: std::ops::Range<u32> = 10_000..32_000;
/// Ports that one test process tries before it comes to another's.
const STRIDE: u32 = 100;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed at the end, and the home of every process of the test.
pub(crate) struct Ground {
    folder: PathBuf,
}

impl Ground {
    /// A new, empty folder. Its path is short, for the sake of Unix socket names.
    pub(crate) fn new() -> Self {
        let number = TAKEN.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("pigeonhubd-{}-{number}", process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        Self { folder }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A port of 127.0.0.1 that nobody listens on, and that no other test is given.
    pub(crate) fn port(&self) -> u16 {
        let span = PORTS.end - PORTS.start;
        (0..span)
            .map(|_| {
                let step =
                    process::id().wrapping_mul(STRIDE).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
                u16::try_from(PORTS.start + step % span).expect("a port below 65,536")
            })
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
            .expect("a free port")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A process that is just ending may still write there; what is left is in the temporary folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
