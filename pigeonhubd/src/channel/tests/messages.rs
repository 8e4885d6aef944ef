use super::*;

#[tokio::test]
async fn ten_thousand_messages_arrive_in_order() {
    let (mut offerer, mut answerer) = pair().await;
    let start = Instant::now();
    let numbers = (0..10_000u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes()));
    let send = async {
        offerer.send_all(numbers).await;
        offerer
    };
    let receive = async {
        for number in 0..10_000u32 {
            assert_eq!(answerer.message().await, number.to_be_bytes().as_slice());
        }
    };
    let (_offerer, ()) = tokio::join!(send, receive);
    println!("10,000 small messages took {:?}", start.elapsed());
}

#[tokio::test]
async fn large_messages_arrive_both_ways() {
    let (mut offerer, mut answerer) = pair().await;
    let big = |fill: u8| Bytes::from(vec![fill; 60 * 1024]);
    let start = Instant::now();
    offerer.send_all((0..100).map(big)).await;
    answerer.send_all((100..200).map(big)).await;
    for fill in 0..100 {
        assert_eq!(answerer.message().await, big(fill));
        assert_eq!(offerer.message().await, big(fill + 100));
    }
    println!("200 messages of 60 KiB took {:?}", start.elapsed());
    let largest = Bytes::from(vec![7; MAX_MESSAGE]);
    offerer.send(largest.clone()).expect("it is not too large");
    assert_eq!(answerer.message().await, largest);
    let larger = Bytes::from(vec![7; MAX_MESSAGE + 1]);
    assert_eq!(offerer.send(larger), Err(SendError::TooLarge(MAX_MESSAGE + 1)));
}

#[tokio::test]
async fn two_ends_that_both_send_do_not_block_each_other() {
    let (mut offerer, mut answerer) = pair().await;
    let mebibytes = || (0..128).map(|_| Bytes::from(vec![1; 60 * 1024]));
    // Far more than all queues hold, both ways at once.
    let both = async { tokio::join!(flood(&mut offerer, mebibytes()), flood(&mut answerer, mebibytes())) };
    let (left, right) = tokio::time::timeout(HANG, both).await.expect("the two ends block each other");
    assert_eq!((left, right), (128, 128));
}

/// Sends everything while taking what comes; returns how many messages came.
async fn flood(end: &mut End, messages: impl Iterator<Item = Bytes>) -> usize {
    let mut messages = messages.peekable();
    let mut came = 0;
    while came < 128 {
        while let Some(message) = messages.next_if(|message| end.send(message.clone()).is_ok()) {
            drop(message);
        }
        if tokio::time::timeout(Duration::from_millis(1), end.message()).await.is_ok() {
            came += 1;
        }
    }
    came
}

#[tokio::test]
async fn a_full_queue_is_reported() {
    let (mut offerer, _answerer) = pair().await;
    // Nothing yields here, so nothing is taken out of the queue (the test runs on one thread).
    let most = config().queue_messages;
    for _ in 0..most {
        assert_eq!(offerer.send("x"), Ok(()));
    }
    assert_eq!(offerer.send("x"), Err(SendError::Full));

    let small = ChannelConfig { queue_bytes: 100, ..config() };
    let (handle, _inbox) = handle::pair(&small);
    assert_eq!(handle.send(Bytes::from(vec![0; 200])), Ok(()), "an empty queue takes any message");
    assert_eq!(handle.send(Bytes::from_static(b"x")), Err(SendError::Full));
}

#[tokio::test]
async fn a_message_sent_while_opening_arrives() {
    let limits = Limits::default();
    let mut offerer = End::start(1, None, &limits);
    offerer.send("early").expect("the queue is empty");
    let mut answerer = introduce(&mut offerer, |sdp| sdp, &limits).await;
    assert_eq!(answerer.message().await, "early");
}

#[tokio::test]
async fn an_oversized_message_breaks_the_channel() {
    // This end believes that it may send more than the other allows.
    let careless = Limits { message: 256 * 1024, ..Limits::default() };
    let mut offerer = End::start(1, None, &careless);
    let lie = |sdp: String| sdp.replace("max-message-size:65536", "max-message-size:262144");
    let mut answerer = introduce(&mut offerer, lie, &Limits::default()).await;
    offerer.handle().send_unchecked(Bytes::from(vec![0; MAX_MESSAGE + 1]));
    let reason = answerer.closed().await;
    println!("too large: {reason:?}");
    assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
    assert!(matches!(offerer.closed().await, ClosedBy::Remote { .. }), "the sender is told");
}
