//! The hubs of the mesh, kept in the state folder for the next run of this hub.
//!
//! It is a help, never a condition: a file that cannot be used is as good as none.

use std::fs::{OpenOptions, rename};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

/// The file in the state folder.
const FILE: &str = "mesh.json";
/// The largest file that is read, in bytes: 16 URLs are far below.
const LARGEST: u64 = 64 * 1024;
/// The shortest time between two looks at what is to be kept.
const EVERY: Duration = Duration::from_secs(2);

/// What the file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Of the mesh: the hubs of another one are not to be dialled.
    namespace: String,
    urls: Vec<String>,
}

/// Keeps the file up to date.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    kept: Kept,
    next: Instant,
    writing: Option<JoinHandle<()>>,
}

impl Keeper {
    /// What an earlier run kept in the state folder `dir`, if it was in a mesh of that namespace.
    pub fn open(dir: &Path, namespace: &str) -> Self {
        let of = || Kept { namespace: namespace.to_owned(), urls: Vec::new() };
        let kept = match read::<Kept>(&dir.join(FILE)) {
            Ok(Some(kept)) if kept.namespace == namespace => kept,
            Ok(_) => of(),
            Err(error) => {
                let path = dir.join(FILE);
                warn!("{}: {error}; goes on without it, and will write it anew", path.display());
                of()
            }
        };
        Self { dir: dir.to_owned(), kept, next: Instant::now() + EVERY, writing: None }
    }

    /// The URLs to dial beside the bootstraps.
    pub fn urls(&self) -> Vec<String> {
        self.kept.urls.clone()
    }

    /// Writes what `urls` says, now and then, if that is something else than before. A hub that
    /// lost all others keeps their URLs: that is when it needs them.
    pub fn turn(&mut self, now: Instant, urls: impl FnOnce() -> Vec<String>) {
        if now < self.next || self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.next = now + EVERY;
        let urls = urls();
        if urls.is_empty() || urls == self.kept.urls {
            return;
        }
        self.kept.urls = urls;
        let Ok(text) = serde_json::to_vec(&self.kept) else { return };
        let dir = self.dir.clone();
        // Disks take their time, and the driver has none.
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let path = dir.join(FILE);
            if let Err(error) = write(&path, &text) {
                warn!("{}: cannot be written: {error}", path.display());
            }
        }));
    }
}

/// None if there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    // A pipe in its place would else be waited for.
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Ok(file) if file.metadata().is_ok_and(|meta| !meta.is_file()) => {
            return Err(String::from("is no file"));
        }
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("more than {LARGEST} bytes"));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| format!("is damaged ({error})"))
}

/// Whoever reads finds the old file or the new one, whole.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_data()?;
    rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    fn urls(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("ws://{name}:3000")).collect()
    }

    async fn keep(keeper: &mut Keeper, names: &[&str]) {
        keeper.turn(Instant::now() + 2 * EVERY, || urls(names));
        keeper.next = Instant::now();
        if let Some(writing) = keeper.writing.take() {
            writing.await.expect("written");
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_in_the_next_run_of_the_same_mesh() {
        let dir = TestDir::new();
        let mut keeper = Keeper::open(&dir, "mesh");
        assert_eq!(keeper.urls(), urls(&[]));
        keep(&mut keeper, &["a", "b"]).await;
        keep(&mut keeper, &["c"]).await;
        // All are gone: these are the last that it knew.
        keep(&mut keeper, &[]).await;
        assert_eq!(Keeper::open(&dir, "mesh").urls(), urls(&["c"]));
        assert_eq!(Keeper::open(&dir, "another mesh").urls(), urls(&[]));
        assert!(!dir.join("mesh.json.new").exists());
    }

    #[tokio::test]
    async fn a_file_that_is_damaged_is_as_good_as_none_and_written_anew() {
        let dir = TestDir::new();
        let large = vec![b' '; LARGEST as usize + 1];
        for damage in [&b""[..], b"{\"namespace\":\"mesh\",\"ur", b"\xff\xfe", b"[]", &large] {
            std::fs::write(dir.join(FILE), damage).expect("written");
            let mut keeper = Keeper::open(&dir, "mesh");
            assert_eq!(keeper.urls(), urls(&[]));
            keep(&mut keeper, &["a"]).await;
            assert_eq!(Keeper::open(&dir, "mesh").urls(), urls(&["a"]));
        }
        std::fs::remove_file(dir.join(FILE)).expect("removed");
        std::fs::create_dir(dir.join(FILE)).expect("made");
        assert_eq!(Keeper::open(&dir, "mesh").urls(), urls(&[]), "a folder of that name");
        std::fs::remove_dir(dir.join(FILE)).expect("removed");
        nix::unistd::mkfifo(&dir.join(FILE), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert_eq!(Keeper::open(&dir, "mesh").urls(), urls(&[]), "a pipe, which nobody writes to");
    }
}
