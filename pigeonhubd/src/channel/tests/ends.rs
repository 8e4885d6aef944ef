use super::*;

#[tokio::test]
async fn a_close_is_seen_at_the_other_end() {
    let (mut offerer, mut answerer) = pair().await;
    let start = Instant::now();
    offerer.handle = None;
    let reason = answerer.closed().await;
    println!("the close took {:?} to be seen", start.elapsed());
    assert_eq!(reason, ClosedBy::Remote { code: 1000, reason: String::new() });
    assert_eq!(offerer.closed().await, ClosedBy::Local);
    println!("the close took {:?} in all", start.elapsed());
}

#[tokio::test]
async fn what_was_queued_is_sent_before_the_close() {
    let (mut offerer, mut answerer) = pair().await;
    let message = |number: u8| Bytes::from(vec![number; 30 * 1024]);
    offerer.send_all((0..100).map(message)).await;
    offerer.handle.take().expect("it is open").close();
    for number in 0..100 {
        assert_eq!(answerer.message().await, message(number));
    }
    assert!(matches!(answerer.closed().await, ClosedBy::Remote { .. }));
    assert_eq!(offerer.closed().await, ClosedBy::Local);
}

#[tokio::test]
async fn both_ends_may_close_at_once() {
    let (mut offerer, mut answerer) = pair().await;
    (offerer.handle, answerer.handle) = (None, None);
    for end in [&mut offerer, &mut answerer] {
        let reason = end.closed().await;
        assert!(!matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
    }
}

#[test]
fn a_far_end_that_vanishes_is_noticed() {
    let limits = Limits { silence: Duration::from_secs(2), ..Limits::default() };
    let here = tokio::runtime::Runtime::new().expect("a runtime starts");
    let there = tokio::runtime::Runtime::new().expect("another starts");
    let mut offerer = here.block_on(async { End::start(1, None, &limits) });
    let offer = here.block_on(offerer.description());
    let mut answerer = there.block_on(async { End::start(2, Some(offer), &limits) });
    let answer = there.block_on(answerer.description());
    offerer.handle().answer(answer);
    here.block_on(exchange(&mut offerer, &mut answerer));
    // Its tasks stop where they are and its sockets go: nothing is said to this end.
    there.shutdown_background();
    let start = Instant::now();
    let reason = here.block_on(offerer.closed());
    println!("the far end was missed after {:?}: {reason:?}", start.elapsed());
    assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
}

#[tokio::test]
async fn a_panic_ends_that_channel_only() {
    let limits = Limits { panic_when_open: true, ..Limits::default() };
    let mut offerer = End::start(1, None, &Limits::default());
    let offer = offerer.description().await;
    let mut answerer = End::start(2, Some(offer), &limits);
    offerer.handle().answer(answerer.description().await);
    let reason = loop {
        tokio::select! {
            event = offerer.events.recv() => {
                if let Some(ChannelEvent::Candidate { candidate, .. }) = event {
                    answerer.handle().candidate(candidate);
                }
            }
            event = answerer.events.recv() => match event {
                Some(ChannelEvent::Candidate { candidate, .. }) => offerer.handle().candidate(candidate),
                Some(ChannelEvent::Closed { reason, .. }) => break reason,
                other => panic!("{other:?} came instead of the end"),
            },
        }
    };
    assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
    assert_eq!(answerer.next().await, None);
    assert_eq!(std::sync::Arc::strong_count(&limits.alive), 1, "the connection outlived its task");
}

#[tokio::test]
async fn a_channel_that_nobody_listens_to_ends() {
    let limits = Limits::default();
    let (sender, events) = mpsc::channel(1);
    let handle = super::super::start_with(ConnId(1), None, &config(), limits.clone(), sender);
    drop(events);
    let gone = async {
        while std::sync::Arc::strong_count(&limits.alive) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, gone).await.expect("the channel goes on");
    assert_eq!(handle.send(Bytes::from_static(b"x")), Err(SendError::Closed));
}
