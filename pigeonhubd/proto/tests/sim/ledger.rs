//! What clients are told, and the account of every signal: delivered once, in
//! order and unchanged, or its sender told that it was not.

use pigeonhub_proto::id::Id;
use serde_json::Value;

use super::client::{Client, label};
use super::world::{Event, Micros, SEC, World, trace};

const TYPES: [&str; 7] = [
    "offer",
    "answer",
    "ice-candidate",
    "renegotiation-offer",
    "renegotiation-answer",
    "ice-restart-offer",
    "ice-restart-answer",
];

impl Signal {
    /// Sent so lately that its fate may be open.
    pub(crate) fn is_young(&self, now: Micros) -> bool {
        now - self.sent < VERDICT
    }
}

/// How the data of a signal begins; its number follows.
const NUMBER: &str = "{ \"n\":";

/// One signal that a client sent. Its number, the index in the list, is in its data.
#[derive(Debug)]
pub(crate) struct Signal {
    kind: &'static str,
    /// The sender's session.
    session: usize,
    to: Id,
    /// The client of that id in the sender's network, if there is one.
    target: Option<usize>,
    /// The target's session when it was sent, if announced for a while.
    steady: Option<usize>,
    sent: Micros,
    /// The text of `data`, to arrive as it is.
    data: String,
    delivered: Vec<usize>,
    /// A hub wrote it to a connection of its target, which may have been about to end.
    handed: bool,
    /// Sent while the mesh was whole: it must arrive.
    calm: bool,
}

/// A client's signals to one target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    sent: u32,
    /// Errors about the target.
    told: u32,
}

/// Errors about one target on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Errors {
    told: u32,
    /// Those of them that explain a signal which did not arrive.
    explained: u32,
}

/// All signals, and what happened to the mesh meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) signals: Vec<Signal>,
    /// Since when the mesh is whole, if it is.
    pub(crate) calm_since: Option<Micros>,
    /// When hubs crashed.
    pub(crate) crashes: Vec<Micros>,
    /// When the latest fault began that may part hubs that live.
    pub(crate) parted: Option<Micros>,
}

/// After this an announcement counts everywhere, even if the hub that the
/// client was at before died with a later clock and has its grace.
const STEADY: Micros = 12 * SEC;

/// How long after a signal its fate must be known.
const VERDICT: Micros = 18 * SEC;

impl World {
    /// A client sends a signal to somebody.
    pub(crate) fn signal(&mut self, client: usize) {
        let Client { session: Some(session), ref network, ref view, .. } = self.clients[client] else {
            return;
        };
        let network = network.clone();
        let told: Vec<Id> = view.iter().copied().collect();
        let to = match self.rng.below(20) {
            0 if !self.clients.is_empty() => self.clients[self.rng.index(self.clients.len())].id,
            1 => Id([self.rng.next() as u8; 20]),
            _ => match self.rng.pick(&told) {
                Some(id) => id,
                None => return,
            },
        };
        if to == self.clients[client].id {
            return;
        }
        let target = self.clients.iter().position(|other| other.id == to && other.network == network);
        let steady = target.and_then(|target| self.clients[target].session).filter(|session| {
            let since = self.sessions[*session].announced;
            self.sessions[*session].connected && since.is_some_and(|since| self.now - since > STEADY)
        });
        let number = self.ledger.signals.len();
        let kind = TYPES[self.rng.index(TYPES.len())];
        let data = format!("{NUMBER}{number}, \"e\":\"\\u00e9\",\"f\": 1.50 }}");
        let spelled = match target {
            Some(target) if !self.rng.percent(5) => self.clients[target].name.clone(),
            _ => to.to_string(),
        };
        let text = format!(
            "{{\"type\":\"{kind}\",\"networkName\":\"{network}\",\"targetPeerId\":\"{spelled}\",\"maxPeers\":3,\
             \"fromPeerId\":\"{to}\",\"data\":{data}}}"
        );
        let calm = self.ledger.calm_since.is_some() && steady.is_some();
        let sent = self.now;
        let signal = Signal {
            kind,
            session,
            to,
            target,
            steady,
            sent,
            data,
            delivered: Vec::new(),
            handed: false,
            calm,
        };
        self.ledger.signals.push(signal);
        self.clients[client].accounts.entry(to).or_default().sent += 1;
        self.counts.signals += 1;
        self.at(sent + VERDICT, Event::Judge { signal: number });
        self.say(session, text);
    }

