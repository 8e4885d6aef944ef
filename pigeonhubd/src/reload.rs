//! A new configuration for a running hub: read, checked, compared, and then
//! applied as a whole or not at all.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{ConfigChange, ConfigValue, OnDisk, ReloadReport};
use pigeonhub_proto::mesh::identity::MeshKey;
use pigeonhub_proto::paths::{self, Surroundings};
use tokio::sync::{mpsc, oneshot, watch};

use crate::control;
use crate::credentials::{CredentialError, Credentials};
use crate::daemon::{channels, live, start_rule};
use crate::driver::Change;
use crate::edge::Edge;
use crate::events::Events;
use crate::journal;
use crate::key_before::KeyBefore;
use crate::keys::{self, KeyError};
use crate::listener::Live;
use crate::logging::{LevelError, LogControl};
use crate::options::LoadError;
use crate::service::Service;

/// Reads the configuration again, from wherever it was read.
pub type Load = Arc<dyn Fn() -> Result<Config, LoadError> + Send + Sync>;

/// Configurations that may wait for the driver. They come one at a time.
pub const CHANGE_QUEUE: usize = 1;

/// How often the files are looked at when nobody asks for it.
const LOOK: Duration = Duration::from_secs(30);

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A certificate, key or token file cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The mesh key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The level cannot be set.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// Reading it did not end well.
    #[error("reading the configuration failed: {0}")]
    Fault(String),
    /// The driver is gone.
    #[error("the hub is shutting down")]
    Gone,
}

/// What is in force.
struct InForce {
    config: Arc<Config>,
    key: MeshKey,
    credentials: Credentials,
}

/// What a reload needs.
pub struct Reloader {
    load: Load,
    around: Surroundings,
    edge: Edge,
    changes: mpsc::Sender<Change>,
    live: watch::Sender<Live>,
    log: LogControl,
    service: Arc<Service>,
    events: Arc<Events>,
    keys: KeyBefore,
    // Held for a copy only.
    in_force: Mutex<InForce>,
    // Held for a whole reload: one at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Where a new configuration goes.
pub struct Outlets {
    /// To the driver.
    pub changes: mpsc::Sender<Change>,
    /// To the listener.
    pub live: watch::Sender<Live>,
    /// To the log.
    pub log: LogControl,
    /// To systemd, that it happens.
    pub service: Arc<Service>,
    /// To whoever follows events.
    pub events: Arc<Events>,
    /// To the next run: the mesh key before.
    pub keys: KeyBefore,
}

impl Reloader {
    /// With what a hub was started with.
    pub fn new(
        load: Load,
        around: Surroundings,
        config: Arc<Config>,
        (key, credentials): (MeshKey, Credentials),
        edge: Edge,
        outlets: Outlets,
    ) -> Self {
        let Outlets { changes, live, log, service, events, keys } = outlets;
        let (in_force, turn) =
            (Mutex::new(InForce { config, key, credentials }), tokio::sync::Mutex::default());
        Self { load, around, edge, changes, live, log, service, events, keys, in_force, turn }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// The log, whose level may be changed for a while.
    pub fn log(&self) -> &LogControl {
        &self.log
    }

    /// The configuration in force, key by key.
    pub fn values(&self) -> Vec<ConfigValue> {
        let config = self.config();
        let value = |key: &pigeonhub_proto::config::Key| ConfigValue {
            key: key.name.to_owned(),
            value: key.show(&config),
            origin: config.source(key.name),
        };
        pigeonhub_proto::config::KEYS.iter().map(value).collect()
    }

    /// Reads the configuration again and applies it, or only tells what would
    /// change. Every outcome but that of a dry run is logged.
    ///
    /// # Errors
    /// What is wrong with it; then nothing was changed.
    pub async fn reload(&self, dry_run: bool) -> Result<ReloadReport, ReloadError> {
        let _turn = self.turn.lock().await;
        if dry_run {
            let read = self.read().await;
            self.note(&read);
            return Ok(read?.report);
        }
        self.service.reloading();
        let outcome = self.apply().await;
        // As it is now: what only a restart changes still waits.
        self.note(&self.read().await);
        self.service.reloaded();
        let counters = self.edge.counters();
        if outcome.is_ok() { &counters.reloads_applied } else { &counters.reloads_refused }.one();
        match &outcome {
            Ok(report) => self.tell(journal::RELOADED, "changes", &log(report)),
            Err(error) => {
                let reason = error.to_string();
                // Below its first line it shows a line of the file.
                let first = reason.lines().next().unwrap_or_default();
                self.tell(journal::NOT_RELOADED, "reason", first);
                tracing::error!(
                    MESSAGE_ID = journal::message_id(journal::NOT_RELOADED),
                    PIGEONHUB_EVENT = journal::NOT_RELOADED,
                    PIGEONHUB_REASON = reason,
                    "{}: nothing was changed: {reason}",
                    journal::NOT_RELOADED
                );
            }
        }
        outcome
    }

    /// Looks at the files now and then, for ever: what was broken since the last reload, or waits for
    /// one, is told by the status and not only by the next start.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let _turn = self.turn.lock().await;
            self.note(&self.read().await);
        }
    }

