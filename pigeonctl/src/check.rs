//! `check`: what is wrong with a configuration, without a hub.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use pigeonhub_proto::config::{Config, ConfigError, Flag, Origin, find};
use serde_json::{Value, json};

use crate::commands::Front;
use crate::failure::Failure;
use crate::look::{Look, Paint, count};
use crate::show;
use crate::talk::say;

/// Where the daemon's files are, unless the variable below says otherwise.
const CONFIG_DIR: &str = "/etc/pigeonhubd";
const CONFIG_DIR_ENV: &str = "PIGEONHUBD_CONFIG_DIR";
/// The largest configuration file that the daemon reads, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// One mistake.
#[derive(Debug)]
enum Mistake {
    /// Of a key or value.
    Config(ConfigError),
    /// Of a file as a whole.
    NotText { file: PathBuf, line: usize, found: String },
    /// The file of an instance gives it another port than its name says.
    OtherPort { place: Origin, port: u16, named: u16 },
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
    let (read, mistakes) = check(&layers)?;
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

/// How many files were read, and what is wrong in them.
fn check(layers: &Layers) -> Result<(usize, Vec<Mistake>), Failure> {
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
        conclude(config, &mut mistakes);
    }
    if layers.ports.is_empty() {
        conclude(shared, &mut mistakes);
    }
    Ok((read, mistakes))
}

/// What only the whole shows. Of several instances each would tell the same.
fn conclude(config: Config, mistakes: &mut Vec<Mistake>) {
    if let Err(error) = config.checked() {
        let known = |mistake: &Mistake| matches!(mistake, Mistake::Config(known) if *known == error);
        if !mistakes.iter().any(known) {
            mistakes.push(Mistake::Config(error));
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
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(fail)?;
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

impl Mistake {
    /// Place, key, what is wrong, and below it the line with a mark.
    fn text(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::NotText { file, line, found } => format!("{}:{line}: {found}", file.display()),
            Self::OtherPort { place, port, .. } => {
                format!("{place}: listen.port = {port}: {}", self.problem())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::PLAIN;
    use crate::look::now_ms;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
            let name = format!("pigeonctl-check-{name}-{}-{}", std::process::id(), now_ms());
            let dir = std::env::temp_dir().join(name);
            std::fs::create_dir_all(dir.join("conf.d")).expect("a folder");
            for (file, bytes) in files {
                std::fs::write(dir.join(file), bytes).expect("a file");
            }
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn told(dir: &Dir, layers: &Layers) -> String {
        let mut out = Vec::new();
        for mistake in check(layers).expect("files can be read").1 {
            mistake.write(&mut out, &PLAIN).expect("it is memory");
        }
        String::from_utf8(out).expect("UTF-8").replace(&*dir.0.to_string_lossy(), "DIR")
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = b"[listen]\nprot = 1\nmax_connections = 0\n[mesh]\nmin_peers = 3\n";
        let dir = Dir::new("places", &[("a.toml", text), ("b.toml", b"[mesh]\nmax_peers = 2\n")]);
        let layers = Layers { shared: vec![dir.0.join("a.toml"), dir.0.join("b.toml")], ports: Vec::new() };
        assert_eq!(
            told(&dir, &layers),
            "DIR/a.toml:2:1: listen.prot: unknown key; did you mean listen.port?\n    prot = 1\n    ^^^^\n\
             DIR/a.toml:3:19: listen.max_connections = 0: out of range: 1 to 1000000\n    max_connections = 0\n                      ^\n\
             DIR/a.toml:5:13: mesh.min_peers = 3: more than mesh.max_peers = 2 (DIR/b.toml:2:13); \
             should be 1 to 2, or max_peers larger\n    min_peers = 3\n                ^\n"
        );
    }

    #[test]
    fn the_daemons_files_are_laid_over_each_other_for_each_port() {
        let files: [(&str, &[u8]); 6] = [
            ("pigeonhubd.toml", b"[mesh]\nmin_peers = 3\n"),
            ("conf.d/20.toml", b"[mesh]\nmax_peers = 2\n"),
            ("conf.d/10.toml", b"[mesh]\nmax_peers = 9\n"),
            ("conf.d/ignored.txt", b"]"),
            ("3001.toml", b"[listen]\nport = 3003\n[mesh]\nmax_peers = 4\n"),
            ("3002.toml", b"\n\xff"),
        ];
        let dir = Dir::new("layers", &files);
        let layers = daemon_files(&dir.0, None).expect("readable");
        assert_eq!(
            layers.shared,
            ["pigeonhubd.toml", "conf.d/10.toml", "conf.d/20.toml"].map(|f| dir.0.join(f))
        );
        let told = told(&dir, &layers);
        // 3001 has room for three; 3002, without its file, has not.
        let port =
            "DIR/3001.toml:2:8: listen.port = 3003: the file's name says 3001; should be named 3003.toml";
        assert!(told.starts_with(port), "{told}");
        assert!(told.contains("DIR/3002.toml:2: not UTF-8; should be"), "{told}");
        assert_eq!(told.matches("more than mesh.max_peers = 2 (DIR/conf.d/20.toml").count(), 1, "{told}");
        assert_eq!(load(&dir.0, Some(3001)).expect("valid").mesh.max_peers, 4);
        assert_eq!(load(&dir.0, Some(3001)).expect("valid").listen.port, 3001);
        let only = daemon_files(&dir.0, Some(7)).expect("readable");
        assert_eq!(only.ports, [(7, None)]);
    }
}
