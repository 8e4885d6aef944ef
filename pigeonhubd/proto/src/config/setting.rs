//! How a value of each type is read, from TOML or from the text of a flag or
//! variable, and written again.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::addresses::{ForwardedHeader, WebOrigin};
use super::channels::{InterfacePattern, UdpPorts};
use super::error::Problem;
use super::kind::{Kind, parse_size, size_text, time_text};
use super::words::{Host, HubUrl, LogLevel, MetricsListen, Uid, WhenAlone};
use crate::settings::AddressRange;

/// A value before it is read.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    /// From a file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// From a variable, or a flag that is given once.
    Text(&'a str),
    /// From a flag that may be repeated.
    Texts(&'a [String]),
}

/// What is wrong with a value, and with which part of it.
#[derive(Debug)]
pub(super) struct Fault {
    /// Boxed, since every reader may return one.
    pub(super) problem: Box<Problem>,
    /// The key inside the value's table, if it is that.
    pub(super) inner: Option<String>,
    /// Bytes in the file; the whole value if not given.
    pub(super) span: Option<Range<usize>>,
    /// What to repeat of the value in the message; all of it if not given.
    pub(super) text: Option<String>,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), inner: None, span: None, text: None }
    }
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// Reads a value.
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault>;
    /// Writes it as TOML.
    fn show(&self, kind: &Kind) -> String;
}

impl Setting for bool {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        match raw {
            Raw::Toml(value) => value.get_ref().as_bool().ok_or_else(|| wrong_type(value, kind).into()),
            Raw::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                _ => Err(kind.unfit("neither true nor false").into()),
            },
            Raw::Texts(_) => Err(kind.unfit("a list").into()),
        }
    }

    fn show(&self, _: &Kind) -> String {
        self.to_string()
    }
}

macro_rules! counts {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
                Self::try_from(number(raw, kind)?).map_err(|_| Problem::OutOfRange(kind.range()).into())
            }

            fn show(&self, kind: &Kind) -> String {
                match kind {
                    // Lossless: a usize has at most 64 bits.
                    Kind::Size { .. } => quoted(&size_text(*self as u64)),
                    _ => self.to_string(),
                }
            }
        }
    )*};
}
counts!(u16, u32, usize);

impl Setting for Duration {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        let Kind::Time { min, max } = *kind else { return Err(kind.unfit("a duration").into()) };
        let time = match whole(raw, kind)? {
            Whole::Number(millis) => u64::try_from(millis).ok().map(Duration::from_millis),
            Whole::Text(text) => Some(
                humantime::parse_duration(text)
                    .map_err(|_| kind.unfit(format!("{} is not a duration", quoted(text))))?,
            ),
        };
        time.filter(|time| (min..=max).contains(time)).ok_or_else(|| Problem::OutOfRange(kind.range()).into())
    }

    fn show(&self, _: &Kind) -> String {
        quoted(&time_text(*self))
    }
}

impl Setting for String {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        let text = text(raw, kind)?;
        if let Kind::Text { check, .. } = kind {
            check(text).map_err(|found| kind.unfit(found))?;
        }
        Ok(text.to_owned())
    }

    fn show(&self, _: &Kind) -> String {
        quoted(self)
    }
}

/// An empty text stands for none.
impl<T: Setting> Setting for Option<T> {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        if text(raw, kind).is_ok_and(str::is_empty) { Ok(None) } else { T::read(raw, kind).map(Some) }
    }

    fn show(&self, kind: &Kind) -> String {
        self.as_ref().map_or_else(|| quoted(""), |value| value.show(kind))
    }
}

impl Setting for PathBuf {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        String::read(raw, kind).map(Self::from)
    }

    fn show(&self, _: &Kind) -> String {
        quoted(&self.to_string_lossy())
    }
}

macro_rules! words {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
                word(raw, kind)
            }

            fn show(&self, _: &Kind) -> String {
                quoted(&self.to_string())
            }
        }

        impl Setting for Vec<$type> {
            fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
                words(raw, kind)
            }

            fn show(&self, _: &Kind) -> String {
                let list: Vec<String> = self.iter().map(|entry| quoted(&entry.to_string())).collect();
                format!("[{}]", list.join(", "))
            }
        }
    )*};
}
words!(
    AddressRange,
    ForwardedHeader,
    Host,
    HubUrl,
    InterfacePattern,
    WebOrigin,
    LogLevel,
    MetricsListen,
    Uid,
    WhenAlone
);

/// One port needs no quotes.
impl Setting for UdpPorts {
    fn read(raw: Raw<'_>, kind: &Kind) -> Result<Self, Fault> {
        match raw {
            Raw::Toml(value) if value.get_ref().as_integer().is_some() => match whole(raw, kind)? {
                Whole::Number(port) => {
                    port.to_string().parse().map_err(|found: String| kind.unfit(found).into())
                }
                Whole::Text(text) => text.parse().map_err(|found: String| kind.unfit(found).into()),
            },
            raw => word(raw, kind),
        }
    }

