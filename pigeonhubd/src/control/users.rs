//! Which users this process can tell apart. In a user namespace, such as
//! systemd's `PrivateUsers=` makes, those that it does not map look all the same.

use pigeonhub_proto::config::Config;

/// Whether callers of that user are seen as such.
pub(super) fn seen(uid: u32) -> bool {
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps(&map, uid))
}

/// Whether a map of user_namespaces(7) has that user: each line is the first
/// of a range inside, the first outside, and how many.
fn maps(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => uid.checked_sub(first).is_some_and(|nth| nth < count),
            _ => false,
        }
    })
}

/// Says which of the configured admins are none, because they are not seen.
pub(crate) fn warn_of_unseen(config: &Config) {
    for admin in config.control.admins.iter().filter(|admin| !seen(admin.0)) {
        tracing::warn!(
            "control.admins: user {} cannot be told from others here, and may only look: the unit has PrivateUsers=yes; \
             a drop-in with PrivateUsers=no, and a restart, would change that (man pigeonhubd@.service)",
            admin.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_who_is_seen() {
        let everyone = "         0          0 4294967295\n";
        let service = "         0          0          1\n       998        998          1\n";
        for (map, uid, is) in [
            (everyone, 0, true),
            (everyone, 1000, true),
            (everyone, u32::MAX, false),
            (service, 0, true),
            (service, 998, true),
            (service, 1, false),
            (service, 999, false),
            (service, 65534, false),
            ("", 0, false),
            ("0 zero 1\n", 0, true),
            ("0 0\n", 0, false),
        ] {
            assert_eq!(maps(map, uid), is, "{map:?} {uid}");
        }
        assert!(seen(nix::unistd::geteuid().as_raw()));
    }
}
