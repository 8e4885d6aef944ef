//! Events, one a line.

use std::io::{self, Write};

use pigeonhub_proto::control::EventInfo;
use serde_json::Value;

use crate::look::{Look, Paint, timestamp};
use crate::text::{clean, shortened};

/// When, what, and about what.
pub(crate) fn event(out: &mut impl Write, look: &Look, event: &EventInfo) -> io::Result<()> {
    let paint = match event.event.as_str() {
        "hubMeshReady" | "hubMeshMigrated" => Paint::Good,
        "hubMeshDegraded" | "hubRejected" | "refused" => Paint::Warn,
        _ => Paint::Bold,
    };
    let at = look.paint(Paint::Dim, &timestamp(event.at));
    writeln!(out, "{at} {}{}", look.paint(paint, &clean(&event.event)), fields(event))
}

/// An event without its time, and with ids cut short.
pub(crate) fn event_text(event: &EventInfo) -> String {
    let mut short = event.clone();
    for value in short.fields.values_mut() {
        if let Value::String(text) = value {
            *text = shortened(text).to_owned();
        }
    }
    clean(&event.event) + &fields(&short)
}

/// Each field as ` name=value`; a text in quotes if it has spaces.
fn fields(event: &EventInfo) -> String {
    let value = |value: &Value| match value {
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => clean(text),
        Value::String(text) => clean(&format!("{text:?}")),
        other => clean(&other.to_string()),
    };
    event.fields.iter().map(|(name, of)| format!(" {}={}", clean(name), value(of))).collect()
}
