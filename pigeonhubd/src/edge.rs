//! What passes between the driver and everything else: events in, questions
//! in, and the limits on both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pigeonhub_proto::control::{Answer, Command, ControlErrorCode};
use pigeonhub_proto::io::{ClosedBy, ConnId, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::direct::{Sessions, Turn};
use crate::outbox::Outbox;
use crate::per_address::Addresses;
use crate::tally::EdgeCounters;
use crate::tickets::InUse;

/// Events that may wait for the driver. When it is full, whoever has one more
/// waits, and so stops reading its own socket.
pub const EVENT_QUEUE: usize = 1024;

/// Bytes of messages that may wait for the driver, in KiB. Without it a full
/// queue of the largest messages would hold a gigabyte; and what comes behind
/// them waits until the driver has looked into all of it.
pub const EVENT_BUDGET_KIB: u32 = 4 * 1024;

/// WebSockets that may end at once; the others wait their turn. When thousands
/// end in one moment, those that stay get theirs in between.
pub const CLOSINGS: usize = 64;

/// Questions that may wait for the driver; one more is answered with [`AskError::Busy`].
pub const QUERY_QUEUE: usize = 64;

/// How long a question may wait for its answer.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a probe may: the hub gives it up after 3 s, and says so.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the edge tells the driver. The same as
/// [`Input`](pigeonhub_proto::io::Input), but owning what it carries.
#[derive(Debug)]
pub enum EdgeEvent {
    /// A WebSocket was accepted; its session sends what is put into `outbox`.
    Accepted { conn: ConnId, request: Request, outbox: Arc<Outbox> },
    /// A dialled WebSocket is open.
    Dialled { conn: ConnId, remote: Option<std::net::IpAddr> },
    /// A dialled WebSocket could not be opened.
    DialFailed { conn: ConnId, error: String },
    /// Text messages that came together.
    Texts { conn: ConnId, texts: Vec<Utf8Bytes>, room: Room },
    /// A binary message.
    Binary { conn: ConnId, bytes: Bytes, room: Room },
    /// A WebSocket pong.
    Pong { conn: ConnId, number: Option<u32> },
    /// Signals went straight to other sessions.
    Alive { conn: ConnId },
    /// A WebSocket is over. The last event about it.
    Closed { conn: ConnId, reason: ClosedBy, room: Room },
}

impl EdgeEvent {
    /// How many messages it carries, and their bytes.
    pub fn messages(&self) -> (usize, usize) {
        match self {
            Self::Texts { texts, .. } => (texts.len(), texts.iter().map(|text| text.len()).sum()),
            Self::Binary { bytes, .. } => (1, bytes.len()),
            _ => (0, 0),
        }
    }
}

/// Room in the byte budget or, for the end of a WebSocket, among [`CLOSINGS`];
/// given back when dropped. Small messages need none: the number of events bounds them.
#[derive(Debug, Default)]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
    /// To be dropped when all that the message entails is done.
    _turn: Option<Turn>,
}

impl Room {
    /// The room of a message that those behind it have to wait for.
    #[must_use]
    pub fn with_turn(self, turn: Turn) -> Self {
        Self { _turn: Some(turn), ..self }
    }
}

/// A question to the driver.
#[derive(Debug)]
pub struct Query {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Why the hub refuses to answer; the text is for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of error it is.
    pub code: ControlErrorCode,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The hub says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many questions, or the driver did not get to it in [`QUERY_TIMEOUT`].
    #[error("the hub is too busy to answer; try again")]
    Busy,
    /// The driver is gone.
    #[error("the hub is shutting down")]
    Gone,
}

/// What is wrong with the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAlive {
    /// It is gone.
    #[error("the hub is shutting down")]
    Gone,
    /// It does nothing.
    #[error("the hub's work has stood still for {} s", .0.as_secs())]
    Standstill(Duration),
}

impl AskError {
    /// What kind of error it is.
    pub fn code(&self) -> ControlErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Busy | Self::Gone => ControlErrorCode::Busy,
        }
    }
}

