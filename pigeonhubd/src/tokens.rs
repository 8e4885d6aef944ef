//! The tokens of clients.

use std::path::Path;

use pigeonhub_proto::config::Config;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::keys::{self, BYTE_ORDER_MARK, KeyError};

/// The shortest and the longest token, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// The largest file of tokens, in bytes.
const LARGEST_FILE: u64 = 256 * 1024;

/// Tokens at most: each connection is compared with every one.
const MOST: usize = 1000;

/// What clients may show. Only digests are kept: nothing here can end in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Vec<[u8; 32]>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Those in the file that `auth.token_file` names; `None` if none is needed.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn load(config: &Config) -> Result<Option<Self>, KeyError> {
        let Some(path) = &config.auth.token_file else { return Ok(None) };
        let tokens = keys::read(path, LARGEST_FILE).and_then(|bytes| Self::parse(path, &bytes));
        let key = "auth.token_file";
        let named = |source| KeyError::Named {
            origin: config.origin(key).to_string(),
            key,
            source: Box::new(source),
        };
        tokens.map(Some).map_err(named)
    }

    /// The lines themselves are in no message.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, KeyError> {
        let unfit = |found: String, cure: String| KeyError::Unfit { path: path.to_owned(), found, cure };
        let mut tokens = Vec::new();
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if !LENGTHS.contains(&line.len()) || !line.iter().all(u8::is_ascii_graphic) {
                let cure = format!(
                    "should be a token of {} to {} visible ASCII characters, such as `openssl rand -hex 16` makes",
                    LENGTHS.start(),
                    LENGTHS.end()
                );
                return Err(unfit(format!("line {number}: {} bytes or odd ones", line.len()), cure));
            }
            tokens.push(Sha256::digest(line).into());
        }
        match tokens.len() {
            0 => {
                Err(unfit(String::from("no token"), String::from("put one in a line, or nobody can connect")))
            }
            count if count > MOST => {
                Err(unfit(format!("{count} tokens"), format!("should be at most {MOST}")))
            }
            _ => Ok(Self(tokens)),
        }
    }

    /// Whether that is one of them. Takes as long for each that is not.
    pub fn contain(&self, token: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(token).into();
        let equal = |known: &[u8; 32]| known.ct_eq(&shown);
        self.0.iter().fold(Choice::from(0), |any, known| any | equal(known)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Tokens, String> {
        Tokens::parse(Path::new("tokens"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_a_line() {
        let tokens = parse("# of the app\n0123456789abcdef\r\n\n  fedcba9876543210  ").expect("two");
        assert_eq!(tokens.0.len(), 2);
        assert!(parse("\u{feff}0123456789abcdef\n").expect("one").contain("0123456789abcdef"));
        for good in ["0123456789abcdef", "fedcba9876543210"] {
            assert!(tokens.contain(good));
        }
        for bad in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "# of the app"] {
            assert!(!tokens.contain(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_without_it() {
        let error = parse("0123456789abcdef\nsecret\n").expect_err("too short");
        assert!(error.starts_with("tokens: line 2: 6 bytes") && !error.contains("secret"), "{error}");
        assert!(parse("0123456789 abcdef\n").is_err(), "two words");
        assert!(parse("").expect_err("none").contains("no token"));
        let many: String = (0..=MOST).map(|i| format!("{i:016}\n")).collect();
        assert!(parse(&many).expect_err("too many").contains("1001 tokens"));
    }
}
