//! Published PeerPigeon clients, in Node and in Chromium.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::script::Script;
use super::{Ground, until, until_ok};

/// How often a client says something that all are to hear, as a game does.
const EVERY: Duration = Duration::from_millis(250);

/// A process that hosts clients: Node, or a browser with a page for each.
pub(crate) struct Clients {
    script: Rc<Script>,
}

/// One published client, with the options that people give it: its network.
pub(crate) struct Client {
    script: Rc<Script>,
    name: String,
    id: OnceCell<String>,
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
        self.script.tell(&json!({"cmd": "connect", "client": name, "url": url, "network": network}));
        Client { script: Rc::clone(&self.script), name: name.to_owned(), id: OnceCell::new() }
    }
}

impl Client {
    fn events(&self) -> impl Iterator<Item = Value> + use<> {
        let name = self.name.clone();
        self.script.events().into_iter().filter(move |event| event["client"] == name)
    }

    /// The id that it chose.
    fn id(&self) -> &str {
        self.id.get_or_init(|| {
            let named = until(&format!("{} has an id", self.name), || {
                self.events().find(|event| event["event"] == "named")
            });
            named["peer"].as_str().expect("an id").to_owned()
        })
    }

    fn told(&self, event: &str, other: &Self) -> bool {
        self.events().any(|it| it["event"] == event && it["peer"] == other.id())
    }

    /// Whether it was ever told of `other`.
    pub(crate) fn discovered(&self, other: &Self) -> bool {
        self.told("discovered", other)
    }

    /// Whether it has an open data channel to `other`.
    pub(crate) fn connected(&self, other: &Self) -> bool {
        let last = self
            .events()
            .filter(|it| it["peer"] == other.id())
            .filter_map(|it| match it["event"].as_str() {
                Some("peerConnected") => Some(true),
                Some("peerDisconnected") => Some(false),
                _ => None,
            })
            .last();
        last == Some(true)
    }

    /// Says `text` to all in its network.
    fn say(&self, text: &str) {
        self.script.tell(&json!({"cmd": "send", "client": self.name, "text": text}));
    }

    /// Whether something that begins with `text` came from `other`.
    fn heard(&self, other: &Self, text: &str) -> bool {
        let begins = |it: &Value| it["text"].as_str().is_some_and(|it| it.starts_with(text));
        self.events().any(|it| it["event"] == "message" && it["peer"] == other.id() && begins(&it))
    }

    /// How many of its data channels were closed so far.
    pub(crate) fn partings(&self) -> usize {
        self.events().filter(|it| it["event"] == "peerDisconnected").count()
    }

    /// How often it was connected to a hub so far.
    pub(crate) fn connections(&self) -> usize {
        self.events().filter(|it| it["event"] == "connected").count()
    }

    /// Waits until it is connected to its hub.
    pub(crate) fn wait_connected(&self) {
        until_ok(&format!("{} is connected to its hub", self.name), || {
            if self.connections() > 0 { Ok(()) } else { Err("not yet".into()) }
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
    all.filter(|(a, b)| a.id() != b.id()).collect()
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

/// Waits until each of `clients` discovered each other one, and until what each says to all is heard
/// by each. A client has at most three data channels, and passes on what it hears.
pub(crate) fn all_hear_all(clients: &[&Client]) {
    /// Tells one call's messages from another's.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let pairs = pairs(clients);
    assert!(!pairs.is_empty(), "two clients at least");
    until_each("discovers", &pairs, Client::discovered);
    let again = format!("again and again {call} ");
    let mut said: Option<Instant> = None;
    until_each("hears", &pairs, |a, b| {
        if said.is_none_or(|at| at.elapsed() >= EVERY) {
            said = Some(Instant::now());
            clients.iter().for_each(|client| client.say(&again));
        }
        b.heard(a, &again)
    });
    // By now the room is one piece: what is said once is heard too.
    let once = format!("once {call} ");
    clients.iter().for_each(|client| client.say(&once));
    until_each("hears what is said once by", &pairs, |a, b| a.heard(b, &once));
}
