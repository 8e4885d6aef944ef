//! What the driver is asked and told over the control socket and HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::control::{
    Answer, Command, ControlErrorCode, LinkInfo, MeshState, PeerInfo, ProbeHop, Status,
};
use pigeonhub_proto::hub::FindError;
use pigeonhub_proto::hub::counters::SignalOutcome;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ConnId, Input};
use pigeonhub_proto::time::{Now, Time};
use url::Url;

use super::Driver;
use crate::backlog;
use crate::connections::CHANNEL_QUEUE;
use crate::edge::{EVENT_QUEUE, Query, Refusal};
use crate::logging;
use crate::metrics::{self, Snapshot};
use crate::panics;
use crate::process::Process;

/// Nobody has that id, in words for whoever gave it.
impl From<FindError> for Refusal {
    fn from(error: FindError) -> Self {
        Self { code: ControlErrorCode::NotFound, text: error.to_string() }
    }
}

impl Driver {
    pub(super) fn answer(&mut self, query: Query) {
        let answer = match query.command {
            Command::Trace { id } => match self.trace(&id) {
                Ok(number) => {
                    self.probes.insert(number, query.reply);
                    // The way to oneself is answered at once.
                    return self.drain_outputs();
                }
                Err(refusal) => Err(refusal),
            },
            command => self.answer_at_once(command),
        };
        // Whoever asked may have hung up meanwhile.
        let _ = query.reply.send(answer);
    }

    fn answer_at_once(&mut self, command: Command) -> Result<Answer, Refusal> {
        let now = self.clock.now();
        Ok(match command {
            Command::Status => {
                let config_age = Some(self.configured_at.elapsed().as_secs());
                let refused = metrics::refused(self.hub.counters(), self.connections.counters());
                let offered = self.hub.has_mesh().then(|| {
                    self.look_for_hubs();
                    self.connections.offered()
                });
                let listening = self.listening.clone();
                let status = self.status(now);
                Answer::Status(Box::new(Status { config_age, refused, offered, listening, ..status }))
            }
            Command::Hubs => Answer::Hubs(self.hub.hubs(now)),
            Command::Peers { network } => Answer::Peers(self.hub.peers(network.as_deref())),
            Command::Peer { id } => Answer::Peers(self.peer(&id)?.1),
            Command::Networks => Answer::Networks(self.hub.networks()),
            Command::Links => Answer::Links(self.links(now)),
            Command::Topology => Answer::Topology(self.hub.topology()),
            Command::Route { id } => {
                let id = self.hub.find_id(&id)?;
                Answer::Route(self.hub.route(&id).ok_or_else(|| FindError::Nobody(id.to_string()))?)
            }
            Command::Metrics => Answer::Metrics(self.metrics(now)?),
            Command::Drain => Answer::Done(self.drain()),
            Command::Undrain => Answer::Done(self.undrain()?),
            Command::Disconnect { id } => Answer::Done(self.disconnect(&id)?),
            _ => {
                let text = String::from("this hub does not know that command");
                return Err(Refusal { code: ControlErrorCode::BadRequest, text });
            }
        })
    }

    /// The hub's status, with how its configuration on disk is.
    pub(super) fn status(&self, now: Now) -> Status {
        Status { on_disk: self.connections.counters().on_disk.get(), ..self.hub.status(now) }
    }

