//! The least that a hub could do: each message goes to whom it names, copied
//! as it is. No JSON, no networks, no checks. What any hub is measured against.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Id = [u8; 40];

/// Messages that may wait for one receiver.
const QUEUE: usize = 1024;

#[derive(Default)]
struct Peers(RwLock<HashMap<Id, mpsc::Sender<Utf8Bytes>>>);

impl Peers {
    fn find(&self, id: &Id) -> Option<mpsc::Sender<Utf8Bytes>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn add(&self, id: Id, queue: mpsc::Sender<Utf8Bytes>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, queue);
    }

    fn remove(&self, id: &Id) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The 40 digits behind `name` in `text`.
fn id_after(text: &str, name: &str) -> Option<Id> {
    let at = text.find(name)? + name.len();
    text.as_bytes().get(at..at + 40)?.try_into().ok()
}

async fn serve(tcp: TcpStream, peers: Arc<Peers>) {
    let id = Mutex::new(None);
    #[allow(clippy::result_large_err, reason = "the library's signature")]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let query = request.uri().query().unwrap_or_default();
        *id.lock().unwrap_or_else(PoisonError::into_inner) = id_after(query, "peerId=");
        Ok(response)
    };
    let Ok(socket) = accept_hdr_async(tcp, note).await else { return };
    let Some(id) = id.into_inner().unwrap_or_else(PoisonError::into_inner) else { return };
    let (mut out, mut incoming) = socket.split();
    let (queue, mut queued) = mpsc::channel::<Utf8Bytes>(QUEUE);
    peers.add(id, queue);
    let writing = tokio::spawn(async move {
        let mut batch = Vec::new();
        // Everything that waits, and one flush.
        while queued.recv_many(&mut batch, 64).await > 0 {
            for text in batch.drain(..) {
                if out.feed(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            if out.flush().await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = incoming.next().await {
        if let Message::Text(text) = message
            && let Some(target) =
                id_after(&text, "\"targetPeerId\":\"").and_then(|target| peers.find(&target))
        {
            // A receiver that left is nobody's concern here.
            let _ = target.send(text).await;
        }
    }
    peers.remove(&id);
    writing.abort();
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let peers = Arc::new(Peers::default());
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(serve(tcp, Arc::clone(&peers)));
    }
}
