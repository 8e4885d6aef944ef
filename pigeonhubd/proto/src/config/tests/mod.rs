//! The configuration's tests, one file for each of what it promises.

mod example;
mod ice;
mod layers;
mod messages;
mod values;

use super::{Config, ConfigError};

/// The configuration of one file.
fn file(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    config.apply_file("x.toml", text)?;
    config.checked()
}

/// The message about one file.
fn message(text: &str) -> String {
    file(text).expect_err(text).to_string()
}
