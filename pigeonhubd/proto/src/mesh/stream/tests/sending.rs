//! The rules of the sending half.

use super::*;

/// An acknowledgement of `a`'s first stream.
fn acked(upto: u64, held: u64) -> Frame<'static> {
    Frame::Ack(Ack { epoch: A, generation: 1, upto, held, refused: none() })
}

fn sender_of(count: u64) -> Stream {
    let mut a = pair().0;
    (1..=count).for_each(|token| push(&mut a, token));
    a
}

#[test]
fn what_is_not_acknowledged_is_sent_again_less_and_less_often() {
    let mut a = sender_of(1);
    assert_eq!(drain(&mut a, START).len(), 1);
    let mut now = START;
    for wait in [1000, 2000, 3000, 3000] {
        assert_eq!(a.poll_timeout(), now + MS * wait);
        let before = Time(now.0 + u64::from(wait) * 1000 - 1);
        a.handle_timeout(before);
        assert_eq!(drain(&mut a, before).len(), 0);
        now = now + MS * wait;
        a.handle_timeout(now);
        assert_eq!(seqs(&drain(&mut a, now)), [1]);
    }
    a.handle_frame(&acked(1, 0), now).unwrap();
    assert_eq!(a.poll_timeout(), Time::NEVER);
}

#[test]
fn the_round_trip_is_not_measured_on_what_was_sent_twice() {
    let mut a = sender_of(1);
    drain(&mut a, START);
    let again = START + MS * 1000;
    a.handle_timeout(again);
    drain(&mut a, again);
    // The answer to the first may look like a fast answer to the second.
    a.handle_frame(&acked(1, 0), again + MS).unwrap();
    push(&mut a, 2);
    drain(&mut a, again);
    assert_eq!(a.poll_timeout(), again + MS * 2000);
    a.handle_frame(&acked(2, 0), again + MS * 100).unwrap();
    push(&mut a, 3);
    drain(&mut a, again);
    assert_eq!(a.poll_timeout(), again + MS * 300);
}

#[test]
fn three_later_arrivals_bring_a_message_again() {
    let mut a = sender_of(6);
    drain(&mut a, START);
    let now = START + MS * 10;
    a.handle_frame(&acked(0, 0b11), now).unwrap();
    assert_eq!(drain(&mut a, now).len(), 0);
    a.handle_frame(&acked(0, 0b111), now).unwrap();
    assert_eq!(seqs(&drain(&mut a, now)), [1]);
    // A message sent again is not passed by what went before it.
    a.handle_frame(&acked(0, 0b11111), now).unwrap();
    assert_eq!(drain(&mut a, now).len(), 0);
    assert_eq!(events(&mut a), []);
    a.handle_frame(&acked(6, 0), now).unwrap();
    assert_eq!(events(&mut a), (1..=6).map(acked_token).collect::<Vec<_>>());
}

#[test]
fn what_the_far_end_holds_is_not_sent_again() {
    let mut a = sender_of(4);
    drain(&mut a, START);
    a.handle_frame(&acked(0, 0b001), START + MS * 10).unwrap();
    let now = a.poll_timeout();
    a.handle_timeout(now);
    assert_eq!(seqs(&drain(&mut a, now)), [1, 3, 4]);
}

#[test]
fn what_the_far_end_forgot_it_held_is_sent_again() {
    let mut a = sender_of(4);
    drain(&mut a, START);
    a.handle_frame(&acked(0, 0b100), START + MS).unwrap();
    a.handle_frame(&acked(1, 0), START + MS * 2).unwrap();
    assert_eq!(seqs(&drain(&mut a, START + MS * 2)), [4]);
}

#[test]
fn an_overtaken_acknowledgement_changes_nothing() {
    let mut a = sender_of(4);
    drain(&mut a, START);
    a.handle_frame(&acked(2, 0b1), START + MS).unwrap();
    assert_eq!(a.handle_frame(&acked(1, 0), START + MS), Err(Dropped::Duplicate));
    a.handle_frame(&acked(2, 0), START + MS).unwrap();
    assert_eq!(drain(&mut a, START + MS).len(), 0);
}

#[test]
fn acknowledgements_that_cannot_be_are_ignored() {
    let mut a = sender_of(2);
    drain(&mut a, START);
    assert_eq!(a.handle_frame(&acked(3, 0), START), Err(Dropped::Malformed));
    assert_eq!(a.handle_frame(&acked(u64::MAX, 0), START), Err(Dropped::Duplicate));
    let other = |epoch, generation| Frame::Ack(Ack { epoch, generation, upto: 1, held: 0, refused: none() });
    assert_eq!(a.handle_frame(&other(A - 1, 1), START), Err(Dropped::OtherEpoch));
    assert_eq!(a.handle_frame(&other(A, 2), START), Err(Dropped::OldStream));
    a.handle_frame(&acked(0, u64::MAX), START).unwrap();
    assert_eq!(events(&mut a), []);
    assert_eq!(a.queued().0, 2);
}

