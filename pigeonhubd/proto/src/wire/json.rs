//! JSON that is passed on as it was written, and a quick reader that proves it.
//!
//! [`Quick`] finds where values end and proves on the way that they are JSON
//! (RFC 8259), 64 bytes at a time within strings. It gives up on whatever
//! it does not know, each fault above all: then serde_json reads the text, and
//! it alone says what is wrong. So it may know less than all of JSON, but never
//! take for JSON what is none.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use wide::{i8x16, u8x16};

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

/// How many bytes are looked at together: a bit for each.
const BLOCK: usize = u64::BITS as usize;

/// How many the processor takes in one step.
const LANE: usize = 16;

/// How many bytes an escape has that goes on with that byte; 0 if there is none.
const ESCAPES: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut simple: &[u8] = b"\"\\/bfnrt";
    while let [byte, rest @ ..] = simple {
        (lengths[*byte as usize], simple) = (2, rest);
    }
    lengths[b'u' as usize] = 6;
    lengths
};

/// A place in a text. Each method gives up with None; then the place means nothing.
#[derive(Debug)]
pub(super) struct Quick<'a> {
    text: &'a str,
    at: usize,
    /// The block that was looked at last, counted from the start of the text.
    block: usize,
    /// Its bytes that are not simply part of a string, from the lowest bit: strings
    /// next to each other, and escapes, often share it.
    special: u64,
}

impl<'a> Quick<'a> {
    /// At the first byte that is no space.
    pub(super) fn new(text: &'a str) -> Self {
        let mut quick = Self { text, at: 0, block: usize::MAX, special: 0 };
        quick.skip_space();
        quick
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The byte here, and the space behind it.
    #[inline]
    pub(super) fn punctuation(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.skip_space();
        Some(byte)
    }

    /// A string without escapes, and the space behind it.
    #[inline]
    pub(super) fn plain_string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let end = self.first_special()?;
        let string = self.text.get(start..end)?;
        self.at = end;
        let closed = self.punctuation()? == b'"';
        closed.then_some(string)
    }

    /// Any value, and the space behind it.
    pub(super) fn value(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        // For each level, from the lowest bit: whether it is an object. Otherwise it is an array.
        let (mut objects, mut depth) = (0_u64, 0);
        // Whether a member's name comes before the value.
        let mut named = false;
        loop {
            if named {
                self.string()?;
                self.skip_space();
                (self.punctuation()? == b':').then_some(())?;
            }
            match self.peek()? {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                open @ (b'{' | b'[') => {
                    self.punctuation()?;
                    named = open == b'{';
                    if self.peek()? == if named { b'}' } else { b']' } {
                        self.at += 1;
                    } else if depth == MAX_DEPTH {
                        return None;
                    } else {
                        (objects, depth) = (objects << 1 | u64::from(named), depth + 1);
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
                named = objects & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.punctuation()?;
                        break;
                    }
                    b'}' if named => self.at += 1,
                    b']' if !named => self.at += 1,
                    _ => return None,
                }
                (objects, depth) = (objects >> 1, depth - 1);
            }
        }
    }

    #[inline]
    fn string(&mut self) -> Option<()> {
        self.at = self.first_special()?;
        if self.peek()? == b'"' {
            self.at += 1;
            return Some(());
        }
        self.behind_escapes()
    }

    /// Where the string here has its first byte that is not simply part of it.
    #[inline]
    fn first_special(&mut self) -> Option<usize> {
        (self.peek()? == b'"').then_some(())?;
        let at = self.at + 1;
        let known = if at / BLOCK == self.block { self.special >> (at % BLOCK) } else { 0 };
        Some(if known == 0 { self.look_on(at) } else { at + known.trailing_zeros() as usize })
    }

    /// As [`Self::special_from`], for strings that begin in a block not yet looked at, and long ones.
    #[inline(never)]
    fn look_on(&mut self, at: usize) -> usize {
        self.special_from(at)
    }

    /// Behind the string that goes on here with an escape.
    #[inline(never)]
    fn behind_escapes(&mut self) -> Option<()> {
        let text = self.text.as_bytes();
        let mut at = self.at;
        loop {
            match text.get(at)? {
                b'"' => {
                    self.at = at + 1;
                    return Some(());
                }
                // How lines of a session description end.
                b'\\' if text.get(at..)?.starts_with(br"\r\n") => at += 4,
                // One escape often follows another.
                b'\\' => loop {
                    at = behind_escape(text, at)?;
                    if text.get(at) != Some(&b'\\') {
                        break;
                    }
                },
                // A control character.
                _ => return None,
            }
            at = self.special_from(at);
        }
    }

