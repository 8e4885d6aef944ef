//! Records in and out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Hub;
use super::counters::Refusal;
use crate::event::Event;
use crate::id::Id;
use crate::io::ConnId;
use crate::mesh::identity::{PublicKey, hub_id};
use crate::mesh::record::{Head, LinkEntry, MAX_LINKS, MAX_NETWORKS, Record, SignedRecord};
use crate::mesh::records::{Records, Stores};
use crate::settings::Settings;
use crate::time::{Now, Time};
use crate::wire::mesh::{LinkFrame, RecordVersion, SignedBytes, encode_onto};

/// The shortest time between two versions of the own record.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);
/// How long others' records are gathered before they are passed on, for each
/// known hub; in a mesh of fewer than [`GATHER_FROM`] not at all.
const GATHER_PER_HUB: Duration = Duration::from_micros(200);
const GATHER_FROM: usize = 64;
/// The longest such time.
const MAX_GATHER: Duration = Duration::from_millis(200);
/// The index of [`LinkFrame::Records`] in postcard's format.
const RECORDS: u8 = 3;
/// Bytes of the variant and of the count, at most.
const HEAD: usize = 4;
/// Records of that many bytes travel in one frame.
const BATCH: usize = 256 * 1024;
/// After this hub went on above a later record of its own, how long it leaves
/// the next such record standing: it is from another hub with the same key,
/// and neither may drive the other on. It doubles, up to the longest.
const TWIN_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_TWIN_PAUSE: Duration = Duration::from_secs(160);
/// Heartbeats that tell of other records before the two ends compare.
const DIFFERING: u32 = 3;

/// The own record and those of others.
#[derive(Debug)]
pub(super) struct Gossip {
    pub(super) own: Record,
    signed: Option<SignedRecord>,
    dirty: bool,
    /// The networks served are perhaps not as they are listed.
    pub(super) networks_changed: bool,
    published_at: Option<Time>,
    pub(super) records: Records,
    /// Others' records to pass on.
    waiting: BTreeMap<Id, Waiting>,
    pass_on_at: Option<Time>,
    /// When this hub last went on above a later record of its own, and the pause after that.
    outlived: Option<(Time, Duration)>,
}

/// A record that is to be passed on, its version, and the links whose far ends have it.
#[derive(Debug)]
struct Waiting {
    version: RecordVersion,
    signed: SignedRecord,
    had_by: Vec<ConnId>,
}

impl Gossip {
    pub(super) fn new(key: PublicKey, settings: &Settings, now: Now) -> Self {
        let own = Record {
            key,
            epoch: now.unix_ms,
            version: 0,
            urls: settings.advertise.iter().cloned().collect(),
            links: Vec::new(),
            networks: Vec::new(),
            more_networks: false,
            max_peers: u8::try_from(settings.max_peers).unwrap_or(u8::MAX),
            ready: false,
            draining: false,
        };
        Self {
            own,
            signed: None,
            dirty: true,
            networks_changed: false,
            published_at: None,
            records: Records::default(),
            waiting: BTreeMap::new(),
            pass_on_at: None,
            outlived: None,
        }
    }

    /// The own record is not as it was published.
    pub(super) fn changed(&mut self) {
        self.dirty = true;
    }

    pub(super) fn digest(&self, own: Id) -> u64 {
        self.records.digest(&self.own.version_of(own))
    }
}

impl Hub {
    pub(super) fn gossip_at(&self) -> Time {
        let publish = match self.gossip.published_at {
            Some(at) if self.gossip.dirty || self.gossip.networks_changed => at + self.publish_pause(),
            _ => Time::NEVER,
        };
        publish.min(self.gossip.pass_on_at.unwrap_or(Time::NEVER))
    }

    /// Where others look at the mesh now and then only, there is no use in a
    /// version for each change of a burst.
    fn publish_pause(&self) -> Duration {
        PUBLISH_INTERVAL.max(self.settle_pause() / 2)
    }

    /// The open links, as the own record lists them.
    pub(super) fn listed_links(&self) -> Vec<LinkEntry> {
        let mut links: Vec<LinkEntry> =
            self.links.neighbours().iter().map(|link| LinkEntry { hub: link.hub, p2p: link.p2p }).collect();
        links.sort_by_key(|link| (!link.p2p, link.hub));
        links.truncate(MAX_LINKS);
        links.sort_unstable();
        links
    }

    /// The networks with peers here, as the own record lists them.
    fn list_networks(&mut self) {
        if !std::mem::take(&mut self.gossip.networks_changed) {
            return;
        }
        let mut networks: Vec<u64> = self.presence.own_networks().collect();
        networks.sort_unstable();
        networks.dedup();
        let more = networks.len() > MAX_NETWORKS;
        networks.truncate(MAX_NETWORKS);
        let own = &mut self.gossip.own;
        if own.networks != networks || own.more_networks != more {
            (own.networks, own.more_networks) = (networks, more);
            self.gossip.changed();
        }
    }

