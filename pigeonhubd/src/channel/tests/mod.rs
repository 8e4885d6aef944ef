//! Channels between two ends in this process, over the loopback interface.

mod costs;
mod ends;
mod messages;
mod opening;
mod rogues;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::*;

/// Longer than anything here takes, even on a busy machine; only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);

/// One end of a channel, and what it has told so far beyond what a test waited for.
struct End {
    conn: ConnId,
    /// `None` once closed.
    handle: Option<ChannelHandle>,
    events: mpsc::Receiver<ChannelEvent>,
    seen: VecDeque<ChannelEvent>,
}

fn config() -> ChannelConfig {
    ChannelConfig { addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..ChannelConfig::default() }
}

impl End {
    fn start(conn: u64, offer: Option<String>, limits: &Limits) -> Self {
        Self::start_with(conn, offer, &config(), limits)
    }

    fn start_with(conn: u64, offer: Option<String>, config: &ChannelConfig, limits: &Limits) -> Self {
        let (sender, events) = mpsc::channel(1024);
        let conn = ConnId(conn);
        let handle = start_with(conn, offer, config, limits.clone(), sender);
        Self { conn, handle: Some(handle), events, seen: VecDeque::new() }
    }

    fn handle(&mut self) -> &mut ChannelHandle {
        self.handle.as_mut().expect("the test has not closed this end")
    }

    fn send(&mut self, message: impl Into<Bytes>) -> Result<(), SendError> {
        self.handle().send(message.into())
    }

    /// Sends, waiting while the queue is full.
    async fn send_all(&mut self, messages: impl IntoIterator<Item = Bytes>) {
        for message in messages {
            while self.send(message.clone()) == Err(SendError::Full) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn next(&mut self) -> Option<ChannelEvent> {
        if let Some(seen) = self.seen.pop_front() {
            return Some(seen);
        }
        tokio::time::timeout(HANG, self.events.recv()).await.expect("a channel fell silent")
    }

    async fn description(&mut self) -> String {
        match self.next().await {
            Some(ChannelEvent::Description { conn, sdp }) if conn == self.conn => sdp,
            other => panic!("{other:?} came before the description"),
        }
    }

    async fn message(&mut self) -> Bytes {
        loop {
            match self.next().await {
                Some(ChannelEvent::Binary { bytes, .. }) => return bytes,
                Some(ChannelEvent::Candidate { .. }) => {}
                other => panic!("{other:?} came instead of a message"),
            }
        }
    }

    /// Waits for the close, and checks that nothing comes after it.
    async fn closed(&mut self) -> ClosedBy {
        loop {
            match self.next().await {
                Some(ChannelEvent::Closed { conn, reason }) => {
                    assert_eq!(conn, self.conn);
                    assert_eq!(self.next().await, None, "something followed the close");
                    return reason;
                }
                Some(_) => {}
                None => panic!("the channel ended without saying so"),
            }
        }
    }
}

/// Carries candidates both ways until both ends are open; `patch` may change what is described.
async fn introduce(offerer: &mut End, patch: impl Fn(String) -> String, limits: &Limits) -> End {
    let offer = offerer.description().await;
    let mut answerer = End::start(2, Some(patch(offer)), limits);
    let answer = answerer.description().await;
    offerer.handle().answer(patch(answer));
    exchange(offerer, &mut answerer).await;
    answerer
}

async fn exchange(offerer: &mut End, answerer: &mut End) {
    let (mut left, mut right) = (false, false);
    while !(left && right) {
        let (from_left, event) = tokio::select! {
            event = offerer.events.recv() => (true, event),
            event = answerer.events.recv() => (false, event),
            () = tokio::time::sleep(HANG) => panic!("the channel neither opened nor failed"),
        };
        match event {
            Some(ChannelEvent::Candidate { candidate, .. }) => {
                if from_left { &mut *answerer } else { &mut *offerer }.handle().candidate(candidate);
            }
            Some(ChannelEvent::Open { .. }) => *(if from_left { &mut left } else { &mut right }) = true,
            // One end may carry messages, or be closed, before the other has told that it is open.
            Some(other) if if from_left { left } else { right } => {
                if from_left { &mut *offerer } else { &mut *answerer }.seen.push_back(other);
            }
            other => panic!("{other:?} came while the channel opened"),
        }
    }
}

async fn pair() -> (End, End) {
    pair_with(&Limits::default()).await
}

async fn pair_with(limits: &Limits) -> (End, End) {
    let mut offerer = End::start(1, None, limits);
    let answerer = introduce(&mut offerer, |sdp| sdp, limits).await;
    (offerer, answerer)
}
