//! Who calls, and what they may.

use std::path::Path;

use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::traits::StreamCommon;
use nix::unistd::{Gid, Group, Uid, User, geteuid};
use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Command, ControlErrorCode};
use serde_json::{Map, Value};

use super::users;
use crate::edge::Refusal;
use crate::journal;

/// The far end of a control connection, as the system tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The user; none if the system does not tell.
    uid: Option<u32>,
    /// The process, likewise.
    pid: Option<i32>,
}

impl Caller {
    /// Whoever is at the other end.
    pub(super) fn of(stream: &Stream) -> Self {
        let creds = stream.peer_creds().ok();
        Self { uid: creds.and_then(|creds| creds.euid()), pid: creds.and_then(|creds| creds.pid()) }
    }

    /// Whether this caller may give that command: everyone who reaches the
    /// socket may read; who may change things is told in the refusal.
    pub(super) fn check(&self, command: &Command, config: &Config, group: &str) -> Result<(), Refusal> {
        let own = [0, geteuid().as_raw()];
        let may = self.uid.is_some_and(|uid| {
            own.contains(&uid) || config.control.admins.iter().any(|admin| admin.0 == uid && users::seen(uid))
        });
        if may || !command.changes() {
            return Ok(());
        }
        let who = self.uid.map_or_else(|| String::from("a user that is not known"), name);
        let text = format!(
            "{who} may look, as everyone in the socket's group {group} may, but not change anything: that is for root, \
             {} and the users in control.admins",
            name(geteuid().as_raw())
        );
        Err(Refusal { code: ControlErrorCode::NotPermitted, text })
    }

    /// A command and who gave it, for the list of events.
    pub(super) fn event(&self, command: &Command) -> Map<String, Value> {
        let object = serde_json::to_value(command).ok();
        let mut fields = object.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(name) = fields.remove("cmd") {
            fields.insert(String::from("command"), name);
        }
        fields.insert(String::from("uid"), self.uid.into());
        fields
    }

    /// A changing command goes into the log, however it ends.
    pub(super) fn log(&self, command: &Command, outcome: &str) {
        let words = serde_json::to_string(command).unwrap_or_default();
        let (uid, pid) = (self.uid.unwrap_or(u32::MAX), self.pid.unwrap_or(-1));
        // Below its first line a refusal shows a line of a file.
        let outcome = outcome.lines().next().unwrap_or_default();
        tracing::info!(
            MESSAGE_ID = journal::message_id(journal::COMMANDED),
            PIGEONHUB_EVENT = journal::COMMANDED,
            PIGEONHUB_COMMAND = words,
            PIGEONHUB_UID = uid,
            PIGEONHUB_PID = pid,
            "{}: {words} by user {uid}, process {pid}: {outcome}",
            journal::COMMANDED
        );
    }
}

/// A user for a person to read.
fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("user {} ({uid})", user.name),
        _ => format!("user {uid}"),
    }
}

/// The name of a file's group.
pub(super) fn group_of(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let gid = std::fs::metadata(path).map_or(nix::unistd::getegid().as_raw(), |meta| meta.gid());
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_may_look_and_admins_may_change() {
        let mut config = Config::default();
        let own = geteuid().as_raw();
        let (other, unknown) = (own + 77, Caller { uid: None, pid: None });
        let caller = |uid| Caller { uid: Some(uid), pid: Some(1) };
        let may =
            |who: Caller, command: &Command, config: &Config| who.check(command, config, "birds").is_ok();
        for reading in [Command::Status, Command::Reload { dry_run: true }] {
            assert!(may(unknown, &reading, &config) && may(caller(other), &reading, &config));
        }
        let changing = Command::Reload { dry_run: false };
        assert!(may(caller(0), &changing, &config) && may(caller(own), &changing, &config));
        assert!(!may(unknown, &changing, &config));
        let refusal = caller(other).check(&changing, &config, "birds").expect_err("not an admin");
        assert_eq!(refusal.code, ControlErrorCode::NotPermitted);
        for part in
            [format!("user {other}"), format!("({own})"), "group birds".into(), "control.admins".into()]
        {
            assert!(refusal.text.contains(&part) || part == format!("({own})"), "{}", refusal.text);
        }
        config.control.admins = vec![pigeonhub_proto::config::Uid(other)];
        assert!(may(caller(other), &changing, &config));
    }
}
