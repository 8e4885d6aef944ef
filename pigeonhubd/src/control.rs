//! The control socket: one JSON request a line, one JSON response a line.

mod caller;
mod desk;
mod request;
mod users;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use pigeonhub_proto::control::{
    Answer, CONTROL_VERSION, Command, ControlErrorCode, ControlRequest, ControlResponse,
};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use self::caller::Caller;
pub use self::desk::{Desk, MAX_FOLLOWERS};
use self::request::parse;
pub(crate) use self::users::warn_of_unseen;
use crate::edge::Refusal;
use crate::events;

/// The socket's file name in the runtime directory.
pub const SOCKET_NAME: &str = "control.sock";

/// The longest request line, in bytes, without its line end.
pub const MAX_LINE: usize = 64 * 1024;

/// Callers at once; one more is told so and hung up on.
pub const MAX_CALLERS: usize = 8;

/// How long a caller may take for a request, and for reading its response.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Who may call: this user and the group.
const MODE: u32 = 0o660;

/// How often the socket is looked at. Its folder may be removed: that of a user when the last session
/// of that user ends.
const LOOK: Duration = Duration::from_secs(5);

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A running hub has it.
    #[error("another pigeonhubd answers on {path}; two hubs cannot share a runtime directory")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// There is something else in its place.
    #[error("{path} is in the way of the control socket, and is not a socket; move it elsewhere")]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let us.
    #[error("cannot listen on the control socket {path}: {error}")]
    Other {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A listening control socket.
pub struct Socket {
    listener: Listener,
    path: PathBuf,
    /// Its file, by device and inode.
    file: (u64, u64),
    /// The group that may call.
    group: Arc<str>,
}

impl Socket {
    /// Whether callers find it.
    fn is_there(&self) -> bool {
        file_of(&self.path).is_ok_and(|file| file == self.file)
    }
}

fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Listens on `control.sock` in an existing directory. Replaces a socket that
/// a killed hub left behind. The socket is removed when the listener is dropped.
pub fn bind(runtime_dir: &Path) -> Result<Socket, ControlError> {
    let path = runtime_dir.join(SOCKET_NAME);
    let other = |error| ControlError::Other { path: path.clone(), error };
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NoSocket { path });
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => return Err(ControlError::Taken { path }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&path).map_err(other)?;
            }
            Err(error) => return Err(other(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(other(error)),
    }
    let name = path.as_path().to_fs_name::<GenericFilePath>().map_err(other)?;
    let listener = ListenerOptions::new().name(name).mode(MODE).create_tokio().map_err(other)?;
    // The user's mask took away from it what the group needs.
    std::fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(other)?;
    let file = file_of(&path).map_err(other)?;
    let group = Arc::from(caller::group_of(&path));
    Ok(Socket { listener, path, file, group })
}

