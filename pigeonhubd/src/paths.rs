//! The folders a hub works in: found, made and locked. The rules for where
//! they are stand in [`pigeonhub_proto::paths`], which `pigeonctl` shares.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::paths::{self as rules, Surroundings};

/// The lock's name in the state folder.
const LOCK: &str = "lock";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The system says no.
    #[error("{path}: cannot be {done}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried: made, locked.
        done: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else could put files into it.
    #[error("{path}: {found}; should be a folder of user {uid} that nobody else can write in")]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// What it is instead.
        found: String,
        /// This user.
        uid: u32,
    },
    /// Another hub has it.
    #[error(
        "{path}: in use by another pigeonhubd{}; stop that one, or give this one a --port or --state-dir of its own",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The other's process id, if it left it.
        pid: Option<u32>,
    },
}

/// What decides where files are, read with `env`.
pub fn surroundings(env: impl Fn(&str) -> Option<OsString>) -> Surroundings {
    Surroundings::new(nix::unistd::geteuid().as_raw(), |name| env(name)?.into_string().ok())
}

/// The folder of the control socket.
pub fn runtime_dir(config: &Config, around: &Surroundings) -> PathBuf {
    config.runtime_dir.clone().unwrap_or_else(|| rules::runtime_dir(config.listen.port, around))
}

/// The folder of the hub's key.
pub fn state_dir(config: &Config, around: &Surroundings) -> PathBuf {
    config.state_dir.clone().unwrap_or_else(|| rules::state_dir(config.listen.port, around))
}

/// Makes the folder of the control socket, unless it is there.
pub fn make_runtime_dir(config: &Config, around: &Surroundings) -> Result<PathBuf, PathError> {
    let dir = runtime_dir(config, around);
    make(&dir)?;
    // In a folder that is open to all, somebody else may have been there first.
    match dir.parent() {
        Some(base) if config.runtime_dir.is_none() && base.starts_with("/tmp") => owned(base, around.uid)?,
        _ => {}
    }
    Ok(dir)
}

/// The state folder, locked for this process as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Closing it unlocks.
    _lock: File,
}

