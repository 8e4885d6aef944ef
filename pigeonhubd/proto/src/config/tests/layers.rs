//! What lies over what, and where each value came from.

use std::path::Path;

use super::file;
use crate::config::{Config, ConfigError, Flag, KEYS, find};
use crate::settings::Settings;

fn env(config: &mut Config, name: &'static str, value: &str) -> Result<(), ConfigError> {
    let key = KEYS.iter().find(|key| key.env == Some(name)).expect(name);
    config.apply_env(key, name, value)
}

fn flag(config: &mut Config, name: &'static str, values: &[&str]) -> Result<(), ConfigError> {
    let flag = |key: &crate::config::Key| key.flag.filter(|flag| flag.name() == name);
    let key = KEYS.iter().find(|key| flag(key).is_some()).expect(name);
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    config.apply_flag(key, flag(key).expect(name), &values)
}

fn error(apply: impl FnOnce(&mut Config) -> Result<(), ConfigError>) -> String {
    let mut config = Config::default();
    apply(&mut config).expect_err("a fault").to_string()
}

#[test]
fn the_default_is_the_hubs_default() {
    assert_eq!(Config::default().settings(), Settings::default());
    assert_eq!(file("").expect("empty"), Config::default());
}

#[test]
fn the_last_source_counts_and_is_remembered() {
    let mut config = Config::default();
    config
        .apply_file("a.toml", "[listen]\nport = 1\nmax_connections = 1\n[mesh]\nmax_peers = 4\n")
        .expect("a");
    config.apply_file("b.toml", "[listen]\nport = 2\n").expect("b");
    env(&mut config, "PORT", "3").expect("env");
    env(&mut config, "CORS_ORIGIN", "").expect("an empty variable is none");
    flag(&mut config, "--port", &["4"]).expect("flag");
    flag(&mut config, "--no-hub", &[]).expect("flag");
    let config = config.checked().expect("all fine");
    assert_eq!((config.listen.port, config.listen.max_connections, config.mesh.max_peers), (4, 1, 4));
    assert!(!config.hub.enabled);
    for (key, origin) in [
        ("listen.port", "--port"),
        ("listen.max_connections", "a.toml:3:19"),
        ("mesh.max_peers", "a.toml:5:13"),
        ("hub.enabled", "--no-hub"),
        ("listen.cors_origin", "default"),
        ("mesh.min_peers", "default"),
    ] {
        assert_eq!(config.origin(key).to_string(), origin, "{key}");
    }
}

#[test]
fn a_list_replaces_the_list_below() {
    let mut config = file("bootstrap.hubs = [\"ws://a\", \"ws://b\"]\nlisten.port = 3001\n").expect("a file");
    env(&mut config, "BOOTSTRAP_HUBS", "ws://c, wss://d ,").expect("two URLs");
    assert_eq!(config.settings().bootstrap_hubs, ["ws://c", "wss://d"]);
    flag(&mut config, "--bootstrap", &["ws://e", "ws://f"]).expect("two URLs");
    assert_eq!(config.settings().bootstrap_hubs, ["ws://e", "ws://f"]);
    flag(&mut config, "--legacy-hub", &["10.0.0.0/8", "::1"]).expect("two addresses");
    assert_eq!(config.settings().legacy_hubs.len(), 2);
}

#[test]
fn numbers_in_flags_and_variables_are_read_as_in_files() {
    let mut config = Config::default();
    flag(&mut config, "--migration-delay", &["1500"]).expect("milliseconds");
    assert_eq!(config.mesh.migration_delay.as_millis(), 1500);
    flag(&mut config, "--migration-delay", &["1m 30s"]).expect("a duration");
    assert_eq!(config.mesh.migration_delay.as_secs(), 90);
    for (text, value) in [("true", true), ("false", false), ("0", false), ("Yes", true)] {
        env(&mut config, "AUTO_CONNECT", text).expect(text);
        assert_eq!(config.bootstrap.auto_connect, value, "{text}");
    }
}

