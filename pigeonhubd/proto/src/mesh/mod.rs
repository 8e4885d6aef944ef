//! The mesh between hubs.

pub mod identity;
pub mod routes;
pub mod stream;
pub mod topology;
