//! Tickets of clients: JSON Web Tokens (RFC 7519) that an operator's own program signs.
//!
//! A hub needs nothing but the keys to tell that a ticket is good: it asks nobody. Two algorithms exist
//! here, EdDSA with Ed25519 (RFC 8037) and HS256, each for its own kind of key; so no token chooses how
//! it is checked.

mod crypto;
mod in_use;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use pigeonhub_proto::config::Config;
use pigeonhub_proto::id::Id;
use pigeonhub_proto::ticket::Ticket;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::in_use::{InUse, TicketPlace};
use crate::keys::{self, KeyError};

/// The key of the configuration that names them.
const KEY: &str = "auth.ticket_keys";

/// The largest file of keys, in bytes.
const LARGEST_FILE: u64 = 64 * 1024;

/// Keys at most: a ticket is checked with each of its algorithm.
const MOST: usize = 16;

/// The shortest secret of HS256, in bytes (RFC 7518, section 3.2).
const SHORTEST: usize = 32;

/// The longest ticket, in bytes.
pub const LONGEST: usize = 4096;

/// What a ticket is for, if it names an audience.
const AUDIENCE: &str = "pigeonhubd";

/// Seconds by which clocks may differ.
pub const LEEWAY: u64 = 60;

const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// What a ticket says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    /// From when on it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Its own name: tickets of one name share their limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The peer id that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The networks that it opens, a `*` for any text; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Connections with it at once, at one hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<NonZeroU32>,
    /// Messages a second of all its connections, at one hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages_per_second: Option<NonZeroU32>,
    /// Bytes of announce data in one network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_announce_bytes: Option<u32>,
}

/// A good ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What the hub is told of it.
    pub ticket: Arc<Ticket>,
    /// What tells it from others.
    pub name: [u8; 32],
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
    /// Messages a second.
    pub messages: Option<NonZeroU32>,
}

/// Why a ticket is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// No key here made it.
    #[error("no key of this hub signed it")]
    Signature,
    /// It is over.
    #[error("it has expired")]
    Expired,
    /// It has not begun.
    #[error("it is not valid yet")]
    Early,
    /// It is for something else.
    #[error("its audience ('aud') is another one than \"pigeonhubd\"")]
    Audience,
    /// It is for another peer.
    #[error("it is for another peer id")]
    Peer,
    /// What it says makes no sense.
    #[error("it lacks 'exp', or what it says has the wrong form")]
    Claims,
}

/// What checks tickets. No secret of it can end in a log.
#[derive(Clone)]
pub struct TicketKeys(Vec<Key>);

#[derive(Clone)]
struct Key {
    algorithm: Algorithm,
    key: DecodingKey,
    /// To tell it from others.
    digest: [u8; 32],
}

impl PartialEq for TicketKeys {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|key| key.digest).eq(other.0.iter().map(|key| key.digest))
    }
}

impl Eq for TicketKeys {}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketKeys({})", self.0.len())
    }
}

