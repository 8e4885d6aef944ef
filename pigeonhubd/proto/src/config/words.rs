//! Texts that must be of a certain form: hosts, URLs, addresses, levels.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use url::{Host as UrlHost, Url};

/// The longest namespace or origin, in bytes.
pub(super) const LONGEST_NAME: usize = 128;

/// The longest URL, in bytes.
const LONGEST_URL: usize = 1024;

/// The longest name of a machine, in bytes (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;

/// The longest path, in bytes: Linux' own limit.
const LONGEST_PATH: usize = 4095;

/// Where to listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// All addresses, IPv4 and IPv6, as far as this machine has them: `*`, or `::` as JavaScript has it.
    #[default]
    Any,
    /// Both loopback addresses: `localhost`.
    Localhost,
    /// One address.
    Address(IpAddr),
    /// The address that a name stands for, once it was looked up.
    Name(String, Option<IpAddr>),
}

impl Host {
    pub(super) const WHAT: &'static str =
        "an IP address, a name of this machine, \"localhost\", or \"*\" for all addresses";

    /// The addresses to listen on, a socket each; those of IPv6 for IPv6 alone. A name that was not
    /// looked up has none.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Any => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
            Self::Localhost => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
            Self::Address(address) => vec![*address],
            Self::Name(_, address) => address.iter().copied().collect(),
        }
    }

    /// With the address of a name, which `look_up` finds.
    ///
    /// # Errors
    /// Those of `look_up`.
    pub fn resolved<E>(self, look_up: impl FnOnce(&str) -> Result<IpAddr, E>) -> Result<Self, E> {
        match self {
            Self::Name(name, None) => look_up(&name).map(|address| Self::Name(name, Some(address))),
            other => Ok(other),
        }
    }

    /// Whether a dial to the loopback address `target` arrives here.
    pub(super) fn takes(&self, target: IpAddr) -> bool {
        self.addresses()
            .iter()
            .any(|own| *own == target || (own.is_unspecified() && own.is_ipv4() == target.is_ipv4()))
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "*" | "::" | "[::]" => Ok(Self::Any),
            _ if text.eq_ignore_ascii_case("localhost") => Ok(Self::Localhost),
            _ => match address(text) {
                Some(address) => Ok(Self::Address(address)),
                None if is_host_name(text) => Ok(Self::Name(text.to_owned(), None)),
                None => Err(String::from("neither an address nor a name")),
            },
        }
    }
}

/// Underscores are no part of a host's name, but some have them. Digits and dots alone are a mistyped address.
fn is_host_name(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !part.is_empty() && !part.starts_with('-') && part.bytes().all(inner)
    };
    text.len() <= LONGEST_HOST
        && text.strip_suffix('.').unwrap_or(text).split('.').all(part)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Localhost => f.write_str("localhost"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name, _) => f.write_str(name),
        }
    }
}

/// What a hub is that has bootstraps and reaches none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAlone {
    /// Ready after a second of vain dials.
    #[default]
    Ready,
    /// Not started before another hub is within reach.
    Wait,
}

impl WhenAlone {
    pub(super) const WHAT: &'static str = "\"ready\" or \"wait\"";
}

impl FromStr for WhenAlone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ready" => Ok(Self::Ready),
            "wait" => Ok(Self::Wait),
            _ => Err(String::from("neither")),
        }
    }
}

impl fmt::Display for WhenAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Wait => "wait",
        })
    }
}

