//! The example file `etc/pigeonhubd.toml`, and the manual pages.

use super::file;
use crate::config::{Config, KEYS, SECTIONS, example, manual};

const EXAMPLE: &str = include_str!("../../../../../etc/pigeonhubd.toml");

/// The example with the `#` before each key gone.
fn uncommented() -> String {
    let bare = |line: &'static str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    EXAMPLE.lines().map(|line| bare(line).unwrap_or(line).to_owned() + "\n").collect()
}

const MANUAL: &str = include_str!("../../../../../man/pigeonhubd.toml.5");
const DAEMON: &str = include_str!("../../../../../man/pigeonhubd.8");

/// To write both anew: `WRITE_EXAMPLE=1 cargo test -p pigeonhub-proto example`.
#[test]
fn they_are_made_from_the_table() {
    if std::env::var_os("WRITE_EXAMPLE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../etc/pigeonhubd.toml");
        std::fs::write(path, example()).expect("written");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../man/pigeonhubd.toml.5");
        std::fs::write(path, manual()).expect("written");
        return;
    }
    assert_eq!(EXAMPLE, example());
    assert_eq!(MANUAL, manual());
}

#[test]
fn as_it_is_it_sets_nothing() {
    assert_eq!(file(EXAMPLE).expect("valid"), Config::default());
}

#[test]
fn uncommented_it_sets_every_key_to_its_default() {
    let text = uncommented();
    let config = file(&text).expect("valid");
    let Config {
        listen, tls, auth, hub, mesh, bootstrap, control, metrics, log, runtime_dir, state_dir, ..
    } = Config::default();
    assert_eq!(config.listen, listen);
    assert_eq!((&config.tls, &config.auth), (&tls, &auth));
    assert_eq!(config.hub, hub);
    assert_eq!(config.mesh, mesh);
    assert_eq!(config.bootstrap, bootstrap);
    assert_eq!(config.control, control);
    assert_eq!(config.metrics, metrics);
    assert_eq!(config.log, log);
    assert_eq!((&config.runtime_dir, &config.state_dir), (&runtime_dir, &state_dir));
    for key in &KEYS {
        let origin = config.origin(key.name).to_string();
        assert!(origin.starts_with("x.toml:"), "{}: {origin}", key.name);
    }
}

#[test]
fn every_key_has_a_section_and_lines_are_short() {
    for key in &KEYS {
        let section = key.section();
        assert!(section.is_empty() || SECTIONS.iter().any(|(name, _)| *name == section), "{}", key.name);
    }
    for line in EXAMPLE.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_daemons_page_names_every_flag_and_variable() {
    for key in &KEYS {
        if let Some(flag) = key.flag {
            let name = flag.name().trim_start_matches("--");
            assert!(DAEMON.contains(&format!(".It Fl -{name}")), "{name}");
        }
        if let Some(name) = key.env {
            assert!(DAEMON.contains(&format!("Ev {name}")), "{name}");
        }
    }
}
