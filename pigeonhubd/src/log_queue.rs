//! Log entries on their way to whoever keeps them.
//!
//! The journal may stand still, and so may a program that reads standard error. Whoever has
//! something to say does not wait for them: its entry is queued, and a thread of its own writes it.
//! What there is no room for is dropped, counted, and told of once there is room again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::field::{Field, Value, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Entries that wait at most.
const ENTRIES: usize = 4096;
/// Their bytes, at most.
const BYTES: usize = 4 * 1024 * 1024;

/// Entries that were dropped since the start. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Backlog {
    /// How many entries were dropped, for those before them had not been taken.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all is written, but no longer than that.
    pub fn flush(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        while self.0.waiting.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Room for one more entry, or it counts as dropped.
    fn take(&self, bytes: usize) -> bool {
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One that is larger than all there is room for goes alone.
        let fits = before == 0 || before.saturating_add(bytes) <= BYTES;
        if !fits {
            self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// The layer that queues entries.
pub struct Queue {
    sender: SyncSender<Entry>,
    backlog: Backlog,
}

struct Entry {
    metadata: &'static Metadata<'static>,
    /// By the index of their field.
    values: Vec<Option<Kept>>,
    bytes: usize,
}

/// A field's value.
enum Kept {
    Text(String),
    /// As it writes itself.
    Shown(String),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

impl Queue {
    /// Starts the thread that hands entries to `writer`, which may block.
    pub fn start(writer: impl Subscriber + Send + 'static) -> std::io::Result<(Self, Backlog)> {
        let (sender, entries) = sync_channel(ENTRIES);
        let backlog = Backlog::default();
        let counts = backlog.clone();
        std::thread::Builder::new()
            .name(String::from("log"))
            .spawn(move || write_all(&entries, &writer, &counts))?;
        Ok((Self { sender, backlog: backlog.clone() }, backlog))
    }
}

impl<S: Subscriber> Layer<S> for Queue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let entry = Entry::of(event);
        let (bytes, counts) = (entry.bytes, &self.backlog.0);
        if !self.backlog.take(bytes) {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.waiting.fetch_add(1, Ordering::AcqRel);
        if self.sender.try_send(entry).is_err() {
            counts.waiting.fetch_sub(1, Ordering::AcqRel);
            counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_all(entries: &Receiver<Entry>, writer: &impl Subscriber, backlog: &Backlog) {
    let mut told = 0;
    for entry in entries {
        entry.write(writer);
        let counts = &backlog.0;
        counts.bytes.fetch_sub(entry.bytes, Ordering::Relaxed);
        let empty = counts.waiting.fetch_sub(1, Ordering::AcqRel) == 1;
        let dropped = backlog.dropped();
        if empty && dropped > told {
            tracing::warn!(
                count = dropped - told,
                "log entries were dropped: those before them were not taken in time"
            );
            told = dropped;
        }
    }
}

impl Entry {
    fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut values = Vec::new();
        values.resize_with(metadata.fields().len(), || None);
        let mut entry = Self { metadata, values, bytes: size_of::<Self>() };
        event.record(&mut entry);
        entry
    }

    fn keep(&mut self, field: &Field, kept: Kept) {
        self.bytes += size_of::<Kept>();
        if let Kept::Text(text) | Kept::Shown(text) = &kept {
            self.bytes += text.len();
        }
        if let Some(value) = self.values.get_mut(field.index()) {
            *value = Some(kept);
        }
    }

    fn write(&self, writer: &impl Subscriber) {
        let shown: Vec<Option<Shown<'_>>> = self
            .values
            .iter()
            .map(|kept| if let Some(Kept::Shown(text)) = kept { Some(Shown(text)) } else { None })
            .collect();
        let debugged: Vec<_> = shown.iter().map(|shown| shown.as_ref().map(tracing::field::debug)).collect();
        let values: Vec<Option<&dyn Value>> = self
            .values
            .iter()
            .zip(&debugged)
            .map(|(kept, debugged)| {
                Some(match kept.as_ref()? {
                    Kept::Text(text) => text as &dyn Value,
                    Kept::Shown(_) => debugged.as_ref()?,
                    Kept::Unsigned(number) => number,
                    Kept::Signed(number) => number,
                    Kept::Float(number) => number,
                    Kept::Bool(truth) => truth,
                })
            })
            .collect();
        let values = self.metadata.fields().value_set_all(&values);
        writer.event(&Event::new_child_of(None, self.metadata, &values));
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, Kept::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, Kept::Unsigned(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, Kept::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Kept::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, Kept::Bool(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, Kept::Shown(format!("{value:?}")));
    }
}

/// Shows itself as what it is.
struct Shown<'a>(&'a str);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A log that stands still while it is locked, and keeps what is written.
    #[derive(Clone, Default)]
    struct Journal(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Journal {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = String::new();
            event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
                line += &format!("{}={value:?};", field.name());
            });
            self.0.lock().expect("no panic").push(line);
        }
    }

    #[test]
    fn what_is_written_is_what_was_said() {
        let journal = Journal::default();
        let writer = tracing_subscriber::registry().with(journal.clone());
        let (queue, backlog) = Queue::start(writer).expect("a thread");
        let directly = Journal::default();
        let both = tracing_subscriber::registry().with(queue).with(directly.clone());
        tracing::subscriber::with_default(both, || {
            let (text, none) = ("a \"b\"\n", None::<&str>);
            tracing::info!(A = text, B = none, c = 5_u64, d = -5_i64, e = true, f = 0.5, g = ?text, "said {text}");
            tracing::warn!("alone");
        });
        backlog.flush(Duration::from_secs(10));
        let written = journal.0.lock().expect("no panic").clone();
        assert_eq!(written, *directly.0.lock().expect("no panic"));
        assert_eq!(written.len(), 2);
        assert!(
            written.iter().any(|line| line.contains("A=\"a \\\"b\\\"\\n\";") && !line.contains("B=")),
            "{written:?}"
        );
    }

    #[test]
    fn a_log_that_stands_still_holds_nobody_up_and_what_was_dropped_is_counted() {
        let journal = Journal::default();
        let writer = tracing_subscriber::registry().with(journal.clone());
        let (queue, backlog) = Queue::start(writer).expect("a thread");
        let still = journal.0.lock().expect("no panic");
        let large = "x".repeat(BYTES / 16);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(queue), || {
            for _ in 0..ENTRIES * 2 {
                tracing::info!("small");
            }
            for _ in 0..32 {
                tracing::info!(large, "large");
            }
        });
        let dropped = backlog.dropped();
        assert!(dropped >= ENTRIES as u64 - 1, "{dropped}");
        assert!(backlog.0.bytes.load(Ordering::Relaxed) <= BYTES);
        drop(still);
        backlog.flush(Duration::from_secs(30));
        let written = journal.0.lock().expect("no panic").len() as u64;
        assert_eq!(written + dropped, ENTRIES as u64 * 2 + 32);
        assert_eq!(backlog.0.bytes.load(Ordering::Relaxed), 0);
    }
}
