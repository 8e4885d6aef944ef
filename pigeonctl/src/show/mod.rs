//! Answers, for people and as JSON.

mod config;
mod events;
mod mesh;
mod status;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use pigeonhub_proto::control::{Answer, NetworkInfo, PeerInfo};
use serde_json::json;

pub(crate) use crate::json::{line, lines};
pub(crate) use config::{config, difference};
pub(crate) use events::event;
pub(crate) use mesh::{hubs, links, route, trace, way};
pub(crate) use status::{not_offered, standing, state_paint, status};

use crate::look::{Look, Paint, timestamp};
use crate::table::{Cell, table};
use crate::text::clean;

/// One JSON object a line.
pub(crate) fn json(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Status(status) => line(out, status),
        Answer::Hubs(all) => lines(out, all),
        Answer::Peers(all) => lines(out, all),
        Answer::Networks(all) => lines(out, all),
        Answer::Links(all) => lines(out, all),
        Answer::Topology(topology) => line(out, topology),
        Answer::Route(route) => line(out, route),
        Answer::Trace(all) => lines(out, all),
        Answer::Config(all) => lines(out, all),
        Answer::Events(all) => lines(out, all),
        Answer::Metrics(text) => crate::metrics::as_json(out, text),
        Answer::Reload(report) => line(out, report),
        Answer::Done(text) => line(out, &json!({ "done": text })),
    }
}

/// Lines that begin with a word in a column of its own.
fn named(out: &mut impl Write, look: &Look, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{} {}", look.paint(Paint::Dim, &format!("{name:>10}")), text.trim_end())
}

/// One line a peer.
pub(crate) fn peers(out: &mut impl Write, look: &Look, peers: &[PeerInfo]) -> io::Result<()> {
    let rows = peers.iter().map(|peer| {
        let hub = match peer.local {
            true => Cell(String::from("here"), Paint::Good),
            false => Cell::from(peer.hub_id.to_string()),
        };
        [
            Cell::from(peer.peer_id.as_str()),
            Cell::from(peer.network.as_str()),
            hub,
            Cell(look.ago(peer.announced_at), Paint::Dim),
        ]
    });
    table(out, look, ["PEER", "NETWORK", "HUB", "ANNOUNCED"], rows)
}

/// All there is to say of one peer, which is in each of `networks`.
pub(crate) fn peer(out: &mut impl Write, look: &Look, networks: &[PeerInfo]) -> io::Result<()> {
    let Some(first) = networks.first() else { return Ok(()) };
    named(out, look, "peer", &clean(&first.peer_id))?;
    for peer in networks {
        let at = if peer.local { String::from("here") } else { format!("at hub {}", peer.hub_id) };
        let since = format!("announced {} ({})", look.ago(peer.announced_at), timestamp(peer.announced_at));
        named(out, look, "network", &format!("{}: {at}, {since}", clean(&peer.network)))?;
    }
    Ok(())
}

/// One line a network.
pub(crate) fn networks(out: &mut impl Write, look: &Look, networks: &[NetworkInfo]) -> io::Result<()> {
    let rows = networks.iter().map(|network| {
        [
            Cell::from(network.network.as_str()),
            Cell::from(network.local_peers.to_string()),
            Cell::from(network.remote_peers.to_string()),
            Cell::from(network.hubs.to_string()),
        ]
    });
    table(out, look, ["NETWORK", ">HERE", ">ELSEWHERE", ">OTHER HUBS"], rows)
}
