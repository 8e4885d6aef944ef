//! Simulated clients: they come, announce themselves, signal each other and
//! leave in every way that clients leave.

use std::collections::{BTreeMap, BTreeSet};

use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ClosedBy, ConnId};
use serde_json::json;

use super::host::authority;
use super::ledger::{Account, Errors};
use super::network::{Message, Party, State};
use super::told::Told;
use super::world::{Event, MS, Micros, SEC, World, trace};

/// One client, over all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    /// As it writes itself.
    pub(crate) name: String,
    pub(crate) id: Id,
    pub(crate) network: String,
    /// Further networks in which a test announces it.
    pub(crate) also: BTreeSet<String>,
    /// The hub it tries first.
    home: usize,
    /// The connection that it holds for its own.
    pub(crate) session: Option<usize>,
    /// The peers of its network that it has been told of, and not of their leaving.
    pub(crate) view: BTreeSet<Id>,
    /// What hubs told it of others.
    pub(crate) told: BTreeMap<Id, Told>,
    /// How often it said goodbye.
    pub(crate) goodbyes: usize,
    /// It has left for good.
    pub(crate) retired: bool,
    /// When its latest session was over, and for how long hubs may not know that.
    pub(crate) left: Option<(Micros, Micros)>,
    /// What became of its signals to each target.
    pub(crate) accounts: BTreeMap<Id, Account>,
    not_before: Micros,
    backoff: Micros,
}

/// One connection of a client, from its dial on.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: usize,
    pub(crate) host: usize,
    /// Which life of the hub it is connected to.
    pub(crate) life: u32,
    pub(crate) pipe: Option<usize>,
    begun: Micros,
    pub(crate) connected: bool,
    pub(crate) announced: Option<Micros>,
    pub(crate) ended: Option<Micros>,
    /// How its hub ended it.
    pub(crate) closed: Option<ClosedBy>,
    last_heard: Micros,
    pinged: Option<Micros>,
    /// The latest signal from each sender's session.
    pub(crate) latest: BTreeMap<usize, usize>,
    /// Who could not be reached.
    pub(crate) errors: BTreeMap<Id, Errors>,
    /// Whose goodbyes it heard, and how many.
    pub(crate) goodbyes: BTreeMap<Id, usize>,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// `goodbye`, then an orderly close.
    Goodbye,
    Close,
    /// Its process dies: a reset.
    Reset,
    /// Its machine dies: nothing at all.
    Silence,
    /// It opens another connection elsewhere and leaves this one open.
    Beside,
    /// It closes and opens another connection at once.
    Move,
}

impl World {
    pub(crate) fn add_client(&mut self, network: String, home: usize, first: Micros) {
        let client = self.clients.len();
        let mut name = String::new();
        // Ids that begin alike end with the client's number: no two are the same.
        let end = format!("{client:04x}");
        for at in 0..40 {
            let digit = char::from_digit(self.rng.below(16) as u32, 16).unwrap_or('0');
            let alike = if at < 36 { Some('a') } else { end.chars().nth(at - 36) };
            let digit = alike.filter(|_| self.params.close_ids).unwrap_or(digit);
            name.push(if self.rng.percent(30) { digit.to_ascii_uppercase() } else { digit });
        }
        let id = name.parse().unwrap_or_default();
        trace!(self, 1, "client {client} is {name} in network {network}");
        self.clients.push(Client {
            name,
            id,
            network,
            also: BTreeSet::new(),
            home,
            session: None,
            view: BTreeSet::new(),
            told: BTreeMap::new(),
            goodbyes: 0,
            retired: false,
            left: None,
            accounts: BTreeMap::new(),
            not_before: first,
            backoff: SEC,
        });
        self.at(first, Event::Client { client });
    }

    /// A client thinks about what to do.
    pub(crate) fn client_turn(&mut self, client: usize) {
        let (low, high) = self.params.client_turn;
        let next = self.now + self.rng.range(low, high);
        self.at(next, Event::Client { client });
        let Some(session) = self.clients[client].session else {
            if !self.clients[client].retired && self.now >= self.clients[client].not_before {
                self.client_dials(client);
            }
            return;
        };
        let here = &self.sessions[session];
        let deaf = here.pinged.is_some_and(|at| here.last_heard < at && self.now - at > 20 * SEC);
        if deaf || (!here.connected && self.now - here.begun > 20 * SEC) {
            trace!(self, 1, "client {client} gives up its silent connection");
            return self.client_leaves(client, Leaving::Close);
        }
        if !here.connected {
            return;
        }
        if here.announced.is_none() {
            return self.announce(session);
        }
        if here.pinged.is_none_or(|at| here.last_heard >= at && self.now - at > 8 * SEC) {
            self.sessions[session].pinged = Some(self.now);
            self.say(session, json!({"type": "ping", "data": {}}).to_string());
        }
        if self.churn && self.rng.per_mille(self.params.leave_per_mille) {
            let how = self.leaving();
            return self.client_leaves(client, how);
        }
        if self.rng.per_mille(5) {
            self.announce(session);
        }
        if self.chatter {
            for _ in 0..self.rng.range(1, 4) {
                self.signal(client);
            }
        }
    }

