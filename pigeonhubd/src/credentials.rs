//! What the configuration names files for: certificate, key, roots, tokens, and keys of tickets.

use std::fs;
use std::sync::Arc;

use pigeonhub_proto::config::Config;
use rustls::{ClientConfig, ServerConfig};
use sha2::{Digest, Sha256};

use crate::keys::{self, KeyError};
use crate::tickets::TicketKeys;
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

/// A file that cannot be used, for those who do more than start a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The key that names it.
    pub key: &'static str,
    /// What is wrong, with the file's path.
    pub problem: String,
    /// It may be right: this user may not look at it.
    pub hidden: bool,
}

impl From<TlsError> for FileFault {
    fn from(error: TlsError) -> Self {
        Self { key: error.key(), problem: error.problem(), hidden: error.is_hidden() }
    }
}

impl From<KeyError> for FileFault {
    fn from(error: KeyError) -> Self {
        let hidden = error.is_hidden();
        match error {
            KeyError::Named { key, source, .. } => Self { key, problem: source.to_string(), hidden },
            other => Self { key: "mesh.key_file", problem: other.to_string(), hidden },
        }
    }
}

/// All of them, read and checked.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// What the port shows; none if it does not speak TLS.
    pub server: Option<Arc<ServerConfig>>,
    /// What other hubs are checked with; if none, the system's roots.
    pub client: Option<Arc<ClientConfig>>,
    /// What clients have to show; if there is neither this nor the next, nothing.
    pub tokens: Option<Tokens>,
    /// Or a ticket that one of these signed.
    pub ticket_keys: Option<TicketKeys>,
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
            ("auth.ticket_keys", &config.auth.ticket_keys),
        ];
        // What cannot be read is told by those that need it.
        let digest = |path| fs::read(path).ok().map(|bytes| Sha256::digest(&bytes).into());
        Ok(Self {
            server: tls::server(config)?,
            client: tls::client(config)?,
            tokens: Tokens::load(config)?,
            ticket_keys: TicketKeys::load(config)?,
            digests: files.map(|(key, path)| (key, path.as_ref().and_then(digest))).into(),
        })
    }

    /// As [`Self::load`], to the end: every file that cannot be used, the mesh key's among them if one
    /// is named.
    pub fn faults(config: &Config) -> Vec<FileFault> {
        let mesh_key = keys::named_mesh_key(config).and_then(Result::err).map(FileFault::from);
        let tokens = Tokens::load(config).err().map(FileFault::from);
        let tickets = TicketKeys::load(config).err().map(FileFault::from);
        let tls = tls::faults(config).into_iter().map(FileFault::from);
        mesh_key.into_iter().chain(tls).chain(tokens).chain(tickets).collect()
    }

    /// The keys whose files hold something else than in `before`.
    pub fn changed(&self, before: &Self) -> Vec<String> {
        let other = self.digests.iter().filter(|file| !before.digests.contains(file));
        other.map(|(key, _)| (*key).to_owned()).collect()
    }
}
