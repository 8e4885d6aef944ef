//! Each family: its name, its labels, what it tells, and where it comes from.

use std::fmt::Result;

use pigeonhub_proto::control::MeshState;
use prometheus_client::registry::Unit;

use super::{Page, Snapshot};

const P2P: &[(&str, &str)] = &[("transport", "p2p")];
const WS: &[(&str, &str)] = &[("transport", "ws")];
const LEGACY: &[(&str, &str)] = &[("transport", "legacy")];

impl Snapshot {
    pub(super) fn clients(&self, page: &mut Page<'_>) -> Result {
        let (counted, now, status) = (&self.counters, &self.gauges, &self.status);
        page.gauge(
            "pigeonhubd_sessions",
            "Clients' WebSockets that are open, announced or not.",
            now.sessions,
        )?;
        page.counter(
            "pigeonhubd_sessions_opened",
            "Clients' WebSockets that became sessions.",
            counted.sessions_opened,
        )?;
        page.tally(
            "pigeonhubd_sessions_closed",
            "reason",
            "Sessions that are over, by why.",
            &counted.sessions_closed,
        )?;
        page.gauge(
            "pigeonhubd_connections",
            "WebSockets of clients and hubs, as listen.max_connections limits them.",
            status.connections,
        )?;
        page.gauge(
            "pigeonhubd_connections_waiting",
            "Connections that wait for an older one of the same peer to show that it lives.",
            now.waiting,
        )?;
        page.tally(
            "pigeonhubd_connections_turned_away",
            "reason",
            "Accepted WebSockets that were closed again at once, by why.",
            &counted.turned_away,
        )?;
        let refusals: Vec<_> = self.edge.refusals.iter().map(|(why, n)| ([("reason", why)], n)).collect();
        page.counters(
            "pigeonhubd_callers_refused",
            None,
            "Callers that got no session because of their request or their address, by why.",
            refusals.iter().map(|(labels, count)| (&labels[..], *count)),
        )?;
        page.counter(
            "pigeonhubd_connections_refused",
            "TCP connections that were not even let in, because too many were open.",
            self.edge.refused.get(),
        )?;
        page.counter(
            "pigeonhubd_connections_overflowed",
            "WebSockets given up because their far end did not read what was sent.",
            self.edge.overflows.get(),
        )?;
        page.counter(
            "pigeonhubd_messages_unsent",
            "Text messages that still waited for a WebSocket when it was over. Signals among them count as passed on.",
            self.edge.unsent.get(),
        )?;
        page.gauges(
            "pigeonhubd_peers",
            "Announced peers, of this hub and of others in this hub's networks.",
            [(&[("home", "local")][..], status.local_peers), (&[("home", "remote")], status.remote_peers)],
        )?;
        page.gauge("pigeonhubd_networks", "Networks with a client here.", status.networks)?;
        page.counter("pigeonhubd_announces", "Announces of clients that were accepted.", counted.announces)?;
        page.counter(
            "pigeonhubd_announces_cut",
            "Announces of other hubs' peers of whose data nothing but the id was kept, for want of room.",
            counted.announces_cut,
        )?;
        let (here, elsewhere) = (now.announce_data.here, now.announce_data.elsewhere);
        page.unit_gauges(
            "pigeonhubd_announce_data",
            Some(&Unit::Bytes),
            "Announce data of peers, of this hub and of others.",
            [(&[("home", "local")][..], here), (&[("home", "remote")], elsewhere)],
        )
    }

    pub(super) fn signals(&self, page: &mut Page<'_>) -> Result {
        let (counted, now) = (&self.counters, &self.gauges);
        page.tally(
            "pigeonhubd_signals",
            "outcome",
            "Signals, by what became of them. One of another hub's peer is relayed and later acknowledged.",
            &counted.signals,
        )?;
        page.tally(
            "pigeonhubd_signals_undelivered",
            "reason",
            "Signals that do not arrive, by why. Their senders were told, except at old hubs and those that left.",
            &counted.undelivered,
        )?;
        page.gauge("pigeonhubd_signals_held", "Signals that wait for news of their targets.", now.held)?;
        page.gauge(
            "pigeonhubd_signals_under_way",
            "Signals that the target's hub has not acknowledged yet.",
            now.under_way,
        )?;
        page.histogram(
            "pigeonhubd_relay_hops",
            "Links on the way of each signal to another hub, as known when it was sent.",
            &counted.relay_hops,
        )?;
        page.times(
            "pigeonhubd_relay_delivery",
            "Time from sending a signal to another hub to its acknowledgement.",
            [(&[][..], &counted.delivery)],
        )?;
        page.counter(
            "pigeonhubd_messages_limited",
            "Messages of clients beyond what their address may send, answered with an error and not carried.",
            self.edge.messages_refused.get(),
        )?;
        page.tally(
            "pigeonhubd_refused_messages",
            "reason",
            "Messages of clients answered with an error, and of hubs dropped, by why.",
            &counted.refusals,
        )
    }

