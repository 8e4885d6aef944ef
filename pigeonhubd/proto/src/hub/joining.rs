//! Dials and the WebSocket handshake between hubs.

mod bootstrap;
mod remembered;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::counters::{DialOutcome, HubRejection};
use super::links::Transport;
use super::{Hub, close};
use crate::event::Event;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Output, Request, customer};
use crate::mesh::frame::{FrameKeys, Framing};
use crate::mesh::handshake::{
    Challenge, HandshakeError, Hello, MESH_VERSION, Nonce, Role, Transcript, Welcome, check_opening,
};
use crate::mesh::identity::{PublicKey, hub_id};
use crate::settings::Settings;
use crate::time::Time;
use crate::wire::client::{ClientFrame, ClientKind};
use crate::wire::reply;

/// From an open WebSocket to the last proof, at most.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the edge must have told how a dial ended; it has a time-out of its own.
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// Handshakes under way that others began, at most; for a further one the
/// oldest of the address that has most is turned away.
const MAX_ACCEPTED: usize = 256;

/// Why a WebSocket is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The configured bootstrap of that URL.
    Bootstrap,
    /// A hub that was in the mesh and is out of reach.
    Vanished(Id),
    /// A hub that is wanted, in place of a data channel.
    Fallback(Id),
    /// A hub of the mesh that an earlier run of this one was in.
    Remembered,
}

/// What is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) purpose: Purpose,
    pub(super) url: String,
}

/// A WebSocket between two hubs that is not a link yet.
#[derive(Debug)]
struct Handshake {
    until: Time,
    /// None if the other end dialled.
    target: Option<Target>,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    Dialling,
    AwaitConnected { remote: Option<IpAddr> },
    AwaitWelcome { transcript: Transcript, theirs: PublicKey },
    AwaitHello { peer: Id, nonce: Nonce, remote: IpAddr },
}

/// Dials and handshakes.
#[derive(Debug)]
pub(super) struct Joining {
    handshakes: BTreeMap<ConnId, Handshake>,
    pub(super) bootstraps: bootstrap::Bootstraps,
    remembered: Vec<remembered::Remembered>,
}

impl Joining {
    pub(super) fn new(settings: &Settings) -> Self {
        let bootstraps = bootstrap::Bootstraps::new(settings);
        Self { handshakes: BTreeMap::new(), bootstraps, remembered: Vec::new() }
    }

    pub(super) fn handshakes(&self) -> usize {
        self.handshakes.len()
    }

    /// Whether a hub is being dialled for that purpose.
    pub(super) fn is_dialling(&self, purpose: Purpose) -> bool {
        self.dials_of(purpose) > 0
    }

    /// How many dials for that purpose are under way.
    fn dials_of(&self, purpose: Purpose) -> usize {
        let targets = self.handshakes.values().filter_map(|handshake| handshake.target.as_ref());
        targets.filter(|target| target.purpose == purpose).count()
    }

    /// Whether a connection is in its handshake.
    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.handshakes.contains_key(&conn)
    }

    /// Whether it was this hub that asked for proof with that nonce.
    fn has_asked(&self, nonce: &Nonce) -> bool {
        let own = |step: &Step| matches!(step, Step::AwaitHello { nonce: own, .. } if own == nonce);
        self.handshakes.values().any(|handshake| own(&handshake.step))
    }

    /// Of as many handshakes as may be, the one that has to go: no stranger
    /// can keep hubs from joining by greeting slowly.
    fn crowded_out(&self) -> Option<ConnId> {
        let mut accepted = 0;
        // How many an address has, and the oldest of them: numbers of connections only grow.
        let mut addresses: BTreeMap<IpAddr, (usize, Reverse<ConnId>)> = BTreeMap::new();
        for (conn, handshake) in &self.handshakes {
            if let Step::AwaitHello { remote, .. } = &handshake.step {
                accepted += 1;
                addresses.entry(customer(*remote)).or_insert((0, Reverse(*conn))).0 += 1;
            }
        }
        let (_, Reverse(oldest)) = addresses.into_values().max()?;
        (accepted >= MAX_ACCEPTED).then_some(oldest)
    }
}

impl Hub {
    /// Dials a hub. Ends in [`Self::link_up`] or [`Self::dial_over`].
    pub(super) fn dial(&mut self, purpose: Purpose, url: &str) {
        let target = Target { purpose, url: url.to_owned() };
        let own = format!("peerId={}&mesh=1", self.id);
        let Ok(mut parsed) = url::Url::parse(url) else {
            return self.dial_over(&target, "it is not a URL", false);
        };
        let query = parsed.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{own}"));
        parsed.set_query(Some(&query.unwrap_or(own)));
        let conn = self.new_conn();
        let until = self.now.mono + DIAL_TIMEOUT;
        self.joining.handshakes.insert(conn, Handshake { until, target: Some(target), step: Step::Dialling });
        self.outputs.push_back(Output::Dial { conn, url: parsed.into() });
    }

