//! Opening data channels to other hubs.
//!
//! The larger id offers. Offer, answer and candidates travel in the stream
//! between the two hubs, over whatever links there are. Once the channel is
//! open each end proves itself; only then is it a link.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;

use super::counters::ChannelOutcome;
use super::joining::Purpose;
use super::links::Transport;
use super::{Hub, close};
use crate::event::Event;
use crate::id::Id;
use crate::io::{ConnId, Output};
use crate::mesh::frame::Framing;
use crate::mesh::handshake::{HandshakeError, Nonce, Proof, Role, Transcript, fingerprint};
use crate::time::Time;
use crate::wire::mesh::{ChannelStep, HubMessage, decode, encode};

/// From the offer to the last proof, at most.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause after a first failed attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// P2P links beyond `max_peers` that are let in while links change hands.
pub(super) const SLACK: usize = 2;
/// The longest session description, in bytes.
const MAX_SDP: usize = 64 * 1024;
/// The longest candidate, in bytes.
const MAX_CANDIDATE: usize = 4 * 1024;
/// Candidates of one attempt; more are ignored.
const MAX_CANDIDATES: u32 = 64;

/// A data channel on its way to being a link.
#[derive(Debug)]
struct Attempt {
    hub: Id,
    /// Chosen by the offering end.
    number: u64,
    offering: bool,
    until: Time,
    nonce: Nonce,
    their_nonce: Option<Nonce>,
    sdp: Option<String>,
    their_sdp: Option<String>,
    candidates: u32,
}

/// What past attempts with a hub came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    pub(super) failures: u32,
    not_before: Time,
    /// Why the last one failed, if it failed here, before anything was sent.
    fault: Option<String>,
}

/// All data channels on their way.
#[derive(Debug, Default)]
pub(super) struct Channels {
    attempts: BTreeMap<ConnId, Attempt>,
    tries: BTreeMap<Id, Tries>,
}

impl Channels {
    pub(super) fn contains(&self, conn: ConnId) -> bool {
        self.attempts.contains_key(&conn)
    }

    fn with(&self, hub: &Id) -> Option<ConnId> {
        self.attempts.iter().find(|(_, attempt)| attempt.hub == *hub).map(|(conn, _)| *conn)
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Attempts in vain since the last success.
    pub(super) fn failures(&self, hub: &Id) -> u32 {
        self.tries.get(hub).map_or(0, |tries| tries.failures)
    }

    /// Why no channel to that hub could even be tried, if that is so.
    pub(super) fn fault(&self, hub: &Id) -> Option<&str> {
        self.tries.get(hub)?.fault.as_deref()
    }

    /// Forgets failures with hubs that are not wanted any more.
    pub(super) fn keep_tries(&mut self, wanted: impl Fn(&Id) -> bool) {
        self.tries.retain(|hub, _| wanted(hub));
    }
}

impl Hub {
    /// Opens what is wanted and gives up what takes too long.
    pub(super) fn tick_channels(&mut self) {
        let now = self.now.mono;
        let late = self.channels.attempts.iter().filter(|(_, attempt)| attempt.until <= now);
        let late: Vec<ConnId> = late.map(|(conn, _)| *conn).collect();
        for conn in late {
            self.abandon(conn, "it took too long");
        }
        self.offer_wanted();
    }

    /// Offers a channel to each wanted hub that this one is to offer to.
    pub(super) fn offer_wanted(&mut self) {
        if self.draining.is_on() {
            return;
        }
        let now = self.now.mono;
        let due: Vec<Id> = self
            .mesh
            .wanted
            .iter()
            .copied()
            .filter(|hub| *hub < self.id && !self.links.has_p2p(hub) && self.channels.with(hub).is_none())
            .filter(|hub| self.channels.tries.get(hub).is_none_or(|tries| tries.not_before <= now))
            .collect();
        for hub in due {
            let number = self.rng.random();
            let attempt = self.new_attempt(hub, number, true);
            let conn = self.new_conn();
            self.channels.attempts.insert(conn, attempt);
            self.outputs.push_back(Output::ChannelStart { conn, offer: None });
        }
    }

    fn new_attempt(&mut self, hub: Id, number: u64, offering: bool) -> Attempt {
        Attempt {
            hub,
            number,
            offering,
            until: self.now.mono + OPEN_TIMEOUT,
            nonce: self.random_bytes(),
            their_nonce: None,
            sdp: None,
            their_sdp: None,
            candidates: 0,
        }
    }

