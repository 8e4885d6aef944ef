//! The command line and the environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;
use crate::test_dir::TestDir;

/// What a start with these arguments and variables would be configured with.
fn start(args: &[&str], vars: &[(&str, &str)]) -> Result<Config, LoadError> {
    // Not what may be configured on this machine.
    let mut vars: BTreeMap<&str, &str> = vars.iter().copied().collect();
    vars.entry("PIGEONHUBD_CONFIG_DIR").or_insert("/nowhere");
    let args = std::iter::once("pigeonhubd").chain(args.iter().copied());
    load(args, |name| vars.get(name).map(OsString::from))
}

fn refused(args: &[&str], vars: &[(&str, &str)]) -> (u8, String) {
    let error = start(args, vars).expect_err("a fault");
    (error.exit_code(), error.to_string())
}

#[test]
fn with_nothing_given_all_is_default() {
    assert_eq!(start(&[], &[]).expect("defaults"), Config::default());
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
    let help = command().render_long_help().to_string();
    for key in &KEYS {
        assert_eq!(
            key.flag.is_some_and(|flag| help.contains(flag.name())),
            key.flag.is_some(),
            "{}",
            key.name
        );
        assert!(key.flag.is_none() || key.env.is_none_or(|name| help.contains(name)), "{}", key.name);
    }
}

