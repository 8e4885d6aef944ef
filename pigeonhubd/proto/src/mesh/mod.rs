//! The mesh between hubs.

pub mod batch;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod keyring;
pub mod record;
pub mod records;
pub mod routes;
pub mod stream;
pub mod topology;
