//! WebSockets: dialling, accepting, refusing.

use std::net::{IpAddr, Ipv4Addr};

use pigeonhub_proto::io::{ClosedBy, ConnId, Input, Request};

use super::host::Conn;
use super::network::{Party, State};
use super::world::{Event, MS, Micros, SEC, World, trace};

/// After this a dial is given up.
const TIME_OUT: Micros = 10 * SEC;

/// A host that answers nothing, not even with a refusal.
pub(crate) const BLACK_HOLE: &str = "10.255.255.1:3000";

/// One attempt to open a WebSocket.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) party: Party,
    conn: ConnId,
    authority: String,
    peer_id: Option<String>,
    mesh: bool,
    begun: Micros,
    /// The dialler has closed it before it was open.
    closing: bool,
    /// Nobody waits for the outcome any more.
    over: bool,
    /// How it ended, once that is known.
    outcome: Option<Result<usize, &'static str>>,
}

/// The `host:port`, `peerId` and `mesh=1` of a `ws:` URL.
fn parse(url: &str) -> Option<(String, Option<String>, bool)> {
    let url = url::Url::parse(url).ok().filter(|url| url.scheme() == "ws")?;
    let authority = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    let value = |key| url.query_pairs().find(|(k, _)| k == key).map(|(_, value)| value.into_owned());
    Some((authority, value("peerId"), value("mesh").as_deref() == Some("1")))
}

impl World {
    /// A hub dials.
    pub(crate) fn dial(&mut self, number: usize, conn: ConnId, url: &str) {
        if conn.0 % 2 == 1 || self.hosts[number].conns.contains_key(&conn) {
            return self.fail(format!("hub {number} dials with the number {}", conn.0));
        }
        trace!(self, 1, "hub {number} dials {url}, connection {}", conn.0);
        let dial = self.begin_dial(Party::Host(number), conn, url);
        if let Some(dial) = dial {
            self.hosts[number].conns.insert(conn, Conn::Dial(dial));
        }
    }

    /// Begins a dial by anyone.
    pub(crate) fn begin_dial(&mut self, party: Party, conn: ConnId, url: &str) -> Option<usize> {
        let Some((authority, peer_id, mesh)) = parse(url) else {
            self.fail(format!("{party:?} dials '{url}', which is no ws: URL"));
            return None;
        };
        let dial = self.dials.len();
        self.dials.push(Dial {
            party,
            conn,
            authority,
            peer_id,
            mesh,
            begun: self.now,
            closing: false,
            over: false,
            outcome: None,
        });
        let at = self.now + self.dial_latency(dial) * 2;
        self.at(at, Event::DialArrive { dial });
        Some(dial)
    }

    fn dial_latency(&mut self, dial: usize) -> Micros {
        let target = self.by_address.get(&self.dials[dial].authority).copied().unwrap_or_default();
        self.latency(self.dials[dial].party, Party::Host(target))
    }

    pub(crate) fn dial_arrive(&mut self, dial: usize) {
        let Dial { party, over, begun, ref authority, .. } = self.dials[dial];
        let target = self.by_address.get(authority).copied();
        let black_hole = authority == BLACK_HOLE;
        if over {
            return;
        }
        if self.now - begun >= TIME_OUT {
            return self.dial_ends(dial, Err("timed out"));
        }
        let Some(target) = target else {
            let wait = if black_hole { begun + TIME_OUT } else { self.now };
            return if black_hole {
                self.at(wait, Event::DialArrive { dial })
            } else {
                self.dial_ends(dial, Err("connection refused"))
            };
        };
        let host = &self.hosts[target];
        if host.unreached && party.host().is_some() {
            return self.at(begun + TIME_OUT, Event::DialArrive { dial });
        }
        if self.is_cut(party, Party::Host(target)) || host.stopped || (!host.up && host.silent) {
            return self.at(self.now + 500 * MS, Event::DialArrive { dial });
        }
        if !host.up {
            return self.dial_ends(dial, Err("connection refused"));
        }
        self.accept(dial, target);
    }

