//! What is to be sent on one WebSocket: a queue with a limit.
//!
//! Messages wait as WebSocket frames, one behind the other, so that a session
//! sends many of them with a single write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::backlog::Part;
use crate::buffers;
use crate::direct::Standing;

/// Messages that may wait on one connection: so many that a client can be told at once of all its signals
/// that one acknowledgement refuses, which are a window of a stream's messages of 64 each.
pub const MAX_MESSAGES: usize = 16 * 1024;

/// Messages that may wait there before other sessions put no more in.
pub const MAX_DIRECT: usize = 512;

/// Bytes that may wait on one connection, unless a single message is larger.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the driver may put in.
const MOST: (usize, usize) = (MAX_MESSAGES, MAX_BYTES);

/// Bytes that a session takes out at once, about: what is taken and cannot be
/// written counts no more.
const CHUNK: usize = 64 * 1024;

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
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
    /// Send these frames.
    Send(Vec<u8>),
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

/// The queue. The driver and other sessions put in and never wait; one session
/// takes out.
#[derive(Debug, Default)]
pub struct Outbox {
    // Held for a push or a pop only, never across an await.
    state: Mutex<State>,
    /// Frames are masked, as a client's have to be (RFC 6455, section 5.3).
    masked: bool,
    /// Messages that what the far end said cost, and that its limit does not know yet.
    charged: AtomicU32,
    /// What the session may do by itself.
    pub standing: Standing,
}

#[derive(Debug, Default)]
struct State {
    /// Of about [`CHUNK`] bytes each, in order.
    full: VecDeque<Chunk>,
    /// Behind those.
    filling: Chunk,
    messages: usize,
    /// Of those, and of those that an abort threw away.
    texts: u32,
    bytes: usize,
    /// Of what waits everywhere.
    part: Part,
    read: bool,
    /// This ping goes out next.
    ping: Option<u32>,
    /// With this one the far end was asked for a sign of life.
    asked: Option<u32>,
    close: Option<Box<Close>>,
    waker: Option<Waker>,
}

/// Frames, and what they count.
#[derive(Debug, Default)]
struct Chunk {
    frames: Vec<u8>,
    messages: usize,
    texts: u32,
    bytes: usize,
}

impl Outbox {
    /// An empty one, of a connection that was accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one, of a connection that was dialled.
    pub fn dialled() -> Self {
        Self { masked: true, ..Self::default() }
    }

    /// Puts an item at the end. After [`Self::close`] it is thrown away.
    pub fn push(&self, item: Item) -> Result<(), Full> {
        match item {
            Item::Text(text) => self.put(OpCode::Data(Data::Text), &[text.as_bytes()], MOST),
            Item::Binary(bytes) => self.put(OpCode::Data(Data::Binary), &[&bytes], MOST),
        }
    }

    /// Sends a WebSocket ping ahead of what waits: whoever is asked for a sign of life is not to wait
    /// for what others sent it.
    pub fn ping(&self, number: u32) {
        let mut state = self.lock();
        if state.close.is_none() {
            (state.ping, state.asked) = (Some(number), Some(number));
            Self::wake(state);
        }
    }

    /// The ping with which a sign of life was asked for, if it was. It is not from now on.
    pub fn take_asked(&self) -> Option<u32> {
        self.lock().asked.take()
    }

    /// What the far end said cost as much as so many messages more.
    pub fn charge(&self, messages: u32) {
        let add = |charged: u32| Some(charged.saturating_add(messages));
        let _ = self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many those are since the last time.
    pub fn take_charged(&self) -> u32 {
        self.charged.swap(0, Ordering::Relaxed)
    }

    /// Puts a text at the end that comes in pieces, each of them UTF-8, unless [`MAX_DIRECT`]
    /// messages or half of the bytes wait: the rest is the driver's.
    pub fn push_direct(&self, text: &[&[u8]]) -> Result<(), Full> {
        self.put(OpCode::Data(Data::Text), text, (MAX_DIRECT, MAX_BYTES / 2))
    }

    /// `most`: messages and bytes that may wait.
    fn put(&self, opcode: OpCode, payload: &[&[u8]], most: (usize, usize)) -> Result<(), Full> {
        let len = payload.iter().map(|piece| piece.len()).sum();
        let mut state = self.lock();
        let text = opcode == OpCode::Data(Data::Text);
        if let Some(close) = &state.close {
            // Whoever sent it does not know yet.
            state.texts += u32::from(text && close.broken.is_some());
            return Ok(());
        }
        let bytes = state.bytes.saturating_add(len);
        let room = state.messages < most.0 && (state.messages == 0 || bytes <= most.1);
        if !room || !state.part.may_be(bytes) {
            return Err(Full { messages: state.messages, bytes: state.bytes });
        }
        state.bytes = bytes;
        state.part.set(bytes);
        state.messages += 1;
        state.texts += u32::from(text);
        state.filling.add(opcode, payload, len, self.masked);
        if state.filling.frames.len() >= CHUNK {
            let chunk = std::mem::take(&mut state.filling);
            state.full.push_back(chunk);
        }
        Self::wake(state);
        Ok(())
    }

    /// Lets the session read from the far end.
    pub fn read(&self) {
        let mut state = self.lock();
        state.read = true;
        Self::wake(state);
    }

    /// Closes after everything that waits. The first close counts.
    pub fn close(&self, code: u16, reason: String) {
        let mut state = self.lock();
        if state.close.is_none() {
            state.close = Some(Box::new(Close { code, reason, broken: None }));
            Self::wake(state);
        }
    }

    /// Closes at once and throws away what waits.
    pub fn abort(&self, code: u16, reason: String) {
        let mut state = self.lock();
        let broken = Some(reason.clone());
        state.clear();
        state.close = Some(Box::new(Close { code, reason, broken }));
        Self::wake(state);
    }

    /// The connection is over: throws away what waits. How many texts that were, and those that an
    /// abort threw away or that came after it.
    pub fn discard(&self) -> u32 {
        let mut state = self.lock();
        state.clear();
        std::mem::take(&mut state.texts)
    }

    /// Whether the connection is to be given up, no matter what waits.
    pub fn poll_abort(&self, cx: &mut Context<'_>) -> Poll<Close> {
        let mut state = self.lock();
        match &state.close {
            Some(close) if close.broken.is_some() => Poll::Ready((**close).clone()),
            _ => state.wait(cx),
        }
    }

    /// Whether the connection is to be closed, no matter what waits.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<Close> {
        let mut state = self.lock();
        match &state.close {
            Some(close) => Poll::Ready((**close).clone()),
            None => state.wait(cx),
        }
    }

