//! The files that a configuration names, as far as this user can look at them:
//! a hub does not start without them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use pigeonhub_proto::config::Config;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with a file, or why that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The key that names it.
    pub(crate) key: &'static str,
    /// With the file's path.
    pub(crate) problem: String,
    /// This user may not look at it.
    pub(crate) hidden: bool,
}

/// All that can be told of the files that `config` names.
pub(crate) fn faults(config: &Config) -> Vec<Fault> {
    let named = [
        ("mesh.key_file", &config.mesh.key_file, true),
        ("tls.cert", &config.tls.cert, false),
        ("tls.key", &config.tls.key, true),
        ("tls.ca", &config.tls.ca, false),
        ("auth.token_file", &config.auth.token_file, true),
    ];
    let mut faults = Vec::new();
    for (key, path, secret) in named {
        let Some(path) = path else { continue };
        let looked = path.metadata().map_err(|error| of_io(key, path, &error));
        faults.extend(looked.and_then(|meta| usable(key, path, &meta, secret)).err());
    }
    if faults.is_empty() {
        faults.extend(tls(config).err());
    }
    faults
}

fn fault(key: &'static str, path: &Path, problem: impl std::fmt::Display) -> Fault {
    Fault { key, problem: format!("{}: {problem}", path.display()), hidden: false }
}

fn of_io(key: &'static str, path: &Path, error: &io::Error) -> Fault {
    let hidden = error.kind() == io::ErrorKind::PermissionDenied;
    match error.kind() {
        io::ErrorKind::NotFound => fault(key, path, "does not exist here"),
        _ if hidden => Fault { hidden, ..fault(key, path, "this user may not look at it") },
        _ => fault(key, path, format!("cannot be read: {error}")),
    }
}

fn usable(key: &'static str, path: &Path, meta: &Metadata, secret: bool) -> Result<(), Fault> {
    if !meta.is_file() {
        return Err(fault(key, path, "not a file"));
    }
    if secret && meta.mode() & 0o006 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(fault(
            key,
            path,
            format!("mode {mode:04o} shows this secret to everyone; right would be: chmod 600"),
        ));
    }
    fs::File::open(path).map(drop).map_err(|error| of_io(key, path, &error))
}

/// Whether certificate and key are, and belong together.
fn tls(config: &Config) -> Result<(), Fault> {
    if let Some(path) = &config.tls.ca {
        certificates("tls.ca", path)?;
    }
    let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) else { return Ok(()) };
    let chain = certificates("tls.cert", cert)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| fault("tls.key", key, format!("holds no private key in PEM: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unfit = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            fault("tls.key", key, format!("does not belong to the certificate in {}", cert.display()))
        }
        error => fault("tls.cert", cert, format!("a certificate or key that cannot be used: {error}")),
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map(drop)
        .map_err(unfit)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| fault(key, path, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(fault(key, path, "holds no certificate; should begin with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}
