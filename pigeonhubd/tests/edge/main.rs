//! Floor 2 on its own: real sockets on loopback around a hub that the test
//! plays itself.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod commands;
mod control;
mod daemon;
mod dial;
mod direct;
mod door;
mod ground;
mod http;
mod limits;
mod listen;
mod reload;
mod requests;
mod session;
mod tls;
mod websocket;
