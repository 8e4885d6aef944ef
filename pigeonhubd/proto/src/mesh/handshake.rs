//! How two hubs prove to each other who they are and that both belong.
//!
//! Over a WebSocket: the accepting hub sends a [`Challenge`] within its
//! `connected` message, the dialling hub answers with a [`Hello`], the
//! accepting hub with a [`Welcome`]. Each proof is an HMAC of the whole
//! exchange under the mesh key, with the prover's role in it, and an Ed25519
//! signature of the same: so neither can be replayed, reflected, or moved to
//! another connection. From the same exchange both derive keys for the frames
//! that follow (HKDF, RFC 5869), since `ws:` itself protects nothing.
//!
//! Over a data channel: offer and answer carry nonces, and as soon as the
//! channel is open each end sends a [`Proof`] over them and over both DTLS
//! fingerprints (RFC 8122), so whoever sits between is found out.

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::identity::{Identity, MeshKey, PublicKey, SignatureBytes, hub_id};
use super::keyring::Keyring;
use crate::id::Id;
use crate::time::Time;

/// The version of the mesh protocol.
pub const MESH_VERSION: u32 = 2;

/// Proofs of mesh keys that one hub may offer.
pub const MAX_MACS: usize = 2;

/// Fresh random bytes.
pub type Nonce = [u8; 32];

/// An HMAC under a mesh key: hexadecimal digits in JSON, bytes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            hex::serialize(&self.0, serializer)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match deserializer.is_human_readable() {
            true => hex::deserialize(deserializer)?,
            false => Deserialize::deserialize(deserializer)?,
        };
        Ok(Self(bytes))
    }
}

/// The accepting hub's opening, in the `connected` message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// [`MESH_VERSION`].
    pub version: u32,
    /// The mesh's name.
    pub namespace: String,
    /// The accepting hub's public key.
    #[serde(with = "hex")]
    pub key: PublicKey,
    /// Its nonce.
    #[serde(with = "hex")]
    pub nonce: Nonce,
}

/// The dialling hub's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MESH_VERSION`].
    pub version: u32,
    /// The mesh's name.
    pub namespace: String,
    /// The dialling hub's public key.
    #[serde(with = "hex")]
    pub key: PublicKey,
    /// Its nonce.
    #[serde(with = "hex")]
    pub nonce: Nonce,
    /// The URL it dialled: how the accepting hub is reached.
    pub dialled: String,
    /// The port it listens on itself.
    pub port: u16,
    /// One under each mesh key that the prover accepts, at most [`MAX_MACS`].
    pub macs: Vec<Mac>,
    /// Ed25519.
    #[serde(with = "hex")]
    pub signature: SignatureBytes,
    /// As `macs`, of `dialled` and `port` too: nobody in between changed them. Hubs of earlier builds
    /// prove neither.
    #[serde(default)]
    pub bound: Vec<Mac>,
}

/// The accepting hub's proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The address from which the accepting hub sees the dialling one.
    pub seen_as: std::net::IpAddr,
    /// One under each mesh key that the prover accepts, at most [`MAX_MACS`].
    pub macs: Vec<Mac>,
    /// Ed25519.
    #[serde(with = "hex")]
    pub signature: SignatureBytes,
    /// As `macs`, of `seen_as` too: see [`Hello::bound`].
    #[serde(default)]
    pub bound: Vec<Mac>,
}

impl Hello {
    /// What else it says, for [`Transcript::bind`].
    pub fn said(&self) -> String {
        format!("{} {}", self.port, self.dialled)
    }
}

impl Welcome {
    /// What else it says, for [`Transcript::bind`].
    pub fn said(&self) -> String {
        self.seen_as.to_string()
    }
}

/// What either end proves once a data channel is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The prover's public key.
    pub key: PublicKey,
    /// As in [`Hello`].
    pub macs: Vec<Mac>,
    /// Ed25519, in two halves: serde knows arrays of up to 32.
    halves: [[u8; 32]; 2],
}

