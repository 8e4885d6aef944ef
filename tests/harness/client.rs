//! Published PeerPigeon clients, in Node and in Chromium.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::script::Script;
use super::{Ground, until_ok};

/// Time after which an unheard message is said again: a client may replace a data channel just opened.
const AGAIN: Duration = Duration::from_secs(3);

/// A process that hosts clients: Node, or a browser with a page for each.
pub(crate) struct Clients {
    script: Rc<Script>,
}

/// One published client.
pub(crate) struct Client {
    script: Rc<Script>,
    name: String,
    /// Its peer id.
    pub(crate) id: String,
}

/// A peer id that is the same in each run: failures repeat, and both orders of ids occur.
fn id_of(name: &str) -> String {
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (name, salt).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    let mut id: String = (0..3).map(part).collect();
    id.truncate(40);
    id
}

impl Clients {
    /// Clients in Node.
    pub(crate) fn node(ground: &Ground) -> Self {
        Self { script: Rc::new(Script::start(ground, "clients in Node", "client.mjs", &[])) }
    }

    /// Clients in headless Chromium.
    pub(crate) fn chromium(ground: &Ground) -> Self {
        Self { script: Rc::new(Script::start(ground, "clients in Chromium", "browser.mjs", &[])) }
    }

    /// A new client that connects to the hub at `url` and announces itself in `network`. Does not wait for it.
    pub(crate) fn join(&self, name: &str, url: &str, network: &str) -> Client {
        let id = id_of(name);
        self.script.tell(
            &json!({"cmd": "connect", "client": name, "url": url, "network": network, "peerId": id, "maxPeers": 16}),
        );
        Client { script: Rc::clone(&self.script), name: name.to_owned(), id }
    }
}

impl Client {
    fn events(&self) -> impl Iterator<Item = Value> + use<> {
        let name = self.name.clone();
        self.script.events().into_iter().filter(move |event| event["client"] == name)
    }

    fn told(&self, event: &str, other: &Self) -> bool {
        self.events().any(|it| it["event"] == event && it["peer"] == other.id)
    }

    /// Whether it was ever told of `other`.
    pub(crate) fn discovered(&self, other: &Self) -> bool {
        self.told("discovered", other)
    }

    /// Whether it has an open data channel to `other`.
    pub(crate) fn connected(&self, other: &Self) -> bool {
        let last = self
            .events()
            .filter(|it| it["peer"] == other.id)
            .filter_map(|it| match it["event"].as_str() {
                Some("peerConnected") => Some(true),
                Some("peerDisconnected") => Some(false),
                _ => None,
            })
            .last();
        last == Some(true)
    }

    /// Says `text` to `other` over its data channels.
    pub(crate) fn say(&self, other: &Self, text: &str) {
        self.script.tell(&json!({"cmd": "send", "client": self.name, "to": other.id, "text": text}));
    }

    /// Whether `text` came from `other`.
    pub(crate) fn heard(&self, other: &Self, text: &str) -> bool {
        self.events().any(|it| it["event"] == "message" && it["peer"] == other.id && it["text"] == text)
    }

    /// Waits until it is connected to its hub.
    pub(crate) fn wait_connected(&self) {
        until_ok(&format!("{} is connected to its hub", self.name), || {
            if self.events().any(|it| it["event"] == "connected") { Ok(()) } else { Err("not yet".into()) }
        });
    }

    /// Whether it ever lost its hub.
    pub(crate) fn was_disconnected(&self) -> bool {
        self.events().any(|it| it["event"] == "disconnected")
    }

    /// Leaves in order.
    pub(crate) fn close(&self) {
        self.script.tell(&json!({"cmd": "close", "client": self.name}));
    }
}

fn pairs<'a>(clients: &[&'a Client]) -> Vec<(&'a Client, &'a Client)> {
    let all = clients.iter().flat_map(|a| clients.iter().map(move |b| (*a, *b)));
    all.filter(|(a, b)| a.id != b.id).collect()
}

fn until_each(what: &str, pairs: &[(&Client, &Client)], mut is: impl FnMut(&Client, &Client) -> bool) {
    until_ok(&format!("each client {what} each other"), || {
        let missing: Vec<String> = pairs
            .iter()
            .filter(|(a, b)| !is(a, b))
            .map(|(a, b)| format!("{} and {}", a.name, b.name))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not {}", missing.join(", "))) }
    });
}

/// Waits until each of `clients` discovered each other one, has an open data
/// channel to it, and heard a message of its own from it.
pub(crate) fn all_hear_all(clients: &[&Client]) {
    let pairs = pairs(clients);
    assert!(!pairs.is_empty(), "two clients at least");
    until_each("discovers", &pairs, Client::discovered);
    until_each("has a data channel to", &pairs, Client::connected);
    let text = |a: &Client, b: &Client| format!("{} greets {}", a.name, b.name);
    let mut said: Option<Instant> = None;
    until_each("hears", &pairs, |a, b| {
        // The first pair in line says it for all of them.
        if std::ptr::eq(a, pairs[0].0)
            && std::ptr::eq(b, pairs[0].1)
            && said.is_none_or(|at| at.elapsed() > AGAIN)
        {
            said = Some(Instant::now());
            for (from, to) in pairs.iter().filter(|(from, to)| !to.heard(from, &text(from, to))) {
                from.say(to, &text(from, to));
            }
        }
        b.heard(a, &text(a, b))
    });
}
