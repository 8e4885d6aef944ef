//! How texts look: colour, width, and numbers as people say them.

use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::text;

/// What the output can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// On a terminal, and without `NO_COLOR`.
    pub(crate) colour: bool,
    /// Characters beyond ASCII.
    pub(crate) unicode: bool,
    /// Columns; without end where no terminal is.
    pub(crate) width: usize,
    /// Lines, if it is a terminal that tells.
    pub(crate) rows: Option<usize>,
    /// The time, in milliseconds since the Unix epoch, that ages are counted to.
    pub(crate) now: u64,
}

/// A colour with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
    Bold,
}

impl Look {
    /// Standard output's.
    pub(crate) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let size = terminal_size::terminal_size_of(std::io::stdout());
        let of_terminal = size.map(|(columns, _)| usize::from(columns.0)).filter(|columns| *columns > 0);
        // What goes into a file or to another program is whole.
        let width = columns.or(of_terminal).unwrap_or(if terminal { 80 } else { usize::MAX });
        Self {
            colour: terminal && !dumb && !set("NO_COLOR"),
            unicode: unicode(|name| std::env::var(name).ok()),
            width: width.max(20),
            rows: size.map(|(_, rows)| usize::from(rows.0)).filter(|rows| *rows > 0),
            now: now_ms(),
        }
    }

    /// The beginning of `text` that fits into so many columns.
    pub(crate) fn cut(&self, text: &str, width: usize) -> String {
        text::cut(text, width, self.sign("…", ".."))
    }

    /// The beginning of a painted line that fits into the width.
    pub(crate) fn cut_line(&self, line: &str) -> String {
        text::cut_painted(line, self.width, self.sign("…", ".."))
    }

    /// `text` in that colour.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Dim => "2",
            Paint::Bold => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The first if it can be shown, else the second.
    pub(crate) fn sign(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// How long ago that was.
    pub(crate) fn ago(&self, at_ms: u64) -> String {
        match self.now.saturating_sub(at_ms) / 1000 {
            0 => String::from("now"),
            seconds => format!("{} ago", duration(seconds)),
        }
    }
}

/// Only a locale that says otherwise forbids it: many a container has none.
fn unicode(var: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(var).find(|value| !value.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// The time, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds as people say them: the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{} {name}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

/// Microseconds as milliseconds.
pub(crate) fn millis(micros: u64) -> String {
    let ms = micros as f64 / 1000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.1} ms") }
}

/// Bytes with a unit.
pub(crate) fn bytes(count: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| count >= *size) {
        Some((name, size)) => format!("{:.1} {name}", count as f64 / size as f64),
        None => format!("{count} B"),
    }
}

/// A time in UTC, as RFC 3339 writes it.
pub(crate) fn timestamp(at_ms: u64) -> String {
    // Beyond the year 9999 there is no such text; a hub that says so has no clock.
    let at =
        UNIX_EPOCH.checked_add(Duration::from_millis(at_ms.min(253_402_300_799_000))).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_millis(at).to_string()
}

/// One and many: `1 link`, `2 links`.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!((millis(812).as_str(), millis(12_345).as_str()), ("0.81 ms", "12.3 ms"));
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn only_a_locale_that_says_otherwise_is_not_unicode() {
        for (vars, is) in [
            (&[][..], true),
            (&[("LANG", "de_DE.UTF-8")], true),
            (&[("LANG", "C")], false),
            (&[("LC_ALL", "C.utf8"), ("LANG", "C")], true),
            (&[("LC_ALL", ""), ("LC_CTYPE", "POSIX")], false),
        ] {
            let var = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            assert_eq!(unicode(var), is, "{vars:?}");
        }
    }
}
