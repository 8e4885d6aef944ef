//! The configuration files: which there are, and reading them.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use pigeonhub_proto::config::Config;

use super::LoadError;

/// Where the files are if none is named.
pub(super) const FOLDER: &str = "/etc/pigeonhubd";

/// The largest configuration file, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The most files in `conf.d`.
const MOST_FILES: usize = 256;

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It was named and cannot be read.
    #[error("{path}: cannot be read: {source}; should be a readable file, as {by} names it")]
    Named {
        /// As it was named.
        path: String,
        /// The flag or variable that named it.
        by: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is there and cannot be read.
    #[error("{path}: cannot be read: {source}; every file of the configuration must be readable")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be a configuration.
    #[error("{path}: {found}; should be TOML text of at most {LARGEST_FILE} bytes")]
    NotText {
        /// As it was named.
        path: String,
        /// What it is instead.
        found: String,
    },
    /// More files than anyone would write.
    #[error("{path}: more than {MOST_FILES} files; should be fewer")]
    TooMany {
        /// The folder.
        path: String,
    },
}

/// Lays the file that `by` named over what is set so far.
pub(super) fn apply(config: &mut Config, path: &Path, by: &'static str) -> Result<(), LoadError> {
    let name = path.to_string_lossy().into_owned();
    let bytes = read(path).map_err(|source| FileError::Named { path: name.clone(), by, source })?;
    Ok(config.apply_file(&name, &text(&name, bytes)?)?)
}

/// Lays over what is set so far what all instances share: `pigeonhubd.toml`,
/// then what is in `conf.d`, by name.
pub(super) fn apply_common(config: &mut Config, folder: &Path) -> Result<(), LoadError> {
    apply_if_there(config, &folder.join("pigeonhubd.toml"))?;
    for path in drop_ins(&folder.join("conf.d"))? {
        apply_if_there(config, &path)?;
    }
    Ok(())
}

/// Lays the file of the instance on `port` over what is set so far.
pub(super) fn apply_instance(config: &mut Config, folder: &Path, port: u16) -> Result<(), LoadError> {
    apply_if_there(config, &folder.join(format!("{port}.toml")))
}

fn apply_if_there(config: &mut Config, path: &Path) -> Result<(), LoadError> {
    let name = path.to_string_lossy().into_owned();
    match read(path) {
        Ok(bytes) => Ok(config.apply_file(&name, &text(&name, bytes)?)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::Unreadable { path: name, source }.into()),
    }
}

/// The files of `conf.d`, by name. Those that begin with a dot, as editors leave them, do not count.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let shown = || folder.to_string_lossy().into_owned();
    let unreadable = |source| FileError::Unreadable { path: shown(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(FileError::TooMany { path: shown() });
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The file's bytes, and one more than allowed, which tells a larger file from one that just fits.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer; the flag does nothing to a file.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    // A device waits for nobody that way, and /dev/null is a usual name for no configuration.
    if !kind.is_file() && !kind.is_char_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, FileError> {
    let not_text = |found: String| FileError::NotText { path: name.to_owned(), found };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(not_text(String::from("larger")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        not_text(format!("not UTF-8 in line {line}"))
    })
}
