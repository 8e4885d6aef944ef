//! Who may open a WebSocket, as far as the request tells: from which web page,
//! with which token, and on behalf of which address a proxy asks.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HeaderMap, ORIGIN};
use pigeonhub_proto::config::{Config, ForwardedHeader, WebOrigin};
use pigeonhub_proto::settings::AddressRange;
use url::form_urlencoded;

use crate::per_address::Rates;
use crate::tickets::{BadTicket, Granted, TicketKeys};
use crate::tokens::Tokens;

/// Addresses of a forwarding header that are looked at, from its end: more
/// proxies than that in a row nobody has.
const MOST_PROXIES: usize = 32;

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The page's origin is not listed.
    #[error("WebSockets from this web page's origin are not allowed here: see listen.allowed_origins")]
    Origin,
    /// A token is needed, and none came.
    #[error("a token is needed: send `Authorization: Bearer TOKEN`, or ?token=TOKEN in the URL")]
    NoToken,
    /// What came is none of the tokens.
    #[error("that token is not valid here")]
    BadToken,
    /// What came is a ticket that is not good.
    #[error("that ticket is not valid here: {0}")]
    BadTicket(#[from] BadTicket),
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// If empty, every one.
    pub origins: Vec<WebOrigin>,
    /// If there is neither this nor the next, nothing is needed.
    pub tokens: Option<Tokens>,
    /// Or a ticket.
    pub ticket_keys: Option<TicketKeys>,
    /// Who is believed for whom it asks.
    pub proxies: Vec<AddressRange>,
    /// In which header.
    pub header: ForwardedHeader,
    /// Where old hubs are, which can show no token.
    pub old_hubs: Vec<AddressRange>,
    /// What one address may take.
    pub rates: Rates,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's address, as far as it can be known.
    pub address: IpAddr,
    /// Whether a trusted proxy asks for it. Then the address is only that proxy's word.
    pub via_proxy: bool,
}

impl Admission {
    /// As configured.
    pub fn new(config: &Config, tokens: Option<Tokens>, ticket_keys: Option<TicketKeys>) -> Self {
        let listen = &config.listen;
        Self {
            origins: listen.allowed_origins.clone(),
            tokens,
            ticket_keys,
            proxies: listen.trusted_proxies.clone(),
            header: listen.forwarded_header,
            // A plain signaling server has none, and asks everyone for a token.
            old_hubs: if config.hub.enabled { config.mesh.legacy_hubs.clone() } else { Vec::new() },
            rates: Rates::of(config),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.contains(address))
    }

    /// For whom the far end `remote` of a connection asks: itself, unless it is
    /// a trusted proxy. Then it is the last address of the header that is not
    /// such a proxy too: what comes before it the client may have written.
    pub fn caller(&self, headers: &HeaderMap, remote: IpAddr) -> Caller {
        let mut address = remote.to_canonical();
        let via_proxy = self.trusts(address);
        for value in headers.get_all(self.header.as_str()).iter().rev() {
            // What a client wrote before the proxy's own words may be of any bytes.
            let entries = match self.header {
                ForwardedHeader::XForwardedFor => value.as_bytes().split(|byte| *byte == b',').collect(),
                ForwardedHeader::Forwarded => elements(value.as_bytes()),
            };
            for entry in entries.into_iter().rev().take(MOST_PROXIES) {
                if !self.trusts(address) {
                    return Caller { address, via_proxy };
                }
                let entry = std::str::from_utf8(entry).ok();
                let told = entry.and_then(|entry| match self.header {
                    ForwardedHeader::XForwardedFor => parse_address(entry.trim()),
                    ForwardedHeader::Forwarded => forwarded_for(entry),
                });
                // From the first that is no address on nothing is known.
                let Some(told) = told else { return Caller { address, via_proxy } };
                address = told;
            }
        }
        Caller { address, via_proxy }
    }

    /// Whether the listed address of an old hub is that of `caller`.
    pub fn is_old_hub(&self, caller: Caller) -> bool {
        !caller.via_proxy && self.old_hubs.iter().any(|listed| listed.contains(caller.address))
    }

    /// Whether what comes over TCP from `remote` is that address's own, and so counts for it.
    pub fn counts_arrivals_of(&self, remote: IpAddr) -> bool {
        let address = remote.to_canonical();
        !self.trusts(address) && !self.is_old_hub(Caller { address, via_proxy: false })
    }