    /// Keeps for the status how the configuration on disk is, and logs a fault that is a new one.
    fn note(&self, read: &Result<New, ReloadError>) {
        let on_disk = match read {
            Ok(new) => on_disk(new),
            Err(ReloadError::Gone) => return,
            // Below its first line it shows a line of the file.
            Err(error) => {
                let fault = error.to_string().lines().next().map(str::to_owned);
                Some(OnDisk { fault, ..OnDisk::default() })
            }
        };
        let told = |on_disk: &Option<OnDisk>| on_disk.as_ref().and_then(|it| it.fault.clone());
        let fault = told(&on_disk);
        let before = told(&self.edge.counters().on_disk.set(on_disk));
        match (before, fault) {
            (before, Some(fault)) if before.as_ref() != Some(&fault) => {
                tracing::warn!("the configuration on disk is refused, and a restart would fail: {fault}");
            }
            (Some(_), None) => tracing::info!("the configuration on disk can be used again"),
            _ => {}
        }
    }

    /// Among the events.
    fn tell(&self, event: &str, field: &str, words: &str) {
        self.events.tell(event, [(field.to_owned(), words.into())].into_iter().collect());
    }

    async fn apply(&self) -> Result<ReloadReport, ReloadError> {
        let New { config, key, credentials, report, .. } = self.read().await?;
        let (done, applied) = oneshot::channel();
        let change = Change {
            settings: config.settings(),
            key: key.clone(),
            channels: channels(&config),
            roots: credentials.client.clone(),
            max_message_size: config.listen.max_message_size,
            drain_timeout: config.listen.drain_timeout,
            rule: start_rule(&config),
            done,
        };
        self.changes.send(change).await.map_err(|_| ReloadError::Gone)?;
        applied.await.map_err(|_| ReloadError::Gone)?;
        if report.changed.iter().any(|change| change.key == "log.level") {
            self.log.configure(config.log.level.as_str())?;
        }
        if report.mesh_key_changed {
            let (keys, key) = (self.keys.clone(), key.clone());
            // The driver has the key before already: this is for the next run.
            let _ = tokio::task::spawn_blocking(move || keys.in_use(&key, unix_ms())).await;
        }
        control::warn_of_unseen(&config);
        self.live.send_replace(live(&config, &credentials, &self.edge));
        *self.lock() = InForce { config: Arc::new(config), key, credentials };
        Ok(report)
    }

    /// Everything that can fail, without changing anything.
    async fn read(&self) -> Result<New, ReloadError> {
        let (load, around) = (Arc::clone(&self.load), self.around.clone());
        let (running, running_key, before) = {
            let in_force = self.lock();
            (Arc::clone(&in_force.config), in_force.key.clone(), in_force.credentials.clone())
        };
        let read = tokio::task::spawn_blocking(move || -> Result<New, ReloadError> {
            let config = load()?;
            let changed = config.changed(&running).map(|key| ConfigChange {
                key: key.name.to_owned(),
                old: key.show(&running),
                new: key.show(&config),
                needs_restart: key.needs_restart(),
            });
            let changed = changed.collect();
            let config = config.applied_to(&running);
            // A key that is not named and not there any more is not made anew: that would part the mesh.
            let key = keys::mesh_key_again(&config, &around)?;
            let key_gone = key.is_none().then(|| paths::mesh_key(config.listen.port, &around));
            let key = key.unwrap_or_else(|| running_key.clone());
            let credentials = Credentials::load(&config)?;
            let files_changed = credentials.changed(&before);
            let report = ReloadReport { changed, mesh_key_changed: key != running_key, files_changed };
            Ok(New { config, key, key_gone, credentials, report })
        });
        read.await.map_err(|error| ReloadError::Fault(error.to_string()))?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A configuration that may come into force.
struct New {
    config: Config,
    key: MeshKey,
    /// The mesh key's file, if it is not there any more.
    key_gone: Option<PathBuf>,
    credentials: Credentials,
    report: ReloadReport,
}

/// What the status tells of a configuration that can be used; nothing if it is in force.
fn on_disk(New { key_gone, report, .. }: &New) -> Option<OnDisk> {
    let fault = key_gone.as_ref().map(|path| {
        let path = path.display();
        format!("{path}: the mesh key is gone; restore it, or a restart makes another, and parts this hub from the mesh")
    });
    let keys = |restart| {
        let changed = report.changed.iter().filter(move |change| change.needs_restart == restart);
        changed.map(|change| change.key.clone())
    };
    let key = report.mesh_key_changed.then(|| String::from("the mesh key"));
    let mut reload: Vec<String> =
        keys(false).chain(report.files_changed.iter().cloned()).chain(key).collect();
    // A key that names another file has changed together with what the file holds.
    reload.dedup();
    let on_disk = OnDisk { fault, restart: keys(true).collect(), reload };
    (on_disk != OnDisk::default()).then_some(on_disk)
}

/// Logs what changed, and returns it in words. The values are the configuration's
/// own; those that are secret are not among them.
fn log(report: &ReloadReport) -> String {
    let mut words: Vec<String> = Vec::new();
    for change in &report.changed {
        let when = if change.needs_restart { " (needs a restart)" } else { "" };
        words.push(format!("{} = {}, was {}{when}", change.key, change.new, change.old));
    }
    if report.mesh_key_changed {
        words.push(String::from("another mesh key; the one before is accepted for a day"));
    }
    words.extend(report.files_changed.iter().map(|key| format!("another file {key}")));
    let words = if words.is_empty() { String::from("nothing changed") } else { words.join("; ") };
    tracing::info!(
        MESSAGE_ID = journal::message_id(journal::RELOADED),
        PIGEONHUB_EVENT = journal::RELOADED,
        PIGEONHUB_CHANGES = words,
        "{}: {words}",
        journal::RELOADED
    );
    words
}
