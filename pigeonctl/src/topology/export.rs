//! The mesh for other programs: Graphviz, Mermaid, SVG. What hubs say of
//! themselves is escaped as each of them needs it.

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_PI_2, TAU};
use std::fmt::Write;

use pigeonhub_proto::control::{Topology, TopologyHub, TopologyLink};
use pigeonhub_proto::id::Id;

use super::{place, state};
use crate::look::Paint;

/// Hubs by id, so that the same mesh is the same text.
fn hubs(mesh: &Topology) -> Vec<&TopologyHub> {
    let mut hubs: Vec<_> = mesh.hubs.iter().collect();
    hubs.sort_by_key(|hub| hub.hub_id);
    hubs
}

fn colour(hub: &TopologyHub) -> &'static str {
    match state(hub).1 {
        Paint::Good => "#2e7d32",
        _ if !hub.reachable => "#9e9e9e",
        _ => "#ef6c00",
    }
}

/// Undirected, for `dot`, `neato` or `circo`.
pub(crate) fn dot(mesh: &Topology) -> String {
    let mut text =
        String::from("graph mesh {\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    for hub in hubs(mesh) {
        let escaped = place(hub).replace('\\', "\\\\").replace('"', "\\\"");
        let at = if escaped.is_empty() { escaped } else { format!("\\n{escaped}") };
        let (id, short, colour) = (hub.hub_id, hub.hub_id.short(), colour(hub));
        let bold = if hub.own { ", penwidth=3" } else { "" };
        // Writing to memory does not fail.
        let _ = writeln!(text, "  \"{id}\" [label=\"{short}{at}\", color=\"{colour}\"{bold}];");
    }
    for TopologyLink { a, b, p2p, counted } in &mesh.links {
        let style = match (counted, p2p) {
            (false, _) => " [style=dotted]",
            (true, false) => " [style=dashed]",
            (true, true) => "",
        };
        let _ = writeln!(text, "  \"{a}\" -- \"{b}\"{style};");
    }
    text + "}\n"
}

/// A flow chart without arrows.
pub(crate) fn mermaid(mesh: &Topology) -> String {
    let mut text = String::from("graph LR\n");
    for hub in hubs(mesh) {
        let at = place(hub);
        let at = if at.is_empty() { at } else { format!("<br/>{}", entities(&at)) };
        let class = state(hub).0.replace(' ', "");
        let _ = writeln!(text, "  h{}[\"{}{at}\"]:::{class}", hub.hub_id, hub.hub_id.short());
    }
    for TopologyLink { a, b, p2p, counted } in &mesh.links {
        let line = if *p2p && *counted { "---" } else { "-.-" };
        let _ = writeln!(text, "  h{a} {line} h{b}");
    }
    let classes: BTreeMap<_, _> =
        mesh.hubs.iter().map(|hub| (state(hub).0.replace(' ', ""), colour(hub))).collect();
    for (class, colour) in classes {
        let _ = writeln!(text, "  classDef {class} stroke:{colour}");
    }
    text
}

/// An image by itself: hubs on a circle in the order of their ids.
pub(crate) fn svg(mesh: &Topology) -> String {
    let hubs = hubs(mesh);
    // Room for a label between neighbours on the circle.
    let radius = (hubs.len() as f64 * 150.0 / TAU).max(160.0);
    let (width, height) = (2.0 * radius + 220.0, 2.0 * radius + 100.0);
    let (middle_x, middle_y) = (width / 2.0, height / 2.0);
    let place_of = |(at, hub): (usize, &&TopologyHub)| {
        let angle = at as f64 / hubs.len() as f64 * TAU - FRAC_PI_2;
        (hub.hub_id, (middle_x + radius * angle.cos(), middle_y + radius * angle.sin()))
    };
    let places: BTreeMap<Id, (f64, f64)> = hubs.iter().enumerate().map(place_of).collect();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for link in &mesh.links {
        let (Some((x1, y1)), Some((x2, y2))) = (places.get(&link.a), places.get(&link.b)) else { continue };
        let (colour, dashes, what) = match (link.counted, link.p2p) {
            (true, true) => ("#2e7d32", "", "peer-to-peer"),
            (true, false) => ("#ef6c00", " stroke-dasharray=\"8 5\"", "WebSocket"),
            (false, _) => ("#9e9e9e", " stroke-dasharray=\"2 6\"", "opening or closing"),
        };
        let _ = writeln!(
            text,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"2\"{dashes}><title>{what}</title></line>"
        );
    }
    for hub in hubs {
        let Some((x, y)) = places.get(&hub.hub_id) else { continue };
        box_of(&mut text, hub, *x, *y);
    }
    text + "</svg>\n"
}

fn box_of(text: &mut String, hub: &TopologyHub, x: f64, y: f64) {
    let (left, top) = (x - 90.0, y - 24.0);
    let border = if hub.own { 4 } else { 2 };
    let at = if hub.own && hub.url.is_none() { String::from("this hub") } else { place(hub) };
    let at: String = if at.chars().count() > 24 { at.chars().take(23).chain(['…']).collect() } else { at };
    let _ = writeln!(
        text,
        "<g><title>{} ({})</title><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"180\" height=\"48\" rx=\"8\" \
         fill=\"#ffffff\" stroke=\"{}\" stroke-width=\"{border}\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>\
         <text x=\"{x:.1}\" y=\"{:.1}\" fill=\"#616161\">{}</text></g>",
        hub.hub_id,
        state(hub).0,
        colour(hub),
        y - 4.0,
        hub.hub_id.short(),
        y + 14.0,
        entities(&at)
    );
}

/// A text within XML, or within a Mermaid label, which knows the same names.
fn entities(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no such character, however it is written.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
