//! `status`: one screen.

use std::io::{self, Write};
use std::net::IpAddr;

use pigeonhub_proto::control::{EventInfo, MeshState, Offered, Status};

use super::events::event_text;
use super::named;
use crate::look::{Look, Paint, count, duration};
use crate::text::clean;

/// How long a round of dials may take, in milliseconds.
const ROUND: u64 = 60_000;

/// A hub of the mesh in a word and a colour: the words of `status` for this hub, and of the others
/// as much as they tell.
pub(crate) fn standing(
    reachable: bool,
    ready: bool,
    draining: bool,
    state: Option<MeshState>,
) -> (&'static str, Paint) {
    let told = match (draining, ready) {
        (true, _) => Some(MeshState::Draining),
        (false, true) => Some(MeshState::Ready),
        (false, false) => None,
    };
    match state.or(told) {
        _ if !reachable => ("out of reach", Paint::Bad),
        Some(state) => (state.name(), state_paint(state)),
        None => ("not ready", Paint::Warn),
    }
}

/// A state's colour.
pub(crate) fn state_paint(state: MeshState) -> Paint {
    match state {
        MeshState::Ready => Paint::Good,
        MeshState::Joining | MeshState::Draining => Paint::Warn,
        MeshState::Isolated | MeshState::Degraded => Paint::Bad,
    }
}

/// What to do about a hub that is not as it should be. One without others is
/// ready, but whoever gave it bootstraps wants to know why none took it in.
fn hint(status: &Status, events: &[EventInfo]) -> Option<String> {
    let doctor = "pigeonctl doctor looks for the cause";
    if let Some(rejected) = &status.rejected {
        return Some(format!("alone, and not by choice: {rejected}; {doctor}"));
    }
    match status.state {
        MeshState::Draining => None,
        MeshState::Ready if status.known_hubs > 0 => None,
        MeshState::Ready => {
            let text = |event: &EventInfo, field: &str| Some(event.fields.get(field)?.as_str()?.to_owned());
            let failed = |event: &&EventInfo| event.event == "bootstrapDisconnected";
            let last = events.iter().rfind(failed)?;
            // Of a round of dials a refusal says more than that nobody was there.
            let round = |event: &&EventInfo| event.at + ROUND >= last.at;
            let rejected = events.iter().rev().take_while(round).find(|event| event.event == "hubRejected");
            let (of, at) = rejected.map_or((last, "uri"), |rejected| (rejected, "hub"));
            Some(format!("alone, and not by choice: {}: {}; {doctor}", text(of, at)?, text(of, "reason")?))
        }
        _ => Some(doctor.to_owned()),
    }
}

/// What keeps data channels from where they could be reached, if anything does.
pub(crate) fn not_offered(offered: &Offered) -> Option<String> {
    let Offered { addresses, left_out, no_port } = offered;
    let mut told = Vec::new();
    if addresses.is_empty() {
        told.push(String::from("none is offered to other hubs, so no data channel opens"));
    } else if !left_out.is_empty() {
        let shown: Vec<String> = left_out.iter().take(3).map(IpAddr::to_string).collect();
        let more = left_out.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let of = addresses.len() + left_out.len();
        told.push(format!(
            "{} of {of} offered to other hubs, not {}{more}",
            addresses.len(),
            shown.join(", ")
        ));
    }
    if *no_port > 0 {
        let times = if *no_port == 1 { String::from("once") } else { format!("{no_port} times") };
        told.push(format!("all ports of mesh.udp_ports were taken, {times}"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}

/// The hub at a glance, with the last `shown` of its events, the oldest first.
pub(crate) fn status(
    out: &mut impl Write,
    look: &Look,
    status: &Status,
    events: &[EventInfo],
    shown: usize,
) -> io::Result<()> {
    let paint = state_paint(status.state);
    let dot = look.paint(paint, look.sign("●", "*"));
    let name = look.paint(Paint::Bold, &format!("pigeonhubd on port {}", status.port));
    writeln!(out, "{dot} {name}, version {}", clean(&status.version))?;
    let migrated = if status.migrated { ", migrated" } else { "" };
    let state = look.paint(paint, &format!("{}{migrated}", status.state.name()));
    named(out, look, "state", &format!("{state}: {}", clean(&status.reason)))?;
    if let Some(hint) = hint(status, events) {
        named(out, look, "hint", &look.paint(Paint::Warn, &clean(&hint)))?;
    }
    named(out, look, "hub", &status.hub_id.to_string())?;
    let reach = count(status.known_hubs, "other hub");
    let links =
        format!("{} peer-to-peer, {} WebSocket; {reach} within reach", status.p2p_links, status.ws_links);
    named(out, look, "links", &links)?;
    let (networks, connections) =
        (count(status.networks, "network"), count(status.connections, "connection"));
    let peers = format!(
        "{} here, {} elsewhere, in {networks}; {connections}",
        status.local_peers, status.remote_peers
    );
    named(out, look, "peers", &peers)?;
    if let Some(told) = status.offered.as_ref().and_then(not_offered) {
        named(out, look, "addresses", &look.paint(Paint::Warn, &told))?;
    }
    if !status.refused.is_empty() {
        let refused: Vec<String> =
            status.refused.iter().map(|(why, count)| format!("{} {count}", clean(why))).collect();
        named(out, look, "refused", &refused.join(", "))?;
    }
    named(out, look, "uptime", &duration(status.uptime))?;
    if let Some(age) = status.config_age {
        named(out, look, "config", &format!("read {} ago", duration(age)))?;
    }
    if let Some(on_disk) = &status.on_disk {
        let paint = if on_disk.fault.is_some() { Paint::Bad } else { Paint::Warn };
        named(out, look, "on disk", &look.paint(paint, &clean(&on_disk.words())))?;
    }
    let events = events.get(events.len().saturating_sub(shown)..).unwrap_or_default();
    if !events.is_empty() {
        writeln!(out)?;
    }
    for event in events {
        let line = format!("{:>14}  {}", look.ago(event.at), event_text(event));
        writeln!(out, "{}", look.cut(&line, look.width))?;
    }
    Ok(())
}