#[test]
fn the_window_limits_messages_and_bytes() {
    let mut a = sender_of(2000);
    let mut sent = drain(&mut a, START).len() as u64;
    assert_eq!(sent, 32);
    for _ in 0..4 {
        a.handle_frame(&acked(sent, 0), START + MS).unwrap();
        sent += drain(&mut a, START + MS).len() as u64;
    }
    assert_eq!(a.sender.flight().0, WINDOW_MESSAGES);
    // Those held out of order take up the window too, since the far end must keep them.
    a.handle_frame(&acked(sent - 256, 0b11), START + MS * 2).unwrap();
    assert_eq!(drain(&mut a, START + MS * 2).len(), 0);
    a.handle_frame(&acked(sent - 253, 0), START + MS * 3).unwrap();
    assert_eq!(seqs(&drain(&mut a, START + MS * 3)), [sent + 1, sent + 2, sent + 3]);

    let mut a = pair().0;
    let payload = Bytes::from(vec![0; WINDOW_BYTES / 4 + 1]);
    for token in 0..8 {
        a.push(payload.clone(), token, FAR).unwrap();
    }
    assert_eq!(seqs(&drain(&mut a, START)), [1, 2, 3]);
    a.handle_frame(&acked(1, 0), START + MS).unwrap();
    assert_eq!(seqs(&drain(&mut a, START + MS)), [4]);
}

#[test]
fn a_message_larger_than_the_window_goes_alone() {
    let mut a = sender_of(1);
    a.push(Bytes::from(vec![0; MAX_PAYLOAD]), 2, FAR).unwrap();
    push(&mut a, 3);
    assert_eq!(seqs(&drain(&mut a, START)), [1]);
    a.handle_frame(&acked(1, 0), START).unwrap();
    assert_eq!(seqs(&drain(&mut a, START)), [2]);
    a.handle_frame(&acked(2, 0), START).unwrap();
    assert_eq!(seqs(&drain(&mut a, START)), [3]);
}

#[test]
fn the_queue_has_limits() {
    let mut a = pair().0;
    let large = MAX_PAYLOAD + 1;
    assert_eq!(a.push(Bytes::from(vec![0; large]), 0, FAR), Err(PushError::TooLarge(large)));
    let payload = Bytes::from(vec![0; MAX_PAYLOAD]);
    let fit = QUEUE_BYTES / MAX_PAYLOAD;
    for token in 0..fit as u64 {
        a.push(payload.clone(), token, FAR).unwrap();
    }
    assert_eq!(a.push(payload, 0, FAR), Err(PushError::Full));
    assert_eq!(a.queued(), (fit, fit * MAX_PAYLOAD));

    let mut a = sender_of(QUEUE_MESSAGES as u64);
    assert_eq!(a.push(Bytes::new(), 0, FAR), Err(PushError::Full));
    drain(&mut a, START);
    a.handle_frame(&acked(1, 0), START).unwrap();
    // The event still takes the message's place.
    assert_eq!(a.push(Bytes::new(), 0, FAR), Err(PushError::Full));
    assert_eq!(events(&mut a), [acked_token(1)]);
    a.push(Bytes::new(), 0, FAR).unwrap();
}

#[test]
fn a_new_route_brings_everything_again_at_once() {
    let mut a = sender_of(5);
    drain(&mut a, START);
    a.handle_frame(&acked(1, 0b01), START + MS).unwrap();
    a.rerouted();
    assert_eq!(seqs(&drain(&mut a, START + MS)), [2, 4, 5]);
}

#[test]
fn a_new_route_does_not_inherit_the_long_waits() {
    let mut a = sender_of(1);
    let mut now = START;
    for _ in 0..5 {
        drain(&mut a, now);
        now = a.poll_timeout();
        a.handle_timeout(now);
    }
    a.rerouted();
    drain(&mut a, now);
    assert_eq!(a.poll_timeout(), now + MS * 1000);
}

#[test]
fn losses_narrow_the_window() {
    let mut a = sender_of(100);
    assert_eq!(drain(&mut a, START).len(), 32);
    // Of 32 the first is lost; three arrived: 28 are under way, and 17 may be.
    a.handle_frame(&acked(0, 0b111), START + MS).unwrap();
    assert_eq!(drain(&mut a, START + MS).len(), 0);
    a.handle_frame(&acked(0, (1 << 16) - 1), START + MS * 2).unwrap();
    assert_eq!(seqs(&drain(&mut a, START + MS * 2)), [1, 33]);
    let now = a.poll_timeout();
    a.handle_timeout(now);
    assert_eq!(drain(&mut a, now).len(), 4);
}

