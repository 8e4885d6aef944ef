//! The manual pages say what the program does, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::CommandFactory;
use pigeonhub_proto::control::{Command, ControlErrorCode};
use serde_json::Value;

use crate::cli::Cli;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../man").join(name)
}

fn page(name: &str) -> String {
    std::fs::read_to_string(file(name)).expect("a manual page")
}

/// The names of all pages.
fn pages() -> Vec<String> {
    let entries = std::fs::read_dir(file("")).expect("manual pages");
    entries.map(|entry| entry.expect("a page").file_name().into_string().expect("a name")).collect()
}

/// The part of a page between two headings.
fn section<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{from}\n")).expect(from);
    rest.split_once(&format!("\n{to}\n")).expect(to).0
}

/// Each `.It Ic NAME …` (or `.It Xo`, `.Ic NAME`) with its text up to the next.
fn entries(part: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in part.replace(".It Xo\n.Ic ", ".It Ic ").lines() {
        match line.strip_prefix(".It Ic ") {
            Some(head) => {
                let word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                let name: Vec<&str> = head.split(' ').take_while(word).collect();
                entries.push((name.join(" "), format!("{head}\n")));
            }
            None => {
                if let Some((_, text)) = entries.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    entries
}

/// What follows a macro, wherever it stands in a line.
fn after<'a>(text: &'a str, macro_name: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.trim_start_matches('.').split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| pair[0] == macro_name);
        found.extend(pairs.map(|pair| pair[1]));
    }
    found
}

/// Every command that does something, with its own long flags.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    fn walk(path: &str, command: &clap::Command, all: &mut BTreeMap<String, BTreeSet<String>>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let name = format!("{path} {}", below.get_name()).trim().to_owned();
            if !below.is_subcommand_required_set() {
                let own = below.get_arguments().filter(|argument| !argument.is_global_set());
                let flags = own
                    .filter_map(|argument| argument.get_long_and_visible_aliases())
                    .flatten()
                    .map(str::to_owned);
                all.insert(name.clone(), flags.filter(|flag| flag != "help").collect());
            }
            walk(&name, below, all);
        }
    }
    let mut all = BTreeMap::new();
    walk("", &Cli::command(), &mut all);
    all
}

#[test]
fn pigeonctl_1_has_every_command_with_its_flags() {
    let page = page("pigeonctl.1");
    let globals = ["instance", "socket", "json"];
    let described: BTreeMap<String, BTreeSet<String>> = entries(section(&page, ".Ss Looking", ".Sh JSON"))
        .into_iter()
        .map(|(name, text)| {
            let flags = after(&text, "Fl").into_iter().filter_map(|flag| flag.strip_prefix('-'));
            let own = flags.filter(|flag| !globals.contains(flag)).map(str::to_owned);
            (name, own.collect())
        })
        .collect();
    assert_eq!(described, commands());
    let general = section(&page, ".Sh DESCRIPTION", ".Ss Looking");
    let flags = after(general, "Fl");
    for global in globals {
        assert!(flags.contains(format!("-{global}").as_str()), "--{global}");
    }
}

#[test]
fn pigeonctl_1_names_every_field_of_the_json() {
    let page = page("pigeonctl.1");
    let documented = section(&page, ".Sh JSON", ".Sh ENVIRONMENT");
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut objects = 0;
    let folders = [golden.join("program"), golden];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("golden files"));
    for entry in entries {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("text").lines() {
            let object: Value = serde_json::from_str(line).expect("an object");
            for name in object.as_object().expect("an object").keys() {
                let words = || documented.split([' ', '\n']);
                assert!(words().any(|word| word == name), "{name} of {}", path.display());
            }
            objects += 1;
        }
    }
    assert!(objects > 40, "there are examples of all");
}