impl Proof {
    /// Of its parts.
    pub fn new(key: PublicKey, macs: Vec<Mac>, signature: &SignatureBytes) -> Self {
        let mut halves = [[0; 32]; 2];
        for (half, bytes) in halves.iter_mut().zip(signature.chunks(32)) {
            half.copy_from_slice(bytes);
        }
        Self { key, macs, halves }
    }

    /// The signature, whole.
    pub fn signature(&self) -> SignatureBytes {
        let mut signature = [0; 64];
        for (bytes, half) in signature.chunks_mut(32).zip(&self.halves) {
            bytes.copy_from_slice(half);
        }
        signature
    }
}

/// Why a handshake failed; the text is for both ends' operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Another protocol.
    #[error("mesh protocol version {theirs}; this hub speaks {MESH_VERSION}")]
    Version {
        /// The far end's.
        theirs: u32,
    },
    /// Another mesh.
    #[error("mesh namespace '{theirs}'; this hub's is '{ours}'")]
    Namespace {
        /// The far end's.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// The mesh keys differ.
    #[error("the mesh keys differ: both hubs need the same mesh.key_file")]
    Key,
    /// The signature does not hold.
    #[error("the hub cannot prove its id")]
    Signature,
    /// The id in the query or the record is another.
    #[error("the hub's key does not belong to the id it uses")]
    Id,
    /// The far end is this very hub.
    #[error("it is this hub itself")]
    Myself,
    /// The far end is another hub with this hub's key.
    #[error("it runs under this hub's own id")]
    Twin,
    /// The far end has no mesh key to prove.
    #[error("it does not prove a mesh key; if it is an older hub, list its address in mesh.legacy_hubs")]
    Old,
    /// The far end said something else than a hub would.
    #[error("this is not how hubs greet each other")]
    Manners,
    /// It took too long.
    #[error("the handshake between the hubs timed out")]
    TimedOut,
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Dialled the WebSocket, or offered the data channel.
    Initiator,
    /// The other.
    Responder,
}

/// Hash of a whole exchange: what both ends prove to have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript([u8; 32]);

impl Transcript {
    /// Of a WebSocket's handshake.
    pub fn socket(namespace: &str, initiator: (&PublicKey, &Nonce), responder: (&PublicKey, &Nonce)) -> Self {
        let parts: [&[u8]; 5] = [namespace.as_bytes(), initiator.0, initiator.1, responder.0, responder.1];
        Self::of(b"pigeonhub socket 1", &parts)
    }

    /// Of a data channel's: ids of the offering and the answering hub, their
    /// nonces, and the DTLS fingerprints of their descriptions.
    pub fn channel(
        namespace: &str,
        attempt: u64,
        offerer: (&Id, &Nonce, &str),
        answerer: (&Id, &Nonce, &str),
    ) -> Self {
        let attempt = attempt.to_be_bytes();
        let parts: [&[u8]; 8] = [
            namespace.as_bytes(),
            &attempt,
            &offerer.0.0,
            offerer.1,
            offerer.2.as_bytes(),
            &answerer.0.0,
            answerer.1,
            answerer.2.as_bytes(),
        ];
        Self::of(b"pigeonhub channel 1", &parts)
    }

    /// Every part with its length, so that no two lists of parts hash the same text.
    fn of(label: &[u8], parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(&label).chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    fn text(&self, role: Role) -> Vec<u8> {
        let mut text = self.0.to_vec();
        text.extend_from_slice(if role == Role::Initiator { b" initiator" } else { b" responder" });
        text
    }

    /// This hub's proof in that role, of each of `keys`.
    pub fn prove<'a>(
        &self,
        role: Role,
        keys: impl Iterator<Item = &'a MeshKey>,
        identity: &dyn Identity,
    ) -> (Vec<Mac>, SignatureBytes) {
        let text = self.text(role);
        (keys.take(MAX_MACS).map(|key| Mac(key.mac(&text))).collect(), identity.sign(&text))
    }

