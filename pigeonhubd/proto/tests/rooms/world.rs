//! Clients, hubs and what is between them.

use std::collections::BTreeMap;

use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ClosedBy, ConnId, Input};
use rand::RngExt;

use crate::client::Client;
use crate::hubs::{self, Deed, Ours, Published, Signaling};
use crate::net::{Event, MS, Micros, Net, Pace, Piped};
use crate::talk;

/// Whose hubs, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Published,
    /// Everyone told of everyone at once, by the order of their ids.
    Plain,
    Ours(usize),
}

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) clients: Vec<Client>,
    numbers: BTreeMap<Id, usize>,
    hubs: Vec<Box<dyn Signaling>>,
    /// The sessions of each hub: client, and which of its sessions.
    sessions: Vec<BTreeMap<ConnId, (usize, u32)>>,
    /// The pipes of each hub: the far hub and its number there.
    pipes: Vec<BTreeMap<ConnId, (usize, ConnId)>>,
    next_conn: Vec<u64>,
    wakes: Vec<Micros>,
    kind: Kind,
    /// Hubs that are down.
    pub(crate) down: bool,
}

impl World {
    pub(crate) fn new(seed: u64, pace: Pace, kind: Kind, clients: usize) -> Self {
        let mut net = Net::new(seed, pace);
        net.ids = (0..clients).map(|_| Id(net.rng.random())).collect();
        let count = if let Kind::Ours(count) = kind { count } else { 1 };
        let numbers = net.ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let clients = (0..clients).map(|me| Client::new(me, me % count)).collect();
        let mut world = Self {
            net,
            clients,
            numbers,
            hubs: Vec::new(),
            sessions: vec![BTreeMap::new(); count],
            pipes: vec![BTreeMap::new(); count],
            next_conn: vec![1; count],
            wakes: vec![Micros::MAX; count],
            kind,
            down: false,
        };
        world.start_hubs();
        world
    }

    pub(crate) fn start_hubs(&mut self) {
        self.down = false;
        let count = self.sessions.len();
        for number in 0..count {
            let hub: Box<dyn Signaling> = match self.kind {
                Kind::Published => Box::new(Published::new(false)),
                Kind::Plain => Box::new(Published::new(true)),
                Kind::Ours(_) => {
                    let bootstraps = (0..number).map(hubs::url).collect();
                    let seed = self.net.rng.random();
                    Box::new(Ours::new(number, bootstraps, seed, self.net.now))
                }
            };
            self.hubs.push(hub);
        }
        for number in 0..count {
            self.drain(number);
        }
    }

    /// All hubs end, and all sessions with them.
    pub(crate) fn end_hubs(&mut self) {
        self.down = true;
        self.hubs.clear();
        self.wakes.fill(Micros::MAX);
        self.pipes.iter_mut().for_each(BTreeMap::clear);
        for sessions in &mut self.sessions {
            for (client, session) in std::mem::take(sessions).into_values() {
                let client = &mut self.clients[client];
                if client.up && client.session == session {
                    client.disconnected(&mut self.net);
                }
            }
        }
    }

    /// A client's WebSocket breaks; its hub sees it at once.
    pub(crate) fn break_session(&mut self, client: usize) {
        let (hub, session) = (self.clients[client].hub, self.clients[client].session);
        self.clients[client].disconnected(&mut self.net);
        self.session_over(hub, client, session);
    }

    /// A client's program ends; with a goodbye if it is polite.
    pub(crate) fn stop(&mut self, client: usize, polite: bool) {
        let (hub, session) = (self.clients[client].hub, self.clients[client].session);
        if polite && self.clients[client].connected {
            let text = talk::goodbye(&self.net, client);
            self.said(hub, client, session, &text);
        }
        self.clients[client].stop(&mut self.net);
        self.session_over(hub, client, session);
    }

    fn session_over(&mut self, hub: usize, client: usize, session: u32) {
        if self.down {
            return;
        }
        let conn = self.conn_of(hub, client, session);
        if let Some(conn) = conn {
            self.sessions[hub].remove(&conn);
            let now = self.net.now;
            self.hubs[hub].over(conn, now);
            self.drain(hub);
        }
    }

