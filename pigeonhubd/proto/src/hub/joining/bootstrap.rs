//! Which hubs are dialled, and when.
//!
//! A configured bootstrap is dialled until the hub behind it is within reach,
//! by whatever path, and again when it no longer is. Hubs that were in the
//! mesh and vanished are dialled too: so the halves of a cut mesh find each
//! other, whichever of them holds the bootstraps.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;

use super::Purpose;
use crate::event::Event;
use crate::hub::Hub;
use crate::id::Id;
use crate::io::ConnId;
use crate::mesh::record::{MAX_URL, MAX_URLS};
use crate::settings::Settings;
use crate::time::Time;

/// The pause once a hub has been dialled often in vain.
const SLOW: Duration = Duration::from_secs(60);
/// The first pause after a bootstrap failed or was lost. Hubs that start
/// together, in whatever order, should not wait `reconnect_interval` for each other.
const QUICK: Duration = Duration::from_millis(250);
/// How long a bootstrap may refuse before a hub that knows no other is ready alone.
const FIRST_ROUND: Duration = Duration::from_secs(1);
/// The first pause before a vanished hub is dialled, at most: it may live, and
/// signals for its clients wait no longer than `signal_timeout`.
const SOON: Duration = Duration::from_secs(1);
/// Later pauses grow with the time that the hub is gone for: one that comes
/// back waits to be found for a fourth of that time at most.
const ABSENCE_SHARE: u32 = 4;
/// Vanished hubs dialled at once.
const MAX_VANISHED_DIALS: usize = 16;

/// One configured bootstrap.
#[derive(Debug)]
struct Bootstrap {
    url: String,
    state: State,
    /// The hub that was last found there.
    hub: Option<Id>,
    /// Dials that failed since the last that did not, without the quick ones.
    failures: u32,
    /// A dial failed.
    failed: bool,
    /// When the first dial began of those that failed since the last that did not.
    failing_since: Option<Time>,
    /// When it was last connected.
    up_at: Time,
    /// It was reached once, or is not waited for any more.
    answered: bool,
    /// Why the hub that answers there and this one do not join, by the last dial.
    rejected: Option<String>,
    /// Its WebSocket broke: to be dialled even if its hub seems to be within
    /// reach, for that may have been the run before.
    broke: bool,
    /// WebSockets in a row that were over within `reconnect_interval`.
    short_lived: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected; to be dialled at that time, unless its hub is within reach.
    Waiting(Time),
    Dialling,
    Up(ConnId),
}

impl Bootstrap {
    fn new(url: &str, at: Time) -> Self {
        let (url, state) = (url.to_owned(), State::Waiting(at));
        Self {
            url,
            state,
            hub: None,
            failures: 0,
            failed: false,
            failing_since: None,
            up_at: at,
            answered: false,
            rejected: None,
            broke: false,
            short_lived: 0,
        }
    }

    fn up(&mut self, conn: ConnId, hub: Option<Id>, now: Time) {
        (self.state, self.hub, self.up_at) = (State::Up(conn), hub, now);
        (self.failures, self.failing_since, self.answered) = (0, None, true);
        self.rejected = None;
        self.broke = false;
    }

    /// Its WebSocket is over. The pause before it is dialled again, which grows
    /// while each is over soon; none after one that was there for a while.
    fn over(&mut self, broke: bool, now: Time, interval: Duration) -> Option<Duration> {
        self.broke = broke;
        if now.since(self.up_at) >= interval {
            self.short_lived = 0;
            return None;
        }
        let pause = SOON.saturating_mul(2u32.saturating_pow(self.short_lived));
        self.short_lived = self.short_lived.saturating_add(1);
        Some(pause.min(interval))
    }
}

/// The bootstraps that are to be dialled.
fn urls(settings: &Settings) -> &[String] {
    if settings.auto_connect { &settings.bootstrap_hubs } else { &[] }
}

/// When a vanished hub is dialled next.
#[derive(Debug)]
struct Vanished {
    at: Time,
    tries: u32,
}

/// All that is dialled to join the mesh or to make it whole.
#[derive(Debug)]
pub(in crate::hub) struct Bootstraps {
    list: Vec<Bootstrap>,
    vanished: BTreeMap<Id, Vanished>,
}

impl Bootstraps {
    pub(super) fn new(settings: &Settings) -> Self {
        let list = urls(settings).iter().map(|url| Bootstrap::new(url, Time::default()));
        Self { list: list.collect(), vanished: BTreeMap::new() }
    }

    /// Takes another list; those that stay keep their state.
    pub(in crate::hub) fn reconfigure(&mut self, settings: &Settings, now: Time) {
        let mut before = std::mem::take(&mut self.list);
        self.list = urls(settings)
            .iter()
            .map(|url| match before.iter().position(|bootstrap| bootstrap.url == *url) {
                Some(at) => before.swap_remove(at),
                // The mesh's readiness does not wait for those that come later.
                None => Bootstrap { answered: true, ..Bootstrap::new(url, now) },
            })
            .collect();
    }

