//! What the targets share: one hub without a network, a hub that was let into
//! its mesh, and the limits that hold whatever they say.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pigeonhub_proto::hub::Hub;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::io::{ConnId, Input, Output, Request};
use pigeonhub_proto::mesh::frame::{FrameKeys, Framing};
use pigeonhub_proto::mesh::handshake::{Challenge, Hello, MESH_VERSION, Role, Transcript};
use pigeonhub_proto::mesh::identity::{HubKey, Identity, MeshKey, hub_id};
use pigeonhub_proto::settings::Settings;
use pigeonhub_proto::time::{Now, Time};
use pigeonhub_proto::wire::mesh::{LinkFrame, decode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The mesh's name.
pub const NAMESPACE: &str = "pigeonhub-mesh";
/// Outputs that one input may cause: to each of the few connections of a
/// target, a few. Far fewer are expected; more would be an amplification.
const MOST_OUTPUTS: usize = 4096;
/// The start of each hub's wall clock, in ms since the Unix epoch.
pub const STARTED: u64 = 1_700_000_000_000;

static OWN: LazyLock<Arc<HubKey>> = LazyLock::new(|| Arc::new(HubKey::from_bytes(&[7; 32])));
static KEY: LazyLock<MeshKey> = LazyLock::new(|| MeshKey::new(b"the key of the bench").expect("long enough"));

/// One hub, fed by hand.
pub struct Bench {
    hub: Hub,
    now: Now,
}

impl Default for Bench {
    fn default() -> Self {
        let settings = Settings { namespace: NAMESPACE.to_owned(), ..Settings::default() };
        let now = Now { mono: Time(1_000_000), unix_ms: STARTED };
        let hub = Hub::new(settings, OWN.clone(), KEY.clone(), [1; 32], now);
        Self { hub, now }
    }
}

impl Bench {
    /// The hub's id.
    pub fn id(&self) -> Id {
        self.hub.id()
    }

    /// One input, and what comes of it.
    pub fn tell(&mut self, input: Input<'_>) -> Vec<Output> {
        self.hub.handle(input, self.now);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.hub.poll_output()).collect();
        assert!(outputs.len() <= MOST_OUTPUTS, "{} outputs of one input", outputs.len());
        outputs
    }

    /// Lets time pass, timer by timer.
    pub fn wait(&mut self, duration: Duration) {
        let until = self.now.mono + duration;
        for _ in 0..MOST_OUTPUTS {
            if self.hub.poll_timeout() > until {
                self.now.mono = until;
                self.now.unix_ms = STARTED + until.0 / 1000;
                return;
            }
            self.now.mono = self.now.mono.max(self.hub.poll_timeout());
            self.tell(Input::Timer);
        }
        panic!("a timer comes again and again: {:?} at {:?}", self.hub.poll_timeout(), self.now);
    }

    /// A WebSocket from a stranger.
    pub fn connect(&mut self, conn: u64, peer: Id, mesh: bool) -> Vec<Output> {
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let request = Request {
            peer_id: Some(peer.to_string()),
            mesh,
            remote,
            via_proxy: false,
            host: None,
            ticket: None,
        };
        self.tell(Input::Accepted { conn: ConnId(conn), request })
    }

    /// A text message on a connection.
    pub fn text(&mut self, conn: u64, text: &str) -> Vec<Output> {
        self.tell(Input::Text { conn: ConnId(conn), text })
    }

    /// What the hub says of itself must still be possible to tell.
    pub fn look(&self) {
        let status = self.hub.status(self.now);
        assert!(serde_json::to_string(&status).is_ok_and(|text| text.len() < 100_000));
    }
}

/// The data of the text message of that `type` to `conn`; null if it is no text of Rust's.
pub fn data_of(said: &[Output], conn: u64, kind: &str) -> Option<Value> {
    said.iter().find_map(|output| match output {
        Output::Text { conn: to, text } if to.0 == conn => {
            let message: BTreeMap<&str, &RawValue> = serde_json::from_str(text).expect("a hub says JSON");
            let data = message.get("data").and_then(|data| serde_json::from_str(data.get()).ok());
            (message["type"].get().trim_matches('"') == kind).then(|| data.unwrap_or_default())
        }
        _ => None,
    })
}

/// A hub of the mesh whose every word is the fuzzer's.
pub struct Insider {
    /// Its id.
    pub id: Id,
    /// Its key.
    pub key: HubKey,
    framing: Framing,
    /// The bench's start, as its record tells: streams are marked with it.
    pub epoch: u64,
}

/// The insider's connection.
pub const INSIDE: u64 = 101;

impl Insider {
    /// Proves itself to the hub.
    pub fn join(bench: &mut Bench) -> Self {
        let key = HubKey::from_bytes(&[9; 32]);
        let (public, nonce) = (key.public_key(), [3; 32]);
        let id = hub_id(&public);
        let said = bench.connect(INSIDE, id, true);
        let challenge = data_of(&said, INSIDE, "connected").expect("a greeting")["mesh"].take();
        let challenge: Challenge = serde_json::from_value(challenge).expect("a challenge");
        let transcript = Transcript::socket(NAMESPACE, (&public, &nonce), (&challenge.key, &challenge.nonce));
        let (macs, signature) = transcript.prove(Role::Initiator, [&*KEY].into_iter(), &key);
        let (version, namespace) = (MESH_VERSION, NAMESPACE.to_owned());
        let dialled = String::from("ws://127.0.0.1:3000");
        let hello = Hello {
            version,
            namespace,
            key: public,
            nonce,
            dialled,
            port: 1,
            macs,
            signature,
            bound: Vec::new(),
        };
        let said = bench.text(INSIDE, &json!({"type": "mesh-hello", "data": hello}).to_string());
        assert!(data_of(&said, INSIDE, "mesh-welcome").is_some(), "{said:?}");
        let (send, receive) = transcript.frame_keys(&KEY);
        Self { id, key, framing: Framing::new(Some(FrameKeys { send, receive })), epoch: STARTED }
    }

    /// Says a frame; the frames that come back.
    pub fn say(&mut self, bench: &mut Bench, frame: &[u8]) -> usize {
        let mut answers = 0;
        for message in self.framing.split(frame) {
            for output in bench.tell(Input::Binary { conn: ConnId(INSIDE), bytes: &message }) {
                let Output::Binary { conn: ConnId(INSIDE), bytes } = output else { continue };
                if let Some(frame) = self.framing.join(&bytes).expect("a hub's own message") {
                    assert!(decode::<LinkFrame<'_>>(&frame).is_ok(), "a hub says what can be read");
                    answers += 1;
                }
            }
        }
        answers
    }
}