    /// A client reads what its hub sent.
    pub(crate) fn client_reads(&mut self, session: usize, text: &str) {
        let client = self.sessions[session].client;
        if let Err(fault) = self.client_understands(session, text) {
            self.fail(format!("client {client}, at hub {}, {fault}: {text}", self.sessions[session].host));
        }
    }

    fn client_understands(&mut self, session: usize, text: &str) -> Result<(), String> {
        let client = self.sessions[session].client;
        let Client { ref name, ref network, ref also, session: current, .. } = self.clients[client];
        // Of a connection that it left open it only reads the signals.
        let current = current == Some(session);
        let message: Value = serde_json::from_str(text).map_err(|err| format!("is sent no JSON ({err})"))?;
        let field = |key: &str| message.get(key).and_then(Value::as_str);
        let kind = field("type").ok_or("is sent a message without a type")?;
        let elsewhere = field("networkName").is_none_or(|n| n != network);
        if elsewhere && field("networkName").is_some_and(|n| also.contains(n)) {
            return Ok(());
        }
        if elsewhere && !matches!(kind, "connected" | "pong") {
            return Err("is sent a message of another network".to_owned());
        }
        if field("targetPeerId").is_some_and(|to| to != name) && kind != "error" {
            return Err("is sent a message for another".to_owned());
        }
        match kind {
            "connected" => {
                if message.pointer("/data/peerId").and_then(Value::as_str) != Some(name) {
                    return Err("is greeted as another".to_owned());
                }
                self.sessions[session].connected = true;
                if current && self.rng.percent(90) {
                    self.announce(session);
                }
                Ok(())
            }
            "pong" => Ok(()),
            "peer-discovered" => self.peer_discovered(client, &message, current),
            "goodbye" | "peer-disconnected" => {
                let gone = if kind == "goodbye" {
                    field("fromPeerId")
                } else {
                    message.pointer("/data/peerId").and_then(Value::as_str)
                };
                let gone = gone.and_then(|gone| gone.parse().ok()).ok_or("is not told who left")?;
                if current {
                    self.clients[client].view.remove(&gone);
                }
                if kind == "goodbye" { self.hear_goodbye(session, gone) } else { Ok(()) }
            }
            "error" if field("code") == Some("already-connected") => Ok(()),
            "error" => {
                let to: Option<Id> = field("targetPeerId").and_then(|to| to.parse().ok());
                let to = to.ok_or("is told of an error, but not about whom")?;
                field("code").ok_or("is told of an error without a code")?;
                self.counts.told_undeliverable += 1;
                self.sessions[session].errors.entry(to).or_default().told += 1;
                // What an earlier session sent may have failed only now.
                let account = self.clients[client].accounts.entry(to).or_default();
                account.told += 1;
                if account.told > account.sent {
                    Err("is told twice of one signal".to_owned())
                } else {
                    Ok(())
                }
            }
            _ => match TYPES.iter().find(|known| **known == kind) {
                Some(kind) => self.signal_arrives(session, kind, &message, text),
                None => Err("is sent an unknown type".to_owned()),
            },
        }
    }

    fn peer_discovered(&mut self, client: usize, message: &Value, current: bool) -> Result<(), String> {
        let data = message.get("data").ok_or("is told of nobody")?;
        let peer = data.get("peerId").and_then(Value::as_str).ok_or("is told of nobody")?;
        let network = &self.clients[client].network;
        let known = self.clients.iter().position(|other| other.name == peer && other.network == *network);
        let other = known.ok_or("is told of a peer that is not in its network")?;
        if other == client {
            return Err("is told of itself".to_owned());
        }
        if data.get("label").and_then(Value::as_str) != Some(&label(other))
            || data.get("isHub") != Some(&Value::Bool(false))
        {
            return Err("is told wrongly of a peer".to_owned());
        }
        let id = self.clients[other].id;
        if current {
            self.clients[client].view.insert(id);
        }
        Ok(())
    }

