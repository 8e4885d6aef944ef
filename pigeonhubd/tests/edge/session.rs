//! Sessions on streams that misbehave.

use std::collections::VecDeque;
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
use pigeonhubd::stream::{LONG_TURN, Pipe, TURN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex, join, sink};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::ground::frame;

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
    (run(stream, edge).await, intake)
}

async fn run(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, edge: Edge) -> Arc<Outbox> {
    let outbox = Arc::new(Outbox::new());
    let config = Some(config(64 * 1024));
    let ws = WebSocketStream::from_raw_socket(Pipe::new(stream), Role::Server, config).await;
    let session = Session::new(CONN, ws, Arc::clone(&outbox), edge, true).with_max_stall(STALL);
    tokio::spawn(session.run());
    outbox
}

/// Gives one piece at a time, with a pause behind it.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    paused: bool,
    /// How many bytes each of them could have had.
    room: Arc<Mutex<Vec<usize>>>,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let paused = self.paused;
        self.paused = !paused;
        if !paused && let Some(piece) = self.pieces.pop_front() {
            self.room.lock().unwrap().push(into.remaining());
            into.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        if !self.pieces.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

fn pieces(pieces: &[&[Vec<u8>]]) -> (Pieces, Arc<Mutex<Vec<usize>>>) {
    let (pieces, room) = (pieces.iter().map(|frames| frames.concat()).collect(), Arc::default());
    (Pieces { pieces, paused: false, room: Arc::clone(&room) }, room)
}

#[tokio::test]
async fn more_is_read_at_once_from_whoever_sends_several_messages() {
    let text = frame(0x81, b"text");
    let (one, three) = (std::slice::from_ref(&text), [text.clone(), text.clone(), text.clone()]);
    let (stream, room) = pieces(&[one, &three, &three, one, one]);
    let (_outbox, mut intake) = on(join(stream, sink())).await;
    let mut texts = 0;
    while texts < 9 {
        match intake.events.recv().await {
            Some(EdgeEvent::Texts { texts: more, .. }) => texts += more.len(),
            other => panic!("texts were expected, not {other:?}"),
        }
    }
    assert_eq!(*room.lock().unwrap(), [TURN, TURN, LONG_TURN, LONG_TURN, TURN]);
}

#[tokio::test]
async fn an_end_comes_behind_texts_that_the_driver_had_no_room_for() {
    let (edge, mut intake) = Edge::new();
    while edge.try_send(EdgeEvent::Pong { conn: ConnId(9), number: None }).is_ok() {}
    let (stream, room) = pieces(&[&[frame(0x81, b"text"), frame(0x88, b"\x03\xe8bye")]]);
    let _outbox = run(join(stream, sink()), edge).await;
    while room.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut said = Vec::new();
    while said.len() < 2 {
        match intake.events.recv().await {
            Some(EdgeEvent::Pong { .. }) => {}
            Some(EdgeEvent::Texts { texts, .. }) => said.extend(texts.iter().map(ToString::to_string)),
            Some(EdgeEvent::Closed { reason: ClosedBy::Remote { code, reason }, .. }) => {
                said.push(format!("{code} {reason}"));
            }
            other => panic!("a text and an end were expected, not {other:?}"),
        }
    }
    assert_eq!(said, ["text", "1000 bye"]);
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
async fn whoever_takes_some_of_what_it_was_sent_has_answered_a_ping() {
    let (mut far, outbox, mut intake) = start().await;
    outbox.push(Item::Text("x".repeat(3_000))).unwrap();
    let mut piece = [0; 500];
    // The pipe is full; what makes room in it is no answer before there was a question.
    far.read_exact(&mut piece).await.unwrap();
    tokio::task::yield_now().await;
    outbox.ping(7);
    assert!(intake.events.try_recv().is_err());
    far.read_exact(&mut piece).await.unwrap();
    assert!(matches!(intake.events.recv().await, Some(EdgeEvent::Pong { conn: CONN, number: Some(7) })));
    let mut rest = [0; 2_004];
    far.read_exact(&mut rest).await.unwrap();
    let mut ping = [0; 6];
    far.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping, [0x89, 4, 0, 0, 0, 7], "it is asked all the same");
    assert!(intake.events.try_recv().is_err(), "one answer to one question");
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
    let (_outbox, intake) = on(join(Faulty, sink())).await;
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
