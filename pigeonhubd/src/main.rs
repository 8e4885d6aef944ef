//! `pigeonhubd`: a signaling hub for PeerPigeon clients.

use std::process::ExitCode;

use pigeonhubd::{daemon, logging, options, paths};

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    let config = match options::load(std::env::args_os(), env) {
        Ok(config) => config,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    if let Err(error) = logging::start(&config.log.level.to_string()) {
        eprintln!("pigeonhubd: {error}");
        return ExitCode::from(options::EX_CONFIG);
    }
    if let Err(error) = daemon::raise_file_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pigeonhubd: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(daemon::run(&config, &paths::surroundings(env))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pigeonhubd: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
