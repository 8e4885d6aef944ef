//! The configuration: from text to checked values, each with its origin.
//!
//! No file is touched here. The caller lays sources over each other, the
//! weakest first, and then has the whole checked:
//!
//! ```
//! use pigeonhub_proto::config::{Config, find};
//!
//! let mut config = Config::default();
//! config.apply_file("/etc/pigeonhubd.toml", "[mesh]\nmax_peers = 4\n")?;
//! config.apply_env(find("listen.port").expect("a key"), "PORT", "3001")?;
//! let config = config.checked()?;
//! assert_eq!((config.listen.port, config.mesh.max_peers), (3001, 4));
//! # Ok::<(), pigeonhub_proto::config::ConfigError>(())
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | `keys` | the table of all keys |
//! | `kind` | what a key can take |
//! | `setting` | how a value of each type is read and written |
//! | `words`, `addresses`, `channels`, `ice` | texts that must be of a certain form |
//! | `file` | a TOML file's keys, with their places |
//! | `error` | origins, and messages that name them |
//! | `example`, `manual` | the commented example file, the manual page |
//! | `running` | what may change while a hub runs |

mod addresses;
mod channels;
mod error;
mod example;
mod file;
mod ice;
mod keys;
mod kind;
mod manual;
mod running;
mod setting;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use addresses::{ForwardedHeader, WebOrigin, cors_list};
pub use channels::{InterfacePattern, UdpPorts};
pub use error::{ConfigError, Origin, Place, Problem};
pub use example::example;
pub use ice::IceServer;
pub use keys::{Flag, KEYS, Key, SECTIONS, find, sections};
pub use kind::{Check, Kind};
pub use manual::manual;
pub use words::{Host, HubUrl, LogLevel, MetricsListen, Uid, WhenAlone};

use crate::paths;
use crate::settings::{AddressRange, Settings};
use setting::Raw;

/// The whole configuration. What each field means, its range, flag and
/// variable are in [`KEYS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[hub]`
    pub hub: Hub,
    /// `[mesh]`
    pub mesh: Mesh,
    /// `[bootstrap]`
    pub bootstrap: Bootstrap,
    /// `[control]`
    pub control: Control,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[log]`
    pub log: Log,
    /// If none, see [`paths::runtime_dir`].
    pub runtime_dir: Option<PathBuf>,
    /// If none, see [`paths::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// Of the keys that somebody set.
    origins: BTreeMap<&'static str, Origin>,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub port: u16,
    pub host: Host,
    pub max_connections: usize,
    /// 0 for no limit.
    pub max_connections_per_address: u32,
    /// 0 for no limit.
    pub max_connects_per_second: u32,
    /// 0 for no limit.
    pub max_messages_per_second: u32,
    /// In bytes.
    pub max_message_size: usize,
    pub max_candidates: usize,
    pub peer_timeout: Duration,
    pub cleanup_interval: Duration,
    pub cors_origin: String,
    /// If empty, every one.
    pub allowed_origins: Vec<WebOrigin>,
    pub trusted_proxies: Vec<AddressRange>,
    pub forwarded_header: ForwardedHeader,
    pub drain_timeout: Duration,
    pub keep_alive: Duration,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

/// `[auth]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    pub token_file: Option<PathBuf>,
    pub ticket_keys: Option<PathBuf>,
}

/// `[hub]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    pub enabled: bool,
}

/// `[mesh]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    pub namespace: String,
    pub max_peers: usize,
    pub min_peers: usize,
    pub ready_when_alone: WhenAlone,
    pub migration_delay: Duration,
    pub signal_timeout: Duration,
    pub presence_grace: Duration,
    pub key_file: Option<PathBuf>,
    pub legacy_hubs: Vec<AddressRange>,
    pub advertise: Option<String>,
    /// With `interfaces` empty too: what `listen.host` says.
    pub addresses: Vec<AddressRange>,
    pub interfaces: Vec<InterfacePattern>,
    /// If none, the system's.
    pub udp_ports: Option<UdpPorts>,
    pub ice_servers: Vec<IceServer>,
}

