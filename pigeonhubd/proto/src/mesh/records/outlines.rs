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
    /// How often something changed of which paths are made.
    changes: u64,
}

/// The links of these rows, and those after them.
fn links_of<'a>(rows: &[Row], links: &'a [LinkEntry]) -> (&'a [LinkEntry], &'a [LinkEntry]) {
    let count = rows.iter().map(|row| row.links).sum();
    links.split_at_checked(count).unwrap_or_default()
}

impl Outlines {
    /// A record came, went, or has another outline.
    pub(super) fn changed(&mut self, hub: Id) {
        self.stale.insert(hub);
        self.changes += 1;
    }

    /// A hub came within reach, or is no longer.
    pub(super) fn reach(&mut self, hub: &Id, within_reach: bool) {
        // A stale row will be made of the record anyway.
        if let Ok(at) = self.rows.binary_search_by_key(hub, |row| row.hub)
            && let Some(row) = self.rows.get_mut(at)
        {
            row.within_reach = within_reach;
        }
    }

    /// As long as this number is the same, so are hubs and links.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes over what changed: `record` tells what is held of a hub now.
    pub(super) fn refresh<'a>(&mut self, record: impl Fn(&Id) -> Option<Outline<'a>>) {
        if self.stale.is_empty() {
            return;
        }
        let Self { rows, links, stale, changes } = std::mem::take(self);
        self.changes = changes;
        self.rows.reserve(rows.len() + stale.len());
        self.links.reserve(links.len());
        let (mut rows, mut links) = (rows.as_slice(), links.as_slice());
        for hub in stale {
            // What lies between two stale ones is taken over as it is.
            let (kept, rest) = rows.split_at(rows.partition_point(|row| row.hub < hub));
            let (kept_links, rest_links) = links_of(kept, links);
            self.rows.extend_from_slice(kept);
            self.links.extend_from_slice(kept_links);
            (rows, links) = (rest, rest_links);
            if let Some((old, rest)) = rows.split_first()
                && old.hub == hub
            {
                (rows, links) = (rest, links_of(std::slice::from_ref(old), links).1);
            }
            self.extend(record(&hub));
        }
        self.rows.extend_from_slice(rows);
        self.links.extend_from_slice(links);
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