#[test]
fn every_flag_and_variable_arrives() {
    type Row<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let rows: [Row<'_>; 28] = [
        ("listen.port", &["--port", "3001"], &[], "3001"),
        ("listen.port", &[], &[("PORT", "3002")], "3002"),
        ("listen.host", &["--host", "::1"], &[], "\"::1\""),
        ("listen.host", &[], &[("HOST", "localhost")], "\"localhost\""),
        ("listen.host", &[], &[("HOST", "hub.example.org")], "\"hub.example.org\""),
        ("listen.port", &[], &[("PORT", "0")], "3000"),
        ("listen.max_connections", &[], &[("MAX_CONNECTIONS", "7")], "7"),
        ("listen.max_connections", &[], &[("MAX_CONNECTIONS", "0")], "10000"),
        ("listen.cors_origin", &[], &[("CORS_ORIGIN", "https://a,https://b")], "\"https://a,https://b\""),
        ("bootstrap.hubs", &["--bootstraps="], &[], "[]"),
        ("bootstrap.hubs", &["--bootstraps=ws://a,ws://b"], &[], "[\"ws://a\", \"ws://b\"]"),
        ("listen.cors_origin", &[], &[("CORS_ORIGIN", "https://a")], "\"https://a\""),
        ("hub.enabled", &["--no-hub"], &[], "false"),
        ("mesh.namespace", &["--namespace", "other"], &[], "\"other\""),
        ("mesh.namespace", &[], &[("HUB_MESH_NAMESPACE", "other")], "\"other\""),
        ("mesh.max_peers", &["--max-peers", "5"], &[], "5"),
        ("mesh.min_peers", &["--min-peers=1"], &[], "1"),
        ("mesh.migration_delay", &["--migration-delay", "500"], &[], "\"500ms\""),
        ("mesh.key_file", &["--key-file", "/k"], &[], "\"/k\""),
        (
            "mesh.legacy_hubs",
            &["--legacy-hub", "::1", "--legacy-hub", "10.0.0.0/8"],
            &[],
            "[\"::1\", \"10.0.0.0/8\"]",
        ),
        (
            "bootstrap.hubs",
            &["--bootstrap", "ws://a", "--bootstrap", "ws://b"],
            &[],
            "[\"ws://a\", \"ws://b\"]",
        ),
        ("bootstrap.hubs", &[], &[("BOOTSTRAP_HUBS", "ws://a,ws://b")], "[\"ws://a\", \"ws://b\"]"),
        ("bootstrap.auto_connect", &["--no-bootstrap"], &[("AUTO_CONNECT", "true")], "false"),
        ("bootstrap.auto_connect", &[], &[("AUTO_CONNECT", "false")], "false"),
        ("log.level", &["--log-level", "debug"], &[], "\"debug\""),
        ("runtime_dir", &["--runtime-dir", "/r"], &[("RUNTIME_DIRECTORY", "/s")], "\"/r\""),
        ("runtime_dir", &[], &[("RUNTIME_DIRECTORY", "/r:/s/3000")], "\"/s/3000\""),
        ("state_dir", &["--port", "3001"], &[("STATE_DIRECTORY", "/s/3000:/s/3001")], "\"/s/3001\""),
    ];
    for (name, args, vars, shown) in rows {
        let key = pigeonhub_proto::config::find(name).expect(name);
        let config = start(args, vars).unwrap_or_else(|error| panic!("{args:?} {vars:?}: {error}"));
        assert_eq!(key.show(&config), shown, "{args:?} {vars:?}");
    }
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let dir = TestDir::new();
    let path = dir.join("hub.toml");
    std::fs::write(&path, "[listen]\nport = 3001\nhost = \"::1\"\nmax_connections = 5\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let vars = [("PORT", "3002"), ("HOST", "127.0.0.1"), ("CORS_ORIGIN", ""), ("PIGEONHUBD_CONFIG", path)];
    let config = start(&["--port", "3003"], &vars).expect("all fine");
    assert_eq!((config.listen.port, config.listen.max_connections), (3003, 5));
    assert_eq!(config.listen.host.to_string(), "127.0.0.1");
    for (key, origin) in [
        ("listen.port", "--port".to_owned()),
        ("listen.host", "HOST".to_owned()),
        ("listen.max_connections", format!("{path}:4:19")),
        ("listen.cors_origin", "default".to_owned()),
    ] {
        assert_eq!(config.origin(key).to_string(), origin);
    }
    let other = dir.join("other.toml");
    std::fs::write(&other, "listen.port = 3009").expect("written");
    let other = other.to_str().expect("UTF-8");
    let config = start(&["--config", other], &[("PIGEONHUBD_CONFIG", path)]).expect("the flag's file");
    assert_eq!(config.listen.port, 3009);
    assert_eq!(start(&[], &[("PIGEONHUBD_CONFIG", "")]).expect("none"), Config::default());
}

#[test]
fn a_bad_value_is_78_and_a_bad_flag_is_2() {
    for (args, vars, code, head) in [
        (&["--max-peers", "40"][..], &[][..], 78, "--max-peers: mesh.max_peers = 40: out of range: 2 to 32"),
        (&["--port", "-1"], &[], 78, "--port: listen.port = -1: out of range: 1 to 65535"),
        (
            &[],
            &[("MAX_CONNECTIONS", "many")],
            78,
            "MAX_CONNECTIONS: listen.max_connections = \"many\": not a whole",
        ),
        (
            &["--min-peers", "4"],
            &[],
            78,
            "--min-peers: mesh.min_peers = 4: more than mesh.max_peers = 3 (default); should be 1 to 3, or max_peers \
             larger",
        ),
        (
            &["--bootstrap", "http://a"],
            &[],
            78,
            "--bootstrap: bootstrap.hubs = \"http://a\": a URL with http://;",
        ),
        (
            &["--legacy-hub", "hub.example.org"],
            &[],
            78,
            "--legacy-hub: mesh.legacy_hubs = \"hub.example.org\": a host",
        ),
        (&["--prot", "3000"], &[], 2, "error: unexpected argument '--prot' found"),
        (&["--port"], &[], 2, "error: a value is required for '--port <PORT>'"),
        (&["3000"], &[], 2, "error: unexpected argument '3000' found"),
        (&["--version"], &[], 0, "pigeonhubd "),
    ] {
        let (found, message) = refused(args, vars);
        assert_eq!(found, code, "{message}");
        assert!(message.starts_with(head), "{message}");
    }
}

#[test]
fn a_faulty_file_is_named() {
    let dir = TestDir::new();
    let path = dir.join("x.toml");
    let name = path.to_str().expect("UTF-8");
    let message = || refused(&["--config", name], &[("PORT", "3000")]);
    assert_eq!(
        message(),
        (
            78,
            format!(
                "{name}: cannot be read: No such file or directory (os error 2); should be a readable file, as \
                 --config names it"
            )
        )
    );
    std::fs::write(&path, "[listen]\nport = 70000\n").expect("written");
    assert_eq!(
        message().1,
        format!(
            "{name}:2:8: listen.port = 70000: out of range: 1 to 65535\n    port = 70000\n           ^^^^^"
        )
    );
    std::fs::write(&path, b"# a\n# \xff\n").expect("written");
    assert_eq!(
        message().1,
        format!("{name}: not UTF-8 in line 2; should be TOML text of at most 1048576 bytes")
    );
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).expect("written");
    assert_eq!(message(), (78, format!("{name}: larger; should be TOML text of at most 1048576 bytes")));
    std::fs::write(&path, "#".repeat(1 << 20)).expect("written");
    start(&["--config", name], &[]).expect("just small enough");
}

