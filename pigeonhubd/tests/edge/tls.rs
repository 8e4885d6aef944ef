//! TLS on the port, and towards other hubs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Answer, ReloadReport};
use pigeonhubd::daemon::{Daemon, Origin};
use pigeonhubd::edge::{Edge, EdgeEvent};
use pigeonhubd::options;
use pigeonhubd::outbox::Outbox;
use pigeonhubd::{dial::Dialler, tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::daemon::{around, free_port, program, told};
use crate::door::secret;
use crate::ground::{Folder, LIMIT};

/// A certificate for `hub.test` and 127.0.0.1, signed by itself, and its key.
struct Pair {
    cert: String,
    key: String,
}

fn pair() -> Pair {
    let names = vec![String::from("hub.test"), String::from("127.0.0.1")];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Pair {
    fn write(&self, folder: &Folder) -> (PathBuf, PathBuf) {
        (secret(folder, "hub.crt", &self.cert), secret(folder, "hub.key.pem", &self.key))
    }

    /// A client that trusts this one.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth())
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(self.client()).connect("hub.test".try_into().unwrap(), tcp).await
    }

    async fn join(&self, address: SocketAddr, digit: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let url = format!("wss://127.0.0.1:{}/?peerId={}", address.port(), digit.repeat(40));
        let connector = Some(Connector::Rustls(self.client()));
        let (mut client, _) = connect_async_tls_with_config(url, None, false, connector).await.unwrap();
        assert!(client.next().await.unwrap().unwrap().into_text().unwrap().contains("connected"));
        let announce =
            format!(r#"{{"type":"announce","networkName":"n","data":{{"peerId":"{}"}}}}"#, digit.repeat(40));
        client.send(Message::from(announce)).await.unwrap();
        client
    }
}

fn toml(folder: &Folder, more: &str) -> String {
    let path = folder.path().display();
    format!(
        "runtime_dir = \"{path}/run\"\nstate_dir = \"{path}/state\"\nbootstrap.hubs = []\nmetrics.listen = \"off\"\n\
         tls.cert = \"{path}/hub.crt\"\ntls.key = \"{path}/hub.key.pem\"\n{more}"
    )
}

struct Hub {
    daemon: Daemon,
    text: Arc<Mutex<String>>,
}

impl Hub {
    fn start(folder: &Folder, more: &str) -> Self {
        let text = Arc::new(Mutex::new(toml(folder, more)));
        let read = Arc::clone(&text);
        let load = move || -> Result<Config, options::LoadError> {
            let mut config = Config::default();
            config.apply_file("hub.toml", &read.lock().unwrap())?;
            let mut config = config.checked()?;
            (config.listen.host, config.listen.port) = ("127.0.0.1".parse().unwrap(), 0);
            Ok(config)
        };
        let config = load().unwrap();
        let origin = Origin { load: Some(Arc::new(load)), ..Origin::default() };
        let daemon = Daemon::start_from(&config, &around(folder), origin).unwrap();
        Self { daemon, text }
    }

    fn address(&self) -> SocketAddr {
        self.daemon.addresses()[0]
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        self.daemon.reloader().reload(false).await.map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn pages_and_websockets_are_served_over_tls() {
    let (folder, pair) = (Folder::new(), pair());
    pair.write(&folder);
    let hub = Hub::start(&folder, "");
    for path in ["/health", "/hubs", "/readyz"] {
        let mut stream = pair.connect(hub.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: hub.test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut a = pair.join(hub.address(), "a").await;
    let mut b = pair.join(hub.address(), "b").await;
    let target = "a".repeat(40);
    // Large enough for many TLS records.
    let data = "x".repeat(200_000);
    let offer = format!(r#"{{"type":"offer","networkName":"n","targetPeerId":"{target}","data":"{data}"}}"#);
    b.send(Message::from(offer)).await.unwrap();
    loop {
        let text = a.next().await.unwrap().unwrap().into_text().unwrap();
        if text.contains("\"offer\"") {
            assert!(text.contains(&data));
            break;
        }
    }
    hub.daemon.stop().await.unwrap();
    let mut ends = Vec::new();
    while let Some(Ok(message)) = a.next().await {
        ends.push(message);
    }
    assert!(
        matches!(ends.last(), Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1001),
        "{ends:?}"
    );
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let (folder, pair) = (Folder::new(), pair());
    pair.write(&folder);
    let hub = Hub::start(&folder, "");
    let mut tcp = TcpStream::connect(hub.address()).await.unwrap();
    tcp.write_all(b"GET /health HTTP/1.1\r\nHost: hub\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("use wss:// or https://\n"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    // TLS that breaks off, and what only begins like it.
    for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x16\x03\x01\x00\x05hello"] {
        let mut tcp = TcpStream::connect(hub.address()).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
    }
    assert!(pair.connect(hub.address()).await.is_ok(), "the port lives on");
}

#[tokio::test]
async fn a_reload_takes_a_new_certificate_and_drops_nobody() {
    let (folder, first, second) = (Folder::new(), pair(), pair());
    first.write(&folder);
    let hub = Hub::start(&folder, "");
    let mut client = first.join(hub.address(), "a").await;
    second.write(&folder);
    assert_eq!(hub.reload().await.unwrap().files_changed, ["tls.cert", "tls.key"]);
    assert!(first.connect(hub.address()).await.is_err(), "the old one is not shown any more");
    let _new = second.join(hub.address(), "b").await;
    client.send(Message::from(r#"{"type":"ping"}"#)).await.unwrap();
    while !client.next().await.unwrap().unwrap().into_text().unwrap().contains("pong") {}

    // A key of another certificate, and rubbish: the pair in force stays.
    secret(&folder, "hub.key.pem", &first.key);
    let error = hub.reload().await.unwrap_err();
    assert!(
        error.starts_with("hub.toml:") && error.contains("does not belong to the certificate in"),
        "{error}"
    );
    secret(&folder, "hub.key.pem", "nonsense");
    let error = hub.reload().await.unwrap_err();
    assert!(error.contains("tls.key") && error.contains("holds no private key"), "{error}");
    assert!(second.connect(hub.address()).await.is_ok());
    second.write(&folder);
    assert_eq!(hub.reload().await.unwrap(), ReloadReport::default());

    // Without a certificate the port speaks plain HTTP from then on.
    *hub.text.lock().unwrap() = toml(&folder, "")
        .lines()
        .filter(|line| !line.starts_with("tls"))
        .map(|line| format!("{line}\n"))
        .collect();
    hub.reload().await.unwrap();
    assert!(second.connect(hub.address()).await.is_err());
    client.send(Message::from(r#"{"type":"ping"}"#)).await.unwrap();
    while !client.next().await.unwrap().unwrap().into_text().unwrap().contains("pong") {}
}

#[test]
fn files_that_do_not_do_are_78_and_named() {
    let (folder, good, other) = (Folder::new(), pair(), pair());
    let (cert, key) = good.write(&folder);
    let foreign = secret(&folder, "other.pem", &other.key);
    let open = secret(&folder, "open.pem", &good.key);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let encrypted = good.key.replace("BEGIN PRIVATE KEY", "BEGIN ENCRYPTED PRIVATE KEY");
    let encrypted = encrypted.replace("END PRIVATE KEY", "END ENCRYPTED PRIVATE KEY");
    let encrypted = secret(&folder, "encrypted.pem", &encrypted);
    let tokens = secret(&folder, "tokens", "short\n");
    let (cert, key) = (cert.display(), key.display());
    let table = [
        (format!("tls.cert = \"{cert}\"\n"), "tls.cert: set without tls.key; set both, or neither"),
        (format!("tls.key = \"{key}\"\n"), "tls.key: set without tls.cert"),
        (
            format!("tls.cert = \"/nowhere\"\ntls.key = \"{key}\"\n"),
            ":1:12: tls.cert: /nowhere: cannot be read: No such",
        ),
        (format!("tls.cert = \"{key}\"\ntls.key = \"{key}\"\n"), "holds no certificate"),
        (format!("tls.cert = \"{cert}\"\ntls.key = \"{cert}\"\n"), ":2:11: tls.key: "),
        (
            format!("tls.cert = \"{cert}\"\ntls.key = \"{}\"\n", foreign.display()),
            "does not belong to the certificate",
        ),
        (
            format!("tls.cert = \"{cert}\"\ntls.key = \"{}\"\n", encrypted.display()),
            "holds an encrypted private key",
        ),
        (format!("tls.cert = \"{cert}\"\ntls.key = \"{}\"\n", open.display()), "mode 0644 shows this secret"),
        (format!("tls.cert = \"{cert}\"\ntls.key = \"{}\"\n", folder.path().display()), "not a file"),
        (format!("tls.ca = \"{key}\"\n"), "tls.ca: "),
        (String::from("auth.token_file = \"/nowhere\"\n"), "auth.token_file: /nowhere: cannot be read"),
        (format!("auth.token_file = \"{}\"\n", tokens.display()), "line 1: 5 bytes"),
    ];
    for (text, expected) in table {
        let file = secret(&folder, "hub.toml", &text);
        let output = program(&folder, free_port(), &["--config", file.to_str().unwrap()]).output().unwrap();
        let told = told(&output);
        assert_eq!(output.status.code(), Some(78), "{text}{told}");
        assert!(
            told.contains(expected) && !told.contains("listening") && !told.contains("short\n"),
            "{text}{told}"
        );
    }
}

/// As some editors save them.
#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let (folder, good) = (Folder::new(), pair());
    let [cert, key] = [("cert.pem", &good.cert), ("key.pem", &good.key)]
        .map(|(name, text)| secret(&folder, name, &format!("\u{feff}{text}")));
    let mut config = Config::default();
    let toml = format!("tls.cert = \"{}\"\ntls.key = \"{}\"\n", cert.display(), key.display());
    config.apply_file("test.toml", &toml).unwrap();
    assert!(tls::server(&config).unwrap().is_some());
}

#[tokio::test]
async fn other_hubs_are_checked_against_tls_ca() {
    let (folder, near, far) = (Folder::new(), pair(), pair());
    far.write(&folder);
    let hub = Hub::start(&folder, "");
    let url = format!("wss://127.0.0.1:{}/?peerId={}", hub.address().port(), "c".repeat(40));
    for (trusted, opens) in [(&far, true), (&near, false)] {
        let ca = secret(&folder, "ca.pem", &trusted.cert);
        let mut config = Config::default();
        config.apply_file("test.toml", &format!("tls.ca = \"{}\"\n", ca.display())).unwrap();
        let (edge, mut intake) = Edge::new();
        let mut dialler = Dialler::new(edge, LIMIT);
        dialler.set_roots(tls::client(&config).unwrap());
        let dialling = tokio::spawn(dialler.run(
            pigeonhub_proto::io::ConnId(2),
            url.clone(),
            Arc::new(Outbox::dialled()),
        ));
        match intake.events.recv().await.unwrap() {
            EdgeEvent::Dialled { .. } if opens => {}
            EdgeEvent::DialFailed { error, .. } if !opens => assert!(error.starts_with("TLS: "), "{error}"),
            other => panic!("{other:?}"),
        }
        dialling.abort();
    }
}

/// Hubs that reach each other at `wss:` alone become one mesh, and tell others so.
#[tokio::test]
async fn a_mesh_over_tls_advertises_wss() {
    let (first_folder, second_folder, pair) = (Folder::new(), Folder::new(), pair());
    pair.write(&first_folder);
    pair.write(&second_folder);
    let key = secret(&first_folder, "mesh.key", "sixteen bytes or more");
    let more = format!(
        "mesh.key_file = \"{}\"\ntls.ca = \"{}/hub.crt\"\n",
        key.display(),
        first_folder.path().display()
    );
    let first = Hub::start(&first_folder, &more);
    let bootstrap = format!("wss://127.0.0.1:{}", first.address().port());
    let more = more.clone() + &format!("bootstrap.hubs = [\"{bootstrap}\"]\n");
    let text = toml(&second_folder, "").replace("bootstrap.hubs = []\n", "");
    let mut config = Config::default();
    config.apply_file("second.toml", &(text + &more)).unwrap();
    (config.listen.host, config.listen.port) = ("127.0.0.1".parse().unwrap(), 0);
    let second = Daemon::start(&config, &around(&second_folder)).unwrap();
    let ask = async |socket: PathBuf| {
        let mut caller = crate::control::Caller::new(&socket).await;
        match caller.ask(r#"{"v":1,"cmd":"hubs"}"#).await.ok {
            Some(Answer::Hubs(hubs)) => hubs,
            other => panic!("{other:?}"),
        }
    };
    loop {
        let hubs = ask(first_folder.path().join("run")).await;
        let own = hubs.iter().find(|hub| hub.own).unwrap();
        if hubs.len() == 2 && !own.urls.is_empty() {
            assert!(own.urls.contains(&bootstrap), "{:?}", own.urls);
            assert!(hubs.iter().flat_map(|hub| &hub.urls).all(|url| url.starts_with("wss://")), "{hubs:?}");
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    second.stop().await.unwrap();
}