    /// A URL behind which is the hub itself.
    pub(in crate::hub) fn leads_to(&self, own: Id) -> Option<&str> {
        self.list.iter().find(|bootstrap| bootstrap.hub == Some(own)).map(|bootstrap| &*bootstrap.url)
    }

    /// The first that a hub answers at with which this one does not join, and why.
    pub(in crate::hub) fn rejected(&self) -> Option<String> {
        let why =
            |bootstrap: &Bootstrap| Some(format!("{}: {}", bootstrap.url, bootstrap.rejected.as_ref()?));
        self.list.iter().find_map(why)
    }

    fn by_url(&mut self, url: &str) -> Option<&mut Bootstrap> {
        self.list.iter_mut().find(|bootstrap| bootstrap.url == url)
    }
}

impl Hub {
    /// Whether no bootstrap is waited for: each has answered, or failed, for
    /// [`FIRST_ROUND`] if no other hub is known.
    pub(in crate::hub) fn first_round_is_over(&self) -> bool {
        let not_alone = self.other_members() > 0;
        let over = |bootstrap: &Bootstrap| bootstrap.answered || (bootstrap.failed && not_alone);
        self.joining.bootstraps.list.iter().all(over)
    }

    pub(in crate::hub) fn bootstrap_up(&mut self, url: &str, conn: ConnId, hub: Id) {
        let now = self.now.mono;
        let Some(bootstrap) = self.joining.bootstraps.by_url(url) else { return };
        bootstrap.up(conn, Some(hub), now);
        self.event(Event::BootstrapConnected { uri: url.to_owned(), hub_id: Some(hub), hub: None });
    }

    /// The same, for an older hub, whose id nobody tells.
    pub(in crate::hub) fn bootstrap_up_legacy(&mut self, url: &str, conn: ConnId) {
        let now = self.now.mono;
        let Some(bootstrap) = self.joining.bootstraps.by_url(url) else { return };
        bootstrap.up(conn, None, now);
        let hub = Some("an older hub");
        self.event(Event::BootstrapConnected { uri: url.to_owned(), hub_id: None, hub });
        self.mesh_changed_now();
    }

    /// Behind a URL is this hub itself, or one with its key. Another hub may be there the next time,
    /// as behind a balancer or a name of several: so it is dialled again while
    /// this hub is alone.
    pub(super) fn bootstrap_is_myself(&mut self, url: &str) {
        let (own, now) = (self.id, self.now.mono);
        let (interval, attempts) = (self.settings.reconnect_interval, self.settings.max_reconnect_attempts);
        let Some(bootstrap) = self.joining.bootstraps.by_url(url) else { return };
        bootstrap.failures = bootstrap.failures.saturating_add(1);
        let pause = if bootstrap.failures < attempts { interval } else { SLOW.max(interval) };
        (bootstrap.state, bootstrap.hub) = (State::Waiting(now + pause), Some(own));
        (bootstrap.failing_since, bootstrap.answered, bootstrap.broke) = (None, true, false);
        bootstrap.rejected = None;
        self.mesh_changed_now();
    }

    /// A dial of a bootstrap failed; `rejected`: since a hub answered and the two do not join.
    pub(super) fn bootstrap_down(&mut self, url: &str, reason: &str, rejected: bool) {
        let (interval, attempts) = (self.settings.reconnect_interval, self.settings.max_reconnect_attempts);
        let (own, now, quick) = (self.id, self.now.mono, self.quick_pause());
        let Some(bootstrap) = self.joining.bootstraps.by_url(url) else { return };
        // Whoever is behind it now, it is not this hub.
        bootstrap.hub = bootstrap.hub.filter(|hub| *hub != own);
        let failing = now.since(bootstrap.failing_since.unwrap_or(now));
        // By then it is known whether its hub is within reach.
        bootstrap.broke &= failing < interval;
        bootstrap.failed = true;
        bootstrap.rejected = rejected.then(|| reason.to_owned());
        bootstrap.answered |= failing >= FIRST_ROUND;
        // Each pause is as long as all that went before, until they are regular.
        let pause = if failing < interval && attempts > 0 {
            quick.max(failing).min(interval)
        } else {
            bootstrap.failures = bootstrap.failures.saturating_add(1);
            if bootstrap.failures < attempts { interval } else { SLOW.max(interval) }
        };
        bootstrap.state = State::Waiting(now + pause);
        self.event(Event::BootstrapDisconnected { uri: url.to_owned(), reason: reason.to_owned() });
        self.mesh_changed_now();
    }

    /// A link or an older hub's connection is over: perhaps it was a
    /// bootstrap's. `broke`: neither end wanted that.
    pub(in crate::hub) fn bootstrap_lost(&mut self, conn: ConnId, broke: bool, reason: &str) {
        let (now, quick, interval) = (self.now.mono, self.quick_pause(), self.settings.reconnect_interval);
        let spread = self.rng.random_range(0.75..1.25);
        let Some(bootstrap) =
            self.joining.bootstraps.list.iter_mut().find(|bootstrap| bootstrap.state == State::Up(conn))
        else {
            return;
        };
        // One that takes connections and closes them at once is not hurried.
        let pause = bootstrap.over(broke, now, interval).map_or(quick, |pause| pause.mul_f64(spread));
        bootstrap.state = State::Waiting(now + pause);
        let uri = bootstrap.url.clone();
        self.event(Event::BootstrapDisconnected { uri, reason: reason.to_owned() });
    }

