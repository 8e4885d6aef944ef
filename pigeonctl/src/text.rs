//! Texts from outside, made fit for a terminal.

use unicode_width::UnicodeWidthChar;

/// Whether a terminal would obey it instead of showing it: control characters,
/// and those that are invisible or change the direction of writing. The joiners
/// of some scripts and of emoji are none of them.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Text from outside, without what steers a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`clean`], but of several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Whether it is the id of a peer or hub, in whole.
fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An id by its beginning, as every command takes it; any other text in whole.
pub(crate) fn shortened(text: &str) -> &str {
    if is_id(text) { text.get(..8).unwrap_or(text) } else { text }
}

/// Columns that a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The beginning of `text` that fits into so many columns with `sign`, which
/// says that there is more.
pub(crate) fn cut(text: &str, width: usize, sign: &str) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut used = columns(sign);
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).chain(sign.chars()).collect()
}

/// As [`cut`], of a line that is painted: colours take no room, and end with the line.
pub(crate) fn cut_painted(line: &str, width: usize, sign: &str) -> String {
    let (mut kept, mut used, mut escape) = (String::new(), 0, false);
    for c in line.chars() {
        escape = escape || c == '\x1b';
        if !escape {
            used += c.width().unwrap_or(0);
        }
        escape = escape && c != 'm';
    }
    if used <= width {
        return line.to_owned();
    }
    used = columns(sign);
    for c in line.chars() {
        escape = escape || c == '\x1b';
        if !escape {
            used += c.width().unwrap_or(0);
            if used > width {
                break;
            }
        }
        escape = escape && c != 'm';
        kept.push(c);
    }
    kept.push_str(sign);
    if line.contains('\x1b') {
        kept.push_str("\x1b[0m");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\u{202e}\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}");
        // C1's CSI, zero width, tags, the end of a line by another name.
        assert_eq!(
            clean("\u{9b}2J\u{200b}\u{e0041}\u{2028}\u{7f}"),
            "\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(clean("👩\u{200d}🚀 می\u{200c}خواهم"), "👩\u{200d}🚀 می\u{200c}خواهم");
        assert_eq!(clean_lines("a\n\tb\r\n"), "a\n\u{fffd}b\u{fffd}\n");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(cut("abcdef", 4, "…"), "abc…");
        assert_eq!(cut("abcdef", 4, ".."), "ab..");
        assert_eq!((cut("鳩鳩鳩", 5, "…"), columns("鳩鳩…")), (String::from("鳩鳩…"), 5));
        assert_eq!(cut_painted("\x1b[32mabc\x1b[0m def", 7, "…"), "\x1b[32mabc\x1b[0m def");
        assert_eq!(cut_painted("\x1b[32mabc\x1b[0m def", 5, "…"), "\x1b[32mabc\x1b[0m …\x1b[0m");
        assert_eq!(cut_painted("abcdef", 4, ".."), "ab..");
    }
}
