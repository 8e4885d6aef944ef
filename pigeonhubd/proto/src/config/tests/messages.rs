//! What the author of a faulty file gets to read, to the letter.

use super::{file, message};

/// Checks the message about a file that has a first line and this second one.
fn second_line(line: &str, expected: &str) {
    assert_eq!(message(&format!("# first\n{line}\n")), expected.trim_start_matches('\n'), "{line}");
}

#[test]
fn a_value_out_of_range_is_marked() {
    let text = "# a\n\n# b\n\n[mesh]\n\nmax_peers = 40\n";
    assert_eq!(
        message(text),
        "x.toml:7:13: mesh.max_peers = 40: out of range: 2 to 32\n\
         \x20   max_peers = 40\n\
         \x20               ^^"
    );
}

#[test]
fn ranges_are_named() {
    for (line, head) in [
        ("listen.port = 0", "x.toml:2:15: listen.port = 0: out of range: 1 to 65535\n"),
        ("listen.port = 65_536", "x.toml:2:15: listen.port = 65_536: out of range: 1 to 65535\n"),
        ("listen.port = -3000", "x.toml:2:15: listen.port = -3000: out of range: 1 to 65535\n"),
        ("listen.port = 0x1_0000", "x.toml:2:15: listen.port = 0x1_0000: out of range: 1 to 65535\n"),
        (
            "listen.port = 9999999999999999999999999999999999999999999",
            "x.toml:2:15: listen.port = 9999999999999999999999999999999999999999999: out of range: 1 to 65535\n",
        ),
        (
            "listen.max_connections = 0",
            "x.toml:2:26: listen.max_connections = 0: out of range: 1 to 1000000\n",
        ),
        (
            "listen.max_message_size = 1023",
            "x.toml:2:27: listen.max_message_size = 1023: out of range: 1KiB to 64MiB\n",
        ),
        (
            "listen.max_message_size = \"65MiB\"",
            "x.toml:2:27: listen.max_message_size = \"65MiB\": out of range: 1KiB to 64MiB\n",
        ),
        (
            "listen.max_message_size = \"99999999999GiB\"",
            "x.toml:2:27: listen.max_message_size = \"99999999999GiB\": out of range: 1KiB to 64MiB\n",
        ),
        ("listen.peer_timeout = 99", "x.toml:2:23: listen.peer_timeout = 99: out of range: 100ms to 1day\n"),
        (
            "listen.peer_timeout = \"2d\"",
            "x.toml:2:23: listen.peer_timeout = \"2d\": out of range: 100ms to 1day\n",
        ),
        (
            "mesh.migration_delay = \"61m\"",
            "x.toml:2:24: mesh.migration_delay = \"61m\": out of range: 0s to 1h\n",
        ),
        ("mesh.migration_delay = -1", "x.toml:2:24: mesh.migration_delay = -1: out of range: 0s to 1h\n"),
    ] {
        let message = message(&format!("# first\n{line}\n"));
        assert!(message.starts_with(head), "{message}");
    }
}

