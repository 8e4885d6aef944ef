//! A whole hub: everything that runs, put together and taken apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::paths::Surroundings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::channel::{ChannelConfig, IceServer};
use crate::connections::{CHANNEL_QUEUE, Connections};
use crate::control::{self, ControlError};
use crate::dial::Dialler;
use crate::driver::{Clock, Driver};
use crate::edge::Edge;
use crate::http::Site;
use crate::keys::{self, KeyError};
use crate::listener::{self, ListenError};
use crate::options::EX_CONFIG;
use crate::paths::{self, PathError, StateDir};

/// How long leaving may take: telling everyone, and closing every connection.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// No control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Signals cannot be waited for.
    #[error("cannot wait for SIGTERM and SIGINT: {0}")]
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
            Self::Key(KeyError::Named { .. }) => EX_CONFIG,
            _ => 1,
        }
    }
}

/// A running hub. Dropping it ends everything at once.
pub struct Daemon {
    hub_id: Id,
    addresses: Vec<SocketAddr>,
    ready: watch::Receiver<bool>,
    drain: watch::Sender<bool>,
    driver: JoinHandle<()>,
    listener: JoinHandle<()>,
    control: JoinHandle<()>,
    // Locked as long as the hub runs.
    _state: StateDir,
}

impl Daemon {
    /// Starts a hub. If it cannot, nothing is left running. Must be called
    /// within a tokio runtime.
    pub fn start(config: &Config, around: &Surroundings) -> Result<Self, DaemonError> {
        // First of all: that the port is taken says more than that its state folder is.
        let listeners = listener::bind(&config.listen.host.addresses(), config.listen.port)?;
        let state = StateDir::open(paths::state_dir(config, around))?;
        let hub_key = keys::hub_key(&state)?;
        let mesh_key = keys::mesh_key(config, around)?;
        let control = control::bind(&paths::make_runtime_dir(config, around)?)?;
        let addresses: Vec<_> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();

        let clock = Clock::start();
        let hub = Hub::new(config.settings(), Arc::new(hub_key), mesh_key, rand::random(), clock.now());
        let hub_id = hub.id();
        info!(%hub_id, "pigeonhubd {}", env!("CARGO_PKG_VERSION"));
        for address in &addresses {
            info!(%address, "listening");
        }
        let (edge, intake) = Edge::new();
        let (channel_events, channel_intake) = mpsc::channel(CHANNEL_QUEUE);
        let dialler = Dialler::new(edge.clone(), config.listen.max_message_size);
        let connections = Connections::new(dialler, config.listen.host, channels(config), channel_events);
        let (drain, draining) = watch::channel(false);
        let (ready_sender, ready) = watch::channel(false);
        let driver = Driver::new(hub, clock, intake, connections, channel_intake, ready_sender);

        let site = Arc::new(site(config, edge.clone()));
        let max_connections = config.listen.max_connections;
        Ok(Self {
            hub_id,
            addresses,
            ready,
            drain,
            driver: tokio::spawn(driver.run(draining.clone())),
            listener: tokio::spawn(listener::serve(listeners, site, max_connections, draining)),
            control: tokio::spawn(control::serve(control, edge)),
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

    /// Turns true when the mesh is ready for the first time.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Waits for a fault: a hub does not end by itself.
    async fn fault(&mut self) {
        let _ = (&mut self.driver).await;
    }

    /// Leaves: accepts nobody any more, tells everyone, closes everything, and
    /// gives up after [`DRAIN_TIMEOUT`].
    pub async fn stop(mut self) -> Result<(), DaemonError> {
        self.drain.send_replace(true);
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let ended = timeout_at(deadline, &mut self.driver).await;
        if matches!(ended, Ok(Err(_))) {
            return Err(DaemonError::Fault);
        }
        if ended.is_err() || timeout_at(deadline, &mut self.listener).await.is_err() {
            warn!("not everyone was told within {} s; leaving nevertheless", DRAIN_TIMEOUT.as_secs());
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

/// Runs a hub until SIGTERM or SIGINT, then leaves. A second signal ends it at once.
pub async fn run(config: &Config, around: &Surroundings) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let in_mesh = config.hub.enabled;
    let mut daemon = Daemon::start(config, around)?;
    let mut ready = daemon.ready();
    let mut notified = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = daemon.fault() => return Err(DaemonError::Fault),
            _ = ready.wait_for(|ready| *ready || !in_mesh), if !notified => {
                notified = true;
                notify_ready();
            }
        }
    }
    info!("leaving");
    tokio::select! {
        stopped = daemon.stop() => stopped,
        _ = terminate.recv() => Err(DaemonError::Hurried),
        _ = interrupt.recv() => Err(DaemonError::Hurried),
    }
}

/// Tells systemd, if it waits for it.
fn notify_ready() {
    if std::env::var_os("NOTIFY_SOCKET").is_some()
        && let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready])
    {
        warn!(%error, "systemd could not be told that this hub is ready");
    }
}

fn site(config: &Config, edge: Edge) -> Site {
    let cors_origin = HeaderValue::from_str(&config.listen.cors_origin);
    Site {
        edge,
        cors_origin: cors_origin.unwrap_or(HeaderValue::from_static("*")),
        hub_enabled: config.hub.enabled,
        namespace: config.mesh.namespace.clone(),
        max_message_size: config.listen.max_message_size,
    }
}

fn channels(config: &Config) -> ChannelConfig {
    let ice_servers = config.mesh.ice_servers.iter().map(|server| IceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    });
    ChannelConfig { ice_servers: ice_servers.collect(), ..ChannelConfig::default() }
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
