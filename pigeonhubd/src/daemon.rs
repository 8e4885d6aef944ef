//! A whole hub: everything that runs, put together and taken apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::config::{Config, WhenAlone};
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::paths::Surroundings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::admission::Admission;
use crate::channel::{ChannelConfig, IceServer, Ports, Wish};
use crate::connections::{CHANNEL_QUEUE, Connections};
use crate::control::{self, ControlError, Desk};
use crate::credentials::{CredentialError, Credentials};
use crate::dial::Dialler;
use crate::driver::{Clock, Driver, Inlets};
use crate::edge::Edge;
use crate::event_log::EventLog;
use crate::events::Events;
use crate::http::{Cors, MAX_AGE, Pages, Site};
use crate::inherit::Inherited;
use crate::journal;
use crate::key_before::KeyBefore;
use crate::keys::{self, KeyError};
use crate::listener::{self, ListenError, Listening, Live};
use crate::logging::LogControl;
use crate::monitor::{self, MonitorError};
use crate::options::EX_CONFIG;
use crate::paths::{self, PathError, StateDir};
use crate::reload::{CHANGE_QUEUE, Load, Outlets, Reloader};
use crate::remembered::Keeper;
use crate::service::{Service, StartRule, Supervisor};

/// How long leaving may take beyond `listen.drain_timeout`: telling the other
/// hubs, and closing every connection.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a hub did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A folder that cannot be used.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate, key or token file that cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// No place for metrics.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// Signals cannot be waited for.
    #[error("cannot wait for SIGTERM, SIGINT and SIGHUP: {0}")]
    Signals(std::io::Error),
    /// The driver ended by a panic. Its message was written when it happened.
    #[error("a fault in pigeonhubd ended the hub; please report the lines above")]
    Fault,
    /// A second signal came while the hub was leaving.
    #[error("stopped at once by a second signal; peers and hubs were not told")]
    Hurried,
}

impl DaemonError {
    /// What to exit with: [`EX_CONFIG`] if the configuration is to blame, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Key(KeyError::Named { .. }) | Self::Credentials(_) => EX_CONFIG,
            _ => 1,
        }
    }
}

/// What a hub has from those that started it.
#[derive(Default)]
pub struct Origin {
    /// Sockets from systemd.
    pub inherited: Inherited,
    /// Systemd, which is told how it is.
    pub service: Arc<Service>,
    /// What changes the log level.
    pub log: LogControl,
    /// What reads the configuration again. Without it a reload finds it unchanged.
    pub load: Option<Load>,
}

/// A running hub. Dropping it ends everything at once.
pub struct Daemon {
    hub_id: Id,
    addresses: Vec<SocketAddr>,
    reloader: Arc<Reloader>,
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
    listener: JoinHandle<()>,
    control: JoinHandle<()>,
    // Locked as long as the hub runs.
    _state: StateDir,
}

impl Daemon {
    /// Starts a hub that nobody handed anything over to. If it cannot, nothing
    /// is left running. Must be called within a tokio runtime.
    pub fn start(config: &Config, around: &Surroundings) -> Result<Self, DaemonError> {
        Self::start_from(config, around, Origin::default())
    }

