//! Word to a sender's hub that a signal's target had left.
//!
//! The signal was acknowledged when it arrived, before its target was looked
//! for. So this word alone ends it: it is said again when the stream that
//! carried it is given up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::super::Hub;
use crate::id::Id;
use crate::mesh::stream::Token;
use crate::time::Time;
use crate::wire::mesh::{HubMessage, encode};

/// Refusals kept until they are acknowledged, at most; further ones are said once.
const MAX_REFUSALS: usize = 4096;
/// How long one is said again. By then its sender has long stopped waiting.
const KEEP: Duration = Duration::from_secs(300);

/// A refusal, and the run of the hub that it is for: a later run has no such sender.
#[derive(Debug)]
struct Refusal {
    hub: Id,
    epoch: u64,
    payload: Bytes,
    until: Time,
}

/// Refusals that have not been acknowledged.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    under_way: BTreeMap<Token, Refusal>,
    /// To be said again.
    again: VecDeque<Refusal>,
}

impl Refusals {
    pub(super) fn acked(&mut self, token: Token) {
        self.under_way.remove(&token);
    }

    pub(super) fn lost(&mut self, token: Token) {
        self.again.extend(self.under_way.remove(&token));
    }
}

impl Hub {
    /// Tells a hub that a signal of its client found nobody here.
    pub(super) fn refuse_signal(&mut self, hub: Id, message: &HubMessage<'_>) {
        let Some(stored) = self.gossip.records.get(&hub) else { return };
        let epoch = stored.record.epoch;
        let refusal = Refusal { hub, epoch, payload: encode(message).into(), until: self.now.mono + KEEP };
        self.say_refusal(refusal);
    }

    pub(super) fn tick_refusals(&mut self) {
        for refusal in std::mem::take(&mut self.relay.refusals.again) {
            self.say_refusal(refusal);
        }
    }

    fn say_refusal(&mut self, refusal: Refusal) {
        let epoch = self.gossip.records.get(&refusal.hub).map(|stored| stored.record.epoch);
        if epoch != Some(refusal.epoch) || self.now.mono >= refusal.until {
            return;
        }
        let token = self.streams.new_token();
        let deadline = self.message_deadline();
        let said = self.push_encoded(refusal.hub, refusal.payload.clone(), token, deadline);
        let refusals = &mut self.relay.refusals;
        if refusals.under_way.len() + refusals.again.len() >= MAX_REFUSALS {
            return;
        }
        match said {
            Ok(()) => drop(refusals.under_way.insert(token, refusal)),
            Err(_) => refusals.again.push_back(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::id::Spelled;
    use crate::io::Input;
    use crate::mesh::identity::{HubKey, MeshKey};
    use crate::mesh::record::{Record, SignedRecord};
    use crate::settings::Settings;
    use crate::time::Now;

    fn record(epoch: u64) -> Record {
        Record {
            key: [9; 32],
            epoch,
            version: 1,
            urls: Vec::new(),
            links: Vec::new(),
            networks: Vec::new(),
            more_networks: false,
            max_peers: 3,
            ready: true,
            draining: false,
        }
    }

    fn know(hub: &mut Hub, epoch: u64, now: Now) -> Id {
        let signed = SignedRecord { body: Bytes::new(), signature: Bytes::new() };
        hub.gossip.records.store(record(epoch).hub(), record(epoch), signed, now);
        record(epoch).hub()
    }

    fn after(now: &mut Now, hub: &mut Hub, time: Duration) -> usize {
        now.mono = now.mono + time;
        hub.handle(Input::Timer, *now);
        hub.queued_to_hubs().0
    }

    /// A hub that has just refused a signal of another hub's client.
    fn refusing() -> (Hub, Id, Now) {
        let mut now = Now { mono: Time(1_000_000), unix_ms: 1_700_000_000_000 };
        let key = MeshKey::new(b"the key of the refusals").expect("long enough");
        let mut hub =
            Hub::new(Settings::default(), Arc::new(HubKey::from_bytes(&[7; 32])), key, [1; 32], now);
        let other = know(&mut hub, 1, now);
        let target = Spelled::from(Id([2; 20]));
        let word = HubMessage::Undelivered { number: 1, from: Id([1; 20]), target, network: "global".into() };
        hub.refuse_signal(other, &word);
        assert_eq!(after(&mut now, &mut hub, Duration::ZERO), 1);
        (hub, other, now)
    }

    #[test]
    fn a_refusal_outlives_the_stream_that_carried_it() {
        let (mut hub, other, mut now) = refusing();
        for _ in 0..3 {
            hub.reset_stream(other);
            assert_eq!(hub.queued_to_hubs().0, 0);
            assert_eq!(after(&mut now, &mut hub, Duration::from_millis(200)), 1);
        }
        now.mono = now.mono + KEEP;
        hub.reset_stream(other);
        assert_eq!(after(&mut now, &mut hub, Duration::from_millis(200)), 0, "not for ever");
    }

    #[test]
    fn a_refusal_is_not_for_a_later_run_of_the_hub() {
        let (mut hub, other, mut now) = refusing();
        know(&mut hub, 2, now);
        hub.hub_restarted(other);
        assert_eq!(after(&mut now, &mut hub, Duration::from_millis(200)), 0);
    }

    #[test]
    fn a_refusal_that_arrived_is_not_said_again() {
        let (mut hub, other, mut now) = refusing();
        let tokens: Vec<Token> = hub.relay.refusals.under_way.keys().copied().collect();
        assert_eq!(tokens.len(), 1);
        tokens.into_iter().for_each(|token| hub.message_acked(token));
        hub.reset_stream(other);
        assert_eq!(after(&mut now, &mut hub, Duration::from_millis(200)), 0);
    }
}
