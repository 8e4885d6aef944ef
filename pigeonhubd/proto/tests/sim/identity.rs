//! Hub identities: real Ed25519, or a stand-in that costs next to nothing.

use std::sync::Arc;

use pigeonhub_proto::mesh::identity::{HubKey, Identity, PublicKey, SignatureBytes};

use super::rng::{Rng, mix};

/// Signs with a keyed hash whose key is the public key: anyone can check it
/// (and could forge it, which nobody in the simulation tries).
struct CheapKey(PublicKey);

/// An identity made from `seed`.
pub(crate) fn identity(seed: u64, real: bool) -> Arc<dyn Identity> {
    let secret = Rng::new(seed).bytes();
    if real { Arc::new(HubKey::from_bytes(&secret)) } else { Arc::new(CheapKey(secret)) }
}

fn digest(key: &PublicKey, message: &[u8]) -> SignatureBytes {
    let mut state = message.len() as u64;
    for part in [key, message] {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mix(state ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }
    let mut out = [0; 64];
    for (i, chunk) in out.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mix(state ^ i as u64).to_le_bytes());
    }
    out
}

impl Identity for CheapKey {
    fn public_key(&self) -> PublicKey {
        self.0
    }

    fn sign(&self, message: &[u8]) -> SignatureBytes {
        digest(&self.0, message)
    }

    fn verify(&self, key: &PublicKey, message: &[u8], signature: &SignatureBytes) -> bool {
        *signature == digest(key, message)
    }
}

#[test]
fn each_kind_signs_for_itself_alone() {
    for real in [true, false] {
        let (a, b) = (identity(1, real), identity(2, real));
        let signature = a.sign(b"hello");
        assert!(b.verify(&a.public_key(), b"hello", &signature));
        assert!(!b.verify(&a.public_key(), b"hellp", &signature));
        assert!(!b.verify(&b.public_key(), b"hello", &signature));
    }
}
