//! Finding the control sockets of hubs of this machine.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pigeonhub_proto::paths::{CONTROL_SOCKET, Surroundings, control_sockets};

use crate::failure::Failure;

/// What decides where this user's files are.
pub(crate) fn surroundings() -> Surroundings {
    Surroundings::new(nix::unistd::geteuid().as_raw(), |name| std::env::var(name).ok())
}

/// The socket of the hub on `port`, or of the only hub that runs here.
pub(crate) fn socket(port: Option<u16>) -> Result<PathBuf, Failure> {
    let around = surroundings();
    if let Some(port) = port {
        let places = control_sockets(port, &around);
        let looked = places.iter().map(|place| place.display().to_string()).collect();
        let is_there = |place: &PathBuf| in_its_users_folder(place) && is_socket(place);
        return places.into_iter().find(is_there).ok_or(Failure::NoneFound { looked });
    }
    let mut found = running()?;
    match (found.len(), found.pop_first()) {
        (2.., Some((first, _))) => {
            Err(Failure::Several { found: [first].into_iter().chain(found.into_keys()).collect() })
        }
        (_, Some((_, socket))) => Ok(socket),
        (_, None) => Err(none(&folders(&around))),
    }
}

/// The sockets of all hubs that run for this user or for the service, by port; one at least.
pub(crate) fn running() -> Result<BTreeMap<u16, PathBuf>, Failure> {
    let folders = folders(&surroundings());
    let mut found: BTreeMap<u16, PathBuf> = BTreeMap::new();
    for (port, socket) in folders.iter().flat_map(|folder| sockets_in(folder)) {
        found.entry(port).or_insert(socket);
    }
    // A hub that was killed leaves its socket behind.
    found.retain(|_, socket| answers(socket));
    if found.is_empty() { Err(none(&folders)) } else { Ok(found) }
}

fn none(folders: &[PathBuf]) -> Failure {
    Failure::NoneFound { looked: folders.iter().map(|it| it.display().to_string()).collect() }
}

/// All control sockets of this machine that this user may know of, by port.
/// Some may be of hubs that were killed.
pub(crate) fn all() -> Vec<(u16, PathBuf)> {
    let around = surroundings();
    let mut folders = folders(&around);
    if around.uid == 0 {
        folders.extend(entries(Path::new("/run/user")).map(|user| user.join("pigeonhubd")));
        let of_user = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("pigeonhubd-").is_some_and(|uid| uid.parse::<u32>().is_ok())
        };
        folders.extend(entries(Path::new("/tmp")).filter(of_user));
    }
    folders.sort_unstable();
    folders.dedup();
    let mut found: Vec<_> = folders.iter().flat_map(|folder| sockets_in(folder)).collect();
    found.sort_unstable();
    found
}

/// The folders in which instances have folders named by their ports.
fn folders(around: &Surroundings) -> Vec<PathBuf> {
    let beside = control_sockets(1, around);
    let folders = beside.iter().filter_map(|place| place.parent()?.parent());
    folders.map(Path::to_owned).collect()
}

/// Whether a folder of instances is that of the user whose number is in its name, if it is in /tmp:
/// everyone can make a folder of such a name there.
fn is_its_users(folder: &Path) -> bool {
    let own = |meta: std::fs::Metadata| {
        meta.is_dir()
            && meta.mode() & 0o022 == 0
            && folder == Path::new(&format!("/tmp/pigeonhubd-{}", meta.uid()))
    };
    folder.parent() != Some(Path::new("/tmp")) || folder.symlink_metadata().is_ok_and(own)
}

/// The same of the folder in which a socket's instance is.
fn in_its_users_folder(socket: &Path) -> bool {
    socket.ancestors().nth(2).is_none_or(is_its_users)
}

fn sockets_in(folder: &Path) -> Vec<(u16, PathBuf)> {
    if !is_its_users(folder) {
        return Vec::new();
    }
    entries(folder)
        .filter_map(|path| {
            let port = path.file_name()?.to_str()?.parse().ok()?;
            Some((port, path.join(CONTROL_SOCKET)))
        })
        .filter(|(_, socket)| is_socket(socket))
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).ok();
    entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// One in a folder that we may not look into counts: opening it says so.
fn is_socket(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(meta) => meta.file_type().is_socket(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Whether somebody listens. One that we may not ask counts: the call says so.
fn answers(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is first could answer for another user's hub.
    #[test]
    fn a_folder_in_tmp_that_is_not_its_users_is_not_believed() {
        let other = nix::unistd::geteuid().as_raw() + 424_242;
        let folder = PathBuf::from(format!("/tmp/pigeonhubd-{other}"));
        std::fs::create_dir_all(folder.join("3000")).expect("a folder");
        let socket = folder.join("3000").join(CONTROL_SOCKET);
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let believed = (in_its_users_folder(&socket), sockets_in(&folder).len());
        drop(listener);
        std::fs::remove_dir_all(&folder).expect("its own");
        assert_eq!(believed, (false, 0));
        assert!(in_its_users_folder(Path::new("/run/pigeonhubd/3000/control.sock")));
    }
}