    fn conn_of(&self, hub: usize, client: usize, session: u32) -> Option<ConnId> {
        self.sessions[hub].iter().find(|(_, of)| **of == (client, session)).map(|(conn, _)| *conn)
    }

    fn said(&mut self, hub: usize, client: usize, session: u32, text: &str) {
        if self.down {
            return;
        }
        if let Some(conn) = self.conn_of(hub, client, session) {
            let now = self.net.now;
            self.hubs[hub].said(conn, text, now);
            self.drain(hub);
        }
    }

    fn new_conn(&mut self, hub: usize) -> ConnId {
        self.next_conn[hub] += 2;
        ConnId(self.next_conn[hub])
    }

    /// Does what a hub asks for.
    fn drain(&mut self, hub: usize) {
        for deed in self.hubs[hub].deeds() {
            match deed {
                Deed::Tell(conn, text) | Deed::Text(conn, text) if self.sessions[hub].contains_key(&conn) => {
                    let (client, session) = self.sessions[hub][&conn];
                    if let Some(word) = talk::read(&text, &self.numbers) {
                        let way = self.net.pace.way.0;
                        self.net.after(way, Event::Hear(client, session, word));
                    }
                }
                Deed::Text(conn, text) => self.pipe(hub, conn, Piped::Text(text)),
                Deed::Binary(conn, bytes) => self.pipe(hub, conn, Piped::Binary(bytes)),
                Deed::Dial(conn, url) => {
                    let now = self.net.now;
                    let far = hubs::number_of(&url).filter(|far| *far < self.hubs.len());
                    let Some(far) = far else {
                        self.hubs[hub].take(Input::DialFailed { conn, error: String::from("refused") }, now);
                        continue;
                    };
                    let there = self.new_conn(far);
                    self.pipes[hub].insert(conn, (far, there));
                    self.pipes[far].insert(there, (hub, conn));
                    let request = hubs::mesh_request(&url, hub);
                    self.hubs[far].take(Input::Accepted { conn: there, request }, now);
                    self.net.after(MS, Event::Pipe(hub, conn.0 as usize, Piped::Open));
                    self.net.after(MS, Event::HubWakes(far));
                }
                Deed::CloseSession(conn) => {
                    if let Some((client, session)) = self.sessions[hub].remove(&conn) {
                        let now = self.net.now;
                        self.hubs[hub].over(conn, now);
                        if self.clients[client].up && self.clients[client].session == session {
                            self.clients[client].disconnected(&mut self.net);
                        }
                    } else {
                        self.pipe(hub, conn, Piped::Closed);
                    }
                }
                Deed::Tell(..) => {}
            }
        }
        if let Some(at) = self.hubs[hub].wakes().filter(|at| *at < self.wakes[hub]) {
            self.wakes[hub] = at;
            self.net.at(at, Event::HubWakes(hub));
        }
    }

    fn pipe(&mut self, hub: usize, conn: ConnId, what: Piped) {
        if let Some((far, there)) = self.pipes[hub].get(&conn).copied() {
            self.net.after(hubs::HOP.as_micros() as Micros, Event::Pipe(far, there.0 as usize, what));
        }
    }

    /// Plays until then; `scene` is asked about what the scene had in store.
    pub(crate) fn play(&mut self, until: Micros, scene: &mut dyn FnMut(&mut World, usize)) {
        while let Some(event) = self.net.next(until) {
            self.step(event, scene);
        }
        self.net.now = until;
    }

