//! Rooms of published clients: whether they become one piece and stay it.
//!
//! The hubs are real, the clients a model of the published ones; one number decides everything that
//! happens. `cargo test -p pigeonhub-proto --test rooms table -- --ignored --nocapture` prints shares.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod client;
mod connection;
mod hubs;
mod net;
mod scenes;
mod talk;
mod world;
