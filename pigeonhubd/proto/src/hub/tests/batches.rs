//! What goes over a link together.

use std::borrow::Cow;

use super::*;
use crate::hub::links::Transport;
use crate::mesh::frame::Framing;
use crate::wire::mesh::{LinkFrame, Reads, Routed, decode, encode};

const LINK: ConnId = ConnId(2);

/// A neighbour on a data channel.
struct Neighbour {
    id: Id,
    framing: Framing,
}

impl Neighbour {
    fn of(bench: &mut Bench) -> Self {
        let id = peer(9);
        bench.hub.link_up(LINK, id, Transport::Channel, Framing::new(None), "a test");
        bench.said();
        Self { id, framing: Framing::new(None) }
    }

    fn say(&mut self, bench: &mut Bench, frame: &LinkFrame<'_>) -> Vec<Output> {
        let message = self.framing.split(&encode(frame)).remove(0);
        bench.tell(Input::Binary { conn: LINK, bytes: &message })
    }
}

impl Bench {
    fn said(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.hub.poll_output()).collect()
    }
}

fn envelope(body: &[u8]) -> Routed<'_> {
    Routed { src: peer(1), dst: peer(2), hops: 9, body: body.into() }
}

/// The frames of messages to the neighbour, as a hub of the version before reads them if `old`.
fn frames(said: &[Output]) -> Vec<Vec<u8>> {
    let mut framing = Framing::new(None);
    let message = |output: &Output| match output {
        Output::Binary { conn: LINK, bytes } => {
            framing.join(bytes).expect("a hub's own message").map(Cow::into_owned)
        }
        _ => None,
    };
    said.iter().filter_map(message).collect()
}

#[test]
fn only_a_neighbour_that_reads_batches_is_sent_them() {
    for (says, expected) in [(None, 3), (Some(false), 3), (Some(true), 1)] {
        let mut bench = Bench::new(Settings::default());
        bench.hub.link_up(LINK, peer(9), Transport::Channel, Framing::new(None), "a test");
        let first = frames(&bench.said()).remove(0);
        assert_eq!(decode(&first), Ok(LinkFrame::Reads(Reads { batches: true })), "it says what it reads");

        let mut bench = Bench::new(Settings::default());
        let mut neighbour = Neighbour::of(&mut bench);
        if let Some(batches) = says {
            neighbour.say(&mut bench, &LinkFrame::Reads(Reads { batches }));
        }
        for body in [b"one", b"two", b"six"] {
            bench.hub.pass_on(neighbour.id, &envelope(body));
        }
        bench.hub.flush();
        let said: Vec<Output> =
            bench.said().into_iter().filter(|output| matches!(output, Output::Binary { .. })).collect();
        assert_eq!(said.len(), expected, "{says:?}");
    }
}

#[test]
fn a_batch_goes_out_before_the_link_it_waits_for_closes() {
    let mut bench = Bench::new(Settings::default());
    let mut neighbour = Neighbour::of(&mut bench);
    neighbour.say(&mut bench, &LinkFrame::Reads(Reads { batches: true }));
    bench.hub.pass_on(neighbour.id, &envelope(b"last"));
    bench.hub.close_link(LINK, crate::wire::mesh::Bye::Draining);
    let said = bench.said();
    let sent = |output: &Output| matches!(output, Output::Binary { .. });
    let close = said.iter().position(|output| matches!(output, Output::Close { .. }));
    assert_eq!(
        said.iter().filter(|output| sent(output)).count(),
        2,
        "the envelope and the goodbye: {said:?}"
    );
    assert!(said.iter().rposition(sent) < close);
}

#[test]
fn a_batch_of_more_envelopes_than_one_may_have_is_refused() {
    use crate::mesh::batch::MAX_FRAMES;
    for (count, refused) in [(MAX_FRAMES, 0), (MAX_FRAMES + 1, 1)] {
        let mut bench = Bench::new(Settings::default());
        let mut neighbour = Neighbour::of(&mut bench);
        let batch = LinkFrame::Batch(vec![envelope(b""); count]);
        let message = neighbour.framing.split(&encode(&batch)).remove(0);
        bench.hub.handle(Input::Binary { conn: LINK, bytes: &message }, bench.now);
        let events = bench.said();
        let refusals = events
            .iter()
            .filter(|output| matches!(output, Output::Event(crate::event::Event::Refused { .. })));
        assert_eq!(refusals.count(), refused);
    }
}
