//! The daemon: tokio, sockets and the clock around `pigeonhub-proto`'s `Hub`.
//!
//! ```text
//!   main → daemon ─┬─ listener → http → session ┐
//!                  ├─ control (callers)         ├─ edge (bounded channels) → driver → Hub
//!                  └─ connections → dial → session, channel ┘       outbox ←─┘
//!                     session → direct → another session's outbox
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`daemon`] | puts everything together, and takes it apart on SIGTERM |
//! | [`driver`] | the one owner of the `Hub`, and of the clock |
//! | [`connections`] | what the driver knows of each connection, and how it sends on it |
//! | [`edge`] | what passes between the driver and everything else |
//! | [`outbox`], [`backlog`] | what waits to be sent on one WebSocket, and on all together |
//! | [`listener`] | listening sockets, a task for each connection |
//! | [`http`], [`handshake`] | pages, and the door to the WebSockets |
//! | [`admission`], [`per_address`], [`tokens`] | who may come in, and how often |
//! | [`tls`], [`credentials`] | certificates, and the files that are read again |
//! | [`session`], [`stream`], [`buffers`] | one WebSocket, accepted or dialled |
//! | [`direct`] | signals from session to session, past the driver |
//! | [`dial`] | WebSockets that this hub opens |
//! | [`channel`] | WebRTC data channels |
//! | [`control`] | the control socket |
//! | [`panics`] | faults of this program: logged and counted |
//! | [`logging`], [`log_queue`], [`journal`] | lines on standard error, or entries of the journal |
//! | [`event_log`], [`events`] | what happens: written, kept and followed |
//! | [`service`], [`notify`], [`inherit`] | this process as a service of systemd |
//! | [`options`] | command line, environment and files, read into one configuration |
//! | [`reload`] | a new configuration for a running hub |
//! | [`metrics`], [`tally`], [`process`] | figures for monitoring |
//! | [`monitor`] | where they are answered over HTTP |
//! | [`remembered`] | the hubs of the mesh, kept for the next run |
//! | [`paths`], [`keys`], [`key_before`] | the hub's folders, and the secrets in them |

pub mod admission;
pub mod backlog;
pub mod buffers;
pub mod bundles;
pub mod channel;
pub mod connections;
pub mod control;
pub mod credentials;
pub mod daemon;
pub mod dial;
pub mod direct;
pub mod driver;
pub mod edge;
pub mod event_log;
pub mod events;
pub mod handshake;
pub mod http;
pub mod inherit;
pub mod journal;
pub mod key_before;
pub mod keys;
pub mod listener;
pub mod log_queue;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod options;
pub mod outbox;
pub mod panics;
pub mod paths;
pub mod per_address;
pub mod process;
pub mod pulse;
pub mod reload;
pub mod remembered;
pub mod service;
pub mod session;
pub mod stream;
pub mod tally;
#[cfg(test)]
mod test_dir;
pub mod tickets;
pub mod tls;
pub mod tokens;
