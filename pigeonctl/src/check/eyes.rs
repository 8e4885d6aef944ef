//! Looking at files as another user does.

use nix::errno::Errno;
use nix::unistd::{self, Gid, Uid, User};
use std::ffi::CString;

/// While it lives, files are opened as a user opens them, by owner, group, mode and lists of access
/// alike. Root's own right is put aside, not given up.
pub(super) struct Eyes {
    own: (Uid, Gid, Vec<Gid>),
}

impl Eyes {
    /// Only root can look as another user.
    pub(super) fn of(user: &User) -> Result<Self, Errno> {
        let own = (unistd::geteuid(), unistd::getegid(), unistd::getgroups()?);
        let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
        let eyes = Self { own };
        unistd::initgroups(&name, user.gid)?;
        unistd::setegid(user.gid)?;
        unistd::seteuid(user.uid)?;
        Ok(eyes)
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        let (uid, gid, groups) = &self.own;
        // In this order: only root may change groups. It cannot fail for whom it was possible before.
        let _ = unistd::seteuid(*uid);
        let _ = unistd::setegid(*gid);
        let _ = unistd::setgroups(groups);
    }
}