    /// Checks the far end's proof in its role. The mesh key is the one that it
    /// proved, of those that `ring` accepts.
    pub fn check(
        &self,
        role: Role,
        (ring, now): (&Keyring, Time),
        identity: &dyn Identity,
        (public, macs, signature): (&PublicKey, &[Mac], &SignatureBytes),
    ) -> Result<(Id, MeshKey), HandshakeError> {
        let text = self.text(role);
        let proves = |key: &&MeshKey| macs.iter().take(MAX_MACS).any(|mac| key.check(&text, &mac.0));
        let key = ring.accepted(now).find(proves).ok_or(HandshakeError::Key)?;
        if !identity.verify(public, &text, signature) {
            return Err(HandshakeError::Signature);
        }
        Ok((hub_id(public), key.clone()))
    }

    /// Proves what else is said in that role, under each of `keys`.
    pub fn bind<'a>(&self, role: Role, said: &str, keys: impl Iterator<Item = &'a MeshKey>) -> Vec<Mac> {
        let text = self.with(said).text(role);
        keys.take(MAX_MACS).map(|key| Mac(key.mac(&text))).collect()
    }

    /// Whether what else was said in that role is what the far end said, by the mesh key that it proved.
    pub fn is_bound(&self, role: Role, said: &str, key: &MeshKey, macs: &[Mac]) -> bool {
        let text = self.with(said).text(role);
        macs.iter().take(MAX_MACS).any(|mac| key.check(&text, &mac.0))
    }

    fn with(&self, said: &str) -> Self {
        Self::of(b"pigeonhub said 1", &[&self.0, said.as_bytes()])
    }

    /// Keys for the frames of a WebSocket: those of the initiator, then those
    /// of the responder.
    pub fn frame_keys(&self, key: &MeshKey) -> ([u8; 32], [u8; 32]) {
        let secret = key.mac(&self.text(Role::Initiator)[..32]);
        let derive = |info: &[u8]| {
            let mut out = [0; 32];
            // Only a length over 255 hashes could fail.
            let _ = Hkdf::<Sha256>::new(Some(&self.0), &secret).expand(info, &mut out);
            out
        };
        (derive(b"frames of the initiator"), derive(b"frames of the responder"))
    }
}

/// Checks what both openings share.
pub fn check_opening(version: u32, theirs: &str, ours: &str) -> Result<(), HandshakeError> {
    if version != MESH_VERSION {
        return Err(HandshakeError::Version { theirs: version });
    }
    if theirs != ours {
        return Err(HandshakeError::Namespace {
            theirs: theirs.chars().take(64).collect(),
            ours: ours.to_owned(),
        });
    }
    Ok(())
}

/// The DTLS fingerprint of a session description: the value of its
/// `a=fingerprint` lines, in capitals (RFC 8122, section 5). None if they
/// differ: what is proven must be what DTLS is held to.
pub fn fingerprint(sdp: &str) -> Option<String> {
    let lines = sdp.split(['\n', '\r']);
    let mut values = lines
        .filter_map(|line| line.trim().strip_prefix("a=fingerprint:"))
        .map(|value| value.trim().to_uppercase());
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Bytes as hexadecimal digits in JSON.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; N];
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        match digits {
            Some(digits) if digits.len() == 2 * N => {
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
                    *byte = pair.iter().fold(0, |acc, digit| acc << 4 | *digit as u8);
                }
                Ok(bytes)
            }
            _ => Err(D::Error::custom(format!("expected {} hexadecimal digits", 2 * N))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_description_has_one_fingerprint_or_none() {
        let one = "v=0\r\na=fingerprint:sha-256 aa:bb\r\nm=application 9\r\na=fingerprint:SHA-256 AA:BB\r\n";
        assert_eq!(fingerprint(one).as_deref(), Some("SHA-256 AA:BB"));
        assert_eq!(fingerprint("v=0\r\n"), None);
        // Whichever of two DTLS would take: the other could be proven.
        for other in [
            "a=fingerprint:sha-256 cc:dd\r\n",
            " a=fingerprint:sha-256 cc:dd\n",
            "x\ra=fingerprint:sha-1 aa:bb\n",
        ] {
            assert_eq!(fingerprint(&format!("{one}{other}")), None, "{other:?}");
            assert_eq!(fingerprint(&format!("{other}{one}")), None, "{other:?}");
        }
    }
}
