//! Tables: columns as wide as they need to be, parted by two spaces.

use std::io::{self, Write};

use crate::look::{Look, Paint, clean, columns};

/// A cell: its text, and its colour.
pub(crate) struct Cell(pub(crate) String, pub(crate) Paint);

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(text, Paint::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self(text.to_owned(), Paint::Plain)
    }
}

/// An empty cell stands for none.
impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self(text.unwrap_or_default(), Paint::Plain)
    }
}

/// Writes a table. A name that begins with `>` is of a column of numbers.
pub(crate) fn table<const N: usize>(
    out: &mut impl Write,
    look: &Look,
    header: [&str; N],
    rows: impl IntoIterator<Item = [Cell; N]>,
) -> io::Result<()> {
    let right = header.map(|name| name.starts_with('>'));
    let header = header.map(|name| Cell(name.trim_start_matches('>').to_owned(), Paint::Dim));
    let mut rows: Vec<[Cell; N]> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0; N];
    for row in &mut rows {
        for (cell, width) in row.iter_mut().zip(&mut widths) {
            cell.0 = clean(&cell.0);
            *width = columns(&cell.0).max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        // Spaces are held back until something follows.
        let mut gap = 0;
        for ((Cell(text, paint), width), right) in row.iter().zip(widths).zip(right) {
            let pad = width.saturating_sub(columns(text));
            let (before, after) = if right { (pad, 0) } else { (0, pad) };
            if text.is_empty() {
                gap += width + 2;
                continue;
            }
            line.push_str(&" ".repeat(gap + before));
            line.push_str(&look.paint(*paint, text));
            gap = after + 2;
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [
            [Cell::from("鳩"), Cell::from("1"), Cell::from("x")],
            [Cell::from("a peer"), Cell::from("10"), Cell(String::from("y\n"), Paint::Good)],
            [Cell::from("b"), Cell::from(""), Cell::from("")],
        ];
        let look = Look { colour: false, unicode: true, width: 80, now: 0 };
        let mut out = Vec::new();
        table(&mut out, &look, ["A", ">NUMBER", "LAST"], rows).expect("it is memory");
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "A       NUMBER  LAST\n\
             鳩           1  x\n\
             a peer      10  y\u{fffd}\n\
             b\n"
        );
    }
}
