//! The way of clients to a hub, which may be cut: a TCP forwarder.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Passes on what comes to a port of its own, until it is cut.
pub(crate) struct Cable {
    port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    /// One to a port of this machine. It ends with the test's process.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let cable = Self { port: listener.local_addr().expect("bound").port(), open: Arc::default() };
        let open = Arc::clone(&cable.open);
        thread::spawn(move || {
            for near in listener.incoming().filter_map(Result::ok) {
                // Nobody listens there for now: the client finds its connection closed, and tries again.
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) =
                        (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
                open.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
            }
        });
        cable
    }

    /// Where clients find the hub.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Breaks what is connected; whoever comes next gets through.
    pub(crate) fn cut(&self) {
        for socket in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