    pub(super) fn dialled(&mut self, conn: ConnId, remote: Option<IpAddr>) {
        let until = self.now.mono + HANDSHAKE_TIMEOUT;
        match self.joining.handshakes.get_mut(&conn) {
            Some(handshake) => {
                handshake.until = until;
                handshake.step = Step::AwaitConnected { remote };
            }
            None => self.close(conn, close::NORMAL, "Not needed any more"),
        }
    }

    pub(super) fn dial_failed(&mut self, conn: ConnId, error: String) {
        self.handshake_over(conn, &error);
    }

    /// A hub of ours, by its own word, connected: it is asked for proof.
    pub(super) fn challenge(&mut self, conn: ConnId, peer: Spelled, request: Request) {
        if let Some(oldest) = self.joining.crowded_out() {
            self.counters.rejections.count(HubRejection::Crowded);
            self.joining.handshakes.remove(&oldest);
            self.close(oldest, close::POLICY, "Too many hubs are joining; try again");
        }
        let nonce = self.random_bytes();
        let challenge = Challenge {
            version: MESH_VERSION,
            namespace: self.settings.namespace.clone(),
            key: self.identity.public_key(),
            nonce,
        };
        self.send_text(conn, reply::connected(peer, Some(challenge), self.now));
        self.outputs.push_back(Output::Read { conn });
        let step = Step::AwaitHello { peer: peer.id, nonce, remote: request.remote };
        let until = self.now.mono + HANDSHAKE_TIMEOUT;
        self.joining.handshakes.insert(conn, Handshake { until, target: None, step });
    }

    /// Before the proof nothing is said in binary.
    pub(super) fn handshake_binary(&mut self, conn: ConnId) {
        self.handshake_failed(conn, &HandshakeError::Manners);
    }

    pub(super) fn handshake_text(&mut self, conn: ConnId, text: &str) {
        let Some(handshake) = self.joining.handshakes.get(&conn) else { return };
        let step = handshake.step.clone();
        let Ok(frame) = ClientFrame::parse(text) else {
            return self.handshake_failed(conn, &HandshakeError::Manners);
        };
        let data = frame.data.map_or("null", |data| data.get());
        let outcome = match (step, &frame.kind) {
            (Step::AwaitConnected { remote }, ClientKind::Connected) => {
                self.got_challenge(conn, remote, data)
            }
            (Step::AwaitHello { peer, nonce, remote }, ClientKind::MeshHello) => {
                self.got_hello(conn, (peer, nonce, remote), data)
            }
            (Step::AwaitWelcome { transcript, theirs }, ClientKind::MeshWelcome) => {
                self.got_welcome(conn, &transcript, &theirs, data)
            }
            _ => Err(HandshakeError::Manners),
        };
        if let Err(error) = outcome {
            self.handshake_failed(conn, &error);
        }
    }

    fn got_challenge(
        &mut self,
        conn: ConnId,
        remote: Option<IpAddr>,
        data: &str,
    ) -> Result<(), HandshakeError> {
        #[derive(serde::Deserialize)]
        struct Data {
            #[serde(default)]
            mesh: Option<Challenge>,
        }
        let data: Data = serde_json::from_str(data).map_err(|_| HandshakeError::Manners)?;
        let Some(challenge) = data.mesh else { return self.met_old_hub(conn, remote) };
        check_opening(challenge.version, &challenge.namespace, &self.settings.namespace)?;
        let hub = hub_id(&challenge.key);
        if hub == self.id && self.joining.has_asked(&challenge.nonce) {
            return Err(HandshakeError::Myself);
        }
        if self.is_needless(conn, &hub) {
            self.close(conn, close::NORMAL, "Not needed: the hub is in the mesh already");
            self.handshake_over(conn, "another hub answers there");
            return Ok(());
        }
        let (key, nonce) = (self.identity.public_key(), self.random_bytes());
        let theirs = (&challenge.key, &challenge.nonce);
        let transcript = Transcript::socket(&self.settings.namespace, (&key, &nonce), theirs);
        let keys = self.keyring.accepted(self.now.mono);
        let (macs, signature) = transcript.prove(Role::Initiator, keys.clone(), &*self.identity);
        let Some(handshake) = self.joining.handshakes.get_mut(&conn) else { return Ok(()) };
        handshake.step = Step::AwaitWelcome { transcript, theirs: challenge.key };
        let dialled = handshake.target.as_ref().map(|target| target.url.clone()).unwrap_or_default();
        let (version, namespace, port) = (MESH_VERSION, self.settings.namespace.clone(), self.settings.port);
        let bound = Vec::new();
        let mut hello = Hello { version, namespace, key, nonce, dialled, port, macs, signature, bound };
        hello.bound = transcript.bind(Role::Initiator, &hello.said(), keys);
        self.send_text(conn, reply::handshake("mesh-hello", &hello, self.now));
        Ok(())
    }

