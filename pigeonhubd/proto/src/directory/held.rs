//! How much announce data is held. Strangers choose it, so all of it together
//! has a limit; what ordinary clients say of themselves is far below the share
//! that each has in any case.

use super::{Claim, Home};

/// Announce data that a client has in all its networks together, however much others have, in bytes.
pub const CLIENT_SHARE: usize = 4 * 1024;

/// Announce data of one claim that another hub or an old one tells of, however much there is, in bytes.
pub const CLAIM_SHARE: usize = 256;

/// Bytes of announce data of peers here, and again of peers elsewhere. Beyond
/// it whoever has more than its share gets no more.
pub const MOST: usize = 64 * 1024 * 1024;

/// Announce data that is held, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of peers here and at old hubs.
    pub here: usize,
    /// Of peers at other hubs.
    pub elsewhere: usize,
}

impl Held {
    /// What these claims hold.
    pub(super) fn of(claims: &[Claim]) -> Self {
        let mut held = Self::default();
        for claim in claims {
            *held.part(claim.home) += claim.shown.len();
        }
        held
    }

    fn part(&mut self, home: Home) -> &mut usize {
        match home {
            Home::Session(_) | Home::Legacy(_) => &mut self.here,
            Home::Hub(_) => &mut self.elsewhere,
        }
    }

    /// What was `before` is `after` now.
    pub(super) fn replace(&mut self, before: Self, after: Self) {
        self.here = self.here.saturating_sub(before.here) + after.here;
        self.elsewhere = self.elsewhere.saturating_sub(before.elsewhere) + after.elsewhere;
    }

    /// Whether there is room for a claim from `home` with so many bytes in the place of so many.
    pub(super) fn has_room(mut self, home: Home, before: usize, bytes: usize) -> bool {
        bytes <= before || self.part(home).saturating_sub(before) + bytes <= MOST
    }
}
