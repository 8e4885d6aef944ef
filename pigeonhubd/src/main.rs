//! `pigeonhubd`: a signaling hub for PeerPigeon clients.

use std::process::ExitCode;
use std::sync::Arc;

use pigeonhubd::daemon::{self, Origin};
use pigeonhubd::inherit::Inherited;
use pigeonhubd::service::Service;
use pigeonhubd::{logging, options, panics, paths};

fn env(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn main() -> ExitCode {
    let config = match options::load(std::env::args_os(), env) {
        Ok(config) => config,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    let log = match logging::start(config.log.level.as_str(), env) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("pigeonhubd: {error}");
            return ExitCode::from(options::EX_CONFIG);
        }
    };
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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pigeonhubd: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(daemon::run(&config, &paths::surroundings(env), origin)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pigeonhubd: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