/// The edge's end of the channels to the driver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Edge(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: mpsc::Sender<EdgeEvent>,
    queries: mpsc::Sender<Query>,
    budget: Arc<Semaphore>,
    closings: Arc<Semaphore>,
    accepted: AtomicU64,
    addresses: Arc<Addresses>,
    tickets: Arc<InUse>,
    counters: Arc<EdgeCounters>,
    sessions: Arc<Sessions>,
}

/// The driver's end of the channels.
#[derive(Debug)]
pub struct Intake {
    /// Events, in each connection's order.
    pub events: mpsc::Receiver<EdgeEvent>,
    /// Questions.
    pub queries: mpsc::Receiver<Query>,
}

impl Edge {
    /// Both ends.
    pub fn new() -> (Self, Intake) {
        let (events, event_intake) = mpsc::channel(EVENT_QUEUE);
        let (queries, query_intake) = mpsc::channel(QUERY_QUEUE);
        let budget = Arc::new(Semaphore::new(EVENT_BUDGET_KIB as usize));
        let closings = Arc::new(Semaphore::new(CLOSINGS));
        let (accepted, addresses, counters) = (AtomicU64::new(0), Arc::default(), Arc::default());
        let (tickets, sessions) = Default::default();
        let shared =
            Shared { events, queries, budget, closings, accepted, addresses, tickets, counters, sessions };
        let edge = Self(Arc::new(shared));
        (edge, Intake { events: event_intake, queries: query_intake })
    }

    /// What is counted here for monitoring; anyone may.
    pub fn counters(&self) -> &Arc<EdgeCounters> {
        &self.0.counters
    }

    /// Whether the driver is there and works. Asks nobody.
    ///
    /// # Errors
    /// If it is gone, or how long it has stood still.
    pub fn alive(&self) -> Result<(), NotAlive> {
        match self.0.counters.pulse.standstill() {
            _ if self.0.queries.is_closed() => Err(NotAlive::Gone),
            Some(lasts) => Err(NotAlive::Standstill(lasts)),
            None => Ok(()),
        }
    }

    /// Which tickets with limits are in use.
    pub fn tickets(&self) -> &Arc<InUse> {
        &self.0.tickets
    }

    /// Who is connected, by address.
    pub fn addresses(&self) -> &Arc<Addresses> {
        &self.0.addresses
    }

    /// Which sessions signals may go straight to.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// A number for an accepted connection: odd, never the same twice.
    pub fn next_accepted(&self) -> ConnId {
        ConnId(self.0.accepted.fetch_add(1, Ordering::Relaxed) * 2 + 1)
    }

    /// Tells the driver, waiting for room in its queue. False if the driver is gone.
    pub async fn send(&self, event: EdgeEvent) -> bool {
        self.0.events.send(event).await.is_ok()
    }

    /// Tells the driver if there is room at once; else gives the event back.
    /// `Ok(false)` if the driver is gone.
    #[allow(clippy::result_large_err, reason = "the event comes back to be sent later")]
    pub fn try_send(&self, event: EdgeEvent) -> Result<bool, EdgeEvent> {
        match self.0.events.try_send(event) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Full(event)) => Err(event),
        }
    }

    /// Room for a message of `len` bytes, if there is at once.
    pub fn try_room(&self, len: usize) -> Option<Room> {
        match units(len) {
            0 => Some(Room::default()),
            n => {
                let permit = Arc::clone(&self.0.budget).try_acquire_many_owned(n).ok()?;
                Some(Room { _permit: Some(permit), _turn: None })
            }
        }
    }

    /// Room for a message of `len` bytes, waiting for it.
    pub async fn room(&self, len: usize) -> Room {
        match units(len) {
            0 => Room::default(),
            n => {
                let permit = Arc::clone(&self.0.budget).acquire_many_owned(n).await.ok();
                Room { _permit: permit, _turn: None }
            }
        }
    }

    /// Room among the WebSockets that end, waiting for it.
    pub async fn room_to_close(&self) -> Room {
        let permit = Arc::clone(&self.0.closings).acquire_owned().await.ok();
        Room { _permit: permit, _turn: None }
    }

    /// Asks the driver.
    pub async fn ask(&self, command: Command) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        let patience = if matches!(command, Command::Trace { .. }) { PROBE_TIMEOUT } else { QUERY_TIMEOUT };
        self.0.queries.try_send(Query { command, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Gone,
        })?;
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => Ok(answer.map_err(|_| AskError::Gone)??),
            Err(_) => Err(AskError::Busy),
        }
    }
}

