//! Hubs, links, and ways through the mesh.

use std::io::{self, Write};

use pigeonhub_proto::control::{HubInfo, LinkInfo, ProbeHop, RouteInfo};
use pigeonhub_proto::id::Id;

use super::{named, standing};
use crate::look::{Look, Paint, bytes, duration, millis};
use crate::table::{Cell, table};
use crate::text::clean;

/// A hub that never told its id, as JavaScript hubs that were dialled do not.
fn is_unnamed(hub: &Id) -> bool {
    *hub == Id::default()
}

fn hub_cell(hub: Option<&Id>) -> Cell {
    match hub.filter(|hub| !is_unnamed(hub)) {
        Some(hub) => Cell::from(hub.to_string()),
        None => Cell(String::from("an older hub"), Paint::Dim),
    }
}

/// One line a hub.
pub(crate) fn hubs(out: &mut impl Write, look: &Look, hubs: &[HubInfo]) -> io::Result<()> {
    let rows = hubs.iter().map(|hub| {
        let (state, paint) = match hub {
            HubInfo { link: Some(link), .. } if link == "legacy" => ("older", Paint::Plain),
            hub => standing(hub.reachable, hub.ready, hub.draining, hub.state),
        };
        let state = if hub.own { format!("{state}, this hub") } else { state.to_owned() };
        let via = match hub {
            HubInfo { own: true, .. } | HubInfo { distance: Some(0 | 1), .. } => String::new(),
            hub => hub.next_hop.map(|hop| hop.short()).unwrap_or_default(),
        };
        [
            hub_cell(Some(&hub.hub_id)),
            Cell(state, paint),
            Cell::from(hub.link.clone()),
            Cell::from(hub.distance.map(|distance| distance.to_string())),
            Cell::from(via),
            Cell::from(hub.rtt_us.map(millis)),
            Cell::from(hub.urls.join(" ")),
        ]
    });
    table(out, look, ["HUB", "STATE", "LINK", ">HOPS", "VIA", ">ROUND TRIP", "URL"], rows)
}

/// One line a link.
pub(crate) fn links(out: &mut impl Write, look: &Look, links: &[LinkInfo]) -> io::Result<()> {
    let rows = links.iter().map(|link| {
        let (transport, paint) = match link.transport.as_str() {
            "p2p" => ("peer-to-peer", Paint::Good),
            "ws" if link.fallback => ("WebSocket, as fallback", Paint::Bad),
            "ws" => ("WebSocket", Paint::Warn),
            "legacy" => ("WebSocket, older hub", Paint::Plain),
            other => (other, Paint::Plain),
        };
        let addresses = match (&link.local_address, &link.remote_address) {
            (Some(local), Some(remote)) => format!("{local} {} {remote}", look.sign("→", "->")),
            (None, Some(remote)) => remote.clone(),
            (local, None) => local.clone().unwrap_or_default(),
        };
        [
            hub_cell(link.hub_id.as_ref()),
            Cell(transport.to_owned(), paint),
            Cell::from(duration(link.age)),
            Cell::from(link.rtt_us.map(millis)),
            Cell::from(bytes(link.bytes_sent)),
            Cell::from(bytes(link.bytes_received)),
            Cell::from(addresses),
        ]
    });
    table(out, look, ["HUB", "LINK", ">AGE", ">ROUND TRIP", ">SENT", ">RECEIVED", "ADDRESSES"], rows)
}

/// To whom, over whom, and why.
pub(crate) fn route(out: &mut impl Write, look: &Look, route: &RouteInfo) -> io::Result<()> {
    let hub = match is_unnamed(&route.hub_id) {
        true => String::from("an older hub"),
        false => format!("hub {}", route.hub_id),
    };
    match &route.peer_id {
        Some(peer) => {
            named(out, look, "to", &format!("peer {}", clean(peer)))?;
            if let Some(network) = &route.network {
                named(out, look, "network", &clean(network))?;
            }
            named(out, look, "at", &hub)?;
        }
        None => named(out, look, "to", &hub)?,
    }
    way(out, look, route)
}

/// One line a hub on the way.
pub(crate) fn trace(out: &mut impl Write, look: &Look, hops: &[ProbeHop]) -> io::Result<()> {
    let rows = hops.iter().map(|hop| {
        let end = if hop.last { Cell(String::from("reached"), Paint::Good) } else { Cell::from("") };
        [Cell::from(hop.hop.to_string()), Cell::from(hop.hub_id.to_string()), millis(hop.rtt_us).into(), end]
    });
    table(out, look, [">HOP", "HUB", ">ROUND TRIP", ""], rows)
}

/// Only the way of a route, below what is known of its end.
pub(crate) fn way(out: &mut impl Write, look: &Look, route: &RouteInfo) -> io::Result<()> {
    let path: Vec<String> = route.path.iter().map(|hub| step(hub, route.path.first())).collect();
    let arrow = look.sign(" → ", " -> ");
    let path = if path.is_empty() { look.paint(Paint::Bad, "none") } else { path.join(arrow) };
    named(out, look, "path", &path)?;
    named(out, look, "why", &clean(&route.why))
}

fn step(hub: &Id, first: Option<&Id>) -> String {
    match hub {
        _ if first == Some(hub) => String::from("here"),
        _ if is_unnamed(hub) => String::from("an older hub"),
        _ => hub.short(),
    }
}
