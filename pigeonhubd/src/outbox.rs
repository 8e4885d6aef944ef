//! What the driver wants sent on one WebSocket: a queue with a limit.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::backlog::Part;

/// Messages that may wait on one connection.
pub const MAX_MESSAGES: usize = 1024;

/// Bytes that may wait on one connection, unless a single message is larger.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A WebSocket ping.
    Ping,
}

/// How to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket close code.
    pub code: u16,
    /// For the far end to read.
    pub reason: String,
    /// The connection is given up, and what waited is lost: this is why.
    pub broken: Option<String>,
}

/// What a session does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read from the far end from now on.
    Read,
    /// Send this.
    Send(Item),
    /// Close. Nothing comes after it.
    Close(Close),
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes in {messages} messages wait to be read")]
pub struct Full {
    /// Messages that wait.
    pub messages: usize,
    /// Bytes that wait.
    pub bytes: usize,
}

/// The queue. The driver puts in and never waits; one session takes out.
#[derive(Debug, Default)]
pub struct Outbox {
    // Held for a push or a pop only, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    /// Of what waits everywhere.
    part: Part,
    read: bool,
    close: Option<Close>,
    waker: Option<Waker>,
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Ping => 0,
        }
    }
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an item at the end. After [`Self::close`] it is thrown away.
    pub fn push(&self, item: Item) -> Result<(), Full> {
        let mut state = self.lock();
        if state.close.is_some() {
            return Ok(());
        }
        let bytes = state.bytes.saturating_add(item.len());
        let room = state.queue.len() < MAX_MESSAGES && (state.queue.is_empty() || bytes <= MAX_BYTES);
        if !room || !state.part.may_be(bytes) {
            return Err(Full { messages: state.queue.len(), bytes: state.bytes });
        }
        state.bytes = bytes;
        state.part.set(bytes);
        state.queue.push_back(item);
        state.wake();
        Ok(())
    }

    /// Lets the session read from the far end.
    pub fn read(&self) {
        let mut state = self.lock();
        state.read = true;
        state.wake();
    }

    /// Closes after everything that waits. The first close counts.
    pub fn close(&self, code: u16, reason: String) {
        let mut state = self.lock();
        if state.close.is_none() {
            state.close = Some(Close { code, reason, broken: None });
            state.wake();
        }
    }

    /// Closes at once and throws away what waits.
    pub fn abort(&self, code: u16, reason: String) {
        let mut state = self.lock();
        let broken = Some(reason.clone());
        state.queue = VecDeque::new();
        state.bytes = 0;
        state.part.set(0);
        state.close = Some(Close { code, reason, broken });
        state.wake();
    }

    /// Whether the connection is to be given up, no matter what waits.
    pub fn poll_abort(&self, cx: &mut Context<'_>) -> Poll<Close> {
        let mut state = self.lock();
        match &state.close {
            Some(close) if close.broken.is_some() => Poll::Ready(close.clone()),
            _ => state.wait(cx),
        }
    }

    /// Whether a close was asked for, however much waits before it.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<Close> {
        let mut state = self.lock();
        match &state.close {
            Some(close) => Poll::Ready(close.clone()),
            None => state.wait(cx),
        }
    }

    /// What to do next. Only one task may wait here.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.lock();
        if std::mem::take(&mut state.read) {
            return Poll::Ready(Next::Read);
        }
        if let Some(item) = state.queue.pop_front() {
            let bytes = state.bytes.saturating_sub(item.len());
            state.bytes = bytes;
            state.part.set(bytes);
            if state.queue.is_empty() && state.queue.capacity() > 64 {
                state.queue = VecDeque::new();
            }
            return Poll::Ready(Next::Send(item));
        }
        match &state.close {
            Some(close) => Poll::Ready(Next::Close(close.clone())),
            None => state.wait(cx),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(outbox: &Outbox) -> Option<Next> {
        match outbox.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_waits_goes_out_before_a_close() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(Item::Ping), Ok(()));
        outbox.close(1000, String::from("first"));
        outbox.close(1001, String::from("second"));
        assert_eq!(outbox.push(Item::Ping), Ok(()), "thrown away");
        outbox.read();
        assert_eq!(next(&outbox), Some(Next::Read));
        assert_eq!(next(&outbox), Some(Next::Send(Item::Ping)));
        let close = Close { code: 1000, reason: String::from("first"), broken: None };
        assert_eq!(next(&outbox), Some(Next::Close(close)));
    }

    #[test]
    fn messages_and_bytes_are_bounded() {
        let outbox = Outbox::new();
        for _ in 0..MAX_MESSAGES {
            assert_eq!(outbox.push(Item::Ping), Ok(()));
        }
        assert_eq!(outbox.push(Item::Ping), Err(Full { messages: MAX_MESSAGES, bytes: 0 }));

        let outbox = Outbox::new();
        let large = Item::Text("x".repeat(MAX_BYTES + 1));
        assert_eq!(outbox.push(large), Ok(()), "one message may be larger");
        let more = outbox.push(Item::Text(String::from("x")));
        assert_eq!(more, Err(Full { messages: 1, bytes: MAX_BYTES + 1 }));
        assert!(matches!(next(&outbox), Some(Next::Send(_))));
        assert_eq!(outbox.push(Item::Text(String::from("x"))), Ok(()), "there is room again");
    }

    #[test]
    fn an_abort_overtakes_what_waits() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(Item::Ping), Ok(()));
        outbox.abort(1008, String::from("too slow"));
        let expected =
            Close { code: 1008, reason: String::from("too slow"), broken: Some("too slow".into()) };
        assert_eq!(next(&outbox), Some(Next::Close(expected)));
    }
}
