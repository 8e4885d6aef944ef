//! STUN and TURN servers.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::file::nearest;
use super::kind::Kind;
use super::setting::{Fault, Raw, Setting, quoted, type_of};

/// The most URLs of one server.
const MOST_URLS: usize = 8;

const URL: &str =
    "stun:HOST[:PORT], stuns:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or the same with turns:";

pub(super) const KEYS: [&str; 3] = ["urls", "username", "credential"];

/// A STUN or TURN server for the links.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IceServer {
    /// One or more of `stun:`, `stuns:` (RFC 7064), `turn:` and `turns:` (RFC 7065).
    pub urls: Vec<String>,
    /// For TURN; else empty.
    pub username: String,
    /// For TURN; else empty. Never shown.
    pub credential: String,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Setting for Vec<IceServer> {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        let unfit = |found: &str| Problem::Unfit { found: found.to_owned(), expected: kind.expected() };
        let Raw::Toml(value) = raw else { return Err(unfit("a text").into()) };
        let array = value.get_ref().as_array().ok_or_else(|| unfit(type_of(value.get_ref())))?;
        if matches!(kind, Kind::IceServers { most } if array.len() > *most) {
            let bare = Some(String::new());
            return Err(Fault { text: bare, ..unfit(&format!("{} tables", array.len())).into() });
        }
        let read = |entry: &Spanned<DeValue<'_>>| match entry.get_ref() {
            DeValue::Table(table) => server(entry, table),
            other => Err(Fault { span: Some(entry.span()), ..unfit(type_of(other)).into() }),
        };
        array.iter().map(read).collect()
    }

    fn show(&self, _: &Kind) -> String {
        let show = |server: &IceServer| {
            let urls: Vec<String> = server.urls.iter().map(|url| quoted(url)).collect();
            let mut text = format!("{{ urls = [{}]", urls.join(", "));
            if !server.username.is_empty() {
                text += &format!(", username = {}", quoted(&server.username));
            }
            if !server.credential.is_empty() {
                text += ", credential = \"…\"";
            }
            text + " }"
        };
        format!("[{}]", self.iter().map(show).collect::<Vec<_>>().join(", "))
    }
}

fn server(entry: &Spanned<DeValue<'_>>, table: &DeTable<'_>) -> Result<IceServer, Fault> {
    let mut server = IceServer::default();
    for (key, value) in table {
        let within = |fault: Fault| Fault { inner: Some(key.get_ref().to_string()), ..fault };
        match key.get_ref().as_ref() {
            "urls" => server.urls = urls(value).map_err(within)?,
            "username" => server.username = plain(value).map_err(within)?,
            "credential" => {
                let bare = |fault| Fault { text: Some(String::new()), ..within(fault) };
                server.credential = plain(value).map_err(bare)?;
            }
            unknown => {
                let hint = nearest(unknown, KEYS).map_or_else(
                    || format!("there are {}", KEYS.join(", ")),
                    |key| format!("did you mean {key}?"),
                );
                let bare = Some(String::new());
                let fault = Fault { span: Some(key.span()), text: bare, ..Problem::UnknownKey(hint).into() };
                return Err(within(fault));
            }
        }
    }
    let needs_login = server.urls.iter().any(|url| url.starts_with("turn"));
    let missing = match () {
        () if server.urls.is_empty() => ("urls", "missing", "one or more of ", URL),
        () if needs_login && server.username.is_empty() => ("username", "missing", "", LOGIN),
        () if needs_login && server.credential.is_empty() => ("credential", "missing", "", LOGIN),
        () => return Ok(server),
    };
    let (key, found, lead, expected) = missing;
    let problem = Problem::Unfit { found: found.to_owned(), expected: format!("{lead}{expected}") };
    let bare = Some(String::new());
    Err(Fault { inner: Some(key.to_owned()), span: Some(entry.span()), text: bare, ..problem.into() })
}

const LOGIN: &str = "given: a TURN server takes nobody without a username and a credential";

fn urls(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Fault> {
    let fault = |at: &Spanned<DeValue<'_>>, found: String| Fault {
        span: Some(at.span()),
        ..Problem::Unfit { found, expected: URL.to_owned() }.into()
    };
    let url = |at: &Spanned<DeValue<'_>>| {
        let text = at.get_ref().as_str().ok_or_else(|| type_of(at.get_ref()).to_owned());
        text.and_then(|text| check(text).map(|()| text.to_owned())).map_err(|found| fault(at, found))
    };
    match value.get_ref() {
        DeValue::Array(array) if array.len() > MOST_URLS => {
            Err(fault(value, format!("{} URLs, of which {MOST_URLS} are taken at most", array.len())))
        }
        DeValue::Array(array) => array.iter().map(url).collect(),
        _ => url(value).map(|url| vec![url]),
    }
}

fn plain(value: &Spanned<DeValue<'_>>) -> Result<String, Fault> {
    let problem =
        || Problem::Unfit { found: type_of(value.get_ref()).to_owned(), expected: String::from("a text") };
    let text = value.get_ref().as_str().map(str::to_owned);
    text.ok_or_else(|| Fault { span: Some(value.span()), ..problem().into() })
}

/// `scheme:host[:port][?transport=…]`; the error says what it is instead.
fn check(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once(':').ok_or("not a URL")?;
    let turn = match scheme {
        "stun" | "stuns" => false,
        "turn" | "turns" => true,
        _ => return Err(format!("a URL with {scheme}:")),
    };
    if rest.starts_with("//") {
        return Err(String::from("a URL with //"));
    }
    let (authority, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    match query {
        None => {}
        Some("transport=udp" | "transport=tcp") if turn => {}
        Some(query) => return Err(format!("a URL with ?{query}")),
    }
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority.get(host_end..).unwrap_or_default().rsplit_once(':') {
        Some((_, port)) => {
            (authority.get(..authority.len() - port.len() - 1).unwrap_or_default(), Some(port))
        }
        None => (authority, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(String::from("a URL with a bad port"));
    }
    if host.is_empty() {
        return Err(String::from("a URL without a host"));
    }
    url::Host::parse(host).map(drop).map_err(|_| String::from("a URL with a bad host"))
}