#[test]
fn a_wrong_type_says_what_would_be_right() {
    second_line(
        "mesh.max_peers = \"3\"",
        r#"
x.toml:2:18: mesh.max_peers = "3": a text; should be a whole number, 2 to 32
    mesh.max_peers = "3"
                     ^^^"#,
    );
    second_line(
        "hub.enabled = \"yes\"",
        r#"
x.toml:2:15: hub.enabled = "yes": a text; should be true or false
    hub.enabled = "yes"
                  ^^^^^"#,
    );
    second_line(
        "listen.peer_timeout = \"soon\"",
        r#"
x.toml:2:23: listen.peer_timeout = "soon": "soon" is not a duration; should be a duration like "10s" or "1m 30s", or milliseconds, 100ms to 1day
    listen.peer_timeout = "soon"
                          ^^^^^^"#,
    );
    second_line(
        "listen.max_message_size = \"1 megabyte\"",
        r#"
x.toml:2:27: listen.max_message_size = "1 megabyte": neither a number nor one with B, KiB, MiB or GiB; should be bytes, or a text like "64KiB", 1KiB to 64MiB
    listen.max_message_size = "1 megabyte"
                              ^^^^^^^^^^^^"#,
    );
    second_line(
        "mesh.namespace = 7.5",
        r#"
x.toml:2:18: mesh.namespace = 7.5: a fractional number; should be a name of 1 to 128 bytes
    mesh.namespace = 7.5
                     ^^^"#,
    );
    second_line(
        "bootstrap.hubs = \"ws://a\"",
        r#"
x.toml:2:18: bootstrap.hubs = "ws://a": a text; should be a list of at most 64, each a ws:// or wss:// URL with a host, such as ws://hub.example.org:3000
    bootstrap.hubs = "ws://a"
                     ^^^^^^^^"#,
    );
    second_line(
        "mesh = 3",
        "
x.toml:2:8: mesh = 3: a whole number; should be a section that begins with [mesh]
    mesh = 3
           ^",
    );
}

#[test]
fn an_entry_of_a_list_is_marked_itself() {
    second_line(
        "bootstrap.hubs = [\"ws://a\", \"http://b:1\"]",
        r#"
x.toml:2:29: bootstrap.hubs = "http://b:1": a URL with http://; should be a ws:// or wss:// URL with a host, such as ws://hub.example.org:3000
    bootstrap.hubs = ["ws://a", "http://b:1"]
                                ^^^^^^^^^^^^"#,
    );
    second_line(
        "mesh.legacy_hubs = [\"10.0.0.1\", \"hub.example.org\"]",
        r#"
x.toml:2:33: mesh.legacy_hubs = "hub.example.org": a host name; should be an IP address, since a name proves nothing: 192.0.2.7, 192.0.2.7:3000, 192.0.2.0/24, 2001:db8::7 or ws://192.0.2.7:3000
    mesh.legacy_hubs = ["10.0.0.1", "hub.example.org"]
                                    ^^^^^^^^^^^^^^^^^"#,
    );
    second_line(
        "bootstrap.hubs = [3000]",
        r#"
x.toml:2:19: bootstrap.hubs = 3000: a whole number; should be a ws:// or wss:// URL with a host, such as ws://hub.example.org:3000
    bootstrap.hubs = [3000]
                      ^^^^"#,
    );
}

#[test]
fn an_unknown_key_comes_with_a_guess() {
    for (text, head) in [
        ("[mesh]\nmax_peer = 3\n", "x.toml:2:1: mesh.max_peer: unknown key; did you mean mesh.max_peers?\n"),
        (
            "[mesh]\nMax-Peers = 3\n",
            "x.toml:2:1: mesh.Max-Peers: unknown key; did you mean mesh.max_peers?\n",
        ),
        ("port = 3000\n", "x.toml:1:1: port: unknown key; did you mean listen.port?\n"),
        ("[hub]\nport = 3000\n", "x.toml:2:1: hub.port: unknown key; did you mean listen.port?\n"),
        (
            "[log]\nstate_dir = \"/x\"\n",
            "x.toml:2:1: log.state_dir: unknown key; did you mean state_dir, above the first [section]?\n",
        ),
        ("[hub]\nfrobnicate = 1\n", "x.toml:2:1: hub.frobnicate: unknown key; [hub] has enabled\n"),
        (
            "frobnicate = 1\n",
            "x.toml:1:1: frobnicate: unknown key; there are runtime_dir, state_dir and the sections listen, tls, auth, hub, \
             mesh, bootstrap, control, metrics, log\n",
        ),
        ("[meshh]\nmax_peers = 3\n", "x.toml:1:2: meshh: unknown section; did you mean [mesh]?\n"),
        (
            "[federation]\n",
            "x.toml:1:2: federation: unknown section; there are [listen], [tls], [auth], [hub], [mesh], [bootstrap], [control], \
             [metrics], [log]\n",
        ),
        (
            "listen.port.number = 3\n",
            "x.toml:1:8: listen.port: a table; should be a whole number, 1 to 65535\n",
        ),
    ] {
        let message = message(text);
        assert!(message.starts_with(head), "{message}");
    }
}

