//! The commented example file, made from the table of keys.

use std::fmt::Write as _;

use super::{Config, KEYS, Key, Kind, SECTIONS};

/// Columns of a line at most.
const WIDTH: usize = 78;

const HEAD: &str = "\
Configuration of pigeonhubd. Every key is shown, commented out, with its \
default: a lone \"#\" before the key is all that has to go. A flag counts more than \
an environment variable, which counts more than this file.

A duration is a text like \"10s\" or \"1m 30s\"; a bare number is milliseconds.
";

const ICE: &str = "\
Each server is a table of its own, below the other keys of this section:

    [[mesh.ice_servers]]
    urls = [\"turn:turn.example.org:3478?transport=udp\"]
    username = \"hub\"
    credential = \"secret\"
";

/// The example file: `etc/pigeonhubd.toml`.
pub fn example() -> String {
    let mut out = String::new();
    comment(&mut out, HEAD);
    section(&mut out, "");
    for (name, doc) in SECTIONS {
        out.push('\n');
        comment(&mut out, doc);
        out.push_str(&format!("[{name}]\n"));
        section(&mut out, name);
    }
    out
}

fn section(out: &mut String, section: &str) {
    let defaults = Config::default();
    for key in KEYS.iter().filter(|key| key.section() == section) {
        out.push('\n');
        comment(out, key.doc);
        comment(out, &ways(key));
        if matches!(key.kind, Kind::IceServers { .. }) {
            comment(out, ICE);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "#{} = {}", key.short(), key.show(&defaults));
    }
}

/// The range, flag and variable of a key; empty if it has none.
fn ways(key: &Key) -> String {
    let range = key.kind.range();
    let flag = key.flag.map(|flag| format!("flag {}", flag.name()));
    let ways = [(!range.is_empty()).then_some(range), flag, key.env.map(|name| format!("variable {name}"))];
    let ways: Vec<String> = ways.into_iter().flatten().collect();
    if ways.is_empty() { String::new() } else { format!("({})", ways.join("; ")) }
}

/// Writes `text` as comment lines, wrapped unless they are indented.
fn comment(out: &mut String, text: &str) {
    for line in text.lines() {
        if line.is_empty() || line.starts_with(' ') {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
            continue;
        }
        let mut row = String::from("#");
        for word in line.split_whitespace() {
            if row.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(out, "{row}");
                row = String::from("#");
            }
            row.push(' ');
            row.push_str(word);
        }
        let _ = writeln!(out, "{row}");
    }
}