    pub(super) fn publish_when_due(&mut self) {
        let due = self.gossip.published_at.is_none_or(|at| self.now.mono >= at + self.publish_pause());
        if !due {
            return;
        }
        self.list_networks();
        if self.gossip.dirty {
            self.publish();
        }
    }

    /// Signs the own record anew and sends it to all neighbours.
    pub(super) fn publish(&mut self) {
        self.list_networks();
        self.gossip.dirty = false;
        self.gossip.published_at = Some(self.now.mono);
        self.gossip.own.version += 1;
        let signed = SignedRecord::sign(&self.gossip.own, &self.settings.namespace, &*self.identity);
        let links: Vec<ConnId> = self.links.iter().map(|(conn, _)| conn).collect();
        for frame in frames_of([&signed]) {
            for conn in &links {
                self.send_encoded_frame(*conn, &frame);
            }
        }
        self.gossip.signed = Some(signed);
    }

    /// How long to gather what is passed on: the records of a large mesh that
    /// changes are many, and nobody there looks at each by itself.
    fn gathering(&self) -> Duration {
        let hubs = self.gossip.records.len();
        let each = GATHER_PER_HUB.saturating_mul(u32::try_from(hubs).unwrap_or(u32::MAX));
        if hubs < GATHER_FROM { Duration::ZERO } else { each.min(MAX_GATHER) }
    }

    /// Passes on what others' records came in, to each neighbour that may lack them.
    pub(super) fn pass_records_on(&mut self) {
        if self.gossip.pass_on_at.is_none_or(|at| at > self.now.mono) {
            return;
        }
        self.gossip.pass_on_at = None;
        let waiting = std::mem::take(&mut self.gossip.waiting);
        let mut frames = Vec::new();
        for (conn, _) in self.links.iter() {
            let lacked = waiting.values().filter(|waiting| !waiting.had_by.contains(&conn));
            let lacked = frames_of(lacked.map(|waiting| &waiting.signed));
            frames.extend(lacked.into_iter().map(|frame| (conn, frame)));
        }
        for (conn, frame) in frames {
            self.send_encoded_frame(conn, &frame);
        }
    }

    /// Their records are no longer here.
    pub(super) fn forget_records(&mut self, hubs: &[Id]) {
        for hub in hubs {
            self.gossip.waiting.remove(hub);
            self.links.note_record(hub, false);
        }
    }

    pub(super) fn send_summary(&mut self, conn: ConnId) {
        let own = self.gossip.own.version_of(self.id);
        let summary = self.gossip.records.summary(own, self.now.mono);
        self.send_frame(conn, &LinkFrame::Summary(Cow::Owned(summary)));
    }

    pub(super) fn got_summary(&mut self, conn: ConnId, summary: &[RecordVersion]) {
        let lacking = self.gossip.records.lacking(summary, self.now.mono);
        if let Some(hub) = self.links.get_mut(conn).map(|link| link.hub)
            && let Some(version) = summary.iter().find(|version| version.hub == hub)
        {
            self.far_end_is(conn, version.epoch);
        }
        let own = self.gossip.own.version_of(self.id);
        let theirs = summary.iter().find(|version| version.hub == self.id);
        // A later version of the own record is believed only when it is seen, signed.
        let lacks_own = theirs.is_none_or(|theirs| (theirs.epoch, theirs.version) < (own.epoch, own.version));
        let records = lacking.iter().filter_map(|hub| self.gossip.records.get(hub)).map(|it| &it.signed);
        let frames = frames_of(records.chain(self.gossip.signed.as_ref().filter(|_| lacks_own)));
        for frame in frames {
            self.send_encoded_frame(conn, &frame);
        }
    }

    /// The far end has other records than this one. Once is nothing: they are under way.
    pub(super) fn compare_digest(&mut self, conn: ConnId, digest: u64) {
        let same = digest == self.gossip.digest(self.id);
        let Some(link) = self.links.get_mut(conn) else { return };
        link.differing = if same { 0 } else { link.differing + 1 };
        if link.differing >= DIFFERING {
            link.differing = 0;
            self.send_summary(conn);
        }
    }

