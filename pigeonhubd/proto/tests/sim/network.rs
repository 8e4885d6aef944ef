//! Pipes between two ends: delay, order, and orderly closing.

use std::collections::VecDeque;

use bytes::Bytes;
use pigeonhub_proto::io::{ClosedBy, ConnId, Input};

use super::host::Conn;
use super::rng::mix;
use super::world::{Event, MS, Micros, SEC, World, trace};

/// What lies behind one end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// A hub, by its host's number.
    Host(usize),
    /// A client, by its session's number.
    Client(usize),
}

impl Party {
    pub(crate) fn host(self) -> Option<usize> {
        match self {
            Self::Host(number) => Some(number),
            Self::Client(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Bytes),
    Ping(u32),
    Pong(u32),
    Close { code: u16, reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not open at this end yet.
    Pending,
    Open,
    /// This end closed it and waits to hear that it is closed.
    Closing,
    Gone,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) party: Party,
    /// The hub's number for it; of no meaning for a client.
    pub(crate) conn: ConnId,
    pub(crate) state: State,
    pub(crate) reading: bool,
    /// A data channel of which this end has heard that it is open.
    pub(crate) counted: bool,
}

/// What is on its way to one end.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    queue: VecDeque<Message>,
    /// How many have arrived, but could not be handed over.
    pub(crate) held: u32,
    /// When the latest of them arrives: nothing overtakes it.
    pub(crate) last: Micros,
}

/// A connection: two ends, and what is on its way to each.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) channel: bool,
    pub(crate) ends: [End; 2],
    pub(crate) inbound: [Inbound; 2],
}

/// Messages that one direction of a connection takes before it drops binary ones.
const QUEUE: usize = 1024;

impl World {
    /// How long a message takes between two parties, this time.
    pub(crate) fn latency(&mut self, a: Party, b: Party) -> Micros {
        let key = |party| match party {
            Party::Host(number) => number as u64,
            Party::Client(session) => 1 << 32 | session as u64,
        };
        let (low, high) = self.params.latency;
        let base = low + mix(key(a).max(key(b)) << 20 ^ key(a).min(key(b))) % (high - low).max(1);
        let jitter = self.rng.below(base * self.params.jitter_percent / 100 + 1);
        let again = if self.rng.per_mille(self.loss) { self.rng.range(200 * MS, SEC) } else { 0 };
        base + jitter + again
    }

    pub(crate) fn add_pipe(&mut self, channel: bool, ends: [(Party, ConnId, State); 2]) -> usize {
        let ends = ends.map(|(party, conn, state)| End { party, conn, state, reading: true, counted: false });
        self.pipes.push(Pipe { channel, ends, inbound: Default::default() });
        self.pipes.len() - 1
    }

    /// A hub sends on one of its connections.
    pub(crate) fn send(&mut self, number: usize, conn: ConnId, message: Message) {
        let Some(&Conn::Pipe(pipe, side)) = self.hosts[number].conns.get(&conn) else {
            return self
                .fail(format!("hub {number} sends {message:?} on connection {}, which is not open", conn.0));
        };
        let here = &self.pipes[pipe];
        if here.ends[side].state != State::Open {
            return self
                .fail(format!("hub {number} sends {message:?} on connection {} after closing it", conn.0));
        }
        if here.channel && !matches!(message, Message::Binary(_)) {
            return self.fail(format!("hub {number} sends {message:?} on data channel {}", conn.0));
        }
        if let Message::Binary(bytes) = &message {
            let full = here.inbound[1 - side].queue.len() >= QUEUE;
            self.counts.mesh_messages += 1;
            self.counts.mesh_bytes += bytes.len() as u64;
            if full || self.rng.per_mille(self.params.queue_drops) {
                return;
            }
        }
        if let (Message::Text(text), Party::Client(session)) = (&message, here.ends[1 - side].party) {
            self.handed(session, text);
            self.note_told(session, text);
        }
        self.push(pipe, 1 - side, message);
    }

    /// Puts a message on its way to side `to`.
    pub(crate) fn push(&mut self, pipe: usize, to: usize, message: Message) {
        let [a, b] = [self.pipes[pipe].ends[0].party, self.pipes[pipe].ends[1].party];
        let delay = self.latency(a, b);
        let now = self.now;
        let here = &mut self.pipes[pipe];
        if here.ends[to].state == State::Gone {
            return;
        }
        let inbound = &mut here.inbound[to];
        inbound.queue.push_back(message);
        inbound.last = inbound.last.max(now + delay);
        let at = inbound.last;
        self.at(at, Event::Arrive { pipe, side: to });
    }

    fn blocked(&self, pipe: usize, side: usize) -> bool {
        let here = &self.pipes[pipe];
        let end = &here.ends[side];
        let from = here.ends[1 - side].party;
        end.state == State::Pending || !end.reading || self.is_silenced(from, end.party)
    }