#[test]
fn a_variable_that_is_no_text_is_refused() {
    let env = |name: &str| match name {
        "PIGEONHUBD_CONFIG_DIR" => Some(OsString::from("/nowhere")),
        _ => (name == "HOST").then(|| OsStr::from_bytes(b"\xff").to_owned()),
    };
    let error = load(["pigeonhubd"], env).expect_err("not UTF-8");
    assert_eq!(
        error.to_string(),
        "HOST: listen.host: not UTF-8; should be an IP address, a name of this machine, \"localhost\", or \"*\" for all addresses"
    );
}

#[test]
fn the_files_of_a_folder_lie_over_each_other() {
    let dir = TestDir::new();
    std::fs::create_dir(dir.join("conf.d")).expect("a folder");
    for (name, text) in [
        ("pigeonhubd.toml", "listen.port = 3001\nlisten.max_connections = 1\nmesh.max_peers = 4\n"),
        ("conf.d/20-b.toml", "listen.max_connections = 3\nmesh.min_peers = 3\n"),
        (
            "conf.d/10-a.toml",
            "listen.max_connections = 2\nmesh.min_peers = 1\nlisten.cors_origin = \"null\"\n",
        ),
        ("conf.d/.hidden.toml", "nonsense"),
        ("conf.d/README", "nonsense"),
        ("3001.toml", "listen.max_connections = 4\n"),
        ("3002.toml", "listen.max_connections = 5\nlisten.port = 3003\n"),
    ] {
        std::fs::write(dir.join(name), text).expect("written");
    }
    let folder = dir.to_str().expect("UTF-8");
    let vars = [("PIGEONHUBD_CONFIG_DIR", folder)];
    let config = start(&[], &vars).expect("all fine");
    assert_eq!((config.listen.port, config.listen.max_connections), (3001, 4));
    assert_eq!((config.mesh.max_peers, config.mesh.min_peers, &*config.listen.cors_origin), (4, 3, "null"));
    for (key, origin) in [
        ("listen.max_connections", "3001.toml:1:26"),
        ("mesh.min_peers", "conf.d/20-b.toml:2:18"),
        ("listen.port", "pigeonhubd.toml:1:15"),
    ] {
        assert_eq!(config.origin(key).to_string(), format!("{folder}/{origin}"));
    }
    let config = start(&["--port", "3004"], &vars).expect("without a file of its own");
    assert_eq!((config.listen.port, config.listen.max_connections), (3004, 3));
    let config = start(&["--port", "3002"], &vars).expect("the flag counts more than its file");
    assert_eq!((config.listen.port, config.listen.max_connections), (3002, 5));
    let other = dir.join("3001.toml");
    let config = start(&["--config", other.to_str().expect("UTF-8")], &vars).expect("that file alone");
    assert_eq!((config.listen.port, config.listen.max_connections, config.mesh.max_peers), (3000, 4, 3));

    std::fs::write(&other, "listen.port = 3005\n").expect("written");
    assert_eq!(
        refused(&[], &vars).1,
        format!(
            "{folder}/3001.toml:1:15: listen.port = 3005: this file is read because of its name, which says 3001; \
             name the file 3005.toml, or leave the port out of it"
        )
    );
    std::fs::write(dir.join("conf.d/30-c.toml"), "mesh.max_peer = 1\n").expect("written");
    let (code, message) = refused(&[], &vars);
    assert!(
        message.starts_with(&format!("{folder}/conf.d/30-c.toml:1:6: mesh.max_peer: unknown")),
        "{message}"
    );
    assert_eq!(code, 78);
    std::fs::remove_file(dir.join("conf.d/30-c.toml")).expect("removed");
    std::fs::create_dir(dir.join("conf.d/40.toml")).expect("a folder in its place");
    let message = refused(&[], &vars).1;
    assert!(message.contains("conf.d/40.toml: cannot be read: not a file;"), "{message}");
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let dir = TestDir::new();
    std::fs::create_dir(dir.join("conf.d")).expect("a folder");
    let pipe = dir.join("conf.d/10.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
    let name = pipe.to_str().expect("UTF-8");
    for (args, vars) in [
        (&["--config", name][..], &[][..]),
        (&[], &[("PIGEONHUBD_CONFIG_DIR", dir.to_str().expect("UTF-8"))]),
    ] {
        let (code, message) = refused(args, vars);
        assert_eq!(code, 78);
        assert!(message.starts_with(&format!("{name}: cannot be read: not a file; ")), "{message}");
    }
}
