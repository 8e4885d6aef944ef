//! The PeerPigeon hub protocol as plain state machines.
//!
//! Nothing in this crate opens a socket, reads a file or asks for the time:
//! the caller feeds [`hub::Hub`] with inputs and the current [`time::Now`],
//! then drains its outputs. Two hubs in one process are two values.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`id`] | 160-bit ids and the XOR distance between them |
//! | [`time`] | the caller's clock, as a value |
//! | [`io`] | what goes into a hub and what comes out |
//! | [`direct`] | signals that need not go through a hub |
//! | [`bundle`] | signals on their way to another hub together |
//! | [`event`] | what a person would want to hear about |
//! | [`exposition`] | figures for monitoring in another format |
//! | [`control`] | what `pigeonctl` asks and gets told |
//! | [`settings`] | what a hub is told by its operator |
//! | [`config`] | the whole configuration, from text, checked |
//! | [`paths`] | where a hub keeps what |

pub mod bundle;
pub mod config;
pub mod control;
pub mod direct;
pub mod directory;
pub mod event;
pub mod exposition;
pub mod hub;
pub mod id;
pub mod io;
pub mod mesh;
pub mod paths;
pub mod settings;
pub mod ticket;
pub mod time;
pub mod wire;
