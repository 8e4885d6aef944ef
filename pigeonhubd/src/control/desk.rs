//! Where commands are answered: some here, most by the driver.

use std::sync::Arc;
use std::time::Duration;

use pigeonhub_proto::config::LogLevel;
use pigeonhub_proto::control::{Answer, Command, ControlErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::Caller;
use crate::edge::{AskError, Edge, Refusal};
use crate::events::Events;
use crate::journal;
use crate::reload::{ReloadError, Reloader};

/// Callers that may follow events at once.
pub const MAX_FOLLOWERS: usize = 4;

/// How long a log level that was set for a while may last.
const LONGEST_LEVEL: Duration = Duration::from_secs(7 * 24 * 3600);

/// What answers commands.
pub struct Desk {
    edge: Edge,
    pub(super) events: Arc<Events>,
    reloader: Arc<Reloader>,
    followers: Arc<Semaphore>,
}

impl Desk {
    /// With everything that it asks.
    pub fn new(edge: Edge, events: Arc<Events>, reloader: Arc<Reloader>) -> Self {
        Self { edge, events, reloader, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) }
    }

    /// Does what is asked, if the caller may. `group` is that of the socket.
    pub(super) async fn answer(
        &self,
        command: Command,
        caller: Caller,
        group: &str,
    ) -> Result<Answer, Refusal> {
        let logged = command.changes().then(|| command.clone());
        let outcome = match caller.check(&command, &self.reloader.config(), group) {
            Ok(()) => self.serve(command).await,
            Err(refusal) => Err(refusal),
        };
        if let Some(command) = logged {
            // What was refused changed nothing, and could fill the list.
            if outcome.is_ok() {
                self.events.tell(journal::COMMANDED, caller.event(&command));
            }
            caller.log(&command, outcome.as_ref().map_or_else(|refusal| refusal.text.as_str(), |_| "done"));
        }
        outcome
    }

    async fn serve(&self, command: Command) -> Result<Answer, Refusal> {
        match command {
            Command::Config => Ok(Answer::Config(self.reloader.values())),
            Command::Events { since, types, .. } => Ok(Answer::Events(self.events.since(since, &types))),
            Command::Reload { dry_run } => Ok(Answer::Reload(self.reloader.reload(dry_run).await?)),
            Command::LogLevel { level, seconds } => self.log_level(&level, seconds),
            command => Ok(self.edge.ask(command).await?),
        }
    }

    fn log_level(&self, level: &str, seconds: Option<u64>) -> Result<Answer, Refusal> {
        let refuse = |text| Refusal { code: ControlErrorCode::BadRequest, text };
        let level: LogLevel = level.parse().map_err(|why| {
            refuse(format!("log level '{level}': {why}; it is one of error, warn, info, debug or trace"))
        })?;
        let for_long = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_LEVEL));
        self.reloader.log().set(level.as_str(), for_long).map_err(|error| refuse(error.to_string()))?;
        Ok(Answer::Done(match for_long {
            Some(time) => format!(
                "the log level is {level} for {}, then {} again",
                humantime::format_duration(time),
                self.reloader.config().log.level
            ),
            None => format!("the log level is {level} until a reload or restart changes it"),
        }))
    }

    /// A place for one who follows events, if there is one.
    pub(super) fn follower(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| Refusal {
            code: ControlErrorCode::Busy,
            text: format!("{MAX_FOLLOWERS} callers follow events already; try again"),
        })
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let code = match &error {
            ReloadError::Gone => ControlErrorCode::Busy,
            _ => ControlErrorCode::ConfigRejected,
        };
        Self { code, text: error.to_string() }
    }
}