    /// Spread, so that the hubs of a mesh do not all dial a bootstrap at the same moment.
    fn quick_pause(&mut self) -> Duration {
        QUICK.mul_f64(self.rng.random_range(0.75..1.25)).min(self.settings.reconnect_interval)
    }

    /// After a pause on purpose all bootstraps are dialled at once.
    pub(in crate::hub) fn redial_bootstraps(&mut self) {
        let now = self.now.mono;
        for bootstrap in &mut self.joining.bootstraps.list {
            if matches!(bootstrap.state, State::Waiting(_)) {
                (bootstrap.state, bootstrap.failures) = (State::Waiting(now), 0);
                bootstrap.failing_since = None;
            }
        }
    }

    pub(in crate::hub) fn tick_bootstraps(&mut self) {
        if self.draining.is_on() {
            return;
        }
        let now = self.now.mono;
        let due: Vec<String> = self
            .joining
            .bootstraps
            .list
            .iter()
            .filter(|bootstrap| matches!(bootstrap.state, State::Waiting(at) if at <= now))
            .filter(|bootstrap| bootstrap.broke || bootstrap.hub.is_none_or(|hub| self.needs_bootstrap(&hub)))
            .map(|bootstrap| bootstrap.url.clone())
            .collect();
        for url in due {
            if let Some(bootstrap) = self.joining.bootstraps.by_url(&url) {
                bootstrap.state = State::Dialling;
                bootstrap.failing_since.get_or_insert(now);
            }
            self.dial(Purpose::Bootstrap, &url);
        }
        self.dial_vanished();
        self.dial_remembered();
    }

    /// A bootstrap's WebSocket is needed while its hub is out of reach, and
    /// while this hub has too few data channels and no other link to it.
    fn needs_bootstrap(&self, hub: &Id) -> bool {
        if *hub == self.id {
            return self.other_members() == 0;
        }
        !self.is_reachable(hub) || (self.is_short_of_links() && self.links.to(hub).is_none())
    }

    fn dial_vanished(&mut self) {
        let now = self.now.mono;
        let mut lost: Vec<(Id, Time)> = self
            .gossip
            .records
            .absent()
            // Those that left on purpose too: they may be back with no bootstrap that answers.
            .filter(|(_, absent)| absent.has_url)
            .map(|(hub, absent)| (*hub, absent.since))
            .collect();
        let is_lost = |hub: &Id| lost.binary_search_by_key(hub, |(hub, _)| *hub).is_ok();
        self.joining.bootstraps.vanished.retain(|hub, _| is_lost(hub));
        let dialling = |hub: &Hub, id| hub.joining.is_dialling(Purpose::Vanished(id));
        let mut under_way = lost.iter().filter(|(hub, _)| dialling(self, *hub)).count();
        let interval = self.settings.reconnect_interval;
        let first = interval.min(SOON);
        // Those that wait longest go first, or a few dead hubs could keep all the others waiting.
        let due = |hub: &Id| self.joining.bootstraps.vanished.get(hub).map(|vanished| vanished.at);
        lost.sort_by_cached_key(|(hub, _)| due(hub));
        for (hub, since) in lost {
            // Spread, so that many hubs do not dial one at the same moment.
            let spread = self.rng.random_range(0.75..1.25);
            let soon = Vanished { at: now + first.mul_f64(spread), tries: 0 };
            let vanished = self.joining.bootstraps.vanished.entry(hub).or_insert(soon);
            if vanished.at > now || under_way >= MAX_VANISHED_DIALS {
                continue;
            }
            let tries = vanished.tries;
            vanished.tries = tries.saturating_add(1);
            let pause = (now.since(since) / ABSENCE_SHARE).max(interval).min(SLOW.max(interval));
            vanished.at = now + pause.mul_f64(spread);
            if dialling(self, hub) {
                continue;
            }
            if let Some(url) = self.url_of(&hub, tries) {
                under_way += 1;
                self.dial(Purpose::Vanished(hub), &url);
            }
        }
    }

    /// Somebody told under which URL this hub is reached.
    pub(super) fn learn_own_url(&mut self, url: &str) {
        let usable = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "ws" | "wss"));
        let urls = &mut self.gossip.own.urls;
        if !usable
            || url.len() > MAX_URL
            || self.settings.advertise.is_some()
            || urls.iter().any(|known| known == url)
        {
            return;
        }
        urls.insert(0, url.to_owned());
        urls.truncate(MAX_URLS);
        self.gossip.changed();
    }

    /// Where to dial a hub in place of a data channel.
    pub(in crate::hub) fn url_of(&self, hub: &Id, attempt: u32) -> Option<String> {
        let urls = &self.gossip.records.get(hub)?.record.urls;
        urls.get(attempt as usize % urls.len().max(1)).cloned()
    }
}