impl StateDir {
    /// Makes the folder unless it is there, and locks it.
    pub fn open(path: PathBuf) -> Result<Self, PathError> {
        make(&path)?;
        let io = |source| PathError::Io { path: path.clone(), done: "locked", source };
        let (meta, uid) = (path.metadata().map_err(io)?, nix::unistd::geteuid().as_raw());
        // Root's group is root, or what a container has instead of a user of its own.
        let group = if meta.gid() == 0 { 0 } else { 0o020 };
        if meta.mode() & (0o002 | group) != 0 {
            let found = format!("mode {:04o} lets others write in it", meta.mode() & 0o7777);
            return Err(PathError::Exposed { path, found, uid });
        }
        // Root may do what it likes anyway.
        if meta.uid() != uid && meta.uid() != 0 {
            let found = format!("belongs to user {}", meta.uid());
            return Err(PathError::Exposed { path, found, uid });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // What a link in its place leads to would be emptied.
        options.custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut lock = options.open(path.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let pid = owner(&mut lock);
                return Err(PathError::Locked { path, pid });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        // For the message of the next who tries; on a full disk it has to do without.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The process id that the lock's owner left in it.
fn owner(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Makes a folder and those above it, for this user alone, unless they are there.
pub(crate) fn make(path: &Path) -> Result<(), PathError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PathError::Io { path: path.to_owned(), done: "made", source })
}

/// Checks that a folder is this user's and nobody else can write in it.
fn owned(path: &Path, uid: u32) -> Result<(), PathError> {
    // A link would be somebody else's choice.
    let meta = path.symlink_metadata();
    let meta = meta.map_err(|source| PathError::Io { path: path.to_owned(), done: "used", source })?;
    let found = match () {
        () if !meta.is_dir() => String::from("not a folder"),
        () if meta.uid() != uid => format!("belongs to user {}", meta.uid()),
        () if meta.mode() & 0o022 != 0 => {
            format!("mode {:04o} lets others write in it", meta.mode() & 0o7777)
        }
        () => return Ok(()),
    };
    Err(PathError::Exposed { path: path.to_owned(), found, uid })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::test_dir::TestDir;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("it is there").mode() & 0o7777
    }

    #[test]
    fn what_is_configured_counts_more_than_the_surroundings() {
        let dir = TestDir::new();
        let around = Surroundings { xdg_runtime_dir: Some(dir.join("run")), ..Surroundings::default() };
        let mut config = Config::default();
        assert_eq!(runtime_dir(&config, &around), dir.join("run/pigeonhubd/3000"));
        config.runtime_dir = Some(dir.join("mine"));
        config.state_dir = Some(dir.join("state"));
        assert_eq!(runtime_dir(&config, &around), dir.join("mine"));
        assert_eq!(state_dir(&config, &around), dir.join("state"));
    }

    #[test]
    fn folders_are_made_for_this_user_alone() {
        let dir = TestDir::new();
        let around = Surroundings { xdg_runtime_dir: Some(dir.join("run")), ..Surroundings::default() };
        let made = make_runtime_dir(&Config::default(), &around).expect("made");
        assert_eq!(made, dir.join("run/pigeonhubd/3000"));
        assert_eq!((mode(&made), mode(&dir.join("run/pigeonhubd"))), (0o700, 0o700));
        make_runtime_dir(&Config::default(), &around).expect("it may be there already");
    }

    #[test]
    fn a_folder_that_others_can_write_in_is_refused() {
        let dir = TestDir::new();
        let uid = nix::unistd::geteuid().as_raw();
        fs::set_permissions(&*dir, Permissions::from_mode(0o770)).expect("chmod");
        assert_eq!(
            owned(&dir, uid).expect_err("exposed").to_string(),
            format!(
                "{}: mode 0770 lets others write in it; should be a folder of user {uid} that nobody else can write in",
                dir.display()
            )
        );
        fs::set_permissions(&*dir, Permissions::from_mode(0o755)).expect("chmod");
        assert!(owned(&dir, uid).is_ok());
        let other = owned(&dir, uid + 1).expect_err("another's").to_string();
        assert!(
            other.contains(&format!(": belongs to user {uid}; should be a folder of user {}", uid + 1)),
            "{other}"
        );
        std::os::unix::fs::symlink(&*dir, dir.join("link")).expect("a link");
        assert!(owned(&dir.join("link"), uid).expect_err("a link").to_string().contains(": not a folder;"));
        fs::set_permissions(&*dir, Permissions::from_mode(0o777)).expect("chmod");
        let open = StateDir::open(dir.to_path_buf()).expect_err("exposed").to_string();
        assert!(open.contains(": mode 0777 lets others write in it; should be"), "{open}");
        // Root, in a group that is not root's.
        fs::set_permissions(&*dir, Permissions::from_mode(0o770)).expect("chmod");
        if std::os::unix::fs::chown(&*dir, None, Some(1)).is_ok() {
            let open = StateDir::open(dir.to_path_buf()).expect_err("exposed").to_string();
            assert!(open.contains(": mode 0770 lets others write in it; should be"), "{open}");
        }
    }

    #[test]
    fn a_lock_that_is_a_link_empties_nothing() {
        let dir = TestDir::new();
        fs::write(dir.join("precious"), "kept").expect("a file");
        fs::create_dir(dir.join("state")).expect("a folder");
        std::os::unix::fs::symlink(dir.join("precious"), dir.join("state/lock")).expect("a link");
        let refused = StateDir::open(dir.join("state")).expect_err("a link").to_string();
        assert!(refused.contains("cannot be locked"), "{refused}");
        assert_eq!(fs::read_to_string(dir.join("precious")).expect("a file"), "kept");
    }

    #[test]
    fn one_process_at_a_time_has_a_state_folder() {
        let dir = TestDir::new();
        let path = dir.join("deep/3000");
        let first = StateDir::open(path.clone()).expect("free");
        assert_eq!((first.path(), mode(&path), mode(&path.join(LOCK))), (&*path, 0o700, 0o600));
        assert_eq!(
            StateDir::open(path.clone()).expect_err("taken").to_string(),
            format!(
                "{}: in use by another pigeonhubd (process {}); stop that one, or give this one a --port or \
                 --state-dir of its own",
                path.display(),
                std::process::id()
            )
        );
        fs::write(path.join(LOCK), "").expect("emptied");
        let nameless = StateDir::open(path.clone()).expect_err("taken").to_string();
        assert!(nameless.contains(": in use by another pigeonhubd; stop that one"), "{nameless}");
        drop(first);
        fs::write(path.join(LOCK), "999999999999\n").expect("left by a hub that was killed");
        StateDir::open(path.clone()).expect("free again");
        assert_eq!(
            fs::read_to_string(path.join(LOCK)).expect("readable"),
            format!("{}\n", std::process::id())
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = TestDir::new();
        fs::write(dir.join("file"), "").expect("a file");
        let path = dir.join("file/state");
        let error = StateDir::open(path.clone()).expect_err("below a file").to_string();
        assert_eq!(error, format!("{}: cannot be made: Not a directory (os error 20)", path.display()));
    }
}