#[test]
fn news_of_later_messages_does_not_put_off_an_earlier_ones_turn() {
    let mut a = sender_of(1);
    drain(&mut a, START);
    for (token, held) in [(2, 0b1), (3, 0b11)] {
        let now = START + MS * 20 * token;
        push(&mut a, token.into());
        drain(&mut a, now);
        a.handle_frame(&acked(0, held), now + MS * 10).unwrap();
    }
    let due = START + MS * 250;
    assert_eq!(a.poll_timeout(), due);
    assert!(!a.is_overdue(1));
    a.handle_timeout(due);
    assert!(a.is_overdue(1) && !a.is_overdue(2) && !a.is_overdue(4));
    assert_eq!(seqs(&drain(&mut a, due)), [1]);
}

#[test]
fn a_later_arrival_ends_a_wait_that_was_over_already() {
    let mut a = sender_of(1);
    drain(&mut a, START);
    let again = a.poll_timeout();
    a.handle_timeout(again);
    drain(&mut a, again);
    assert_eq!(a.poll_timeout(), again + MS * 2000, "it has doubled");
    push(&mut a, 2);
    drain(&mut a, again + MS * 400);
    // The second one's round trip says that the first one's wait need not be so long.
    a.handle_frame(&acked(0, 0b1), again + MS * 500).unwrap();
    assert_eq!(seqs(&drain(&mut a, again + MS * 500)), [1]);
}

#[test]
fn out_of_reach_nothing_is_sent_and_no_timer_runs() {
    let (mut a, mut b) = pair();
    push(&mut a, 1);
    push(&mut a, 2);
    let frames = drain(&mut a, START);
    a.set_reachable(false);
    b.set_reachable(false);
    give(&mut b, &frames[0], START).unwrap();
    assert_eq!(events(&mut b), [delivered(1)]);
    let now = START + MS * 60_000;
    for stream in [&mut a, &mut b] {
        stream.handle_timeout(now);
        assert_eq!(stream.poll_timeout(), Time::NEVER);
        assert_eq!(stream.poll_transmit(now), None);
    }
    a.set_reachable(true);
    b.set_reachable(true);
    assert_eq!(seqs(&drain(&mut a, now)), [1, 2]);
    assert_eq!(ack(&mut b, now).upto, 1);
}

#[test]
fn a_reset_starts_anew_and_names_what_it_dropped() {
    let (mut a, mut b) = pair();
    (1..=3).for_each(|token| push(&mut a, token));
    let old = drain(&mut a, START);
    a.handle_frame(&acked(1, 0b1), START).unwrap();
    assert_eq!(a.reset(), [2, 3]);
    assert_eq!((a.poll_timeout(), a.deadline(), a.queued()), (Time::NEVER, Time::NEVER, (0, 0)));
    push(&mut a, 4);
    let new = drain(&mut a, START);
    give(&mut b, &new[0], START).unwrap();
    assert_eq!(give(&mut b, &old[1], START), Err(Dropped::OldStream));
    assert_eq!(events(&mut b), [delivered(4)]);
    // What was said of the old stream does not count for the new one.
    assert_eq!(a.handle_frame(&acked(1, 0), START), Err(Dropped::OldStream));
    let ack = ack(&mut b, START + MS * 20);
    a.handle_frame(&Frame::Ack(ack), START + MS * 20).unwrap();
    assert_eq!(events(&mut a), [acked_token(1), acked_token(4)]);
}

#[test]
fn a_restart_of_the_far_end_resets() {
    let mut a = sender_of(2);
    drain(&mut a, START);
    assert_eq!(a.set_remote_epoch(B), Vec::<Token>::new());
    assert_eq!(a.set_remote_epoch(B - 1), Vec::<Token>::new());
    assert_eq!(a.generation(), 1);
    assert_eq!(a.set_remote_epoch(B + 1), [1, 2]);
    push(&mut a, 3);
    let mut b = Stream::new(B + 1, A, 1);
    give(&mut b, &drain(&mut a, START)[0], START).unwrap();
    assert_eq!(events(&mut b), [delivered(3)]);
}

#[test]
fn the_oldest_message_expires_even_out_of_reach() {
    let mut a = pair().0;
    assert_eq!(a.deadline(), Time::NEVER);
    a.push(Bytes::new(), 1, START + MS * 10).unwrap();
    a.push(Bytes::new(), 2, START + MS * 5).unwrap();
    a.set_reachable(false);
    assert_eq!(a.deadline(), START + MS * 10);
    assert!(!a.expired(START + MS * 9));
    assert!(a.expired(START + MS * 10));
}