    /// A dialled hub proved this hub's key. It has the proof of that too, and nothing more to say.
    fn dialled_twin(&mut self, conn: ConnId) {
        let handshake = self.joining.handshakes.remove(&conn);
        self.close(conn, close::POLICY, "Another hub runs with the same hub key");
        let Some(target) = handshake.and_then(|handshake| handshake.target) else { return };
        self.counters.dials.count(DialOutcome::Failed);
        self.met_twin(target.url.clone());
        self.forget_remembered(&target.url);
        self.bootstrap_is_myself(&target.url);
    }

    /// Whether a hub was dialled for another's sake and is within reach
    /// already: the address of a hub that is gone may be another's by now.
    fn is_needless(&self, conn: ConnId, hub: &Id) -> bool {
        let target = self.joining.handshakes.get(&conn).and_then(|handshake| handshake.target.as_ref());
        target.is_some_and(|target| match target.purpose {
            Purpose::Bootstrap => false,
            Purpose::Remembered => self.is_reachable(hub),
            Purpose::Vanished(wanted) | Purpose::Fallback(wanted) => wanted != *hub && self.is_reachable(hub),
        })
    }

    fn got_hello(
        &mut self,
        conn: ConnId,
        (peer, nonce, remote): (Id, Nonce, IpAddr),
        data: &str,
    ) -> Result<(), HandshakeError> {
        let hello: Hello = serde_json::from_str(data).map_err(|_| HandshakeError::Manners)?;
        let namespace = &self.settings.namespace;
        check_opening(hello.version, &hello.namespace, namespace)?;
        let own = self.identity.public_key();
        let transcript = Transcript::socket(namespace, (&hello.key, &hello.nonce), (&own, &nonce));
        let proof = (&hello.key, &*hello.macs, &hello.signature);
        let ring = (&self.keyring, self.now.mono);
        let (hub, key) = transcript.check(Role::Initiator, ring, &*self.identity, proof)?;
        let (macs, signature) = transcript.prove(Role::Responder, std::iter::once(&key), &*self.identity);
        let mut welcome = Welcome { seen_as: remote.to_canonical(), macs, signature, bound: Vec::new() };
        welcome.bound = transcript.bind(Role::Responder, &welcome.said(), std::iter::once(&key));
        if hub == self.id {
            // This hub does not greet itself: see `got_challenge`. The other one is to have the proof too.
            self.send_text(conn, reply::handshake("mesh-welcome", &welcome, self.now));
            self.met_twin(SocketAddr::new(remote.to_canonical(), hello.port).to_string());
            return Err(HandshakeError::Twin);
        }
        if hub != peer {
            return Err(HandshakeError::Id);
        }
        self.send_text(conn, reply::handshake("mesh-welcome", &welcome, self.now));
        self.joining.handshakes.remove(&conn);
        if transcript.is_bound(Role::Initiator, &hello.said(), &key, &hello.bound) {
            self.learn_own_url(&hello.dialled);
        }
        let (theirs, ours) = transcript.frame_keys(&key);
        let framing = Framing::new(Some(FrameKeys { send: ours, receive: theirs }));
        let via = format!("its WebSocket from {}", remote.to_canonical());
        self.link_up(conn, hub, Transport::Socket { dialled_here: false, fallback: false }, framing, &via);
        Ok(())
    }

    fn got_welcome(
        &mut self,
        conn: ConnId,
        transcript: &Transcript,
        theirs: &PublicKey,
        data: &str,
    ) -> Result<(), HandshakeError> {
        let welcome: Welcome = serde_json::from_str(data).map_err(|_| HandshakeError::Manners)?;
        let proof = (theirs, &*welcome.macs, &welcome.signature);
        let ring = (&self.keyring, self.now.mono);
        let (hub, key) = transcript.check(Role::Responder, ring, &*self.identity, proof)?;
        if hub == self.id {
            self.dialled_twin(conn);
            return Ok(());
        }
        let Some(Handshake { target: Some(target), .. }) = self.joining.handshakes.remove(&conn) else {
            return Ok(());
        };
        if transcript.is_bound(Role::Responder, &welcome.said(), &key, &welcome.bound) {
            self.learn_own_url(&own_url(welcome.seen_as, &self.settings));
        }
        let (ours, theirs) = transcript.frame_keys(&key);
        let framing = Framing::new(Some(FrameKeys { send: ours, receive: theirs }));
        self.counters.dials.count(DialOutcome::Linked);
        let fallback = matches!(target.purpose, Purpose::Fallback(_));
        self.forget_remembered(&target.url);
        if target.purpose == Purpose::Bootstrap {
            self.bootstrap_up(&target.url, conn, hub);
        }
        let transport = Transport::Socket { dialled_here: true, fallback };
        self.link_up(conn, hub, transport, framing, &target.url);
        Ok(())
    }

