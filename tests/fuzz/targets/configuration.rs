//! The configuration: a file, then a variable and a flag of each key. What is
//! refused is told in one message of bounded length; what is taken can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pigeonhub_proto::config::{Config, ConfigError, KEYS};

fn told(error: &ConfigError, input: usize) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 4096 + 8 * input, "{} bytes of message", text.len());
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut config = Config::default();
    for error in config.clone().apply_file_to_the_end("fuzz.toml", text) {
        told(&error, text.len());
    }
    if let Err(error) = config.apply_file("fuzz.toml", text) {
        told(&error, text.len());
    }
    for key in &KEYS {
        if let Some(name) = key.env
            && let Err(error) = config.apply_env(key, name, text)
        {
            told(&error, text.len());
        }
        let values: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(flag) = key.flag
            && let Err(error) = config.apply_flag(key, flag, &values)
        {
            told(&error, text.len());
        }
    }
    match config.checked() {
        Ok(config) => {
            let settings = config.settings();
            assert!(settings.max_peers >= settings.min_peers);
            for key in &KEYS {
                let _ = (key.show(&config), config.source(key.name));
            }
            assert_eq!(config.changed(&config).count(), 0);
        }
        Err(error) => told(&error, text.len()),
    }
});