    fn signal_arrives(
        &mut self,
        session: usize,
        kind: &'static str,
        message: &Value,
        text: &str,
    ) -> Result<(), String> {
        let number =
            message.pointer("/data/n").and_then(Value::as_u64).ok_or("is sent a mangled signal")? as usize;
        let signal = self.ledger.signals.get_mut(number).ok_or("is sent a signal that nobody sent")?;
        let from = self.sessions[signal.session].client;
        if signal.target != Some(self.sessions[session].client) {
            return Err(format!("is sent a signal of client {from} to {:?}", signal.target));
        }
        if message.get("fromPeerId").and_then(Value::as_str) != Some(&self.clients[from].name) {
            return Err(format!("is not told that the signal is from client {from}"));
        }
        if signal.kind != kind || !text.contains(&signal.data) {
            return Err("is sent an altered signal".to_owned());
        }
        if signal.delivered.contains(&session) {
            return Err("is sent a signal twice".to_owned());
        }
        if !signal.delivered.is_empty() {
            self.counts.doubled_by_move += 1;
        }
        signal.delivered.push(session);
        self.counts.delivered += 1;
        let latest = self.sessions[session].latest.entry(signal.session).or_default();
        if *latest > number {
            return Err(format!("is sent signal {number} after signal {latest} of the same sender"));
        }
        *latest = number;
        Ok(())
    }

    /// A hub writes something to a client.
    pub(crate) fn handed(&mut self, session: usize, text: &str) {
        let number = text.split_once(NUMBER).and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        let signal = number.and_then(|number: usize| self.ledger.signals.get_mut(number));
        let Some(signal) = signal.filter(|it| it.target == Some(self.sessions[session].client)) else {
            return;
        };
        signal.handed = true;
        let sender = signal.session;
        if self.is_ghost(session, sender) {
            self.counts.ghosts += 1;
            // Over several hubs a goodbye may take another way than the signal before it.
            if self.partings && self.linked(self.sessions[sender].host, self.sessions[session].host) {
                let of = self.sessions[sender].client;
                self.fail(format!("in a whole mesh a client hears client {of} after its goodbye: {text}"));
            }
        }
    }

    /// Whether a data channel is between two hubs, or they are the same.
    fn linked(&self, one: usize, other: usize) -> bool {
        let (host, to) = (&self.hosts[one], self.hosts[other].id);
        let hubs = host.hub().map(|hub| hub.hubs(host.clock(self.now))).unwrap_or_default();
        one == other || hubs.iter().any(|hub| hub.hub_id == to && hub.link.as_deref() == Some("p2p"))
    }

    /// The session's connection is over, or its hub died or was replaced under it.
    fn session_broken(&self, session: usize) -> bool {
        let here = &self.sessions[session];
        let host = &self.hosts[here.host];
        here.ended.is_some() || !host.up || host.life != here.life
    }

    /// By now a signal must have arrived, or its sender know that it has not.
    pub(crate) fn judge(&mut self, number: usize) {
        let Signal { session, to, target, steady, sent, calm, handed, ref delivered, .. } =
            self.ledger.signals[number];
        if self.session_broken(session) {
            return;
        }
        let paused = |host: usize| {
            let host = &self.hosts[host];
            host.stopped || host.resumed.is_some_and(|at| self.now - at < VERDICT)
        };
        if paused(self.sessions[session].host) {
            return self.at(self.now + VERDICT, Event::Judge { signal: number });
        }
        let arrived = !delivered.is_empty();
        let errors = self.sessions[session].errors.entry(to).or_default();
        let told = errors.told > errors.explained;
        if !handed && told {
            errors.explained += 1;
        }
        let from = self.sessions[session].client;
        let stayed = steady.is_some_and(|steady| !self.session_broken(steady));
        // Crashes part no hubs that live, for longer than it takes them to dial each other; unless
        // there are some that cannot be dialled, or one has only just begun to look for the others,
        // or most are gone and those that are left find few that answer.
        let crashes = self.ledger.crashes.iter().filter(|at| **at + 60 * SEC > sent).count();
        let fresh = |session: usize| self.hosts[self.sessions[session].host].started + 60 * SEC > sent;
        let few = self.params.unreached > 0 || 2 * crashes > self.params.hubs;
        let apart = crashes > 1 && (few || fresh(session) || steady.is_some_and(fresh));
        let whole = calm && !apart && self.ledger.parted.is_none_or(|at| at < sent);
        trace!(self, 2, "signal {number} from client {from}: arrived {arrived}, told {told}, whole {whole}");
        if !arrived && stayed && whole {
            return self.fail(format!(
                "signal {number} from client {from} to client {target:?}, sent at {:.6} s in a whole mesh, was {}",
                sent as f64 / SEC as f64,
                if told { "given up" } else { "lost" },
            ));
        }
        // Written into a connection that was about to end it is nobody's to tell.
        if !handed && !told {
            self.fail(format!(
                "signal {number} from client {from} to {to} ({target:?}), sent at {:.6} s, was neither delivered nor \
                 answered with an error",
                sent as f64 / SEC as f64,
            ));
        }
    }
}
