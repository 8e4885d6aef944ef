//! Frames that no hub would send, and bytes that are no frames.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const LARGE: &[u8] = &[0; MAX_PAYLOAD + 1];

/// Numbers near the stream's own, and now and then any.
fn number(rng: &mut ChaCha8Rng, near: u64) -> u64 {
    match rng.random_range(0..10) {
        0 => rng.next_u64(),
        1 => u64::MAX - rng.random_range(0..3),
        2 => rng.random_range(0..3),
        _ => near.saturating_add(rng.random_range(0..300)).saturating_sub(rng.random_range(0..20)),
    }
}

fn epoch(rng: &mut ChaCha8Rng, own: u64) -> u64 {
    if rng.random_ratio(1, 200) { number(rng, own) } else { own }
}

fn any_ack(rng: &mut ChaCha8Rng, stream: &Stream) -> Ack {
    let upto = number(rng, stream.sender.floor());
    let mut refusal = || (rng.random_range(0..WINDOW_MESSAGES as u64 + 9), rng.next_u64());
    let refused = [refusal(), refusal(), refusal()];
    let refused = Refused::new(refused.into_iter().take(rng.random_range(0..4)));
    Ack { epoch: epoch(rng, A), generation: stream.generation(), upto, held: rng.next_u64(), refused }
}

fn any_frame(rng: &mut ChaCha8Rng, stream: &Stream, near: u64) -> Frame<'static> {
    if rng.random_ratio(1, 3) {
        return Frame::Ack(any_ack(rng, stream));
    }
    let floor = number(rng, near);
    let len = if rng.random_ratio(1, 50) { rng.random_range(0..=LARGE.len()) } else { 10 };
    Frame::Data(Data {
        src_epoch: epoch(rng, B),
        dst_epoch: epoch(rng, A),
        generation: if rng.random_ratio(1, 200) { number(rng, 1) as u32 } else { 1 },
        floor,
        seq: number(rng, floor),
        ack: rng.random_bool(0.5).then(|| any_ack(rng, stream)),
        payload: &LARGE[..len],
    })
}

fn check(stream: &Stream) {
    let (held, held_bytes) = stream.held();
    assert!(held <= HELD_MESSAGES && held_bytes <= HELD_BYTES);
    let (queued, bytes) = stream.queued();
    assert!(queued + stream.events.len() <= QUEUE_MESSAGES + 2 * HELD_MESSAGES + 2 && bytes <= QUEUE_BYTES);
    let (flight, flight_bytes) = stream.sender.flight();
    assert!(flight <= WINDOW_MESSAGES && flight_bytes <= WINDOW_BYTES.max(MAX_PAYLOAD));
}

#[test]
fn any_frames_are_survived_within_bounds() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut stream = Stream::new(A, B, 1);
        let (mut now, mut near) = (START, 1);
        // Some callers fetch nothing.
        let lazy = rng.random_ratio(1, 4);
        for _ in 0..600 {
            now = now + MS * rng.random_range(0..30);
            if rng.random_bool(0.3) {
                let _ = stream.push(Bytes::from_static(&LARGE[..rng.random_range(0..2000)]), 0, FAR);
            }
            let frame = any_frame(&mut rng, &stream, near);
            let taken = stream.handle_frame(&frame, now);
            if let (Frame::Data(data), Ok(())) = (&frame, taken) {
                near = data.floor.min(u64::MAX / 2);
            }
            stream.handle_timeout(now);
            while let Some(frame) = stream.poll_transmit(now) {
                if let Frame::Data(data) = frame {
                    assert!(data.seq - data.floor < WINDOW_MESSAGES as u64, "seed {seed}");
                }
            }
            check(&stream);
            assert!(stream.poll_timeout() > now, "seed {seed}: a timer that is over already");
            if !lazy {
                events(&mut stream);
            }
        }
    }
}

#[test]
fn any_bytes_are_survived() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut stream = Stream::new(A, B, 1);
    let mut frames = 0;
    for _ in 0..50_000 {
        let valid = any_frame(&mut rng, &stream, 1);
        let mut bytes = encode(&valid);
        bytes.truncate(rng.random_range(1..=bytes.len().min(80)));
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        if let Ok(frame) = postcard::from_bytes(&bytes) {
            frames += 1;
            let _ = stream.handle_frame(&frame, START);
        }
        events(&mut stream);
        check(&stream);
    }
    assert!(frames > 1000, "only {frames} of the mangled frames were read at all");
}