/// Bytes from which on a message needs room of its own.
const LARGE: usize = 4 * 1024;

/// What messages in one event count in the budget, in bytes: each but the first as a large one at
/// least, so that no more of them wait than events may.
pub fn weight(messages: usize, bytes: usize) -> usize {
    bytes.max(messages.saturating_sub(1).saturating_mul(LARGE))
}

/// Budget units of a message: its KiB from [`LARGE`] on. A message larger than the
/// whole budget takes the whole budget.
fn units(len: usize) -> u32 {
    if len < LARGE {
        return 0;
    }
    u32::try_from(len / 1024).map_or(EVENT_BUDGET_KIB, |kib| kib.min(EVENT_BUDGET_KIB))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn large_messages_share_one_budget() {
        let (edge, _intake) = Edge::new();
        let all = edge.room(usize::MAX).await;
        assert!(edge.try_room(100).is_some(), "small messages need no room");
        assert!(edge.try_room(1 << 20).is_none(), "the budget is used up");
        drop(all);
        assert!(edge.try_room(1 << 20).is_some(), "the budget came back");
    }

    #[tokio::test]
    async fn as_many_small_messages_wait_as_events_may() {
        let (edge, _intake) = Edge::new();
        assert_eq!((weight(1, 100), weight(1, 5000), weight(3, 9000)), (100, 5000, 9000));
        let rooms: Vec<Room> = std::iter::from_fn(|| edge.try_room(weight(33, 33))).collect();
        assert_eq!(rooms.len() * 32, EVENT_QUEUE);
    }

    #[tokio::test]
    async fn websockets_end_a_few_at_a_time_and_in_order() {
        let (edge, mut intake) = Edge::new();
        for number in 0..CLOSINGS as u64 {
            let room = edge.room_to_close().now_or_never().expect("room");
            assert!(
                edge.send(EdgeEvent::Closed { conn: ConnId(number), reason: ClosedBy::Local, room }).await
            );
        }
        let mut waiting = Box::pin(edge.room_to_close());
        assert!((&mut waiting).now_or_never().is_none(), "the driver has not heard of those before");
        drop(intake.events.recv().await);
        let room = waiting.now_or_never();
        assert!(room.is_some(), "there is room again");
        assert!(edge.room_to_close().now_or_never().is_none());
        drop(intake);
        assert!(edge.room_to_close().now_or_never().is_some(), "a driver that is gone keeps nobody");
    }

    #[tokio::test]
    async fn questions_beyond_the_queue_are_refused() {
        let (edge, mut intake) = Edge::new();
        let waiting: Vec<_> = (0..QUERY_QUEUE)
            .map(|_| {
                let edge = edge.clone();
                tokio::spawn(async move { edge.ask(Command::Status).await })
            })
            .collect();
        while intake.queries.len() < QUERY_QUEUE {
            tokio::task::yield_now().await;
        }
        assert_eq!(edge.ask(Command::Status).await, Err(AskError::Busy));
        intake.queries.close();
        while intake.queries.recv().await.is_some() {}
        for asked in waiting {
            assert_eq!(asked.await.expect("no panic"), Err(AskError::Gone));
        }
    }

    #[test]
    fn accepted_connections_have_odd_numbers() {
        let (edge, _intake) = Edge::new();
        assert_eq!([edge.next_accepted(), edge.next_accepted()], [ConnId(1), ConnId(3)]);
    }
}
