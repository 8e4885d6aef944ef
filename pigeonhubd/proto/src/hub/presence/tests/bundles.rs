//! Signals that go to another hub together.

use std::collections::BTreeSet;
use std::time::Duration;

use super::grace::{Bench, NETWORK, OURS, THEIRS, record};
use crate::bundle::Bundle;
use crate::hub::counters::{SignalOutcome, Undelivered};
use crate::hub::links::Transport;
use crate::hub::presence::subscribers::Subscriber;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Input, Output};
use crate::mesh::frame::Framing;
use crate::mesh::stream::{Event, Frame, Parts, Stream};
use crate::wire::SignalKind;
use crate::wire::mesh::{HubMessage, LinkFrame, MeshSignal, PresenceChange, Routed, decode, encode};

const LINK: ConnId = ConnId(2);
/// Connection of the client here.
const CLIENT: ConnId = ConnId(1);

/// A hub with a client, and the end of its stream at the other hub.
struct Pair {
    bench: Bench,
    framing: Framing,
    far: Stream,
}

impl Pair {
    fn new() -> Self {
        let mut bench = Bench::new();
        let other = record().hub();
        bench.hub.link_up(LINK, other, Transport::Channel, Framing::new(None), "a test");
        let subscriber = Subscriber { subscription: 1, changed: BTreeSet::new(), complete: true };
        bench.hub.presence.subscribers.insert(other, Some(NETWORK.into()), subscriber);
        let far = Stream::new(record().epoch, bench.hub.gossip.own.epoch, 1);
        let mut pair = Self { bench, framing: Framing::new(None), far };
        pair.bench.after(Duration::from_secs(1));
        pair.heard();
        pair
    }

    /// One of several inputs.
    fn take(&mut self, input: Input<'_>) {
        self.bench.hub.take(input, self.bench.now);
    }

    fn offer(&mut self, n: usize) {
        let text = format!(r#"{{"type":"offer","targetPeerId":"{THEIRS}","data":{n}}}"#);
        self.take(Input::Text { conn: CLIENT, text: &text });
    }

    /// What the other hub gets of what was put out, and what the client here is told. `refused`:
    /// parts of each message for which there is no use there.
    fn hear(&mut self, refused: Parts) -> (Vec<String>, Vec<String>) {
        self.bench.hub.flush();
        let (mut there, mut here) = (Vec::new(), Vec::new());
        let outputs: Vec<Output> = std::iter::from_fn(|| self.bench.hub.poll_output()).collect();
        for output in outputs {
            match output {
                Output::Text { conn: CLIENT, text } => here.push(text),
                Output::Binary { conn: LINK, bytes } => self.arrive(&bytes, refused, &mut there),
                _ => {}
            }
        }
        (there, here)
    }

    fn heard(&mut self) -> Vec<String> {
        self.hear(0).0
    }

    fn arrive(&mut self, message: &[u8], refused: Parts, there: &mut Vec<String>) {
        let now = self.bench.now.mono;
        let frame = self.framing.join(message).expect("a message").expect("a frame");
        let envelopes = match decode(&frame).expect("a link's frame") {
            LinkFrame::Routed(routed) => vec![routed],
            LinkFrame::Batch(batch) => batch,
            _ => Vec::new(),
        };
        for envelope in envelopes {
            let frame: Frame<'_> = decode(&envelope.body).expect("a stream's frame");
            self.far.handle_frame(&frame, now).expect("new");
            while let Some(event) = self.far.poll_event() {
                let Event::Delivered(payload) = event else { continue };
                there.push(told(&decode(&payload).expect("a hub's message")));
                if refused != 0 {
                    self.far.refuse_last(refused, now);
                }
            }
        }
    }

    /// The other hub acknowledges what it got.
    fn acknowledge(&mut self) -> Vec<String> {
        let now = self.bench.now.mono + Duration::from_millis(20);
        self.bench.now.mono = now;
        let frame = self.far.poll_transmit(now).expect("an acknowledgement");
        let (src, dst) = (record().hub(), self.bench.hub.id());
        let routed = Routed { src, dst, hops: 9, body: encode(&frame).into() };
        let message = Framing::new(None).split(&encode(&LinkFrame::Routed(routed))).remove(0);
        self.take(Input::Binary { conn: LINK, bytes: &message });
        self.hear(0).1
    }

    fn counted(&self, outcome: SignalOutcome) -> u64 {
        self.bench.hub.counters().signals.get(outcome)
    }
}

/// A message in a word: the data of its signals, or who came or left.
fn told(message: &HubMessage<'_>) -> String {
    match message {
        HubMessage::Signals(signals) => signals
            .iter()
            .map(|signal| signal.data.as_deref().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" "),
        HubMessage::Presence { changes, .. } => {
            let told = |change: &PresenceChange<'_>| match change {
                PresenceChange::Here { peer, .. } => format!("here {}", peer.id.0[0]),
                PresenceChange::Gone { peer, .. } => format!("gone {}", peer.0[0]),
            };
            changes.iter().map(told).collect()
        }
        other => format!("{other:?}"),
    }
}

