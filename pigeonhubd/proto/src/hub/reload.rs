//! New settings for a running hub. Clients and links stay.

use std::time::Duration;

use super::counters::LinkEnd;
use super::{Hub, close};
use crate::io::ConnId;
use crate::mesh::identity::MeshKey;
use crate::settings::Settings;
use crate::time::Now;

impl Hub {
    /// The mesh key of an earlier run of this hub counts for that long too.
    pub fn accept_key(&mut self, before: MeshKey, for_long: Duration) {
        let until = self.now.mono + for_long;
        self.keyring.accept(before, until);
    }

    /// Takes new settings and, if it changed, a new mesh key; the key before is
    /// accepted for [`crate::mesh::keyring::OLD_KEY`] more.
    ///
    /// What a running hub cannot change (its port, its host, its namespace,
    /// whether it is a hub at all) stays as it was; the caller tells its operator.
    pub fn reconfigure(&mut self, settings: Settings, key: MeshKey, now: Now) {
        self.now = now;
        let before = std::mem::replace(&mut self.settings, settings);
        self.settings.port = before.port;
        self.settings.host = before.host;
        self.settings.namespace = before.namespace;
        self.settings.hub_enabled = before.hub_enabled;
        self.keyring.change(key, now.mono);
        if before.advertise != self.settings.advertise {
            self.gossip.own.urls = self.settings.advertise.iter().cloned().collect();
            self.gossip.changed();
        }
        let max_peers = u8::try_from(self.settings.max_peers).unwrap_or(u8::MAX);
        if self.gossip.own.max_peers != max_peers {
            self.gossip.own.max_peers = max_peers;
            self.gossip.changed();
        }
        self.joining.bootstraps.reconfigure(&self.settings, now.mono);
        self.dismiss_unlisted();
        self.next_sweep = self.next_sweep.min(now.mono + self.ping_every());
        self.next_tick = self.next_tick.min(now.mono);
        self.mesh_changed_now();
        self.settle();
        self.note_direct();
        self.flush();
    }

    /// Old hubs whose address is not listed any more.
    fn dismiss_unlisted(&mut self) {
        let unlisted = self.legacies.iter().filter(|(_, legacy)| !self.is_legacy_address(legacy.remote));
        let unlisted: Vec<ConnId> = unlisted.map(|(conn, _)| *conn).collect();
        for conn in unlisted {
            self.close(conn, close::POLICY, "This address is not in mesh.legacy_hubs any more");
            self.legacy_over(conn, LinkEnd::Unlisted, "its address is not listed any more");
        }
    }
}
