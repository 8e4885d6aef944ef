//! Signals that go to another hub together.

use std::collections::BTreeSet;
use std::time::Duration;

use super::grace::{Bench, NETWORK, OURS, THEIRS, record};
use crate::bundle::{Bundle, MAX_SIGNALS};
use crate::hub::counters::{Refusal, SignalOutcome, Undelivered};
use crate::hub::links::Transport;
use crate::hub::presence::subscribers::Subscriber;
use crate::id::{Id, Spelled};
use crate::io::{ConnId, Input, Output, Request};
use crate::mesh::frame::Framing;
use crate::mesh::stream::{Event, Frame, Parts, Stream};
use crate::time::Time;
use crate::wire::SignalKind;
use crate::wire::mesh::{HubMessage, LinkFrame, MeshSignal, PresenceChange, Routed, decode, encode};

const LINK: ConnId = ConnId(2);
/// Connection of the client here.
const CLIENT: ConnId = ConnId(1);

/// A hub with a client, and the end of its stream at the other hub.
pub(super) struct Pair {
    pub(super) bench: Bench,
    framing: Framing,
    far: Stream,
    /// The other hub's end of the link.
    there: Framing,
    /// What was refused of each message that it sent.
    acked: Vec<Parts>,
    /// What else was put out.
    pub(super) others: Vec<Output>,
}

impl Pair {
    pub(super) fn new() -> Self {
        let mut bench = Bench::new();
        let other = record().hub();
        bench.hub.link_up(LINK, other, Transport::Channel, Framing::new(None), "a test");
        let subscriber =
            Subscriber { subscription: 1, asked_at: Time(0), changed: BTreeSet::new(), complete: true };
        bench.hub.presence.subscribers.insert(other, Some(NETWORK.into()), subscriber);
        let far = Stream::new(record().epoch, bench.hub.gossip.own.epoch, 1);
        let (framing, there) = (Framing::new(None), Framing::new(None));
        let mut pair = Self { bench, framing, far, there, acked: Vec::new(), others: Vec::new() };
        pair.bench.after(Duration::from_secs(1));
        pair.heard();
        pair
    }

    /// One of several inputs.
    pub(super) fn take(&mut self, input: Input<'_>) {
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
                other => self.others.push(other),
            }
        }
        (there, here)
    }

    pub(super) fn heard(&mut self) -> Vec<String> {
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
                let payload = match event {
                    Event::Delivered(payload) => payload,
                    Event::Acked { refused, .. } => {
                        self.acked.push(refused);
                        continue;
                    }
                    Event::Restarted | Event::Missed => continue,
                };
                there.push(told(&decode(&payload).expect("a hub's message")));
                if refused != 0 {
                    self.far.refuse_last(refused, now);
                }
            }
        }
    }

    /// The other hub acknowledges what it got.
    pub(super) fn acknowledge(&mut self) -> Vec<String> {
        self.bench.now.mono = self.bench.now.mono + Duration::from_millis(20);
        self.answer();
        self.hear(0).1
    }

    /// The other hub sends what it has to send.
    fn answer(&mut self) {
        let frame = self.far.poll_transmit(self.bench.now.mono).expect("a frame");
        let (src, dst) = (record().hub(), self.bench.hub.id());
        let routed = Routed { src, dst, hops: 9, body: encode(&frame).into() };
        let message = self.there.split(&encode(&LinkFrame::Routed(routed))).remove(0);
        self.take(Input::Binary { conn: LINK, bytes: &message });
    }

    /// The other hub sends signals for the client here, each with a stamp and data.
    fn send(&mut self, signals: impl Iterator<Item = (u64, String)>) {
        let signal = |(stamp, data): (u64, String)| MeshSignal {
            kind: SignalKind::Answer,
            network: NETWORK.into(),
            from: THEIRS.into(),
            target: OURS.into(),
            stamp,
            data: Some(data.into()),
        };
        self.say(&HubMessage::Signals(signals.map(signal).collect()));
    }

    /// The other hub sends this.
    pub(super) fn say(&mut self, message: &HubMessage<'_>) {
        self.far.push(encode(message).into(), 1, Time::NEVER).expect("room");
        self.answer();
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
        HubMessage::Goodbye { peer, .. } => format!("goodbye {}", peer.0[0]),
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
    assert_eq!(pair.heard(), ["0", "1 2", "3", "goodbye 1", "gone 1"]);
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
fn a_session_does_not_end_between_two_bundles() {
    let mut pair = Pair::new();
    let (peer_id, remote) = (Some(OURS.to_string()), std::net::Ipv4Addr::LOCALHOST.into());
    let request = Request { peer_id, mesh: false, remote, via_proxy: false, host: None, ticket: None };
    pair.take(Input::Accepted { conn: ConnId(3), request });
    pair.heard();
    // The older connection does not answer within a second of a hub that is awake, so the next tick ends it.
    (0..9).for_each(|_| pair.bench.after(Duration::from_millis(100)));
    pair.heard();
    pair.bench.now.mono = pair.bench.now.mono + Duration::from_millis(100);
    for data in ["1", "2"] {
        pair.take(Input::Signals { hub: record().hub(), bundle: bundle(&[(OURS, data)]) });
    }
    pair.take(Input::Timer);
    let told = pair.heard();
    pair.bench.after(Duration::from_millis(10));
    assert_eq!([told, pair.heard()].concat(), ["1", "2", "gone 1"]);
}

#[test]
fn what_waits_for_company_goes_before_the_links_of_a_hub_that_leaves() {
    let mut pair = Pair::new();
    pair.bench.hub.presence.subscribers.remove_of(record().hub(), |_| true);
    pair.offer(0);
    pair.take(Input::Drain { over: Duration::ZERO });
    assert_eq!(pair.heard(), ["0"]);
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

#[test]
fn each_signal_of_a_message_is_handed_over_or_refused_by_itself() {
    let mut pair = Pair::new();
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp;
    let signals = [(stamp, "0"), (stamp - 1, "1"), (stamp, "2"), (stamp, "no JSON"), (stamp + 1, "4")];
    pair.send(signals.iter().map(|(stamp, data)| (*stamp, (*data).to_owned())));
    pair.bench.now.mono = pair.bench.now.mono + Duration::from_millis(20);
    let (_, here) = pair.hear(0);
    assert_eq!(here.len(), 2, "{here:?}");
    assert!(here[0].contains(r#""data":0,"#) && here[1].contains(r#""data":2,"#), "{here:?}");
    assert_eq!(pair.acked, [0b10010], "of what is no JSON nobody needs to hear");
}

#[test]
fn a_message_of_more_signals_than_one_may_have_is_refused() {
    let mut pair = Pair::new();
    let stamp = pair.bench.hub.directory.own_claim(NETWORK, &OURS).expect("it is here").stamp;
    for (count, delivered) in [(MAX_SIGNALS, MAX_SIGNALS), (MAX_SIGNALS + 1, 0)] {
        pair.send((0..count).map(|n| (stamp, n.to_string())));
        assert_eq!(pair.hear(0).1.len(), delivered);
    }
    assert_eq!(pair.bench.hub.counters().refusals.get(Refusal::HubMessage), 1);
}