#[test]
fn messages_name_the_flag_or_variable() {
    for (message, expected) in [
        (
            error(|c| flag(c, "--max-peers", &["40"])),
            "--max-peers: mesh.max_peers = 40: out of range: 2 to 32",
        ),
        (
            error(|c| flag(c, "--max-peers", &["many"])),
            "--max-peers: mesh.max_peers = \"many\": not a whole number; should be a whole number, 2 to 32",
        ),
        (
            error(|c| env(c, "MAX_CONNECTIONS", "1000001")),
            "MAX_CONNECTIONS: listen.max_connections = 1000001: out of range: 1 to 1000000",
        ),
        (error(|c| env(c, "PORT", "-1")), "PORT: listen.port = -1: out of range: 1 to 65535"),
        (
            error(|c| env(c, "HOST", "192.0.2")),
            "HOST: listen.host = \"192.0.2\": neither an address nor a name; should be an IP address, a name of this \
             machine, \"localhost\", or \"*\" for all addresses",
        ),
        (
            error(|c| env(c, "AUTO_CONNECT", "maybe")),
            "AUTO_CONNECT: bootstrap.auto_connect = \"maybe\": neither true nor false; should be true or false",
        ),
        (
            error(|c| env(c, "BOOTSTRAP_HUBS", "ws://a,b:1")),
            "BOOTSTRAP_HUBS: bootstrap.hubs = \"b:1\": not a URL; should be a ws:// or wss:// URL with a host, such as \
             ws://hub.example.org:3000",
        ),
        (
            error(|c| flag(c, "--bootstrap", &["ws://a", "ws://"])),
            "--bootstrap: bootstrap.hubs = \"ws://\": a URL without a host; should be a ws:// or wss:// URL with a \
             host, such as ws://hub.example.org:3000",
        ),
        (
            error(|c| flag(c, "--migration-delay", &[""])),
            "--migration-delay: mesh.migration_delay = \"\": \"\" is not a duration; should be a duration like \
             \"10s\" or \"1m 30s\", or milliseconds, 0s to 1h",
        ),
    ] {
        assert_eq!(message, expected);
    }
}

#[test]
fn a_conflict_between_sources_names_both() {
    let mut config = file("[mesh]\nmax_peers = 4\n").expect("a file");
    flag(&mut config, "--min-peers", &["5"]).expect("in range");
    assert_eq!(
        config.checked().expect_err("a conflict").to_string(),
        "--min-peers: mesh.min_peers = 5: more than mesh.max_peers = 4 (x.toml:2:13); should be 1 to 4, or max_peers \
         larger"
    );
    let mut config = Config::default();
    flag(&mut config, "--min-peers", &["5"]).expect("in range");
    flag(&mut config, "--max-peers", &["8"]).expect("in range");
    assert!(config.checked().is_ok(), "the order of sources does not matter");
}

#[test]
fn of_the_folders_that_systemd_names_the_instances_is_taken() {
    let mut config = file("listen.port = 3001\nruntime_dir = \"/a:/b/3001\"\n").expect("a file");
    env(&mut config, "STATE_DIRECTORY", "/var/lib/pigeonhubd:/var/lib/pigeonhubd/3001").expect("folders");
    let config = config.checked().expect("all fine");
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/var/lib/pigeonhubd/3001")));
    assert_eq!(config.runtime_dir.as_deref(), Some(Path::new("/a:/b/3001")), "a file names one folder");
}

#[test]
fn an_empty_text_unsets() {
    let mut config = file("state_dir = \"/a\"\n[mesh]\nkey_file = \"/k\"\n").expect("a file");
    assert_eq!(config.mesh.key_file.as_deref(), Some(Path::new("/k")));
    config.apply_file("y.toml", "state_dir = \"\"\nmesh.key_file = \"\"\n").expect("a file");
    assert_eq!((config.state_dir, config.mesh.key_file), (None, None));
}

#[test]
fn every_key_is_found_and_no_flag_or_variable_is_used_twice() {
    for (i, key) in KEYS.iter().enumerate() {
        assert!(std::ptr::eq(find(key.name).expect(key.name), key), "{}", key.name);
        assert!(key.doc.ends_with('.'), "{}", key.name);
        let others = || KEYS.iter().skip(i + 1);
        let flag = key.flag.map(|flag| flag.name());
        assert!(flag.is_none() || others().all(|other| other.flag.map(|f| f.name()) != flag), "{flag:?}");
        assert!(key.env.is_none() || others().all(|other| other.env != key.env), "{:?}", key.env);
    }
    let names: Vec<&str> = KEYS.iter().filter_map(|key| key.flag).map(|flag: Flag| flag.name()).collect();
    assert_eq!(
        names,
        [
            "--runtime-dir",
            "--state-dir",
            "--port",
            "--host",
            "--no-hub",
            "--namespace",
            "--max-peers",
            "--min-peers",
            "--migration-delay",
            "--key-file",
            "--legacy-hub",
            "--bootstrap",
            "--no-bootstrap",
            "--metrics-listen",
            "--log-level"
        ]
    );
}
