//! `check`: what is wrong with a configuration, without a hub.

mod eyes;
pub(crate) mod files;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::OFlag;
use nix::unistd::{User, geteuid};
use pigeonhub_proto::config::{Config, ConfigError, Flag, Origin, find};
use serde_json::{Value, json};

use crate::commands::Front;
use crate::failure::Failure;
use crate::look::{Look, Paint, count};
use crate::show;
use crate::talk::say;

/// Where the daemon's files are, unless the variable below says otherwise.
const CONFIG_DIR: &str = "/etc/pigeonhubd";
/// As whom the packaged unit runs.
const SERVICE_USER: &str = "pigeonhub";
const CONFIG_DIR_ENV: &str = "PIGEONHUBD_CONFIG_DIR";
/// The largest configuration file that the daemon reads, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
enum Mistake {
    /// Of a key or value.
    Config(ConfigError),
    /// Of a file as a whole.
    NotText { file: PathBuf, line: usize, found: String },
    /// The file of an instance gives it another port than its name says.
    OtherPort { place: Origin, port: u16, named: u16 },
    /// A file that is named cannot be used.
    Named { place: Origin, fault: files::Fault },
}

/// Files that are laid over each other, and the port that the hub is started with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layers {
    shared: Vec<PathBuf>,
    ports: Vec<(u16, Option<PathBuf>)>,
}

/// Checks `files`, or those of the daemon.
pub(crate) fn run(front: &Front, files: &[PathBuf]) -> Result<(), Failure> {
    let layers = match files {
        [] => daemon_files(&config_dir(), front.port())?,
        files => Layers { shared: files.to_vec(), ports: Vec::new() },
    };
    // Root asks for the service: what its user may not read, it cannot use.
    let service = files.is_empty() && std::env::var_os(CONFIG_DIR_ENV).is_none() && geteuid().is_root();
    let user = service.then(|| service_user(&layers)).flatten();
    let eyes = user.as_ref().map(eyes::Eyes::of).transpose();
    let eyes = eyes.map_err(|error| Failure::File {
        path: config_dir(),
        done: "read as the service's user",
        error: error.into(),
    })?;
    let (read, mut mistakes) = check(&layers, user.as_ref())?;
    drop(eyes);
    if user.is_some() {
        let place = Origin::Default;
        mistakes.extend(files::of_credential().map(|fault| Mistake::Named { place, fault }));
    }
    // A file that was brought from another machine may name what is there, and some files only a hub may read.
    let elsewhere = !files.is_empty();
    let noted =
        |mistake: &mut Mistake| matches!(mistake, Mistake::Named { fault, .. } if elsewhere || fault.hidden);
    for note in mistakes.extract_if(.., noted) {
        say(&format!("note: {}", note.text()));
    }
    let mut out = io::stdout().lock();
    for mistake in &mistakes {
        match front.json {
            true => show::line(&mut out, &mistake.json())?,
            false => mistake.write(&mut out, &front.look)?,
        }
    }
    match (mistakes.len(), read) {
        (0, 0) => say(&format!("{} has no configuration: a hub has the defaults", config_dir().display())),
        (0, read) => say(&format!("{}: no mistake", count(read, "file"))),
        (mistakes, read) => {
            return Err(Failure::Rejected(format!(
                "{} in {}",
                count(mistakes, "mistake"),
                count(read, "file")
            )));
        }
    }
    Ok(())
}

/// Who the service's hubs run as, if there is such a user.
fn service_user(layers: &Layers) -> Option<User> {
    let port = layers.ports.first().map_or(Config::default().listen.port, |(port, _)| *port);
    let unit = format!("pigeonhubd@{port}.service");
    let asked =
        process::Command::new("systemctl").args(["show", "--value", "--property=User", &unit]).output();
    // Without systemd, as in a container, its package may be there all the same.
    let name = match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => String::from(SERVICE_USER),
    };
    User::from_name(&name).ok().flatten().filter(|user| !user.uid.is_root())
}

