//! What is said beside the data, on standard error.

use std::io::{self, Write};

use crate::text::clean_lines;

/// Says one thing. That nobody listens any more is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", clean_lines(text));
}
