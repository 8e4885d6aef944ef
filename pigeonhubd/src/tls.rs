//! TLS: this hub's certificate, and the roots that other hubs' are checked against.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use pigeonhub_proto::config::Config;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::keys::BYTE_ORDER_MARK;

/// The largest file of certificates or keys, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Why there is no TLS: the configuration names files that do not do.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {key}: {path}: {problem}", path = path.display())]
pub struct TlsError {
    origin: String,
    key: &'static str,
    path: PathBuf,
    // Boxed, since every reader may return one.
    problem: Box<Problem>,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}{cure}", cure = cure(.0))]
    Io(#[from] io::Error),
    #[error("not a file")]
    NoFile,
    #[error("mode {0:04o} shows this secret to everyone; right would be: chmod 600 '{path}'", path = .1.display())]
    Open(u32, PathBuf),
    #[error("larger than {LARGEST_FILE} bytes; should be PEM")]
    Large,
    #[error("not PEM: {0}")]
    Pem(pem::Error),
    #[error("holds no certificate; should begin with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error("holds no private key; should begin with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error(
        "holds an encrypted private key, and nobody is there to type its passphrase; `openssl pkey -in FILE` prints \
             it as it should be"
    )]
    Encrypted,
    #[error("does not belong to the certificate in {0}; name the key that it was made with")]
    Mismatch(PathBuf),
    #[error("a certificate or key that cannot be used: {0}")]
    Unfit(rustls::Error),
}

/// What a folder such as Let's Encrypt's wants, which is root's alone.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the hub's user may not. Have whoever renews it copy it to where that user may read it: \
             `install -m 640 -g pigeonhubd FILE /etc/pigeonhubd/`, then `systemctl reload pigeonhubd`"
        }
        _ => "",
    }
}

impl TlsError {
    /// The key that names the file.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The file, and what is wrong with it.
    pub fn problem(&self) -> String {
        format!("{}: {}", self.path.display(), self.problem)
    }

    /// Whether that is only because this user may not look at it.
    pub fn is_hidden(&self) -> bool {
        matches!(&*self.problem, Problem::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Everything that is wrong with the files of `[tls]`: each by itself, then those that belong together.
pub fn faults(config: &Config) -> Vec<TlsError> {
    let cert = config.tls.cert.as_deref().map(|path| chain_of(config, path).map(drop));
    let key = config.tls.key.as_deref().map(|path| key_of(config, path).map(drop));
    let mut faults: Vec<_> = [cert, key].into_iter().flatten().filter_map(Result::err).collect();
    if faults.is_empty() {
        faults.extend(server(config).err());
    }
    faults.extend(client(config).err());
    faults
}

fn chain_of(config: &Config, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = read(path, false).and_then(|pem| certificates(&pem));
    chain.map_err(|problem| fault(config, "tls.cert", path, problem))
}

fn key_of(config: &Config, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = read(path, true).and_then(|pem| private_key(&pem));
    key.map_err(|problem| fault(config, "tls.key", path, problem))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What the port shows its callers; none if it does not speak TLS.
///
/// # Errors
/// If the files that are named are not a certificate and its key.
pub fn server(config: &Config) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) else { return Ok(None) };
    let of_cert = |problem| fault(config, "tls.cert", cert, problem);
    let of_key = |problem| fault(config, "tls.key", key, problem);
    let (chain, secret) = (chain_of(config, cert)?, key_of(config, key)?);
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| of_cert(Problem::Unfit(error)))?.with_no_client_auth();
    let mut server = builder.with_single_cert(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => of_key(Problem::Mismatch(cert.clone())),
        error => of_cert(Problem::Unfit(error)),
    })?;
    // WebSocket's way in is HTTP/1.1 alone.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(server)))
}

/// What other hubs are checked with, if the configuration names roots.
///
/// # Errors
/// If what it names is no file of certificates.
pub fn client(config: &Config) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let Some(path) = &config.tls.ca else { return Ok(None) };
    let roots = read(path, false).and_then(|pem| {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&pem)? {
            roots.add(certificate).map_err(Problem::Unfit)?;
        }
        client_with(roots).map_err(Problem::Unfit)
    });
    roots.map(Some).map_err(|problem| fault(config, "tls.ca", path, problem))
}

/// A client that trusts these roots.
pub(crate) fn client_with(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn fault(config: &Config, key: &'static str, path: &Path, problem: Problem) -> TlsError {
    TlsError {
        origin: config.origin(key).to_string(),
        key,
        path: path.to_owned(),
        problem: Box::new(problem),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain.map_err(Problem::Pem)? {
        empty if empty.is_empty() => Err(Problem::NoCertificate),
        chain => Ok(chain),
    }
}

/// In the first line of such a key (RFC 7468, section 11), or in the second (RFC 1421).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    let encrypted = || pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        _ if encrypted() => Problem::Encrypted,
        pem::Error::NoItemsFound => Problem::NoKey,
        error => Problem::Pem(error),
    })
}

fn read(path: &Path, secret: bool) -> Result<Vec<u8>, Problem> {
    // Opening a pipe would wait for a writer; the flag does nothing to a file.
    let mut options = OpenOptions::new();
    let file: fs::File = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Problem::NoFile);
    }
    if secret && meta.mode() & 0o006 != 0 {
        return Err(Problem::Open(meta.mode() & 0o7777, path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Problem::Large);
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}
