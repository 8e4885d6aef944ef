//! Far ends that are not what a hub is.

use std::sync::Arc;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCSessionDescription,
};

use super::*;

struct Silent;

impl PeerConnectionEventHandler for Silent {}

/// A WebRTC end that does what a test wants. It offers.
struct Rogue {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
}

impl Rogue {
    async fn new(label: &str, init: RTCDataChannelInit, media: bool) -> Self {
        let mut codecs = MediaEngine::default();
        codecs.register_default_codecs().expect("the crate knows its codecs");
        let connection: Arc<dyn PeerConnection> = Arc::new(
            PeerConnectionBuilder::new()
                .with_media_engine(codecs)
                .with_udp_addrs(vec!["127.0.0.1:0"])
                .with_handler(Arc::new(Silent))
                .build()
                .await
                .expect("a connection can be made"),
        );
        if media {
            for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
                connection.add_transceiver_from_kind(kind, None).await.expect("there are codecs");
            }
        }
        let channel = connection.create_data_channel(label, Some(init)).await.expect("the label is short");
        Self { connection, channel }
    }

    async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer can be made");
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await.expect("it is our own");
        sdp
    }

    /// Lets a hub's end answer, and gives it back once this end's channel is open, or closed.
    async fn meet(&self, limits: &Limits) -> End {
        let mut end = End::start(2, Some(self.offer().await), limits);
        let answer = RTCSessionDescription::answer(end.description().await).expect("it is an answer");
        self.connection.set_remote_description(answer).await.expect("it fits the offer");
        let open = async {
            while let Some(event) = self.channel.poll().await {
                if matches!(event, DataChannelEvent::OnOpen | DataChannelEvent::OnClose) {
                    return;
                }
            }
        };
        tokio::pin!(open);
        loop {
            tokio::select! {
                () = &mut open => return end,
                event = end.events.recv() => match event {
                    Some(ChannelEvent::Candidate { candidate, .. }) => {
                        let candidate: RTCIceCandidateInit =
                            serde_json::from_str(&candidate).expect("it is a candidate");
                        self.connection.add_ice_candidate(candidate).await.expect("it is understood");
                    }
                    // The rest is for the test.
                    Some(other) => end.seen.push_back(other),
                    None => return end,
                },
                () = tokio::time::sleep(HANG) => panic!("the channel neither opened nor failed"),
            }
        }
    }
}

fn reliable() -> RTCDataChannelInit {
    RTCDataChannelInit { ordered: true, ..RTCDataChannelInit::default() }
}

async fn broken(mut end: End, why: &str) {
    let reason = end.closed().await;
    assert!(matches!(&reason, ClosedBy::Broken(text) if text.contains(why)), "{reason:?}");
}

#[tokio::test]
async fn a_channel_that_is_not_a_hubs_is_refused() {
    let inits = [("other", reliable()), (LABEL, RTCDataChannelInit { ordered: false, ..reliable() })];
    for (label, init) in inits {
        let rogue = Rogue::new(label, init, false).await;
        let end = rogue.meet(&Limits::default()).await;
        broken(end, "is not `messages`").await;
        rogue.connection.close().await.expect("it closes");
    }
}

#[tokio::test]
async fn a_second_channel_ends_the_first() {
    let rogue = Rogue::new(LABEL, reliable(), false).await;
    let mut end = rogue.meet(&Limits::default()).await;
    assert!(matches!(end.next().await, Some(ChannelEvent::Open { .. })));
    let _second = rogue.connection.create_data_channel(LABEL, None).await.expect("it can be made");
    broken(end, "second data channel").await;
}

#[tokio::test]
async fn text_breaks_the_channel() {
    let rogue = Rogue::new(LABEL, reliable(), false).await;
    let end = rogue.meet(&Limits::default()).await;
    rogue.channel.send_text("hello").await.expect("it is open");
    broken(end, "text").await;
}

/// What a browser, or an older hub, may offer: sound and pictures beside the data. They are
/// refused, the channel works, and nothing of it stays in memory afterwards.
#[tokio::test]
async fn media_is_refused_and_the_channel_opens() {
    let limits = Limits::default();
    let rogue = Rogue::new(LABEL, reliable(), true).await;
    assert!(rogue.offer().await.contains("m=audio"), "the test offers no media");
    let rogue = Rogue::new(LABEL, reliable(), true).await;
    let mut end = rogue.meet(&limits).await;
    assert!(matches!(end.next().await, Some(ChannelEvent::Open { .. })));
    end.send("hello").expect("the queue is empty");
    let message = loop {
        if let Some(DataChannelEvent::OnMessage(message)) = rogue.channel.poll().await {
            break message;
        }
    };
    assert_eq!(&message.data[..], b"hello");
    end.handle = None;
    end.closed().await;
    assert_eq!(Arc::strong_count(&limits.alive), 1, "the connection is still in memory");
}

/// A description that was mangled on its way must end in an error or an open channel, and
/// must not keep a task from ending.
#[tokio::test]
async fn mangled_descriptions_do_no_harm() {
    let mut offerer = End::start(1, None, &Limits::default());
    let offer = offerer.description().await;
    let limits = Limits { opening: Duration::from_millis(100), ..Limits::default() };
    let mut random = 1u64;
    let mut panics = 0;
    for _ in 0..40 {
        let mut ends: Vec<End> =
            (0..8).map(|_| End::start(2, Some(mangle(&offer, &mut random)), &limits)).collect();
        for end in &mut ends {
            let reason = end.closed().await;
            assert!(matches!(reason, ClosedBy::Broken(_)), "{reason:?}");
            panics += usize::from(format!("{reason:?}").contains("internal"));
        }
    }
    assert_eq!(Arc::strong_count(&limits.alive), 1, "a connection is still in memory");
    println!("{panics} of 320 mangled descriptions made the crate panic");
}

/// Removes, doubles, or swaps parts of a text; the same every time.
fn mangle(text: &str, random: &mut u64) -> String {
    let mut below = |limit: usize| {
        // Knuth's multiplier for a linear congruential generator, as in MMIX.
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*random >> 33).expect("31 bits fit") % limit
    };
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=below(4) {
        let (at, len) = (below(bytes.len()), 1 + below(40));
        let end = bytes.len().min(at + len);
        match below(4) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            2 => bytes[at] = b"0\r\n= :x9-"[below(9)],
            _ => bytes[at..end].reverse(),
        }
        if bytes.is_empty() {
            bytes.push(b'v');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
