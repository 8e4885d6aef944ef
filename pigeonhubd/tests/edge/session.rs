//! Sessions on streams that misbehave.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use pigeonhub_proto::io::{ClosedBy, ConnId};
use pigeonhubd::edge::{Edge, EdgeEvent, Intake};
use pigeonhubd::outbox::{Item, Outbox};
use pigeonhubd::panics;
use pigeonhubd::session::{CLOSE_WAIT, Session, config};
use pigeonhubd::stream::Pipe;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

const CONN: ConnId = ConnId(1);

const STALL: Duration = Duration::from_millis(400);

/// A session whose far end is the test's, through a pipe of 1 KiB.
async fn start() -> (DuplexStream, Arc<Outbox>, Intake) {
    let (near, far) = duplex(1024);
    let (outbox, intake) = on(near).await;
    (far, outbox, intake)
}

async fn on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> (Arc<Outbox>, Intake) {
    let (edge, intake) = Edge::new();
    let outbox = Arc::new(Outbox::new());
    let config = Some(config(64 * 1024));
    let ws = WebSocketStream::from_raw_socket(Pipe::new(stream), Role::Server, config).await;
    let session = Session::new(CONN, ws, Arc::clone(&outbox), edge, true).with_max_stall(STALL);
    tokio::spawn(session.run());
    (outbox, intake)
}

async fn closed(mut intake: Intake) -> ClosedBy {
    match intake.events.recv().await {
        Some(EdgeEvent::Closed { conn: CONN, reason, .. }) => reason,
        other => panic!("an end was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_far_end_that_takes_nothing_is_dropped() {
    let (_far, outbox, intake) = start().await;
    let start = Instant::now();
    outbox.push(Item::Text("x".repeat(10_000))).unwrap();
    assert_eq!(closed(intake).await, ClosedBy::Broken("the far end took nothing for 400ms".into()));
    assert!(start.elapsed() >= STALL);
}

#[tokio::test]
async fn a_far_end_that_takes_a_little_now_and_then_is_not() {
    // On a machine that is busy elsewhere a pause may get too long by itself:
    // such a run shows nothing, and another is made.
    for _ in 0..10 {
        let (mut far, outbox, mut intake) = start().await;
        outbox.push(Item::Text("x".repeat(10_000))).unwrap();
        let (mut left, mut longest, mut last) = (10_004, Duration::ZERO, Instant::now());
        let mut piece = [0; 1000];
        while left > 0 {
            tokio::time::sleep(STALL / 4).await;
            left -= far.read(&mut piece).await.unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        if longest < STALL / 2 {
            tokio::time::sleep(2 * STALL).await;
            assert!(intake.events.try_recv().is_err(), "nor is one to which nothing is sent");
            return;
        }
    }
}

#[tokio::test]
async fn a_close_does_not_wait_for_long() {
    let (mut far, outbox, intake) = start().await;
    let start = Instant::now();
    outbox.close(1000, "bye".into());
    // It takes the close, and never answers.
    let mut close = [0; 7];
    far.read_exact(&mut close).await.unwrap();
    assert_eq!(&close, b"\x88\x05\x03\xe8bye");
    assert_eq!(closed(intake).await, ClosedBy::Local);
    assert!(start.elapsed() >= CLOSE_WAIT);

    let (_far, outbox, intake) = self::start().await;
    outbox.push(Item::Text("x".repeat(10_000))).unwrap();
    outbox.close(1000, "bye".into());
    // It takes nothing at all.
    assert!(matches!(closed(intake).await, ClosedBy::Local | ClosedBy::Broken(_)));
}

/// Breaks as soon as it is read.
struct Faulty;

impl AsyncRead for Faulty {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        panic!("as this test wants it");
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_ends_its_session_alone_and_is_told() {
    let log = Log::default();
    let writer = log.clone();
    // For this thread, on which the session runs too.
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    panics::install();
    let before = panics::count();
    let (_outbox, intake) = on(Faulty).await;
    let (mut far, outbox, other) = self::start().await;
    assert_eq!(closed(intake).await, ClosedBy::Broken("a fault in this hub".into()));
    assert_eq!(panics::count(), before + 1);
    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let place = format!("a fault in pigeonhubd, at {}:", file!());
    assert!(told.contains(&place) && told.contains(": as this test wants it;"), "{told}");
    // Down to the place where it happened, whatever RUST_BACKTRACE says.
    assert!(told.contains("Faulty as tokio::io::async_read::AsyncRead>::poll_read"), "{told}");
    // The other one goes on.
    outbox.close(1000, "bye".into());
    let mut close = [0; 7];
    far.read_exact(&mut close).await.unwrap();
    assert_eq!(&close, b"\x88\x05\x03\xe8bye");
    drop(far);
    assert!(matches!(closed(other).await, ClosedBy::Local | ClosedBy::Broken(_)));
}
