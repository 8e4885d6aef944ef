//! Which hub is linked to which, a line each.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pigeonhub_proto::control::Topology;
use pigeonhub_proto::id::Id;

use super::{place, state};
use crate::look::{Look, Paint};
use crate::table::{Cell, table};

/// One line a hub, with its neighbours: `~` is a WebSocket, `?` one that only
/// one end lists.
pub(super) fn adjacency(out: &mut impl Write, look: &Look, mesh: &Topology) -> io::Result<()> {
    let mut of: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    for link in &mesh.links {
        let marks = format!("{}{}", if link.p2p { "" } else { "~" }, if link.counted { "" } else { "?" });
        for (from, to) in [(link.a, link.b), (link.b, link.a)] {
            of.entry(from).or_default().push(to.short() + &marks);
        }
    }
    let rows = mesh.hubs.iter().map(|hub| {
        let (word, paint) = state(hub);
        let own = if hub.own { Paint::Bold } else { Paint::Plain };
        [
            Cell(hub.hub_id.short(), own),
            Cell(word.to_owned(), paint),
            Cell(if hub.own { String::from("this hub") } else { place(hub) }, Paint::Dim),
            Cell::from(of.get(&hub.hub_id).map(|neighbours| neighbours.join(" "))),
        ]
    });
    table(out, look, ["HUB", "STATE", "AT", "LINKS (~ WebSocket, ? one end)"], rows)
}
