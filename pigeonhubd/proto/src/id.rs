//! 160-bit ids of hubs and peers, and the XOR distance between them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wide::u8x16;

/// Bytes in an id.
pub const ID_LEN: usize = 20;

/// The id of a hub or a peer: 160 bits, written as 40 hexadecimal digits.
///
/// Compared as a number. The letter case in which an id was written is not
/// part of it; [`Spelling`] keeps that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id(pub [u8; ID_LEN]);

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How far two ids are apart: their bitwise XOR, compared as a number
/// (Maymounkov and Mazières, Kademlia, IPTPS 2002, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; ID_LEN]);

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 40 hexadecimal digits")]
pub struct ParseIdError;

impl Id {
    /// As a number of two digits: the tables of a large mesh compare ids all the
    /// time, and to compare bytes is a call each.
    fn number(&self) -> (u128, u32) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, tail @ ..] = self.0;
        let head = u128::from_be_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
        (head, u32::from_be_bytes(tail))
    }

    /// The XOR distance to `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut out = [0; ID_LEN];
        for ((o, a), b) in out.iter_mut().zip(self.0).zip(other.0) {
            *o = a ^ b;
        }
        Distance(out)
    }

    /// The first eight digits, for a log line that a person reads.
    pub fn short(&self) -> String {
        self.to_string().chars().take(8).collect()
    }

    /// The id folded to 64 bits, such that `fold(a ^ b) == fold(a) ^ fold(b)`.
    pub fn fold(&self) -> u64 {
        self.0.chunks(8).fold(0, |acc, chunk| {
            let mut word = [0; 8];
            for (w, c) in word.iter_mut().zip(chunk) {
                *w = *c;
            }
            acc ^ u64::from_be_bytes(word)
        })
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Spelled::from_str(text).map(|spelled| spelled.id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Spelled::from(*self).fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            Deserialize::deserialize(deserializer).map(Self)
        }
    }
}

/// Bytes of a [`Spelling`].
const MASK_LEN: usize = size_of::<u64>();

/// Which digits of an id were written as capital letters: bit `i` for digit `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spelling(u64);

/// An id and the letter case in which its owner writes it.
///
/// Clients compare ids as strings, so a hub answers with their own spelling.
///
/// In JSON it is a string, in binary formats the bytes of the id and, if there are capital
/// letters, a bit mask of them, big-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spelled {
    /// The id itself.
    pub id: Id,
    /// Its letter case.
    pub spelling: Spelling,
}

impl From<Id> for Spelled {
    fn from(id: Id) -> Self {
        Self { id, spelling: Spelling::default() }
    }
}

impl FromStr for Spelled {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let digits: &[u8; 2 * ID_LEN] = text.as_bytes().try_into().map_err(|_| ParseIdError)?;
        let mut id = [0; ID_LEN];
        let mut upper = 0;
        // The last sixteen overlap those before.
        for first in [0, 16, 24] {
            let (bytes, capitals) = sixteen(digits[first..].first_chunk().ok_or(ParseIdError)?)?;
            id[first / 2..][..8].copy_from_slice(&bytes);
            upper |= u64::from(capitals) << first;
        }
        Ok(Self { id: Id(id), spelling: Spelling(upper) })
    }
}

/// The value of sixteen hexadecimal digits, and which are capital letters: bit `i` for digit `i`.
#[inline]
fn sixteen(digits: &[u8; 16]) -> Result<([u8; 8], u32), ParseIdError> {
    let digits = u8x16::new(*digits);
    let within = |first, last| {
        let above = digits - u8x16::splat(first);
        above.min(u8x16::splat(last - first)).simd_eq(above)
    };
    let (figures, small, capital) = (within(b'0', b'9'), within(b'a', b'f'), within(b'A', b'F'));
    let letters = small | capital;
    if (figures | letters).to_bitmask() != 0xffff {
        return Err(ParseIdError);
    }
    // The low half of '1' is 1, and that of 'a' and 'A', which are 10, is 1 too.
    let values = (digits & u8x16::splat(0x0f)) + (letters & u8x16::splat(9));
    let (eights, _) = values.as_array().as_chunks();
    let mut bytes = [0; 8];
    let (fours, _) = bytes.as_chunks_mut();
    for (four, eight) in fours.iter_mut().zip(eights) {
        *four = packed(*eight);
    }
    Ok((bytes, capital.to_bitmask()))
}

/// Eight bytes that are less than sixteen as four.
#[inline]
fn packed(eight: [u8; 8]) -> [u8; 4] {
    let word = u64::from_be_bytes(eight);
    let word = (word | word >> 4) & 0x00ff_00ff_00ff_00ff;
    let word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
    ((word | word >> 16) as u32).to_be_bytes()
}

