//! The mesh between hubs.

pub mod identity;
pub mod routes;
pub mod topology;
