//! `pigeonhubd`: a signaling hub for PeerPigeon clients.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mimalloc::MiMalloc;
use pigeonhubd::daemon::{self, Origin};
use pigeonhubd::inherit::Inherited;
use pigeonhubd::options::LoadError;
use pigeonhubd::service::Service;
use pigeonhubd::{logging, options, panics, paths};

/// The system's leaves holes between what thousands of sessions keep, and gives
/// little back when they leave: see tests/load/RESULTS.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Turns of tasks after which a thread that has more of them looks at its sockets all the same.
/// Under attack a turn may take a tenth of a millisecond, and tokio's own 61 of them many.
const EVENT_INTERVAL: u32 = 16;

/// How long the end waits for threads that are still at work.
const END_TIMEOUT: Duration = Duration::from_secs(1);

fn env(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn main() -> ExitCode {
    let config = match options::load(std::env::args_os(), env) {
        Ok(config) => config,
        // Help and the like are asked for on this way too.
        Err(error @ (LoadError::Usage(_) | LoadError::Completions(_))) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
        Err(error) => return failed(&error, error.exit_code()),
    };
    let log = match logging::start(config.log.level.as_str(), env) {
        Ok(log) => log,
        Err(error) => return failed(&error, options::EX_CONFIG),
    };
    let backlog = log.backlog().clone();
    panics::install();
    if let Err(error) = daemon::raise_file_limit() {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
    let origin = Origin {
        // Before tokio opens files and starts threads.
        inherited: Inherited::take(env),
        service: Arc::new(Service::from_env(env)),
        log,
        load: Some(Arc::new(|| options::load(std::env::args_os(), env))),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.event_interval(EVENT_INTERVAL);
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start its threads: {error}"), 1),
    };
    let ended = runtime.block_on(daemon::run(&config, &paths::surroundings(env), origin));
    // A file of the configuration may be read just now, from a disk that does not answer.
    runtime.shutdown_timeout(END_TIMEOUT);
    backlog.flush(logging::FLUSH);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.exit_code()),
    }
}

/// Says why, to systemd and in the log.
fn failed(error: &impl ToString, code: u8) -> ExitCode {
    let why = error.to_string();
    Service::from_env(env).failed(&why);
    logging::fatal(&why, env);
    ExitCode::from(code)
}