    fn step(&mut self, event: Event, scene: &mut dyn FnMut(&mut World, usize)) {
        let owner = |net: &Net, half: usize| net.halves[half].owner;
        let Self { net, clients, .. } = self;
        let up = |clients: &Vec<Client>, client: usize| clients[client].up;
        match event {
            Event::Enforce(of) if up(clients, of) => clients[of].enforce(net),
            Event::FixStuck(of) if up(clients, of) => clients[of].fix_stuck(net),
            Event::SweepStale(of) if up(clients, of) => clients[of].sweep_stale(net),
            Event::ForgetStale(of) if up(clients, of) => clients[of].forget_stale(net),
            Event::Optimize(of, number) if up(clients, of) => clients[of].optimize_scheduled(net, number),
            Event::OptimizeIfAlone(of) if up(clients, of) => clients[of].optimize_if_alone(net),
            Event::Made(half) => {
                let of = owner(net, half);
                if clients[of].up {
                    clients[of].made(net, half);
                }
            }
            Event::Answered(offer, half) => {
                let of = owner(net, half);
                if clients[of].up {
                    clients[of].made_answer(net, offer, half);
                }
            }
            Event::Up(half) => clients[owner(net, half)].up(net, half),
            Event::IceFailed(half) => clients[owner(net, half)].ice_failed(net, half),
            Event::OtherClosed(half) => clients[owner(net, half)].other_closed(net, half),
            Event::Hear(of, session, word) if up(clients, of) && clients[of].session == session => {
                clients[of].hear(net, &word);
            }
            Event::Say(of, session, text) => {
                let hub = clients[of].hub;
                self.said(hub, of, session, &text);
            }
            Event::SessionOpens(of) => self.open_session(of),
            Event::HubWakes(hub) if !self.down => {
                let now = self.net.now;
                if self.wakes[hub] <= now {
                    self.wakes[hub] = Micros::MAX;
                    self.hubs[hub].wake(now);
                }
                self.drain(hub);
            }
            Event::Pipe(hub, conn, what) if !self.down => self.piped(hub, ConnId(conn as u64), what),
            Event::Scene(what) => scene(self, what),
            _ => {}
        }
    }

    fn open_session(&mut self, of: usize) {
        let client = &mut self.clients[of];
        if !client.up || client.connected {
            return;
        }
        if self.down {
            return client.disconnected(&mut self.net);
        }
        client.opened();
        let (hub, session) = (client.hub, client.session);
        let conn = self.new_conn(hub);
        self.sessions[hub].insert(conn, (of, session));
        let (peer, now) = (self.net.ids[of], self.net.now);
        self.hubs[hub].opened(conn, peer, now);
        self.drain(hub);
        let text = talk::announce(&self.net, of);
        let way = self.net.way();
        self.net.after(way, Event::Say(of, session, text));
    }

    fn piped(&mut self, hub: usize, conn: ConnId, what: Piped) {
        let Some((far, _)) = self.pipes[hub].get(&conn).copied() else { return };
        let now = self.net.now;
        let hub_at = &mut self.hubs[hub];
        match what {
            Piped::Open => hub_at.take(Input::Dialled { conn, remote: Some(hubs::address(far).into()) }, now),
            Piped::Text(text) => hub_at.take(Input::Text { conn, text: &text }, now),
            Piped::Binary(bytes) => hub_at.take(Input::Binary { conn, bytes: &bytes }, now),
            Piped::Closed => {
                self.pipes[hub].remove(&conn);
                hub_at.take(
                    Input::Closed { conn, reason: ClosedBy::Remote { code: 1000, reason: String::new() } },
                    now,
                );
            }
        }
        self.drain(hub);
    }

    /// The parts of the room of those that are up.
    pub(crate) fn pieces(&self) -> Vec<Vec<usize>> {
        let mut pieces: Vec<Vec<usize>> = Vec::new();
        let mut seen = vec![false; self.clients.len()];
        for client in self.clients.iter().filter(|client| client.up) {
            if std::mem::replace(&mut seen[client.me], true) {
                continue;
            }
            let mut piece = vec![client.me];
            let mut at = 0;
            while at < piece.len() {
                for (peer, half) in &self.clients[piece[at]].peers {
                    let open = self.net.halves[*half].is_connected()
                        && self.net.halves[*half]
                            .other
                            .is_some_and(|other| self.net.halves[other].is_connected());
                    if open && !std::mem::replace(&mut seen[*peer], true) {
                        piece.push(*peer);
                    }
                }
                at += 1;
            }
            pieces.push(piece);
        }
        pieces
    }

    pub(crate) fn is_one_piece(&self) -> bool {
        self.pieces().len() == 1
    }
}