    /// Whether such a request may become a WebSocket, and with which ticket. `peer`: whose it says it is.
    /// `proves_key`: it is a hub's, which will have to prove the mesh key and gets nothing before.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        caller: Caller,
        peer: Option<&str>,
        proves_key: bool,
    ) -> Result<Option<Granted>, Denied> {
        if let Some(origin) = headers.get(ORIGIN)
            && !self.origins.is_empty()
            && !self.origins.iter().any(|listed| listed.is(origin.as_bytes()))
        {
            return Err(Denied::Origin);
        }
        let none_needed = self.tokens.is_none() && self.ticket_keys.is_none();
        if none_needed || proves_key || self.is_old_hub(caller) {
            return Ok(None);
        }
        let Some(shown) = bearer(headers).map(str::to_owned).or_else(|| in_query(query)) else {
            return Err(Denied::NoToken);
        };
        if self.tokens.as_ref().is_some_and(|tokens| tokens.contain(&shown)) {
            return Ok(None);
        }
        match &self.ticket_keys {
            Some(keys) if TicketKeys::is_ticket(&shown) => Ok(Some(keys.check(&shown, peer)?)),
            _ => Err(Denied::BadToken),
        }
    }
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token of `?token=TOKEN`, for browsers, which can set no header. A `+` in it is a plus, as in
/// base64: forms would mean a space by it, but no token has one.
fn in_query(query: Option<&str>) -> Option<String> {
    let query = query?.replace('+', "%2B");
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "token").map(|(_, token)| token.into_owned())
}

/// An address with or without a port; that of IPv6 perhaps in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = inner.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

/// The `for` of one element of `Forwarded` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split_unquoted(element.as_bytes(), b';');
    let mut pairs = pairs.into_iter().filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    parse_address(value.trim().trim_matches('"'))
}

/// The elements of a line of `Forwarded`. The client chose the text in its
/// quotes, such as the `host`, and perhaps all of the first elements: where
/// the quotes of the whole are not even nothing can be told apart.
fn elements(line: &[u8]) -> Vec<&[u8]> {
    split_unquoted(line, b',')
}

