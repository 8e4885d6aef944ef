//! Why a command did not do what it should, and the exit status that says so.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pigeonhub_proto::control::ControlErrorCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody listens there.
    #[error("no hub answers on {}: {error}; is pigeonhubd running?", .socket.display())]
    NotRunning { socket: PathBuf, error: io::Error },
    /// No hub was found.
    #[error("no running hub was found; name one with --instance PORT or --socket PATH (looked in {})", .looked.join(", "))]
    NoneFound { looked: Vec<String> },
    /// More than one was found.
    #[error("several hubs run here; name one: {}", .found.iter().map(|port| format!("--instance {port}")).collect::<Vec<_>>().join(", "))]
    Several { found: Vec<u16> },
    /// The socket is not ours to open.
    #[error("no permission for {}: {}", .socket.display(), who(.group))]
    NoPermission { socket: PathBuf, group: Option<String> },
    /// It took too long.
    #[error("the hub on {} does not answer within {}", .socket.display(), span(.patience))]
    TimedOut { socket: PathBuf, patience: Duration },
    /// The hub says no.
    #[error("{text}")]
    Refused { code: ControlErrorCode, text: String },
    /// The hub says something else than it should.
    #[error("what answers on {} is not understood ({error}); is it a pigeonhubd of this pigeonctl's version, {}?", .socket.display(), env!("CARGO_PKG_VERSION"))]
    Unreadable { socket: PathBuf, error: String },
    /// The hub went away in the middle.
    #[error("the hub on {} has hung up", .socket.display())]
    HungUp { socket: PathBuf },
    /// What was waited for did not come.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The hub takes no clients.
    #[error("not serving: {0}")]
    NotServing(String),
    /// Nothing came back from a probed hub.
    #[error("{0}")]
    Unanswered(String),
    /// A configuration that is wrong; what is wrong was printed.
    #[error("{0}")]
    Rejected(String),
    /// A file that cannot be read or written.
    #[error("{}: cannot be {done}: {error}", .path.display())]
    File { path: PathBuf, done: &'static str, error: io::Error },
    /// `doctor` found something; it was printed.
    #[error("{0}")]
    Unwell(String),
    /// A ticket that is none, or not good; or a file that signs or checks none.
    #[error("{0}")]
    Ticket(String),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// That of one hub of several, which was told.
    #[error("not every hub did it; the first that did not is that on port {port}")]
    OneOf { port: u16, failure: Box<Failure> },
    /// Our own output could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

fn who(group: &Option<String>) -> String {
    match group {
        Some(group) => {
            format!("it is for group {group} (as root: usermod -aG {group} USER, then log in again)")
        }
        None => String::from("it is for its hub's own user, and for root"),
    }
}

/// Whole seconds, or milliseconds if there are not that many.
fn span(of: &Duration) -> String {
    match of.as_millis().next_multiple_of(10) {
        // What a second is cut to until it is used.
        millis @ ..950 => format!("{millis} ms"),
        millis => format!("{} s", (millis + 500) / 1000),
    }
}

impl Failure {
    /// As documented in pigeonctl(1).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::HungUp { .. }
            | Self::Unreadable { .. }
            | Self::File { .. }
            | Self::Unwell(_)
            | Self::Ticket(_)
            | Self::Output(_) => 1,
            Self::OneOf { failure, .. } => failure.exit_code(),
            Self::Several { .. } | Self::Usage(_) => 2,
            Self::NotRunning { .. } | Self::NoneFound { .. } => 3,
            Self::NoPermission { .. } => 4,
            Self::NotReady(_) => 5,
            Self::NotServing(_) => 9,
            Self::Rejected(_) => 6,
            Self::TimedOut { .. } | Self::Unanswered(_) => 7,
            Self::Refused { code, .. } => match code {
                ControlErrorCode::BadRequest | ControlErrorCode::Busy | ControlErrorCode::Other => 1,
                ControlErrorCode::NotPermitted => 4,
                ControlErrorCode::ConfigRejected => 6,
                ControlErrorCode::TimedOut => 7,
                ControlErrorCode::NotFound => 8,
            },
        }
    }

    /// Whether whoever reads our output has seen enough: no failure of ours.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_patience_is_told_as_none() {
        let told = |micros| span(&Duration::from_micros(micros));
        for (micros, expected) in [
            (200_000, "200 ms"),
            (299_900, "300 ms"),
            (999_990, "1 s"),
            (1_999_990, "2 s"),
            (10_000_000, "10 s"),
        ] {
            assert_eq!(told(micros), expected);
        }
    }
}