    /// As [`Self::start`], with what it was handed over.
    pub fn start_from(config: &Config, around: &Surroundings, origin: Origin) -> Result<Self, DaemonError> {
        let Origin { inherited, service, log, load } = origin;
        let mut config = config.clone();
        config.listen.host = config.listen.host.resolved(listener::look_up)?;
        let config = &config;
        let credentials = Credentials::load(config)?;
        // First of all that may be taken: that the port is taken says more than that its state folder is.
        let addresses = config.listen.host.addresses();
        let listening = listener::bind_or_take(&addresses, config.listen.port, inherited, &service)?;
        let state = StateDir::open(paths::state_dir(config, around))?;
        let hub_key = keys::hub_key(&state)?;
        let mesh_key = keys::mesh_key(config, around)?;
        let key_before = keys::mesh_key_before(config, around)?;
        let control = control::bind(&paths::make_runtime_dir(config, around)?)?;
        let monitoring = monitor::bind(config)?;
        let listeners = keep(listening, &service);
        let addresses: Vec<_> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();

        let clock = Clock::start();
        let settings = config.settings();
        let keeper = Keeper::open(state.path(), &settings.namespace);
        let mut hub = Hub::new(settings, Arc::new(hub_key), mesh_key.clone(), rand::random(), clock.now());
        hub.remember(keeper.urls());
        let kept_keys = KeyBefore::new(state.path(), keys::is_in_a_file(config, around));
        let kept = kept_keys.in_use(&mesh_key, clock.now().unix_ms);
        let key_before = key_before.map(|key| (key, Duration::MAX)).or(kept);
        if let Some((key, for_long)) = key_before {
            hub.accept_key(key, for_long);
        }
        let hub_id = hub.id();
        info!("pigeonhubd {}, hub {hub_id}", env!("CARGO_PKG_VERSION"));
        for address in &addresses {
            info!("listening on {address}");
        }
        control::warn_of_unseen(config);
        let config = Arc::new(config.clone());
        let (edge, intake) = Edge::new();
        let (stop, stopping) = watch::channel(false);
        let (live_sender, live) = watch::channel(live(&config, &credentials, &edge));
        let (changes, change_intake) = mpsc::channel(CHANGE_QUEUE);
        let events = Arc::new(Events::default());
        let to_service = Arc::clone(&service);
        let outlets = Outlets {
            changes,
            live: live_sender,
            log,
            service: to_service,
            events: Arc::clone(&events),
            keys: kept_keys,
        };
        let load = load.unwrap_or_else(|| {
            let config = Arc::clone(&config);
            Arc::new(move || Ok(Config::clone(&config)))
        });
        let (running, again) = (Arc::clone(&config), edge.clone());
        let secrets = (mesh_key, credentials.clone());
        let reloader = Arc::new(Reloader::new(load, around.clone(), running, secrets, again, outlets));
        let desk = Desk::new(edge.clone(), Arc::clone(&events), Arc::clone(&reloader));
        let watcher = Arc::clone(&reloader);

        let (running, surroundings) = (Arc::clone(&config), around.clone());
        let bind_again = move || {
            let folder =
                paths::make_runtime_dir(&running, &surroundings).map_err(|error| error.to_string())?;
            control::bind(&folder).map_err(|error| error.to_string())
        };
        let monitor_site = site(&config, &Credentials::default(), edge.clone());
        let (channel_events, channel_intake) = mpsc::channel(CHANNEL_QUEUE);
        let mut dialler = Dialler::new(edge, config.listen.max_message_size);
        dialler.set_roots(credentials.client.clone());
        let connections = Connections::new(dialler, channels(&config), channel_events);
        let inlets =
            Inlets { intake, channel_events: channel_intake, changes: change_intake, stop: stopping.clone() };
        let supervisor = Supervisor::new(Arc::clone(&service), start_rule(&config));
        let log = EventLog::new(events);
        let drain_timeout = config.listen.drain_timeout;
        let driver =
            Driver::new(hub, clock, inlets, connections, log, supervisor, drain_timeout).keeping(keeper);
        let driver = driver.listening(addresses.clone());
        Ok(Self {
            hub_id,
            addresses,
            reloader,
            service,
            stop,
            driver: tokio::spawn(driver.run()),
            listener: tokio::spawn(listener::serve(listeners, live, stopping)),
            control: tokio::spawn(async move {
                tokio::join!(
                    control::serve(control, desk, bind_again),
                    monitor::serve(monitoring, monitor_site),
                    watcher.watch()
                );
            }),
            _state: state,
        })
    }

