//! What all checks stand on: the running hub if there is one, and its
//! configuration.

use std::path::PathBuf;

use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Answer, Command, ConfigValue, EventInfo, LinkInfo, MeshState, Status};
use pigeonhub_proto::paths::{self, Surroundings};

use super::Finding;
use crate::call::{self, Call};
use crate::check;
use crate::commands::Front;
use crate::failure::Failure;
use crate::find;

/// A running hub.
pub(super) struct Running {
    pub(super) socket: PathBuf,
    pub(super) status: Status,
    pub(super) pid: Option<i32>,
    pub(super) uid: Option<u32>,
    pub(super) links: Vec<LinkInfo>,
    pub(super) events: Vec<EventInfo>,
}

/// What is looked at.
pub(super) struct Ground {
    /// In force, or what a hub would start with; the defaults if that is wrong.
    pub(super) config: Config,
    /// What decides where the hub's files are.
    pub(super) around: Surroundings,
    pub(super) running: Option<Running>,
    /// A hub runs, but does not answer: whatever it holds is not free.
    pub(super) hangs: bool,
}

impl Ground {
    /// Finds out, and says what it found. There is no ground if a socket was named behind which
    /// nobody answers: which configuration its hub has only the hub could tell.
    pub(super) fn survey(front: &Front) -> Result<(Option<Self>, Vec<Finding>), Failure> {
        let mut findings = Vec::new();
        let (mut around, mut hangs) = (find::surroundings(), false);
        let running = match front.socket().and_then(running) {
            Ok((running, finding)) => {
                findings.push(finding);
                around = running.pid.and_then(surroundings_of).unwrap_or(around);
                if let Some(uid) = running.uid {
                    around.uid = uid;
                }
                Some(running)
            }
            Err(failure @ Failure::Several { .. }) => return Err(failure),
            Err(failure) if front.names_socket() => {
                findings.push(unanswered(&failure));
                return Ok((None, findings));
            }
            Err(failure) => {
                hangs = matches!(failure, Failure::TimedOut { .. });
                findings.push(not_running(&failure));
                None
            }
        };
        let (config, finding) = configuration(front, running.as_ref());
        findings.push(finding);
        Ok((Some(Self { config, around, running, hangs }), findings))
    }

    /// The hub's own folder.
    pub(super) fn state_dir(&self) -> PathBuf {
        let port = self.config.listen.port;
        self.config.state_dir.clone().unwrap_or_else(|| paths::state_dir(port, &self.around))
    }

    /// The mesh key's file, and whether somebody chose it: it is configured, or a credential of the unit.
    pub(super) fn mesh_key(&self) -> (PathBuf, bool) {
        let configured = self.config.mesh.key_file.clone();
        let handed = || paths::mesh_key_credential(&self.around).filter(|path| path.is_file());
        match configured.or_else(handed) {
            Some(file) => (file, true),
            None => (paths::mesh_key(self.config.listen.port, &self.around), false),
        }
    }

    /// The folder of the control socket.
    pub(super) fn runtime_dir(&self) -> PathBuf {
        let of_socket = self.running.as_ref().and_then(|running| Some(running.socket.parent()?.to_owned()));
        let port = self.config.listen.port;
        of_socket
            .or_else(|| self.config.runtime_dir.clone())
            .unwrap_or_else(|| paths::runtime_dir(port, &self.around))
    }
}

fn running(socket: PathBuf) -> Result<(Running, Finding), Failure> {
    let mut call = Call::open(&socket)?;
    let (pid, uid) = call.process().unzip();
    let Answer::Status(status) = call.ask(Command::Status)? else {
        return Err(Failure::HungUp { socket });
    };
    // Older hubs do not know these questions.
    let links = match call::ask(&socket, Command::Links) {
        Ok(Answer::Links(links)) => links,
        _ => Vec::new(),
    };
    let events = match call::ask(&socket, Command::Events { since: 0, types: Vec::new(), follow: false }) {
        Ok(Answer::Events(events)) => events,
        _ => Vec::new(),
    };
    let state = status.state.name();
    let found = format!("runs on port {}, {state}: {}", status.port, status.reason);
    let finding = match status.state {
        MeshState::Ready if status.rejected.is_some() => Finding::failed(
            "hub",
            found,
            "give both the same mesh.key_file and mesh.namespace; an older hub has to be in mesh.legacy_hubs",
        ),
        MeshState::Ready => Finding::ok("hub", found),
        MeshState::Draining => {
            Finding::warning("hub", found, "unless it is about to stop: pigeonctl undrain has it join again")
        }
        _ => Finding::warning("hub", found, "the findings below may tell why; else: pigeonctl events"),
    };
    Ok((Running { socket, status: *status, pid, uid, links, events }, finding))
}

fn not_running(failure: &Failure) -> Finding {
    match failure {
        Failure::NoneFound { .. } | Failure::NotRunning { .. } => {
            Finding::skipped("hub", "does not run; this is about what it would start with")
        }
        _ => unanswered(failure),
    }
}

/// Somebody meant this very hub.
fn unanswered(failure: &Failure) -> Finding {
    let cure = match failure {
        Failure::NoPermission { .. } => "as root, or as one whom that is for, this finds more",
        Failure::NotRunning { .. } => {
            "start it; pigeonctl instances lists those that run, and pigeonctl --instance PORT doctor looks at \
             what the one of that port would start with"
        }
        _ => "systemctl status 'pigeonhubd@*' tells whether it hangs; restart it",
    };
    Finding::failed("hub", failure.to_string(), cure)
}

fn configuration(front: &Front, running: Option<&Running>) -> (Config, Finding) {
    let asked = running.map(|running| call::ask(&running.socket, Command::Config));
    if let Some(Ok(Answer::Config(values))) = asked {
        return (of_values(&values), Finding::ok("configuration", "as the hub has it in force"));
    }
    let dir = check::config_dir();
    let port = front.port().or(running.map(|running| running.status.port));
    match check::load(&dir, port) {
        Ok(config) => (config, Finding::ok("configuration", format!("{} is valid", dir.display()))),
        Err(error) => {
            let mut config = Config::default();
            config.listen.port = port.unwrap_or(config.listen.port);
            let first = error.lines().next().unwrap_or_default().to_owned();
            (
                config,
                Finding::failed("configuration", first, "pigeonctl check shows the place; edit it there"),
            )
        }
    }
}

/// A configuration from what a hub tells of its own. What does not fit, such
/// as a key that only the hub knows, is left out.
fn of_values(values: &[ConfigValue]) -> Config {
    let mut config = Config::default();
    for ConfigValue { key, value, .. } in values {
        config.apply_file_to_the_end("the hub", &format!("{key} = {value}\n"));
    }
    config
}

/// What surrounds another process, if we may know.
fn surroundings_of(pid: i32) -> Option<Surroundings> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let vars: Vec<(String, String)> = environment
        .split(|byte| *byte == 0)
        .filter_map(|var| {
            let (name, value) = std::str::from_utf8(var).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect();
    Some(Surroundings::new(0, |name| {
        vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_hubs_configuration_is_read_from_what_it_tells() {
        let value = |key: &str, value: &str| ConfigValue {
            key: key.to_owned(),
            value: value.to_owned(),
            origin: String::from("default"),
        };
        let config = of_values(&[
            value("listen.port", "3007"),
            value("unknown.key", "1"),
            value("mesh.ice_servers", "[{ urls = [\"turn:a\"], username = \"u\", credential = \"…\" }]"),
        ]);
        assert_eq!((config.listen.port, config.mesh.ice_servers.len()), (3007, 1));
    }
}