/// The folder of the daemon's files.
pub(crate) fn config_dir() -> PathBuf {
    let named = std::env::var_os(CONFIG_DIR_ENV).filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from(CONFIG_DIR), PathBuf::from)
}

/// The configuration that a hub of that port would start with, if it is valid.
pub(crate) fn load(dir: &Path, port: Option<u16>) -> Result<Config, String> {
    let layers = daemon_files(dir, port).map_err(|failure| failure.to_string())?;
    let mut config = Config::default();
    let files = layers.shared.iter().chain(layers.ports.iter().filter_map(|(_, file)| file.as_ref()));
    for file in files {
        let text = read(file).map_err(|failure| failure.to_string())?;
        let text = text.map_err(|mistake| mistake.text())?;
        config.apply_file(&file.to_string_lossy(), &text).map_err(|error| error.to_string())?;
    }
    if let Some(port) = port {
        set_port(&mut config, port);
    }
    config.checked().map_err(|error| error.to_string())
}

/// The files in the daemon's order: `pigeonhubd.toml`, `conf.d/*.toml`, and
/// for each instance, or that of `port`, `PORT.toml`.
fn daemon_files(dir: &Path, port: Option<u16>) -> Result<Layers, Failure> {
    let mut layers = Layers::default();
    layers.shared.extend(Some(dir.join("pigeonhubd.toml")).filter(|file| file.exists()));
    layers.shared.extend(toml_files(&dir.join("conf.d"))?);
    let of_port = |file: PathBuf| Some((file.file_stem()?.to_str()?.parse().ok()?, Some(file)));
    layers.ports = toml_files(dir)?.into_iter().filter_map(of_port).collect();
    if let Some(port) = port {
        layers.ports.retain(|(of, _)| *of == port);
        if layers.ports.is_empty() {
            layers.ports.push((port, None));
        }
    }
    Ok(layers)
}

fn toml_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |error| Failure::File { path: dir.to_owned(), done: "read", error };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// How many files were read, and what is wrong in them; for the service if its user is told.
fn check(layers: &Layers, service: Option<&User>) -> Result<(usize, Vec<Mistake>), Failure> {
    let mut mistakes = Vec::new();
    let mut shared = Config::default();
    for file in &layers.shared {
        apply(&mut shared, file, &mut mistakes)?;
    }
    let mut read = layers.shared.len();
    for (port, file) in &layers.ports {
        let mut config = shared.clone();
        if let Some(file) = file {
            read += 1;
            apply(&mut config, file, &mut mistakes)?;
            let (place, named, set) = (config.origin("listen.port"), *port, config.listen.port);
            let here = matches!(place, Origin::File(place) if *place.file == *file.to_string_lossy());
            if here && set != named {
                mistakes.push(Mistake::OtherPort { place: place.clone(), port: set, named });
            }
        }
        set_port(&mut config, *port);
        conclude(config, service, &mut mistakes);
    }
    if layers.ports.is_empty() {
        conclude(shared, service, &mut mistakes);
    }
    Ok((read, mistakes))
}

/// What only the whole shows. Of several instances each would tell the same.
fn conclude(config: Config, service: Option<&User>, mistakes: &mut Vec<Mistake>) {
    let found: Vec<Mistake> = match config.checked() {
        Err(error) => vec![Mistake::Config(error)],
        Ok(config) => {
            let mut faults = files::faults(&config);
            if let Some(user) = service {
                faults.extend(files::of_service(&config));
                for fault in faults.iter_mut().filter(|fault| fault.hidden) {
                    fault.hidden = false;
                    fault.problem += &format!("; the service runs as {} and must be let", user.name);
                }
                faults.extend(files::unseen(&config));
            }
            let named =
                |fault: files::Fault| Mistake::Named { place: config.origin(fault.key).clone(), fault };
            faults.into_iter().map(named).collect()
        }
    };
    for mistake in found {
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }
}

