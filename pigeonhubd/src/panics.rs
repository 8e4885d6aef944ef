//! Panics: each ends the session, link or request in which it happens and no
//! other; here it is logged with a backtrace and counted.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;

use crate::tally::Count;

static PANICS: Count = Count::new();

/// From now on panics of this process go to the log instead of straight to standard error.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.one();
        tell(info);
    }));
}

/// How many there were since [`install`].
pub fn count() -> u64 {
    PANICS.get()
}

fn tell(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let words = info.payload_as_str().unwrap_or("no message");
    // Whatever RUST_BACKTRACE says: there may be no second time.
    let trace = Backtrace::force_capture();
    tracing::error!(
        "a fault in pigeonhubd, at {place}: {words}; please report it with these lines:\n{trace}"
    );
}