#[test]
fn pigeonctl_1_names_every_exit_status() {
    let page = page("pigeonctl.1");
    let part = section(&page, ".Sh EXIT STATUS", ".Sh EXAMPLES");
    let named: Vec<&str> = part.lines().filter_map(|line| line.strip_prefix(".It ")).collect();
    assert_eq!(named, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

/// The command that comes after `command`, with all of its fields: whoever adds
/// one is told by the compiler to put it here.
fn next(command: &Command) -> Option<Command> {
    let id = || String::from("a1");
    Some(match command {
        Command::Status => Command::Hubs,
        Command::Hubs => Command::Peers { network: Some(String::from("global")) },
        Command::Peers { .. } => Command::Peer { id: id() },
        Command::Peer { .. } => Command::Networks,
        Command::Networks => Command::Links,
        Command::Links => Command::Topology,
        Command::Topology => Command::Route { id: id() },
        Command::Route { .. } => Command::Trace { id: id() },
        Command::Trace { .. } => Command::Config,
        Command::Config => Command::Events { since: 1, types: vec![id()], follow: true },
        Command::Events { .. } => Command::Metrics,
        Command::Metrics => Command::Reload { dry_run: true },
        Command::Reload { .. } => Command::Drain,
        Command::Drain => Command::Undrain,
        Command::Undrain => Command::Disconnect { id: id() },
        Command::Disconnect { .. } => Command::LogLevel { level: id(), seconds: Some(1) },
        Command::LogLevel { .. } => return None,
    })
}

#[test]
fn pigeonhub_control_7_has_every_command_with_its_fields() {
    let page = page("pigeonhub-control.7");
    let described = entries(section(&page, ".Sh COMMANDS", ".Sh ERRORS"));
    let mut names = BTreeSet::new();
    for command in std::iter::successors(Some(Command::Status), next) {
        let object = serde_json::to_value(&command).expect("an object");
        let name = object["cmd"].as_str().expect("a name");
        names.insert(name.to_owned());
        let text: String =
            described.iter().filter(|(of, _)| of == name).map(|(_, text)| text.as_str()).collect();
        for field in object.as_object().expect("an object").keys().filter(|field| *field != "cmd") {
            assert!(after(&text, "Fa").contains(field.as_str()), "{field} of {name}");
        }
    }
    assert_eq!(described.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), names);
}

#[test]
fn pigeonhub_control_7_has_every_kind_of_error() {
    let next = |code: &ControlErrorCode| match code {
        ControlErrorCode::BadRequest => Some(ControlErrorCode::NotPermitted),
        ControlErrorCode::NotPermitted => Some(ControlErrorCode::NotFound),
        ControlErrorCode::NotFound => Some(ControlErrorCode::ConfigRejected),
        ControlErrorCode::ConfigRejected => Some(ControlErrorCode::TimedOut),
        ControlErrorCode::TimedOut => Some(ControlErrorCode::Busy),
        // Whoever reads it knows no more of it than its text.
        ControlErrorCode::Busy | ControlErrorCode::Other => None,
    };
    let codes: Vec<String> = std::iter::successors(Some(ControlErrorCode::BadRequest), next)
        .map(|code| serde_json::to_value(code).expect("a text").as_str().expect("a text").to_owned())
        .collect();
    let page = page("pigeonhub-control.7");
    let part = section(&page, ".Sh ERRORS", ".Sh EXAMPLES");
    let named: Vec<&str> = part.lines().filter_map(|line| line.strip_prefix(".It Er ")).collect();
    assert_eq!(named, codes);
}

#[test]
fn commands_that_are_quoted_anywhere_are_understood() {
    let readme = std::fs::read_to_string(file("../README.md")).expect("the README");
    let in_readme = readme.split('`').chain(readme.lines()).map(str::to_owned);
    let pages: Vec<String> =
        pages().iter().flat_map(|name| page(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let quoted = in_readme.chain(pages).filter_map(|text| {
        let text = text.trim_start_matches(".Ql ").trim().to_owned();
        // Up to a remark, or what follows in the shell.
        let end = text.find(['#', '|', '&', '(', '…']).unwrap_or(text.len());
        text.starts_with("pigeonctl ")
            .then(|| text[..end].trim_end_matches([' ', ',', '.', ';', ':']).to_owned())
    });
    let mut count = 0;
    for line in quoted.filter(|line| !line.contains("\n")) {
        // Help and the version are printed, and no error.
        let parsed = <Cli as clap::Parser>::try_parse_from(line.split_whitespace());
        if let Some(error) = parsed.err().filter(|error| error.use_stderr()) {
            panic!("{line}: {error}");
        }
        count += 1;
    }
    assert!(count > 25, "{count} commands are quoted");
}

#[test]
fn keys_that_are_named_in_any_page_exist() {
    use pigeonhub_proto::config::{KEYS, SECTIONS};
    let mut count = 0;
    for name in pages() {
        for word in after(&page(&name), "Cm") {
            let section = word.split_once('.').map(|(section, _)| section);
            if section.is_some_and(|section| SECTIONS.iter().any(|(known, _)| *known == section)) {
                assert!(KEYS.iter().any(|key| key.name == word), "{word} in {name}");
                count += 1;
            }
        }
    }
    assert!(count > 15, "{count} keys are named");
}

#[test]
fn the_pages_are_formatted_without_a_warning() {
    for name in pages() {
        let man = std::process::Command::new("man").args(["--warnings", "-l"]).arg(file(&name)).output();
        let Ok(output) = man else {
            eprintln!("skipped: man is not installed");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
    }
}
