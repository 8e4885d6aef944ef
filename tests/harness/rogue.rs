//! A hub that breaks the rules, made of the hub's own parts: what an attacker
//! would build from the published source.

use std::net::TcpListener;

use pigeonhub_proto::id::Id;
use pigeonhub_proto::mesh::frame::{FrameKeys, Framing};
use pigeonhub_proto::mesh::handshake::{Challenge, Hello, MESH_VERSION, Nonce, Role, Transcript, Welcome};
use pigeonhub_proto::mesh::identity::{HubKey, Identity, MeshKey, PublicKey, hub_id};
use pigeonhub_proto::mesh::record::{Record, SignedRecord};
use pigeonhub_proto::wire::mesh::{LinkFrame, SignedBytes, decode, encode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::raw::Raw;
use super::{Ground, Hub, until};

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

/// A hub that this test speaks for.
pub(crate) struct Rogue {
    /// The id that its key gives it.
    pub(crate) id: Id,
    /// Its own key.
    pub(crate) identity: HubKey,
    key: MeshKey,
    namespace: String,
}

impl Rogue {
    /// With a hub key of its own, and `key` for the mesh's.
    pub(crate) fn new(key: &MeshKey) -> Self {
        let identity = HubKey::from_bytes(&random());
        let id = hub_id(&identity.public_key());
        Self { id, identity, key: key.clone(), namespace: "pigeonhub-mesh".to_owned() }
    }

    /// Of another mesh, by name.
    pub(crate) fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// Answers a challenge in the name of `public`, as well as it can without that one's secret.
    pub(crate) fn hello(&self, challenge: &Challenge, public: PublicKey) -> (Hello, Transcript) {
        let nonce = random();
        let transcript =
            Transcript::socket(&self.namespace, (&public, &nonce), (&challenge.key, &challenge.nonce));
        let (macs, signature) = transcript.prove(Role::Initiator, [&self.key].into_iter(), &self.identity);
        let hello = Hello {
            version: MESH_VERSION,
            namespace: self.namespace.clone(),
            key: public,
            nonce,
            dialled: "ws://127.0.0.1:1".to_owned(),
            port: 1,
            macs,
            signature,
            bound: Vec::new(),
        };
        (hello, transcript)
    }

    /// Dials a hub and tries to prove itself; the hub decides what comes of it.
    pub(crate) fn try_to_join(&self, hub: &Hub) -> Raw {
        let (mut raw, challenge) = greeted(hub, self.id);
        let (hello, _) = self.hello(&challenge, self.identity.public_key());
        say_hello(&mut raw, &hello);
        raw
    }

    /// Dials a hub and joins its mesh.
    pub(crate) fn join(&self, hub: &Hub) -> Link {
        let (mut raw, challenge) = greeted(hub, self.id);
        let (hello, transcript) = self.hello(&challenge, self.identity.public_key());
        say_hello(&mut raw, &hello);
        raw.wait_type("mesh-welcome");
        let (send, receive) = transcript.frame_keys(&self.key);
        let mut link = Link { raw, framing: Framing::new(Some(FrameKeys { send, receive })), beats: 0 };
        link.settle();
        link
    }

    /// Greets a hub that dialled it: the `connected` message, and the challenge in it.
    pub(crate) fn challenge(&self, to: Id) -> (Value, Nonce) {
        let nonce = random();
        let challenge = Challenge {
            version: MESH_VERSION,
            namespace: self.namespace.clone(),
            key: self.identity.public_key(),
            nonce,
        };
        let data = json!({"peerId": to.to_string(), "mesh": challenge});
        (json!({"type": "connected", "fromPeerId": "system", "timestamp": 1, "data": data}), nonce)
    }

    /// Answers the hello of a hub that dialled it.
    pub(crate) fn welcome(&self, nonce: &Nonce, hello: &Value) -> Value {
        let hello: Hello = serde_json::from_value(hello["data"].clone()).expect("a hello");
        let own = self.identity.public_key();
        let transcript = Transcript::socket(&self.namespace, (&hello.key, &hello.nonce), (&own, nonce));
        let (macs, signature) = transcript.prove(Role::Responder, [&self.key].into_iter(), &self.identity);
        let welcome = Welcome { seen_as: [127, 0, 0, 1].into(), macs, signature, bound: Vec::new() };
        json!({"type": "mesh-welcome", "data": welcome, "fromPeerId": "system", "timestamp": 1})
    }
}

/// Connects to a hub as a hub with `id` does, and takes its challenge.
pub(crate) fn greeted(hub: &Hub, id: Id) -> (Raw, Challenge) {
    let mut raw = Raw::open(hub, &format!("/?peerId={id}&mesh=1"));
    let greeting = raw.wait_type("connected");
    let challenge = serde_json::from_value(greeting["data"]["mesh"].clone()).expect("a challenge");
    (raw, challenge)
}

/// Sends a hello.
pub(crate) fn say_hello(raw: &mut Raw, hello: &Hello) {
    raw.say(&json!({"type": "mesh-hello", "data": hello}));
}

/// A link that the hub takes for good: proven, with the right key.
pub(crate) struct Link {
    /// The WebSocket below it.
    pub(crate) raw: Raw,
    framing: Framing,
    beats: u64,
}

impl Link {
    /// The messages that carry a frame, sealed but not sent.
    pub(crate) fn seal(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.framing.split(frame).into_iter().map(|message| message.to_vec()).collect()
    }

    /// Sends any bytes as a frame.
    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        for message in self.seal(frame) {
            self.raw.send(Message::binary(message));
        }
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, frame: &LinkFrame<'_>) {
        self.send_frame(&encode(frame));
    }

    /// The records of all hubs that the hub knows of, by its own word.
    pub(crate) fn ask_for_records(&mut self) -> Vec<(Record, SignedRecord)> {
        self.send(&LinkFrame::Summary(Vec::new().into()));
        loop {
            let message = self.raw.wait_binary();
            let Some(frame) = self.framing.join(&message).expect("an honest hub's message") else { continue };
            let Ok(LinkFrame::Records(records)) = decode(&frame) else { continue };
            let read = |signed| SignedRecord::read(signed).expect("an honest hub's record");
            let signature = |signed: &SignedBytes<'_>| {
                signed.signature.as_ref().try_into().expect("an honest hub's signature")
            };
            let signed = records.iter().map(|signed| SignedRecord::new(&signed.body, &signature(signed)));
            return records.iter().map(read).zip(signed).collect();
        }
    }

    /// Waits until the hub has dealt with all that this link sent, by a heartbeat.
    pub(crate) fn settle(&mut self) {
        self.beats += 1;
        let sent_us = self.beats;
        self.send(&LinkFrame::Heartbeat { digest: 0, sent_us });
        loop {
            let message = self.raw.wait_binary();
            let Some(frame) = self.framing.join(&message).expect("an honest hub's message") else { continue };
            if decode(&frame) == Ok(LinkFrame::HeartbeatEcho { sent_us }) {
                return;
            }
        }
    }
}

/// Where a rogue waits for hubs that dial it.
pub(crate) struct Lair {
    listener: TcpListener,
    port: u16,
}

impl Lair {
    /// On a free port of 127.0.0.1.
    pub(crate) fn new(ground: &Ground) -> Self {
        let port = ground.port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        Self { listener, port }
    }

    /// Where hubs find it.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// The next hub that dials.
    pub(crate) fn accept(&self) -> Raw {
        let (stream, _) = until("a hub dials", || self.listener.accept().ok());
        stream.set_nonblocking(false).expect("a socket option");
        Raw::over(tungstenite::accept(stream).expect("a WebSocket"))
    }
}
