//! From the command line, the environment and files to the configuration.
//!
//! A flag counts more than an environment variable, which counts more than
//! the files ([`files`]), which count more than the default. Flags, variables and help
//! come from the table [`KEYS`]; values are taken as texts and checked there,
//! so that a faulty one reads the same wherever it stands.

mod files;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use pigeonhub_proto::config::{Config, ConfigError, Flag, KEYS, Key, Origin};

/// The exit status for a configuration that is refused: `EX_CONFIG` of sysexits(3).
pub const EX_CONFIG: u8 = 78;

const CONFIG_FLAG: &str = "--config";
const COMPLETIONS_FLAG: &str = "--completions";
const CONFIG_ENV: &str = "PIGEONHUBD_CONFIG";
/// Names another folder than [`files::FOLDER`]; for tests and for unusual installations.
const FOLDER_ENV: &str = "PIGEONHUBD_CONFIG_DIR";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line is not understood, or help or the version was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Completions for a shell were asked for.
    #[error("completions for {0} were asked for")]
    Completions(Shell),
    /// A key or value is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The file of an instance gives it another port than its name says.
    #[error(
        "{origin}: listen.port = {port}: this file is read because of its name, which says {named}; name the file {port}.toml, or leave the port out of it"
    )]
    OtherPort {
        /// Where the port is set.
        origin: Origin,
        /// The port that is set.
        port: u16,
        /// The port in the file's name.
        named: u16,
    },
}

impl LoadError {
    /// What to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) => u8::try_from(error.exit_code()).unwrap_or(1),
            Self::Completions(_) => 0,
            _ => EX_CONFIG,
        }
    }

    /// Tells the person at the terminal: on standard output what was asked
    /// for, on standard error what is wrong.
    pub fn print(&self) {
        match self {
            // Nobody is left to be told that nobody listens.
            Self::Usage(error) => drop(error.print()),
            Self::Completions(shell) => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut command(), "pigeonhubd", &mut script);
                drop(std::io::stdout().write_all(&script));
            }
            other => eprintln!("{other}"),
        }
    }
}

/// The command line, for parsing it and for its manual.
pub fn command() -> Command {
    let config =
        Arg::new(CONFIG_FLAG).long("config").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
            format!(
                "The one configuration file. Without one: {0}/pigeonhubd.toml, then {0}/conf.d/*.toml, then \
             {0}/PORT.toml, as far as they exist [env: {CONFIG_ENV}; another folder than {0}: {FOLDER_ENV}]",
                files::FOLDER
            ),
        );
    let completions = Arg::new(COMPLETIONS_FLAG)
        .long("completions")
        .value_name("SHELL")
        .value_parser(value_parser!(Shell))
        .exclusive(true)
        .help("Print completions for a shell, and do nothing else");
    // What most want to set comes first.
    let (folders, sections): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| key.section().is_empty());
    Command::new("pigeonhubd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .arg(config)
        .args(sections.into_iter().chain(folders).filter_map(arg))
        .arg(completions)
}

fn arg(key: &'static Key) -> Option<Arg> {
    let flag = key.flag?;
    let mut arg = Arg::new(key.name).long(flag.name().trim_start_matches('-')).help(help(key));
    if key.name == "bootstrap.hubs" {
        // For a list of them, or an empty one.
        arg = arg.alias("bootstraps");
    }
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
    if let Some(shell) = matches.get_one(COMPLETIONS_FLAG) {
        return Err(LoadError::Completions(*shell));
    }
    let named = file(&matches, &env);
    let mut config = Config::default();
    if let Some((path, by)) = &named {
        files::apply(&mut config, path, by)?;
    } else {
        let folder = env(FOLDER_ENV).filter(|folder| !folder.is_empty());
        let folder = folder.map_or_else(|| PathBuf::from(files::FOLDER), PathBuf::from);
        files::apply_common(&mut config, &folder)?;
        // The port, which names the last file, may be set by any source but that file.
        let mut so_far = config.clone();
        over(&mut so_far, &matches, &env)?;
        let port = so_far.listen.port;
        files::apply_instance(&mut config, &folder, port)?;
        over(&mut config, &matches, &env)?;
        if config.listen.port != port {
            let (origin, port_set) = (config.origin("listen.port").clone(), config.listen.port);
            return Err(LoadError::OtherPort { origin, port: port_set, named: port });
        }
        return Ok(config.checked()?);
    }
    over(&mut config, &matches, &env)?;
    Ok(config.checked()?)
}

/// Lays the environment over the files, and the flags over that.
fn over(
    config: &mut Config,
    matches: &ArgMatches,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<(), LoadError> {
    for key in &KEYS {
        if let Some((name, value)) = key.env.and_then(|name| env(name).map(|value| (name, value))) {
            let value = value.into_string().map_err(|_| Config::not_text(key, Origin::Env(name)))?;
            config.apply_env(key, name, &value)?;
        }
    }
    for key in &KEYS {
        apply_flag(config, key, matches)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests;
