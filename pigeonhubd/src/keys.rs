//! The secrets on disk: the hub's own key, from which its id comes, and the
//! mesh key, which all hubs of a mesh share. Both are made at the first start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::mesh::identity::{HubKey, MIN_KEY_LEN, MeshKey};
use pigeonhub_proto::paths::{self as rules, Surroundings};

use crate::paths::{PathError, StateDir};

/// The hub's key in the state folder.
const HUB_KEY: &str = "hub.key";

/// The largest key file, in bytes.
const LARGEST_KEY: u64 = 4096;

/// Bytes of a key that is made here.
const KEY_LEN: usize = 32;

/// What some editors put before a text: no part of it.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder of a key cannot be made.
    #[error(transparent)]
    Folder(#[from] PathError),
    /// The system says no.
    #[error("{path}: cannot be {done}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: read, made.
        done: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path}: {found}; {cure}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
        /// What would be right.
        cure: String,
    },
    /// The file that the configuration names cannot be used.
    #[error("{origin}: {key}: {source}")]
    Named {
        /// Where it is named.
        origin: String,
        /// By which key.
        key: &'static str,
        /// What is wrong with it.
        source: Box<KeyError>,
    },
    /// The system has no random numbers.
    #[error("no random bytes from the system for a new key: {0}")]
    Random(#[from] getrandom::Error),
}

impl KeyError {
    /// Whether that is only because this user may not look at the file.
    pub fn is_hidden(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Named { source, .. } => source.is_hidden(),
            _ => false,
        }
    }
}

/// The hub's own key, made if there is none.
pub fn hub_key(state: &StateDir) -> Result<HubKey, KeyError> {
    load_hub_key(&state.path().join(HUB_KEY), load_or_make)
}

fn load_hub_key(
    path: &Path,
    load: impl FnOnce(&Path) -> Result<Vec<u8>, KeyError>,
) -> Result<HubKey, KeyError> {
    let bytes = load(path)?;
    parse_hex(bytes.trim_ascii()).map(|secret| HubKey::from_bytes(&secret)).ok_or_else(|| KeyError::Unfit {
        found: format!("not {} hexadecimal digits", 2 * KEY_LEN),
        cure: String::from(
            "restore it from a backup, or delete it and a new one is made, with which this hub gets a new id",
        ),
        path: path.to_owned(),
    })
}

/// The mesh key: the configured one, which must exist; or the one that systemd
/// handed over as a credential; or this user's or service's own, made if there
/// is none.
pub fn mesh_key(config: &Config, around: &Surroundings) -> Result<MeshKey, KeyError> {
    if let Some(named) = named_mesh_key(config) {
        return named;
    }
    if let Some(path) = handed_over(around) {
        let read = read(&path, LARGEST_KEY);
        return read.and_then(|bytes| {
            mesh_key_from(&path, &bytes, "a credential of the unit's, should be at least")
        });
    }
    let path = rules::mesh_key(config.listen.port, around);
    let cure = "delete it, a new one is made, then restart the hubs that share it: should be at least";
    mesh_key_from(&path, &load_or_make(&path)?, cure)
}

/// The mesh key before that systemd handed over beside the mesh key, if the unit has such a credential.
/// It counts for as long as it is there.
pub fn mesh_key_before(config: &Config, around: &Surroundings) -> Result<Option<MeshKey>, KeyError> {
    let path = there(rules::mesh_key_before_credential(around));
    let Some(path) = path.filter(|_| config.mesh.key_file.is_none()) else { return Ok(None) };
    let bytes = read(&path, LARGEST_KEY)?;
    mesh_key_from(&path, &bytes, "a credential of the unit's, should be at least").map(Some)
}

/// Whether the mesh key lies in a file that this hub's user reads, so that a copy shows it to nobody else.
pub fn is_in_a_file(config: &Config, around: &Surroundings) -> bool {
    config.mesh.key_file.is_some() || handed_over(around).is_none()
}

/// The configured mesh key, if one is.
pub fn named_mesh_key(config: &Config) -> Option<Result<MeshKey, KeyError>> {
    let path = config.mesh.key_file.as_ref()?;
    let (key, origin) = ("mesh.key_file", config.origin("mesh.key_file").to_string());
    let read = read(path, LARGEST_KEY).and_then(|bytes| mesh_key_from(path, &bytes, "should be at least"));
    Some(read.map_err(|source| KeyError::Named { origin, key, source: Box::new(source) }))
}

