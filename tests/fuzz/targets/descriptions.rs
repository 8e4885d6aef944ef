//! Session descriptions and fingerprints from other hubs, as far as they are read here.
#![no_main]

/// As in `channel`.
const MAX_CANDIDATES: usize = 64;

#[allow(dead_code, reason = "the module is included whole")]
#[path = "../../../pigeonhubd/src/channel/sdp.rs"]
mod sdp;

use libfuzzer_sys::fuzz_target;
use pigeonhub_proto::mesh::handshake::fingerprint;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let bounded = sdp::bound(text);
    assert!(bounded.len() <= text.len());
    assert!(bounded.lines().filter(|line| line.starts_with("a=candidate:")).count() <= MAX_CANDIDATES);
    if let Some(value) = fingerprint(text) {
        // What is proven is what DTLS is given.
        assert!(fingerprint(&bounded).is_none_or(|given| given == value));
        assert_eq!(fingerprint(&format!("{text}\na=fingerprint:{value}")), Some(value));
    }
});
