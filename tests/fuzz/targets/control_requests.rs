//! Lines on the control socket.
#![no_main]

#[path = "../../../pigeonhubd/src/control/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;
use pigeonhub_proto::control::ControlRequest;

fuzz_target!(|data: &[u8]| {
    match request::parse(data) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("JSON");
            let again: ControlRequest = serde_json::from_slice(&line).expect("a request");
            assert_eq!(again, request);
        }
        Err(unfit) => {
            assert!(!unfit.text.is_empty() && unfit.text.len() < 4096 + 8 * data.len());
            let _ = unfit.id;
        }
    }
});
