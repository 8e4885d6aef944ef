//! The rules of the receiving half.

use super::*;

#[test]
fn early_messages_wait_and_are_told_of() {
    let (mut a, mut b) = pair();
    for token in 1..=4 {
        push(&mut a, token);
    }
    let frames = drain(&mut a, START);
    give(&mut b, &frames[3], START).unwrap();
    give(&mut b, &frames[1], START).unwrap();
    assert_eq!(events(&mut b), []);
    assert_eq!(b.held(), (2, 16));
    assert_eq!(ack(&mut b, START), Ack { epoch: A, generation: 1, upto: 0, held: 0b101, refused: none() });
    give(&mut b, &frames[0], START).unwrap();
    assert_eq!(events(&mut b), [delivered(1), delivered(2)]);
    assert_eq!(ack(&mut b, START), Ack { epoch: A, generation: 1, upto: 2, held: 0b1, refused: none() });
    give(&mut b, &frames[2], START).unwrap();
    assert_eq!(events(&mut b), [delivered(3), delivered(4)]);
    assert_eq!(b.held(), (0, 0));
    assert_eq!(ack(&mut b, START + MS * 20).upto, 4);
}

#[test]
fn a_refusal_goes_with_the_acknowledgement() {
    let (mut a, mut b) = pair();
    for token in 1..=3 {
        push(&mut a, token);
    }
    let frames = drain(&mut a, START);
    // The second arrives last, and brings the third with it.
    for frame in [0, 2, 1] {
        give(&mut b, &frames[frame], START).unwrap();
    }
    assert_eq!(b.poll_event(), Some(delivered(1)));
    assert_eq!(b.poll_event(), Some(delivered(2)));
    b.refuse_last(0b1, START);
    b.refuse_last(0b100, START);
    assert_eq!(b.poll_event(), Some(delivered(3)));
    let lost = ack(&mut b, START);
    assert_eq!([1, 2, 3].map(|seq| lost.refuses(seq)), [0, 0b101, 0]);
    // That one is lost, and the next says it again.
    push(&mut a, 4);
    for frame in drain(&mut a, START) {
        give(&mut b, &frame, START).unwrap();
    }
    let again = Frame::Ack(ack(&mut b, START + MS * 20));
    a.handle_frame(&again, START + MS * 20).unwrap();
    let second = Event::Acked { token: 2, refused: 0b101 };
    assert_eq!(events(&mut a), [acked_token(1), second, acked_token(3), acked_token(4)]);
}

