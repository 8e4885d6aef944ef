//! What data channels use: UDP ports, and network interfaces by name.

use std::fmt;
use std::str::FromStr;

/// UDP ports, from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPorts {
    /// The smallest; 1 or more.
    pub first: u16,
    /// The largest.
    pub last: u16,
}

impl UdpPorts {
    pub(super) const WHAT: &'static str = "a range of ports such as \"40000-40100\", or one port";

    /// How many they are.
    pub fn count(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl FromStr for UdpPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().ok().filter(|port| *port != 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first > last => {
                Err(String::from("a range that ends before it begins"))
            }
            (Some(first), Some(last)) => Ok(Self { first, last }),
            _ => Err(String::from("no ports from 1 to 65535")),
        }
    }
}

impl fmt::Display for UdpPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// Network interfaces by name, with `*` for any text; with `!` before it those that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePattern(String);

/// The longest name of an interface, in bytes (`IFNAMSIZ` without its end).
const LONGEST_INTERFACE: usize = 15;

impl InterfacePattern {
    pub(super) const WHAT: &'static str =
        "the name of a network interface such as \"eth0\" or \"en*\", or with ! one to leave out: \"!br-*\"";

    /// Whether an interface may be used under these patterns: none that leaves out fits it, and one of
    /// the others, if there are any.
    pub fn allow(patterns: &[Self], name: &str) -> bool {
        let (out, wanted): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.0.starts_with('!'));
        let fits = |pattern: &&Self| fits(pattern.0.trim_start_matches('!').as_bytes(), name.as_bytes());
        !out.iter().any(fits) && (wanted.is_empty() || wanted.iter().any(fits))
    }
}

/// Whether `name` is what `pattern` says, in which a star is any text. Both are short.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        // Several are one, and would only take time.
        Some((b'*', rest)) if rest.starts_with(b"*") => fits(rest, name),
        Some((b'*', rest)) => (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| fits(rest, name))),
        Some((first, rest)) => {
            name.split_first().is_some_and(|(byte, name)| byte == first && fits(rest, name))
        }
    }
}

impl FromStr for InterfacePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix('!').unwrap_or(text);
        let unfit = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '!' | ':');
        match name {
            "" => Err(String::from("no name")),
            _ if name.contains(unfit) => Err(String::from("a text that no interface can be named by")),
            _ if name.len() > LONGEST_INTERFACE => Err(format!("longer than {LONGEST_INTERFACE} bytes")),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
