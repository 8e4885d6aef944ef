//! Clients that connect to a hub all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::harness::until;

/// What clients saw.
#[derive(Default)]
struct Tally {
    enough: AtomicBool,
    connected: AtomicUsize,
    told: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

/// Clients that connect again and again.
pub(crate) struct Traffic {
    tally: Arc<Tally>,
    runtime: Runtime,
    clients: Vec<JoinHandle<()>>,
}

/// Connects again and again; stays for a moment each time, or until it is told to leave.
async fn client(port: u16, number: usize, tally: Arc<Tally>) {
    let url = format!("ws://127.0.0.1:{port}/?peerId={number:040x}");
    while !tally.enough.load(Ordering::Relaxed) {
        let mut socket = match connect_async(&url).await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tally.failed.lock().expect("no panic").push(error.to_string());
                continue;
            }
        };
        tally.connected.fetch_add(1, Ordering::Relaxed);
        let stay = async {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Close(Some(frame)) = message
                    && u16::from(frame.code) == 1001
                {
                    tally.told.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let _ = timeout(Duration::from_millis(300), stay).await;
        let _ = socket.close(None).await;
    }
}

impl Traffic {
    /// Starts so many clients of the hub on `port`, and waits until each was connected.
    pub(crate) fn start(port: u16, count: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let start = |number| runtime.spawn(client(port, number, Arc::clone(&tally)));
        let clients = (1..=count).map(start).collect();
        let traffic = Self { tally, runtime, clients };
        traffic.all_are_back();
        traffic
    }

    fn connected(&self) -> usize {
        self.tally.connected.load(Ordering::Relaxed)
    }

    /// Waits for as many connections from now on as there are clients.
    pub(crate) fn all_are_back(&self) {
        let before = self.connected();
        until("all are connected", || (self.connected() >= before + self.clients.len()).then_some(()));
    }

    /// Ends it: how many connections there were. None of them may have been refused, and
    /// some must have been told that their hub goes.
    pub(crate) fn end_without_a_refusal(self) -> usize {
        self.tally.enough.store(true, Ordering::Relaxed);
        let connected = || self.tally.connected.load(Ordering::Relaxed);
        self.runtime.block_on(async {
            for client in self.clients {
                client.await.expect("no panic");
            }
        });
        let failed = self.tally.failed.lock().expect("no panic");
        assert!(failed.is_empty(), "{} of {} were refused: {:?}", failed.len(), connected(), failed.first());
        assert!(self.tally.told.load(Ordering::Relaxed) > 0, "some were there when it stopped, and told");
        connected()
    }
}