    /// All figures at this moment.
    fn metrics(&self, now: Now) -> Result<String, Refusal> {
        let (mut counters, edge) = (self.hub.counters().clone(), Arc::clone(self.connections.counters()));
        // The same signals, wherever they were passed on.
        counters.signals.add(SignalOutcome::Local, edge.signals_direct.get());
        let snapshot = Snapshot {
            status: self.hub.status(now),
            gauges: self.hub.gauges(),
            counters,
            edge,
            events: (self.inlets.intake.events.len(), EVENT_QUEUE),
            channel_events: (self.inlets.channel_events.len(), CHANNEL_QUEUE),
            backlog: backlog::bytes(),
            panics: panics::count(),
            log_dropped: logging::dropped(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            process: Process::now(),
            started: Duration::from_millis(now.unix_ms).saturating_sub(now.mono.since(Time(0))).as_secs_f64(),
        };
        let code = ControlErrorCode::Busy;
        metrics::render(snapshot)
            .map_err(|_| Refusal { code, text: String::from("the figures cannot be written") })
    }

    /// Tells the connections where other hubs are: those that WebSockets lead to, and those whose URLs
    /// have addresses.
    pub(super) fn look_for_hubs(&mut self) {
        let named =
            self.hub.urls_to_dial().into_iter().filter_map(|url| match Url::parse(&url).ok()?.host()? {
                url::Host::Ipv4(address) => Some(IpAddr::V4(address)),
                url::Host::Ipv6(address) => Some(IpAddr::V6(address)),
                url::Host::Domain(_) => None,
            });
        let linked = self.hub.links(self.clock.now());
        let linked = linked.iter().filter_map(|link| self.connections.remote(ConnId(link.conn)));
        let far: Vec<IpAddr> = named.chain(linked).collect();
        self.connections.know(far);
    }

    /// The hub's links, with what only the edge knows of them.
    fn links(&self, now: Now) -> Vec<LinkInfo> {
        let mut links = self.hub.links(now);
        for link in &mut links {
            let conn = ConnId(link.conn);
            if let Some(path) = self.connections.path(conn) {
                link.local_address = Some(path.local.clone());
                link.remote_address = Some(path.remote.clone());
            } else {
                link.remote_address = self.connections.far_end(conn).or(link.remote_address.take());
            }
        }
        links
    }

    /// The peer that a person means by `given`, in each of its networks.
    fn peer(&self, given: &str) -> Result<(Id, Vec<PeerInfo>), Refusal> {
        let id = self.hub.find_id(given)?;
        let text = id.to_string();
        let mut peers = self.hub.peers(None);
        peers.retain(|peer| peer.peer_id.eq_ignore_ascii_case(&text));
        if peers.is_empty() {
            let text = match self.hub.is_connected(&id) {
                true => format!("{id} is connected here, and has announced itself in no network"),
                false => format!("{id} is a hub, not a peer; `pigeonctl hubs` shows it"),
            };
            return Err(Refusal { code: ControlErrorCode::NotFound, text });
        }
        Ok((id, peers))
    }

    fn drain(&mut self) -> String {
        let status = self.hub.status(self.clock.now());
        self.input(Input::Drain { over: self.drain_timeout });
        let clients = status.local_peers;
        let over = humantime::format_duration(self.drain_timeout);
        let others = if status.known_hubs > 0 { "told the other hubs; " } else { "" };
        let (s, are) = if clients == 1 { ("", "is") } else { ("s", "are") };
        if status.state == MeshState::Draining {
            return format!("draining already: {clients} announced client{s} {are} left");
        }
        format!("draining: {others}{clients} announced client{s} {are} told to leave within {over}")
    }

    fn undrain(&mut self) -> Result<String, Refusal> {
        if self.stopping {
            let text = String::from("this hub is stopping, not only drained: start it again instead");
            return Err(Refusal { code: ControlErrorCode::BadRequest, text });
        }
        if self.hub.status(self.clock.now()).state != MeshState::Draining {
            return Ok(String::from("was not draining: nothing changed"));
        }
        self.input(Input::Undrain);
        Ok(String::from("takes clients again, and joins the mesh"))
    }

    fn disconnect(&mut self, given: &str) -> Result<String, Refusal> {
        let id = self.hub.find_id(given)?;
        // Announced or not.
        if !self.hub.is_connected(&id) {
            let (id, peers) = self.peer(given)?;
            let text = match peers.first() {
                Some(peer) => format!("{id} is a client of hub {}: disconnect it there", peer.hub_id),
                None => format!("{id} is not connected here"),
            };
            return Err(Refusal { code: ControlErrorCode::NotFound, text });
        }
        self.input(Input::Disconnect { peer: id });
        Ok(format!("disconnected {id}"))
    }

    /// Sends a probe to that hub, or to the hub of that peer. Its number.
    fn trace(&mut self, given: &str) -> Result<u64, Refusal> {
        let id = self.hub.find_id(given)?;
        let route = self.hub.route(&id).ok_or_else(|| FindError::Nobody(id.to_string()))?;
        self.hub.probe(route.hub_id, self.clock.now()).ok_or_else(|| Refusal {
            code: ControlErrorCode::Busy,
            text: String::from("too many probes are under way; try again"),
        })
    }

    pub(super) fn probed(&mut self, number: u64, hops: Vec<ProbeHop>) {
        let Some(reply) = self.probes.remove(&number) else { return };
        let answer = if hops.is_empty() {
            let text = String::from("no hub on the way answered");
            Err(Refusal { code: ControlErrorCode::TimedOut, text })
        } else {
            Ok(Answer::Trace(hops))
        };
        // Whoever asked may have hung up meanwhile.
        let _ = reply.send(answer);
    }
}
