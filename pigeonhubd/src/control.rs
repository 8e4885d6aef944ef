//! The control socket: one JSON request a line, one JSON response a line.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use pigeonhub_proto::control::{CONTROL_VERSION, ControlErrorCode, ControlRequest, ControlResponse};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::edge::Edge;

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

/// Listens on `control.sock` in an existing directory. Replaces a socket that
/// a killed hub left behind. The socket is removed when the listener is dropped.
pub fn bind(runtime_dir: &Path) -> Result<Listener, ControlError> {
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
    Ok(listener)
}

/// Answers callers for ever. Dropping this future hangs up on all of them, and
/// removes the socket.
pub async fn serve(listener: Listener, edge: Edge) {
    let places = Arc::new(Semaphore::new(MAX_CALLERS));
    let mut callers = JoinSet::new();
    loop {
        while callers.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(stream) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let edge = edge.clone();
                    callers.spawn(async move {
                        let _place = place;
                        call(stream, &edge).await
                    });
                }
                // One line fits the socket's buffer, so this does not wait.
                Err(_) => {
                    let full = error(0, format!("{MAX_CALLERS} callers are being answered; try again"));
                    let _ = timeout(Duration::ZERO, respond(&stream, &full)).await;
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a caller on the control socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one caller's requests until it hangs up.
async fn call(stream: Stream, edge: &Edge) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    loop {
        let mut line = Vec::new();
        let read = timeout(CALL_TIMEOUT, read_line(&mut reader, &mut line)).await;
        let (response, last) = match read {
            Ok(Ok(Line::Whole)) => (answer(&line, edge).await, false),
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

async fn answer(line: &[u8], edge: &Edge) -> ControlResponse {
    let request = match parse(line) {
        Ok(request) => request,
        Err(fault) => return *fault,
    };
    match edge.ask(request.command).await {
        Ok(answer) => {
            ControlResponse { v: CONTROL_VERSION, id: request.id, ok: Some(answer), error: None, code: None }
        }
        Err(fault) => ControlResponse { code: Some(fault.code()), ..error(request.id, fault.to_string()) },
    }
}

/// The request, or the response that says what is wrong with it.
fn parse(line: &[u8]) -> Result<ControlRequest, Box<ControlResponse>> {
    let fail = |id, what: String| Err(Box::new(error(id, what)));
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(fault) => return fail(0, format!("a request is one JSON object on one line: {fault}")),
    };
    let id = value.get("id").and_then(Value::as_u64).unwrap_or_default();
    if !value.is_object() {
        return fail(id, String::from("a request is a JSON object, like {\"v\":1,\"cmd\":\"status\"}"));
    }
    if value.get("v").and_then(Value::as_u64) != Some(CONTROL_VERSION.into()) {
        return fail(
            id,
            format!("this hub speaks version {CONTROL_VERSION}: put \"v\":{CONTROL_VERSION} in"),
        );
    }
    if !value.get("cmd").is_some_and(Value::is_string) {
        return fail(id, String::from("\"cmd\" is missing or not a string: try \"status\""));
    }
    serde_json::from_value(value).or_else(|fault| fail(id, fault.to_string()))
}

fn error(id: u64, what: String) -> ControlResponse {
    let code = Some(ControlErrorCode::BadRequest);
    ControlResponse { v: CONTROL_VERSION, id, ok: None, error: Some(what), code }
}
