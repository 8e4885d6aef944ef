//! JSON, one object a line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::text::steers;

/// Writes one object, and ends the line.
pub(crate) fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    // As a whole, so that no reader gets half a line.
    let mut line = Vec::new();
    object.serialize(&mut Serializer::with_formatter(&mut line, Harmless))?;
    line.push(b'\n');
    out.write_all(&line)
}

/// One line an object.
pub(crate) fn lines(out: &mut impl Write, objects: &[impl Serialize]) -> io::Result<()> {
    objects.iter().try_for_each(|object| line(out, object))
}

/// JSON that can be printed on a terminal: of the control characters, JSON
/// itself wants only the first 32 escaped.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for part in fragment.split_inclusive(steers) {
            let last = part.char_indices().next_back().filter(|(_, c)| steers(*c));
            let Some((at, c)) = last else {
                out.write_all(part.as_bytes())?;
                continue;
            };
            out.write_all(part.get(..at).unwrap_or_default().as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn a_line_steers_no_terminal_and_loses_nothing() {
        let object = json!({ "a\u{9b}": "x\u{1b}[2J\n\u{7f}\u{202e}y\u{e0041}", "b": ["鳩", 1.5, null] });
        let mut line = Vec::new();
        super::line(&mut line, &object).expect("it is memory");
        let line = String::from_utf8(line).expect("UTF-8");
        assert_eq!(
            line,
            "{\"a\\u009b\":\"x\\u001b[2J\\n\\u007f\\u202ey\\udb40\\udc41\",\"b\":[\"鳩\",1.5,null]}\n"
        );
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), object);
    }
}
