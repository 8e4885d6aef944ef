//! What the tests of the whole system stand on: hubs, published clients and raw
//! WebSockets as things that a test owns and that end with it.

mod cable;
mod client;
mod crowd;
mod ground;
mod hub;
mod net;
mod process;
mod raw;
mod rogue;
mod script;
pub(crate) mod skip;
mod sockets;
mod wait;
mod watch;

pub(crate) use cable::Cable;
pub(crate) use client::{Client, Clients, all_hear_all};
pub(crate) use crowd::{Crowd, Sums};
pub(crate) use ground::Ground;
pub(crate) use hub::{Hub, Plan, daemon};
pub(crate) use net::Net;
pub(crate) use process::{Process, tied};
pub(crate) use raw::{Closed, Raw};
pub(crate) use rogue::{Lair, Link, Rogue, greeted, say_hello};
pub(crate) use script::{JsHub, scripts};
pub(crate) use skip::{Need, skipped, tool};
pub(crate) use sockets::tcp_between;
pub(crate) use wait::{until, until_ok};
pub(crate) use watch::{Bare, Watch, before_attackers, p99};
