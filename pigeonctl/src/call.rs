//! One request to a hub, and its response.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pigeonhub_proto::control::{Answer, CONTROL_VERSION, Command, ControlRequest, ControlResponse};

/// How long a hub may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest response that is read, in bytes.
const MAX_RESPONSE: u64 = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there.
    #[error("no hub answers on {}: {error}; is pigeonhubd running?", .socket.display())]
    NotRunning { socket: PathBuf, error: io::Error },
    /// No hub was found.
    #[error("no running hub was found; name one with --instance PORT or --socket PATH (looked in {})", .looked.join(", "))]
    NoneFound { looked: Vec<String> },
    /// More than one was found.
    #[error("several hubs run here; name one: {}", .found.iter().map(|port| format!("--instance {port}")).collect::<Vec<_>>().join(", "))]
    Several { found: Vec<u16> },
    /// The socket is not ours to open.
    #[error("no permission for {}: it is for its hub's own user and group", .socket.display())]
    NoPermission { socket: PathBuf },
    /// It took too long.
    #[error("the hub on {} does not answer within {} s", .socket.display(), TIMEOUT.as_secs())]
    TimedOut { socket: PathBuf },
    /// The hub says no.
    #[error("the hub says: {0}")]
    Refused(String),
    /// The hub says something else than it should.
    #[error("the hub on {} answers in a way this pigeonctl does not understand ({error}); are both of one version?", .socket.display())]
    Unreadable { socket: PathBuf, error: String },
    /// Our own output could not be written.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

impl CallError {
    /// As documented in pigeonctl(1).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotRunning { .. } | Self::NoneFound { .. } => 3,
            Self::NoPermission { .. } => 4,
            Self::Several { .. } => 2,
            Self::TimedOut { .. } => 7,
            Self::Refused(_) | Self::Unreadable { .. } | Self::Output(_) => 1,
        }
    }

    fn of_io(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission { socket },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut { socket },
            _ => Self::NotRunning { socket, error },
        }
    }
}

/// Asks the hub with that control socket.
pub(crate) fn ask(socket: &Path, command: Command) -> Result<Answer, CallError> {
    let line = exchange(socket, command).map_err(|error| CallError::of_io(socket, error))?;
    let unreadable = |error: String| CallError::Unreadable { socket: socket.to_owned(), error };
    let response: ControlResponse =
        serde_json::from_str(&line).map_err(|error| unreadable(error.to_string()))?;
    match response {
        ControlResponse { ok: Some(answer), .. } => Ok(answer),
        ControlResponse { error: Some(error), .. } => Err(CallError::Refused(error)),
        _ => Err(unreadable(String::from("neither an answer nor an error"))),
    }
}

fn exchange(socket: &Path, command: Command) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = ControlRequest { v: CONTROL_VERSION, id: 1, command };
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_RESPONSE)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
    }
    Ok(answer)
}
