//! A hub that says what a test wants, and the program that asks it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

/// A folder of the test's own.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pigeonctl-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Starts a hub on `port` whose every answer to a request is what
    /// `answer` returns, as lines; it hangs up after them if that is none.
    pub(crate) fn hub(&self, port: u16, answer: impl Fn(Value) -> String + Send + Sync + 'static) -> PathBuf {
        let folder = self.0.join("pigeonhubd").join(port.to_string());
        std::fs::create_dir_all(&folder).expect("a folder");
        let socket = folder.join("control.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let answer = std::sync::Arc::new(answer);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, answer) = (stream.expect("a caller"), answer.clone());
                thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                        let text = answer(serde_json::from_str(&line).expect("a JSON request"));
                        // Whoever asked may have enough.
                        if text.is_empty() || (&stream).write_all(text.as_bytes()).is_err() {
                            return;
                        }
                        line.clear();
                    }
                });
            }
        });
        socket
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A whole response with that answer.
pub(crate) fn ok(answer: &Value) -> String {
    format!("{}\n", json!({ "v": 1, "id": 1, "ok": answer }))
}

/// A refusal.
pub(crate) fn refuse(code: &str, text: &str) -> String {
    format!("{}\n", json!({ "v": 1, "id": 1, "error": text, "code": code }))
}

/// What a hub answers to `status`.
pub(crate) fn status(state: &str) -> Value {
    json!({ "status": {
        "hub_id": "1f".repeat(20), "port": 3001, "state": state, "reason": "because", "ready": state == "ready",
        "migrated": false, "p2p_links": 1, "ws_links": 0, "known_hubs": 1, "local_peers": 2, "remote_peers": 0,
        "networks": 1, "connections": 2, "uptime": 5, "config_age": 5, "version": "0.1.0",
    } })
}

/// The program with `dir` as the only place for hubs.
pub(crate) fn command(dir: &Dir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pigeonctl"));
    command.env_clear().env("XDG_RUNTIME_DIR", dir.path()).env("HOME", dir.path());
    command.env("PIGEONHUBD_CONFIG_DIR", dir.path().join("etc"));
    command.args(arguments);
    command
}

/// Runs it to its end.
pub(crate) fn pigeonctl(dir: &Dir, arguments: &[&str]) -> Output {
    command(dir, arguments).output().expect("pigeonctl runs")
}

/// Its exit status, standard output and standard error.
pub(crate) fn run(dir: &Dir, arguments: &[&str]) -> (i32, String, String) {
    let output = pigeonctl(dir, arguments);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}