    /// This hub's id.
    pub fn hub_id(&self) -> Id {
        self.hub_id
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What reads the configuration again.
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Waits for a fault: a hub does not end by itself, nor does any part of it.
    async fn fault(&mut self) {
        let _ = tokio::select! {
            ended = &mut self.driver => ended,
            ended = &mut self.listener => ended,
            ended = &mut self.control => ended,
        };
    }

    /// Leaves: accepts nobody any more, tells everyone, closes everything, and
    /// gives up [`LEAVE_TIMEOUT`] after the time that clients are given.
    pub async fn stop(mut self) -> Result<(), DaemonError> {
        let patience = self.reloader.config().listen.drain_timeout + LEAVE_TIMEOUT;
        let deadline = Instant::now() + patience;
        self.service.stopping();
        self.stop.send_replace(true);
        let ended = timeout_at(deadline, &mut self.driver).await;
        if matches!(ended, Ok(Err(_))) {
            return Err(DaemonError::Fault);
        }
        if ended.is_err() || timeout_at(deadline, &mut self.listener).await.is_err() {
            let patience = humantime::format_duration(patience);
            warn!("not everyone was told within {patience}; leaving nevertheless");
        }
        self.control.abort();
        // So that the control socket is gone when this returns.
        let _ = (&mut self.control).await;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for task in [&self.driver, &self.listener, &self.control] {
            task.abort();
        }
    }
}

/// Runs a hub until SIGTERM or SIGINT, then leaves; SIGHUP reloads. A second
/// SIGTERM or SIGINT ends it at once.
pub async fn run(config: &Config, around: &Surroundings, origin: Origin) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    // Rotators of logs send these, by habit. They mean nothing here, but would end the process.
    let _first = signal(SignalKind::user_defined1()).map_err(DaemonError::Signals)?;
    let _second = signal(SignalKind::user_defined2()).map_err(DaemonError::Signals)?;
    let mut config = config.clone();
    config.listen.host = tokio::select! {
        host = listener::named(config.listen.host, listener::look_up) => host?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mut daemon = Daemon::start_from(&config, around, origin)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                let reloader = daemon.reloader();
                // Its outcome is in the log.
                tokio::spawn(async move { drop(reloader.reload(false).await) });
            }
            () = daemon.fault() => return Err(DaemonError::Fault),
        }
    }
    info!(
        MESSAGE_ID = journal::message_id(journal::LEAVING),
        PIGEONHUB_EVENT = journal::LEAVING,
        "{}: leaving the mesh and closing clients",
        journal::LEAVING
    );
    tokio::select! {
        stopped = daemon.stop() => stopped,
        _ = terminate.recv() => Err(DaemonError::Hurried),
        _ = interrupt.recv() => Err(DaemonError::Hurried),
    }
}

/// Lets systemd keep what is new among the listening sockets.
fn keep(listening: Listening, service: &Service) -> Vec<TcpListener> {
    let Listening { listeners, new } = listening;
    service.keep(listeners.iter().rev().take(new));
    listeners
}

/// What a configuration means to connections that are accepted.
pub(crate) fn live(config: &Config, credentials: &Credentials, edge: &Edge) -> Live {
    Live {
        site: Arc::new(site(config, credentials, edge.clone())),
        max_connections: config.listen.max_connections,
    }
}

/// When a hub with that configuration counts as started.
pub(crate) fn start_rule(config: &Config) -> StartRule {
    let settings = config.settings();
    let dials = settings.hub_enabled && settings.auto_connect;
    let bootstraps = if dials { settings.bootstrap_hubs.len() } else { 0 };
    StartRule { bootstraps, wait: config.mesh.ready_when_alone == WhenAlone::Wait }
}

pub(crate) fn site(config: &Config, credentials: &Credentials, edge: Edge) -> Site {
    Site {
        edge,
        cors: Cors::new(&config.listen.cors_origin),
        hub_enabled: config.hub.enabled,
        namespace: config.mesh.namespace.clone(),
        max_message_size: config.listen.max_message_size,
        pages: if config.metrics.public { Pages::PublicWithMetrics } else { Pages::Public },
        tls: credentials.server.clone(),
        keep_alive: config.listen.keep_alive,
        max_age: MAX_AGE,
        admission: Admission::new(config, credentials.tokens.clone(), credentials.ticket_keys.clone()),
    }
}

/// What a configuration means to data channels.
pub(crate) fn channels(config: &Config) -> ChannelConfig {
    let ice_servers = config.mesh.ice_servers.iter().map(|server| IceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    let wish = Wish {
        host: config.listen.host.clone(),
        networks: config.mesh.addresses.clone(),
        interfaces: config.mesh.interfaces.clone(),
    };
    let ports = Ports::new(config.mesh.udp_ports);
    ChannelConfig { ice_servers: ice_servers.collect(), wish, ports, ..ChannelConfig::default() }
}

/// Allows this process as many open files as its hard limit says: each
/// connection is one. Returns how many.
pub fn raise_file_limit() -> nix::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