/// `[bootstrap]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// As configured; [`Config::settings`] leaves out this hub itself.
    pub hubs: Vec<HubUrl>,
    pub auto_connect: bool,
    pub reconnect_interval: Duration,
    pub max_reconnect_attempts: u32,
}

/// `[control]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub admins: Vec<Uid>,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub listen: MetricsListen,
    pub public: bool,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
}

impl Default for Config {
    fn default() -> Self {
        let hub = Settings::default();
        Self {
            listen: Listen {
                port: hub.port,
                host: Host::Any,
                max_connections: hub.max_connections,
                max_connections_per_address: 1000,
                max_connects_per_second: 100,
                max_messages_per_second: 1000,
                max_message_size: 1 << 20,
                max_candidates: hub.max_candidates,
                peer_timeout: hub.peer_timeout,
                cleanup_interval: hub.cleanup_interval,
                cors_origin: String::from("*"),
                allowed_origins: Vec::new(),
                trusted_proxies: Vec::new(),
                forwarded_header: ForwardedHeader::default(),
                drain_timeout: Duration::from_secs(5),
                keep_alive: Duration::from_secs(75),
            },
            tls: Tls::default(),
            auth: Auth::default(),
            hub: Hub { enabled: hub.hub_enabled },
            mesh: Mesh {
                namespace: hub.namespace,
                max_peers: hub.max_peers,
                min_peers: hub.min_peers,
                ready_when_alone: WhenAlone::Ready,
                migration_delay: hub.migration_delay,
                signal_timeout: hub.signal_timeout,
                presence_grace: hub.presence_grace,
                key_file: None,
                legacy_hubs: hub.legacy_hubs,
                advertise: hub.advertise,
                addresses: Vec::new(),
                interfaces: Vec::new(),
                udp_ports: None,
                ice_servers: Vec::new(),
            },
            bootstrap: Bootstrap {
                hubs: vec![HubUrl::first_on_this_machine()],
                auto_connect: hub.auto_connect,
                reconnect_interval: hub.reconnect_interval,
                max_reconnect_attempts: hub.max_reconnect_attempts,
            },
            control: Control::default(),
            metrics: Metrics::default(),
            log: Log { level: LogLevel::Info },
            runtime_dir: None,
            state_dir: None,
            origins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Lays the value of environment variable `name` over what is set so far.
    /// An empty one counts as not set, and so does 0 where it is no value: that
    /// is how the JavaScript hub reads them.
    pub fn apply_env(
        &mut self,
        key: &'static Key,
        name: &'static str,
        value: &str,
    ) -> Result<(), ConfigError> {
        let unset = value.is_empty()
            || matches!(key.kind, Kind::Count { min: 1.., .. }) && value.trim().parse() == Ok(0u64);
        if unset { Ok(()) } else { self.apply(key, Raw::Text(value), Origin::Env(name)) }
    }

    /// Lays the values of a flag over what is set so far: one for a plain
    /// flag, any number for one that may be repeated, none for one that turns off.
    pub fn apply_flag(
        &mut self,
        key: &'static Key,
        flag: Flag,
        values: &[String],
    ) -> Result<(), ConfigError> {
        let raw = match flag {
            Flag::Off(_) => Raw::Text("false"),
            Flag::Repeat(..) => Raw::Texts(values),
            Flag::Value(..) => Raw::Text(values.last().map_or("", String::as_str)),
        };
        self.apply(key, raw, Origin::Flag(flag.name()))
    }

    /// A value that could not even be read as text.
    pub fn not_text(key: &'static Key, origin: Origin) -> ConfigError {
        let problem = Problem::Unfit { found: String::from("not UTF-8"), expected: key.kind.expected() };
        ConfigError::new(origin, key.name, "", problem)
    }

    fn apply(&mut self, key: &'static Key, raw: Raw<'_>, origin: Origin) -> Result<(), ConfigError> {
        key.read(self, raw).map_err(|fault| {
            let whole = match raw {
                Raw::Text(text) => text.to_owned(),
                _ => String::new(),
            };
            let text = fault.text.unwrap_or(whole);
            let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            let shown = if number { text } else { setting::quoted(&text) };
            ConfigError::new(origin.clone(), key.name, &shown, *fault.problem)
        })?;
        self.set_origin(key, origin);
        Ok(())
    }

    fn set_origin(&mut self, key: &'static Key, origin: Origin) {
        self.origins.insert(key.name, origin);
    }

    /// Where the value of a key came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// Checks what only the whole can show. Call it after the last source.
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        let (min, max) = (self.mesh.min_peers, self.mesh.max_peers);
        if min > max {
            let problem = Problem::Above {
                other: format!("mesh.max_peers = {max}"),
                origin: self.origin("mesh.max_peers").clone(),
                expected: format!("1 to {max}, or max_peers larger"),
            };
            let origin = self.origin("mesh.min_peers").clone();
            return Err(ConfigError::new(origin, "mesh.min_peers", &min.to_string(), problem));
        }
        for (name, set, other, other_set) in [
            ("tls.cert", self.tls.cert.is_some(), "tls.key", self.tls.key.is_some()),
            ("tls.key", self.tls.key.is_some(), "tls.cert", self.tls.cert.is_some()),
        ] {
            if set && !other_set {
                let problem = Problem::Without { other };
                return Err(ConfigError::new(self.origin(name).clone(), name, "", problem));
            }
        }
        // systemd names all folders of a unit, parted by colons.
        let port = self.listen.port;
        for (name, dir) in [("runtime_dir", &mut self.runtime_dir), ("state_dir", &mut self.state_dir)] {
            if let (Some(Origin::Env(_)), Some(dirs)) = (self.origins.get(name), &*dir) {
                *dir = paths::of_instance(&dirs.to_string_lossy(), port);
            }
        }
        self.check_socket_path()?;
        Ok(self)
    }

    fn check_socket_path(&self) -> Result<(), ConfigError> {
        let Some(dir) = &self.runtime_dir else { return Ok(()) };
        let length = dir.as_os_str().len();
        if length <= paths::LONGEST_RUNTIME_DIR {
            return Ok(());
        }
        let problem = Problem::Unfit {
            found: format!("{length} bytes"),
            expected: format!(
                "at most {}, so that the path of the control socket in it fits a socket address",
                paths::LONGEST_RUNTIME_DIR
            ),
        };
        Err(ConfigError::new(self.origin("runtime_dir").clone(), "runtime_dir", "", problem))
    }

    /// What a hub needs to know of it.
    pub fn settings(&self) -> Settings {
        let Self { listen, hub, mesh, bootstrap, tls, .. } = self;
        Settings {
            port: listen.port,
            host: match &listen.host {
                Host::Any => Settings::default().host,
                host => host.to_string(),
            },
            max_connections: listen.max_connections,
            peer_timeout: listen.peer_timeout,
            cleanup_interval: listen.cleanup_interval,
            hub_enabled: hub.enabled,
            namespace: mesh.namespace.clone(),
            max_peers: mesh.max_peers,
            min_peers: mesh.min_peers,
            migration_delay: mesh.migration_delay,
            advertise: mesh.advertise.clone(),
            tls: tls.cert.is_some(),
            legacy_hubs: mesh.legacy_hubs.clone(),
            bootstrap_hubs: self.other_hubs(),
            auto_connect: bootstrap.auto_connect,
            reconnect_interval: bootstrap.reconnect_interval,
            max_reconnect_attempts: bootstrap.max_reconnect_attempts,
            max_candidates: listen.max_candidates,
            signal_timeout: mesh.signal_timeout,
            presence_grace: mesh.presence_grace,
        }
    }

    /// The bootstraps without those that would lead back here, and each once.
    fn other_hubs(&self) -> Vec<String> {
        let Listen { port, host, .. } = &self.listen;
        let own = |url: &HubUrl| {
            url.address().is_some_and(|(ip, to)| to == *port && ip.is_loopback() && host.takes(ip))
        };
        let mut hubs: Vec<String> = Vec::new();
        for hub in self.bootstrap.hubs.iter().filter(|url| !own(url)) {
            if !hubs.iter().any(|known| known == hub.as_str()) {
                hubs.push(hub.as_str().to_owned());
            }
        }
        hubs
    }
}