    /// The next thing to do: as much of what waits as is sent at once.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.lock();
        if std::mem::take(&mut state.read) {
            return Poll::Ready(Next::Read);
        }
        if let Some(number) = state.ping.take() {
            let (mut frame, number) = (Chunk::default(), number.to_be_bytes());
            frame.add(OpCode::Control(Control::Ping), &[&number], number.len(), self.masked);
            return Poll::Ready(Next::Send(frame.frames));
        }
        if state.messages > 0 {
            let chunk = state.full.pop_front().unwrap_or_else(|| std::mem::take(&mut state.filling));
            state.messages = state.messages.saturating_sub(chunk.messages);
            state.texts = state.texts.saturating_sub(chunk.texts);
            let bytes = state.bytes.saturating_sub(chunk.bytes);
            state.bytes = bytes;
            state.part.set(bytes);
            if state.full.is_empty() && state.full.capacity() > 0 {
                state.full = VecDeque::new();
            }
            return Poll::Ready(Next::Send(chunk.frames));
        }
        match &state.close {
            Some(close) => Poll::Ready(Next::Close((**close).clone())),
            None => state.wait(cx),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the session, which then finds the state unlocked.
    fn wake(mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn clear(&mut self) {
        (self.full, self.filling) = Default::default();
        (self.messages, self.bytes, self.ping) = (0, 0, None);
        self.part.set(0);
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Chunk {
    fn add(&mut self, opcode: OpCode, payload: &[&[u8]], len: usize, masked: bool) {
        self.messages += 1;
        self.texts += u32::from(opcode == OpCode::Data(Data::Text));
        self.bytes += len;
        if self.frames.capacity() == 0 {
            self.frames = buffers::writing();
        }
        // Into memory: neither can fail.
        if masked {
            let mut frame = Frame::message(payload.concat(), opcode, true);
            frame.header_mut().mask = Some(rand::random());
            let _ = frame.format(&mut self.frames);
        } else {
            let _ = FrameHeader { opcode, ..FrameHeader::default() }.format(len as u64, &mut self.frames);
            payload.iter().for_each(|piece| self.frames.extend_from_slice(piece));
        }
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

    fn text() -> Item {
        Item::Text(String::from("x"))
    }

    #[test]
    fn what_waits_goes_out_before_a_close() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(text()), Ok(()));
        outbox.close(1000, String::from("first"));
        outbox.close(1001, String::from("second"));
        assert_eq!(outbox.push(text()), Ok(()), "thrown away");
        outbox.ping(1);
        outbox.read();
        assert_eq!(next(&outbox), Some(Next::Read));
        assert_eq!(next(&outbox), Some(Next::Send(vec![0x81, 1, b'x'])));
        let close = Close { code: 1000, reason: String::from("first"), broken: None };
        assert_eq!(next(&outbox), Some(Next::Close(close)));
    }

    #[test]
    fn a_ping_overtakes_what_waits() {
        let outbox = Outbox::new();
        assert_eq!(outbox.push(text()), Ok(()));
        outbox.ping(1);
        outbox.ping(2);
        assert_eq!(next(&outbox), Some(Next::Send(vec![0x89, 4, 0, 0, 0, 2])));
        assert_eq!(next(&outbox), Some(Next::Send(vec![0x81, 1, b'x'])));
        assert_eq!(next(&outbox), None, "one is enough");
        assert_eq!([outbox.take_asked(), outbox.take_asked()], [Some(2), None]);
    }

    #[test]
    fn all_that_one_acknowledgement_refuses_can_be_told() {
        use pigeonhub_proto::bundle::MAX_SIGNALS;
        use pigeonhub_proto::mesh::stream::WINDOW_MESSAGES;
        let (outbox, error) = (Outbox::new(), "x".repeat(250));
        let told = (0..).take_while(|_| outbox.push(Item::Text(error.clone())).is_ok()).count();
        assert_eq!(told, WINDOW_MESSAGES * MAX_SIGNALS);
    }

    #[test]
    fn messages_and_bytes_are_bounded() {
        let outbox = Outbox::new();
        for _ in 0..MAX_MESSAGES {
            assert_eq!(outbox.push(Item::Text(String::new())), Ok(()));
        }
        assert_eq!(outbox.push(text()), Err(Full { messages: MAX_MESSAGES, bytes: 0 }));

        let outbox = Outbox::new();
        let large = Item::Text("x".repeat(MAX_BYTES + 1));
        assert_eq!(outbox.push(large), Ok(()), "one message may be larger");
        let more = outbox.push(Item::Text(String::from("x")));
        assert_eq!(more, Err(Full { messages: 1, bytes: MAX_BYTES + 1 }));
        assert!(matches!(next(&outbox), Some(Next::Send(_))));
        assert_eq!(outbox.push(Item::Text(String::from("x"))), Ok(()), "there is room again");
    }

    #[test]
    fn signals_from_sessions_leave_most_of_the_room_to_the_driver() {
        let outbox = Outbox::new();
        let straight = (0..MAX_MESSAGES).take_while(|_| outbox.push_direct(&[b"x"]).is_ok()).count();
        assert_eq!(straight, MAX_DIRECT);
        assert!((straight..MAX_MESSAGES).all(|_| outbox.push(Item::Text(String::new())).is_ok()));
        let outbox = Outbox::new();
        let large = [b'x'; MAX_BYTES / 8];
        assert_eq!((0..MAX_DIRECT).take_while(|_| outbox.push_direct(&[&large]).is_ok()).count(), 4);
    }

    #[test]
    fn frames_are_those_of_a_server_or_a_client() {
        let item = || Item::Text("x".repeat(200));
        let server = Outbox::new();
        assert_eq!(server.push(item()), Ok(()));
        let payload = "x".repeat(200);
        assert_eq!(next(&server), Some(Next::Send([&[0x81, 126, 0, 200], payload.as_bytes()].concat())));
        let client = Outbox::dialled();
        assert_eq!(client.push(item()), Ok(()));
        let Some(Next::Send(mut frame)) = next(&client) else { panic!("a frame") };
        assert_eq!(frame[..4], [0x81, 0x80 | 126, 0, 200]);
        let mask = [frame[4], frame[5], frame[6], frame[7]];
        let bytes = frame.iter_mut().skip(8).zip(mask.iter().cycle());
        assert_eq!(bytes.map(|(byte, mask)| *byte ^ mask).collect::<Vec<u8>>(), payload.as_bytes());
    }

    #[test]
    fn much_leaves_in_pieces_and_in_order() {
        let outbox = Outbox::new();
        let texts: Vec<String> = (0..300).map(|n| format!("{n:01000}")).collect();
        for text in &texts {
            assert_eq!(outbox.push(Item::Text(text.clone())), Ok(()));
        }
        let mut sent = Vec::new();
        while let Some(Next::Send(piece)) = next(&outbox) {
            assert!(piece.len() < CHUNK + 2000, "{}", piece.len());
            sent.extend(piece);
        }
        let expected: Vec<u8> =
            texts.iter().flat_map(|text| [&[0x81, 126, 3, 232], text.as_bytes()].concat()).collect();
        assert!(sent == expected);
    }

    #[test]
    fn an_abort_overtakes_what_waits() {
        let outbox = Outbox::new();
        outbox.ping(1);
        assert_eq!(outbox.push(Item::Text(String::from("lost"))), Ok(()));
        outbox.abort(1008, String::from("too slow"));
        assert_eq!(outbox.push(Item::Text(String::from("lost as well"))), Ok(()));
        let expected =
            Close { code: 1008, reason: String::from("too slow"), broken: Some("too slow".into()) };
        assert_eq!(next(&outbox), Some(Next::Close(expected)));
        assert_eq!(outbox.discard(), 2);
    }

    #[test]
    fn what_was_taken_out_is_not_counted_as_unsent() {
        let outbox = Outbox::new();
        let large = || Item::Text("x".repeat(CHUNK));
        for item in [large(), large(), large()] {
            assert_eq!(outbox.push(item), Ok(()));
        }
        assert!(matches!(next(&outbox), Some(Next::Send(_))));
        assert_eq!((outbox.discard(), outbox.discard()), (2, 0));
        assert_eq!(next(&outbox), None);
    }
}
