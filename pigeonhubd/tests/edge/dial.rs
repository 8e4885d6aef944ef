//! WebSockets that this hub opens.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use pigeonhub_proto::io::{ClosedBy, ConnId};
use pigeonhubd::dial::{Dialler, MAX_DIALS};
use pigeonhubd::edge::{Edge, EdgeEvent, Intake};
use pigeonhubd::outbox::{Item, Outbox};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use crate::ground::LIMIT;

const CONN: ConnId = ConnId(2);

struct Dial {
    intake: Intake,
    outbox: Arc<Outbox>,
    _task: JoinSet<()>,
}

fn dial(url: &str) -> Dial {
    let (edge, intake) = Edge::new();
    let outbox = Arc::new(Outbox::dialled());
    let mut task = JoinSet::new();
    task.spawn(Dialler::new(edge, LIMIT).run(CONN, url.to_owned(), Arc::clone(&outbox)));
    Dial { intake, outbox, _task: task }
}

impl Dial {
    async fn next(&mut self) -> EdgeEvent {
        self.intake.events.recv().await.unwrap()
    }

    async fn failed(mut self) -> String {
        match self.next().await {
            EdgeEvent::DialFailed { conn: CONN, error } => error,
            other => panic!("a failure was expected, not {other:?}"),
        }
    }
}

/// A port that nobody listens on.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Answers everyone with the same bytes.
async fn answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = tcp.read(&mut request).await;
            let _ = tcp.write_all(answer).await;
        }
    });
    port
}

#[tokio::test]
async fn a_dialled_websocket_works_both_ways_and_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut dial = dial(&format!("ws://{address}/x?peerId=me&mesh=1"));
    let (tcp, _) = listener.accept().await.unwrap();
    let mut far = accept_async(tcp).await.unwrap();
    let EdgeEvent::Dialled { conn: CONN, remote } = dial.next().await else { panic!("it is open") };
    assert_eq!(remote, Some(address.ip()));

    far.send(Message::from("hello")).await.unwrap();
    let EdgeEvent::Texts { texts, .. } = dial.next().await else { panic!("it is read at once") };
    assert_eq!(texts.iter().map(|text| text.as_str()).collect::<Vec<_>>(), ["hello"]);
    dial.outbox.push(Item::Binary(vec![1, 2].into())).unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), Message::from(vec![1, 2]));

    dial.outbox.close(1000, "migrated".into());
    assert!(matches!(far.next().await, Some(Ok(Message::Close(Some(_))))));
    assert!(far.next().await.is_none());
    drop(far);
    let EdgeEvent::Closed { conn: CONN, reason, .. } = dial.next().await else { panic!("it is over") };
    assert_eq!(reason, ClosedBy::Local);
}

#[tokio::test]
async fn failures_are_told_in_plain_words() {
    let port = free_port().await;
    assert_eq!(dial(&format!("ws://127.0.0.1:{port}/")).failed().await, "connection refused");

    let page = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(dial(&format!("ws://127.0.0.1:{page}/")).failed().await, "HTTP 200 instead of a WebSocket");
    let page = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(dial(&format!("ws://127.0.0.1:{page}/")).failed().await, "HTTP 404 instead of a WebSocket");

    let other = answering(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n").await;
    let error = dial(&format!("ws://127.0.0.1:{other}/")).failed().await;
    assert!(error.starts_with("no WebSocket there: "), "{error}");
    let error = dial(&format!("wss://127.0.0.1:{other}/")).failed().await;
    assert!(error.starts_with("TLS: "), "{error}");

    for url in ["http://127.0.0.1/", "nonsense", "ws://", ""] {
        let error = dial(url).failed().await;
        assert!(error.starts_with("not a URL that can be dialled: "), "{url}: {error}");
    }
}

#[tokio::test]
async fn who_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = dial(&format!("ws://{}/", listener.local_addr().unwrap())).failed().await;
    assert_eq!(error, "no answer within 10 s");
}

#[tokio::test]
async fn a_dial_can_be_called_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut dial = dial(&format!("ws://{}/", listener.local_addr().unwrap()));
    let (_silent, _) = listener.accept().await.unwrap();
    dial.outbox.close(1000, String::new());
    assert!(matches!(dial.next().await, EdgeEvent::Closed { conn: CONN, reason: ClosedBy::Local, .. }));
}

#[tokio::test]
async fn only_so_many_dials_run_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let (edge, _intake) = Edge::new();
    let dialler = Dialler::new(edge, LIMIT);
    let mut dials = JoinSet::new();
    for _ in 0..=MAX_DIALS {
        dials.spawn(dialler.clone().run(CONN, url.clone(), Arc::new(Outbox::dialled())));
    }
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..MAX_DIALS {
        silent.push(listener.accept().await.unwrap().0);
    }
    let waiting = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(waiting, listener.accept()).await.is_err(), "one dial waits");
    silent.pop();
    listener.accept().await.unwrap();
}
