//! One line from a caller: a request, or what is wrong with it.

use pigeonhub_proto::control::{CONTROL_VERSION, ControlRequest};
use serde_json::Value;

/// A line that is no request; the text is for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// The request's own number, as far as it has one.
    pub(crate) id: u64,
    /// What is wrong, and what would be right.
    pub(crate) text: String,
}

/// The request on a line.
pub(crate) fn parse(line: &[u8]) -> Result<ControlRequest, Unfit> {
    let fail = |id, text: String| Err(Unfit { id, text });
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(fault) => return fail(0, format!("a request is one JSON object on one line: {fault}")),
    };
    let id = value.get("id").and_then(Value::as_u64).unwrap_or_default();
    if !value.is_object() {
        return fail(id, String::from("a request is a JSON object, like {\"v\":1,\"cmd\":\"status\"}"));
    }
    if value.get("v").and_then(Value::as_u64) != Some(CONTROL_VERSION.into()) {
        return fail(
            id,
            format!("this hub speaks version {CONTROL_VERSION}: put \"v\":{CONTROL_VERSION} in"),
        );
    }
    if !value.get("cmd").is_some_and(Value::is_string) {
        return fail(id, String::from("\"cmd\" is missing or not a string: try \"status\""));
    }
    serde_json::from_value(value).or_else(|fault| fail(id, fault.to_string()))
}