    pub(super) fn channel_description(&mut self, conn: ConnId, sdp: String) {
        let Some(attempt) = self.channels.attempts.get_mut(&conn) else { return };
        attempt.sdp = Some(sdp.clone());
        let (hub, number, nonce) = (attempt.hub, attempt.number, attempt.nonce);
        let step = match attempt.offering {
            true => ChannelStep::Offer { sdp: sdp.into(), nonce },
            false => ChannelStep::Answer { sdp: sdp.into(), nonce },
        };
        self.send_to_hub(hub, &HubMessage::Channel { attempt: number, step });
    }

    pub(super) fn channel_candidate(&mut self, conn: ConnId, candidate: String) {
        let Some(attempt) = self.channels.attempts.get(&conn) else { return };
        let (hub, number) = (attempt.hub, attempt.number);
        let step = ChannelStep::Candidate(candidate.into());
        self.send_to_hub(hub, &HubMessage::Channel { attempt: number, step });
    }

    /// A step from the other hub.
    pub(super) fn channel_step(&mut self, hub: Id, number: u64, step: ChannelStep<'_>) {
        if let ChannelStep::Offer { sdp, nonce } = step {
            return self.got_offer(hub, number, &sdp, nonce);
        }
        let Some(conn) = self.channels.with(&hub) else { return };
        let Some(attempt) = self.channels.attempts.get_mut(&conn).filter(|attempt| attempt.number == number)
        else {
            return;
        };
        match step {
            ChannelStep::Answer { sdp, nonce } if attempt.offering && sdp.len() <= MAX_SDP => {
                attempt.their_nonce = Some(nonce);
                attempt.their_sdp = Some(sdp.clone().into_owned());
                self.outputs.push_back(Output::ChannelAnswer { conn, sdp: sdp.into_owned() });
            }
            // Of no use without the description, which may be lost if the stream started anew between the two.
            ChannelStep::Candidate(candidate)
                if candidate.len() <= MAX_CANDIDATE && attempt.their_sdp.is_some() =>
            {
                attempt.candidates += 1;
                if attempt.candidates <= MAX_CANDIDATES {
                    self.outputs
                        .push_back(Output::ChannelCandidate { conn, candidate: candidate.into_owned() });
                }
            }
            ChannelStep::Abandon => self.give_up(conn, "the other hub gave up"),
            ChannelStep::Restart => drop(self.restart(conn, "the other hub begins anew")),
            _ => {}
        }
    }

    fn got_offer(&mut self, hub: Id, number: u64, sdp: &str, nonce: Nonce) {
        let p2p = self.links.p2p() + self.channels.attempts.len();
        let room = p2p < self.settings.max_peers + SLACK || self.mesh.wanted.contains(&hub);
        if hub < self.id || self.draining.is_on() || !room || sdp.len() > MAX_SDP {
            let step = ChannelStep::Abandon;
            return self.send_to_hub(hub, &HubMessage::Channel { attempt: number, step });
        }
        if let Some(earlier) = self.channels.with(&hub) {
            self.restart(earlier, "the other hub begins anew");
        }
        let mut attempt = self.new_attempt(hub, number, false);
        attempt.their_nonce = Some(nonce);
        attempt.their_sdp = Some(sdp.to_owned());
        let conn = self.new_conn();
        self.channels.attempts.insert(conn, attempt);
        self.outputs.push_back(Output::ChannelStart { conn, offer: Some(sdp.to_owned()) });
    }

    pub(super) fn channel_open(&mut self, conn: ConnId) {
        let Some(attempt) = self.channels.attempts.get(&conn) else { return };
        let Some(transcript) = self.transcript(attempt) else {
            return self.abandon(conn, "its descriptions have no fingerprint");
        };
        let role = if attempt.offering { Role::Initiator } else { Role::Responder };
        let keys = self.keyring.accepted(self.now.mono);
        let (macs, signature) = transcript.prove(role, keys, &*self.identity);
        let proof = Proof::new(self.identity.public_key(), macs, &signature);
        self.outputs.push_back(Output::Binary { conn, bytes: encode(&proof).into() });
    }

    fn transcript(&self, attempt: &Attempt) -> Option<Transcript> {
        let ours = fingerprint(attempt.sdp.as_deref()?)?;
        let theirs = fingerprint(attempt.their_sdp.as_deref()?)?;
        let own = (&self.id, &attempt.nonce, ours.as_str());
        let their_nonce = attempt.their_nonce?;
        let other = (&attempt.hub, &their_nonce, theirs.as_str());
        let (offerer, answerer) = if attempt.offering { (own, other) } else { (other, own) };
        Some(Transcript::channel(&self.settings.namespace, attempt.number, offerer, answerer))
    }

