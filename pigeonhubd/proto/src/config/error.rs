//! Where a value came from, and what is wrong with it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{KEYS, ice};

/// Lines longer than this many characters are not shown under a message.
const LONGEST_LINE: usize = 160;

/// Values longer than this many characters are not repeated in a message.
const LONGEST_VALUE: usize = 80;

/// Where a value came from. [`fmt::Display`] writes it as a message begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A place in a file.
    File(Arc<Place>),
    /// An environment variable, by name.
    Env(&'static str),
    /// A command line flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => write!(f, "{}:{}:{}", place.file, place.line, place.column),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named to us.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The line with a mark under what is meant; empty where it should not be shown.
    excerpt: String,
}

impl Place {
    /// The line with a mark below it; empty where it should not be shown.
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// No such key. What it may be instead.
    #[error("unknown key; {0}")]
    UnknownKey(String),
    /// No such section. What it may be instead.
    #[error("unknown section; {0}")]
    UnknownSection(String),
    /// A value of another type, or a text that is not what the key takes.
    #[error("{found}; should be {expected}")]
    Unfit {
        /// What it is, or where it fails.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A number, duration or size beyond its limits, which are named.
    #[error("out of range: {0}")]
    OutOfRange(String),
    /// A value that means nothing without another.
    #[error("set without {other}; set both, or neither")]
    Without {
        /// The other key.
        other: &'static str,
    },
    /// Two values that do not go together.
    #[error("more than {other} ({origin}); should be {expected}")]
    Above {
        /// The other key and its value.
        other: String,
        /// Where that came from.
        origin: Origin,
        /// What would be right.
        expected: String,
    },
}

/// Why a configuration is refused: one message for its author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Box<Report>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    origin: Origin,
    key: String,
    value: String,
    problem: Problem,
}

impl ConfigError {
    /// `key` may be empty if none can be named, and `value` if it would not help or be secret.
    pub(super) fn new(origin: Origin, key: impl Into<String>, value: &str, problem: Problem) -> Self {
        let fits = value.chars().count() <= LONGEST_VALUE && !value.contains(['\n', '\r']);
        let value = if fits && !is_secret(value) { clean(value) } else { String::new() };
        Self(Box::new(Report { origin, key: key.into(), value, problem }))
    }

    /// Where it is wrong.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The key that is wrong; empty if none can be named.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { origin, key, value, problem } = &*self.0;
        write!(f, "{origin}: ")?;
        match (key.is_empty(), value.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, "{key}: ")?,
            (false, false) => write!(f, "{key} = {value}: ")?,
        }
        write!(f, "{problem}")?;
        match origin {
            Origin::File(place) if !place.excerpt.is_empty() => write!(f, "\n{}", place.excerpt),
            _ => Ok(()),
        }
    }
}

/// A file's text, to tell places in it.
pub(super) struct Source<'a> {
    pub(super) file: Arc<str>,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The text of `span`, or nothing if there is no such.
    pub(super) fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }

    /// The place of `span`, given in bytes.
    pub(super) fn origin(&self, span: Range<usize>) -> Origin {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let (before, after) = self.text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let lead = before.get(line_start..).unwrap_or_default().trim_start_matches('\u{feff}');
        let rest = after.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let marked = self.slice(start..span.end).split(['\n', '\r']).next().unwrap_or_default();
        Origin::File(Arc::new(Place {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: lead.chars().count() + 1,
            excerpt: excerpt(lead, rest, marked.chars().count()),
        }))
    }
}

/// The line `lead` + `rest` and, below it, `width` marks from where `rest` begins. Messages end in logs: of a
/// line whose key is none of ours no value is shown, for it may be a misspelt secret's.
fn excerpt(lead: &str, rest: &str, width: usize) -> String {
    let line = format!("{lead}{rest}");
    if line.trim().is_empty() || line.chars().count() > LONGEST_LINE || is_secret(&line) {
        return String::new();
    }
    let (name, value) = line.split_once('=').map_or((&*line, None), |(name, value)| (name, Some(value)));
    let name = name.trim_start().split([' ', '\t', '[', '{']).next().unwrap_or_default();
    let last = name.rsplit('.').next().unwrap_or_default();
    let ours =
        KEYS.iter().any(|key| [key.short(), key.section()].contains(&last)) || ice::KEYS.contains(&last);
    let shown = match value {
        _ if ours || line.trim_start().starts_with('[') => line,
        Some(value) if !value.trim().is_empty() && lead.chars().count() <= line.find('=').unwrap_or(0) => {
            format!("{}= …", line.split('=').next().unwrap_or_default())
        }
        // Perhaps the middle of a text of several lines.
        _ => return String::new(),
    };
    let (pad, room): (String, usize) = (
        lead.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
        shown.chars().count().saturating_sub(lead.chars().count()),
    );
    format!("    {}\n    {pad}{}", clean(&shown), "^".repeat(width.clamp(1, room.max(1))))
}

/// Messages end in logs, and a TURN credential must not.
fn is_secret(text: &str) -> bool {
    text.contains("credential")
}

/// No control characters but tabs, for the sake of the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
