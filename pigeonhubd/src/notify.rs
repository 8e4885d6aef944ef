//! Telling systemd how this hub is: the protocol of sd_notify(3).
//!
//! The `sd-notify` crate knows the words. It cannot send them to an abstract
//! socket, which is what systemd offers inside containers, so the sending is here.

use std::ffi::OsString;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};
use sd_notify::NotifyState;

/// The way to systemd, if it started this process and wants to hear of it.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(OwnedFd, UnixAddr)>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET` with `env`.
    ///
    /// # Errors
    /// The socket's name is none, or the system has no sockets left.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> nix::Result<Self> {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(abstract_name) => UnixAddr::new_abstract(abstract_name)?,
            None => UnixAddr::new(name.as_os_str())?,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        Ok(Self { socket: Some((socket, address)) })
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends in one message. Never waits: false if it could not be sent now.
    pub fn send(&self, states: &[NotifyState<'_>]) -> bool {
        self.send_with(states, &[])
    }

    /// As [`Self::send`], with file descriptors.
    pub fn send_with(&self, states: &[NotifyState<'_>], fds: &[BorrowedFd<'_>]) -> bool {
        let Some((socket, address)) = &self.socket else { return true };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let text = [IoSlice::new(lines.as_bytes())];
        match sendmsg(socket.as_raw_fd(), &text, control, flags, Some(address)) {
            Ok(_) => true,
            // It is busy; whoever sends comes again.
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            Err(error) => {
                tracing::warn!("systemd cannot be told how this hub is: {error}");
                false
            }
        }
    }
}

/// How often systemd wants to hear that this process is alive: the variables of
/// sd_watchdog_enabled(3). `None` if it does not, or wants it of another process.
pub fn watchdog(env: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| env(name)?.to_str()?.parse::<u64>().ok();
    let ours = env("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;
    use crate::test_dir::TestDir;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = listener.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(buffer.get(..count).expect("it fits")).into_owned()
    }

    #[test]
    fn it_reaches_sockets_of_both_kinds() {
        let dir = TestDir::new();
        let path = dir.join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::from_env(|_| Some(path.clone().into())).expect("a name");
        assert!(notifier.is_heard() && notifier.send(&[NotifyState::Ready]));
        assert_eq!(heard(&by_path), "READY=1\n");

        let name = format!("pigeonhubd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        let notifier = Notifier::from_env(|_| Some(format!("@{name}").into())).expect("a name");
        assert!(notifier.send(&[NotifyState::Status("fine")]));
        assert_eq!(heard(&by_name), "STATUS=fine\n");
        drop(by_name);
        assert!(!notifier.send(&[NotifyState::Status("nobody listens any more")]));
        let silent = Notifier::from_env(|_| None).expect("none");
        assert!(!silent.is_heard() && silent.send(&[NotifyState::Ready]));
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let ask = |pid: Option<&str>, usec: &str| {
            watchdog(|name| match name {
                "WATCHDOG_PID" => pid.map(OsString::from),
                _ => Some(OsString::from(usec)),
            })
        };
        let own = std::process::id().to_string();
        assert_eq!(ask(Some(&own), "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(ask(None, "1"), Some(Duration::from_micros(1)));
        for (pid, usec) in [(Some("1"), "30000000"), (Some("x"), "30000000"), (None, "0"), (None, "soon")] {
            assert_eq!(ask(pid, usec), None, "{pid:?} {usec}");
        }
    }
}
