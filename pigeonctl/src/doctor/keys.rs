//! Keys and folders: who can read them, and whether the mesh shares its key.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::AccessFlags;
use pigeonhub_proto::control::EventInfo;
use pigeonhub_proto::mesh::identity::MIN_KEY_LEN;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::Finding;
use super::ground::{Ground, Running};
use crate::check::files::{self, Fault};
use crate::look::{count, duration, now_ms, timestamp};

/// Whoever renews certificates by a program has done it by then, in seconds.
const EXPIRES_SOON: u64 = 14 * 24 * 3600;

/// Folders and secrets.
pub(super) fn rights(ground: &Ground) -> Vec<Finding> {
    let uid = ground.running.as_ref().and_then(|running| running.uid);
    let mut findings = Vec::new();
    for (what, dir) in [("state folder", ground.state_dir()), ("runtime folder", ground.runtime_dir())] {
        findings.push(folder(what, &dir, uid));
    }
    let key = ground.state_dir().join("hub.key");
    findings.push(match ground.running {
        Some(_) if matches!(look("hub key", &key), Ok(None)) => gone(&key),
        _ => secret("hub key", &key, uid, false),
    });
    let twin = ground.running.as_ref().and_then(|running| running.status.twin.as_deref());
    findings.extend(twin.map(|at| twin_key(at, &key)));
    findings
}

/// The key of a hub that runs, which has none on disk.
pub(super) fn gone(key: &Path) -> Finding {
    let shown = key.display();
    let found =
        format!("{shown}: not there, though the hub runs: it was removed, or the hub uses another folder");
    Finding::warning(
        "hub key",
        found,
        "restore it before the hub is restarted, which else makes itself a new one",
    )
}

/// Another hub uses the same one: it is at that address, if that is known.
pub(super) fn twin_key(at: &str, key: &Path) -> Finding {
    let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
    let found = format!(
        "{}: another hub{place} runs with the same key, or did until a few minutes ago: they take each other's \
         links away",
        key.display()
    );
    let cure = format!(
        "one state_dir is a copy of the other: there remove hub.key and restart the hub, which makes itself a new \
         one; if it is this one: rm '{}'",
        key.display()
    );
    Finding::failed("hub key", found, cure)
}

pub(super) fn folder(what: &'static str, dir: &Path, uid: Option<u32>) -> Finding {
    let meta = match look(what, dir) {
        Ok(Some(meta)) => meta,
        Ok(None) => return to_be_made(what, dir, uid),
        Err(finding) => return *finding,
    };
    let shown = dir.display();
    if !meta.is_dir() {
        let cure = format!("move it elsewhere: mv '{shown}' '{shown}.old'");
        return Finding::failed(what, format!("{shown}: not a folder"), cure);
    }
    if meta.mode() & 0o002 != 0 {
        let found = format!("{shown}: mode {:04o} lets everyone write in it", meta.mode() & 0o7777);
        return Finding::failed(what, found, format!("chmod o-w '{shown}'"));
    }
    owned(what, dir, &meta, uid).unwrap_or_else(|| Finding::ok(what, shown.to_string()))
}

/// A folder that the hub makes when it starts, if it may.
fn to_be_made(what: &'static str, dir: &Path, uid: Option<u32>) -> Finding {
    let shown = dir.display();
    let made = Finding::ok(what, format!("{shown}: not there yet; made at the start"));
    let Some(above) = dir.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok()) else {
        return made;
    };
    if !above.is_dir() {
        let cure = format!("move it elsewhere: mv '{0}' '{0}.old'", above.display());
        return Finding::failed(
            what,
            format!("{shown} cannot be made: {} is no folder", above.display()),
            cure,
        );
    }
    // Of others than the caller's user this cannot tell: service managers make folders for them.
    let own = uid.is_none_or(|uid| uid == nix::unistd::geteuid().as_raw());
    if own && nix::unistd::access(above, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let found = format!("{shown}: not there yet, and this user may not write in {}", above.display());
        let cure = format!("make it, as root, for the hub's user: install -d -o USER -m 700 '{shown}'");
        return Finding::warning(what, found, cure);
    }
    made
}

