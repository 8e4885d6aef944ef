//! Nonsense on the control socket: answered or hung up on, and nothing is left of it.

use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use pigeonhub_proto::control::ControlResponse;
use pigeonhubd::control::MAX_LINE;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::daemon::{free_port, join, program, signal, wait_for};
use crate::ground::Folder;

/// Well-formed requests to begin from; none changes anything for good.
const SEEDS: [&str; 12] = [
    r#"{"v":1,"id":7,"cmd":"status"}"#,
    r#"{"v":1,"cmd":"hubs"}"#,
    r#"{"v":1,"cmd":"peers","network":"global"}"#,
    r#"{"v":1,"cmd":"peer","target":"abcdef"}"#,
    r#"{"v":1,"cmd":"trace","target":"0"}"#,
    r#"{"v":1,"cmd":"route","target":"0123456789abcdef"}"#,
    r#"{"v":1,"cmd":"events","since":0,"types":["hubMeshReady"]}"#,
    r#"{"v":1,"cmd":"config"}"#,
    r#"{"v":1,"cmd":"reload","dry_run":true}"#,
    r#"{"v":1,"cmd":"log-level","level":"info","seconds":18446744073709551615}"#,
    r#"{"v":1,"cmd":"disconnect","target":""}"#,
    r#"{"v":1,"id":1,"cmd":"undrain"}"#,
];

/// One request, more or less damaged. Without a line end, but for the last byte.
fn request(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = SEEDS[rng.random_range(0..SEEDS.len())].as_bytes().to_vec();
    match rng.random_range(0..6) {
        0 => {}
        1 => {
            let at = rng.random_range(0..bytes.len());
            bytes.truncate(at);
        }
        2 => {
            let (at, with) = (rng.random_range(0..bytes.len()), rng.random_range(0..bytes.len()));
            bytes.swap(at, with);
        }
        3 => {
            for _ in 0..rng.random_range(1..8) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
        }
        4 => {
            bytes = vec![0; rng.random_range(0..2000)];
            rng.fill_bytes(&mut bytes);
        }
        _ => bytes = format!("{}{}", "[{".repeat(rng.random_range(0..3000)), "1").into_bytes(),
    }
    bytes.retain(|byte| *byte != b'\n');
    bytes.push(b'\n');
    bytes
}

/// Memory that the process holds, in KiB.
fn resident(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
}

async fn call(socket: &Path, rng: &mut StdRng, requests: usize) {
    let mut caller = BufReader::new(UnixStream::connect(socket).await.unwrap());
    for _ in 0..requests {
        let request = request(rng);
        caller.write_all(&request).await.unwrap();
        let mut line = String::new();
        caller.read_line(&mut line).await.unwrap();
        let response: ControlResponse = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line} to {}", String::from_utf8_lossy(&request)));
        assert!(response.ok.is_some() != response.error.is_some(), "{line}");
    }
}

/// Says something without an end, perhaps more than a request may have, and is gone.
async fn drop_by(socket: &Path, rng: &mut StdRng) {
    let mut caller = UnixStream::connect(socket).await.unwrap();
    let mut bytes = vec![b'x'; rng.random_range(0..2 * MAX_LINE)];
    rng.fill_bytes(&mut bytes);
    bytes.retain(|byte| *byte != b'\n');
    // It is hung up on as soon as that is too long.
    let _ = caller.write_all(&bytes).await;
}

#[tokio::test]
async fn ten_thousand_random_requests_leave_nothing_behind() {
    let (folder, port) = (Folder::new(), free_port());
    // Commands that happen to be whole are logged, and nobody reads that while it runs.
    let mut child = program(&folder, port, &[]).stderr(Stdio::null()).spawn().unwrap();
    // Once it greets clients it answers callers too.
    let _client = join(wait_for(port, &mut child).await.peer_addr().unwrap(), "a").await;
    let socket = folder.path().join("run/control.sock");
    let mut rng = StdRng::seed_from_u64(7);
    let mut before = 0;
    for round in 0..100 {
        call(&socket, &mut rng, 100).await;
        drop_by(&socket, &mut rng).await;
        if round == 20 {
            before = resident(&child);
        }
    }
    let after = resident(&child);
    assert!(after < before + 8 * 1024, "from {before} KiB to {after} KiB");
    signal(&child, Signal::SIGTERM);
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}
