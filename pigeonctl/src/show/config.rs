//! The configuration in force, and what a reload changes.

use std::io::{self, Write};

use pigeonhub_proto::control::{ConfigValue, ReloadReport};

use crate::look::{Look, Paint};
use crate::text::{clean, columns};

/// The widest value that the origins of others are aligned to, in columns.
const WIDEST: usize = 48;

/// As TOML that a hub would read, with origins as comments.
pub(crate) fn config(
    out: &mut impl Write,
    look: &Look,
    values: &[ConfigValue],
    origin: bool,
) -> io::Result<()> {
    // Keys outside sections have to come first.
    let mut sections: Vec<&str> = vec![""];
    for value in values {
        let section = value.key.split_once('.').map_or("", |(section, _)| section);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    let mut begun = false;
    for section in sections {
        let of_section = |value: &&ConfigValue| {
            value.key.split_once('.').map_or(section.is_empty(), |(of, _)| of == section)
        };
        let lines: Vec<(String, &ConfigValue)> = values
            .iter()
            .filter(of_section)
            .map(|value| {
                let short = value.key.split_once('.').map_or(value.key.as_str(), |(_, short)| short);
                (clean(&format!("{short} = {}", value.value)), value)
            })
            .collect();
        if !section.is_empty() {
            let gap = if begun { "\n" } else { "" };
            writeln!(out, "{gap}{}", look.paint(Paint::Bold, &format!("[{}]", clean(section))))?;
        }
        let width = lines.iter().map(|(line, _)| columns(line)).filter(|width| *width <= WIDEST).max();
        begun |= !lines.is_empty();
        for (line, value) in &lines {
            let pad = width.unwrap_or(0).saturating_sub(columns(line));
            let set = value.origin != "default";
            let comment = format!("# {}", clean(&value.origin));
            let comment = look.paint(if set { Paint::Good } else { Paint::Dim }, &comment);
            match origin {
                true => writeln!(out, "{line}{:pad$}  {comment}", "")?,
                false => writeln!(out, "{line}")?,
            }
        }
    }
    Ok(())
}

/// What is another now, as a difference of old and new.
pub(crate) fn difference(out: &mut impl Write, look: &Look, report: &ReloadReport) -> io::Result<()> {
    for change in &report.changed {
        let key = clean(&change.key);
        let note = if change.needs_restart { "  # takes effect with a restart" } else { "" };
        writeln!(out, "{}", look.paint(Paint::Bad, &format!("- {key} = {}", clean(&change.old))))?;
        let new = look.paint(Paint::Good, &format!("+ {key} = {}", clean(&change.new)));
        writeln!(out, "{new}{}", look.paint(Paint::Warn, note))?;
    }
    for key in &report.files_changed {
        writeln!(out, "{}", look.paint(Paint::Good, &format!("+ another file {}", clean(key))))?;
    }
    if report.mesh_key_changed {
        writeln!(
            out,
            "{}",
            look.paint(Paint::Good, "+ another mesh key; the old one is accepted for a day")
        )?;
    }
    Ok(())
}
