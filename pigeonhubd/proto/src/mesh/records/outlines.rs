//! What a look at the mesh needs of every record.
//!
//! It reads this of all hubs at once, and of a large mesh's records only this
//! fits into a processor's caches: so it is kept apart, end to end.

use std::collections::BTreeSet;

use crate::id::Id;
use crate::mesh::record::LinkEntry;

/// What a look at the mesh needs of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline<'a> {
    /// Whose record it is.
    pub hub: Id,
    /// The hub is within reach.
    pub within_reach: bool,
    /// As in the record.
    pub max_peers: u8,
    /// As in the record.
    pub draining: bool,
    /// As in the record.
    pub links: &'a [LinkEntry],
}

/// The same without the links, and how many those are.
#[derive(Clone, Copy, Debug)]
struct Row {
    hub: Id,
    within_reach: bool,
    max_peers: u8,
    draining: bool,
    links: usize,
}

/// The outlines of all records, by hub.
#[derive(Debug, Default)]
pub struct Outlines {
    rows: Vec<Row>,
    /// Those of the first row, those of the second, and so on.
    links: Vec<LinkEntry>,
    /// Hubs whose rows are not as their records are.
    stale: BTreeSet<Id>,
}

impl Outlines {
    /// A record came, went, or has another outline.
    pub(super) fn changed(&mut self, hub: Id) {
        self.stale.insert(hub);
    }

    /// Takes over what changed: `record` tells what is held of a hub now.
    pub(super) fn refresh<'a>(&mut self, record: impl Fn(&Id) -> Option<Outline<'a>>) {
        if self.stale.is_empty() {
            return;
        }
        let Self { rows, links, stale } = std::mem::take(self);
        let (mut kept, mut stale) = (links.as_slice(), stale.into_iter().peekable());
        self.rows.reserve(rows.len() + stale.len());
        self.links.reserve(links.len());
        for row in rows {
            let (old, rest) = kept.split_at_checked(row.links).unwrap_or_default();
            kept = rest;
            while let Some(new) = stale.next_if(|hub| *hub < row.hub) {
                self.extend(record(&new));
            }
            if stale.next_if_eq(&row.hub).is_some() {
                self.extend(record(&row.hub));
            } else {
                self.rows.push(row);
                self.links.extend_from_slice(old);
            }
        }
        for new in stale {
            self.extend(record(&new));
        }
    }

    fn extend(&mut self, outline: Option<Outline<'_>>) {
        let Some(Outline { hub, within_reach, max_peers, draining, links }) = outline else { return };
        self.rows.push(Row { hub, within_reach, max_peers, draining, links: links.len() });
        self.links.extend_from_slice(links);
    }

    /// All of them, by hub.
    pub fn iter(&self) -> impl Iterator<Item = Outline<'_>> {
        let mut rest = self.links.as_slice();
        self.rows.iter().map(move |row| {
            let Row { hub, within_reach, max_peers, draining, links } = *row;
            let (links, others) = rest.split_at_checked(links).unwrap_or_default();
            rest = others;
            Outline { hub, within_reach, max_peers, draining, links }
        })
    }
}