    fn leaving(&mut self) -> Leaving {
        match self.rng.below(12) {
            0..3 => Leaving::Goodbye,
            3..6 => Leaving::Close,
            6..8 => Leaving::Reset,
            8 => Leaving::Silence,
            9 | 10 => Leaving::Move,
            _ => Leaving::Beside,
        }
    }

    /// A client that goes, or begins anew, takes the connections with it that it left open.
    fn close_earlier(&mut self, client: usize) {
        for session in 0..self.sessions.len() {
            let here = &self.sessions[session];
            if here.client == client
                && self.clients[client].session != Some(session)
                && let Some(pipe) = here.pipe
                && self.pipes[pipe].ends[0].state == State::Open
            {
                self.close_end(pipe, 0, 1000, String::from("an earlier one"));
            }
        }
    }

    fn client_dials(&mut self, client: usize) {
        self.close_earlier(client);
        let mut host = self.clients[client].home;
        let usable =
            |host: usize| !self.hosts[host].intruder && self.hosts[host].up && !self.hosts[host].stopped;
        let others: Vec<usize> = (0..self.hosts.len()).filter(|host| usable(*host)).collect();
        if !usable(host) || self.rng.percent(25) {
            host = self.rng.pick(&others).unwrap_or(host);
        }
        self.client_dials_host(client, host);
    }

    pub(crate) fn client_dials_host(&mut self, client: usize, host: usize) {
        let session = self.sessions.len();
        trace!(self, 1, "client {client} dials hub {host}, session {session}");
        self.sessions.push(Session {
            client,
            host,
            life: self.hosts[host].life,
            pipe: None,
            begun: self.now,
            connected: false,
            announced: None,
            ended: None,
            closed: None,
            last_heard: self.now,
            pinged: None,
            latest: BTreeMap::new(),
            errors: BTreeMap::new(),
            goodbyes: BTreeMap::new(),
        });
        self.clients[client].session = Some(session);
        self.clients[client].view.clear();
        self.clients[client].told.clear();
        let url = format!("ws://{}/?peerId={}", authority(host), self.clients[client].name);
        self.begin_dial(Party::Client(session), ConnId(0), &url);
    }

    pub(crate) fn client_opened(&mut self, session: usize, pipe: usize) {
        let here = &mut self.sessions[session];
        here.pipe = Some(pipe);
        here.life = self.hosts[here.host].life;
        if here.ended.is_some() {
            // It has given up waiting.
            self.close_end(pipe, 0, 1000, String::new());
        }
    }

    /// A client says something to its hub.
    pub(crate) fn say(&mut self, session: usize, text: String) {
        if let Some(pipe) = self.sessions[session].pipe
            && self.pipes[pipe].ends[0].state == State::Open
        {
            trace!(self, 2, "client {} says {text}", self.sessions[session].client);
            self.push(pipe, 1, Message::Text(text));
        }
    }

    pub(crate) fn announce(&mut self, session: usize) {
        let network = self.clients[self.sessions[session].client].network.clone();
        self.announce_in(session, &network);
    }

    pub(crate) fn announce_in(&mut self, session: usize, network: &str) {
        let client = self.sessions[session].client;
        let name = &self.clients[client].name;
        let text = json!({
            "type": "announce",
            "networkName": network,
            "data": {"peerId": name, "label": label(client)},
            "maxPeers": 3,
        });
        let first = self.sessions[session].announced.is_none();
        self.sessions[session].announced.get_or_insert(self.now);
        if first {
            trace!(self, 1, "client {client} announces itself, session {session}");
        }
        self.say(session, text.to_string());
    }

