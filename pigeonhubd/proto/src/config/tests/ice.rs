//! STUN and TURN servers.

use super::{file, message};
use crate::config::IceServer;

const TURN: &str = "\
[[mesh.ice_servers]]
urls = \"stun:stun.example.org\"

[[mesh.ice_servers]]
urls = [\"turn:[2001:db8::1]:3478?transport=udp\", \"turns:turn.example.org:5349?transport=tcp\"]
username = \"hub\"
credential = \"hunter2\"
";

#[test]
fn servers_are_tables() {
    let config = file(TURN).expect("two servers");
    let expected = [
        IceServer { urls: vec!["stun:stun.example.org".into()], ..IceServer::default() },
        IceServer {
            urls: vec![
                "turn:[2001:db8::1]:3478?transport=udp".into(),
                "turns:turn.example.org:5349?transport=tcp".into(),
            ],
            username: "hub".into(),
            credential: "hunter2".into(),
        },
    ];
    assert_eq!(config.mesh.ice_servers, expected);
    let inline = "mesh.ice_servers = [{ urls = [\"stun:192.0.2.7:3478\"] }]\n";
    assert_eq!(file(inline).expect("a server").mesh.ice_servers.len(), 1);
}

#[test]
fn urls_are_checked() {
    let expected =
        "stun:HOST[:PORT], stuns:HOST[:PORT], turn:HOST[:PORT][?transport=udp|tcp] or the same with turns:";
    for (url, found) in [
        ("stun.example.org", "not a URL"),
        ("http://stun.example.org", "a URL with http:"),
        ("stun://stun.example.org", "a URL with //"),
        ("stun:", "a URL without a host"),
        ("stun::3478", "a URL without a host"),
        ("stun:h:0", "a URL with a bad port"),
        ("stun:h:99999", "a URL with a bad port"),
        ("stun:h:", "a URL with a bad port"),
        ("stun:h?transport=udp", "a URL with ?transport=udp"),
        ("turn:h?transport=sctp", "a URL with ?transport=sctp"),
        ("stun:a b", "a URL with a bad host"),
        ("stun:[::1", "a URL with a bad host"),
    ] {
        let text = format!("[[mesh.ice_servers]]\nurls = [\"{url}\"]\n");
        let head = format!("x.toml:2:9: mesh.ice_servers.urls = \"{url}\": {found}; should be {expected}\n");
        assert!(message(&text).starts_with(&head), "{}", message(&text));
    }
}

#[test]
fn what_is_missing_is_named() {
    for (lines, head) in [
        (
            "urls = [\"turn:h\"]\ncredential = \"c\"",
            "mesh.ice_servers.username: missing; should be given: a TURN server takes nobody without a username and \
             a credential",
        ),
        (
            "urls = [\"turns:h\"]\nusername = \"u\"",
            "mesh.ice_servers.credential: missing; should be given: a TURN server takes nobody without a username \
             and a credential",
        ),
        ("username = \"u\"", "mesh.ice_servers.urls: missing; should be one or more of stun:HOST[:PORT], "),
        ("urls = []", "mesh.ice_servers.urls: missing; should be one or more of stun:HOST[:PORT], "),
        ("url = \"stun:h\"", "mesh.ice_servers.url: unknown key; did you mean urls?"),
        ("lifetime = 3", "mesh.ice_servers.lifetime: unknown key; there are urls, username, credential"),
        ("username = 3", "mesh.ice_servers.username = 3: a whole number; should be a text"),
    ] {
        let message = message(&format!("[[mesh.ice_servers]]\n{lines}\n"));
        let text = message.split_once(' ').map_or("", |(_, text)| text);
        assert!(text.starts_with(head), "{message}");
    }
    let many = "[[mesh.ice_servers]]\nurls = \"stun:h\"\n".repeat(17);
    assert!(
        message(&many).contains("mesh.ice_servers: 17 tables; should be at most 16 tables"),
        "{}",
        message(&many)
    );
    assert!(message("mesh.ice_servers = [3]\n").contains("= 3: a whole number; should be at most 16 tables"));
    assert!(message("mesh.ice_servers = 3\n").contains("= 3: a whole number; should be at most 16 tables"));
}

#[test]
fn a_credential_is_never_shown() {
    let config = file(TURN).expect("two servers");
    let shown = crate::config::find("mesh.ice_servers").expect("a key").show(&config);
    assert_eq!(
        shown,
        "[{ urls = [\"stun:stun.example.org\"] }, { urls = [\"turn:[2001:db8::1]:3478?transport=udp\", \
         \"turns:turn.example.org:5349?transport=tcp\"], username = \"hub\", credential = \"…\" }]"
    );
    let line = "mesh.ice_servers = [{ urls = \"x\", username = \"u\", credential = \"hunter2\" }]\n";
    let number = "[[mesh.ice_servers]]\ncredential = 77777\n";
    let broken = "[[mesh.ice_servers]]\ncredential = hunter2\n";
    for text in [&format!("{config:?}"), &message(line), &message(number), &message(broken)] {
        assert!(!text.contains("hunter2") && !text.contains("77777"), "{text}");
    }
}

/// Also where its key is misspelt, or the text has several lines.
#[test]
fn nothing_of_a_line_whose_key_is_unknown_is_shown() {
    for text in [
        "[[mesh.ice_servers]]\nurls = [\"turn:h\"]\ncredentail = \"hunter2\"\n",
        "[[mesh.ice_servers]]\nurls = [\"turn:h\"]\npassword = \"hunter2\"\n",
        "[auth]\ntoken = \"hunter2\"\n",
        "[[mesh.ice_servers]]\ncredential = \"\"\"\nhunter2\nhunter2 \\q\n\"\"\"\n",
    ] {
        let error = file(text).expect_err("wrong").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = file("[auth]\ntoken = \"hunter2\"\n").expect_err("wrong").to_string();
    assert!(error.ends_with("\n    token = …\n    ^^^^^"), "{error}");
    let error = file("[listen]\nport = \"x\"\n").expect_err("wrong").to_string();
    assert!(error.contains("port = \"x\""), "of ours all is shown: {error}");
}