/// What is wrong with the hub key in that folder. That there is none is not: a start makes one.
pub fn hub_key_fault(folder: &Path) -> Option<KeyError> {
    match load_hub_key(&folder.join(HUB_KEY), |path| read(path, LARGEST_KEY)) {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        loaded => loaded.err(),
    }
}

/// The credential, unless the unit has none.
fn handed_over(around: &Surroundings) -> Option<PathBuf> {
    there(rules::mesh_key_credential(around))
}

fn there(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !matches!(path.try_exists(), Ok(false)))
}

/// As [`mesh_key`], for a hub that has one: `None` if none is named and this
/// user's or service's own is not there any more.
pub fn mesh_key_again(config: &Config, around: &Surroundings) -> Result<Option<MeshKey>, KeyError> {
    let path = rules::mesh_key(config.listen.port, around);
    let gone = || matches!(path.try_exists(), Ok(false));
    let named = config.mesh.key_file.is_some() || handed_over(around).is_some();
    if !named && gone() { Ok(None) } else { mesh_key(config, around).map(Some) }
}

fn mesh_key_from(path: &Path, bytes: &[u8], cure: &str) -> Result<MeshKey, KeyError> {
    MeshKey::new(bytes).map_err(|_| KeyError::Unfit {
        path: path.to_owned(),
        found: format!("{} bytes", bytes.trim_ascii().len()),
        cure: format!("{cure} {MIN_KEY_LEN}"),
    })
}

fn load_or_make(path: &Path) -> Result<Vec<u8>, KeyError> {
    match read(path, LARGEST_KEY) {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            // Of several hubs that start at once, one made the file; all take that one.
            read(path, LARGEST_KEY)
        }
        read => read,
    }
}

/// Reads a secret of at most `largest` bytes that not everyone can read.
pub(crate) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), done: "read", source };
    let unfit = |found: String, cure: String| Err(KeyError::Unfit { path: path.to_owned(), found, cure });
    // Opening a pipe would wait for a writer; the flag does nothing to a file.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return unfit(String::from("not a file"), String::from("should be a file with the key"));
    }
    if meta.mode() & 0o006 != 0 {
        let found = format!("mode {:04o} shows this secret to everyone", meta.mode() & 0o7777);
        return unfit(found, format!("right would be: chmod 600 '{}'", path.display()));
    }
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > largest {
        return unfit(String::from("too large"), format!("should be at most {largest} bytes"));
    }
    Ok(bytes)
}

/// Puts a new key at `path`, unless there is one by now. The file appears
/// whole or not at all, whoever else makes one and whenever the power fails.
fn make(path: &Path) -> Result<(), KeyError> {
    let mut secret = [0; KEY_LEN];
    getrandom::fill(&mut secret)?;
    let mut salt = [0; 8];
    getrandom::fill(&mut salt)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new("."));
    crate::paths::make(folder)?;
    let draft = folder.join(format!(".{name}.{}", hex(&salt)));
    let made = write(&draft, &secret).and_then(|()| match std::fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Shared folders of virtual machines, and some volumes, have no hard links.
        Err(_) => rename_unless_there(folder, &draft, path),
        linked => linked,
    });
    // What the draft is there for is done or has failed.
    drop(std::fs::remove_file(&draft));
    made.and_then(|()| sync(folder)).map_err(|source| KeyError::Io {
        path: path.to_owned(),
        done: "made",
        source,
    })
}

/// As a hard link, one at a time: whoever renames holds the folder's lock, which closing it ends.
fn rename_unless_there(folder: &Path, draft: &Path, path: &Path) -> io::Result<()> {
    let lock = File::open(folder)?;
    lock.lock()?;
    if path.try_exists()? { Ok(()) } else { std::fs::rename(draft, path) }
}

/// Makes what was renamed in a folder last. Some shared folders cannot, and do it in their own time.
fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

fn write(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all((hex(secret) + "\n").as_bytes())?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &[u8]) -> Option<[u8; KEY_LEN]> {
    if text.len() != 2 * KEY_LEN {
        return None;
    }
    let mut out = [0; KEY_LEN];
    for (byte, pair) in out.iter_mut().zip(text.chunks(2)) {
        for digit in pair {
            *byte = (*byte << 4) | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests;
