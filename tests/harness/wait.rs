//! Waiting for a state, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough that only a thing that never happens takes longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_ok(what, || look().ok_or_else(String::new))
}

/// Looks until `look` is content; if it never is, fails with what it said last.
pub(crate) fn until_ok<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(state) => assert!(Instant::now() < end, "waited in vain until {what}; last: {state}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}
