//! Every key there is: the one place that says what a key takes, which flag
//! and variable set it, and what it is for. The parser, the command line, the
//! example file and the manual are made from it; defaults are those of
//! [`Config::default`].

use std::time::Duration;

use super::Config;
use super::addresses::{self, ForwardedHeader, WebOrigin};
use super::channels::{InterfacePattern, UdpPorts};
use super::kind::Kind;
use super::setting::{Fault, Raw, Setting};
use super::words::{self as text, Host, HubUrl, LogLevel, MetricsListen, Uid, WhenAlone};
use crate::settings::AddressRange;

/// One key.
pub struct Key {
    /// With its section: `mesh.max_peers`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The flag that sets it, if any.
    pub flag: Option<Flag>,
    /// The environment variable that sets it, if any.
    pub env: Option<&'static str>,
    /// What it is for, in whole sentences.
    pub doc: &'static str,
    read: fn(&mut Config, Raw<'_>, &Kind) -> Result<(), Fault>,
    show: fn(&Config, &Kind) -> String,
}

/// How a flag sets a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `--flag VALUE`.
    Value(&'static str, &'static str),
    /// `--flag VALUE`, as often as one likes.
    Repeat(&'static str, &'static str),
    /// `--flag` sets it to false.
    Off(&'static str),
}

impl Flag {
    /// The flag with its dashes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Value(name, _) | Self::Repeat(name, _) | Self::Off(name) => name,
        }
    }
}

impl Key {
    /// The part before the dot; empty for a key outside sections.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part after the dot.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }

    /// Its value in `config`, as TOML; a credential is not shown.
    pub fn show(&self, config: &Config) -> String {
        (self.show)(config, &self.kind)
    }

    pub(super) fn read(&self, config: &mut Config, raw: Raw<'_>) -> Result<(), Fault> {
        (self.read)(config, raw, &self.kind)
    }
}

/// The key of that full name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The sections, in order.
pub fn sections() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|(section, _)| *section)
}

/// The sections and what each is for.
pub const SECTIONS: [(&str, &str); 9] = [
    ("listen", "What this hub offers to clients and other hubs, on one port for both."),
    ("tls", "TLS on the port for clients and hubs, and towards other hubs."),
    ("auth", "Who may connect as a client."),
    ("hub", "Whether this is a hub."),
    ("mesh", "The mesh of hubs."),
    ("bootstrap", "The hubs through which this one joins the mesh."),
    ("control", "The control socket, which pigeonctl uses."),
    ("metrics", "Figures for monitoring, in OpenMetrics."),
    ("log", "What is logged."),
];