/// Where figures for monitoring are answered over HTTP, apart from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsListen {
    /// On 127.0.0.1, at the hub's port plus [`MetricsListen::ABOVE`].
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl MetricsListen {
    pub(super) const WHAT: &'static str =
        "\"auto\", \"off\", or an IP address with a port, such as 127.0.0.1:9464";

    /// How far the port of [`Self::Auto`] is above the hub's own.
    pub const ABOVE: u16 = 6464;

    /// The address, for a hub on `port`; none if there is none.
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        match self {
            // A hub on any free port has nothing that its operator could know beforehand.
            Self::Auto if port == 0 => None,
            Self::Auto => Some((Ipv4Addr::LOCALHOST, port.checked_add(Self::ABOVE)?).into()),
            Self::Off => None,
            Self::At(address) => Some(*address),
        }
    }
}

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ if address(text).is_some() => Err(String::from("an address without a port")),
            _ => match text.parse::<SocketAddr>() {
                Ok(address) if address.port() == 0 => Err(String::from("port 0")),
                Ok(address) => Ok(Self::At(address)),
                Err(_) => Err(String::from("not an address")),
            },
        }
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// A user of this machine, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uid(pub u32);

impl Uid {
    pub(super) const WHAT: &'static str = "the number of a user, as `id -u` tells it";
}

impl FromStr for Uid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| String::from("not the number of a user"))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what makes the daemon fail.
    Error,
    /// And what its operator should look at.
    Warn,
    /// And what happens to the mesh and the peers.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

impl LogLevel {
    pub(super) const WHAT: &'static str = "error, warn, info, debug or trace";
    /// From the least that is logged to the most.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| String::from("not a level"))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Another hub's WebSocket URL: `ws://` or `wss://`, with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubUrl(String);

impl HubUrl {
    pub(super) const WHAT: &'static str =
        "a ws:// or wss:// URL with a host, such as ws://hub.example.org:3000";

    /// The first hub on this machine: the default port on loopback.
    pub(super) fn first_on_this_machine() -> Self {
        Self(String::from("ws://127.0.0.1:3000"))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address and port, if the host is an address or `localhost`.
    pub(super) fn address(&self) -> Option<(IpAddr, u16)> {
        let url = Url::parse(&self.0).ok()?;
        let local = || (url.domain() == Some("localhost")).then_some(Ipv4Addr::LOCALHOST.into());
        Some((literal(&url).or_else(local)?, url.port_or_known_default()?))
    }
}

impl FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_URL {
            return Err(format!("longer than {LONGEST_URL} bytes"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(String::from("a text with white space"));
        }
        let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
        if !["ws", "wss"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return Err(format!("a URL with {scheme}://"));
        }
        // The url crate would take the next part of the path for the host.
        if rest.is_empty() || rest.starts_with(['/', '\\', ':', '?', '#']) {
            return Err(String::from("a URL without a host"));
        }
        let url = Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(String::from("a URL with a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(String::from("a URL with a query or fragment"));
        }
        if url.port() == Some(0) {
            return Err(String::from("a URL with port 0"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host, if it is written as an address.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        UrlHost::Ipv4(v4) => Some(v4.into()),
        UrlHost::Ipv6(v6) => Some(v6.into()),
        UrlHost::Domain(_) => None,
    }
}

/// An address, that of IPv6 also in brackets.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// What anything of `T` may be, as a check.
pub(super) fn parses<T: FromStr<Err = String>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop)
}

/// A URL that others can dial.
pub(super) fn advertised(text: &str) -> Result<(), String> {
    match text.parse::<HubUrl>()?.address() {
        Some((address, _)) if address.is_unspecified() => Err(format!("{address}, which nobody can dial")),
        _ => Ok(()),
    }
}

/// A mesh's name.
pub(super) fn namespace(text: &str) -> Result<(), String> {
    match text {
        "" => Err(String::from("empty")),
        _ if text.len() > LONGEST_NAME => Err(format!("{} bytes", text.len())),
        _ if text.contains(char::is_control) => Err(String::from("a text with control characters")),
        _ => Ok(()),
    }
}

/// A path.
pub(super) fn path(text: &str) -> Result<(), String> {
    match text {
        _ if text.contains('\0') => Err(String::from("a text with a NUL")),
        _ if text.len() > LONGEST_PATH => Err(format!("longer than {LONGEST_PATH} bytes")),
        _ => Ok(()),
    }
}