    pub(super) fn mesh(&self, page: &mut Page<'_>) -> Result {
        let (counted, now, status) = (&self.counters, &self.gauges, &self.status);
        let states =
            MeshState::ALL.map(|state| ([("state", state.name())], usize::from(state == status.state)));
        page.gauges(
            "pigeonhubd_mesh_state",
            "1 for the state in which the mesh is here, 0 for the others.",
            states.iter().map(|(labels, is)| (&labels[..], *is)),
        )?;
        let serves = usize::from(status.serves());
        page.gauge("pigeonhubd_serving", "1 while this hub takes clients, whatever its mesh is.", serves)?;
        page.gauge("pigeonhubd_mesh_ready", "1 if the mesh is ready here.", usize::from(status.ready))?;
        page.gauge(
            "pigeonhubd_mesh_migrated",
            "1 if it is ready and no WebSocket between hubs is left.",
            usize::from(status.migrated),
        )?;
        page.counter("pigeonhubd_mesh_became_ready", "Times that it became ready.", counted.became_ready)?;
        page.counter(
            "pigeonhubd_mesh_degraded",
            "Times that it was ready no longer, other than by leaving.",
            counted.degraded,
        )?;
        let legacies = now.links_legacy;
        page.gauge("pigeonhubd_hubs_known", "Other hubs that are known.", now.records + legacies)?;
        page.gauge("pigeonhubd_hubs_reachable", "Those of them within reach.", status.known_hubs)?;
        page.gauge("pigeonhubd_hubs_missed", "Those that vanished within the last minute.", now.missed)?;
        page.gauge("pigeonhubd_records", "Records of other hubs.", now.records)?;
        page.tally(
            "pigeonhubd_hubs_rejected",
            "reason",
            "Hubs that were turned away, or turned this one away (by-far-end), by why.",
            &counted.rejections,
        )?;
        page.gauge(
            "pigeonhubd_handshakes",
            "Handshakes between hubs under way, dials included.",
            now.handshakes,
        )?;
        page.tally("pigeonhubd_dials", "outcome", "Dials of other hubs, by outcome.", &counted.dials)
    }

    pub(super) fn links(&self, page: &mut Page<'_>) -> Result {
        let (counted, now) = (&self.counters, &self.gauges);
        page.gauges(
            "pigeonhubd_links",
            "Open links to other hubs.",
            [(P2P, now.links_p2p), (WS, now.links_ws), (LEGACY, now.links_legacy)],
        )?;
        page.gauge("pigeonhubd_links_wanted", "Data channels that the topology wants here.", now.wanted)?;
        page.gauge(
            "pigeonhubd_links_fallback",
            "WebSockets in place of data channels that do not open.",
            now.fallbacks,
        )?;
        page.tally(
            "pigeonhubd_links_opened",
            "transport",
            "Links that opened, by what carries them.",
            &counted.links_opened,
        )?;
        page.tally(
            "pigeonhubd_links_closed",
            "reason",
            "Links that are over, by why.",
            &counted.links_closed,
        )?;
        page.times(
            "pigeonhubd_link_round_trip",
            "Round trips of heartbeats over links.",
            [(P2P, &counted.rtt_p2p), (WS, &counted.rtt_ws)],
        )?;
        page.gauge(
            "pigeonhubd_channels_opening",
            "Data channels on their way to being links.",
            now.channels,
        )?;
        page.tally(
            "pigeonhubd_channel_attempts",
            "outcome",
            "Attempts to open a data channel, by outcome.",
            &counted.channels,
        )
    }

