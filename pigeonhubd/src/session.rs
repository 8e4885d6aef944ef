//! One task for each WebSocket, accepted or dialled: messages in to the
//! driver, messages out of its outbox, and an orderly end.

mod limit;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, Sink, Stream, StreamExt};
use pigeonhub_proto::io::{ClosedBy, ConnId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message, Utf8Bytes};

pub use self::limit::{Limit, MAX_REFUSED};
use crate::edge::{Edge, EdgeEvent, Room};
use crate::outbox::{Close, Item, Next, Outbox};
use crate::stream::{Written, linger};

/// How long a close may take: sending what waits, and the far end's answer.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long the far end's socket may take nothing at all while something waits.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// Messages that one session handles before it lets others go first.
const READ_BATCH: u32 = 32;

/// Buffers that suit thousands of mostly silent connections, and the limits.
pub fn config(max_message_size: usize) -> WebSocketConfig {
    const WRITE_BUFFER: usize = 16 * 1024;
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(WRITE_BUFFER)
        // Only what is one message over the write buffer is ever in there, and
        // pongs: this keeps a far end that pings but never reads in bounds.
        .max_write_buffer_size(max_message_size.saturating_mul(2).saturating_add(1024 * 1024))
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

/// One WebSocket and its outbox.
pub struct Session<S> {
    conn: ConnId,
    ws: WebSocketStream<S>,
    outbox: Arc<Outbox>,
    edge: Edge,
    /// Whether the driver wants to hear what comes in.
    reading: bool,
    /// A message came in that the driver has no room for yet. Nothing more is
    /// read until it has.
    blocked: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// Something was given to the WebSocket and not yet to the socket.
    dirty: bool,
    /// See [`WRITE_STALL`].
    max_stall: Duration,
    /// Set while the socket takes nothing: when to give up, and how many bytes
    /// it had taken when the wait began.
    stall: Option<(Pin<Box<Sleep>>, u64)>,
    /// Messages read since this task last let others go first.
    batch: u32,
    /// What its address may send.
    limit: Option<Box<Limit>>,
}

enum Step {
    /// Something came in.
    Received(Message),
    /// The driver took the message that was blocked.
    Unblocked,
    /// It is over.
    End(End),
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

impl<S: AsyncRead + AsyncWrite + Written + Unpin + Send> Session<S> {
    /// A session on an open WebSocket. `reading`: whether to read at once, or
    /// only when the outbox says so.
    pub fn new(conn: ConnId, ws: WebSocketStream<S>, outbox: Arc<Outbox>, edge: Edge, reading: bool) -> Self {
        let (blocked, max_stall, stall) = (None, WRITE_STALL, None);
        let (dirty, batch, limit) = (false, 0, None);
        Self { conn, ws, outbox, edge, reading, blocked, dirty, max_stall, stall, batch, limit }
    }

    /// With another limit than [`WRITE_STALL`].
    pub fn with_max_stall(self, max_stall: Duration) -> Self {
        Self { max_stall, ..self }
    }

    /// With a limit on what comes in.
    pub fn with_limit(self, limit: Option<Limit>) -> Self {
        Self { limit: limit.map(Box::new), ..self }
    }

    /// Runs to the end of the WebSocket, then tells the driver. A panic ends
    /// this session alone.
    pub async fn run(mut self) {
        let reason = AssertUnwindSafe(self.serve()).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(conn = self.conn.0, "a session ended by a fault in pigeonhubd; the others go on");
            ClosedBy::Broken(String::from("a fault in this hub"))
        });
        // TCP ends before the driver hears of it.
        let Self { conn, edge, ws, .. } = self;
        drop(ws);
        edge.send(EdgeEvent::Closed { conn, reason }).await;
    }

    async fn serve(&mut self) -> ClosedBy {
        let end = loop {
            if self.batch >= READ_BATCH {
                self.batch = 0;
                tokio::task::yield_now().await;
            }
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Received(message) => self.received(message),
                Step::Unblocked => self.blocked = None,
                Step::End(end) => break end,
            }
        };
        // Boxed, so that it costs nothing before there is an end.
        Box::pin(self.end(end)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(end) = self.poll_write(cx) {
            return Poll::Ready(Step::End(end));
        }
        if let Some(blocked) = &mut self.blocked {
            let taken = ready!(blocked.as_mut().poll(cx));
            return Poll::Ready(if taken { Step::Unblocked } else { Step::End(End::Gone) });
        }
        if !self.reading {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(Pin::new(&mut self.ws).poll_next(cx)) {
            Some(Ok(Message::Close(frame))) => Step::End(End::Remote(frame)),
            Some(Ok(message)) => Step::Received(message),
            Some(Err(error)) => Step::End(End::Failed(error)),
            None => Step::End(End::Broken(String::from(LOST))),
        })
    }

    /// Takes everything out of the outbox that the socket has room for, then
    /// flushes once.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Poll::Ready(close) = self.outbox.poll_abort(cx) {
                return Poll::Ready(End::Close(close));
            }
            match Pin::new(&mut self.ws).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error.to_string())),
                Poll::Pending => return self.poll_stall(cx),
            }
            match self.outbox.poll_next(cx) {
                Poll::Ready(Next::Read) => self.reading = true,
                Poll::Ready(Next::Close(close)) => return Poll::Ready(End::Close(close)),
                Poll::Ready(Next::Send(item)) => {
                    self.dirty = true;
                    if let Err(error) = Pin::new(&mut self.ws).start_send(item.into()) {
                        return Poll::Ready(End::Broken(error.to_string()));
                    }
                }
                Poll::Pending if self.dirty => match Pin::new(&mut self.ws).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.dirty = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error.to_string())),
                    Poll::Pending => return self.poll_stall(cx),
                },
                Poll::Pending => {
                    self.stall = None;
                    return Poll::Pending;
                }
            }
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
        self.batch += 1;
        if let Some(limit) = &mut self.limit
            && !limit.takes(&message)
        {
            self.edge.counters().messages_refused.one();
            return limit.refuse(&message, &self.outbox);
        }
        let conn = self.conn;
        match message {
            Message::Text(text) => {
                let len = text.len();
                self.pass(len, move |room| EdgeEvent::Text { conn, text, room });
            }
            Message::Binary(bytes) => {
                let len = bytes.len();
                self.pass(len, move |room| EdgeEvent::Binary { conn, bytes, room });
            }
            Message::Pong(_) => self.pass(0, move |_| EdgeEvent::Pong { conn }),
            // The WebSocket has queued the pong, and sends it when it is polled next.
            Message::Ping(_) | Message::Frame(_) | Message::Close(_) => {}
        }
    }

    /// Gives a message to the driver, now or, when it has no room, as soon as it has.
    fn pass(&mut self, len: usize, event: impl FnOnce(Room) -> EdgeEvent + Send + 'static) {
        let edge = self.edge.clone();
        if let Some(room) = edge.try_room(len) {
            match edge.try_send(event(room)) {
                Ok(true) => {}
                Ok(false) => self.blocked = Some(Box::pin(std::future::ready(false))),
                Err(event) => self.blocked = Some(Box::pin(async move { edge.send(event).await })),
            }
            return;
        }
        self.blocked = Some(Box::pin(async move {
            let room = edge.room(len).await;
            edge.send(event(room)).await
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
                // Sends the answer that the WebSocket has queued, and waits for the end of TCP.
                while let Ok(Some(Ok(_))) = timeout_at(deadline, self.ws.next()).await {}
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

impl From<Item> for Message {
    fn from(item: Item) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.into()),
            Item::Binary(bytes) => Self::Binary(bytes),
            Item::Ping => Self::Ping(Bytes::new()),
        }
    }
}
