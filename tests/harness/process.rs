//! A child process that ends with its owner, and whose log is shown when the test fails.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::skip::on_path;

/// Lines of log that are kept; the oldest go first.
const LOG_LINES: usize = 20_000;
/// Lines of log that a failing test shows.
const SHOWN_LINES: usize = 150;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Lines,
}

/// A command for `program` that is killed when the thread that starts it ends, even if that is
/// killed itself. Without util-linux's `setpriv` it is only stopped by whoever holds it.
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    if on_path("setpriv").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn lock(lines: &Lines) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands each line of `from` to `to`, from a thread that ends with the stream.
fn each_line(from: impl Read + Send + 'static, mut to: impl FnMut(String) + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            to(String::from_utf8_lossy(&line).into_owned());
        }
    });
}

fn keep(log: &Lines) -> impl FnMut(String) + Send + use<> {
    let log = Arc::clone(log);
    move |line| {
        let mut log = lock(&log);
        if log.len() == LOG_LINES {
            log.drain(..LOG_LINES / 2);
        }
        log.push(line);
    }
}

impl Process {
    /// Starts it; all that it prints is its log.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let log = Lines::default();
        let (mut process, ()) = Self::start_with(name, command, log, |_| ());
        if let Some(out) = process.child.stdout.take() {
            each_line(out, keep(&process.log));
        }
        process
    }

    /// Starts it; what it prints to stdout goes to `out` line by line, and it listens on stdin.
    pub(crate) fn start_talking(
        name: &str,
        command: &mut Command,
        out: impl FnMut(String) + Send + 'static,
    ) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let (mut process, stdin) =
            Self::start_with(name, command, Lines::default(), |child| child.stdin.take().expect("a pipe"));
        each_line(process.child.stdout.take().expect("a pipe"), out);
        (process, stdin)
    }

    fn start_with<T>(
        name: &str,
        command: &mut Command,
        log: Lines,
        take: impl FnOnce(&mut Child) -> T,
    ) -> (Self, T) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        each_line(child.stderr.take().expect("a pipe"), keep(&log));
        let taken = take(&mut child);
        (Self { name: name.to_owned(), child, log }, taken)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            eprintln!("---- log of {} ----", self.name);
            for line in log.iter().skip(log.len().saturating_sub(SHOWN_LINES)) {
                eprintln!("{line}");
            }
        }
    }
}

#[test]
fn what_a_test_started_does_not_outlive_it() {
    if on_path("setpriv").is_none() {
        return;
    }
    let start = || {
        let process = Process::start("sleep", tied("sleep").arg("600"));
        let name = format!("/proc/{}/comm", process.pid());
        super::until("it runs", || (std::fs::read_to_string(&name).ok()? == "sleep\n").then_some(()));
        process
    };
    let mut process = thread::spawn(start).join().expect("it starts");
    let ended = super::until("it is killed with its thread", || process.ended());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
}
