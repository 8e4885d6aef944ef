//! Bytes on the port as HTTP reads them, and what the door to the WebSockets
//! makes of a request: handshake, query, tokens, origins, forwarded addresses.
//! The hub's own files, so that WebRTC need not be built once more for this.
#![no_main]
#![allow(dead_code, reason = "the modules are included whole")]

#[path = "../../../pigeonhubd/src/admission.rs"]
mod admission;
#[path = "../../../pigeonhubd/src/handshake.rs"]
mod handshake;
#[path = "../../../pigeonhubd/src/keys.rs"]
mod keys;
#[path = "../../../pigeonhubd/src/paths.rs"]
mod paths;
#[path = "../../../pigeonhubd/src/per_address.rs"]
mod per_address;
#[path = "../../../pigeonhubd/src/tickets/mod.rs"]
mod tickets;
#[path = "../../../pigeonhubd/src/tokens.rs"]
mod tokens;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::LazyLock;

use admission::Admission;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use pigeonhub_proto::config::Config;
use tickets::TicketKeys;
use tokens::Tokens;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As in `http`.
const MAX_HEADERS: usize = 16 * 1024;

const RULES: [&str; 3] = [
    "",
    "listen.trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nlisten.allowed_origins = [\"https://a.example\"]\n",
    "listen.trusted_proxies = [\"10.0.0.1\"]\nlisten.forwarded_header = \"forwarded\"\n",
];

static ADMISSIONS: LazyLock<Vec<Admission>> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("pigeonhub-fuzz-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&path).expect("a file");
    file.write_all(b"0123456789abcdef\n").expect("a file");
    let keys = path.with_extension("keys");
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&keys).expect("a file");
    file.write_all(b"HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").expect("a file");
    let admissions = RULES.map(|rules| {
        let mut config = Config::default();
        config.apply_file("fuzz.toml", rules).expect("valid");
        config.auth.token_file = Some(path.clone());
        config.auth.ticket_keys = Some(keys.clone());
        let tokens = Tokens::load(&config).expect("a token");
        let ticket_keys = TicketKeys::load(&config).expect("a key");
        Admission::new(&config, tokens, ticket_keys)
    });
    std::fs::remove_file(&path).expect("a file");
    std::fs::remove_file(&keys).expect("a file");
    admissions.into()
});

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
}

fn look(request: Request<Incoming>) {
    let (parts, _) = request.into_parts();
    let _ = handshake::wanted(&parts.headers);
    let accepted = handshake::accept(&parts).is_ok();
    for (rules, remote) in ADMISSIONS.iter().zip(["192.0.2.1", "10.0.0.1", "10.0.0.1"]) {
        let remote: IpAddr = remote.parse().expect("an address");
        let caller = rules.caller(&parts.headers, remote);
        assert!(caller.via_proxy || caller.address == remote, "nobody is believed but proxies");
        let asked = handshake::request(&parts, caller);
        assert!(asked.peer_id.as_ref().is_none_or(|id| id.len() <= 256));
        let admitted = rules.check(&parts.headers, parts.uri.query(), caller, asked.peer_id.as_deref(), asked.mesh);
        if accepted && admitted.is_ok() && !asked.mesh {
            // The token was in it, in one spelling or another; nobody guesses the signature of a ticket.
            assert_eq!(admitted, Ok(None));
            let shown = format!("{:?}{:?}", parts.uri, parts.headers);
            assert!(shown.contains("0123456789abcdef") || shown.contains('%'), "{shown}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let (mut far, near) = tokio::io::duplex(data.len().max(1));
            far.write_all(data).await.expect("room");
            let service = service_fn(|request| {
                look(request);
                async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
            });
            let serve = http1::Builder::new()
                .header_read_timeout(None)
                .max_header_size(MAX_HEADERS)
                .max_buf_size(MAX_HEADERS)
                .serve_connection(TokioIo::new(near), service);
            let read = async {
                let _ = far.shutdown().await;
                let mut answers = Vec::new();
                let _ = far.read_to_end(&mut answers).await;
                assert!(answers.len() <= 1024 + 200 * data.len(), "{} of {}", answers.len(), data.len());
            };
            let _ = tokio::join!(serve, read);
        });
    });
});