#[test]
fn a_refusal_reaches_back_a_whole_window() {
    let (mut a, mut b) = pair();
    let last = WINDOW_MESSAGES as u64;
    for seq in 1..=last {
        push(&mut a, seq);
        b.handle_frame(&data(1, 1, seq), START).unwrap();
        assert!(b.poll_event().is_some());
        if seq == 1 || seq == last {
            b.refuse_last(1 << 63, START);
        }
    }
    let all = ack(&mut b, START);
    let refused: Vec<(u64, Parts)> =
        (0..=last + 1).map(|seq| (seq, all.refuses(seq))).filter(|(_, parts)| *parts != 0).collect();
    assert_eq!(refused, [(1, 1 << 63), (last, 1 << 63)]);
    let all = Frame::Ack(all);
    assert_eq!(postcard::from_bytes::<Frame<'_>>(&encode(&all)).unwrap(), all);
    b.handle_frame(&data(1, 2, last + 1), START).unwrap();
    let later = ack(&mut b, START + MS * 20);
    assert_eq!(later.refuses(last), 1 << 63);
    assert_eq!(later.refused, Refused::new([(1, 1 << 63)].into_iter()), "but not for ever");
}

#[test]
fn what_a_stream_refused_says_nothing_of_the_next() {
    let (_, mut b) = pair();
    b.handle_frame(&data(1, 1, 1), START).unwrap();
    b.handle_frame(&data(2, 1, 1), START).unwrap();
    assert!(matches!(b.poll_event(), Some(Event::Delivered(_))));
    b.refuse_last(1, START);
    assert_eq!(ack(&mut b, START + MS * 20).refuses(1), 0);
    assert_eq!(events(&mut b).len(), 2);
    b.refuse_last(1, START);
    assert_eq!(ack(&mut b, START + MS * 20).refuses(1), 1);
}

#[test]
fn duplicates_are_dropped_and_acknowledged_again() {
    let (mut a, mut b) = pair();
    push(&mut a, 1);
    let frames = drain(&mut a, START);
    give(&mut b, &frames[0], START).unwrap();
    ack(&mut b, START + MS * 20);
    assert_eq!(events(&mut b), [delivered(1)]);
    let later = START + MS * 50;
    assert_eq!(give(&mut b, &frames[0], later), Err(Dropped::Duplicate));
    assert_eq!(events(&mut b), []);
    assert_eq!(ack(&mut b, later).upto, 1);

    b.handle_frame(&data(1, 1, 3), later).unwrap();
    ack(&mut b, later);
    assert_eq!(b.handle_frame(&data(1, 1, 3), later), Err(Dropped::Duplicate));
    assert_eq!(ack(&mut b, later).held, 1);
}

#[test]
fn every_eighth_message_is_acknowledged_at_once() {
    let (_, mut b) = pair();
    for seq in 1..=7 {
        b.handle_frame(&data(1, 1, seq), START).unwrap();
        assert_eq!(b.poll_transmit(START), None);
    }
    b.handle_frame(&data(1, 1, 8), START).unwrap();
    assert_eq!(ack(&mut b, START).upto, 8);
    assert_eq!(b.poll_timeout(), Time::NEVER);
}

#[test]
fn an_acknowledgement_rides_on_data() {
    let (mut a, mut b) = pair();
    push(&mut a, 1);
    push(&mut b, 2);
    let frames = drain(&mut a, START);
    give(&mut b, &frames[0], START).unwrap();
    let frames = drain(&mut b, START);
    assert_eq!(frames.len(), 1);
    give(&mut a, &frames[0], START).unwrap();
    assert_eq!(events(&mut a), [acked_token(1), delivered(2)]);
    assert_eq!(drain(&mut b, START + MS * 100), Vec::<Vec<u8>>::new());
}

#[test]
fn a_newer_stream_replaces_an_older_one() {
    let (_, mut b) = pair();
    b.handle_frame(&data(1, 1, 1), START).unwrap();
    b.handle_frame(&data(1, 1, 3), START).unwrap();
    b.handle_frame(&data(2, 1, 1), START).unwrap();
    let message = Event::Delivered(Bytes::from_static(b"x"));
    assert_eq!(events(&mut b), [message.clone(), Event::Restarted, message]);
    assert_eq!(b.held(), (0, 0));
    assert_eq!(b.handle_frame(&data(1, 1, 2), START), Err(Dropped::OldStream));
    assert_eq!(events(&mut b), []);
    let ack = ack(&mut b, START + MS * 20);
    assert_eq!((ack.generation, ack.upto), (2, 1));
}

#[test]
fn a_later_epoch_is_newer_than_any_generation() {
    let (_, mut b) = pair();
    b.handle_frame(&data(9, 1, 1), START).unwrap();
    let Frame::Data(next) = data(1, 1, 1) else { unreachable!() };
    b.handle_frame(&Frame::Data(Data { src_epoch: A + 1, ..next }), START).unwrap();
    let message = Event::Delivered(Bytes::from_static(b"x"));
    assert_eq!(events(&mut b), [message.clone(), Event::Restarted, message]);
    assert_eq!(b.handle_frame(&data(10, 1, 1), START), Err(Dropped::OldStream));
}

#[test]
fn a_record_of_a_later_epoch_closes_the_old_stream() {
    let (_, mut b) = pair();
    b.handle_frame(&data(1, 1, 3), START).unwrap();
    assert_eq!(b.set_remote_epoch(A + 1), Vec::<Token>::new());
    assert_eq!(b.held(), (0, 0));
    assert_eq!(b.poll_timeout(), Time::NEVER);
    assert_eq!(b.handle_frame(&data(2, 1, 1), START), Err(Dropped::OldStream));
    let Frame::Data(next) = data(1, 1, 1) else { unreachable!() };
    b.handle_frame(&Frame::Data(Data { src_epoch: A + 1, ..next }), START).unwrap();
    assert_eq!(events(&mut b), [Event::Restarted, Event::Delivered(Bytes::from_static(b"x"))]);
}

#[test]
fn what_is_meant_for_an_earlier_run_is_ignored() {
    let mut b = Stream::new(B + 1, A, 1);
    assert_eq!(b.handle_frame(&data(1, 1, 1), START), Err(Dropped::OtherEpoch));
    assert_eq!(events(&mut b), []);
    assert!(b.is_idle());
}

#[test]
fn an_unknown_stream_starts_at_its_floor() {
    let (_, mut b) = pair();
    b.handle_frame(&data(1, 40, 41), START).unwrap();
    assert_eq!(events(&mut b), [Event::Missed]);
    b.handle_frame(&data(1, 40, 40), START).unwrap();
    assert_eq!(events(&mut b).len(), 2);
    assert_eq!(ack(&mut b, START).upto, 41);
}

#[test]
fn a_floor_above_the_gap_jumps_over_it() {
    let (_, mut b) = pair();
    for seq in [1, 3, 5, 7] {
        b.handle_frame(&data(1, 1, seq), START).unwrap();
    }
    events(&mut b);
    // What was held below the floor was delivered to an earlier life of this end.
    b.handle_frame(&data(1, 5, 6), START).unwrap();
    let message = Event::Delivered(Bytes::from_static(b"x"));
    assert_eq!(events(&mut b), [Event::Missed, message.clone(), message.clone(), message]);
    assert_eq!(b.held(), (0, 0));
    assert_eq!(ack(&mut b, START).upto, 7);
}

#[test]
fn numbers_and_sizes_out_of_range_are_malformed() {
    let (_, mut b) = pair();
    let large = vec![0; MAX_PAYLOAD + 1];
    let ok = || match data(1, 1, 1) {
        Frame::Data(ok) => ok,
        Frame::Ack(_) => unreachable!(),
    };
    for bad in [
        Data { generation: 0, ..ok() },
        Data { floor: 0, seq: 0, ..ok() },
        Data { floor: 2, ..ok() },
        Data { seq: 1 + WINDOW_MESSAGES as u64, ..ok() },
        Data { floor: u64::MAX, seq: u64::MAX, ..ok() },
        Data { payload: &large, ..ok() },
    ] {
        let (generation, floor, seq) = (bad.generation, bad.floor, bad.seq);
        let result = b.handle_frame(&Frame::Data(bad), START);
        assert_eq!(result, Err(Dropped::Malformed), "{generation} {floor} {seq}");
    }
    assert_eq!(events(&mut b), []);
    assert!(b.is_idle());
}

#[test]
fn held_bytes_have_a_limit_that_the_next_message_ignores() {
    let (_, mut b) = pair();
    let half = vec![0; HELD_BYTES / 2];
    let ok = || match data(1, 1, 1) {
        Frame::Data(ok) => ok,
        Frame::Ack(_) => unreachable!(),
    };
    for seq in [2, 3] {
        b.handle_frame(&Frame::Data(Data { seq, payload: &half, ..ok() }), START).unwrap();
    }
    assert_eq!(b.handle_frame(&data(1, 1, 4), START), Err(Dropped::Full));
    assert_eq!(b.held(), (2, HELD_BYTES));
    b.handle_frame(&Frame::Data(Data { payload: &half, ..ok() }), START).unwrap();
    assert_eq!(events(&mut b).len(), 3);
    b.handle_frame(&data(1, 1, 4), START).unwrap();
    assert_eq!(events(&mut b).len(), 1);
}

#[test]
fn events_that_nobody_fetches_have_a_limit() {
    let (_, mut b) = pair();
    let most = (HELD_MESSAGES + WINDOW_MESSAGES) as u64;
    for seq in 1..=most {
        b.handle_frame(&data(1, seq, seq), START).unwrap();
    }
    let next = most + 1;
    assert_eq!(b.handle_frame(&data(1, next, next), START), Err(Dropped::Full));
    events(&mut b);
    b.handle_frame(&data(1, next, next), START).unwrap();
}

#[test]
fn sixty_four_early_messages_can_be_told_of() {
    let (_, mut b) = pair();
    for seq in [2, 34, 65, 66, 200] {
        b.handle_frame(&data(1, 1, seq), START).unwrap();
    }
    assert_eq!(ack(&mut b, START).held, 1 | 1 << 32 | 1 << 63);
    assert_eq!(b.held().0, 5);
}
