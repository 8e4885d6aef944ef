//! Live probes of the way to a hub: every hub on it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Hub;
use crate::control::ProbeHop;
use crate::id::Id;
use crate::io::Output;
use crate::time::Time;
use crate::wire::mesh::{LinkFrame, Probe, ProbeReply};

/// How long answers are waited for.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Probes under way; further ones are refused.
const MAX_PROBES: usize = 64;
/// Links that a probe or its answer may cross.
const HOPS: u8 = 64;

/// A probe of this hub's own.
#[derive(Debug)]
struct Sent {
    dst: Id,
    until: Time,
    hops: Vec<ProbeHop>,
}

/// Probes of this hub's own, by number.
#[derive(Debug, Default)]
pub(super) struct Probes {
    sent: BTreeMap<u64, Sent>,
    last: u64,
}

impl Hub {
    /// Probes the way to `dst`. Ends in one [`Output::Probed`] of the returned
    /// number, at most 3 s later. `None` if too many probes are under way.
    pub fn probe(&mut self, dst: Id, now: crate::time::Now) -> Option<u64> {
        self.now = now;
        if self.probes.sent.len() >= MAX_PROBES {
            return None;
        }
        self.probes.last += 1;
        let number = self.probes.last;
        let sent = Sent { dst, until: now.mono + TIMEOUT, hops: Vec::new() };
        self.probes.sent.insert(number, sent);
        let probe = Probe { src: self.id, dst, number, sent_us: now.mono.0, crossed: 0 };
        if dst == self.id {
            self.probe_answered(ProbeReply { to: self.id, from: self.id, probe, last: true, hops: HOPS });
        } else {
            self.forward_probe(probe, None);
        }
        Some(number)
    }

    fn forward_probe(&mut self, probe: Probe, from: Option<Id>) {
        let avoid = |hub: &Id| Some(*hub) == from || self.is_suspect(hub);
        let Some(next) = self.mesh.routes.next_hop(&probe.dst, avoid) else { return };
        let probe = Probe { crossed: probe.crossed.saturating_add(1), ..probe };
        if probe.crossed <= HOPS
            && let Some((conn, _)) = self.links.to(&next)
        {
            self.send_frame(conn, &LinkFrame::Probe(probe));
        }
    }

    pub(super) fn got_probe(&mut self, neighbour: Id, probe: Probe) {
        let last = probe.dst == self.id;
        self.forward_reply(ProbeReply { to: probe.src, from: self.id, probe, last, hops: HOPS });
        if !last {
            self.forward_probe(probe, Some(neighbour));
        }
    }

    pub(super) fn got_probe_reply(&mut self, reply: ProbeReply) {
        if reply.to == self.id {
            self.probe_answered(reply);
        } else if let Some(hops) = reply.hops.checked_sub(1) {
            self.forward_reply(ProbeReply { hops, ..reply });
        }
    }

    fn forward_reply(&mut self, reply: ProbeReply) {
        let Some(next) = self.mesh.routes.next_hop(&reply.to, |hub| self.is_suspect(hub)) else { return };
        if let Some((conn, _)) = self.links.to(&next) {
            self.send_frame(conn, &LinkFrame::ProbeReply(reply));
        }
    }

    fn probe_answered(&mut self, reply: ProbeReply) {
        let rtt = self.now.mono.since(Time(reply.probe.sent_us));
        let Some(sent) = self.probes.sent.get_mut(&reply.probe.number) else { return };
        let seen = sent.hops.iter().any(|hop| hop.hub_id == reply.from);
        if sent.dst != reply.probe.dst || seen || sent.hops.len() >= usize::from(HOPS) {
            return;
        }
        sent.hops.push(ProbeHop {
            hub_id: reply.from,
            hop: reply.probe.crossed,
            rtt_us: u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX),
            last: reply.last,
        });
        if reply.last {
            // Answers of hubs before it that are still under way come too late.
            self.end_probe(reply.probe.number);
        }
    }

    fn end_probe(&mut self, number: u64) {
        let Some(mut sent) = self.probes.sent.remove(&number) else { return };
        sent.hops.sort_by_key(|hop| hop.hop);
        self.outputs.push_back(Output::Probed { number, hops: sent.hops });
    }

    pub(super) fn tick_probes(&mut self) {
        let now = self.now.mono;
        let over = self.probes.sent.iter().filter(|(_, sent)| sent.until <= now);
        let over: Vec<u64> = over.map(|(number, _)| *number).collect();
        for number in over {
            self.end_probe(number);
        }
    }
}
