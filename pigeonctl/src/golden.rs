//! Displays as they should be, kept as files in `tests/golden`. To write them
//! anew: `PIGEONCTL_GOLDEN=write cargo test -p pigeonctl`, then read the difference.

use std::path::Path;

use crate::look::Look;

/// 2023-11-14T22:13:20Z.
pub(crate) const NOW: u64 = 1_700_000_000_000;

/// Without colour.
pub(crate) const PLAIN: Look = Look { colour: false, unicode: true, width: 80, rows: None, now: NOW };

/// On a terminal with room for every table.
pub(crate) const WIDE: Look = Look { width: 200, ..PLAIN };

/// With colour.
pub(crate) const COLOURED: Look = Look { colour: true, ..PLAIN };

/// In ASCII.
pub(crate) const ASCII: Look = Look { unicode: false, ..PLAIN };

/// What a display writes.
pub(crate) fn shown(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("it is memory");
    String::from_utf8(out).expect("UTF-8")
}

/// Compares with the file of that name.
pub(crate) fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("PIGEONCTL_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(&file, text).expect("a file");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(text == kept, "{} should be\n{kept}\nbut is\n{text}", file.display());
}
