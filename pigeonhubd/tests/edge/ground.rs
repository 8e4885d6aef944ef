//! What the tests stand on: a listener whose driver is the test.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Answer, Command, HubInfo, MeshState, PeerInfo, Status};
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ClosedBy, ConnId, Request};
use pigeonhub_proto::mesh::identity::MeshKey;
use pigeonhub_proto::paths::Surroundings;
use pigeonhubd::admission::Admission;
use pigeonhubd::control::Desk;
use pigeonhubd::credentials::Credentials;
use pigeonhubd::edge::{Edge, EdgeEvent, Intake};
use pigeonhubd::http::{Cors, MAX_AGE, Pages, Site};
use pigeonhubd::key_before::KeyBefore;
use pigeonhubd::listener::{self, Live};
use pigeonhubd::logging::LogControl;
use pigeonhubd::outbox::Outbox;
use pigeonhubd::reload::{Outlets, Reloader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The message limit of every test's sessions, in bytes.
pub(crate) const LIMIT: usize = 64 * 1024;

pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A listening edge.
pub(crate) struct Ground {
    pub(crate) address: SocketAddr,
    pub(crate) events: mpsc::Receiver<EdgeEvent>,
    /// Texts that came with one that was looked at.
    texts: VecDeque<(ConnId, String)>,
    pub(crate) edge: Edge,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    answering: JoinHandle<()>,
}

impl Ground {
    /// On a free port of 127.0.0.1. Questions are answered, events are the test's.
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, 1000)
    }

    pub(crate) fn with(edit: impl FnOnce(&mut Site), max_connections: usize) -> Self {
        Self::telling(edit, max_connections, |_| {})
    }

    /// With a status that `tell` changed.
    pub(crate) fn telling(
        edit: impl FnOnce(&mut Site),
        max_connections: usize,
        tell: impl Fn(&mut Status) + Send + 'static,
    ) -> Self {
        let (edge, Intake { events, mut queries }) = Edge::new();
        let mut site = site(edge.clone());
        edit(&mut site);
        let listeners = listener::bind(&["127.0.0.1".parse().unwrap()], 0).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (_, live) = watch::channel(Live { site: Arc::new(site), max_connections });
        let serving = tokio::spawn(listener::serve(listeners, live, stopping));
        let answering = tokio::spawn(async move {
            while let Some(query) = queries.recv().await {
                let mut answer = answer(&query.command);
                if let Answer::Status(status) = &mut answer {
                    tell(status);
                }
                let _ = query.reply.send(Ok(answer));
            }
        });
        let texts = VecDeque::new();
        Self { address, events, texts, edge, stop, serving, answering }
    }

    /// From now on nobody answers questions.
    pub(crate) async fn stop_answering(&mut self) {
        self.answering.abort();
        let _ = (&mut self.answering).await;
    }

    /// The hub stops; returns when no connection is left.
    pub(crate) async fn stop(&mut self) {
        self.stop.send_replace(true);
        (&mut self.serving).await.unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// A client, and the accepted end of it, which does not read yet.
    pub(crate) async fn connect(&mut self) -> (Client, ConnId, Arc<Outbox>) {
        let (client, _) = connect_async(self.url("/?peerId=me")).await.unwrap();
        let (conn, _, outbox) = self.accepted().await;
        (client, conn, outbox)
    }

    /// A client whose messages are read.
    pub(crate) async fn reading(&mut self) -> (Client, ConnId, Arc<Outbox>) {
        let (client, conn, outbox) = self.connect().await;
        outbox.read();
        (client, conn, outbox)
    }

    pub(crate) async fn accepted(&mut self) -> (ConnId, Request, Arc<Outbox>) {
        match self.next().await {
            EdgeEvent::Accepted { conn, request, outbox } => (conn, request, outbox),
            other => panic!("a connection was expected, not {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> EdgeEvent {
        assert!(self.texts.is_empty(), "{:?} came before", self.texts);
        self.events.recv().await.unwrap()
    }

    /// The end of a connection, after any messages.
    pub(crate) async fn closed(&mut self, which: ConnId) -> ClosedBy {
        loop {
            if let EdgeEvent::Closed { conn, reason, .. } = self.next().await
                && conn == which
            {
                return reason;
            }
        }
    }

    /// The text that comes next, if it is one.
    pub(crate) async fn text(&mut self) -> (ConnId, String) {
        if let Some(text) = self.texts.pop_front() {
            return text;
        }
        match self.next().await {
            EdgeEvent::Texts { conn, texts, .. } => {
                self.texts.extend(texts.iter().map(|text| (conn, text.to_string())));
            }
            other => panic!("a text was expected, not {other:?}"),
        }
        self.texts.pop_front().unwrap()
    }

    /// Sends raw bytes, and returns all that comes back until the far end closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// One HTTP request; its head and its body.
    pub(crate) async fn http(&self, request: &str, headers: &str) -> (String, String) {
        let bytes = format!("{request} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.raw(bytes.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.serving.abort();
        self.answering.abort();
    }
}

fn site(edge: Edge) -> Site {
    Site {
        edge,
        cors: Cors::new("*"),
        hub_enabled: true,
        namespace: String::from("test-mesh"),
        max_message_size: LIMIT,
        pages: Pages::Public,
        tls: None,
        keep_alive: Duration::from_secs(75),
        max_age: MAX_AGE,
        admission: Admission::default(),
    }
}

/// The code and reason with which the far end closes, skipping messages.
pub(crate) async fn close_of(client: &mut Client) -> (u16, String) {
    loop {
        match client.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
            Some(Ok(Message::Close(None))) => return (1005, String::new()),
            Some(Ok(_)) => {}
            other => panic!("a close was expected, not {other:?}"),
        }
    }
}

pub(crate) async fn send(client: &mut Client, message: impl Into<Message>) -> Result<(), Error> {
    client.send(message.into()).await
}

/// A client's WebSocket handshake, byte by byte.
pub(crate) const HANDSHAKE: &str = "GET /?peerId=me HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client's frame, masked with zeros.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(crate) fn answer(command: &Command) -> Answer {
    match command {
        Command::Status => Answer::Status(Box::new(status())),
        Command::Hubs => Answer::Hubs(vec![hub(1, true), hub(2, false)]),
        Command::Peers { network } => Answer::Peers(vec![PeerInfo {
            peer_id: "Ab".repeat(20),
            network: network.clone().unwrap_or_else(|| String::from("line\nbreak")),
            hub_id: Id([1; 20]),
            local: true,
            announced_at: 1,
        }]),
        Command::Metrics => {
            Answer::Metrics(String::from("# HELP a Help.\n# TYPE a counter\na_total 1\n# EOF\n"))
        }
        other => panic!("no test asks for {other:?}"),
    }
}

fn status() -> Status {
    Status {
        hub_id: Id([1; 20]),
        port: 3000,
        state: MeshState::Ready,
        reason: String::from("two links"),
        ready: true,
        migrated: true,
        p2p_links: 2,
        ws_links: 1,
        known_hubs: 3,
        local_peers: 4,
        remote_peers: 5,
        networks: 6,
        connections: 7,
        uptime: 8,
        config_age: Some(9),
        twin: None,
        listening: Vec::new(),
        offered: None,
        on_disk: None,
        refused: Default::default(),
        rejected: None,
        version: String::from("0.0.0"),
    }
}

fn hub(id: u8, own: bool) -> HubInfo {
    HubInfo {
        hub_id: Id([id; 20]),
        own,
        reachable: true,
        link: None,
        distance: None,
        next_hop: None,
        urls: vec![String::from("ws://127.0.0.1:3001")],
        ready: true,
        draining: false,
        state: None,
        rtt_us: None,
        registered_at: 11,
        last_activity: 12,
    }
}

/// What answers commands about a hub of which there is only `edge`.
pub(crate) fn desk(edge: Edge) -> Desk {
    let (changes, _) = mpsc::channel(1);
    let config = Arc::new(Config::default());
    let site = Arc::new(site(edge.clone()));
    let (live, _) = watch::channel(Live { site, max_connections: 1 });
    let outlets = Outlets {
        changes,
        live,
        log: LogControl::default(),
        service: Arc::default(),
        events: Arc::default(),
        keys: KeyBefore::new(std::path::Path::new("/nowhere"), false),
    };
    let load = Arc::new(|| Ok(Config::default()));
    let key = MeshKey::new(b"sixteen bytes or more").unwrap();
    let reloader = Reloader::new(
        load,
        Surroundings::default(),
        config,
        (key, Credentials::default()),
        edge.clone(),
        outlets,
    );
    Desk::new(edge, Arc::default(), Arc::new(reloader))
}

/// A folder that is gone after the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pigeonhubd-edge-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
