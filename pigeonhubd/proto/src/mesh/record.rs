//! What a hub says of itself to the mesh.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::identity::{Identity, PublicKey, SignatureBytes, hub_id};
use crate::id::Id;
use crate::wire::mesh::{RecordVersion, SignedBytes, decode, decode_head, encode, encode_onto};

/// The largest record, in bytes.
pub const MAX_RECORD: usize = 40 * 1024;
/// Links that a record lists at most.
pub const MAX_LINKS: usize = 512;
/// Networks that a record lists at most; a hub with more says so.
pub const MAX_NETWORKS: usize = 2048;
/// URLs that a record lists at most.
pub const MAX_URLS: usize = 4;
/// The longest URL, in bytes.
pub const MAX_URL: usize = 512;

/// A hub's record. Only the hub itself can make one: it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The hub's public key; its id follows from it.
    pub key: PublicKey,
    /// When the hub started, in ms since the Unix epoch. A later epoch is a
    /// later run of the same hub.
    pub epoch: u64,
    /// Counts the changes within one epoch.
    pub version: u64,
    /// URLs under which other hubs reach it.
    pub urls: Vec<String>,
    /// Its open, proven links.
    pub links: Vec<LinkEntry>,
    /// Hashes of the networks in which it has peers.
    pub networks: Vec<u64>,
    /// Its list of networks is not complete.
    pub more_networks: bool,
    /// P2P links that it holds at most.
    pub max_peers: u8,
    /// The mesh is ready, as that hub sees it.
    pub ready: bool,
    /// It is leaving.
    pub draining: bool,
}

/// The first fields of a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// See [`Record::key`].
    pub key: PublicKey,
    /// See [`Record::epoch`].
    pub epoch: u64,
    /// See [`Record::version`].
    pub version: u64,
}

/// One open link of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkEntry {
    /// The hub at the other end.
    pub hub: Id,
    /// Over a data channel, not a WebSocket.
    pub p2p: bool,
}

impl Record {
    /// Whose record it is.
    pub fn hub(&self) -> Id {
        hub_id(&self.key)
    }

    /// Which version it is.
    pub fn version_of(&self, hub: Id) -> RecordVersion {
        RecordVersion { hub, epoch: self.epoch, version: self.version }
    }

    /// Becomes a newer version, in the memory of this one where that will do: a large mesh's
    /// records are in no cache, and to allocate and free touches more of them than to write.
    pub(super) fn renew(&mut self, newer: Self) {
        fn renewed<T: Clone + PartialEq>(held: &mut Vec<T>, newer: &Vec<T>) -> Vec<T> {
            let mut held = std::mem::take(held);
            if held != *newer {
                held.clone_from(newer);
            }
            held
        }
        *self = Self {
            urls: renewed(&mut self.urls, &newer.urls),
            links: renewed(&mut self.links, &newer.links),
            networks: renewed(&mut self.networks, &newer.networks),
            ..newer
        };
    }

    /// Whether the hub has peers in a network of that hash, as far as it tells.
    pub fn serves(&self, network: u64) -> bool {
        self.more_networks || self.networks.binary_search(&network).is_ok()
    }
}

/// A record as it travels: [`SignedBytes`] in postcard, as one block, so that
/// to pass it on is to copy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    bytes: Arc<[u8]>,
    /// Length of the record in it, which the signature follows.
    body: usize,
}

/// Bytes of the length before a record in postcard, at most.
const HEAD: usize = 4;
/// The bytes of a signature in postcard: its length, and itself.
const SIGNATURE: usize = 1 + size_of::<SignatureBytes>();

/// Why a record is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not in the format, or over a limit.
    #[error("malformed record")]
    Malformed,
    /// Not signed by the key it names.
    #[error("record with a wrong signature")]
    BadSignature,
}

impl SignedRecord {
    /// From a record in postcard, and an Ed25519 signature over the namespace and that.
    pub fn new(body: &[u8], signature: &SignatureBytes) -> Self {
        const { assert!(SIGNATURE <= 128, "a length of one byte") };
        let mut bytes = encode_onto(&body.len(), Vec::with_capacity(HEAD + body.len() + SIGNATURE));
        bytes.extend_from_slice(body);
        bytes.push(signature.len() as u8);
        bytes.extend_from_slice(signature);
        Self { bytes: bytes.into(), body: body.len() }
    }

    /// Signs a record.
    pub fn sign(record: &Record, namespace: &str, identity: &dyn Identity) -> Self {
        let body = encode(record);
        let signature = identity.sign(&signed_text(namespace, &body));
        Self::new(&body, &signature)
    }

    /// Which version of whose record came from a link: all that is needed of
    /// one that is no news, as most are in a large mesh. Nothing is checked yet.
    pub fn head(signed: &SignedBytes<'_>) -> Result<Head, RecordError> {
        // As serde does it, but not byte by byte: it is done more often than all else here.
        let (key, rest) = signed.body.split_first_chunk().ok_or(RecordError::Malformed)?;
        let (epoch, version) = decode_head(rest).map_err(|_| RecordError::Malformed)?;
        Ok(Head { key: *key, epoch, version })
    }

    /// Reads what came from a link. The signature is not checked yet.
    pub fn read(signed: &SignedBytes<'_>) -> Result<Record, RecordError> {
        if signed.body.len() > MAX_RECORD {
            return Err(RecordError::Malformed);
        }
        let record: Record = decode(&signed.body).map_err(|_| RecordError::Malformed)?;
        let within = record.urls.len() <= MAX_URLS
            && record.urls.iter().all(|url| url.len() <= MAX_URL)
            && record.links.len() <= MAX_LINKS
            && record.networks.len() <= MAX_NETWORKS
            && record.networks.is_sorted();
        if !within {
            return Err(RecordError::Malformed);
        }
        Ok(record)
    }

    /// Checks the signature of what [`Self::read`] has read.
    pub fn verify(
        signed: &SignedBytes<'_>,
        record: &Record,
        namespace: &str,
        identity: &dyn Identity,
    ) -> Result<Self, RecordError> {
        let signature = signed.signature.as_ref().try_into().map_err(|_| RecordError::Malformed)?;
        if !identity.verify(&record.key, &signed_text(namespace, &signed.body), &signature) {
            return Err(RecordError::BadSignature);
        }
        Ok(Self::new(&signed.body, &signature))
    }

    /// The record, in postcard.
    pub fn body(&self) -> &[u8] {
        let (body, _) = self.bytes.split_at(self.bytes.len() - SIGNATURE);
        &body[body.len() - self.body..]
    }

    /// As it goes over a link.
    pub fn as_signed_bytes(&self) -> SignedBytes<'_> {
        let (_, signature) = self.bytes.split_at(self.bytes.len() - SIGNATURE + 1);
        SignedBytes { body: self.body().into(), signature: signature.into() }
    }

    /// The same in postcard.
    pub fn encoded(&self) -> &[u8] {
        &self.bytes
    }
}

fn signed_text(namespace: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(32 + namespace.len() + body.len());
    text.extend_from_slice(b"pigeonhub record 1\0");
    text.extend_from_slice(namespace.as_bytes());
    text.push(0);
    text.extend_from_slice(body);
    text
}