    /// The next place from `at` on whose byte is not simply part of a string; maybe the end.
    #[inline]
    fn special_from(&mut self, mut at: usize) -> usize {
        let (blocks, rest) = self.text.as_bytes().as_chunks();
        loop {
            let block = at / BLOCK;
            if block != self.block {
                self.special = blocks.get(block).map_or_else(|| special_at_end(rest), special);
                self.block = block;
            }
            let special = self.special >> (at % BLOCK);
            if special != 0 {
                return at + special.trailing_zeros() as usize;
            }
            at = (block + 1) * BLOCK;
        }
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
    #[inline]
    fn digits(&mut self) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let mut count = rest.first_chunk().map_or(LANE, |lane| {
            let values = u8x16::new(*lane) - u8x16::splat(b'0');
            values.min(u8x16::splat(9)).simd_eq(values).to_bitmask().trailing_ones() as usize
        });
        if count == LANE {
            count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        }
        self.at += count;
        (count > 0).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then_some(())?;
        self.at += word.len();
        Some(())
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// Behind the escape that begins at `at`.
#[inline]
fn behind_escape(text: &[u8], at: usize) -> Option<usize> {
    match ESCAPES[usize::from(*text.get(at + 1)?)] {
        2 => Some(at + 2),
        6 => text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit).then_some(at + 6),
        _ => None,
    }
}

/// Which bytes end the plain part of a string, from the lowest bit: quotes, backslashes and
/// control characters.
#[inline]
fn special(block: &[u8; BLOCK]) -> u64 {
    // With this bit turned round a quote comes right behind the control characters, and a space does
    // not: one comparison for both. It is of numbers with a sign, as SSE2 has no other.
    const TURN: u8 = 0x80 | b'"' ^ b' ';
    const LAST: i8 = (0x80 | b' ').cast_signed();
    let (lanes, _) = block.as_chunks::<LANE>();
    !lanes.iter().rev().fold(0, |plain, lane| {
        let lane = u8x16::new(*lane);
        let high = (lane ^ u8x16::splat(TURN)).cast_signed().simd_gt(i8x16::splat(LAST));
        let other = !lane.simd_eq(u8x16::splat(b'\\')).cast_signed();
        plain << LANE | u64::from((high & other).to_bitmask())
    })
}

/// The same for what a text has behind its whole blocks. What is behind its end counts as special.
#[cold]
#[inline(never)]
fn special_at_end(rest: &[u8]) -> u64 {
    let mut block = [0; BLOCK];
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    special(&block)
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

    #[test]
    fn each_byte_is_known_at_each_place_of_a_block() {
        for byte in 0..=u8::MAX {
            let ends_plain = byte < b' ' || byte == b'"' || byte == b'\\';
            for at in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[at] = byte;
                assert_eq!(special(&block), u64::from(ends_plain) << at, "{byte} at {at}");
            }
            for length in 0..BLOCK {
                let expected = u64::MAX << length | u64::from(ends_plain && length > 0);
                let mut rest = vec![b'a'; length];
                rest.iter_mut().take(1).for_each(|first| *first = byte);
                assert_eq!(special_at_end(&rest), expected, "{byte}, {length} bytes");
            }
        }
    }

    /// Whatever ends or interrupts a string or a number, at each place of a block and across two.
    #[test]
    fn blocks_end_anywhere() {
        let pieces = [
            r"",
            r"\n",
            r"\r\n",
            r"\r\n\r\n",
            r"\r\t",
            r"\\",
            r"\\\\",
            r#"\""#,
            r#"\\""#,
            r"\u00e9",
            r"\u00E9\n",
            r"\u00g9",
            r"\u00e",
            r"\",
            r"\x",
            "\\\n",
            "\n",
            "\u{1f}",
            "\u{7f}",
            "é",
            "\u{82}",
            "ü–😀",
            "\"",
            "\",\"",
            "\\é",
        ];
        let same = |text: &str| {
            let expected = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
            assert_eq!(quick(text), expected, "{text}");
            expected.is_some()
        };
        let (mut taken, mut refused) = (0, 0);
        for before in 0..2 * BLOCK + 2 {
            for piece in pieces {
                for after in [0, 1, 2, 15, 16, BLOCK - 1, BLOCK] {
                    let text = format!("[\"{}{piece}{}\"]", "x".repeat(before), "y".repeat(after));
                    let string = &text[1..text.len() - 1];
                    for text in [&text, &text[..text.len() - 1], string, &text[..text.len() - 2]] {
                        *(if same(text) { &mut taken } else { &mut refused }) += 1;
                    }
                }
            }
            for number in ["0", "-", "1.5e7", "1.", "01", "1e", "-0.0E-0"] {
                for text in [
                    format!("{number}{}", "7".repeat(before)),
                    format!("[{number}{}]", "7".repeat(before)),
                    format!("[{}{number}]", "9".repeat(before)),
                ] {
                    *(if same(&text) { &mut taken } else { &mut refused }) += 1;
                }
            }
        }
        assert!(taken > 10_000 && refused > 10_000, "{taken} taken, {refused} refused");
    }

    /// Texts that are nearly JSON: whatever is taken for JSON is what serde_json takes.
    #[test]
    fn it_takes_what_serde_json_takes() {
        const PIECES: &str = r#"{ } [ ] , : " "a": "b" 1 - 0 .5 e E+7 true false null \ \n \r\n \u00e9 \ud800 u é / {"x":[ ]}
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
