//! JSON that is passed on as it was written, and a quick reader that proves it.
//!
//! [`Quick`] finds where values end and proves on the way that they are JSON
//! (RFC 8259), sixteen bytes at a time within strings. It gives up on whatever
//! it does not know, each fault above all: then serde_json reads the text, and
//! it alone says what is wrong. So it may know less than all of JSON, but never
//! take for JSON what is none.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use wide::u8x16;

/// One value of JSON, proven to be such, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// The value that `text` is, without the space around it. None if it is no JSON.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut quick = Quick::new(text);
        if let Some(value) = quick.value()
            && quick.is_at_end()
        {
            return Some(value);
        }
        serde_json::from_str(text).ok()
    }

    /// As it was written.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.get()))
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Values nested deeper than this are left to serde_json: a bit for each level says what it is.
const MAX_DEPTH: u32 = u64::BITS;

/// A place in a text. Each method gives up with None; then the place means nothing.
#[derive(Debug)]
pub(super) struct Quick<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Quick<'a> {
    /// At the first byte that is no space.
    pub(super) fn new(text: &'a str) -> Self {
        let mut quick = Self { text, at: 0 };
        quick.skip_space();
        quick
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The byte here, and the space behind it.
    pub(super) fn punctuation(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.skip_space();
        Some(byte)
    }

    /// A string without escapes, and the space behind it.
    pub(super) fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let plain = self.string()?;
        let string = self.text.get(start..self.at - 1)?;
        self.skip_space();
        plain.then_some(string)
    }

    /// Any value, and the space behind it.
    pub(super) fn value(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        // For each level, from the lowest bit: whether it is an object. Otherwise it is an array.
        let (mut objects, mut depth) = (0_u64, 0);
        loop {
            match self.peek()? {
                b'"' => _ = self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                open @ (b'{' | b'[') => {
                    let (object, close) = if open == b'{' { (1, b'}') } else { (0, b']') };
                    self.punctuation()?;
                    if self.peek()? == close {
                        self.at += 1;
                    } else if depth == MAX_DEPTH {
                        return None;
                    } else {
                        (objects, depth) = (objects << 1 | object, depth + 1);
                        if object == 1 {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => return None,
            }
            // Behind a value: the next one of the same level, or the end of some.
            loop {
                if depth == 0 {
                    let value = Json(self.text.get(start..self.at)?);
                    self.skip_space();
                    return Some(value);
                }
                self.skip_space();
                let object = objects & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.punctuation()?;
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if object => self.at += 1,
                    b']' if !object => self.at += 1,
                    _ => return None,
                }
                (objects, depth) = (objects >> 1, depth - 1);
            }
        }
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.skip_space();
        (self.punctuation()? == b':').then_some(())
    }

    /// A string; whether it is without escapes.
    fn string(&mut self) -> Option<bool> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let mut plain = true;
        loop {
            self.skip_plain();
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(plain);
                }
                b'\\' => {
                    plain = false;
                    self.escape()?;
                }
                // A control character.
                _ => return None,
            }
        }
    }

    /// To the next byte that is not simply part of a string.
    fn skip_plain(&mut self) {
        // In most strings escapes follow each other.
        if self.peek() == Some(b'\\') {
            return;
        }
        while let Some(block) = self.rest().first_chunk() {
            let block = u8x16::new(*block);
            let special = block.simd_eq(u8x16::splat(b'"'))
                | block.simd_eq(u8x16::splat(b'\\'))
                | block.min(u8x16::splat(0x1f)).simd_eq(block);
            let special = special.to_bitmask();
            if special != 0 {
                self.at += special.trailing_zeros() as usize;
                return;
            }
            self.at += 16;
        }
        let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at += self.rest().iter().take_while(plain).count();
    }

    fn escape(&mut self) -> Option<()> {
        match self.rest().get(1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                self.rest().get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit at least.
    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then_some(())?;
        self.at += word.len();
        Some(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::IndexedRandom;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn quick(text: &str) -> Option<&str> {
        let mut quick = Quick::new(text);
        let value = quick.value()?;
        quick.is_at_end().then_some(value.get())
    }

    #[test]
    fn what_clients_send_is_read_quickly() {
        for text in [
            r#"{"sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\n","type":"offer"}"#,
            r#"{"candidate":"candidate:1 1 UDP 2122252543 10.0.0.1 50000 typ host","sdpMLineIndex":0}"#,
            r#""a \u00e9 \\ \/ \" string of more than sixteen bytes – and of others than ASCII""#,
            "[ 1 , -0.5e+3,{ },[ ],[[]] ,{\"a\" : null},true,\tfalse\r\n]",
            "0",
        ] {
            assert_eq!(quick(text), Some(text), "{text}");
            assert_eq!(quick(&format!(" \n{text}\t")), Some(text), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_json() {
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        let one_word = r#"{ [ " "\ "\u12" "\x" 01 1. - 1e +1 .5 tru nul NaN [1,] [,1] {"a"} {"a":} {"a":1,} {1:2}
            [} {] {"a":1] [1} "a""b" 'a'"#;
        let others = ["", "\"\n\"", "\"\u{1f}\"", "[1 2]", "1 2", "{\"a\" \"b\"}", "\u{feff}1"];
        for text in one_word.split_whitespace().chain(others) {
            assert_eq!(Json::parse(text), None, "{text}");
        }
        assert_eq!(quick(&deep(65)), Some(&*deep(65)), "the innermost is empty");
        assert_eq!(quick(&deep(66)), None, "left to serde_json");
        assert_eq!(Json::parse(&deep(10_000)).map(Json::get), Some(&*deep(10_000)));
    }

    /// Texts that are nearly JSON: whatever is taken for JSON is what serde_json takes.
    #[test]
    fn it_takes_what_serde_json_takes() {
        const PIECES: &str = r#"{ } [ ] , : " "a": "b" 1 - 0 .5 e E+7 true false null \ \n \u00e9 \ud800 u é / {"x":[ ]}
            "\"" 0123456789abcdef"#;
        let pieces: Vec<&str> =
            PIECES.split_whitespace().chain([" ", "\n", "\t", "\u{1}", "\u{7f}"]).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut taken, mut quickly) = (0, 0);
        for _ in 0..200_000 {
            let count = 1 + rng.next_u32() % 8;
            let text: String = (0..count).filter_map(|_| pieces.choose(&mut rng)).copied().collect();
            // In something that is right around it: so more of them come far.
            let text = match rng.random_range(0..3) {
                0 => text,
                1 => format!("[{text}]"),
                _ => format!("{{\"m\":\"{text}\"}}"),
            };
            let expected = serde_json::from_str::<&RawValue>(&text).ok().map(RawValue::get);
            if let Some(value) = quick(&text) {
                assert_eq!(Some(value), expected, "{text}");
                quickly += 1;
            }
            taken += usize::from(expected.is_some());
        }
        assert!(taken > 10_000, "{taken} were JSON");
        assert_eq!(quickly, taken, "all that were JSON were read quickly");
    }
}
