#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod any_frames;
mod receiving;
mod sending;
mod weather;
mod world;

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);
const START: Time = Time(1_000_000);
const FAR: Time = Time(u64::MAX - 1);
/// Epochs of the two ends.
const A: u64 = 1_000;
const B: u64 = 2_000;

/// Nothing refused.
fn none() -> Refused {
    Refused::default()
}

/// A message was delivered, and of use.
fn acked_token(token: Token) -> Event {
    Event::Acked { token, refused: 0 }
}

fn pair() -> (Stream, Stream) {
    (Stream::new(A, B, 1), Stream::new(B, A, 1))
}

fn push(stream: &mut Stream, token: Token) {
    stream.push(Bytes::from(token.to_le_bytes().to_vec()), token, FAR).unwrap();
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    postcard::to_allocvec(frame).unwrap()
}

/// Everything `stream` sends now, encoded.
fn drain(stream: &mut Stream, now: Time) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while stream.has_frame(now) {
        out.push(encode(&stream.poll_transmit(now).expect("it says that it has one")));
    }
    assert_eq!(stream.poll_transmit(now), None, "it says that it has none");
    out
}

/// The sequence numbers of the data in `frames`.
fn seqs(frames: &[Vec<u8>]) -> Vec<u64> {
    let seq = |bytes: &Vec<u8>| match postcard::from_bytes(bytes).unwrap() {
        Frame::Data(data) => Some(data.seq),
        Frame::Ack(_) => None,
    };
    frames.iter().filter_map(seq).collect()
}

fn give(stream: &mut Stream, frame: &[u8], now: Time) -> Result<(), Dropped> {
    stream.handle_frame(&postcard::from_bytes(frame).unwrap(), now)
}

fn events(stream: &mut Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.poll_event()).collect()
}

fn delivered(token: Token) -> Event {
    Event::Delivered(Bytes::from(token.to_le_bytes().to_vec()))
}

/// The only frame that is due, which is an acknowledgement.
fn ack(stream: &mut Stream, now: Time) -> Ack {
    match stream.poll_transmit(now) {
        Some(Frame::Ack(ack)) => ack,
        other => panic!("no acknowledgement but {other:?}"),
    }
}

fn data(generation: u32, floor: u64, seq: u64) -> Frame<'static> {
    Frame::Data(Data { src_epoch: A, dst_epoch: B, generation, floor, seq, ack: None, payload: b"x" })
}

#[test]
fn an_idle_stream_is_small() {
    assert!(size_of::<Stream>() <= 400, "{} bytes", size_of::<Stream>());
    let (mut a, mut b) = pair();
    for token in 0..100 {
        push(&mut a, token);
    }
    // Back and forth until nothing is left to say.
    let mut now = START;
    for _ in 0..20 {
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut a, &mut b];
            for frame in drain(ends[from], now) {
                let _ = give(ends[to], &frame, now);
            }
        }
        now = now + MS * 20;
        events(&mut a);
        events(&mut b);
    }
    assert!(a.is_idle() && b.is_idle());
    assert_eq!((a.poll_timeout(), b.poll_timeout()), (Time::NEVER, Time::NEVER));
    assert!(a.events.capacity() <= 8 && b.events.capacity() <= 8);
}

#[test]
fn a_message_goes_through_and_is_acknowledged() {
    let (mut a, mut b) = pair();
    push(&mut a, 7);
    let frames = drain(&mut a, START);
    assert_eq!(seqs(&frames), [1]);
    give(&mut b, &frames[0], START).unwrap();
    assert_eq!(events(&mut b), [delivered(7)]);
    assert_eq!(b.poll_transmit(START), None);
    assert_eq!(b.poll_timeout(), START + MS * 20);
    let ack = ack(&mut b, START + MS * 20);
    assert_eq!(ack, Ack { epoch: A, generation: 1, upto: 1, held: 0, refused: none() });
    a.handle_frame(&Frame::Ack(ack), START + MS * 40).unwrap();
    assert_eq!(events(&mut a), [acked_token(7)]);
    assert_eq!((a.poll_timeout(), b.poll_timeout()), (Time::NEVER, Time::NEVER));
}

#[test]
fn a_frame_survives_its_encoding_and_costs_little() {
    let payload = vec![9; 1000];
    let frame = Frame::Data(Data {
        src_epoch: 1_760_000_000_000,
        dst_epoch: 1_760_000_000_001,
        generation: 3,
        floor: 500,
        seq: 501,
        ack: Some(Ack { epoch: 1_760_000_000_001, generation: 2, upto: 900, held: 5, refused: none() }),
        payload: &payload,
    });
    let bytes = encode(&frame);
    assert_eq!(postcard::from_bytes::<Frame<'_>>(&bytes).unwrap(), frame);
    assert!(bytes.len() < payload.len() + 40, "{}", bytes.len());
}

#[test]
fn refusals_cost_a_byte_and_name_a_window_at_most() {
    let mut bytes = encode(&Frame::Ack(Ack { epoch: A, generation: 1, upto: 900, held: 0, refused: none() }));
    assert_eq!(bytes.pop(), Some(0));
    let read = |count: usize| {
        let refused: Vec<(u64, Parts)> = (0..count as u64).map(|back| (back, Parts::MAX)).collect();
        let refused = postcard::to_allocvec(&refused).unwrap();
        postcard::from_bytes::<Frame<'_>>(&[bytes.as_slice(), &refused].concat()).is_ok()
    };
    assert!(read(0) && read(1) && read(WINDOW_MESSAGES));
    assert!(!read(WINDOW_MESSAGES + 1));
}
