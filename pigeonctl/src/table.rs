//! Tables: columns as wide as they need to be, parted by two spaces. On a
//! terminal that is too narrow for that, ids are shortened, and if need be other
//! cells are cut; only the last column may go on in the next line.

use std::io::{self, Write};

use crate::look::{Look, Paint};
use crate::text::{clean, columns, shortened};

/// No cell is cut to fewer columns.
const NARROWEST: usize = 12;

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
    for Cell(text, _) in rows.iter_mut().flatten() {
        *text = clean(text);
    }
    let mut widths = widths(&rows);
    if excess(look, &widths) > 0 {
        fit(look, &mut rows);
        widths = self::widths(&rows);
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

fn widths<const N: usize>(rows: &[[Cell; N]]) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (Cell(text, _), width) in row.iter().zip(&mut widths) {
            *width = columns(text).max(*width);
        }
    }
    widths
}

/// Columns that are too many for the terminal.
fn excess(look: &Look, widths: &[usize]) -> usize {
    let gaps = widths.len().saturating_sub(1) * 2;
    (widths.iter().sum::<usize>() + gaps).saturating_sub(look.width)
}

/// Makes a table narrower: ids first, then the widest columns but the last.
fn fit<const N: usize>(look: &Look, rows: &mut [[Cell; N]]) {
    for Cell(text, _) in rows.iter_mut().flatten() {
        *text = shortened(text).to_owned();
    }
    let mut narrow = widths(rows);
    let mut by_width: Vec<usize> = (0..N.saturating_sub(1)).collect();
    by_width.sort_unstable_by_key(|column| std::cmp::Reverse(narrow.get(*column).copied()));
    for column in by_width {
        let excess = excess(look, &narrow);
        if let Some(width) = narrow.get_mut(column) {
            *width = (*width).min(NARROWEST.max(width.saturating_sub(excess)));
        }
    }
    for row in rows {
        for (Cell(text, _), width) in row.iter_mut().zip(narrow).take(N.saturating_sub(1)) {
            *text = look.cut(text, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::PLAIN;

    fn shown<const N: usize>(look: &Look, header: [&str; N], rows: Vec<[Cell; N]>) -> String {
        crate::golden::shown(|out| table(out, look, header, rows))
    }

    #[test]
    fn a_narrow_terminal_gets_short_ids_and_then_cut_names() {
        let (id, name) = ("1f".repeat(20), "鳩".repeat(30));
        let row = || vec![[Cell::from(id.as_str()), Cell::from(name.as_str()), Cell::from(id.as_str())]];
        let at = |width| shown(&Look { width, ..PLAIN }, ["A", "B", "C"], row());
        assert!(at(144).ends_with(&format!("{id}  {name}  {id}\n")), "{}", at(144));
        assert!(at(143).ends_with(&format!("1f1f1f1f  {name}  1f1f1f1f\n")), "{}", at(143));
        assert!(at(79).ends_with(&format!("1f1f1f1f  {}…  1f1f1f1f\n", "鳩".repeat(29))), "{}", at(79));
        assert!(at(20).ends_with(&format!("1f1f1f1f  {}…  1f1f1f1f\n", "鳩".repeat(5))), "{}", at(20));
    }

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [
            [Cell::from("鳩"), Cell::from("1"), Cell::from("x")],
            [Cell::from("a peer"), Cell::from("10"), Cell(String::from("y\n"), Paint::Good)],
            [Cell::from("b"), Cell::from(""), Cell::from("")],
        ];
        assert_eq!(
            shown(&PLAIN, ["A", ">NUMBER", "LAST"], rows.into()),
            "A       NUMBER  LAST\n\
             鳩           1  x\n\
             a peer      10  y\u{fffd}\n\
             b\n"
        );
    }
}
