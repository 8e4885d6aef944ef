//! Who a hub is, and how it proves it.
//!
//! A hub's id is the first 20 bytes of its Ed25519 public key's SHA-256, so
//! only the key's holder can speak for the id. That a hub belongs to the mesh
//! it proves with the mesh key, a secret that all hubs of a mesh share.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::id::{ID_LEN, Id};

/// An Ed25519 public key.
pub type PublicKey = [u8; 32];

/// An Ed25519 signature.
pub type SignatureBytes = [u8; 64];

/// Signs for one hub and checks others' signatures.
///
/// A trait so that a simulation of hundreds of hubs can do without the cost
/// of real signatures; the daemon uses [`HubKey`].
pub trait Identity: Send + Sync {
    /// The public half.
    fn public_key(&self) -> PublicKey;
    /// Signs.
    fn sign(&self, message: &[u8]) -> SignatureBytes;
    /// Whether `signature` on `message` was made by the holder of `key`.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &SignatureBytes) -> bool;
}

/// The id that belongs to a public key.
pub fn hub_id(key: &PublicKey) -> Id {
    let digest = Sha256::digest(key);
    let mut id = [0; ID_LEN];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    Id(id)
}

/// A hub's own Ed25519 key.
pub struct HubKey(SigningKey);

impl HubKey {
    /// From its 32 secret bytes.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }
}

impl Identity for HubKey {
    fn public_key(&self) -> PublicKey {
        self.0.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> SignatureBytes {
        self.0.sign(message).to_bytes()
    }

    fn verify(&self, key: &PublicKey, message: &[u8], signature: &SignatureBytes) -> bool {
        VerifyingKey::from_bytes(key)
            .is_ok_and(|key| key.verify(message, &Signature::from_bytes(signature)).is_ok())
    }
}

/// The secret that all hubs of a mesh share.
#[derive(Clone, PartialEq, Eq)]
pub struct MeshKey([u8; 32]);

/// The fewest bytes a mesh key is made of.
pub const MIN_KEY_LEN: usize = 16;

/// A mesh key is too short to be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mesh key has at least {MIN_KEY_LEN} bytes")]
pub struct ShortKey;

impl MeshKey {
    /// From the contents of a key file; white space at either end does not count.
    pub fn new(secret: &[u8]) -> Result<Self, ShortKey> {
        let secret = secret.trim_ascii();
        if secret.len() < MIN_KEY_LEN {
            return Err(ShortKey);
        }
        Ok(Self(Sha256::new().chain_update(b"pigeonhub mesh key 1\0").chain_update(secret).finalize().into()))
    }

    /// As it is used, and may be kept: not what it was made of.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// From [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA-256 (RFC 2104) under this key.
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.0, message)
    }

    /// Whether `mac` is the one for `message`, in constant time.
    pub fn check(&self, message: &[u8], mac: &[u8; 32]) -> bool {
        self.mac(message).ct_eq(mac).into()
    }
}

impl std::fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MeshKey(…)")
    }
}

/// HMAC-SHA-256 (RFC 2104).
pub fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