    pub(crate) fn arrive(&mut self, pipe: usize, side: usize) {
        if self.pipes[pipe].ends[side].state == State::Gone {
            self.pipes[pipe].inbound[side].queue.clear();
        } else if self.pipes[pipe].inbound[side].held > 0 || self.blocked(pipe, side) {
            self.pipes[pipe].inbound[side].held += 1;
        } else {
            self.deliver(pipe, side);
        }
    }

    pub(crate) fn flush(&mut self, pipe: usize, side: usize) {
        while self.pipes[pipe].inbound[side].held > 0
            && self.pipes[pipe].ends[side].state != State::Gone
            && !self.blocked(pipe, side)
        {
            self.pipes[pipe].inbound[side].held -= 1;
            self.deliver(pipe, side);
        }
    }

    fn deliver(&mut self, pipe: usize, side: usize) {
        let Some(message) = self.pipes[pipe].inbound[side].queue.pop_front() else { return };
        let End { party, conn, state, .. } = self.pipes[pipe].ends[side];
        let number = match party {
            Party::Host(number) => number,
            Party::Client(session) => return self.client_hears(session, message),
        };
        match message {
            Message::Text(text) => self.feed(number, Input::Text { conn, text: &text }),
            Message::Binary(bytes) => self.feed(number, Input::Binary { conn, bytes: &bytes }),
            Message::Ping(ping) if state == State::Open => self.push(pipe, 1 - side, Message::Pong(ping)),
            Message::Ping(_) => {}
            Message::Pong(ping) => self.feed(number, Input::Pong { conn, number: Some(ping) }),
            Message::Close { code, reason } if state == State::Open => {
                self.gone(pipe, side, ClosedBy::Remote { code, reason });
            }
            // Both ends closed at once: each hears of its own closing only.
            Message::Close { .. } => {}
        }
    }

    /// A hub starts to read an accepted connection.
    pub(crate) fn read(&mut self, number: usize, conn: ConnId) {
        let Some(&Conn::Pipe(pipe, side)) = self.hosts[number].conns.get(&conn) else {
            return self.fail(format!("hub {number} reads connection {}, which is not open", conn.0));
        };
        self.pipes[pipe].ends[side].reading = true;
        self.at(self.now, Event::Flush { pipe, side });
    }

    /// A hub closes one of its connections.
    pub(crate) fn close(&mut self, number: usize, conn: ConnId, code: u16, reason: String) {
        if reason.len() > 123 {
            self.fail(format!("hub {number} closes with a reason of {} bytes", reason.len()));
        }
        match self.hosts[number].conns.get(&conn) {
            None => self.fail(format!("hub {number} closes connection {}, which is over", conn.0)),
            Some(&Conn::Dial(dial)) => self.close_dial(dial),
            Some(&Conn::Channel(channel)) => {
                self.channels[channel].closing = true;
                self.at(self.now, Event::ChannelOver { channel, why: None });
            }
            Some(&Conn::Pipe(pipe, side)) => {
                if !matches!(self.pipes[pipe].ends[side].state, State::Open | State::Pending) {
                    return self.fail(format!("hub {number} closes connection {} twice", conn.0));
                }
                trace!(self, 1, "hub {number} closes connection {}: {code} {reason}", conn.0);
                let code = if self.pipes[pipe].channel { 1000 } else { code };
                self.close_end(pipe, side, code, reason);
            }
        }
    }

    pub(crate) fn close_end(&mut self, pipe: usize, side: usize, code: u16, reason: String) {
        self.pipes[pipe].ends[side].state = State::Closing;
        self.push(pipe, 1 - side, Message::Close { code, reason });
        let [a, b] = [self.pipes[pipe].ends[0].party, self.pipes[pipe].ends[1].party];
        let at = self.now + self.latency(a, b);
        self.at(at, Event::Closed { pipe, side });
    }

    pub(crate) fn closed(&mut self, pipe: usize, side: usize) {
        if self.pipes[pipe].ends[side].state == State::Closing {
            self.gone(pipe, side, ClosedBy::Local);
        }
    }

    /// An end is over, and its owner hears why.
    pub(crate) fn gone(&mut self, pipe: usize, side: usize, reason: ClosedBy) {
        let end = &self.pipes[pipe].ends[side];
        let (party, conn) = (end.party, end.conn);
        if let Party::Host(number) = party {
            self.before_input_of(number, conn);
        }
        let end = &mut self.pipes[pipe].ends[side];
        end.state = State::Gone;
        let counted = std::mem::take(&mut end.counted);
        self.pipes[pipe].inbound[side].queue.clear();
        match party {
            Party::Host(number) => {
                self.hosts[number].conns.remove(&conn);
                if counted {
                    self.count_channel(number, false);
                }
                self.feed(number, Input::Closed { conn, reason });
            }
            Party::Client(session) => self.client_lost(session, &reason),
        }
    }
}
