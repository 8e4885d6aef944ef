//! Finding the control socket of a hub of this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pigeonhub_proto::paths::{Surroundings, control_sockets};

use crate::call::CallError;

/// The socket of the hub on `port`, or of the only hub that runs here.
pub(crate) fn socket(port: Option<u16>) -> Result<PathBuf, CallError> {
    let around = Surroundings::new(nix::unistd::geteuid().as_raw(), |name| std::env::var(name).ok());
    if let Some(port) = port {
        let places = control_sockets(port, &around);
        let looked = places.iter().map(|place| place.display().to_string()).collect();
        return places.into_iter().find(|place| is_socket(place)).ok_or(CallError::NoneFound { looked });
    }
    // Instances are folders named by their port, next to one another.
    let beside = control_sockets(1, &around);
    let folders: Vec<&Path> = beside.iter().filter_map(|place| place.parent()?.parent()).collect();
    let mut found: BTreeMap<u16, PathBuf> = BTreeMap::new();
    for folder in &folders {
        for (port, socket) in instances(folder) {
            found.entry(port).or_insert(socket);
        }
    }
    // A hub that was killed leaves its socket behind.
    let mut running: Vec<(u16, PathBuf)> = found
        .iter()
        .filter(|(_, socket)| answers(socket))
        .map(|(port, socket)| (*port, socket.clone()))
        .collect();
    match (running.pop(), running.is_empty()) {
        (Some((_, socket)), true) => Ok(socket),
        (Some((last, _)), false) => {
            Err(CallError::Several { found: running.iter().map(|(port, _)| *port).chain([last]).collect() })
        }
        (None, _) => Err(CallError::NoneFound {
            looked: folders.iter().map(|folder| folder.display().to_string()).collect(),
        }),
    }
}

fn instances(folder: &Path) -> Vec<(u16, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let port = entry.file_name().to_str()?.parse().ok()?;
            Some((port, entry.path().join("control.sock")))
        })
        .filter(|(_, socket)| is_socket(socket))
        .collect()
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Whether somebody listens. One that we may not ask counts: the call says so.
fn answers(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}
