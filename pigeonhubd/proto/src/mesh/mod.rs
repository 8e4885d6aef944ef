//! The mesh between hubs.

pub mod identity;
pub mod topology;
