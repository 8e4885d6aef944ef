//! A small mesh in the terminal: hubs on a ring in the order of their ids, as
//! the mesh itself arranges them, and links as lines of braille dots, of which
//! a character has two by four.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_2, PI, TAU};
use std::io::{self, Write};

use pigeonhub_proto::control::{Topology, TopologyHub};
use pigeonhub_proto::id::Id;

use super::{place, state};
use crate::look::{Look, Paint};
use crate::text::columns;

/// The widest drawing, in columns.
const WIDEST: usize = 78;
/// The widest label.
const LABEL: usize = 20;

/// Dots in characters; see Unicode's braille patterns for the order of their bits.
struct Canvas {
    width: usize,
    dots: Vec<u8>,
}

impl Canvas {
    const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

    fn new(width: usize, height: usize) -> Self {
        Self { width, dots: vec![0; width * height] }
    }

    fn set(&mut self, x: usize, y: usize) {
        let bit = Self::BITS.get(y % 4).and_then(|row| row.get(x % 2)).copied().unwrap_or(0);
        if x / 2 < self.width
            && let Some(cell) = self.dots.get_mut(y / 4 * self.width + x / 2)
        {
            *cell |= bit;
        }
    }

    /// A line between two cells' middles; `gap` dots are left out after each.
    fn line(&mut self, from: (usize, usize), to: (usize, usize), gap: usize) {
        let middle = |(x, y): (usize, usize)| ((x * 2) as f64 + 0.5, (y * 4) as f64 + 1.5);
        let ((x0, y0), (x1, y1)) = (middle(from), middle(to));
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
        for step in (0..=steps as usize).step_by(gap + 1) {
            let part = step as f64 / steps;
            // Within the canvas, so neither negative nor large.
            self.set((x0 + (x1 - x0) * part).round() as usize, (y0 + (y1 - y0) * part).round() as usize);
        }
    }

    fn cell(&self, x: usize, y: usize) -> char {
        match self.dots.get(y * self.width + x) {
            None | Some(0) => ' ',
            Some(dots) => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' '),
        }
    }
}

/// Draws the hubs within reach; the others are named below. False if their
/// labels find no room: then nothing was drawn.
pub(super) fn ring(out: &mut impl Write, look: &Look, mesh: &Topology) -> io::Result<bool> {
    let mut hubs: Vec<&TopologyHub> = mesh.hubs.iter().filter(|hub| hub.reachable).collect();
    hubs.sort_by_key(|hub| hub.hub_id);
    // This hub on top.
    let own = hubs.iter().position(|hub| hub.own).unwrap_or(0);
    hubs.rotate_left(own);
    let canvas_width = look.width.min(WIDEST);
    let height = if hubs.len() == 2 { 4 } else { (hubs.len() * 2 + 5).min(23) };
    let places = places(&hubs, canvas_width, height);

    let labels = labels(look, &hubs, &places, canvas_width);
    let collide = |two: &[Label]| match two {
        [a, b] => a.y == b.y && a.x + columns(&a.text) > b.x,
        _ => false,
    };
    if labels.windows(2).any(collide) {
        return Ok(false);
    }
    let mut canvas = Canvas::new(canvas_width, height);
    for link in &mesh.links {
        if let (Some(a), Some(b)) = (places.get(&link.a), places.get(&link.b)) {
            let gap = match (link.counted, link.p2p) {
                (true, true) => 0,
                (true, false) => 2,
                (false, _) => 5,
            };
            canvas.line(*a, *b, gap);
        }
    }
    for y in 0..height {
        writeln!(out, "{}", row(look, &canvas, &labels, y).trim_end())?;
    }
    legend(out, look, mesh)?;
    Ok(true)
}

/// On an ellipse, clockwise from the top, far enough from the edges for labels; two side by side.
fn places(hubs: &[&TopologyHub], width: usize, height: usize) -> BTreeMap<Id, (usize, usize)> {
    let (middle_x, middle_y) = ((width - 1) as f64 / 2.0, (height - 2) as f64 / 2.0);
    let radius_x = middle_x - LABEL as f64 / 2.0;
    let place = |(at, hub): (usize, &&TopologyHub)| {
        let start = if hubs.len() == 2 { PI } else { -FRAC_PI_2 };
        let angle = at as f64 / hubs.len() as f64 * TAU + start;
        let (x, y) = (middle_x + radius_x * angle.cos(), middle_y + middle_y * angle.sin());
        (hub.hub_id, (x.round() as usize, y.round() as usize))
    };
    hubs.iter().enumerate().map(place).collect()
}

/// A text on the drawing, at a row and column.
struct Label {
    y: usize,
    x: usize,
    text: String,
    paint: Paint,
}

/// Two for each hub: its id, and below it where it is.
fn labels(
    look: &Look,
    hubs: &[&TopologyHub],
    places: &BTreeMap<Id, (usize, usize)>,
    width: usize,
) -> Vec<Label> {
    let mut labels = Vec::new();
    for hub in hubs {
        let Some((x, y)) = places.get(&hub.hub_id) else { continue };
        let dot = if hub.ready && !hub.draining { '●' } else { '○' };
        let at = if hub.own { String::from("this hub") } else { place(hub) };
        let texts =
            [(format!("{dot} {}", hub.hub_id.short()), state(hub).1), (look.cut(&at, LABEL - 2), Paint::Dim)];
        for (below, (text, paint)) in texts.into_iter().enumerate().filter(|(_, (text, _))| !text.is_empty())
        {
            let text = format!(" {text} ");
            let half = columns(&text) / 2;
            let x = x.saturating_sub(half).min(width.saturating_sub(columns(&text)));
            labels.push(Label { y: y + below, x, text, paint });
        }
    }
    labels.sort_by_key(|label| (label.y, label.x));
    labels
}

fn row(look: &Look, canvas: &Canvas, labels: &[Label], y: usize) -> String {
    let mut line = String::new();
    let mut x = 0;
    for label in labels.iter().filter(|label| label.y == y) {
        line.extend((x..label.x).map(|x| canvas.cell(x, y)));
        line.push_str(&look.paint(label.paint, &label.text));
        x = label.x + columns(&label.text);
    }
    line.extend((x..canvas.width).map(|x| canvas.cell(x, y)));
    line
}

fn legend(out: &mut impl Write, look: &Look, mesh: &Topology) -> io::Result<()> {
    let mut parts = vec!["● ready", "○ not ready", "⠒⠒⠒ peer-to-peer"];
    if mesh.links.iter().any(|link| link.counted && !link.p2p) {
        parts.push("⠂⠐⠐ WebSocket");
    }
    if mesh.links.iter().any(|link| !link.counted) {
        parts.push("⠂ ⠐ opening or closing");
    }
    writeln!(out, "\n{}", look.paint(Paint::Dim, &parts.join("   ")))?;
    for hub in mesh.hubs.iter().filter(|hub| !hub.reachable) {
        let text = format!("out of reach: {} {}", hub.hub_id, place(hub));
        writeln!(out, "{}", look.paint(Paint::Bad, text.trim_end()))?;
    }
    Ok(())
}