/// What a session gathered.
fn bundle(signals: &[(Id, &str)]) -> Bundle {
    let mut bundle = Bundle::default();
    for (from, data) in signals {
        let (from, target) = (Spelled::from(*from), Spelled::from(THEIRS));
        let data = Some((*data).into());
        let signal =
            MeshSignal { kind: SignalKind::Offer, network: NETWORK.into(), from, target, stamp: 1, data };
        assert!(bundle.push(&signal, NETWORK.into()).is_none());
    }
    bundle
}

#[test]
fn signals_that_come_at_once_go_in_one_message() {
    let mut pair = Pair::new();
    (0..3).for_each(|n| pair.offer(n));
    assert_eq!(pair.bench.hub.gauges().under_way, 3);
    assert_eq!(pair.heard(), ["0 1 2"]);
    pair.offer(3);
    assert_eq!(pair.heard(), ["3"]);
    assert_eq!(pair.bench.hub.gauges().under_way, 4);
    assert_eq!(pair.acknowledge(), [""; 0]);
    assert_eq!(pair.bench.hub.gauges().under_way, 0);
    let counted = [SignalOutcome::Relayed, SignalOutcome::Acknowledged].map(|outcome| pair.counted(outcome));
    assert_eq!((counted, pair.bench.hub.counters().delivery.count()), ([4, 4], 4));
}

#[test]
fn nothing_overtakes_signals_that_wait() {
    let mut pair = Pair::new();
    pair.offer(0);
    let hub = record().hub();
    pair.take(Input::Signals { hub, bundle: bundle(&[(OURS, "1"), (OURS, "2")]) });
    pair.offer(3);
    pair.take(Input::Text { conn: CLIENT, text: r#"{"type":"goodbye","data":{}}"# });
    pair.bench.now.mono = pair.bench.now.mono + Duration::from_secs(1);
    pair.take(Input::Timer);
    assert_eq!(pair.heard(), ["0", "1 2", "3", "gone 1"]);
}

#[test]
fn each_of_them_is_told_to_its_sender_if_its_target_has_left() {
    let mut pair = Pair::new();
    (0..4).for_each(|n| pair.offer(n));
    assert_eq!(pair.hear(0b101).0, ["0 1 2 3"]);
    let told = pair.acknowledge();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|text| text.contains("peer-unreachable")), "{told:?}");
    assert_eq!(pair.counted(SignalOutcome::Acknowledged), 2);
    assert_eq!(pair.bench.hub.counters().undelivered.get(Undelivered::Left), 2);
}

#[test]
fn a_sender_is_told_of_before_its_signals_in_a_bundle() {
    let mut pair = Pair::new();
    let announce = r#"{"type":"announce","data":{"name":"anew"}}"#;
    pair.take(Input::Text { conn: CLIENT, text: announce });
    pair.take(Input::Signals { hub: record().hub(), bundle: bundle(&[(OURS, "1")]) });
    assert_eq!(pair.heard(), ["here 1", "1"]);
}

#[test]
fn a_sender_hears_of_a_signal_that_was_struck_out() {
    let mut pair = Pair::new();
    let mut struck = bundle(&[(OURS, "1"), (Id([7; 20]), "2")]);
    struck.strike(&OURS, NETWORK);
    pair.take(Input::Signals { hub: record().hub(), bundle: struck });
    let (there, here) = pair.hear(0);
    assert_eq!(there, ["2"]);
    assert!(here.len() == 1 && here[0].contains("not-announced"), "{here:?}");
}

#[test]
fn all_senders_are_told_when_the_other_hub_is_gone() {
    let mut pair = Pair::new();
    pair.offer(0);
    let nobody = Id([77; 20]);
    pair.take(Input::Signals { hub: nobody, bundle: bundle(&[(OURS, "1"), (OURS, "2")]) });
    let (there, here) = pair.hear(0);
    assert_eq!(there, ["0"]);
    assert_eq!(here.len(), 2, "{here:?}");
    assert_eq!(pair.bench.hub.counters().undelivered.get(Undelivered::Gone), 2);
    pair.bench.hub.reset_stream(record().hub());
    assert_eq!(pair.hear(0).1.len(), 1, "the first one's fate is unknown");
    assert_eq!(pair.bench.hub.gauges().under_way, 0);
}
