//! A Node script of `tests/clients`: commands in, events out, one JSON object a line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::process::{Process, tied};
use super::{Ground, until};

/// Where the scripts are.
pub(crate) fn scripts() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/clients"))
}

/// A running script.
pub(crate) struct Script {
    process: Process,
    stdin: Mutex<ChildStdin>,
    events: Arc<Mutex<Vec<Value>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Script {
    /// Starts `file` and waits until it says that it is ready.
    pub(crate) fn start(ground: &Ground, name: &str, file: &str, arguments: &[String]) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let mut command = tied("node");
        // Whatever it and its browser keep goes with the ground.
        for variable in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(variable, ground.folder());
        }
        command.current_dir(ground.folder()).arg(scripts().join(file)).args(arguments);
        let (process, stdin) = Process::start_talking(name, &mut command, move |line| {
            let event = serde_json::from_str(&line).unwrap_or_else(|_| Value::from(line));
            lock(&told).push(event);
        });
        let script = Self { process, stdin: Mutex::new(stdin), events };
        script.wait(&format!("{name} is ready"), |event| event["event"] == "ready");
        script
    }

    /// Gives it a command.
    pub(crate) fn tell(&self, command: &Value) {
        writeln!(lock(&self.stdin), "{command}").expect("the script reads");
    }

    /// What it told so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        lock(&self.events).clone()
    }

    /// Waits for an event.
    pub(crate) fn wait(&self, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        until(what, || lock(&self.events).iter().find(|event| is(event)).cloned())
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- events of process {} ----", self.pid());
            for event in lock(&self.events).iter() {
                eprintln!("{event}");
            }
        }
    }
}

/// The published JavaScript hub.
pub(crate) struct JsHub {
    script: Script,
    /// The port of 127.0.0.1 that it listens on.
    pub(crate) port: u16,
}

impl JsHub {
    /// Starts one that dials `bootstraps`.
    pub(crate) fn start(ground: &Ground, bootstraps: &[String]) -> Self {
        let port = ground.port();
        let mut arguments = vec![port.to_string()];
        arguments.extend_from_slice(bootstraps);
        // With no bootstrap it dials port 3000, whoever is there: name itself, which it skips.
        if bootstraps.is_empty() {
            arguments.push(format!("ws://127.0.0.1:{port}"));
        }
        Self {
            script: Script::start(ground, &format!("JavaScript hub {port}"), "js-hub.mjs", &arguments),
            port,
        }
    }

    /// Where clients and hubs find it.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.script.pid()
    }

    /// How often it told `event` so far.
    pub(crate) fn told(&self, event: &str) -> usize {
        self.script.events().iter().filter(|it| it["event"] == event).count()
    }

    /// Waits until it told `event`.
    pub(crate) fn wait(&self, event: &str) {
        self.script.wait(&format!("the JavaScript hub tells {event}"), |it| it["event"] == event);
    }
}
