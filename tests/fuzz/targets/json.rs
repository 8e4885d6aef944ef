//! JSON: what is proven quickly is what serde_json takes, byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pigeonhub_proto::wire::json::Json;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let expected = serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    assert_eq!(Json::parse(text).map(Json::get), expected);
});
