//! From the command line, the environment and a file to the configuration.
//!
//! A flag counts more than an environment variable, which counts more than
//! the file, which counts more than the default. Flags, variables and help
//! come from the table [`KEYS`]; values are taken as texts and checked there,
//! so that a faulty one reads the same wherever it stands.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pigeonhub_proto::config::{Config, ConfigError, Flag, KEYS, Key, Origin};

/// The exit status for a configuration that is refused: `EX_CONFIG` of sysexits(3).
pub const EX_CONFIG: u8 = 78;

/// The largest configuration file, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

const CONFIG_FLAG: &str = "--config";
const CONFIG_ENV: &str = "PIGEONHUBD_CONFIG";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line is not understood, or help or the version was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A key or value is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}; should be a readable file, as {by} names it")]
    Unreadable {
        /// As it was named.
        path: String,
        /// The flag or variable that named it.
        by: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be a configuration.
    #[error("{path}: {found}; should be TOML text of at most {LARGEST_FILE} bytes")]
    NotText {
        /// As it was named.
        path: String,
        /// What it is instead.
        found: String,
    },
}

impl LoadError {
    /// What to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => u8::try_from(error.exit_code()).unwrap_or(1),
            _ => EX_CONFIG,
        }
    }

    /// Tells the person at the terminal: on standard output what was asked
    /// for, on standard error what is wrong.
    pub fn print(&self) {
        match self {
            // Nobody is left to be told that nobody listens.
            Self::Usage(error) => drop(error.print()),
            other => eprintln!("{other}"),
        }
    }
}

/// The command line, for parsing it and for its manual.
pub fn command() -> Command {
    let config = Arg::new(CONFIG_FLAG)
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("The configuration file; without one, none is read [env: {CONFIG_ENV}]"));
    // What most want to set comes first.
    let (folders, sections): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| key.section().is_empty());
    Command::new("pigeonhubd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .arg(config)
        .args(sections.into_iter().chain(folders).filter_map(arg))
}

fn arg(key: &'static Key) -> Option<Arg> {
    let flag = key.flag?;
    let arg = Arg::new(key.name).long(flag.name().trim_start_matches('-')).help(help(key));
    Some(match flag {
        Flag::Value(_, what) => arg.value_name(what).allow_negative_numbers(true),
        Flag::Repeat(_, what) => arg.value_name(what).action(ArgAction::Append),
        Flag::Off(_) => arg.action(ArgAction::SetTrue),
    })
}

fn help(key: &Key) -> String {
    let range = Some(key.kind.range()).filter(|range| !range.is_empty());
    let notes = [
        Some(format!("file: {}", key.name)),
        range,
        key.env.map(|name| format!("env: {name}")),
        Some(format!("default: {}", key.show(&Config::default()))),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    match key.flag {
        Some(Flag::Off(_)) => format!("Sets {} to false. {} [{}]", key.name, key.doc, notes.join("; ")),
        _ => format!("{} [{}]", key.doc, notes.join("; ")),
    }
}

/// Reads everything that configures this process. `args` begins with the
/// program's name; `env` looks up an environment variable.
///
/// # Errors
/// The first thing that is wrong, in the words that its author should read.
pub fn load<I, A>(args: I, env: impl Fn(&str) -> Option<OsString>) -> Result<Config, LoadError>
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    let matches = command().try_get_matches_from(args)?;
    let mut config = Config::default();
    if let Some((path, by)) = file(&matches, &env) {
        let name = path.to_string_lossy().into_owned();
        config.apply_file(&name, &read(&path, &name, by)?)?;
    }
    for key in &KEYS {
        if let Some((name, value)) = key.env.and_then(|name| env(name).map(|value| (name, value))) {
            let value = value.into_string().map_err(|_| Config::not_text(key, Origin::Env(name)))?;
            config.apply_env(key, name, &value)?;
        }
    }
    for key in &KEYS {
        apply_flag(&mut config, key, &matches)?;
    }
    Ok(config.checked()?)
}

fn file(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> Option<(PathBuf, &'static str)> {
    let named = matches.get_one::<PathBuf>(CONFIG_FLAG).map(|path| (path.clone(), CONFIG_FLAG));
    let by_env = || env(CONFIG_ENV).filter(|path| !path.is_empty()).map(|path| (path.into(), CONFIG_ENV));
    named.or_else(by_env)
}

fn apply_flag(config: &mut Config, key: &'static Key, matches: &ArgMatches) -> Result<(), ConfigError> {
    match key.flag {
        Some(flag @ Flag::Off(_)) if matches.get_flag(key.name) => config.apply_flag(key, flag, &[]),
        None | Some(Flag::Off(_)) => Ok(()),
        Some(flag) => match matches.get_many::<String>(key.name) {
            Some(values) => config.apply_flag(key, flag, &values.cloned().collect::<Vec<_>>()),
            None => Ok(()),
        },
    }
}

fn read(path: &Path, name: &str, by: &'static str) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a larger file from one that just fits.
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|source| LoadError::Unreadable { path: name.to_owned(), by, source })?;
    let not_text = |found: String| LoadError::NotText { path: name.to_owned(), found };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(not_text(String::from("larger")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        not_text(format!("not UTF-8 in line {line}"))
    })
}

#[cfg(test)]
mod tests;