    /// The handshake cannot go on: tells the far end and the operator why.
    fn handshake_failed(&mut self, conn: ConnId, error: &HandshakeError) {
        let Some(handshake) = self.joining.handshakes.get(&conn) else { return };
        if let (HandshakeError::Myself, Some(target)) = (error, &handshake.target) {
            let url = target.url.clone();
            self.counters.dials.count(DialOutcome::Myself);
            self.joining.handshakes.remove(&conn);
            self.close(conn, close::NORMAL, "It is this hub itself");
            self.forget_remembered(&url);
            return self.bootstrap_is_myself(&url);
        }
        self.counters.rejections.count(error.into());
        let reason = error.to_string();
        let hub = match (&handshake.target, &handshake.step) {
            (Some(target), _) => target.url.clone(),
            (None, Step::AwaitHello { remote, .. }) => remote.to_canonical().to_string(),
            (None, _) => String::new(),
        };
        self.event(Event::HubRejected { hub, reason: reason.clone() });
        self.close(conn, close::POLICY, &reason);
        self.handshake_ended(conn, &reason, true);
    }

    /// The far end closed a WebSocket for a fault of ours. If this hub had
    /// dialled it and was greeting, the operator hears of it.
    pub(super) fn turned_away(&mut self, conn: ConnId, reason: &str) {
        let handshake = self.joining.handshakes.get(&conn);
        let Some(target) = handshake.and_then(|handshake| handshake.target.as_ref()) else { return };
        let reason = format!("it says: {reason}");
        self.counters.rejections.count(HubRejection::ByFarEnd);
        self.event(Event::HubRejected { hub: target.url.clone(), reason: reason.clone() });
        self.handshake_ended(conn, &reason, true);
    }

    /// A dial failed, or a WebSocket closed before it was a link.
    pub(super) fn handshake_over(&mut self, conn: ConnId, reason: &str) {
        self.handshake_ended(conn, reason, false);
    }

    fn handshake_ended(&mut self, conn: ConnId, reason: &str, rejected: bool) {
        let Some(handshake) = self.joining.handshakes.remove(&conn) else { return };
        if let Some(target) = handshake.target {
            self.dial_over(&target, reason, rejected);
        }
    }

    fn dial_over(&mut self, target: &Target, reason: &str, rejected: bool) {
        self.counters.dials.count(DialOutcome::Failed);
        match target.purpose {
            Purpose::Bootstrap => self.bootstrap_down(&target.url, reason, rejected),
            Purpose::Remembered if rejected => self.forget_remembered(&target.url),
            // Their turns come again by the clock.
            Purpose::Vanished(_) | Purpose::Fallback(_) | Purpose::Remembered => {}
        }
    }

    pub(super) fn tick_handshakes(&mut self) {
        let now = self.now.mono;
        let late = self.joining.handshakes.iter().filter(|(_, handshake)| handshake.until <= now);
        let late: Vec<ConnId> = late.map(|(conn, _)| *conn).collect();
        for conn in late {
            self.handshake_failed(conn, &HandshakeError::TimedOut);
        }
    }

    /// A dialled hub greets like an older one.
    fn met_old_hub(&mut self, conn: ConnId, remote: Option<IpAddr>) -> Result<(), HandshakeError> {
        let Some(remote) = remote.filter(|remote| self.is_legacy_address(*remote)) else {
            return Err(HandshakeError::Old);
        };
        if let Some(Handshake { target: Some(target), .. }) = self.joining.handshakes.remove(&conn) {
            self.counters.dials.count(DialOutcome::OldHub);
            self.forget_remembered(&target.url);
            self.legacy_dialled(conn, &target, remote);
        }
        Ok(())
    }
}

/// The URL of a hub that others see at `address`.
fn own_url(address: IpAddr, settings: &Settings) -> String {
    let scheme = if settings.tls { "wss" } else { "ws" };
    format!("{scheme}://{}", SocketAddr::new(address, settings.port))
}
