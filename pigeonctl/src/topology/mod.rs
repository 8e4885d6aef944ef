//! The whole mesh as a picture.

mod draw;
mod export;
mod list;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use pigeonhub_proto::control::{Topology, TopologyHub};

pub(crate) use export::{dot, mermaid, svg};

use crate::look::{Look, Paint, count};
use crate::show::standing;
use crate::text::clean;

/// More hubs than that are listed instead of drawn.
const MOST_DRAWN: usize = 12;
/// Fewer columns than that hold no drawing.
const LEAST_WIDTH: usize = 60;

/// How a hub is, in a word and a colour.
fn state(hub: &TopologyHub) -> (&'static str, Paint) {
    standing(hub.reachable, hub.ready, hub.draining, hub.state)
}

/// Where a hub is, without what every URL begins with.
fn place(hub: &TopologyHub) -> String {
    let url = hub.url.as_deref().unwrap_or_default();
    let bare = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://")).unwrap_or(url);
    clean(bare.trim_end_matches('/'))
}

/// A drawing if it is small enough, else a list.
pub(crate) fn terminal(out: &mut impl Write, look: &Look, mesh: &Topology) -> io::Result<()> {
    let within = mesh.hubs.iter().filter(|hub| hub.reachable).count();
    let small = within > 1 && within <= MOST_DRAWN && look.unicode && look.width >= LEAST_WIDTH;
    if !(small && draw::ring(out, look, mesh)?) {
        list::adjacency(out, look, mesh)?;
    }
    let p2p = mesh.links.iter().filter(|link| link.counted && link.p2p).count();
    let sockets = mesh.links.iter().filter(|link| link.counted && !link.p2p).count();
    let total = format!(
        "{}, {} within reach; {p2p} peer-to-peer and {}",
        count(mesh.hubs.len(), "hub"),
        within,
        count(sockets, "WebSocket link")
    );
    writeln!(out, "{}", look.paint(Paint::Dim, &total))
}
