//! `pigeonctl`: what a running hub says of itself, and what it is told to do.

mod call;
mod check;
mod cli;
mod commands;
mod doctor;
mod failure;
mod find;
mod flows;
#[cfg(test)]
mod golden;
mod json;
mod look;
#[cfg(test)]
mod manual;
mod metrics;
mod show;
mod table;
mod talk;
mod text;
mod ticket;
mod topology;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => {
            talk::say(&format!("pigeonctl: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}
