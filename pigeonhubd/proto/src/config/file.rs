//! From the text of a TOML file to its keys, in the order in which they stand.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::error::{ConfigError, Problem, Source};
use super::keys::{KEYS, Key, find, sections};
use super::setting::{Raw, type_of};

/// What stands at a place in a file.
enum Found<'a> {
    Entry(&'static Key, &'a Spanned<DeValue<'a>>),
    Wrong { key: String, value: Range<usize>, problem: Problem },
}

impl Config {
    /// Lays the file over what is set so far. `name` is only for messages.
    ///
    /// # Errors
    /// The first mistake; what stands behind it is not set.
    pub fn apply_file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let source = Source { file: Arc::from(name), text };
        let document = DeTable::parse(text).map_err(|error| syntax(&source, &error))?;
        read_down(&document).into_iter().try_for_each(|(span, found)| self.apply_found(&source, span, found))
    }

    /// As [`Self::apply_file`], but goes on after a mistake, and returns all of them.
    pub fn apply_file_to_the_end(&mut self, name: &str, text: &str) -> Vec<ConfigError> {
        let source = Source { file: Arc::from(name), text };
        match DeTable::parse(text) {
            Ok(document) => read_down(&document)
                .into_iter()
                .filter_map(|(span, found)| self.apply_found(&source, span, found).err())
                .collect(),
            Err(error) => vec![syntax(&source, &error)],
        }
    }

    fn apply_found(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        found: Found<'_>,
    ) -> Result<(), ConfigError> {
        match found {
            Found::Entry(key, value) => self.apply_entry(source, key, value),
            Found::Wrong { key, value, problem } => {
                Err(ConfigError::new(source.origin(span), key, source.slice(value), problem))
            }
        }
    }

    fn apply_entry(
        &mut self,
        source: &Source<'_>,
        key: &'static Key,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        key.read(self, Raw::Toml(value)).map_err(|fault| {
            let span = fault.span.unwrap_or_else(|| value.span());
            let name =
                fault.inner.as_ref().map_or_else(|| key.name.to_owned(), |i| format!("{}.{i}", key.name));
            let whole = if value.get_ref().is_table() { "" } else { source.slice(span.clone()) };
            let shown = fault.text.as_deref().unwrap_or(whole);
            ConfigError::new(source.origin(span.clone()), name, shown, *fault.problem)
        })?;
        self.set_origin(key, source.origin(value.span()));
        Ok(())
    }
}

/// What stands in a file, from its top: the parser sorts by name.
fn read_down<'a>(document: &'a Spanned<DeTable<'a>>) -> Vec<(Range<usize>, Found<'a>)> {
    let mut found = walk(document.get_ref());
    found.sort_by_key(|(span, _)| span.start);
    found
}

fn walk<'a>(document: &'a DeTable<'a>) -> Vec<(Range<usize>, Found<'a>)> {
    let mut found = Vec::new();
    for (name, value) in document {
        let plain = name.get_ref().as_ref();
        if let Some(key) = find(plain) {
            found.push((value.span(), Found::Entry(key, value)));
        } else if !sections().any(|section| section == plain) {
            let unknown = match value.get_ref() {
                DeValue::Table(_) => Problem::UnknownSection(section_hint(plain)),
                _ => Problem::UnknownKey(key_hint("", plain)),
            };
            found.push((name.span(), Found::Wrong { key: plain.to_owned(), value: 0..0, problem: unknown }));
        } else if let DeValue::Table(table) = value.get_ref() {
            walk_section(plain, table, &mut found);
        } else {
            let problem = Problem::Unfit {
                found: type_of(value.get_ref()).to_owned(),
                expected: format!("a section that begins with [{plain}]"),
            };
            found.push((value.span(), Found::Wrong { key: plain.to_owned(), value: value.span(), problem }));
        }
    }
    found
}

fn walk_section<'a>(section: &str, table: &'a DeTable<'a>, found: &mut Vec<(Range<usize>, Found<'a>)>) {
    for (name, value) in table {
        let full = format!("{section}.{}", name.get_ref());
        found.push(match find(&full) {
            Some(key) => (value.span(), Found::Entry(key, value)),
            None => {
                let problem = Problem::UnknownKey(key_hint(section, name.get_ref()));
                (name.span(), Found::Wrong { key: full, value: 0..0, problem })
            }
        });
    }
}

fn section_hint(name: &str) -> String {
    match nearest(name, sections()) {
        Some(section) => format!("did you mean [{section}]?"),
        None => format!("there are {}", sections().map(|s| format!("[{s}]")).collect::<Vec<_>>().join(", ")),
    }
}

/// What `name` in `section` may be meant for: a key like it there, else one of another section.
fn key_hint(section: &str, name: &str) -> String {
    let here = KEYS.iter().filter(|key| key.section() == section).map(Key::short);
    let full = |short: &str| match section {
        "" => short.to_owned(),
        _ => format!("{section}.{short}"),
    };
    if let Some(short) = nearest(name, here.clone()) {
        return format!("did you mean {}?", full(short));
    }
    let Some(short) = nearest(name, KEYS.iter().map(Key::short)) else {
        let here: Vec<_> = here.collect();
        return match section {
            "" => format!(
                "there are {} and the sections {}",
                here.join(", "),
                sections().collect::<Vec<_>>().join(", ")
            ),
            _ => format!("[{section}] has {}", here.join(", ")),
        };
    };
    match KEYS.iter().find(|key| key.short() == short) {
        Some(key) if key.section().is_empty() => format!("did you mean {short}, above the first [section]?"),
        Some(key) => format!("did you mean {}?", key.name),
        None => String::new(),
    }
}

/// The candidate that is a slip of the pen away, if any.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let limit = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The parser's message about a key that is set twice.
const DUPLICATE: &str = "duplicate key";

fn syntax(source: &Source<'_>, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or(0..0);
    let message = match error.message().lines().collect::<Vec<_>>().join(", ") {
        // The parser's guess for every value that it cannot read.
        m if m.starts_with("string values must be quoted") => {
            String::from("the value is neither a number, true, false, \"a text in quotes\" nor [a list]")
        }
        m if m == DUPLICATE => String::from("set a second time; should be set once"),
        message => message,
    };
    let readable = DeTable::parse_recoverable(source.text).0;
    let key = match key_at(readable.get_ref(), span.start) {
        Some(key) => key,
        // The second of two is not in the table, but it is what is marked.
        None if error.message() == DUPLICATE => source.slice(span.clone()).to_owned(),
        None => String::new(),
    };
    ConfigError::new(source.origin(span), key, "", Problem::Syntax(message))
}

/// The full name of the key at or whose value is at `offset`.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(table) => key_at(table, offset).map(|inner| format!("{}.{inner}", name.get_ref())),
            _ => None,
        };
        let hit = |span: Range<usize>| span.start <= offset && offset <= span.end;
        let leaf = !matches!(value.get_ref(), DeValue::Table(_)) && (hit(value.span()) || hit(name.span()));
        inner.or_else(|| leaf.then(|| name.get_ref().to_string()))
    })
}
