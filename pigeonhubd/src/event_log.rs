//! An event of the hub becomes a line, an entry of the journal, and one of
//! the events that are kept.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::event::{Event, Kind};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::events::Events;
use crate::journal;

/// Lines about clients in one [`WINDOW`]. The disk would be full of them otherwise, and whoever
/// connects and announces without end could see to it.
const CLIENTS: u32 = 100;
/// Lines about misbehaviour of others in one [`WINDOW`].
const STRANGERS: u32 = 20;

/// See [`CLIENTS`] and [`STRANGERS`]; further ones are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Writes events, within a limit for those that others can cause at will.
#[derive(Debug)]
pub struct EventLog {
    events: Arc<Events>,
    clients: Quota,
    strangers: Quota,
}

impl EventLog {
    /// Keeps events in `events` too.
    pub fn new(events: Arc<Events>) -> Self {
        let (clients, strangers) =
            (Quota::new(Kind::Clients, CLIENTS), Quota::new(Kind::Strangers, STRANGERS));
        Self { events, clients, strangers }
    }

    /// Writes one event. `at` is milliseconds since the Unix epoch.
    pub fn write(&mut self, event: &Event, at: u64) {
        let Some(entry) = Entry::new(event) else { return };
        let now = Instant::now();
        let may = match Kind::of(&entry.name) {
            Kind::Clients => self.clients.take(now),
            Kind::Strangers => self.strangers.take(now),
            Kind::Hubs => true,
        };
        if may {
            let warning = matches!(event, Event::HubMeshDegraded { .. } | Event::HubRejected { .. });
            entry.write(warning);
        }
        self.events.push(entry.name, entry.fields, at);
    }

    /// Says how many lines were left out, when more may be written. To be called now and then.
    pub fn catch_up(&mut self) {
        if self.clients.left_out + self.strangers.left_out > 0 {
            self.catch_up_at(Instant::now());
        }
    }

    fn catch_up_at(&mut self, now: Instant) {
        for quota in [&mut self.clients, &mut self.strangers] {
            if quota.left_out > 0 {
                quota.renew(now);
            }
        }
    }
}

/// How many lines of a kind may be written.
#[derive(Debug)]
struct Quota {
    kind: Kind,
    most: u32,
    since: Option<Instant>,
    written: u32,
    left_out: u32,
}

impl Quota {
    fn new(kind: Kind, most: u32) -> Self {
        Self { kind, most, since: None, written: 0, left_out: 0 }
    }

    fn renew(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now - since < WINDOW) {
            return;
        }
        if self.left_out > 0 {
            let (count, about) = (self.left_out, self.kind.name());
            info!(
                count,
                about, "more such events, of which there are no lines; pigeonctl events has the last"
            );
        }
        (self.since, self.written, self.left_out) = (Some(now), 0, 0);
    }

    fn take(&mut self, now: Instant) -> bool {
        self.renew(now);
        let may = self.written < self.most;
        if may {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        may
    }
}

/// An event's name and fields, as they are told to others.
struct Entry {
    name: String,
    fields: Map<String, Value>,
}

/// The fields' names are part of what others rely on, like the events' names.
macro_rules! write_entry {
    ($level:ident, $entry:expr) => {
        $level!(
            MESSAGE_ID = journal::message_id(&$entry.name),
            PIGEONHUB_EVENT = $entry.name,
            PIGEONHUB_PEER_ID = $entry.text("peerId"),
            PIGEONHUB_HUB_ID = $entry.text("hubId"),
            PIGEONHUB_HUB = $entry.text("hub"),
            PIGEONHUB_NETWORK = $entry.text("network"),
            PIGEONHUB_REASON = $entry.text("reason"),
            PIGEONHUB_VIA = $entry.text("via"),
            PIGEONHUB_URI = $entry.text("uri"),
            PIGEONHUB_FROM = $entry.text("from"),
            // The catalog knows no names with digits.
            PIGEONHUB_LINKS = $entry.number("p2pConnections"),
            PIGEONHUB_TOTAL_HUBS = $entry.number("totalHubs"),
            PIGEONHUB_MIGRATED_COUNT = $entry.number("migratedCount"),
            "{}",
            $entry.line()
        )
    };
}

impl Entry {
    fn new(event: &Event) -> Option<Self> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(event) else { return None };
        let Some(Value::String(name)) = fields.remove("event") else { return None };
        Some(Self { name, fields })
    }

    fn write(&self, warning: bool) {
        if warning {
            write_entry!(warn, self);
        } else {
            write_entry!(info, self);
        }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_str()
    }

    fn number(&self, field: &str) -> Option<u64> {
        self.fields.get(field)?.as_u64()
    }

    /// For a person: the name, then the fields. Text from outside is quoted and escaped.
    fn line(&self) -> String {
        let mut line = self.name.clone();
        for (field, value) in &self.fields {
            let plain = |text: &str| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b))
            };
            // Writing to a String cannot fail.
            let _ = match value {
                Value::String(text) if plain(text) => write!(line, " {}={text}", snake(field)),
                Value::String(text) => write!(line, " {}={text:?}", snake(field)),
                other => write!(line, " {}={other}", snake(field)),
            };
        }
        line
    }
}