fn apply(config: &mut Config, file: &Path, mistakes: &mut Vec<Mistake>) -> Result<(), Failure> {
    match read(file)? {
        Ok(text) => {
            let faults = config.apply_file_to_the_end(&file.to_string_lossy(), &text);
            mistakes.extend(faults.into_iter().map(Mistake::Config));
        }
        Err(mistake) => mistakes.push(mistake),
    }
    Ok(())
}

/// As the unit starts it.
fn set_port(config: &mut Config, port: u16) {
    if let Some(key) = find("listen.port") {
        // A port is a port.
        drop(config.apply_flag(key, Flag::Value("--port", "PORT"), &[port.to_string()]));
    }
}

fn read(file: &Path) -> Result<Result<String, Mistake>, Failure> {
    let fail = |error| Failure::File { path: file.to_owned(), done: "read", error };
    // As the daemon does: opening a pipe would wait for a writer, and the flag does nothing to a file.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file);
    let opened = opened.map_err(fail)?;
    if !opened.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a file")));
    }
    let mut bytes = Vec::new();
    opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    let not_text = |line, found: String| Mistake::NotText { file: file.to_owned(), line, found };
    if bytes.len() as u64 > LARGEST_FILE {
        return Ok(Err(not_text(1, format!("larger than {LARGEST_FILE} bytes; should be smaller"))));
    }
    Ok(String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        not_text(line, String::from("not UTF-8; should be TOML text in UTF-8"))
    }))
}

/// The line of a place with a mark, below what is said of it.
fn excerpt(place: &Origin) -> String {
    match place {
        Origin::File(place) if !place.excerpt().is_empty() => format!("\n{}", place.excerpt()),
        _ => String::new(),
    }
}

impl Mistake {
    /// Place, key, what is wrong, and below it the line with a mark.
    fn text(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::NotText { file, line, found } => format!("{}:{line}: {found}", file.display()),
            Self::OtherPort { place, port, .. } => {
                format!("{place}: listen.port = {port}: {}{}", self.problem(), excerpt(place))
            }
            Self::Named { place, fault } => {
                format!("{place}: {}: {}{}", fault.key, fault.problem, excerpt(place))
            }
        }
    }

    fn write(&self, out: &mut impl Write, look: &Look) -> io::Result<()> {
        let text = self.text();
        for (number, line) in text.lines().enumerate() {
            let mark = number > 0 && line.trim_start().starts_with('^');
            let paint = if number == 0 {
                Paint::Bold
            } else if mark {
                Paint::Bad
            } else {
                Paint::Plain
            };
            writeln!(out, "{}", look.paint(paint, line))?;
        }
        Ok(())
    }

    fn problem(&self) -> String {
        match self {
            Self::Config(error) => error.problem().to_string(),
            Self::NotText { found, .. } => found.clone(),
            Self::Named { fault, .. } => fault.problem.clone(),
            Self::OtherPort { port, named, .. } => {
                format!(
                    "the file's name says {named}; should be named {port}.toml, or leave the port to its name"
                )
            }
        }
    }

    fn json(&self) -> Value {
        let (origin, key) = match self {
            Self::Config(error) => (error.origin(), error.key()),
            Self::OtherPort { place, .. } => (place, "listen.port"),
            Self::Named { place, fault } => (place, fault.key),
            Self::NotText { .. } => (&Origin::Default, ""),
        };
        let (file, line, column) = match (self, origin) {
            (Self::NotText { file, line, .. }, _) => (file.to_str(), Some(*line), Some(1)),
            (_, Origin::File(place)) => (Some(&*place.file), Some(place.line), Some(place.column)),
            _ => (None, None, None),
        };
        json!({ "file": file, "line": line, "column": column, "key": key, "problem": self.problem() })
    }
}
