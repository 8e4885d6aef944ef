//! What the configuration names files for: certificate, key, roots and tokens.

use std::fs;
use std::sync::Arc;

use pigeonhub_proto::config::Config;
use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};

use crate::keys::KeyError;
use crate::tls::{self, TlsError};
use crate::tokens::Tokens;

/// A file that is named cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Of `[tls]`.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Of `[auth]`.
    #[error(transparent)]
    Tokens(#[from] KeyError),
}

/// All of them, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// What the port shows; none if it does not speak TLS.
    pub server: Option<Arc<ServerConfig>>,
    /// What other hubs are checked with; if none, the system's roots.
    pub client: Option<Arc<ClientConfig>>,
    /// What clients have to show; if none, nothing.
    pub tokens: Option<Tokens>,
    /// To tell whether a file is another one now.
    digests: Vec<(&'static str, Option<[u8; 32]>)>,
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(config: &Config) -> Result<Self, CredentialError> {
        let files = [
            ("tls.cert", &config.tls.cert),
            ("tls.key", &config.tls.key),
            ("tls.ca", &config.tls.ca),
            ("auth.token_file", &config.auth.token_file),
        ];
        // What cannot be read is told by those that need it.
        let digest = |path| fs::read(path).ok().map(|bytes| Sha256::digest(&bytes).into());
        Ok(Self {
            server: tls::server(config)?,
            client: tls::client(config)?,
            tokens: Tokens::load(config)?,
            digests: files.map(|(key, path)| (key, path.as_ref().and_then(digest))).into(),
        })
    }

    /// The keys whose files hold something else than in `before`.
    pub fn changed(&self, before: &Self) -> Vec<String> {
        let other = self.digests.iter().filter(|file| !before.digests.contains(file));
        other.map(|(key, _)| (*key).to_owned()).collect()
    }
}
