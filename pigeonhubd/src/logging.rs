//! What a person gets to read: entries of the journal when systemd started
//! this hub, else lines on standard error, with colour on a terminal.

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::field::{Field, Visit};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::journal;
use crate::log_queue::{Backlog, Queue};

/// How long the end waits for a log that stands still.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Why a level is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "log level `{level}`: {reason}; it is one of error, warn, info, debug, trace, or a list such as `info,pigeonhubd=debug`"
)]
pub struct LevelError {
    level: String,
    reason: String,
}

impl LevelError {
    fn new(level: &str, reason: impl fmt::Display) -> Self {
        Self { level: level.to_owned(), reason: reason.to_string() }
    }
}

/// What changes the level of a running hub. Cheap to clone.
#[derive(Clone, Default)]
pub struct LogControl {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    state: Arc<Mutex<State>>,
    backlog: Backlog,
}

/// Of the one log that a process has.
static BACKLOG: OnceLock<Backlog> = OnceLock::new();

#[derive(Default)]
struct State {
    configured: String,
    back: Option<JoinHandle<()>>,
}

/// Starts logging at `level`: a level, or a filter as tracing-subscriber's `EnvFilter` reads it.
pub fn start(level: &str, env: impl Fn(&str) -> Option<OsString>) -> Result<LogControl, LevelError> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    // Where there is no journal after all, standard error still is.
    let journal = journal::is_stderr(env).then(|| tracing_journald::layer().ok()).flatten().map(|layer| {
        let info = Priority::Informational;
        let priorities = PriorityMappings { info, debug: Priority::Debug, ..PriorityMappings::new() };
        layer.with_field_prefix(None).with_priority_mappings(priorities)
    });
    let lines = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .fmt_fields(Plain)
    });
    let writer = tracing_subscriber::registry().with(journal).with(lines);
    let (queue, backlog) = Queue::start(writer).map_err(|error| LevelError::new(level, error))?;
    let subscriber = tracing_subscriber::registry().with(filter).with(queue);
    subscriber.try_init().map_err(|error| LevelError::new(level, error))?;
    let state = State { configured: level.to_owned(), back: None };
    let backlog = BACKLOG.get_or_init(|| backlog).clone();
    Ok(LogControl { handle: Some(handle), state: Arc::new(Mutex::new(state)), backlog })
}

/// Says why this process ends, on standard error; if that is the journal, as
/// errors (sd-daemon(3)). No entry of its own with fields: the journal looks up
/// whose those are when it reads them, and this process may be gone by then. Waits no
/// longer than [`FLUSH`] for a reader that stands still.
pub fn fatal(why: &str, env: impl Fn(&str) -> Option<OsString>) {
    let level = if journal::is_stderr(env) { "<3>" } else { "" };
    let mut lines = String::new();
    for (number, line) in why.lines().enumerate() {
        let name = if number == 0 { "pigeonhubd: " } else { "" };
        lines += &format!("{level}{name}{line}\n");
    }
    let (written, done) = std::sync::mpsc::channel();
    let writer = std::thread::Builder::new().spawn(move || {
        eprint!("{lines}");
        let _ = written.send(());
    });
    if writer.is_ok() {
        let _ = done.recv_timeout(FLUSH);
    }
}

fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    // A bare level is for the hub's own lines: the WebRTC crates report as
    // errors what is normal for them, such as a pair of addresses that leads nowhere.
    let own = match level.parse::<tracing::Level>() {
        Ok(_) => format!("pigeonhubd={level}"),
        Err(_) => level.to_owned(),
    };
    EnvFilter::builder().parse(own).map_err(|error| LevelError::new(level, error))
}

/// Log entries of this process that were dropped, for those before them were not taken in time.
pub fn dropped() -> u64 {
    BACKLOG.get().map_or(0, Backlog::dropped)
}

impl LogControl {
    /// What waits to be written, and what was dropped.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The configuration has another level: it counts from now on.
    pub fn configure(&self, level: &str) -> Result<(), LevelError> {
        self.set(level, None)?;
        self.lock().configured = level.to_owned();
        Ok(())
    }

    /// Another level from now on, or for that long; then the configured one is back.
    /// Must be called within a tokio runtime.
    pub fn set(&self, level: &str, for_long: Option<Duration>) -> Result<(), LevelError> {
        self.apply(level)?;
        let back = for_long.map(|for_long| {
            let control = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(for_long).await;
                let configured = control.lock().configured.clone();
                // It was a level before.
                if control.apply(&configured).is_ok() {
                    tracing::info!(level = configured, "the configured log level is back");
                }
            })
        });
        if let Some(before) = std::mem::replace(&mut self.lock().back, back) {
            before.abort();
        }
        Ok(())
    }

    fn apply(&self, level: &str) -> Result<(), LevelError> {
        let filter = filter(level)?;
        match &self.handle {
            Some(handle) => handle.reload(filter).map_err(|error| LevelError::new(level, error)),
            None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fields on a line, without those that are for the journal alone.
struct Plain;

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, begun: false, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    begun: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn put(&mut self, text: fmt::Arguments<'_>) {
        let space = if std::mem::replace(&mut self.begun, true) { " " } else { "" };
        self.result = self.result.and_then(|()| self.writer.write_fmt(format_args!("{space}{text}")));
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.put(format_args!("{}", Printable(value))),
            name if name == "MESSAGE_ID" || name.starts_with("PIGEONHUB_") => {}
            name => self.put(format_args!("{name}={}", Printable(value))),
        }
    }
}

/// No control characters but line ends and tabs, for the sake of the terminal.
struct Printable<'a>(&'a dyn fmt::Debug);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Clean<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Clean<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for part in text.split_inclusive(|c: char| c.is_control() && c != '\n' && c != '\t') {
                    match part.char_indices().next_back() {
                        Some((at, c)) if c.is_control() && c != '\n' && c != '\t' => {
                            self.0.write_str(part.get(..at).unwrap_or_default())?;
                            self.0.write_str("\u{fffd}")?;
                        }
                        _ => self.0.write_str(part)?,
                    }
                }
                Ok(())
            }
        }
        fmt::Write::write_fmt(&mut Clean(f), format_args!("{:?}", self.0))
    }
}
