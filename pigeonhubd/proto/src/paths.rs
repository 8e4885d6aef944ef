//! Where a hub keeps what: the rules that `pigeonhubd` and `pigeonctl` share.
//!
//! Pure: what the process's surroundings say is passed in, no file is touched.

use std::path::{Path, PathBuf};

/// The control socket's name in the runtime folder.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The longest runtime folder, in bytes: a socket address of Linux holds 107
/// and a NUL (unix(7)), of which `/control.sock` takes 13.
pub const LONGEST_RUNTIME_DIR: usize = 107 - 1 - CONTROL_SOCKET.len();

/// Where the packaged service keeps its state.
pub const SERVICE_STATE: &str = "/var/lib/pigeonhubd";

/// Where the packaged service keeps its sockets.
pub const SERVICE_RUNTIME: &str = "/run/pigeonhubd";

/// What decides where files are. Each text is an environment variable's
/// value; an empty or relative one counts as not set, as the XDG Base
/// Directory Specification 0.8 says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The user's id.
    pub uid: u32,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `STATE_DIRECTORY`: what systemd made for the unit, parted by colons.
    pub state_directory: Option<String>,
    /// `CREDENTIALS_DIRECTORY`: where systemd put the credentials of the unit.
    pub credentials_directory: Option<PathBuf>,
}

impl Surroundings {
    /// Reads them with `var`, which looks up an environment variable.
    pub fn new(uid: u32, var: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            uid,
            xdg_runtime_dir: var("XDG_RUNTIME_DIR").map(PathBuf::from),
            xdg_state_home: var("XDG_STATE_HOME").map(PathBuf::from),
            home: var("HOME").map(PathBuf::from),
            state_directory: var("STATE_DIRECTORY"),
            credentials_directory: var("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        }
    }

    /// The user's folder for state of programs.
    fn user_state(&self) -> Option<PathBuf> {
        let xdg = absolute(&self.xdg_state_home).map(Path::to_owned);
        xdg.or_else(|| absolute(&self.home).map(|home| home.join(".local/state")))
    }
}

fn absolute(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| path.is_absolute())
}

/// The folder of the control socket, if none is configured.
pub fn runtime_dir(port: u16, around: &Surroundings) -> PathBuf {
    let base = match absolute(&around.xdg_runtime_dir) {
        Some(xdg) => xdg.join("pigeonhubd"),
        None if around.uid == 0 => PathBuf::from(SERVICE_RUNTIME),
        None => PathBuf::from(format!("/tmp/pigeonhubd-{}", around.uid)),
    };
    base.join(port.to_string())
}

/// The folder of the hub's key, if none is configured.
pub fn state_dir(port: u16, around: &Surroundings) -> PathBuf {
    let base = around.user_state().map_or_else(|| PathBuf::from(SERVICE_STATE), |dir| dir.join("pigeonhubd"));
    base.join(port.to_string())
}

/// The mesh key, if none is configured. It does not depend on a configured
/// state folder, so that all hubs of a user, or of the service, share it.
pub fn mesh_key(port: u16, around: &Surroundings) -> PathBuf {
    let instance = around.state_directory.as_deref().and_then(|dirs| of_instance(dirs, port));
    let service = instance.is_some_and(|dir| dir.starts_with(SERVICE_STATE));
    let user = around.user_state().filter(|_| !service).map(|dir| dir.join("pigeonhubd"));
    user.unwrap_or_else(|| PathBuf::from(SERVICE_STATE)).join("mesh.key")
}

/// The mesh key that systemd hands over, if the unit has such a credential and the configuration
/// names no key. It counts more than [`mesh_key`].
pub fn mesh_key_credential(around: &Surroundings) -> Option<PathBuf> {
    absolute(&around.credentials_directory).map(|dir| dir.join("mesh.key"))
}

/// The mesh key before, if the unit has such a credential.
pub fn mesh_key_before_credential(around: &Surroundings) -> Option<PathBuf> {
    absolute(&around.credentials_directory).map(|dir| dir.join("mesh.key.before"))
}

