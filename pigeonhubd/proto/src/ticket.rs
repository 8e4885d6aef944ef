//! What a client's ticket allows: a token that an operator's own program signed.
//!
//! Whoever lets a client in checks the signature and the time, and what concerns a connection alone. What
//! a client may do once it is in is looked at here.

use crate::id::Id;

/// A ticket that is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The peer id that it is for. Its holder gets that id at once, whoever else has it.
    pub peer: Option<Id>,
    /// The networks that it opens, a `*` in a name for any text; all if there are none here.
    pub networks: Option<Vec<String>>,
    /// The most announce data in one network, in bytes.
    pub max_announce: Option<usize>,
}

impl Ticket {
    /// Whether it opens a network.
    pub fn opens(&self, network: &str) -> bool {
        self.networks.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, network)))
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any text, also for none.
///
/// Takes time by the product of their lengths at most: after a mismatch only the last star takes more.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part).and_then(|at| rest.get(at + part.len()..)) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, good, bad) in [
            ("game", &["game"][..], &["games", "a game", ""][..]),
            ("game-*", &["game-", "game-1", "game-*"], &["game", "a game-1"]),
            ("*-eu", &["-eu", "game-eu", "-eu-eu"], &["eu", "game-eu-1"]),
            ("a*b*c", &["abc", "a-b-c", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
            ("*", &["", "anything"], &[]),
            ("", &[""], &["a"]),
            ("aa*aa", &["aaaa", "aa-aa"], &["aaa"]),
        ] {
            for text in good {
                assert!(matches(pattern, text), "{pattern} {text}");
            }
            for text in bad {
                assert!(!matches(pattern, text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn without_networks_it_opens_all_and_with_an_empty_list_none() {
        assert!(Ticket::default().opens("any"));
        assert!(!Ticket { networks: Some(Vec::new()), ..Ticket::default() }.opens("any"));
    }
}
