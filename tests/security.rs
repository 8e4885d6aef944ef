//! `SECURITY.md` names the test that shows each thing it promises: they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The names of all tests, by the module of their file; `tests` and `mod` go by their folder.
fn tests(folder: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()) {
        let name =
            |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let stem = name(&entry);
        if entry.is_dir() {
            if !matches!(&*stem, "node_modules" | "target" | "corpus" | ".cache") {
                tests(&entry, found);
            }
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            let module = if stem == "tests" || stem == "mod" { name(folder) } else { stem };
            let text = fs::read_to_string(&entry).expect("readable");
            let names = found.entry(module).or_default();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                if let Some(name) = line.trim_start_matches("async ").strip_prefix("fn ").filter(|_| marked) {
                    names.extend(name.split_once('(').map(|(name, _)| name.to_owned()));
                }
                marked = matches!(line, "#[test]" | "#[tokio::test]");
            }
            if let Some((_, targets)) = text.split_once("targets! {") {
                names.extend(
                    targets
                        .split_once('}')
                        .into_iter()
                        .flat_map(|(all, _)| all.split_whitespace())
                        .map(str::to_owned),
                );
            }
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let mut known = BTreeMap::new();
    for folder in ["tests", "pigeonhubd", "pigeonctl"] {
        tests(&Path::new(ROOT).join(folder), &mut known);
    }
    let text = fs::read_to_string(Path::new(ROOT).join("pigeonhubd/SECURITY.md")).expect("it is there");
    let named: BTreeSet<&str> =
        text.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
    assert!(named.len() >= 40, "{} tests are named", named.len());
    let exists = |name: &&str| {
        let (module, test) = name.split_once("::").unwrap_or_default();
        known.get(module).is_some_and(|tests| tests.contains(test))
    };
    let missing: Vec<&str> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

/// Each row of threats says what stops it and which test shows that, or that nothing does.
#[test]
fn every_threat_has_an_answer() {
    let text = fs::read_to_string(Path::new(ROOT).join("pigeonhubd/SECURITY.md")).expect("it is there");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip_while(|line| *line != "## Threats")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !line.starts_with("| what "))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 30, "{} threats", rows.len());
    for row in rows {
        let [_, _, shown] = row[..] else { panic!("three cells: {row:?}") };
        assert!(shown.contains("::"), "which test? {row:?}");
    }
}