    pub(super) fn traffic(&self, page: &mut Page<'_>) -> Result {
        let (counted, now, edge) = (&self.counters, &self.gauges, &self.edge);
        page.counter(
            "pigeonhubd_mesh_frames_forwarded",
            "Mesh frames between two other hubs that were passed on.",
            counted.forwarded,
        )?;
        page.counter(
            "pigeonhubd_mesh_frames_stranded",
            "Mesh frames between two other hubs for which no way was left; they are sent again.",
            counted.stranded,
        )?;
        page.counter(
            "pigeonhubd_mesh_frames_dropped",
            "Messages of links dropped because their connection's queue was full; what they carried is sent again.",
            edge.frames_dropped.get(),
        )?;
        page.gauge(
            "pigeonhubd_mesh_queue_messages",
            "Messages to other hubs that are not acknowledged yet.",
            now.queued,
        )?;
        page.unit_gauge(
            "pigeonhubd_mesh_queue",
            Some(&Unit::Bytes),
            "Bytes of those messages.",
            now.queued_bytes as u64,
        )?;
        let text = |direction| [("kind", "text"), ("direction", direction)];
        let mesh = |direction| [("kind", "mesh"), ("direction", direction)];
        let ways = [
            (text("in"), &edge.text_in),
            (text("out"), &edge.text_out),
            (mesh("in"), &edge.binary_in),
            (mesh("out"), &edge.binary_out),
        ];
        page.counters(
            "pigeonhubd_messages",
            None,
            "Messages that came in and went out: text of clients and old hubs, and the mesh's own.",
            ways.iter().map(|(labels, traffic)| (&labels[..], traffic.messages.get())),
        )?;
        page.counters(
            "pigeonhubd_messages",
            Some(&Unit::Bytes),
            "Bytes of those messages.",
            ways.iter().map(|(labels, traffic)| (&labels[..], traffic.bytes.get())),
        )?;
        page.gauge(
            "pigeonhubd_event_queue_length",
            "Events that wait for the hub; when as many wait as may, sockets are not read.",
            self.events.0,
        )?;
        page.gauge("pigeonhubd_event_queue_capacity", "Events that may wait there.", self.events.1)?;
        page.gauge(
            "pigeonhubd_channel_queue_length",
            "The same of data channels; when as many wait as may, channels are not read.",
            self.channel_events.0,
        )?;
        page.gauge(
            "pigeonhubd_channel_queue_capacity",
            "Events that may wait there.",
            self.channel_events.1,
        )?;
        page.unit_gauge(
            "pigeonhubd_websocket_queue",
            Some(&Unit::Bytes),
            "Bytes that wait to be read on WebSockets, without the first 64 KiB of each.",
            self.backlog as u64,
        )?;
        page.counter(
            "pigeonhubd_http_requests",
            "HTTP requests answered, upgrades included.",
            edge.requests.get(),
        )?;
        page.counters(
            "pigeonhubd_reloads",
            None,
            "Reloads of the configuration, by result.",
            [
                (&[("result", "applied")][..], edge.reloads_applied.get()),
                (&[("result", "refused")], edge.reloads_refused.get()),
            ],
        )?;
        let on_disk = edge.on_disk.get().unwrap_or_default();
        page.gauge(
            "pigeonhubd_configuration_faulty",
            "1 while the configuration on disk, or a file that it names, is refused: a restart would fail.",
            usize::from(on_disk.fault.is_some()),
        )?;
        page.gauges(
            "pigeonhubd_configuration_waiting",
            "Keys whose values or files on disk wait for a reload or a restart.",
            [
                (&[("for", "reload")][..], on_disk.reload.len()),
                (&[("for", "restart")], on_disk.restart.len()),
            ],
        )
    }

    pub(super) fn process(&self, page: &mut Page<'_>) -> Result {
        let version = [("version", self.status.version.as_str())];
        page.info("pigeonhubd_build", "This program.", &version)?;
        let help = "Panics. Each ended one session, link or request; its backtrace is in the log.";
        page.counter("pigeonhubd_panics", help, self.panics)?;
        let help = "Log entries that were dropped: the journal, or who reads standard error, had not taken those before.";
        page.counter("pigeonhubd_log_dropped", help, self.log_dropped)?;
        let help = "Tasks that have not ended; sessions, links and dials have some each.";
        page.gauge("pigeonhubd_tasks", help, self.tasks)?;
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let start_help = "Start of this process since the Unix epoch.";
        page.unit_gauge("process_start_time", seconds, start_help, self.started)?;
        let process = &self.process;
        if let Some(cpu) = process.cpu {
            let help = "Time on processors, in user and system mode.";
            page.unit_counter("process_cpu", seconds, help, cpu.as_secs_f64())?;
        }
        if let Some(resident) = process.resident_bytes {
            page.unit_gauge("process_resident_memory", bytes, "Memory held in RAM.", resident)?;
        }
        if let Some(all) = process.virtual_bytes {
            page.unit_gauge("process_virtual_memory", bytes, "Address space.", all)?;
        }
        if let Some(open) = process.open_files {
            page.unit_gauge("process_open_fds", None, "Open files, sockets included.", open)?;
        }
        if let Some(most) = process.max_files {
            page.unit_gauge("process_max_fds", None, "Open files at most.", most)?;
        }
        if let Some(threads) = process.threads {
            page.unit_gauge("process_threads", None, "Threads.", threads)?;
        }
        Ok(())
    }
}
