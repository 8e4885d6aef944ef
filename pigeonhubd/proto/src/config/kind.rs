//! What a key takes, and how that is told.

use std::time::Duration;

use super::error::Problem;

/// Checks a text; the error says what it is instead of what it should be.
pub type Check = fn(&str) -> Result<(), String>;

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Bytes: a whole number, or a text with a unit.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Milliseconds as a whole number, or a text with units.
    Time {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A text.
    Text {
        /// What of, for messages: "a …".
        what: &'static str,
        /// What makes it one.
        check: Check,
    },
    /// A list of texts; from a variable, separated by commas.
    List {
        /// What each is, for messages: "a …".
        what: &'static str,
        /// What makes it one.
        check: Check,
        /// The most entries.
        most: usize,
    },
    /// STUN and TURN servers, as an array of tables.
    IceServers {
        /// The most entries.
        most: usize,
    },
}

impl Kind {
    /// What a value of this kind should be, in words.
    pub fn expected(&self) -> String {
        match self {
            Self::Switch => String::from("true or false"),
            Self::Count { .. } => format!("a whole number, {}", self.range()),
            Self::Size { .. } => format!("bytes, or a text like \"64KiB\", {}", self.range()),
            Self::Time { .. } => {
                format!("a duration like \"10s\" or \"1m 30s\", or milliseconds, {}", self.range())
            }
            Self::Text { what, .. } => (*what).to_owned(),
            Self::List { what, most, .. } => format!("a list of at most {most}, each {what}"),
            Self::IceServers { most } => format!(
                "at most {most} tables [[mesh.ice_servers]] with urls and, for TURN, username and credential"
            ),
        }
    }

    /// The limits of a number, in words; empty for other kinds.
    pub fn range(&self) -> String {
        match *self {
            Self::Count { min, max } => format!("{min} to {max}"),
            Self::Size { min, max } => format!("{} to {}", size_text(min), size_text(max)),
            Self::Time { min, max } => format!("{} to {}", time_text(min), time_text(max)),
            _ => String::new(),
        }
    }

    pub(super) fn unfit(&self, found: impl Into<String>) -> Problem {
        Problem::Unfit { found: found.into(), expected: self.expected() }
    }

    /// As [`Self::unfit`], for one entry of a list.
    pub(super) fn unfit_entry(&self, found: impl Into<String>) -> Problem {
        match self {
            Self::List { what, .. } => Problem::Unfit { found: found.into(), expected: (*what).to_owned() },
            _ => self.unfit(found),
        }
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?.trim();
    let factor = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some((_, factor)) => *factor,
        None if unit.eq_ignore_ascii_case("B") => 1,
        None => return None,
    };
    // What is too large to count is beyond every range.
    let number = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty();
    number.then(|| digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).unwrap_or(u64::MAX))
}

pub(super) fn size_text(bytes: u64) -> String {
    match UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

pub(super) fn time_text(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