/// Each byte in hexadecimal digits.
const fn pairs() -> [[u8; 2]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
}

impl Spelled {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, mask) = bytes.split_first_chunk()?;
        let spelling = match mask {
            [] => 0,
            mask => u64::from_be_bytes(mask.try_into().ok()?),
        };
        Some(Self { id: Id(*id), spelling: Spelling(spelling) })
    }

    /// The forty digits, in ASCII.
    pub fn digits(&self) -> [u8; 2 * ID_LEN] {
        const SMALL: [[u8; 2]; 256] = pairs();
        let mut text = [0u8; 2 * ID_LEN];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(self.id.0) {
            *pair = SMALL[usize::from(byte)];
        }
        // Most write small letters alone.
        let mut capitals = self.spelling.0;
        while let Some(digit) = text.get_mut(capitals.trailing_zeros() as usize) {
            digit.make_ascii_uppercase();
            capitals &= capitals - 1;
        }
        text
    }
}

impl Serialize for Spelled {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            // At once: byte by byte, as serde takes an array, it would take ten times as long.
            let mut bytes = [0; ID_LEN + MASK_LEN];
            let (id, mask) = bytes.split_at_mut(ID_LEN);
            id.copy_from_slice(&self.id.0);
            mask.copy_from_slice(&self.spelling.0.to_be_bytes());
            let len = if self.spelling == Spelling::default() { ID_LEN } else { bytes.len() };
            serializer.serialize_bytes(&bytes[..len])
        }
    }
}

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            let bytes = <&[u8]>::deserialize(deserializer)?;
            Self::from_bytes(bytes).ok_or_else(|| {
                serde::de::Error::invalid_length(bytes.len(), &"an id, and which of its digits are capitals")
            })
        }
    }
}

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "00aAbBcCdDeEfF0123456789abcdefABCDEF0123";

    #[test]
    fn spelling_survives_and_does_not_count() {
        let spelled: Spelled = MIXED.parse().expect("an id");
        assert_eq!(spelled.to_string(), MIXED);
        assert_eq!(spelled.id, MIXED.to_lowercase().parse().expect("an id"));
        assert_eq!(spelled.id.to_string(), MIXED.to_lowercase());
    }

    #[test]
    fn spelling_survives_in_binary_too() {
        for (text, len) in [(MIXED, 29), (&*MIXED.to_lowercase(), 21)] {
            let spelled: Spelled = text.parse().expect("an id");
            let bytes = postcard::to_allocvec(&spelled).expect("bytes");
            assert_eq!(bytes.len(), len);
            assert_eq!(postcard::from_bytes(&bytes), Ok(spelled));
            let (length, rest) = bytes.split_first().expect("a length");
            for (length, rest) in [(length - 1, &rest[1..]), (length + 1, &[rest, &[7]].concat())] {
                let wrong = [&[length], rest].concat();
                assert!(postcard::from_bytes::<Spelled>(&wrong).is_err(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_not_forty_hex_digits_is_refused() {
        for bad in ["", "00", &MIXED[1..], &format!("{MIXED}0"), &MIXED.replace('0', "g"), &"é".repeat(20)] {
            assert_eq!(bad.parse::<Id>(), Err(ParseIdError), "{bad}");
        }
    }

    #[test]
    fn each_digit_is_read_at_each_place() {
        for at in 0..2 * ID_LEN {
            for byte in (0..=0x7f_u8).map(char::from) {
                let text = format!("{}{byte}{}", &MIXED[..at], &MIXED[at + 1..]);
                match (text.parse::<Spelled>(), byte.to_digit(16)) {
                    (Ok(spelled), Some(value)) => {
                        let pair = u32::from(spelled.id.0[at / 2]);
                        assert_eq!(if at % 2 == 0 { pair >> 4 } else { pair & 15 }, value, "{text}");
                        assert_eq!(spelled.to_string(), text);
                    }
                    (Err(ParseIdError), None) => {}
                    (other, _) => panic!("{text}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        let differ_at = |at: usize, by: u8| {
            let mut id = Id([0x80; ID_LEN]);
            id.0[at] = by;
            id
        };
        let mut ids: Vec<Id> =
            (0..ID_LEN).flat_map(|at| [0, 0x7f, 0x81, 0xff].map(|by| differ_at(at, by))).collect();
        ids.sort();
        assert!(ids.is_sorted_by_key(|id| id.0));
    }

    #[test]
    fn folding_commutes_with_xor() {
        let a: Id = MIXED.parse().expect("an id");
        let b = Id([7; ID_LEN]);
        assert_eq!(Id(a.distance(&b).0).fold(), a.fold() ^ b.fold());
    }
}
