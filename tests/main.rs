//! The whole system, as its users have it: the built daemon, published clients
//! in Node and in a browser, the published JavaScript hub, and raw WebSockets.
//! Everything listens and sends on this machine only.

mod alone;
mod bad_input;
mod balancer;
mod chaos;
mod conformance;
mod control;
mod dependencies;
mod differences;
mod drop_in;
mod failures;
mod folders;
mod fuzzing;
mod harness;
mod hostile;
mod metrics;
mod networks;
mod new_key;
mod old_hub;
mod proxies;
mod real_clients;
mod rogue_hubs;
mod rogue_members;
mod security;
mod tickets;
