//! An event of the hub becomes a line, an entry of the journal, and one of
//! the events that are kept.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::event::Event;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::events::Events;
use crate::journal;

/// Events about misbehaviour of others that are written in one [`WINDOW`];
/// further ones are counted. A stranger could fill the disk otherwise.
const MAX_COMPLAINTS: u32 = 20;

/// See [`MAX_COMPLAINTS`].
const WINDOW: Duration = Duration::from_secs(10);

/// Writes events, within a limit for those that strangers can cause at will.
#[derive(Debug)]
pub struct EventLog {
    events: Arc<Events>,
    window: Option<Instant>,
    written: u32,
    skipped: u32,
}

impl EventLog {
    /// Keeps what it writes in `events` too.
    pub fn new(events: Arc<Events>) -> Self {
        Self { events, window: None, written: 0, skipped: 0 }
    }

    /// Writes one event. `at` is milliseconds since the Unix epoch.
    pub fn write(&mut self, event: &Event, at: u64) {
        let complaint = matches!(event, Event::Refused { .. } | Event::HubRejected { .. });
        if complaint && !self.may_complain() {
            return;
        }
        let Some(entry) = Entry::new(event) else { return };
        let warning = matches!(event, Event::HubMeshDegraded { .. } | Event::HubRejected { .. });
        entry.write(warning);
        self.events.push(entry.name, entry.fields, at);
    }

    fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        if self.window.is_none_or(|start| now - start >= WINDOW) {
            if self.skipped > 0 {
                warn!(count = self.skipped, "more of them were not written");
            }
            (self.window, self.written, self.skipped) = (Some(now), 0, 0);
        }
        let may = self.written < MAX_COMPLAINTS;
        if may {
            self.written += 1;
        } else {
            self.skipped += 1;
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
    fn complaints_have_a_limit_and_others_have_none() {
        let events = Arc::new(Events::default());
        let mut log = EventLog::new(Arc::clone(&events));
        for _ in 0..100 {
            log.write(&Event::Refused { from: String::from("x"), reason: String::from("y") }, 0);
            log.write(&Event::HubMeshReady { p2p_connections: 0, total_hubs: 1 }, 0);
        }
        assert_eq!(events.since(0, &[String::from("refused")]).len(), MAX_COMPLAINTS as usize);
        assert_eq!(events.since(0, &[String::from("hubMeshReady")]).len(), 100);
    }
}