impl TicketKeys {
    /// Those in the file that `auth.ticket_keys` names; `None` if it names none.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn load(config: &Config) -> Result<Option<Self>, KeyError> {
        let Some(path) = &config.auth.ticket_keys else { return Ok(None) };
        let keys = Self::read(path);
        let origin = || config.origin(KEY).to_string();
        keys.map(Some).map_err(|source| KeyError::Named {
            origin: origin(),
            key: KEY,
            source: Box::new(source),
        })
    }

    /// Those in a file.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        crypto::install();
        let unfit = |found: String, cure: &str| {
            Err(KeyError::Unfit { path: path.to_owned(), found, cure: cure.to_owned() })
        };
        let bytes = keys::read(path, LARGEST_FILE)?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return unfit(String::from("bytes that are no text"), "should be keys in lines and in PEM");
        };
        let mut keys = Vec::new();
        let mut lines = (1..).zip(text.trim_start_matches('\u{feff}').lines().map(str::trim));
        while let Some((number, line)) = lines.next() {
            let key = if line.is_empty() || line.starts_with('#') {
                continue;
            } else if line.starts_with(PEM_BEGIN) {
                let mut block = format!("{line}\n");
                for (_, line) in lines.by_ref() {
                    block.push_str(line);
                    block.push('\n');
                    if line.starts_with(PEM_END) {
                        break;
                    }
                }
                Key::of_pem(&block)
            } else {
                line.strip_prefix("HS256 ").and_then(Key::of_secret)
            };
            let Some(key) = key else {
                return unfit(
                    format!("line {number}: no key"),
                    "should be \"HS256 \" and a secret of 32 bytes or more in base64, such as `openssl rand -base64 32` \
                     makes, or an Ed25519 public key in PEM, such as `openssl pkey -pubout` prints",
                );
            };
            keys.push(key);
        }
        match keys.len() {
            0 => unfit(String::from("no key"), "put one in, or no ticket is good"),
            count if count > MOST => unfit(format!("{count} keys"), "should be at most 16"),
            _ => Ok(Self(keys)),
        }
    }

    /// Whether a token has the form of a ticket: three parts (RFC 7515, section 3.1).
    pub fn is_ticket(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// A ticket for whoever comes as `peer`.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn check(&self, token: &str, peer: Option<&str>) -> Result<Granted, BadTicket> {
        let claims = self.claims(token)?;
        let wanted = claims.peer_id.as_deref().map(str::parse::<Id>).transpose();
        let wanted = wanted.map_err(|_| BadTicket::Claims)?;
        if wanted.is_some() && wanted != peer.and_then(|peer| peer.parse().ok()) {
            return Err(BadTicket::Peer);
        }
        let name = Sha256::digest(claims.jti.as_deref().unwrap_or(token)).into();
        let max_announce = claims.max_announce_bytes.map(|bytes| bytes as usize);
        let ticket = Arc::new(Ticket { peer: wanted, networks: claims.networks, max_announce });
        let (connections, messages) = (claims.max_connections, claims.max_messages_per_second);
        Ok(Granted { ticket, name, connections, messages })
    }

    /// What a ticket says, if a key here signed it and its time is now.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn claims(&self, token: &str) -> Result<Claims, BadTicket> {
        if token.len() > LONGEST {
            return Err(BadTicket::Claims);
        }
        let algorithm = decode_header(token).map_err(|_| BadTicket::Signature)?.alg;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        for Key { key, .. } in self.0.iter().filter(|key| key.algorithm == algorithm) {
            let fault = match decode::<Claims>(token, key, &validation) {
                Ok(good) => return Ok(good.claims),
                Err(fault) => fault,
            };
            return Err(match fault.kind() {
                ErrorKind::InvalidSignature | ErrorKind::Base64(_) => continue,
                ErrorKind::ExpiredSignature => BadTicket::Expired,
                ErrorKind::ImmatureSignature => BadTicket::Early,
                ErrorKind::InvalidAudience => BadTicket::Audience,
                _ => BadTicket::Claims,
            });
        }
        Err(BadTicket::Signature)
    }
}

impl Key {
    fn of_pem(block: &str) -> Option<Self> {
        let key = DecodingKey::from_ed_pem(block.as_bytes()).ok()?;
        let bytes = key.try_get_as_bytes().ok().filter(|bytes| bytes.len() == 32)?;
        let digest = Sha256::digest(bytes).into();
        Some(Self { algorithm: Algorithm::EdDSA, key, digest })
    }

    fn of_secret(base64: &str) -> Option<Self> {
        let secret = secret(base64)?;
        let key = DecodingKey::from_secret(&secret).ok()?;
        Some(Self { algorithm: Algorithm::HS256, key, digest: Sha256::digest(secret).into() })
    }
}

/// What a ticket says, whoever signed it; none if it is no ticket.
pub fn unchecked(token: &str) -> Option<Claims> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

/// A secret in base64, with the signs of either alphabet (RFC 4648, sections 4 and 5).
fn secret(base64: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    let plain = base64.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(plain).ok()?;
    (secret.len() >= SHORTEST).then_some(secret)
}

/// Signs a ticket with a key as a program of the operator's has it: an Ed25519 private key in PEM, or the
/// first secret of a file for `auth.ticket_keys`.
///
/// # Errors
/// If the file cannot be used.
pub fn sign(claims: &Claims, path: &Path) -> Result<String, KeyError> {
    crypto::install();
    let unfit = |found: &str, cure: &str| KeyError::Unfit {
        path: path.to_owned(),
        found: found.to_owned(),
        cure: cure.to_owned(),
    };
    let bytes = keys::read(path, LARGEST_FILE)?;
    let text = String::from_utf8_lossy(&bytes);
    let secret = text.lines().find_map(|line| secret(line.trim().strip_prefix("HS256 ")?));
    let (algorithm, key) = match secret {
        Some(secret) => (Algorithm::HS256, EncodingKey::from_secret(&secret)),
        None => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&bytes)),
    };
    let key = key.map_err(|_| {
        unfit(
            "no key to sign with",
            "should be an Ed25519 private key in PEM, such as `openssl genpkey -algorithm ed25519` makes, or a line \
             with \"HS256 \" and a secret of 32 bytes or more in base64",
        )
    })?;
    encode(&Header::new(algorithm), claims, &key)
        .map_err(|_| unfit("a key that signs nothing", "should be an Ed25519 private key in PEM (PKCS#8)"))
}

#[cfg(test)]
mod tests;
