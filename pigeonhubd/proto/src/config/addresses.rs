//! Who may come, by address and by web page: ranges of addresses, origins, and
//! the header in which a proxy tells for whom it asks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use url::Url;

use super::words::{HubUrl, LONGEST_NAME, address, literal};
use crate::settings::AddressRange;

impl AddressRange {
    pub(super) const WHAT: &'static str = "an IP address, since a name proves nothing: 192.0.2.7, \
                                           192.0.2.7:3000, 192.0.2.0/24, 2001:db8::7 or ws://192.0.2.7:3000";
}

impl FromStr for AddressRange {
    type Err = String;

    /// Of an `address:port` or a URL only the address counts.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let url: HubUrl = text.parse()?;
            let address = Url::parse(url.as_str()).ok().as_ref().and_then(literal);
            return address.map(single).ok_or_else(|| String::from("a host name"));
        }
        if let Some((base, prefix)) = text.split_once('/') {
            let base = address(base).ok_or("not a network")?;
            let prefix: u8 = prefix.parse().map_err(|_| "not a network")?;
            let widest = single(base).prefix;
            if base.to_canonical() != base {
                return Err(String::from("an IPv4 network written as IPv6"));
            }
            if prefix > widest {
                return Err(format!("a network prefix that is not 0 to {widest}"));
            }
            return Ok(Self { address: base, prefix });
        }
        address(text)
            .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
            .map(single)
            .ok_or_else(|| String::from("a host name"))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == single(self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

fn single(address: IpAddr) -> AddressRange {
    let address = address.to_canonical();
    AddressRange { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}

/// A web page's origin, as browsers write it (RFC 6454, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    pub(super) const WHAT: &'static str = "an origin such as https://app.example.org, without a path, or https://*.example.org for all below that name, or \
         \"null\"";

    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request's `Origin` is this one, or one of these.
    pub fn is(&self, origin: &[u8]) -> bool {
        let Some((scheme, name)) = self.0.split_once(ALL_BELOW) else {
            return self.0.as_bytes().eq_ignore_ascii_case(origin);
        };
        let origin = std::str::from_utf8(origin).unwrap_or_default().to_ascii_lowercase();
        let below = origin
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .and_then(|rest| rest.strip_suffix(name))
            .and_then(|rest| rest.strip_suffix('.'));
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        below.is_some_and(|below| !below.is_empty() && below.bytes().all(of_name))
    }
}

/// Between the scheme and the name of an entry that stands for all origins below that name.
const ALL_BELOW: &str = "://*.";

impl FromStr for WebOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Err(String::from("\"*\"; all are allowed with an empty list"));
        }
        cors_origin(text)?;
        let stars = text.matches('*').count();
        if stars > 1 || (stars == 1 && !text.contains(ALL_BELOW)) {
            return Err(String::from("a star stands for whole parts of a name, and comes first"));
        }
        // Only of the schemes that it knows does the crate know origins.
        let url = Url::parse(text).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
        Ok(Self(url.map_or_else(|| text.to_ascii_lowercase(), |origin| origin.ascii_serialization())))
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The header in which a proxy tells for whom it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedHeader {
    pub(super) const WHAT: &'static str = "\"X-Forwarded-For\" or \"Forwarded\"";

    /// The header's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::XForwardedFor => "X-Forwarded-For",
            Self::Forwarded => "Forwarded",
        }
    }
}

impl FromStr for ForwardedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::XForwardedFor, Self::Forwarded]
            .into_iter()
            .find(|header| header.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| String::from("neither"))
    }
}

impl fmt::Display for ForwardedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The entries of `listen.cors_origin`. Empty ones are left out, so that a trailing comma does no harm.
pub fn cors_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// `"*"`, or the origins that may be answers of `Access-Control-Allow-Origin` (WHATWG Fetch, 3.2.3).
pub(super) fn cors_origins(text: &str) -> Result<(), String> {
    let mut entries = cors_list(text).peekable();
    entries.peek().ok_or("not an origin")?;
    entries.try_for_each(|entry| match entry {
        "*" if entry.len() < text.trim().len() => Err(String::from("\"*\" beside others")),
        _ => cors_origin(entry),
    })
}

/// Not everyone is an old hub: whoever is may speak for any peer, and needs no token.
pub(super) fn old_hubs(text: &str) -> Result<(), String> {
    let range: AddressRange = text.parse()?;
    if range.prefix == 0 { Err(String::from("all addresses, which everyone shares")) } else { Ok(()) }
}

fn cors_origin(text: &str) -> Result<(), String> {
    let (scheme, authority) = match text {
        "*" | "null" => return Ok(()),
        _ => text.split_once("://").ok_or("not an origin")?,
    };
    let plain = |part: &str| {
        let separator =
            |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '?' | '#' | '@' | ',' | '"' | '\\');
        !part.is_empty() && part.len() <= LONGEST_NAME && !part.contains(separator)
    };
    if plain(scheme) && plain(authority) { Ok(()) } else { Err(String::from("not an origin")) }
}
