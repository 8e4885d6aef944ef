//! The mesh between hubs.

pub mod identity;
