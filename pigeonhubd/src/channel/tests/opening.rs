use super::*;

#[tokio::test]
async fn a_pair_opens_on_loopback() {
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        let (offerer, answerer) = pair().await;
        times.push(start.elapsed());
        drop((offerer, answerer));
    }
    times.sort();
    println!("open: median {:?}, least {:?}, most {:?}", times[4], times[0], times[8]);
}

#[tokio::test]
async fn a_pair_opens_over_ipv6_and_with_several_addresses() {
    let all = ChannelConfig {
        addresses: Wish::default().offered(&[]).expect("they are told").addresses,
        ..config()
    };
    println!("addresses: {:?}", all.addresses);
    let limits = Limits::default();
    let mut offerer = End::start_with(1, None, &all, &limits);
    let offer = offerer.description().await;
    let mut answerer = End::start_with(2, Some(offer), &all, &limits);
    offerer.handle().answer(answerer.description().await);
    exchange(&mut offerer, &mut answerer).await;
    offerer.send("hello").expect("the queue is empty");
    assert_eq!(answerer.message().await, "hello");
}

#[tokio::test]
async fn candidates_may_come_before_the_description() {
    let limits = Limits::default();
    let mut offerer = End::start(1, None, &limits);
    let mut answerer = End::start(2, Some(offerer.description().await), &limits);
    let answer = answerer.description().await;
    // The offerer hears a candidate first, and the answerer never gets one: only the kept one helps.
    let Some(ChannelEvent::Candidate { candidate, .. }) = answerer.next().await else {
        panic!("the answerer has no candidate");
    };
    offerer.handle().candidate(candidate);
    tokio::time::sleep(Duration::from_millis(50)).await;
    offerer.handle().answer(answer);
    for end in [&mut offerer, &mut answerer] {
        loop {
            match end.next().await {
                Some(ChannelEvent::Open { .. }) => break,
                Some(ChannelEvent::Candidate { .. }) => {}
                other => panic!("{other:?} came instead of the opening"),
            }
        }
    }
}

#[tokio::test]
async fn candidates_are_what_a_browser_would_send() {
    let mut offerer = End::start(1, None, &Limits::default());
    let sdp = offerer.description().await;
    assert!(sdp.contains("m=application") && !sdp.contains("a=candidate"), "{sdp}");
    let Some(ChannelEvent::Candidate { candidate, .. }) = offerer.next().await else {
        panic!("there is no candidate");
    };
    let json: serde_json::Value = serde_json::from_str(&candidate).expect("it is JSON");
    assert!(json["candidate"].as_str().is_some_and(|line| line.contains("127.0.0.1")), "{candidate}");
    assert!(json["sdpMid"].is_string() && json["sdpMLineIndex"] == 0, "{candidate}");
}

#[tokio::test]
async fn nonsense_breaks_the_channel() {
    let garbage = ["", "v=0", "no session description at all", "v=0\r\nm=application 9 UDP/DTLS/SCTP x\r\n"];
    for sdp in garbage {
        let mut answerer = End::start(2, Some(sdp.to_owned()), &Limits::default());
        let reason = answerer.closed().await;
        println!("offer {sdp:?}: {reason:?}");
        assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");

        let mut offerer = End::start(1, None, &Limits::default());
        offerer.description().await;
        offerer.handle().answer(sdp.to_owned());
        let reason = offerer.closed().await;
        println!("answer {sdp:?}: {reason:?}");
        assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
    }
}

#[tokio::test]
async fn nonsense_candidates_are_passed_over() {
    let limits = Limits::default();
    let mut offerer = End::start(1, None, &limits);
    let nonsense = [
        "",
        "{}",
        "null",
        r#"{"candidate":"candidate:what"}"#,
        r#"{"candidate":""}"#,
        r#"{"candidate":"candidate:1 1 tcp 2105458943 127.0.0.1 1 typ host tcptype passive"}"#,
        r#"{"candidate":"candidate:1 1 udp 2130706431 0f1c.local 9 typ host","sdpMid":"0"}"#,
    ];
    for json in nonsense {
        offerer.handle().candidate(json.to_owned());
    }
    let answerer = introduce(&mut offerer, |sdp| sdp, &limits).await;
    assert!(answerer.handle.is_some());
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_the_wait() {
    let limits = Limits { opening: Duration::from_millis(200), ..Limits::default() };
    let mut offerer = End::start(1, None, &limits);
    let reason = offerer.closed().await;
    assert!(matches!(&reason, ClosedBy::Broken(text) if text.contains("did not open")), "{reason:?}");
}

#[tokio::test]
async fn an_address_that_is_not_here_breaks_the_channel() {
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
    for addresses in [vec![], vec![elsewhere]] {
        let config = ChannelConfig { addresses, ..config() };
        let mut end = End::start_with(1, None, &config, &Limits::default());
        let reason = end.closed().await;
        assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
    }
}

#[tokio::test]
async fn a_dropped_handle_ends_an_opening_channel() {
    let mut offerer = End::start(1, None, &Limits::default());
    offerer.description().await;
    offerer.handle = None;
    assert_eq!(offerer.closed().await, ClosedBy::Local);
}

/// An answer may take seconds over several hubs; the answerer has long begun to knock by then.
#[tokio::test]
async fn a_slow_answer_still_opens_the_channel() {
    let limits = Limits::default();
    let mut offerer = End::start(1, None, &limits);
    let mut answerer = End::start(2, Some(offerer.description().await), &limits);
    let answer = answerer.description().await;
    let Some(ChannelEvent::Candidate { candidate, .. }) = offerer.next().await else {
        panic!("the offerer has no candidate");
    };
    answerer.handle().candidate(candidate);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let start = Instant::now();
    offerer.handle().answer(answer);
    exchange(&mut offerer, &mut answerer).await;
    println!("open {:?} after a slow answer", start.elapsed());
}
