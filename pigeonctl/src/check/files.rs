//! The files that a configuration names, read by the hub's own readers: a hub
//! neither starts nor reloads without them.

use std::path::Path;

use pigeonhub_proto::config::Config;
use pigeonhub_proto::mesh::identity::{MIN_KEY_LEN, MeshKey};
use pigeonhub_proto::paths::{SERVICE_STATE, Surroundings};
pub(crate) use pigeonhubd::credentials::FileFault as Fault;
use pigeonhubd::{credentials::Credentials, keys};

/// Where the packaged unit has its mesh key from, if the configuration names none.
const CREDENTIAL: &str = "/etc/credstore/pigeonhubd.mesh.key";

/// Folders of which the packaged unit sees none: it has `ProtectHome=` and `PrivateTmp=`.
const UNSEEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// All that can be told of the files that `config` names.
pub(crate) fn faults(config: &Config) -> Vec<Fault> {
    Credentials::faults(config)
}

/// All that can be told besides of the files of the packaged service's instance on the configured port.
pub(super) fn of_service(config: &Config) -> Vec<Fault> {
    let folder = Path::new(SERVICE_STATE).join(config.listen.port.to_string());
    let mut faults: Vec<Fault> = keys::hub_key_fault(config.state_dir.as_deref().unwrap_or(&folder))
        .map(|error| Fault { key: "state_dir", ..error.into() })
        .into_iter()
        .collect();
    // The unit's credential counts more than the service's own.
    if config.mesh.key_file.is_none() && !Path::new(CREDENTIAL).exists() {
        let state_directory = Some(folder.to_string_lossy().into_owned());
        let around = Surroundings { state_directory, ..Surroundings::default() };
        faults.extend(keys::mesh_key_again(config, &around).err().map(Fault::from));
    }
    faults
}

/// What the service would not see, wherever its unit is as it was packaged.
pub(super) fn unseen(config: &Config) -> impl Iterator<Item = Fault> {
    let (tls, auth, mesh) = (&config.tls, &config.auth, &config.mesh);
    let named = [
        ("mesh.key_file", &mesh.key_file),
        ("tls.cert", &tls.cert),
        ("tls.key", &tls.key),
        ("tls.ca", &tls.ca),
        ("auth.token_file", &auth.token_file),
        ("auth.ticket_keys", &auth.ticket_keys),
    ];
    named.into_iter().filter_map(|(key, path)| {
        let path = path.as_deref()?;
        let real = path.canonicalize().ok()?;
        let folder = UNSEEN.into_iter().find(|folder| real.starts_with(folder))?;
        let problem = format!(
            "{}: the service sees nothing of {folder}, unless a drop-in says otherwise; /etc/pigeonhubd is a place for it",
            path.display()
        );
        // A drop-in may do so.
        Some(Fault { key, problem, hidden: true })
    })
}

/// What is wrong with the unit's credential, which systemd reads as root.
pub(super) fn of_credential() -> Option<Fault> {
    let bytes = std::fs::read(CREDENTIAL).ok()?;
    MeshKey::new(&bytes).is_err().then(|| Fault {
        key: "mesh.key_file",
        problem: format!(
            "{CREDENTIAL}: {} bytes; the credential of the units, should be at least {MIN_KEY_LEN}",
            bytes.trim_ascii().len()
        ),
        hidden: false,
    })
}