/// Splits at a sign outside of quotes (RFC 9110, section 5.6.4); text whose
/// quotes do not end is one part with no meaning.
fn split_unquoted(text: &[u8], at: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !was_escaped => quoted = !quoted,
            b'\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        !quoted && *byte == at
    });
    let parts = parts.collect();
    if quoted { vec![&[]] } else { parts }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admission(toml: &str) -> Admission {
        let mut config = Config::default();
        config.apply_file("test.toml", toml).expect("valid");
        Admission::new(&config, None, None)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| text.parse().expect("a header");
        lines.iter().map(|(name, text)| (name.parse().expect("a name"), value(text))).collect()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_what_they_wrote() {
        let rules = admission("listen.trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n");
        let table = [
            ("192.0.2.1", "198.51.100.7", "192.0.2.1", false),
            ("10.0.0.1", "198.51.100.7", "198.51.100.7", true),
            ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7", true),
            // The client wrote the first; our proxy the second.
            ("10.0.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7", true),
            ("10.0.0.1", "203.0.113.1, 198.51.100.7, 10.9.9.9", "198.51.100.7", true),
            ("::1", "[2001:db8::7]:4711", "2001:db8::7", true),
            ("::1", "198.51.100.7:4711", "198.51.100.7", true),
            ("10.0.0.1", "198.51.100.7, unknown", "10.0.0.1", true),
            ("10.0.0.1", "198.51.100.7, unknown, 10.0.0.2", "10.0.0.2", true),
            ("10.0.0.1", "", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.3", "10.0.0.3", true),
        ];
        for (remote, header, address, via_proxy) in table {
            let headers = headers(&[("x-forwarded-for", header), ("forwarded", "for=9.9.9.9")]);
            let caller = rules.caller(&headers, ip(remote));
            assert_eq!(caller, Caller { address: ip(address), via_proxy }, "{remote} with {header}");
        }
        // Bytes of no text before the proxy's words take nothing away from them.
        let mut odd = HeaderMap::new();
        odd.insert("x-forwarded-for", HeaderValue::from_bytes(b"\xff\xfe, 198.51.100.7").expect("allowed"));
        assert_eq!(rules.caller(&odd, ip("10.0.0.1")).address, ip("198.51.100.7"));
        let two = headers(&[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "198.51.100.7")]);
        assert_eq!(
            rules.caller(&two, ip("10.0.0.1")).address,
            ip("198.51.100.7"),
            "the last line is the proxy's"
        );
        let none = admission("");
        assert_eq!(none.caller(&two, ip("127.0.0.1")).address, ip("127.0.0.1"));
    }

    #[test]
    fn the_standard_header_is_read_if_it_is_named() {
        let rules =
            admission("listen.trusted_proxies = [\"10.0.0.1\"]\nlisten.forwarded_header = \"forwarded\"\n");
        for (header, address) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("by=10.0.0.1; For=\"[2001:db8::7]:4711\";proto=https", "2001:db8::7"),
            ("for=203.0.113.1, for=198.51.100.7;host=a", "198.51.100.7"),
            // The client's `Host`, as a proxy quotes it, is no element of its own.
            ("for=198.51.100.7;host=\"a,for=127.0.0.1\"", "198.51.100.7"),
            ("host=\"a;for=127.0.0.1;\\\",for=127.0.0.1\";for=198.51.100.7", "198.51.100.7"),
            // Nor can it hide the proxy's words in quotes of its own.
            ("for=\"127.0.0.1, for=198.51.100.7", "10.0.0.1"),
            ("for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            let headers = headers(&[("forwarded", header), ("x-forwarded-for", "9.9.9.9")]);
            assert_eq!(rules.caller(&headers, ip("10.0.0.1")).address, ip(address), "{header}");
        }
    }

    #[test]
    fn whoever_comes_through_a_proxy_is_no_old_hub() {
        let rules = admission(
            "listen.trusted_proxies = [\"10.0.0.1\"]\nmesh.legacy_hubs = [\"10.0.0.1\", \"192.0.2.7\"]\n",
        );
        let through = headers(&[("x-forwarded-for", "192.0.2.7")]);
        assert!(!rules.is_old_hub(rules.caller(&through, ip("10.0.0.1"))));
        assert!(!rules.is_old_hub(rules.caller(&HeaderMap::new(), ip("10.0.0.1"))));
        assert!(rules.is_old_hub(rules.caller(&HeaderMap::new(), ip("192.0.2.7"))));
        assert!(!rules.is_old_hub(rules.caller(&through, ip("192.0.2.8"))));
    }

    #[test]
    fn a_plain_signaling_server_frees_nobody_from_its_tokens() {
        let caller = Caller { address: ip("192.0.2.7"), via_proxy: false };
        for (enabled, free) in [(true, true), (false, false)] {
            let toml = format!("mesh.legacy_hubs = [\"192.0.2.7\"]\nhub.enabled = {enabled}\n");
            assert_eq!(admission(&toml).is_old_hub(caller), free);
        }
    }

    #[test]
    fn origins() {
        let rules = admission(
            "listen.allowed_origins = [\"HTTPS://App.example.org:443\", \"app://home\", \"null\"]\n",
        );
        let caller = Caller { address: ip("192.0.2.1"), via_proxy: false };
        let check = |headers: &HeaderMap| rules.check(headers, None, caller, None, false).map(|_| ());
        for good in ["https://app.example.org", "app://home", "null"] {
            assert_eq!(check(&headers(&[("origin", good)])), Ok(()), "{good}");
        }
        for bad in
            ["http://app.example.org", "https://app.example.org.evil.example", "https://example.org", ""]
        {
            assert_eq!(check(&headers(&[("origin", bad)])), Err(Denied::Origin), "{bad}");
        }
        let rules = admission(
            "listen.allowed_origins = [\"https://*.Example.org\", \"https://*.example.com:8443\"]\n",
        );
        for (origin, good) in [
            ("https://app.example.org", true),
            ("https://a.b.example.org", true),
            ("https://a.example.com:8443", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("http://app.example.org", false),
            ("https://evilexample.org", false),
            ("https://evil.example/.example.org", false),
            ("https://app.example.org:444", false),
            ("https://a.example.com", false),
        ] {
            let checked = rules.check(&headers(&[("origin", origin)]), None, caller, None, false);
            assert_eq!(checked.is_ok(), good, "{origin}");
        }
        assert_eq!(check(&HeaderMap::new()), Ok(()), "no browser");
        assert_eq!(
            admission("").check(&headers(&[("origin", "https://any.example")]), None, caller, None, false),
            Ok(None)
        );
    }

    #[test]
    fn where_a_token_may_stand() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer  abc")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
        assert_eq!(in_query(Some("peerId=1&token=a%62c")).as_deref(), Some("abc"));
        for query in ["token=a+b/c==", "token=a%2Bb/c==", "token=a%2bb%2fc%3D%3D"] {
            assert_eq!(in_query(Some(query)).as_deref(), Some("a+b/c=="), "{query}");
        }
        assert_eq!(in_query(Some("token=a%20b")).as_deref(), Some("a b"), "a space is none");
        assert_eq!(in_query(Some("tokens=abc")), None);
    }
}
