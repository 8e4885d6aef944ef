//! Answers, for people and as JSON.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use pigeonhub_proto::control::{Answer, HubInfo, PeerInfo, Status};
use serde::Serialize;

/// One JSON object a line.
pub(crate) fn json(out: &mut impl Write, answer: &Answer) -> io::Result<()> {
    match answer {
        Answer::Status(status) => line(out, status),
        Answer::Hubs(hubs) => hubs.iter().try_for_each(|hub| line(out, hub)),
        Answer::Peers(peers) => peers.iter().try_for_each(|peer| line(out, peer)),
        other => line(out, other),
    }
}

fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", serde_json::to_string(object)?)
}

/// A few lines that tell how the hub is.
pub(crate) fn status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let state = format!("{:?}", status.state).to_lowercase();
    let migrated = if status.migrated { ", migrated" } else { "" };
    writeln!(out, "hub       {} on port {}, version {}", status.hub_id, status.port, status.version)?;
    writeln!(out, "state     {state}{migrated}: {}", status.reason)?;
    writeln!(
        out,
        "links     {} peer-to-peer, {} WebSocket, to {} known hubs",
        status.p2p_links, status.ws_links, status.known_hubs
    )?;
    writeln!(
        out,
        "peers     {} here, {} elsewhere, in {} networks; {} connections",
        status.local_peers, status.remote_peers, status.networks, status.connections
    )?;
    writeln!(out, "uptime    {}", duration(status.uptime))
}

/// One line a hub.
pub(crate) fn hubs(out: &mut impl Write, hubs: &[HubInfo]) -> io::Result<()> {
    let rows = hubs.iter().map(|hub| {
        let state = match hub {
            HubInfo { own: true, .. } => "this hub",
            HubInfo { draining: true, .. } => "leaving",
            HubInfo { reachable: false, .. } => "out of reach",
            HubInfo { ready: true, .. } => "ready",
            _ => "joining",
        };
        vec![
            hub.hub_id.to_string(),
            state.to_owned(),
            hub.link.clone().unwrap_or_default(),
            hub.distance.map(|distance| distance.to_string()).unwrap_or_default(),
            hub.next_hop.map(|hop| hop.short()).unwrap_or_default(),
            hub.rtt_us.map(|rtt| format!("{:.1} ms", rtt as f64 / 1000.0)).unwrap_or_default(),
            hub.urls.join(" "),
        ]
    });
    table(out, &["HUB", "STATE", "LINK", "HOPS", "VIA", "ROUND TRIP", "URL"], rows)
}

/// One line a peer.
pub(crate) fn peers(out: &mut impl Write, peers: &[PeerInfo]) -> io::Result<()> {
    let rows = peers.iter().map(|peer| {
        let hub = if peer.local { String::from("here") } else { peer.hub_id.to_string() };
        vec![peer.peer_id.clone(), peer.network.clone(), hub]
    });
    table(out, &["PEER", "NETWORK", "HUB"], rows)
}

fn table(out: &mut impl Write, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Seconds as people say them: the two largest units.
fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{} {name}", rest / size));
            rest %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let mut out = Vec::new();
        table(&mut out, &["A", "LONG"], [vec![String::from("a peer"), String::from("x")]].into_iter())
            .expect("it is memory");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "A       LONG\na peer  x\n");
    }
}