#[test]
fn what_is_not_toml_is_marked() {
    for (text, message_expected) in [
        (
            "[listen]\nport = 30O0\n",
            "x.toml:2:8: listen.port: not valid TOML: the value is neither a number, true, false, \
             \"a text in quotes\" nor [a list]\n    port = 30O0\n           ^^^^",
        ),
        (
            "[listen\nport = 3000\n",
            "x.toml:1:8: not valid TOML: unclosed table, expected `]`\n    [listen\n           ^",
        ),
        (
            "[listen]\nport = 1\nport = 2\n",
            "x.toml:3:1: port: not valid TOML: set a second time; should be set once\n    port = 2\n    ^^^^",
        ),
        ("port\n", "x.toml:1:5: not valid TOML: key with no value, expected `=`\n    port\n        ^"),
        (
            "listen.host = \"*\n",
            "x.toml:1:17: listen.host: not valid TOML: invalid basic string, expected `\"`\n    listen.host = \"*\n                    ^",
        ),
    ] {
        assert_eq!(message(text), message_expected);
    }
}

#[test]
fn of_several_faults_the_topmost_is_told() {
    let text = "[mesh]\nmax_peers = 1\n[bootstrap]\nbogus = 1\n[listen]\nport = 0\n";
    assert!(message(text).starts_with("x.toml:2:13: mesh.max_peers = 1: "), "{}", message(text));
}

#[test]
fn columns_are_counted_in_characters_and_tabs_are_kept() {
    assert_eq!(
        message("listen = { cors_origin = 'é', port = 0 }\n"),
        "x.toml:1:26: listen.cors_origin = 'é': not an origin; should be \"*\", or origins such as \
         https://example.org\n    listen = { cors_origin = 'é', port = 0 }\n                             ^^^"
    );
    assert_eq!(
        message("\u{feff}[listen]\r\n\tport = 0 # é\r\n"),
        "x.toml:2:9: listen.port = 0: out of range: 1 to 65535\n    \tport = 0 # é\n    \t       ^"
    );
}

#[test]
fn more_min_peers_than_max_peers_names_both_places() {
    assert_eq!(
        message("[mesh]\nmin_peers = 5\nmax_peers = 4\n"),
        "x.toml:2:13: mesh.min_peers = 5: more than mesh.max_peers = 4 (x.toml:3:13); should be 1 to 4, or \
         max_peers larger\n    min_peers = 5\n                ^"
    );
    assert_eq!(
        message("[mesh]\nmin_peers = 4\n"),
        "x.toml:2:13: mesh.min_peers = 4: more than mesh.max_peers = 3 (default); should be 1 to 3, or \
         max_peers larger\n    min_peers = 4\n                ^"
    );
}

#[test]
fn a_runtime_folder_must_leave_room_for_the_sockets_name() {
    let fits = format!("runtime_dir = \"/{}\"\n", "r".repeat(93));
    assert!(file(&fits).is_ok());
    let long = format!("runtime_dir = \"/{}\"\n", "r".repeat(94));
    assert_eq!(
        message(&long),
        format!(
            "x.toml:1:15: runtime_dir: 95 bytes; should be at most 94, so that the path of the control socket in it \
             fits a socket address\n    runtime_dir = \"/{}\"\n                  {}",
            "r".repeat(94),
            "^".repeat(97)
        )
    );
}

#[test]
fn a_terminal_is_safe_from_the_file() {
    let message = message("listen.cors_origin = \"\u{9b}31m\"\n");
    assert!(!message.contains('\u{9b}'), "{message:?}");
}
