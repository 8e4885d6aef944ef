//! How many peers there are, kept as they come and go: looking at all of them for a page or a status line
//! would keep everyone waiting.

use std::collections::BTreeMap;

use crate::id::Id;

/// Where a peer is in one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Here,
    Elsewhere,
}

/// Peers, by how many of their networks they are in here and elsewhere.
#[derive(Debug, Default)]
pub(super) struct Census {
    networks: BTreeMap<Id, (u32, u32)>,
    here: usize,
    elsewhere: usize,
}

impl Census {
    /// A peer came to a network, moved, or left it.
    pub(super) fn moved(&mut self, peer: Id, before: Option<Where>, after: Option<Where>) {
        if before == after {
            return;
        }
        let (here, elsewhere) = self.networks.get(&peer).copied().unwrap_or_default();
        let change = |count: u32, place: Where| {
            count + u32::from(after == Some(place)) - u32::from(before == Some(place)).min(count)
        };
        let now = (change(here, Where::Here), change(elsewhere, Where::Elsewhere));
        self.here = self.here + usize::from(now.0 > 0) - usize::from(here > 0);
        self.elsewhere = self.elsewhere + usize::from(now.1 > 0) - usize::from(elsewhere > 0);
        if now == (0, 0) {
            self.networks.remove(&peer);
        } else {
            self.networks.insert(peer, now);
        }
    }

    /// Number of peers connected here, and of others.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.here, self.elsewhere)
    }
}