    fn show(&self, _: &Kind) -> String {
        quoted(&self.to_string())
    }
}

/// Reads a text whose type checks it.
fn word<T: FromStr<Err = String>>(raw: Raw<'_>, kind: &Kind) -> Result<T, Fault> {
    text(raw, kind)?.parse().map_err(|found: String| kind.unfit(found).into())
}

/// Reads a list whose entries' type checks them.
fn words<T: FromStr<Err = String>>(raw: Raw<'_>, kind: &Kind) -> Result<Vec<T>, Fault> {
    let Kind::List { most, .. } = *kind else { return Err(kind.unfit("a list").into()) };
    let parse = |text: &str| text.parse().map_err(|found: String| kind.unfit_entry(found));
    let list: Vec<T> = match raw {
        Raw::Toml(value) => {
            let array = value.get_ref().as_array().ok_or_else(|| wrong_type(value, kind))?;
            let entry = |entry: &Spanned<DeValue<'_>>| {
                let read = match entry.get_ref() {
                    DeValue::String(text) => parse(text),
                    // Where a number will do, it needs no quotes.
                    DeValue::Integer(number) if number.as_str().parse::<T>().is_ok() => {
                        parse(number.as_str())
                    }
                    other => Err(kind.unfit_entry(type_of(other))),
                };
                read.map_err(|problem| Fault { span: Some(entry.span()), ..problem.into() })
            };
            array.iter().map(entry).collect::<Result<_, Fault>>()?
        }
        Raw::Text(text) => entries(text.split(','), parse)?,
        Raw::Texts(texts) => entries(texts.iter().flat_map(|text| text.split(',')), parse)?,
    };
    if list.len() > most { Err(kind.unfit(format!("{} entries", list.len())).into()) } else { Ok(list) }
}

/// Empty entries are left out, so that a trailing comma does no harm.
fn entries<'a, T>(
    texts: impl Iterator<Item = &'a str>,
    parse: impl Fn(&str) -> Result<T, Problem>,
) -> Result<Vec<T>, Fault> {
    let texts = texts.map(str::trim).filter(|text| !text.is_empty());
    texts.map(|t| parse(t).map_err(|p| Fault { text: Some(t.to_owned()), ..p.into() })).collect()
}

fn number(raw: Raw<'_>, kind: &Kind) -> Result<u64, Fault> {
    let (Kind::Count { min, max } | Kind::Size { min, max }) = *kind else {
        return Err(kind.unfit("a number").into());
    };
    let number = match whole(raw, kind)? {
        Whole::Number(number) => u64::try_from(number).ok(),
        Whole::Text(text) if matches!(kind, Kind::Size { .. }) => Some(
            parse_size(text).ok_or_else(|| kind.unfit("neither a number nor one with B, KiB, MiB or GiB"))?,
        ),
        Whole::Text(_) => return Err(kind.unfit("not a whole number").into()),
    };
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Problem::OutOfRange(kind.range()).into())
}

enum Whole<'a> {
    Number(i128),
    Text(&'a str),
}

/// A whole number, or the text that stands in its place where the kind allows one.
fn whole<'a>(raw: Raw<'a>, kind: &Kind) -> Result<Whole<'a>, Fault> {
    let text = match raw {
        Raw::Toml(value) => match value.get_ref() {
            DeValue::Integer(i) => {
                // Only a number beyond 128 bits fails here, and that is out of every range.
                return Ok(Whole::Number(i128::from_str_radix(i.as_str(), i.radix()).unwrap_or(i128::MAX)));
            }
            DeValue::String(text) if !matches!(kind, Kind::Count { .. }) => text.as_ref(),
            _ => return Err(wrong_type(value, kind).into()),
        },
        Raw::Text(text) => text,
        Raw::Texts(_) => return Err(kind.unfit("a list").into()),
    };
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.chars().any(|c| !c.is_ascii_digit()) {
        return Ok(Whole::Text(text));
    }
    Ok(Whole::Number(text.parse().unwrap_or(i128::MAX)))
}

fn text<'a>(raw: Raw<'a>, kind: &Kind) -> Result<&'a str, Fault> {
    match raw {
        Raw::Toml(value) => value.get_ref().as_str().ok_or_else(|| wrong_type(value, kind).into()),
        Raw::Text(text) => Ok(text),
        Raw::Texts(_) => Err(kind.unfit("a list").into()),
    }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, kind: &Kind) -> Problem {
    kind.unfit(type_of(value.get_ref()))
}

/// A TOML type in words.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fractional number",
        DeValue::Boolean(_) => "a true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