/// A file that not everyone may read. `named` is one that must exist.
pub(super) fn secret(what: &'static str, file: &Path, uid: Option<u32>, named: bool) -> Finding {
    let shown = file.display();
    let meta = match look(what, file) {
        Ok(Some(meta)) => meta,
        Ok(None) if named => {
            let cure = format!(
                "copy the mesh's key there, or make one: openssl rand -hex 32 > '{shown}'; chmod 600 '{shown}'"
            );
            return Finding::failed(what, format!("{shown}: does not exist, but is configured"), cure);
        }
        Ok(None) => return Finding::ok(what, format!("{shown}: not there yet; made at the first start")),
        Err(finding) => return *finding,
    };
    if meta.mode() & 0o006 != 0 {
        let found = format!("{shown}: mode {:04o} shows this secret to everyone", meta.mode() & 0o7777);
        return Finding::failed(
            what,
            found,
            format!("chmod 600 '{shown}', and think of it as known: make a new one"),
        );
    }
    owned(what, file, &meta, uid).unwrap_or_else(|| Finding::ok(what, shown.to_string()))
}

/// Nothing if it is not there.
fn look(what: &'static str, path: &Path) -> Result<Option<Metadata>, Box<Finding>> {
    match path.metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let found = format!("{}: this user may not look at it", path.display());
            Err(Box::new(Finding::skipped(what, found)))
        }
        Err(error) => {
            let found = format!("{}: {error}", path.display());
            Err(Box::new(Finding::failed(what, found, "name another folder or file in the configuration")))
        }
    }
}

/// A finding if the hub, which runs as `uid`, may not use it.
fn owned(what: &'static str, path: &Path, meta: &Metadata, uid: Option<u32>) -> Option<Finding> {
    let uid = uid.filter(|uid| *uid != 0 && *uid != meta.uid() && meta.mode() & 0o040 == 0)?;
    let found = format!("{}: belongs to user {}, but the hub runs as user {uid}", path.display(), meta.uid());
    Some(Finding::failed(what, found, format!("chown {uid} '{}'", path.display())))
}

/// The files of `[tls]` and `[auth]`, if any are named.
pub(super) fn named_files(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "named files";
    let (tls, auth) = (&ground.config.tls, &ground.config.auth);
    let named =
        [&tls.cert, &tls.key, &tls.ca, &auth.token_file, &auth.ticket_keys].into_iter().flatten().count();
    // The mesh key is looked at by itself.
    let faults = files::faults(&ground.config).into_iter().filter(|fault| fault.key != "mesh.key_file");
    let mut findings: Vec<Finding> = faults
        .map(|Fault { key, problem, hidden }| match hidden {
            true => Finding::skipped(WHAT, format!("{key}: {problem}")),
            false => Finding::failed(
                WHAT,
                format!("{key}: {problem}"),
                "put it right, or name another; without it the hub neither starts nor reloads",
            ),
        })
        .collect();
    if named > 0 && findings.is_empty() {
        findings.push(Finding::ok(WHAT, format!("{} can be used", count(named, "file"))));
    }
    findings.extend(tls.cert.as_deref().and_then(|cert| certificate(cert, now_ms() / 1000)));
    findings
}

/// What the hub says of its configuration on disk.
pub(super) fn on_disk(ground: &Ground) -> Option<Finding> {
    const WHAT: &str = "on disk";
    let on_disk = ground.running.as_ref()?.status.on_disk.as_ref()?;
    Some(match &on_disk.fault {
        Some(_) => {
            Finding::failed(WHAT, on_disk.words(), "pigeonctl check shows the place; mend it, then reload")
        }
        None if on_disk.restart.is_empty() => Finding::warning(WHAT, on_disk.words(), "pigeonctl reload"),
        None => Finding::warning(WHAT, on_disk.words(), "restart the hub: no client is refused meanwhile"),
    })
}

/// How long a certificate counts, in whose file it is the first.
pub(super) fn certificate(file: &Path, now: u64) -> Option<Finding> {
    const WHAT: &str = "certificate";
    let first = CertificateDer::from_pem_file(file).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&first).ok()?;
    let at = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let (from, until) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    let day = timestamp(until.saturating_mul(1000)).split('T').next().unwrap_or_default().to_owned();
    let cure = "renew it, then systemctl reload: no client is dropped";
    Some(match until.checked_sub(now) {
        _ if now < from => {
            Finding::failed(WHAT, "not valid yet", "set the clock, or show the certificate before until then")
        }
        None => Finding::failed(WHAT, format!("over since {day}: clients turn away"), cure),
        Some(left) if left < EXPIRES_SOON => {
            Finding::warning(WHAT, format!("over in {}", duration(left)), cure)
        }
        Some(_) => Finding::ok(WHAT, format!("valid until {day}")),
    })
}