    /// The first message on an open channel.
    pub(super) fn channel_proof(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(attempt) = self.channels.attempts.get(&conn) else { return };
        let hub = attempt.hub;
        let role = if attempt.offering { Role::Responder } else { Role::Initiator };
        let checked = match (self.transcript(attempt), decode::<Proof>(bytes)) {
            (Some(transcript), Ok(proof)) => {
                let signature = proof.signature();
                let ring = (&self.keyring, self.now.mono);
                transcript.check(role, ring, &*self.identity, (&proof.key, &proof.macs, &signature))
            }
            _ => Err(HandshakeError::Manners),
        };
        match checked {
            Ok((id, _)) if id == hub => {
                self.channels.attempts.remove(&conn);
                self.channels.tries.remove(&hub);
                self.counters.channels.count(ChannelOutcome::Linked);
                self.link_up(conn, hub, Transport::Channel, Framing::new(None), "a data channel");
            }
            checked => {
                let error = checked.err().unwrap_or(HandshakeError::Id);
                self.counters.rejections.count((&error).into());
                let reason = error.to_string();
                self.event(Event::HubRejected { hub: hub.to_string(), reason: reason.clone() });
                self.abandon(conn, &reason);
            }
        }
    }

    /// Ends an attempt and tells the other hub.
    fn abandon(&mut self, conn: ConnId, reason: &str) {
        if let Some(attempt) = self.channels.attempts.get(&conn) {
            let (hub, number) = (attempt.hub, attempt.number);
            self.send_to_hub(hub, &HubMessage::Channel { attempt: number, step: ChannelStep::Abandon });
        }
        self.give_up(conn, reason);
    }

    fn give_up(&mut self, conn: ConnId, reason: &str) {
        self.close(conn, close::NORMAL, reason);
        self.attempt_failed(conn);
    }

    /// A description or candidate may be lost: a channel under way begins
    /// anew, at once and without blame. The other end may not know of the
    /// loss, as when this one had its offer before the record of its new run.
    pub(super) fn attempt_lost(&mut self, hub: &Id) {
        if let Some(conn) = self.channels.with(hub)
            && let Some(number) = self.restart(conn, "the hubs' messages to each other start anew")
        {
            self.send_to_hub(*hub, &HubMessage::Channel { attempt: number, step: ChannelStep::Restart });
        }
    }

    /// Ends an attempt without blame; its number.
    fn restart(&mut self, conn: ConnId, reason: &str) -> Option<u64> {
        let attempt = self.channels.attempts.remove(&conn)?;
        self.counters.channels.count(ChannelOutcome::Restarted);
        self.close(conn, close::NORMAL, reason);
        Some(attempt.number)
    }

    /// The edge says that a channel is over before it was a link.
    pub(super) fn channel_over(&mut self, conn: ConnId, reason: &str) {
        let attempt = self.channels.attempts.get(&conn);
        let fault =
            attempt.filter(|attempt| attempt.sdp.is_none()).map(|attempt| (attempt.hub, attempt.number));
        if let Some((hub, number)) = fault {
            // Else it waits for an answer in vain.
            self.send_to_hub(hub, &HubMessage::Channel { attempt: number, step: ChannelStep::Abandon });
        }
        self.attempt_failed(conn);
        if let Some(tries) = fault.and_then(|(hub, _)| self.channels.tries.get_mut(&hub)) {
            tries.fault = Some(reason.to_owned());
        }
    }

    fn attempt_failed(&mut self, conn: ConnId) {
        let Some(attempt) = self.channels.attempts.remove(&conn) else { return };
        self.counters.channels.count(ChannelOutcome::Failed);
        let now = self.now.mono;
        let tries = self.channels.tries.entry(attempt.hub).or_default();
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(tries.failures.min(6))).min(LONGEST_PAUSE);
        tries.failures = tries.failures.saturating_add(1);
        tries.fault = None;
        tries.not_before = now + pause.mul_f64(self.rng.random_range(0.75..1.25));
        self.fall_back(attempt.hub);
    }

    /// A data channel to a wanted hub does not open: a WebSocket takes its
    /// place. The larger id dials, and the smaller one if that did not help.
    fn fall_back(&mut self, hub: Id) {
        let failures = self.channels.failures(&hub);
        let dials = self.id > hub || failures > 1;
        let needless = self.links.has_p2p(&hub) || !self.mesh.wanted.contains(&hub) || self.draining.is_on();
        if needless || !dials || self.joining.is_dialling(Purpose::Fallback(hub)) {
            return;
        }
        if let Some((conn, _)) = self.links.socket_to(&hub) {
            return self.links.keep_as_fallback(conn);
        }
        if let Some(url) = self.url_of(&hub, failures) {
            self.dial(Purpose::Fallback(hub), &url);
        }
    }
}