    fn client_leaves(&mut self, client: usize, how: Leaving) {
        let Some(session) = self.clients[client].session else { return };
        trace!(self, 1, "client {client} leaves session {session}: {how:?}");
        if self.partings {
            // On their way when it is told that it left.
            for _ in 0..self.rng.range(1, 4) {
                self.signal(client);
            }
        }
        let unseen = match how {
            Leaving::Silence => {
                let settings = &self.hosts[self.sessions[session].host].settings;
                (settings.peer_timeout + settings.cleanup_interval * 2).as_micros() as Micros + 20 * SEC
            }
            _ => 20 * SEC,
        };
        let pipe = self.sessions[session].pipe;
        self.end_session(session, unseen);
        match (pipe, how) {
            (None, _) => {}
            (Some(pipe), Leaving::Goodbye | Leaving::Close | Leaving::Move) => {
                if matches!(how, Leaving::Goodbye) {
                    self.note_goodbye(client);
                    let network = &self.clients[client].network;
                    let text = json!({"type": "goodbye", "data": {}, "networkName": network, "maxPeers": 3});
                    self.say(session, text.to_string());
                }
                if self.pipes[pipe].ends[0].state == State::Open {
                    self.close_end(pipe, 0, 1000, String::from("leaving"));
                }
                if matches!(how, Leaving::Move) {
                    return self.client_dials(client);
                }
            }
            (Some(pipe), Leaving::Reset | Leaving::Silence) => {
                self.pipes[pipe].ends[0].state = State::Gone;
                self.orphan(pipe, 1, matches!(how, Leaving::Silence));
            }
            (Some(_), Leaving::Beside) => {
                let old = self.sessions[session].host;
                let up: Vec<usize> = (0..self.hosts.len())
                    .filter(|h| {
                        *h != old && self.hosts[*h].up && !self.hosts[*h].intruder && !self.hosts[*h].stopped
                    })
                    .collect();
                if let Some(host) = self.rng.pick(&up) {
                    return self.client_dials_host(client, host);
                }
            }
        }
        self.close_earlier(client);
        if self.rng.percent(15) {
            trace!(self, 1, "client {client} is gone for good");
            self.clients[client].retired = true;
        }
        self.clients[client].not_before = self.now + self.rng.range(100 * MS, 8 * SEC);
    }

    fn end_session(&mut self, session: usize, unseen: Micros) {
        let here = &mut self.sessions[session];
        here.ended.get_or_insert(self.now);
        let client = &mut self.clients[here.client];
        if client.session == Some(session) {
            client.session = None;
            let until = self.now + unseen;
            client.left = Some((self.now, client.left.map_or(until, |(_, earlier)| earlier.max(until))));
        }
    }

    /// A client's connection is over, not by its own doing, or could not be opened.
    pub(crate) fn client_lost(&mut self, session: usize, reason: &ClosedBy) {
        let client = self.sessions[session].client;
        let mine = self.clients[client].session == Some(session);
        self.sessions[session].closed = Some(reason.clone());
        if !mine {
            self.sessions[session].ended.get_or_insert(self.now);
            return;
        }
        trace!(self, 1, "client {client} lost session {session}: {reason:?}");
        if let ClosedBy::Remote { code: 1002 | 1003 | 1007 | 1009 | 4000.., .. } = reason {
            self.fail(format!("client {client} is accused of a fault: {reason:?}"));
        }
        self.end_session(session, 20 * SEC);
        let client = &mut self.clients[client];
        client.not_before = self.now + client.backoff;
        client.backoff = (client.backoff * 2).min(8 * SEC);
    }

    /// A message reaches a client.
    pub(crate) fn client_hears(&mut self, session: usize, message: Message) {
        let here = &mut self.sessions[session];
        here.last_heard = self.now;
        let (client, pipe) = (here.client, here.pipe);
        let open = pipe.is_some_and(|pipe| self.pipes[pipe].ends[0].state == State::Open);
        match message {
            Message::Text(text) if open => {
                trace!(self, 2, "client {client} hears {text}");
                self.clients[client].backoff = SEC;
                self.client_reads(session, &text);
            }
            Message::Ping(number) if open => {
                if let Some(pipe) = pipe {
                    self.push(pipe, 1, Message::Pong(number));
                }
            }
            Message::Binary(_) => self.fail(format!("client {client} was sent a binary message")),
            Message::Close { code, reason } => {
                if let Some(pipe) = pipe {
                    self.pipes[pipe].ends[0].state = State::Gone;
                }
                self.client_lost(session, &ClosedBy::Remote { code, reason });
            }
            _ => {}
        }
    }

    /// The clients that a hub should know: connected, announced, and not gone.
    pub(crate) fn announced(&self) -> impl Iterator<Item = (&Client, &Session)> {
        self.clients.iter().filter_map(|client| {
            let session = &self.sessions[client.session?];
            session.announced.map(|_| (client, session))
        })
    }
}

/// What a client puts into its announce, for others to recognise.
pub(crate) fn label(client: usize) -> String {
    format!("client \u{e9} {client}")
}