    fn dial_ends(&mut self, dial: usize, outcome: Result<usize, &'static str>) {
        self.dials[dial].outcome = Some(outcome);
        let at = self.now + self.dial_latency(dial);
        if let Ok(pipe) = outcome {
            self.pipes[pipe].inbound[0].last = at;
        }
        self.at(at, Event::DialDone { dial });
    }

    fn accept(&mut self, dial: usize, target: usize) {
        let Dial { party, conn, mesh, .. } = self.dials[dial];
        let accepted = ConnId(self.hosts[target].next_accepted);
        self.hosts[target].next_accepted += 2;
        let ends = [(party, conn, State::Pending), (Party::Host(target), accepted, State::Open)];
        let pipe = self.add_pipe(false, ends);
        self.pipes[pipe].ends[1].reading = false;
        self.hosts[target].conns.insert(accepted, Conn::Pipe(pipe, 1));
        self.dial_ends(dial, Ok(pipe));
        let remote = match party {
            Party::Host(number) => self.remote(number),
            Party::Client(session) => IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + session as u32)),
        };
        let request = Request {
            peer_id: self.dials[dial].peer_id.clone(),
            mesh,
            remote,
            via_proxy: false,
            host: Some(self.dials[dial].authority.clone()),
            ticket: None,
        };
        self.feed(target, Input::Accepted { conn: accepted, request });
    }

    pub(crate) fn dial_done(&mut self, dial: usize) {
        let Dial { party, conn, outcome, closing, over, .. } = self.dials[dial];
        if over {
            return;
        }
        self.dials[dial].over = true;
        if closing {
            if let Party::Host(number) = party {
                self.hosts[number].conns.remove(&conn);
                self.feed(number, Input::Closed { conn, reason: ClosedBy::Local });
            }
            return self.drop_half_open(dial);
        }
        match (party, outcome) {
            (Party::Host(number), Some(Ok(pipe))) => {
                self.pipes[pipe].ends[0].state = State::Open;
                self.hosts[number].conns.insert(conn, Conn::Pipe(pipe, 0));
                let remote = self.pipes[pipe].ends[1].party.host().map(|target| self.remote(target));
                self.at(self.now, Event::Flush { pipe, side: 0 });
                self.feed(number, Input::Dialled { conn, remote });
            }
            (Party::Host(number), failed) => {
                let why = failed.and_then(Result::err).unwrap_or("timed out");
                trace!(self, 1, "hub {number}: dialling as connection {} failed: {why}", conn.0);
                self.hosts[number].conns.remove(&conn);
                self.feed(number, Input::DialFailed { conn, error: why.to_owned() });
            }
            (Party::Client(session), Some(Ok(pipe))) => {
                self.pipes[pipe].ends[0].state = State::Open;
                self.at(self.now, Event::Flush { pipe, side: 0 });
                self.client_opened(session, pipe);
            }
            (Party::Client(session), _) => {
                self.client_lost(session, &ClosedBy::Broken("no hub there".to_owned()))
            }
        }
    }

    /// The acceptor finds that the dialler has gone before it was told that it is connected.
    fn drop_half_open(&mut self, dial: usize) {
        if let Some(Ok(pipe)) = self.dials[dial].outcome {
            self.pipes[pipe].ends[0].state = State::Gone;
            self.orphan(pipe, 1, false);
        }
    }

    /// A hub closes what it is still dialling.
    pub(crate) fn close_dial(&mut self, dial: usize) {
        self.dials[dial].closing = true;
        self.at(self.now, Event::DialDone { dial });
    }

    /// A dialler dies.
    pub(crate) fn abandon_dial(&mut self, dial: usize) {
        self.dials[dial].over = true;
        self.drop_half_open(dial);
    }
}
