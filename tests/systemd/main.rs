//! The daemon as a service of a real systemd, which `tests/booted-systemd`
//! boots for it: with the packaged units and catalog, and with the package itself.

mod booted;
mod built;
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests/main.rs uses what this does not")]
mod harness;
mod life;
mod made;
mod mesh;
mod one;
mod traffic;