/// Answers callers for ever. Dropping this future hangs up on all of them, and
/// removes the socket. If somebody else removes it, `bind_again` makes another one.
pub async fn serve(mut socket: Socket, desk: Desk, bind_again: impl Fn() -> Result<Socket, String>) {
    let desk = Arc::new(desk);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missing = false;
    let places = Arc::new(Semaphore::new(MAX_CALLERS));
    let mut callers = JoinSet::new();
    let mut told = false;
    loop {
        while callers.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            _ = look.tick() => {
                let before = std::mem::replace(&mut missing, !socket.is_there());
                if missing {
                    replace(&mut socket, &bind_again, before);
                    missing = !socket.is_there();
                }
                continue;
            }
        };
        // Once, however long it lasts.
        let known = std::mem::replace(&mut told, accepted.is_err());
        match accepted {
            Ok(stream) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (desk, group) = (Arc::clone(&desk), Arc::clone(&socket.group));
                    callers.spawn(async move {
                        let _place = place;
                        call(stream, &desk, &group).await
                    });
                }
                // One line fits the socket's buffer, so this does not wait.
                Err(_) => {
                    let full = format!("{MAX_CALLERS} callers are being answered; try again");
                    let full = response(0, Err(Refusal { code: ControlErrorCode::Busy, text: full }));
                    let _ = timeout(Duration::ZERO, respond(&stream, &full)).await;
                }
            },
            Err(error) => {
                if !known {
                    tracing::warn!("cannot accept callers on the control socket for the moment: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Another socket in place of one that was removed. What hinders is told once.
fn replace(socket: &mut Socket, bind_again: impl Fn() -> Result<Socket, String>, told: bool) {
    let path = socket.path.display();
    match bind_again() {
        Ok(new) => {
            tracing::info!("the control socket {path} was gone, and is there again");
            // Its path is the new one's by now.
            socket.listener.do_not_reclaim_name_on_drop();
            *socket = new;
        }
        Err(error) if !told => {
            tracing::warn!("the control socket {path} is gone, and pigeonctl finds no hub: {error}");
        }
        Err(_) => {}
    }
}

/// Answers one caller's requests until it hangs up.
async fn call(stream: Stream, desk: &Desk, group: &str) -> io::Result<()> {
    let caller = Caller::of(&stream);
    let mut reader = BufReader::new(&stream);
    loop {
        let mut line = Vec::new();
        let read = timeout(CALL_TIMEOUT, read_line(&mut reader, &mut line)).await;
        let (response, last) = match read {
            Ok(Ok(Line::Whole)) => match parse(&line) {
                Ok(ControlRequest {
                    id, command: Command::Events { since, types, follow: true }, ..
                }) => {
                    return follow(&stream, &mut reader, desk, id, (since, &types)).await;
                }
                Ok(ControlRequest { id, command, .. }) => {
                    (response(id, desk.answer(command, caller, group).await), false)
                }
                Err(unfit) => (error(unfit.id, unfit.text), false),
            },
            Ok(Ok(Line::End)) => return Ok(()),
            Ok(Ok(Line::TooLong)) => (error(0, format!("a request is at most {MAX_LINE} bytes long")), true),
            Ok(Err(error)) => return Err(error),
            Err(_) => (error(0, format!("no request within {} s", CALL_TIMEOUT.as_secs())), true),
        };
        timeout(CALL_TIMEOUT, respond(&stream, &response)).await??;
        if last {
            return Ok(());
        }
    }
}

/// Sends the events that there are as one response, and then each that comes
/// as one of its own, until the caller hangs up. Nothing more that it says is heard.
async fn follow(
    stream: &Stream,
    reader: &mut (impl AsyncBufRead + Unpin),
    desk: &Desk,
    id: u64,
    (since, types): (u64, &[String]),
) -> io::Result<()> {
    let tell = async |answer| timeout(CALL_TIMEOUT, respond(stream, &response(id, answer))).await?;
    let _place = match desk.follower() {
        Ok(place) => place,
        Err(refusal) => return tell(Err(refusal)).await,
    };
    let (before, mut news) = desk.events.follow(since, types);
    tell(Ok(Answer::Events(before))).await?;
    loop {
        let said = tokio::select! {
            event = news.recv() => match event {
                Ok(event) if events::wanted(&event, types) => {
                    tell(Ok(Answer::Events(vec![event.as_ref().clone()]))).await?;
                    continue;
                }
                // What it was too slow for shows in the numbers.
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            said = reader.fill_buf() => said?.len(),
        };
        if said == 0 {
            return Ok(());
        }
        reader.consume(said);
    }
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads up to a line end, or the end of the stream, which counts as one.
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<Line> {
    let limit = MAX_LINE as u64 + 1;
    let count = reader.take(limit).read_until(b'\n', line).await?;
    if line.pop_if(|last| *last == b'\n').is_none() && count > MAX_LINE {
        return Ok(Line::TooLong);
    }
    Ok(if count == 0 { Line::End } else { Line::Whole })
}

async fn respond(mut stream: impl AsyncWrite + Unpin, response: &ControlResponse) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

fn response(id: u64, answer: Result<Answer, Refusal>) -> ControlResponse {
    let v = CONTROL_VERSION;
    match answer {
        Ok(answer) => ControlResponse { v, id, ok: Some(answer), error: None, code: None },
        Err(Refusal { code, text }) => {
            ControlResponse { v, id, ok: None, error: Some(text), code: Some(code) }
        }
    }
}

fn error(id: u64, text: String) -> ControlResponse {
    response(id, Err(Refusal { code: ControlErrorCode::BadRequest, text }))
}
