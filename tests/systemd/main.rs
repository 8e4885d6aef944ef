//! The daemon as a service of a real systemd, which `tests/booted-systemd`
//! boots for it, with the packaged units and catalog.

mod booted;
mod mesh;
mod one;
#[path = "../harness/wait.rs"]
mod wait;