    pub(super) fn got_records(&mut self, conn: ConnId, neighbour: Id, records: &[SignedBytes<'_>]) {
        for signed in records {
            match self.got_record(signed, (conn, neighbour)) {
                Ok(()) => {}
                Err(reason) => {
                    self.counters.refusals.count(Refusal::Record);
                    self.event(Event::Refused { from: neighbour.to_string(), reason });
                }
            }
        }
    }

    fn got_record(
        &mut self,
        signed: &SignedBytes<'_>,
        (conn, neighbour): (ConnId, Id),
    ) -> Result<(), String> {
        let read = || SignedRecord::read(signed).map_err(|error| error.to_string());
        let Head { key, epoch, version } = SignedRecord::head(signed).map_err(|error| error.to_string())?;
        let held = self.gossip.records.version_of(&key).copied();
        let hub = held.map_or_else(|| hub_id(&key), |held| held.hub);
        let version = RecordVersion { hub, epoch, version };
        if hub == neighbour {
            self.far_end_is(conn, version.epoch);
        }
        if hub == self.id {
            let own = &self.gossip.own;
            if (version.epoch, version.version) <= (own.epoch, own.version) {
                return Ok(());
            }
            let record = read()?;
            SignedRecord::verify(signed, &record, &self.settings.namespace, &*self.identity)
                .map_err(|error| error.to_string())?;
            self.outlive(version, record.urls);
            return Ok(());
        }
        if held.is_some_and(|held| version <= held) {
            let waiting = self.gossip.waiting.get_mut(&hub).filter(|waiting| waiting.version == version);
            if let Some(waiting) = waiting.filter(|waiting| !waiting.had_by.contains(&conn)) {
                waiting.had_by.push(conn);
            }
            return Ok(());
        }
        let record = read()?;
        let signed = SignedRecord::verify(signed, &record, &self.settings.namespace, &*self.identity)
            .map_err(|error| error.to_string())?;
        let stores = self.gossip.records.store(hub, record, signed.clone(), self.now);
        if stores == Stores::Discovered {
            self.links.note_record(&hub, true);
        }
        match stores {
            Stores::Full => return Err(String::from("no room for the record of another hub")),
            Stores::Discovered if neighbour != hub => {
                self.event(Event::HubDiscovered { hub_id: hub, via: neighbour.to_string() });
            }
            Stores::Restarted => {
                self.end_outlived(hub, version.epoch);
                self.hub_restarted(hub);
            }
            Stores::Discovered | Stores::Changed => {}
        }
        self.mesh_changed();
        // Most neighbours send it before it is passed on.
        let mut had_by = Vec::with_capacity(self.links.len());
        had_by.push(conn);
        self.gossip.waiting.insert(hub, Waiting { version, signed, had_by });
        let gathered = self.now.mono + self.gathering();
        self.gossip.pass_on_at.get_or_insert(gathered);
        Ok(())
    }

    /// The mesh remembers a later record of this hub than it has made: its
    /// clock went back between two runs. It goes on above that one. If that
    /// does not end it, another hub runs with the same key.
    fn outlive(&mut self, version: RecordVersion, urls: Vec<String>) {
        let now = self.now.mono;
        let at = urls.into_iter().find(|url| !self.gossip.own.urls.contains(url));
        let (pause, reason) = match self.gossip.outlived {
            Some((since, pause)) if now.since(since) < pause => {
                if self.twin_at().is_some() {
                    self.note_twin(at);
                }
                return;
            }
            Some((_, pause)) => {
                self.note_twin(at);
                ((pause * 2).min(LONGEST_TWIN_PAUSE), self.twin_text().unwrap_or_default())
            }
            None => (TWIN_PAUSE, format!("the mesh knows a later run of this hub ({} ms)", version.epoch)),
        };
        self.gossip.outlived = Some((now, pause));
        self.event(Event::Refused { from: self.id.to_string(), reason });
        self.gossip.own.epoch = version.epoch.saturating_add(1);
        self.gossip.own.version = 0;
        self.gossip.changed();
        self.restart_streams();
    }
}

/// The frames that carry these records.
fn frames_of<'a>(records: impl IntoIterator<Item = &'a SignedRecord>) -> Vec<Vec<u8>> {
    let (mut frames, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        batch.push(record.encoded());
        bytes += record.body().len();
        if bytes >= BATCH {
            frames.push(frame_of(&batch));
            batch.clear();
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        frames.push(frame_of(&batch));
    }
    frames
}

/// [`LinkFrame::Records`] of records that are encoded already.
fn frame_of(records: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = records.iter().map(|record| record.len()).sum();
    let mut frame = encode_onto(&(RECORDS, records.len()), Vec::with_capacity(HEAD + bytes));
    records.iter().for_each(|record| frame.extend_from_slice(record));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::identity::HubKey;
    use crate::wire::mesh::encode;

    #[test]
    fn records_travel_as_they_are_kept() {
        let key = HubKey::from_bytes(&[1; 32]);
        let mut gossip = Gossip::new([1; 32], &Settings::default(), Now::default());
        // Lengths of one byte and of two, of a record and of how many there are.
        let records: Vec<SignedRecord> = (0..200)
            .map(|version| {
                (gossip.own.version, gossip.own.networks) = (version, vec![version; version as usize]);
                SignedRecord::sign(&gossip.own, "n", &key)
            })
            .collect();
        for count in [1, 2, 127, 128, 200] {
            let whole = LinkFrame::Records(records[..count].iter().map(|it| it.as_signed_bytes()).collect());
            assert_eq!(frames_of(&records[..count]), [encode(&whole)]);
        }
        assert!(frames_of(&[]).is_empty());
        let many = records.iter().cycle().take(3000);
        let bytes: usize = many.clone().map(|record| record.body().len()).sum();
        let frames = frames_of(many);
        assert!((2..=bytes / BATCH + 1).contains(&frames.len()), "{} of {bytes} bytes", frames.len());
    }
}