/// Whether the key is one, and whether the mesh shares it.
pub(super) fn mesh_key(ground: &Ground) -> Vec<Finding> {
    const WHAT: &str = "mesh key";
    let (file, named) = ground.mesh_key();
    let uid = ground.running.as_ref().and_then(|running| running.uid);
    let mut finding = secret(WHAT, &file, uid, named);
    if finding.cure.is_some() {
        return vec![finding];
    }
    if let Ok(bytes) = std::fs::read(&file) {
        let key = bytes.trim_ascii();
        if key.len() < MIN_KEY_LEN {
            let found = format!("{}: {} bytes; should be at least {MIN_KEY_LEN}", file.display(), key.len());
            let cure = format!("openssl rand -hex 32 > '{}', the same on all hubs", file.display());
            return vec![Finding::failed(WHAT, found, cure)];
        }
        finding.found = format!("{}, fingerprint {}", file.display(), fingerprint(key));
    }
    let strangers = ground.config.settings().bootstrap_hubs.iter().filter(|url| !is_here(url)).count();
    let sharing = sharing(ground.running.as_ref(), strangers, named, &file);
    vec![finding].into_iter().chain(sharing).collect()
}

/// For comparing keys by eye. Too short to tell anything of the key.
fn fingerprint(key: &[u8]) -> String {
    let digest =
        Sha256::new().chain_update(b"pigeonctl fingerprint of a mesh key\0").chain_update(key).finalize();
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a bootstrap is on this machine.
fn is_here(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    match url.as_ref().and_then(|url| url.host()) {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// How long a hub in a mesh is reminded of another one that has not its key, in seconds.
const STRANGERS_MATTER: u64 = 600;

/// What to make of an event if it says that hubs have different keys. A hub that has a mesh of
/// `hubs` others need not be at fault.
pub(super) fn turned_away(event: &EventInfo, hubs: usize, now: u64, cure: &str) -> Option<Finding> {
    const WHAT: &str = "key shared";
    let field = |name: &str| event.fields.get(name)?.as_str();
    let reason = field("reason").filter(|reason| event.event == "hubRejected" && reason.contains("key"))?;
    let seconds = now.saturating_sub(event.at) / 1000;
    let found = format!("hub {}, {} ago: {reason}", field("hub").unwrap_or("?"), duration(seconds));
    if hubs == 0 {
        return Some(Finding::failed(WHAT, found, cure.to_owned()));
    }
    let cure = format!("if it belongs to this mesh: {cure}; if not, its operator has a wrong bootstrap.hubs");
    (seconds < STRANGERS_MATTER).then(|| Finding::warning(WHAT, found, cure))
}

/// How the other hubs get this hub's key.
pub(super) fn how_to_share(file: &Path) -> String {
    // What systemd hands over is there while the hub runs, and nowhere else.
    let how = match file.starts_with("/run/credentials") {
        true => String::from(
            "give the others the credential that this one has, at /etc/credstore/pigeonhubd.mesh.key",
        ),
        false => format!("copy {} to the others, and name it in mesh.key_file", file.display()),
    };
    format!("all hubs of a mesh need the same key: {how} (compare fingerprints with pigeonctl doctor there)")
}

/// What tells whether other hubs have the same key.
fn sharing(running: Option<&Running>, strangers: usize, named: bool, file: &Path) -> Option<Finding> {
    const WHAT: &str = "key shared";
    let cure = how_to_share(file);
    let events = running.into_iter().flat_map(|running| &running.events).rev();
    let hubs = running.map_or(0, |running| running.status.known_hubs);
    let rejected = events.into_iter().find_map(|event| turned_away(event, hubs, now_ms(), &cure));
    match (rejected, hubs) {
        (Some(finding), _) => Some(finding),
        (None, 0) if strangers > 0 && !named => {
            let found = format!(
                "{} on other machines, but this key is this machine's own",
                count(strangers, "bootstrap")
            );
            Some(Finding::warning(WHAT, found, cure))
        }
        (None, 0) => None,
        (None, hubs) => {
            Some(Finding::ok(WHAT, format!("proven with the mesh of {}", count(hubs, "other hub"))))
        }
    }
}
