//! Which web pages may read the answers (CORS, WHATWG Fetch, 3.2).

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use pigeonhub_proto::config::{WebOrigin, cors_list};

/// `listen.cors_origin`.
#[derive(Clone, Debug)]
pub enum Cors {
    /// All pages, or those of one origin: told to everyone.
    Same(HeaderValue),
    /// Pages of these origins: each is told its own, since a browser takes one.
    Listed(Vec<WebOrigin>),
}

impl Cors {
    /// As configured.
    pub fn new(text: &str) -> Self {
        let entries: Vec<&str> = cors_list(text).collect();
        match *entries {
            // A browser takes no pattern.
            [one] if one == "*" || !one.contains('*') => {
                Self::Same(HeaderValue::from_str(one).unwrap_or(HeaderValue::from_static("null")))
            }
            _ => Self::Listed(entries.iter().filter_map(|entry| entry.parse().ok()).collect()),
        }
    }

    /// Adds what an answer to a request with these headers tells the browser.
    pub(super) fn tell(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        match self {
            Self::Same(origin) => {
                answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
            Self::Listed(listed) => {
                // No cache gives one page what was meant for another.
                answer.append(VARY, HeaderValue::from_static("Origin"));
                if let Some(origin) =
                    asked.get(ORIGIN).filter(|origin| listed.iter().any(|it| it.is(origin.as_bytes())))
                {
                    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                }
            }
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type, Authorization"));
    }
}
