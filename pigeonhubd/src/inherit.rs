//! Listening sockets that systemd hands over: those of a socket unit, and
//! those that this hub gave it to keep while it restarts (sd_listen_fds(3)).

use std::ffi::OsString;
use std::net::TcpListener;

use listenfd::ListenFd;

use crate::service::STORED;

/// The most that are looked at.
const MOST: usize = 64;

/// What was handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Of a socket unit.
    pub units: Vec<TcpListener>,
    /// Kept from the run before.
    pub stored: Vec<TcpListener>,
}

impl Inherited {
    /// Takes them, before any other file is opened or thread started. What is
    /// not a listening TCP socket is left alone, and named in the error's stead
    /// in the log: a faulty unit should not keep a hub from working.
    pub fn take(env: impl Fn(&str) -> Option<OsString>) -> Self {
        let names =
            env("LISTEN_FDNAMES").map(|names| names.to_string_lossy().into_owned()).unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..handed.len().min(MOST) {
            let name = names.next().unwrap_or_default();
            match handed.take_tcp_listener(index) {
                Ok(Some(listener)) if name == STORED => inherited.stored.push(listener),
                Ok(Some(listener)) => inherited.units.push(listener),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("systemd handed over {name:?}, which is not used: {error}");
                }
            }
        }
        inherited
    }
}
