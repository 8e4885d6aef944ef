//! A WebSocket that says what no proper client would.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket};

use super::{Hub, until_ok};

/// Time that one look for a message takes at most.
const LOOK: Duration = Duration::from_millis(5);

/// How a connection ended: the WebSocket close code and reason, or what broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// With a close frame.
    With(u16, String),
    /// Without.
    Broken(String),
}

/// One WebSocket to a hub.
pub(crate) struct Raw {
    socket: WebSocket<TcpStream>,
    /// Read but not yet asked for.
    inbox: VecDeque<Value>,
    binaries: VecDeque<Vec<u8>>,
    closed: Option<Closed>,
}

impl Raw {
    /// Connects with a query of its own making, `?peerId=…` for instance; the hub may close at once.
    pub(crate) fn open(hub: &Hub, path_and_query: &str) -> Self {
        let stream = TcpStream::connect((hub.address, hub.port)).expect("the hub listens");
        stream.set_read_timeout(None).expect("a socket option");
        let url = format!("{}{path_and_query}", hub.url());
        let (socket, _) = tungstenite::client(url, stream).expect("the hub accepts the WebSocket");
        Self::over(socket)
    }

    /// Over an open WebSocket.
    pub(crate) fn over(socket: WebSocket<TcpStream>) -> Self {
        socket.get_ref().set_read_timeout(Some(LOOK)).expect("a socket option");
        Self { socket, inbox: VecDeque::new(), binaries: VecDeque::new(), closed: None }
    }

    /// Connects as `peer` to whatever listens on `port` of this machine, such as a load balancer;
    /// none if no hub greets it.
    pub(crate) fn through(port: u16, peer: &str) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let (socket, _) =
            tungstenite::client(format!("ws://127.0.0.1:{port}/?peerId={peer}"), stream).ok()?;
        let mut raw = Self::over(socket);
        let greeted = raw.wait(|message| message["type"] == "connected");
        (greeted["data"]["peerId"] == peer).then_some(raw)
    }

    /// Connects as `peer` and waits until the hub says that it is connected.
    pub(crate) fn connect(hub: &Hub, peer: &str) -> Self {
        let mut raw = Self::open(hub, &format!("/?peerId={peer}"));
        let greeting = raw.wait(|message| message["type"] == "connected");
        assert_eq!(greeting["data"]["peerId"], peer);
        raw
    }

    /// Connects as `peer`, announces it in `network`, and waits until the hub has taken that in.
    pub(crate) fn join(hub: &Hub, peer: &str, network: &str) -> Self {
        let mut raw = Self::connect(hub, peer);
        raw.say(&json!({"type": "announce", "networkName": network, "data": {"peerId": peer}}));
        // What the announce brought is read later: only the pong is taken out.
        let before = raw.settle();
        raw.inbox.extend(before);
        raw
    }

    /// Sends a JSON message.
    pub(crate) fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    /// Sends any message; that the hub may have closed already is found out by reading.
    pub(crate) fn send(&mut self, message: Message) {
        match self.socket.send(message) {
            Ok(())
            | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_)) => (),
            Err(error) => panic!("sending: {error}"),
        }
    }

    /// Sends a text frame of any bytes.
    pub(crate) fn send_text_bytes(&mut self, bytes: &[u8]) {
        let frame = Frame::message(bytes.to_vec(), OpCode::Data(Data::Text), true);
        self.send(Message::Frame(frame));
    }

    /// Sends any bytes, past the WebSocket's framing.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).expect("a socket");
    }

    /// How the connection ended, if it did by now.
    pub(crate) fn closed_by_now(&mut self) -> Option<Closed> {
        self.read();
        self.closed.clone()
    }

    /// Sends an offer to `target` with `data`.
    pub(crate) fn offer(&mut self, target: &str, network: &str, data: &Value) {
        self.say(&json!({"type": "offer", "networkName": network, "targetPeerId": target, "data": data}));
    }

    /// Reads what is there by now.
    fn read(&mut self) {
        while self.closed.is_none() {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    self.inbox.push_back(parse(&text));
                }
                Ok(Message::Binary(bytes)) => self.binaries.push_back(bytes.to_vec()),
                Ok(Message::Close(frame)) => {
                    let closed =
                        frame.map_or((1005, String::new()), |it| (it.code.into(), it.reason.to_string()));
                    self.closed = Some(Closed::With(closed.0, closed.1));
                }
                Ok(_) => (),
                Err(Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    break;
                }
                Err(error) => self.closed = Some(Closed::Broken(error.to_string())),
            }
        }
    }

    /// Takes out all that came by now, and how the connection ended, if it did.
    pub(crate) fn take(&mut self) -> (Vec<Value>, Option<Closed>) {
        self.read();
        (self.inbox.drain(..).collect(), self.closed.clone())
    }

    /// Waits for a message and takes it out; the others stay.
    pub(crate) fn wait(&mut self, mut is: impl FnMut(&Value) -> bool) -> Value {
        until_ok("the hub sends the message", || {
            self.read();
            match self.inbox.iter().position(&mut is) {
                Some(at) => Ok(self.inbox.remove(at).expect("it is there")),
                None => Err(format!("{:?}, there is {:?}", self.closed, self.inbox)),
            }
        })
    }

    /// Waits for a binary message and takes it out.
    pub(crate) fn wait_binary(&mut self) -> Vec<u8> {
        until_ok("the hub sends a binary message", || {
            if self.binaries.is_empty() {
                self.read();
            }
            self.binaries.pop_front().ok_or_else(|| format!("{:?}", self.closed))
        })
    }

    /// Waits for a message of one type and takes it out.
    pub(crate) fn wait_type(&mut self, kind: &str) -> Value {
        self.wait(|message| message["type"] == kind)
    }

    /// Waits until the hub has dealt with all that this connection said, by a
    /// ping; takes out all that came before the pong.
    pub(crate) fn settle(&mut self) -> Vec<Value> {
        self.say(&json!({"type": "ping"}));
        until_ok("the hub answers a ping", || {
            self.read();
            match self.inbox.iter().position(|message| message["type"] == "pong") {
                Some(at) => {
                    let mut before: Vec<Value> = self.inbox.drain(..=at).collect();
                    before.pop();
                    Ok(before)
                }
                None => Err(format!("{:?}, there is {:?}", self.closed, self.inbox)),
            }
        })
    }

    /// The hub's wall clock, in ms since the Unix epoch.
    pub(crate) fn clock(&mut self) -> i64 {
        self.say(&json!({"type": "ping"}));
        self.wait_type("pong")["timestamp"].as_i64().expect("a time")
    }

    /// Waits until the connection is over, and says how.
    pub(crate) fn wait_closed(&mut self) -> Closed {
        until_ok("the hub closes the connection", || {
            self.read();
            self.closed.clone().ok_or_else(|| format!("there is {:?}", self.inbox))
        })
    }
}

/// What a hub sends is JSON. Where it is nested deeper than `Value` can be, it stays text.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| {
        serde_json::from_str::<&RawValue>(text).expect("a hub sends JSON");
        Value::from(text)
    })
}
