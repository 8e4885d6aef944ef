//! The journal of systemd: whether it takes our lines, and what it knows of them.

use std::ffi::OsString;

use nix::sys::stat::fstat;

/// The kinds of entries that the catalog explains, with the `MESSAGE_ID` of
/// each. They stay as they are for ever: others select entries by them.
pub const MESSAGES: [(&str, &str); 19] = [
    ("peerConnected", "6b44c2c1ff334091b321ee941fe22d59"),
    ("peerAnnounced", "1a41b2408f8d4332bea14eeeccd05d06"),
    ("peerDisconnected", "783f925a5c254e44ada853af56dc1685"),
    ("hubRegistered", "fae89aede7604240b524198d5a65fbd2"),
    ("hubUnregistered", "8651cb0a2dcb4825be0888f17c262b1b"),
    ("hubDiscovered", "fe73e9b3336444cc8f0ab9e1db79deb4"),
    ("bootstrapConnected", "94ee7a5dd7aa4e32bde2c5d262fcec38"),
    ("bootstrapDisconnected", "3b9491b4483043e9b6633d395fab1fc6"),
    ("hubP2PConnected", "f9e394e68622418ba3d311d437d73e61"),
    ("hubP2PDisconnected", "0e607e0d0fe84fb5a5399ec2fbb93071"),
    ("hubMeshReady", "a66e4e2a9e614aa29c049f7c8392cf7f"),
    ("hubMeshDegraded", "4372d06cfe9e46298cddf7fe03209309"),
    ("hubMeshMigrated", "c2243645ed264afc90d6fcba39065f35"),
    ("hubRejected", "45882ac9e1cb4dd584affabd8923dd72"),
    ("refused", "75d7d5c160e14a11bb89632b7319d1ba"),
    (RELOADED, "1811d82d0c5f40258724b5b65f1b18f4"),
    (NOT_RELOADED, "72ba5b47059c41a1a9914957cc6a7fc8"),
    (COMMANDED, "4ad45f546a7149a2904558769a9a7741"),
    (LEAVING, "e56d03e277e94d4f93b30eff869854cc"),
];

/// A new configuration is in force.
pub const RELOADED: &str = "configReloaded";
/// A new configuration was refused.
pub const NOT_RELOADED: &str = "configRejected";
/// Somebody changed something over the control socket.
pub const COMMANDED: &str = "controlCommand";
/// This hub stops.
pub const LEAVING: &str = "hubLeaving";

/// The `MESSAGE_ID` of a kind of entry, if it has one.
pub fn message_id(name: &str) -> Option<&'static str> {
    MESSAGES.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
}

/// Whether standard error leads to the journal: systemd names that stream by
/// its device and inode, in case it was redirected since.
pub fn is_stderr(env: impl Fn(&str) -> Option<OsString>) -> bool {
    let named = env("JOURNAL_STREAM").and_then(|name| name.into_string().ok());
    let (Some(named), Ok(stat)) = (named, fstat(std::io::stderr())) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = include_str!("../../packaging/pigeonhubd.catalog");

    #[test]
    fn the_catalog_explains_every_message_and_no_other() {
        let ids: Vec<&str> = CATALOG.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(ids, MESSAGES.map(|(_, id)| id));
        let events = pigeonhub_proto::event::Event::NAMES;
        assert_eq!(MESSAGES.map(|(name, _)| name)[..events.len()], events);
        assert_eq!([RELOADED, NOT_RELOADED, COMMANDED], pigeonhub_proto::event::OF_DAEMON);
        for (name, id) in MESSAGES {
            assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
            let entry = CATALOG.split("-- ").find(|entry| entry.starts_with(id)).expect("an entry");
            let fields = entry.split('@').skip(1).step_by(2);
            for field in fields {
                let known = |c: char| c.is_ascii_uppercase() || c == '_';
                assert!(field.starts_with("PIGEONHUB_") && field.chars().all(known), "{name}: {field}");
            }
            assert!(entry.contains("\nSubject: ") && entry.contains("\n\n"), "{name}: {entry}");
        }
    }

    #[test]
    fn a_stream_that_is_not_ours_is_not_the_journal() {
        assert!(!is_stderr(|_| None));
        assert!(!is_stderr(|_| Some(OsString::from("1:2"))));
        let stat = fstat(std::io::stderr()).expect("it is open");
        assert!(is_stderr(|_| Some(format!("{}:{}", stat.st_dev, stat.st_ino).into())));
    }
}
