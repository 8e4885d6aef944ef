//! Requests to a hub over its control socket, and its responses.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use pigeonhub_proto::control::{
    Answer, CONTROL_VERSION, Command, ControlErrorCode, ControlRequest, ControlResponse,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::failure::Failure;

/// How long a hub may take for a whole answer, unless said otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest response that is read, in bytes.
const MAX_RESPONSE: usize = 256 * 1024 * 1024;

/// A connection to a hub.
pub(crate) struct Call {
    socket: PathBuf,
    timeout: Duration,
    stream: BufReader<UnixStream>,
}

/// Asks the hub with that control socket one thing.
pub(crate) fn ask(socket: &Path, command: Command) -> Result<Answer, Failure> {
    Call::open(socket)?.ask(command)
}

impl Call {
    /// Connects.
    pub(crate) fn open(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| of_connect(socket, error))?;
        Ok(Self { socket: socket.to_owned(), timeout: TIMEOUT, stream: BufReader::new(stream) })
    }

    /// Gives an answer this long from now on.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The process id of whoever listens, and its user.
    pub(crate) fn process(&self) -> Option<(i32, u32)> {
        let of = getsockopt(self.stream.get_ref(), sockopt::PeerCredentials).ok()?;
        Some((of.pid(), of.uid()))
    }

    /// One question, one answer.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Answer, Failure> {
        let sent = self.send(command);
        match (self.receive(Some(Instant::now() + self.timeout)), sent) {
            // A hub that is too busy says so before it has read the question.
            (Ok(Some(answer)), _) => Ok(answer),
            (Ok(None), Err(error)) => Err(self.failure(error)),
            (Ok(None), Ok(())) => Err(Failure::HungUp { socket: self.socket.clone() }),
            (Err(failure), _) => Err(failure),
        }
    }

    /// The next of several answers to one question, however long it takes;
    /// none once the hub has hung up. That nobody reads `out` any more ends it.
    pub(crate) fn next(&mut self, out: impl AsFd) -> Result<Option<Answer>, Failure> {
        if self.stream.buffer().is_empty() {
            self.wait(out.as_fd())?;
        }
        self.receive(None)
    }

    /// Until there is something to read, or `out` is closed at its far end.
    fn wait(&self, out: BorrowedFd<'_>) -> Result<(), Failure> {
        let hub = self.stream.get_ref();
        let mut both = [PollFd::new(hub, PollFlags::IN), PollFd::new(&out, PollFlags::empty())];
        match poll(&mut both, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(self.failure(error.into())),
        }
        let [_, out] = &both;
        // Pipes and terminals tell it in different words.
        match out.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            true => Err(Failure::Output(io::ErrorKind::BrokenPipe.into())),
            false => Ok(()),
        }
    }

    fn send(&mut self, command: Command) -> io::Result<()> {
        let mut line = serde_json::to_string(&ControlRequest { v: CONTROL_VERSION, id: 1, command })?;
        line.push('\n');
        self.stream.get_ref().set_write_timeout(Some(self.timeout))?;
        self.stream.get_mut().write_all(line.as_bytes())
    }

    fn receive(&mut self, until: Option<Instant>) -> Result<Option<Answer>, Failure> {
        let line = self.read_line(until).map_err(|error| self.failure(error))?;
        if line.is_empty() {
            return Ok(None);
        }
        let unreadable = |error: String| Failure::Unreadable { socket: self.socket.clone(), error };
        let response: ControlResponse =
            serde_json::from_slice(&line).map_err(|error| unreadable(error.to_string()))?;
        match response {
            ControlResponse { error: Some(text), code, .. } => {
                Err(Failure::Refused { code: code.unwrap_or(ControlErrorCode::BadRequest), text })
            }
            ControlResponse { v, .. } if v != CONTROL_VERSION => {
                Err(unreadable(format!("it speaks version {v}, this is version {CONTROL_VERSION}")))
            }
            ControlResponse { ok: Some(answer), .. } => Ok(Some(answer)),
            _ => Err(unreadable(String::from("neither an answer nor an error"))),
        }
    }

    /// A line without its end; an empty one at the end of the stream.
    fn read_line(&mut self, until: Option<Instant>) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            // Of the whole, so that a hub which drips bytes is too slow as well.
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.get_ref().set_read_timeout(left)?;
            let read = match self.stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let end = read.iter().position(|byte| *byte == b'\n');
            let part = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
            line.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.stream.consume(used);
            if end.is_some() || used == 0 {
                return Ok(line);
            }
            if line.len() > MAX_RESPONSE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"));
            }
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::TimedOut { socket, patience: self.timeout }
            }
            io::ErrorKind::InvalidData => Failure::Unreadable { socket, error: error.to_string() },
            _ => Failure::HungUp { socket },
        }
    }
}

fn of_connect(socket: &Path, error: io::Error) -> Failure {
    let owned = socket.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::NoPermission { socket: owned, group: group_of(socket) },
        _ => Failure::NotRunning { socket: owned, error },
    }
}

/// The group that may open the socket, or the folder that hides it.
fn group_of(socket: &Path) -> Option<String> {
    let gid = socket.ancestors().find_map(|path| path.symlink_metadata().ok())?.gid();
    // Nobody should join root's group for this.
    if gid == 0 {
        return None;
    }
    let group = nix::unistd::Group::from_gid(gid.into()).ok()?;
    Some(group.map_or_else(|| gid.to_string(), |group| group.name))
}