/// Where the control socket of the hub on `port` may be, the likeliest first:
/// the user's own, then the service's.
pub fn control_sockets(port: u16, around: &Surroundings) -> Vec<PathBuf> {
    let service = Path::new(SERVICE_RUNTIME).join(port.to_string());
    let fallback = runtime_dir(port, &Surroundings { xdg_runtime_dir: None, ..around.clone() });
    let mut sockets = Vec::new();
    for dir in [runtime_dir(port, around), service, fallback] {
        let socket = dir.join(CONTROL_SOCKET);
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    sockets
}

/// Of folders that systemd names, parted by colons: the first whose name ends
/// in the port, else the first.
pub fn of_instance(dirs: &str, port: u16) -> Option<PathBuf> {
    let port = port.to_string();
    let all = || dirs.split(':').filter(|dir| !dir.is_empty());
    let ends_in_port = |dir: &&str| {
        let rest = dir.trim_end_matches('/').strip_suffix(port.as_str());
        rest.is_some_and(|rest| !rest.ends_with(|c: char| c.is_ascii_digit()))
    };
    all().find(ends_in_port).or_else(|| all().next()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(uid: u32, vars: &[(&str, &str)]) -> Surroundings {
        Surroundings::new(uid, |name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const USER: [(&str, &str); 3] =
        [("XDG_RUNTIME_DIR", "/run/user/7"), ("XDG_STATE_HOME", "/s"), ("HOME", "/home/a")];

    #[test]
    fn folders_follow_the_surroundings() {
        type Row<'a> = (u32, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);
        let rows: [Row<'_>; 8] = [
            (7, &USER, "/run/user/7/pigeonhubd/3001", "/s/pigeonhubd/3001", "/s/pigeonhubd/mesh.key"),
            (
                7,
                &[("HOME", "/home/a")],
                "/tmp/pigeonhubd-7/3001",
                "/home/a/.local/state/pigeonhubd/3001",
                "/home/a/.local/state/pigeonhubd/mesh.key",
            ),
            (0, &[], "/run/pigeonhubd/3001", "/var/lib/pigeonhubd/3001", "/var/lib/pigeonhubd/mesh.key"),
            (7, &[], "/tmp/pigeonhubd-7/3001", "/var/lib/pigeonhubd/3001", "/var/lib/pigeonhubd/mesh.key"),
            (
                7,
                &[("XDG_RUNTIME_DIR", ""), ("XDG_STATE_HOME", "relative"), ("HOME", "/home/a")],
                "/tmp/pigeonhubd-7/3001",
                "/home/a/.local/state/pigeonhubd/3001",
                "/home/a/.local/state/pigeonhubd/mesh.key",
            ),
            (
                7,
                &[("STATE_DIRECTORY", "/var/lib/pigeonhubd/3001"), ("HOME", "/home/a")],
                "/tmp/pigeonhubd-7/3001",
                "/home/a/.local/state/pigeonhubd/3001",
                "/var/lib/pigeonhubd/mesh.key",
            ),
            (
                7,
                &[("STATE_DIRECTORY", "/srv/other:/var/lib/pigeonhubd/3001"), ("HOME", "/home/a")],
                "/tmp/pigeonhubd-7/3001",
                "/home/a/.local/state/pigeonhubd/3001",
                "/var/lib/pigeonhubd/mesh.key",
            ),
            (
                7,
                &[("STATE_DIRECTORY", "/var/lib/pigeonhubd-mine/3001"), ("HOME", "/home/a")],
                "/tmp/pigeonhubd-7/3001",
                "/home/a/.local/state/pigeonhubd/3001",
                "/home/a/.local/state/pigeonhubd/mesh.key",
            ),
        ];
        for (uid, vars, runtime, state, key) in rows {
            let around = around(uid, vars);
            assert_eq!(runtime_dir(3001, &around), Path::new(runtime), "{vars:?}");
            assert_eq!(state_dir(3001, &around), Path::new(state), "{vars:?}");
            assert_eq!(mesh_key(3001, &around), Path::new(key), "{vars:?}");
        }
    }

    #[test]
    fn a_credential_is_where_systemd_says() {
        let credential = |vars: &[_]| mesh_key_credential(&around(7, vars));
        let folder = ("CREDENTIALS_DIRECTORY", "/run/credentials/pigeonhubd@3001.service");
        let path = PathBuf::from("/run/credentials/pigeonhubd@3001.service/mesh.key");
        assert_eq!(credential(&[folder]), Some(path));
        assert_eq!(credential(&[("CREDENTIALS_DIRECTORY", "relative")]), None);
        assert_eq!(credential(&USER), None);
    }

    #[test]
    fn of_several_folders_the_instance_has_its_own() {
        for (dirs, dir) in [
            ("/a", Some("/a")),
            ("/a:/b", Some("/a")),
            ("/a:/b/3001", Some("/b/3001")),
            ("/a:/b/3001/:/c/3001", Some("/b/3001/")),
            ("/a/13001:/b/hub-3001", Some("/b/hub-3001")),
            ("/a/30010:/a/13001", Some("/a/30010")),
            (":/a", Some("/a")),
            ("", None),
        ] {
            assert_eq!(of_instance(dirs, 3001), dir.map(PathBuf::from), "{dirs}");
        }
    }

    #[test]
    fn a_control_socket_is_looked_for_at_the_users_then_at_the_services() {
        assert_eq!(
            control_sockets(3001, &around(7, &USER)),
            [
                "/run/user/7/pigeonhubd/3001/control.sock",
                "/run/pigeonhubd/3001/control.sock",
                "/tmp/pigeonhubd-7/3001/control.sock"
            ]
            .map(PathBuf::from)
        );
        let root = [PathBuf::from("/run/pigeonhubd/3001/control.sock")];
        assert_eq!(control_sockets(3001, &around(0, &[])), root);
    }
}