macro_rules! key {
    ($first:ident $(. $rest:ident)?, $kind:expr, $flag:expr, $env:expr, $doc:expr) => {
        Key {
            name: concat!(stringify!($first) $(, ".", stringify!($rest))?),
            kind: $kind,
            flag: $flag,
            env: $env,
            doc: $doc,
            read: |config, raw, kind| {
                config.$first$(.$rest)? = Setting::read(raw, kind)?;
                Ok(())
            },
            show: |config, kind| config.$first$(.$rest)?.show(kind),
        }
    };
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn time(min_ms: u64, max_s: u64) -> Kind {
    Kind::Time { min: Duration::from_millis(min_ms), max: Duration::from_secs(max_s) }
}

const fn value(flag: &'static str, what: &'static str) -> Option<Flag> {
    Some(Flag::Value(flag, what))
}

const PATH: Kind = Kind::Text { what: "a path", check: text::path };

const PER_ADDRESS: Kind = count(0, 1_000_000);

const HOUR: u64 = 3600;

/// All keys, grouped by section in the order of [`SECTIONS`]; those outside sections come first.
pub static KEYS: [Key; 46] = [
    key!(
        runtime_dir,
        PATH,
        value("--runtime-dir", "DIR"),
        Some("RUNTIME_DIRECTORY"),
        "The folder of the control socket, control.sock. If empty: $XDG_RUNTIME_DIR/pigeonhubd/PORT, or \
         /run/pigeonhubd/PORT for root, or /tmp/pigeonhubd-UID/PORT."
    ),
    key!(
        state_dir,
        PATH,
        value("--state-dir", "DIR"),
        Some("STATE_DIRECTORY"),
        "The folder of the hub's own key, hub.key, from which its id comes. One hub at a time uses it. If empty: \
         $XDG_STATE_HOME/pigeonhubd/PORT, or $HOME/.local/state/pigeonhubd/PORT, or /var/lib/pigeonhubd/PORT."
    ),
    key!(
        listen.port,
        count(1, 65535),
        value("--port", "PORT"),
        Some("PORT"),
        "The TCP port for WebSocket and HTTP. It is also this hub's name on its machine. 0 in the variable counts as \
         not set."
    ),
    key!(
        listen.host,
        Kind::Text { what: Host::WHAT, check: text::parses::<Host> },
        value("--host", "ADDRESS"),
        Some("HOST"),
        "The address to listen on: an IP address, a name that stands for one, \"localhost\" for both loopback \
         addresses, or \"*\" or \"::\" for all addresses, IPv4 and IPv6, as far as there are any; \"0.0.0.0\" is all of \
         IPv4. A name is looked up at the start, until it stands for an address, of which the first counts. An \
         address that this machine does not have yet is listened on nevertheless, and reached as soon as it has it."
    ),
    key!(
        listen.max_connections,
        count(1, 1_000_000),
        None,
        Some("MAX_CONNECTIONS"),
        "Connections at once, of clients and hubs. Further ones are turned away. 0 in the variable counts as not set."
    ),
    key!(
        listen.max_connections_per_address,
        PER_ADDRESS,
        None,
        None,
        "Clients' connections at once from one address, an IPv6 /64 counting as one; 0 for no limit. Further ones \
         are closed with 1008. Who connects from loopback, and not through a trusted proxy, has none of these three \
         limits."
    ),
    key!(
        listen.max_connects_per_second,
        PER_ADDRESS,
        None,
        None,
        "New WebSockets a second from one address, counted over 10 s; 0 for no limit. Further ones are closed with \
         1008. As many requests that open none are answered, counted apart, and then 429; and of twice as many TCP \
         connections further ones are cut off, unless a trusted proxy opens them."
    ),
    key!(
        listen.max_messages_per_second,
        PER_ADDRESS,
        None,
        None,
        "Clients' messages a second from one address, all its connections together, counted over 10 s; 0 for no \
         limit. Further ones are answered with an error and not carried; a connection with a thousand of them is \
         closed with 1008."
    ),
    key!(
        listen.max_message_size,
        Kind::Size { min: 1 << 10, max: 64 << 20 },
        None,
        None,
        "The largest WebSocket message that is taken, in bytes or with B, KiB, MiB or GiB."
    ),
    key!(
        listen.max_candidates,
        count(1, 10_000),
        None,
        None,
        "How many peers of its network a newcomer is introduced to at most; as others come, up to twice as many."
    ),
    key!(
        listen.peer_timeout,
        time(100, 24 * HOUR),
        None,
        None,
        "Silence after which a client is dropped, but not within a second of its first ping."
    ),
    key!(
        listen.cleanup_interval,
        time(100, HOUR),
        None,
        None,
        "Time between two pings of a client; 23 s or half of peer_timeout if one of them is less."
    ),
    key!(
        listen.cors_origin,
        Kind::Text { what: "\"*\", or origins such as https://example.org", check: addresses::cors_origins },
        None,
        Some("CORS_ORIGIN"),
        "The web pages that may read the HTTP answers: \"*\" for all, or their origins, separated by commas."
    ),
    key!(
        listen.allowed_origins,
        Kind::List { what: WebOrigin::WHAT, check: text::parses::<WebOrigin>, most: 64 },
        None,
        None,
        "The origins of the web pages whose WebSockets are taken; if empty, all. Programs that are no browsers \
         name no origin, or any that they like: use auth.token_file against them."
    ),
    key!(
        listen.trusted_proxies,
        Kind::List { what: AddressRange::WHAT, check: text::parses::<AddressRange>, most: 256 },
        None,
        None,
        "Addresses or networks of reverse proxies that are believed for whom they ask. Limits and logs are about \
         that address then; mesh.legacy_hubs never is."
    ),
    key!(
        listen.forwarded_header,
        Kind::Text { what: ForwardedHeader::WHAT, check: text::parses::<ForwardedHeader> },
        None,
        None,
        "The header in which those proxies tell it: \"X-Forwarded-For\" or \"Forwarded\" (RFC 7239). The proxy has to \
         set or extend it; the other one is not looked at."
    ),
    key!(
        listen.drain_timeout,
        time(0, HOUR),
        None,
        None,
        "Time over which clients are told to leave, one after another, when this hub stops or is drained."
    ),
    key!(
        listen.keep_alive,
        time(10_000, HOUR),
        None,
        None,
        "How long an HTTP connection may wait for its next request. Longer than a load balancer keeps unused ones, or \
         it sends requests to closed ones: AWS' keep theirs for 60 s, Google's for 600 s."
    ),
    key!(
        tls.cert,
        PATH,
        None,
        None,
        "The certificate of this hub and those between it and its root, in PEM. With it the port speaks TLS alone: \
         wss:// and https://. Read again at each reload."
    ),
    key!(
        tls.key,
        PATH,
        None,
        None,
        "The certificate's private key, in PEM: a file that not everyone can read. Read again at each reload."
    ),
    key!(
        tls.ca,
        PATH,
        None,
        None,
        "The root certificates that other hubs' wss:// certificates are checked against, in PEM. If empty: those \
         that this system trusts."
    ),
    key!(
        auth.token_file,
        PATH,
        None,
        None,
        "The tokens of clients, one a line of 16 to 256 bytes, # before a remark: a file that not everyone can read. \
         With it a client needs one of them, as \"Authorization: Bearer TOKEN\" or as ?token=TOKEN; others get 401. \
         Hubs need none: they prove the mesh key. Read again at each reload. If empty: no token is needed."
    ),
    key!(
        auth.ticket_keys,
        PATH,
        None,
        None,
        "The keys of clients' tickets, 16 at most: a file that not everyone can read, with \"HS256 \" and a secret of 32 \
         bytes or more in base64 in a line, or Ed25519 public keys in PEM. A client shows a ticket where it would show a \
         token; with this key set it needs one or the other. A ticket is a JSON Web Token with \"exp\" and, as it may be, \
         peerId, networks, maxConnections, maxMessagesPerSecond, maxAnnounceBytes: see pigeonctl(1). Read again at \
         each reload."
    ),
    key!(
        hub.enabled,
        Kind::Switch,
        Some(Flag::Off("--no-hub")),
        None,
        "If false, this is a plain signaling server without a mesh."
    ),
    key!(
        mesh.namespace,
        Kind::Text { what: "a name of 1 to 128 bytes", check: text::namespace },
        value("--namespace", "NAME"),
        Some("HUB_MESH_NAMESPACE"),
        "The mesh's name. Hubs of different names do not link."
    ),
    key!(
        mesh.max_peers,
        count(2, 32),
        value("--max-peers", "N"),
        None,
        "WebRTC links to other hubs at most. While hubs come or go there may be two more, each for 15 seconds at \
         most. WebSockets between hubs, as from joining, count apart."
    ),
    key!(
        mesh.min_peers,
        count(1, 32),
        value("--min-peers", "N"),
        None,
        "WebRTC links that make the mesh ready; at most max_peers. Fewer do if there are fewer other hubs."
    ),
    key!(
        mesh.ready_when_alone,
        Kind::Text { what: WhenAlone::WHAT, check: text::parses::<WhenAlone> },
        None,
        None,
        "What a hub is that has bootstraps and reaches none: \"ready\" after a second of vain dials, or \"wait\" \
         for another hub before systemd is told that it has started. It serves clients meanwhile, and /readyz \
         says so."
    ),
    key!(
        mesh.migration_delay,
        time(0, HOUR),
        value("--migration-delay", "DURATION"),
        None,
        "Time between readiness and the closing of the WebSockets between hubs."
    ),
    key!(
        mesh.signal_timeout,
        time(100, 600),
        None,
        None,
        "Time after which a signal that its target's hub has not acknowledged is given up, and its sender told."
    ),
    key!(
        mesh.presence_grace,
        time(0, 600),
        None,
        None,
        "How long the peers of a hub that became unreachable are kept."
    ),
    key!(
        mesh.key_file,
        PATH,
        value("--key-file", "FILE"),
        None,
        "The secret that all hubs of a mesh share: a file of at least 16 bytes that not everyone can read. If empty: \
         the credential mesh.key, if systemd hands one over; else this machine's own key (or, outside a service, this \
         user's), made at the first start. A file that is named must exist."
    ),
    key!(
        mesh.legacy_hubs,
        Kind::List { what: AddressRange::WHAT, check: addresses::old_hubs, most: 256 },
        Some(Flag::Repeat("--legacy-hub", "ADDRESS")),
        None,
        "Addresses or networks of hubs of the JavaScript version, which know no key. Whoever comes from there \
         is believed to be a hub: name no address that others share."
    ),
    key!(
        mesh.advertise,
        Kind::Text { what: HubUrl::WHAT, check: text::advertised },
        None,
        None,
        "The ws:// or wss:// URL under which other hubs reach this one. If empty: none is told."
    ),
    key!(
        mesh.addresses,
        Kind::List {
            what: "an address or network such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64",
            check: text::parses::<AddressRange>,
            most: 64,
        },
        None,
        None,
        "Which of this machine's addresses are offered for data channels to other hubs, whatever listen.host is. If \
         this and mesh.interfaces are empty: listen.host, or all if that is \"*\", of which the 16 best are offered."
    ),
    key!(
        mesh.interfaces,
        Kind::List { what: InterfacePattern::WHAT, check: text::parses::<InterfacePattern>, most: 64 },
        None,
        None,
        "Likewise by the network interfaces that have them: names, in which * is any text. After ! are those whose \
         addresses are not offered, such as \"!docker*\" and \"!br-*\". An address has to fit both keys."
    ),
    key!(
        mesh.udp_ports,
        Kind::Text { what: UdpPorts::WHAT, check: text::parses::<UdpPorts> },
        None,
        None,
        "The UDP ports of data channels, for a firewall: a range such as \"40000-40100\", or one port. Each data \
         channel takes one port, at all addresses alike, so there are no more data channels than ports: mesh.max_peers \
         and 2 for each hub of this machine are enough. If empty: those that the system gives to programs."
    ),
    key!(
        mesh.ice_servers,
        Kind::IceServers { most: 16 },
        None,
        None,
        "STUN and TURN servers for the links between hubs. None are needed where hubs reach each other directly."
    ),
    key!(
        bootstrap.hubs,
        Kind::List { what: HubUrl::WHAT, check: text::parses::<HubUrl>, most: 64 },
        Some(Flag::Repeat("--bootstrap", "URL")),
        Some("BOOTSTRAP_HUBS"),
        "The hubs to dial, as ws:// or wss:// URLs; one that names this hub itself is left out. With an \
         empty list none is dialled. The variable separates them by commas."
    ),
    key!(
        bootstrap.auto_connect,
        Kind::Switch,
        Some(Flag::Off("--no-bootstrap")),
        Some("AUTO_CONNECT"),
        "If false, neither bootstraps nor hubs of the last run's mesh are dialled; others can still dial \
         this one, and hubs that it loses are dialled."
    ),
    key!(
        bootstrap.reconnect_interval,
        time(100, HOUR),
        None,
        None,
        "Pause before a hub that could not be reached is dialled again. The first pauses are shorter: a quarter of \
         a second, then as long as it has been dialled in vain."
    ),
    key!(
        bootstrap.max_reconnect_attempts,
        count(0, 1_000_000),
        None,
        None,
        "Dials in a row that may fail, once the pauses are no longer shorter, before they become a minute."
    ),
    key!(
        control.admins,
        Kind::List { what: Uid::WHAT, check: text::parses::<Uid>, most: 64 },
        None,
        None,
        "Users, by number, who may change things over the control socket: reload, drain, disconnect and the like. \
         Root and the hub's own user always may. They also need to be in the socket's group, and the packaged service \
         needs a drop-in to see who they are: pigeonhubd@.service(8)."
    ),
    key!(
        metrics.listen,
        Kind::Text { what: MetricsListen::WHAT, check: text::parses::<MetricsListen> },
        value("--metrics-listen", "ADDRESS"),
        None,
        "Where /metrics, /health, /livez, /readyz and /meshz are answered over HTTP, apart from clients: an address \
         with a port, \"auto\" for 127.0.0.1 and the port 6464 above listen.port (9464 for 3000) if that is free, \
         or \"off\". `pigeonctl metrics` shows the figures in any case."
    ),
    key!(
        metrics.public,
        Kind::Switch,
        None,
        None,
        "If true, /metrics is answered on listen.port too, to everyone."
    ),
    key!(
        log.level,
        Kind::Text { what: LogLevel::WHAT, check: text::parses::<LogLevel> },
        value("--log-level", "LEVEL"),
        None,
        "How much is logged: error, warn, info, debug or trace."
    ),
];
