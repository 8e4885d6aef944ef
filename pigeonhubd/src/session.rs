//! One task for each WebSocket, accepted or dialled: messages in to the
//! driver, messages out of its outbox, and an orderly end.

mod limit;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use pigeonhub_proto::io::{ClosedBy, ConnId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};

pub use self::limit::{Limit, MAX_REFUSED};
use crate::direct::Turn;
use crate::driver::Clock;
use crate::edge::{Edge, EdgeEvent, Room, weight};
use crate::outbox::{Close, Next, Outbox};
use crate::stream::{LONG_TURN, Pipe, TURN, linger};
use crate::tally::Passed;

/// How long a close may take: sending what waits, and the far end's answer.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long the far end's socket may take nothing at all while something waits.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// Messages that one session handles before it lets others go first, unless it comes to
/// [`Pipe::turn`] bytes before.
const READ_BATCH: u32 = 32;

/// The largest message that a session looks into itself, in bytes: larger ones take their time, and
/// the driver takes one after the other, while other sessions have the other threads.
const MOST_DIRECT: usize = 64 * 1024;

/// How often the driver hears of a session whose signals all go straight to others.
const ALIVE_EVERY: Duration = Duration::from_millis(250);

/// Buffers that suit thousands of mostly silent connections, and the limits.
pub fn config(max_message_size: usize) -> WebSocketConfig {
    const WRITE_BUFFER: usize = 1024;
    WebSocketConfig::default()
        // The stream reads more at once; this is what each session keeps.
        .read_buffer_size(512)
        .write_buffer_size(WRITE_BUFFER)
        // Only pongs and a close are ever in there: this keeps a far end that
        // pings but never reads in bounds.
        .max_write_buffer_size(max_message_size.saturating_add(WRITE_BUFFER + 1))
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

/// One WebSocket and its outbox.
pub struct Session<S> {
    conn: ConnId,
    ws: WebSocketStream<Pipe<S>>,
    outbox: Arc<Outbox>,
    edge: Edge,
    /// Whether the driver wants to hear what comes in.
    reading: bool,
    /// Texts for the driver that came in one turn.
    gathered: Option<Gathered>,
    /// Something came in that the driver has no room for yet. Nothing more is
    /// read until it has.
    blocked: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// How the WebSocket ended behind that.
    ended: Option<Box<End>>,
    /// See [`WRITE_STALL`].
    max_stall: Duration,
    /// Set while the socket takes nothing: when to give up, and how many bytes
    /// it had taken when the wait began.
    stall: Option<(Pin<Box<Sleep>>, u64)>,
    passed: Passed,
    /// When the driver last heard of signals that went straight, in ms since the Unix epoch.
    alive_at: u64,
    /// What its address may send.
    limit: Option<Box<Limit>>,
    /// Whether text may come in binary messages.
    binary_text: bool,
}

/// They go to the driver as one event: each would cost a wake-up.
struct Gathered {
    texts: Vec<Utf8Bytes>,
    bytes: usize,
    turn: Turn,
}

enum End {
    /// The driver wants the connection closed.
    Close(Close),
    /// The driver is gone, and so is this hub.
    Gone,
    /// The far end closed.
    Remote(Option<CloseFrame>),
    /// The far end broke a rule of WebSocket, or the connection broke.
    Failed(WsError),
    /// The socket takes nothing for too long, or broke.
    Broken(String),
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Session<S> {
    /// A session on an open WebSocket. `reading`: whether to read at once, or
    /// only when the outbox says so.
    pub fn new(
        conn: ConnId,
        ws: WebSocketStream<Pipe<S>>,
        outbox: Arc<Outbox>,
        edge: Edge,
        reading: bool,
    ) -> Self {
        Self {
            conn,
            ws,
            outbox,
            edge,
            reading,
            gathered: None,
            blocked: None,
            ended: None,
            max_stall: WRITE_STALL,
            stall: None,
            passed: Passed::default(),
            alive_at: 0,
            limit: None,
            binary_text: false,
        }
    }

    /// With another limit than [`WRITE_STALL`].
    pub fn with_max_stall(self, max_stall: Duration) -> Self {
        Self { max_stall, ..self }
    }

    /// With a limit on what comes in.
    pub fn with_limit(self, limit: Option<Limit>) -> Self {
        Self { limit: limit.map(Box::new), ..self }
    }

    /// With text in binary messages too, as some WebSocket libraries send it: for clients, whose
    /// messages are all text. A hub's binary messages are the mesh's.
    pub fn with_binary_text(self, binary_text: bool) -> Self {
        Self { binary_text, ..self }
    }

    /// Runs to the end of the WebSocket, then tells the driver. A panic ends
    /// this session alone.
    pub fn run(self) -> impl Future<Output = ()> + Send {
        // A future would have room for it twice: as it came, and where it is used.
        let mut session = Box::new(self);
        async move {
            let reason = AssertUnwindSafe(session.serve()).catch_unwind().await.unwrap_or_else(|_| {
                let conn = session.conn.0;
                tracing::error!(conn, "a session ended by a fault in pigeonhubd; the others go on");
                ClosedBy::Broken(String::from("a fault in this hub"))
            });
            // Boxed as well.
            Box::pin(session.over(reason)).await;
        }
    }

    /// Gives the connection up, and tells the driver.
    async fn over(self: Box<Self>, reason: ClosedBy) {
        let Self { conn, edge, ws, .. } = *self;
        // Thousands may end at once, and those that stay are not to wait for all of it.
        let room = edge.room_to_close().await;
        // TCP ends before the driver hears of it.
        drop(ws);
        edge.send(EdgeEvent::Closed { conn, reason, room }).await;
    }

    async fn serve(&mut self) -> ClosedBy {
        let end = poll_fn(|cx| self.poll_serve(cx)).await;
        // Boxed, so that it costs nothing before there is an end.
        Box::pin(self.end(end)).await
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_write(cx) {
            return Poll::Ready(end);
        }
        let read = self.poll_read(cx);
        if self.passed.messages_in == 0 {
            return read;
        }
        let passed = std::mem::take(&mut self.passed);
        self.edge.counters().passed(passed);
        // Answers to pings leave now, not after everything else that waits for a processor.
        let answered = passed.messages_out > passed.signals;
        if answered && read.is_pending() { self.poll_write(cx) } else { read }
    }

    /// Takes what came in, a turn at a time.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !ready!(self.poll_blocked(cx)) {
            return Poll::Ready(End::Gone);
        }
        if let Some(end) = self.ended.take() {
            return Poll::Ready(*end);
        }
        let mut count = 0;
        let read = self.poll_turn(cx, &mut count);
        match count {
            0 => {}
            1 => self.ws.get_mut().set_turn(TURN),
            // They are small, so more are read at once.
            _ => self.ws.get_mut().set_turn(LONG_TURN),
        }
        self.pass_gathered();
        if self.blocked.is_none() {
            return read;
        }
        if let Poll::Ready(end) = read {
            self.ended = Some(Box::new(end));
        }
        // The driver has to know whom to wake.
        if self.poll_blocked(cx).is_ready() {
            cx.waker().wake_by_ref();
        } else {
            self.ws.get_mut().rest();
        }
        Poll::Pending
    }

    /// Ready once the driver has room for what came in; false if it is gone.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(blocked) = &mut self.blocked else { return Poll::Ready(true) };
        let there = ready!(blocked.as_mut().poll(cx));
        // Without a driver there is none later either.
        self.blocked = (!there).then(|| Box::pin(std::future::ready(false)) as _);
        Poll::Ready(there)
    }

    /// Counts messages in `count`.
    fn poll_turn(&mut self, cx: &mut Context<'_>, count: &mut u32) -> Poll<End> {
        let (mut bytes, turn) = (0, self.ws.get_ref().turn());
        for _ in 0..READ_BATCH {
            if !self.reading || self.blocked.is_some() {
                return Poll::Pending;
            }
            match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
                Some(Ok(Message::Close(frame))) => return Poll::Ready(End::Remote(frame)),
                Some(Ok(message)) => {
                    bytes += message.len();
                    *count += 1;
                    self.received(message);
                }
                Some(Err(error)) => return Poll::Ready(End::Failed(error)),
                None => return Poll::Ready(End::Broken(String::from(LOST))),
            }
            if bytes >= turn {
                break;
            }
        }
        // There may be more; others go first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is in the outbox, as far as the socket takes it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if !self.ws.get_ref().is_flushed() {
                let (written, full) = (self.ws.get_ref().written(), self.stall.is_some());
                let flushed = Pin::new(self.ws.get_mut()).poll_flush(cx);
                if full && self.ws.get_ref().written() != written {
                    self.taken();
                }
                match flushed {
                    Poll::Ready(Ok(())) => self.stall = None,
                    Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error.to_string())),
                    Poll::Pending => {
                        return match self.outbox.poll_abort(cx) {
                            Poll::Ready(close) => Poll::Ready(End::Close(close)),
                            Poll::Pending => self.poll_stall(cx),
                        };
                    }
                }
            }
            match ready!(self.outbox.poll_next(cx)) {
                Next::Read => self.reading = true,
                Next::Send(frames) => self.ws.get_mut().put(frames),
                Next::Close(close) => return Poll::Ready(End::Close(close)),
            }
        }
    }

    /// The far end took some of what it was sent: the socket was full, and is not any more. That is as good
    /// an answer as a pong, which may wait behind much else.
    fn taken(&mut self) {
        if let number @ Some(_) = self.outbox.take_asked() {
            let (conn, turn) = (self.conn, Turn::new(&self.outbox));
            self.pass_gathered();
            self.pass(0, turn, move |_| EdgeEvent::Pong { conn, number });
        }
    }

    /// Called while the socket takes nothing: ready when that lasted too long.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let (written, max) = (self.ws.get_ref().written(), self.max_stall);
        let (sleep, before) = self.stall.get_or_insert_with(|| (Box::pin(tokio::time::sleep(max)), written));
        if *before != written {
            *before = written;
            sleep.as_mut().reset(Instant::now() + max);
        }
        sleep.as_mut().poll(cx).map(|()| End::Broken(format!("the far end took nothing for {max:?}")))
    }

    /// Passes a message on.
    fn received(&mut self, message: Message) {
        let message = match message {
            Message::Binary(bytes) if self.binary_text => match Utf8Bytes::try_from(bytes.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(bytes),
            },
            other => other,
        };
        if let Some(limit) = &mut self.limit
            && !limit.takes(&message, &self.outbox)
        {
            self.edge.counters().messages_refused.one();
            return limit.refuse(&message, &self.outbox);
        }
        let conn = self.conn;
        match message {
            Message::Text(text) => {
                let len = text.len();
                if len <= MOST_DIRECT && self.hand_over(&text) {
                    return;
                }
                let new = || Gathered { texts: Vec::new(), bytes: 0, turn: Turn::new(&self.outbox) };
                let gathered = self.gathered.get_or_insert_with(new);
                gathered.texts.push(text);
                gathered.bytes += len;
            }
            Message::Binary(bytes) => {
                self.pass_gathered();
                let (len, turn) = (bytes.len(), Turn::new(&self.outbox));
                self.pass(len, turn, move |room| EdgeEvent::Binary { conn, bytes, room });
            }
            Message::Pong(payload) => {
                self.pass_gathered();
                let turn = Turn::new(&self.outbox);
                let number = payload.as_ref().try_into().ok().map(u32::from_be_bytes);
                self.pass(0, turn, move |_| EdgeEvent::Pong { conn, number });
            }
            // The WebSocket has queued the pong, and sends it when it is polled next.
            Message::Ping(_) | Message::Frame(_) | Message::Close(_) => {}
        }
    }

    /// Gives a signal straight to its target's session, or into a bundle for its target's hub, if
    /// it may go there; answers a ping, if it may.
    fn hand_over(&mut self, text: &str) -> bool {
        let now = Clock::unix_ms();
        let (outbox, sessions) = (&self.outbox, self.edge.sessions());
        let Some(handed) = outbox.standing.hand_over(text, outbox, sessions, now) else { return false };
        self.passed.count(text.len(), handed);
        // The driver judges by it who is alive. If there is no room it hears of the next one.
        if u128::from(now.abs_diff(self.alive_at)) >= ALIVE_EVERY.as_millis()
            && self.edge.try_send(EdgeEvent::Alive { conn: self.conn }).is_ok()
        {
            self.alive_at = now;
        }
        true
    }

    /// Gives the driver what is gathered for it.
    fn pass_gathered(&mut self) {
        let Some(Gathered { texts, bytes, turn }) = self.gathered.take() else { return };
        let conn = self.conn;
        let weight = weight(texts.len(), bytes);
        self.pass(weight, turn, move |room| EdgeEvent::Texts { conn, texts, room });
    }

    /// Gives something to the driver, behind what it has no room for yet: now or, when it has no
    /// room, as soon as it has.
    fn pass(&mut self, len: usize, turn: Turn, event: impl FnOnce(Room) -> EdgeEvent + Send + 'static) {
        let edge = self.edge.clone();
        if let Some(before) = self.blocked.take() {
            self.blocked = Some(Box::pin(async move {
                before.await && edge.send(event(edge.room(len).await.with_turn(turn))).await
            }));
            return;
        }
        if let Some(room) = self.edge.try_room(len) {
            match self.edge.try_send(event(room.with_turn(turn))) {
                Ok(true) => {}
                Ok(false) => self.blocked = Some(Box::pin(std::future::ready(false))),
                Err(event) => self.blocked = Some(Box::pin(async move { edge.send(event).await })),
            }
            return;
        }
        self.blocked = Some(Box::pin(async move {
            let room = edge.room(len).await;
            edge.send(event(room.with_turn(turn))).await
        }));
    }

    /// Ends the WebSocket as far as there is still one, within [`CLOSE_WAIT`].
    async fn end(&mut self, end: End) -> ClosedBy {
        let deadline = Instant::now() + CLOSE_WAIT;
        match end {
            End::Close(close) => {
                self.close(close.code, &close.reason, deadline).await;
                close.broken.map_or(ClosedBy::Local, ClosedBy::Broken)
            }
            End::Gone => {
                self.close(1001, "the hub stopped", deadline).await;
                ClosedBy::Local
            }
            End::Remote(frame) => {
                // Puts out the answer that the WebSocket has queued, and sends it.
                while let Ok(Some(Ok(_))) = timeout_at(deadline, self.ws.next()).await {}
                let _ = timeout_at(deadline, self.ws.get_mut().flush()).await;
                let (code, reason) =
                    frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.as_str().to_owned()));
                ClosedBy::Remote { code, reason }
            }
            End::Failed(error) => self.failed(error, deadline).await,
            End::Broken(reason) => ClosedBy::Broken(reason),
        }
    }

    /// The close handshake, begun by this end.
    async fn close(&mut self, code: u16, reason: &str, deadline: Instant) {
        close(&mut self.ws, code, reason, deadline).await;
    }

    /// Tells the far end which rule it broke.
    async fn failed(&mut self, error: WsError, deadline: Instant) -> ClosedBy {
        let (code, reason) = match &error {
            WsError::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                (1009, format!("a message is over the limit of {max_size} bytes"))
            }
            WsError::Utf8(_) => (1007, String::from("a text message is not UTF-8")),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return ClosedBy::Broken(String::from(LOST));
            }
            WsError::Protocol(fault) => (1002, fault.to_string()),
            _ => return ClosedBy::Broken(error.to_string()),
        };
        let sent = timeout_at(deadline, self.ws.close(Some(frame(code, &reason)))).await;
        if matches!(sent, Ok(Ok(()))) {
            linger(self.ws.get_mut(), deadline).await;
        }
        ClosedBy::Broken(reason)
    }
}

async fn close<S>(ws: &mut WebSocketStream<S>, code: u16, reason: &str, deadline: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = async {
        ws.close(Some(frame(code, reason))).await?;
        // What still comes in is for nobody; the answer to the close ends it.
        while let Some(message) = ws.next().await {
            message?;
        }
        Ok::<_, WsError>(())
    };
    if !matches!(timeout_at(deadline, handshake).await, Ok(Ok(()))) {
        linger(ws.get_mut(), deadline).await;
    }
}

/// Closes a WebSocket that never becomes a session with 1008 and the reason.
pub async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut ws: WebSocketStream<S>, reason: &str) {
    close(&mut ws, 1008, reason, Instant::now() + CLOSE_WAIT).await;
}

const LOST: &str = "the connection was lost without a WebSocket close";

/// A close frame; its reason is cut to the 123 bytes that fit.
fn frame(code: u16, reason: &str) -> CloseFrame {
    const MAX_REASON: usize = 123;
    let cut = reason.floor_char_boundary(MAX_REASON);
    let reason = Utf8Bytes::from(reason.get(..cut).unwrap_or_default());
    CloseFrame { code: CloseCode::from(code), reason }
}