/// `peerId` as `peer_id`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use pigeonhub_proto::id::Id;

    use super::*;

    #[test]
    fn an_event_is_one_line_of_names_and_values() {
        let line = |event: &Event| Entry::new(event).expect("an object").line();
        let id = Id([0xab; 20]);
        assert_eq!(
            line(&Event::PeerAnnounced { peer_id: id, network: String::from("a\n\u{1b}[31m b") }),
            format!("peerAnnounced network=\"a\\n\\u{{1b}}[31m b\" peer_id={id}")
        );
        assert_eq!(
            line(&Event::HubMeshReady { p2p_connections: 2, total_hubs: 3 }),
            "hubMeshReady p2p_connections=2 total_hubs=3"
        );
        assert_eq!(
            line(&Event::BootstrapConnected {
                uri: String::from("ws://[::1]:3000"),
                hub_id: Some(id),
                hub: None
            }),
            format!("bootstrapConnected hub_id={id} uri=\"ws://[::1]:3000\"")
        );
        assert_eq!(
            line(&Event::BootstrapConnected {
                uri: String::from("ws://a"),
                hub_id: None,
                hub: Some("an older hub")
            }),
            "bootstrapConnected hub=\"an older hub\" uri=ws://a"
        );
    }

    /// Keeps the fields of each entry, as the journal would get them.
    #[derive(Clone, Default)]
    struct Kept(Arc<std::sync::Mutex<Vec<(&'static str, String)>>>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Kept {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            let mut kept = self.0.lock().expect("no panic");
            event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                kept.push((field.name(), format!("{value:?}")));
            });
        }
    }

    #[test]
    fn every_event_is_an_entry_with_an_id_and_all_of_its_fields() {
        use tracing_subscriber::layer::SubscriberExt;
        for event in Event::examples() {
            let kept = Kept::default();
            let entry = Entry::new(&event).expect("an object");
            let subscriber = tracing_subscriber::registry().with(kept.clone());
            tracing::subscriber::with_default(subscriber, || entry.write(false));
            let kept = kept.0.lock().expect("no panic");
            let of =
                |name: &str| kept.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
            let id = journal::message_id(&entry.name).expect("the catalog explains it");
            assert_eq!(of("MESSAGE_ID"), Some(format!("{id:?}").as_str()), "{event:?}");
            assert_eq!(of("PIGEONHUB_EVENT"), Some(format!("{:?}", entry.name).as_str()), "{event:?}");
            let values: Vec<&str> = kept
                .iter()
                .filter(|(name, _)| name.starts_with("PIGEONHUB_"))
                .map(|(_, value)| value.as_str())
                .collect();
            assert_eq!(values.len(), 1 + entry.fields.len(), "{event:?} is {kept:?}");
            for value in entry.fields.values() {
                assert!(values.contains(&value.to_string().as_str()), "{event:?} is {kept:?}");
            }
        }
    }

    #[test]
    fn lines_that_others_cause_have_a_limit_for_each_kind_and_the_hubs_own_have_none() {
        use tracing_subscriber::layer::SubscriberExt;
        let events = Arc::new(Events::default());
        let mut log = EventLog::new(Arc::clone(&events));
        let kept = Kept::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(kept.clone()));
        let lines = |what: &str| {
            let kept = kept.0.lock().expect("no panic");
            let so = |entry: &&(&str, String)| entry.0 == "message" && entry.1.starts_with(what);
            kept.iter().filter(so).count() as u32
        };
        for _ in 0..200 {
            log.write(&Event::PeerConnected { peer_id: Id::default() }, 0);
            log.write(&Event::Refused { from: String::from("x"), reason: String::from("y") }, 0);
            log.write(&Event::HubMeshReady { p2p_connections: 0, total_hubs: 1 }, 0);
        }
        let written = [lines("peerConnected"), lines("refused"), lines("hubMeshReady")];
        assert_eq!(written, [CLIENTS, STRANGERS, 200]);
        assert_eq!(events.since(0, &[]).len(), 600, "all are kept");
        log.catch_up();
        assert_eq!(lines("more such events"), 0);
        log.catch_up_at(Instant::now() + WINDOW);
        assert_eq!(lines("more such events"), 2);
        log.catch_up();
        assert_eq!(lines("more such events"), 2, "told once");
        log.write(&Event::PeerConnected { peer_id: Id::default() }, 0);
        assert_eq!(lines("peerConnected"), CLIENTS + 1);
    }
}
