//! What one address may take: connections at once; connects, requests for
//! pages, and messages a second.
//!
//! Rates are a leaky bucket (GCRA, by the `governor` crate) that holds
//! [`BURST`] seconds' worth, so that many users behind one address may come at
//! once after a restart, and none may come like that for long.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use pigeonhub_proto::config::Config;
use pigeonhub_proto::io::customer;

use crate::admission::Caller;

/// Addresses that are remembered at most, some 20 MB of them. When as many are
/// connected or were within [`BURST`], further ones have no limits of their
/// own: refusing them would let one attacker with many addresses shut others
/// out. From half of them on, further ones of IPv6 count by their first 48 bits.
pub const MAX_ADDRESSES: usize = 65_536;

/// Seconds over which a rate is counted.
pub const BURST: u32 = 10;

/// How many TCP connections an address may open for each WebSocket that it may
/// open: who comes a little too often is told so, and who floods is cut off
/// before it costs a TLS handshake.
pub const ARRIVALS: u32 = 2;

/// Seconds after which an address that is not connected is forgotten: its
/// buckets are empty again.
const FORGET: u64 = BURST as u64 + 1;

/// The limits of one address; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Which configuration of this process they are of: a larger number is a later one.
    pub read: u64,
    /// Connections at once.
    pub connections: u32,
    /// New connections a second.
    pub connects: u32,
    /// Messages a second.
    pub messages: u32,
}

/// Whenever they were read.
impl PartialEq for Rates {
    fn eq(&self, other: &Self) -> bool {
        let limits = |rates: &Self| (rates.connections, rates.connects, rates.messages);
        limits(self) == limits(other)
    }
}

impl Eq for Rates {}

impl Rates {
    /// As configured.
    pub fn of(config: &Config) -> Self {
        static READ: AtomicU64 = AtomicU64::new(1);
        let listen = &config.listen;
        Self {
            read: READ.fetch_add(1, Ordering::Relaxed),
            connections: listen.max_connections_per_address,
            connects: listen.max_connects_per_second,
            messages: listen.max_messages_per_second,
        }
    }
}

/// Why an address gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Connections at once.
    #[error("Too many connections from your address")]
    Connections,
    /// Connections within a short time.
    #[error("Too many connects from your address; wait a few seconds")]
    Connects,
    /// Connections at once with one ticket.
    #[error("Too many connections with your ticket")]
    Ticket,
}

/// Everyone who is connected or was a moment ago.
#[derive(Debug)]
pub struct Addresses {
    origin: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    map: HashMap<IpAddr, Arc<Address>>,
    /// When there are as many, those that can be forgotten are.
    sweep_at: usize,
    /// Seconds since the origin at which that was done last.
    swept: u64,
}

#[derive(Debug)]
struct Address {
    rates: Rates,
    open: Arc<AtomicU32>,
    /// Seconds since the origin at which it last came or went.
    touched: AtomicU64,
    arrivals: Option<Bucket>,
    connects: Option<Bucket>,
    pages: Option<Bucket>,
    messages: Option<Bucket>,
    /// Messages that what it sent cost besides, and that have not been counted yet.
    owes: AtomicU64,
}

/// Has room for so many a second.
pub(crate) type Bucket = RateLimiter<NotKeyed, InMemoryState, SinceStart, NoOpMiddleware<Nanos>>;

/// Time since this process had its first address.
#[derive(Clone, Debug)]
pub(crate) struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// Of a rate; none if that is 0. Counts the time since `origin`.
pub(crate) fn bucket(per_second: u32, origin: Instant) -> Option<Bucket> {
    let rate = NonZeroU32::new(per_second)?;
    let burst = NonZeroU32::new(per_second.saturating_mul(BURST))?;
    Some(RateLimiter::direct_with_clock(Quota::per_second(rate).allow_burst(burst), SinceStart(origin)))
}

fn has_room(bucket: Option<&Bucket>) -> bool {
    bucket.is_none_or(|bucket| bucket.check().is_ok())
}

impl Address {
    /// Pays as much as there is room for. True if nothing is owed any more.
    fn pays(&self) -> bool {
        let Some(bucket) = &self.messages else { return true };
        loop {
            let owes = self.owes.load(Ordering::Relaxed);
            let part = u32::try_from(owes.min(u64::from(self.rates.messages))).unwrap_or(u32::MAX);
            let Some(part) = NonZeroU32::new(part) else { return true };
            if !matches!(bucket.check_n(part), Ok(Ok(()))) {
                return false;
            }
            let less = |owes: u64| Some(owes.saturating_sub(part.get().into()));
            let _ = self.owes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    fn new(rates: Rates, open: Arc<AtomicU32>, origin: Instant) -> Self {
        Self {
            rates,
            open,
            touched: AtomicU64::new(0),
            arrivals: bucket(rates.connects.saturating_mul(ARRIVALS), origin),
            connects: bucket(rates.connects, origin),
            // As often as it may connect, and counted apart: neither takes room from the other.
            pages: bucket(rates.connects, origin),
            messages: bucket(rates.messages, origin),
            owes: AtomicU64::new(0),
        }
    }
}

/// One connection of an address; counted until it is dropped.
#[derive(Debug)]
pub struct Place {
    address: Option<Arc<Address>>,
    origin: Instant,
}

impl Place {
    /// Whether one more message may come: the address first pays what it owes.
    pub fn message(&self) -> bool {
        let Some(address) = &self.address else { return true };
        address.pays() && has_room(address.messages.as_ref())
    }

    /// What came cost as much as so many messages more.
    pub fn charge(&self, messages: u32) {
        if let Some(address) = self.address.as_ref().filter(|address| address.messages.is_some()) {
            address.owes.fetch_add(u64::from(messages), Ordering::Relaxed);
        }
    }

    /// Messages a second that may come, for those who are told; 0 if there is no limit.
    pub fn rate(&self) -> u32 {
        self.address.as_ref().map_or(0, |address| address.rates.messages)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = &self.address {
            address.open.fetch_sub(1, Ordering::Relaxed);
            address.touched.store(self.origin.elapsed().as_secs(), Ordering::Relaxed);
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self { origin: Instant::now(), known: Mutex::default() }
    }
}

impl Addresses {
    /// One more connection of that caller, if it may be. This machine has no
    /// limits; but loopback as a proxy's word is an address like any other.
    ///
    /// # Errors
    /// Which limit it would break.
    pub fn enter(&self, caller: Caller, rates: Rates) -> Result<Place, TooMany> {
        let free = Place { address: None, origin: self.origin };
        let Some(address) = self.limited(caller, rates) else { return Ok(free) };
        if !has_room(address.connects.as_ref()) {
            return Err(TooMany::Connects);
        }
        let most = if address.rates.connections == 0 { u32::MAX } else { address.rates.connections };
        let more = |open: u32| (open < most).then(|| open.saturating_add(1));
        let entered = address.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.map_err(|_| TooMany::Connections)?;
        Ok(Place { address: Some(address), origin: self.origin })
    }

    /// Whether one more TCP connection may come from `remote`, which is no proxy.
    pub fn arrives(&self, remote: IpAddr, rates: Rates) -> bool {
        let caller = Caller { address: remote, via_proxy: false };
        self.limited(caller, rates).is_none_or(|address| has_room(address.arrivals.as_ref()))
    }

    /// Whether that caller gets one more page.
    pub fn page(&self, caller: Caller, rates: Rates) -> bool {
        self.limited(caller, rates).is_none_or(|address| has_room(address.pages.as_ref()))
    }

    /// The address of a caller, if it has limits.
    fn limited(&self, caller: Caller, rates: Rates) -> Option<Arc<Address>> {
        let remote = customer(caller.address);
        let own = remote.is_loopback() && !caller.via_proxy;
        if own || rates == Rates::default() { None } else { self.address(remote, rates) }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).map.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn address(&self, remote: IpAddr, rates: Rates) -> Option<Arc<Address>> {
        let now = self.origin.elapsed().as_secs();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let crowd = known.map.len() >= MAX_ADDRESSES / 2 && !known.map.contains_key(&remote);
        let remote = if crowd { site(remote) } else { remote };
        if let Some(address) = known.map.get_mut(&remote) {
            // Connections that were accepted before a reload ask with the limits of then. Those of now
            // count for them too: else each would put new, full buckets in place of the other's.
            if address.rates != rates && rates.read >= address.rates.read {
                // Connections from before keep their own limits, and count here.
                *address = Arc::new(Address::new(rates, Arc::clone(&address.open), self.origin));
            }
            address.touched.store(now, Ordering::Relaxed);
            return Some(Arc::clone(address));
        }
        // At the limit once a second, or it would never be left again.
        let crowded = known.map.len() >= MAX_ADDRESSES && now > known.swept;
        if crowded || known.map.len() >= known.sweep_at {
            known.swept = now;
            known.map.retain(|_, address| {
                let touched = address.touched.load(Ordering::Relaxed);
                address.open.load(Ordering::Relaxed) > 0 || now.saturating_sub(touched) < FORGET
            });
            // Not again for the next few: a sweep looks at all of them.
            known.sweep_at = (known.map.len() * 2).max(1024);
        }
        if known.map.len() >= MAX_ADDRESSES {
            return None;
        }
        let address = Arc::new(Address::new(rates, Arc::default(), self.origin));
        address.touched.store(now, Ordering::Relaxed);
        known.map.insert(remote, Arc::clone(&address));
        Some(address)
    }
}

/// What counts as one address in a crowd: of IPv6 the first 48 bits, the most
/// that one site is given (RFC 6177). With its 65,536 /64s it could leave no
/// room for others.
fn site(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn direct(address: IpAddr) -> Caller {
        Caller { address, via_proxy: false }
    }

    #[test]
    fn connections_at_once_are_counted_by_address_and_by_64_bits() {
        let (addresses, rates) = (Addresses::default(), Rates { connections: 2, ..Rates::default() });
        let enter = |text| addresses.enter(direct(ip(text)), rates);
        let first = enter("2001:db8::1").expect("room");
        let _second = enter("2001:db8::ffff").expect("room");
        assert_eq!(enter("2001:db8::2").err(), Some(TooMany::Connections));
        assert!(enter("2001:db8:0:1::1").is_ok(), "another customer");
        drop(first);
        let _third = enter("2001:db8::3").expect("the place is free again");
        let _translated = [enter("64:ff9b::192.0.2.9").expect("room"), enter("192.0.2.9").expect("room")];
        assert!(enter("64:ff9b::192.0.2.9").is_err(), "also behind a translator");
        assert!(enter("64:ff9b::192.0.2.10").is_ok(), "where all of IPv4 has one prefix");
        let _mapped = [enter("::ffff:192.0.2.1").expect("room"), enter("192.0.2.1").expect("room")];
        assert!(enter("192.0.2.1").is_err(), "the same however it is written");
        for _ in 0..100 {
            std::mem::forget(enter("127.0.0.1").expect("loopback has no limit"));
            std::mem::forget(enter("::1").expect("loopback has no limit"));
        }
    }

    #[test]
    fn loopback_as_a_proxys_word_has_limits() {
        let (addresses, rates) = (Addresses::default(), Rates { connections: 1, ..Rates::default() });
        for address in ["127.0.0.1", "::1"] {
            let told = Caller { address: ip(address), via_proxy: true };
            let _place = addresses.enter(told, rates).expect("room");
            assert_eq!(addresses.enter(told, rates).err(), Some(TooMany::Connections), "{address}");
        }
    }

    /// How often something may be done at once, with a burst and then a rate; none if it may for ever.
    /// Time goes on meanwhile, and more may be done for it.
    fn allowed(burst: u32, rate: u32, may: impl FnMut(usize) -> bool) -> bool {
        let begin = Instant::now();
        let done = (0..10_000).map(may).take_while(|may| *may).count();
        // One more for the part of a second, and one for the clock's own steps.
        let most = u64::from(burst) + u64::from(rate) * begin.elapsed().as_secs() + u64::from(rate) + 1;
        println!("{done} with a burst of {burst}, at most {most}");
        (u64::from(burst)..=most).contains(&(done as u64))
    }

    #[test]
    fn connects_and_messages_have_a_burst_and_then_a_rate() {
        let addresses = Addresses::default();
        let rates = Rates { connects: 1, messages: 2, ..Rates::default() };
        let mut refused = None;
        assert!(allowed(10, 1, |_| {
            refused = addresses.enter(direct(ip("192.0.2.1")), rates).err();
            refused.is_none()
        }));
        assert_eq!(refused, Some(TooMany::Connects));
        let place = addresses.enter(direct(ip("192.0.2.2")), rates).expect("another");
        let other = addresses.enter(direct(ip("192.0.2.2")), rates).expect("the same");
        assert!(allowed(20, 2, |i| if i % 2 == 0 { place.message() } else { other.message() }));
        assert!(addresses.enter(direct(ip("192.0.2.3")), rates).expect("another").message());
    }

    #[test]
    fn pages_and_arrivals_are_counted_apart_from_connects() {
        let (addresses, rates) = (Addresses::default(), Rates { connects: 2, ..Rates::default() });
        let caller = direct(ip("192.0.2.1"));
        assert!(allowed(20, 2, |_| addresses.page(caller, rates)));
        assert!(allowed(40, 4, |_| addresses.arrives(caller.address, rates)));
        assert!(addresses.enter(caller, rates).is_ok(), "WebSockets have room of their own");
        assert!(addresses.page(direct(ip("192.0.2.2")), rates) && addresses.arrives(ip("192.0.2.2"), rates));
        for _ in 0..1000 {
            assert!(addresses.page(direct(ip("127.0.0.1")), rates) && addresses.arrives(ip("::1"), rates));
            assert!(
                addresses.page(caller, Rates::default())
                    && addresses.arrives(caller.address, Rates::default())
            );
        }
    }

    #[test]
    fn new_limits_count_for_who_is_there() {
        let addresses = Addresses::default();
        let limit = |connections| Rates { connections, ..Rates::default() };
        let _place = addresses.enter(direct(ip("192.0.2.1")), limit(5)).expect("room");
        assert!(addresses.enter(direct(ip("192.0.2.1")), limit(1)).is_err());
        assert!(addresses.enter(direct(ip("192.0.2.1")), limit(0)).is_ok(), "none");
        assert!(addresses.enter(direct(ip("192.0.2.1")), limit(2)).is_ok());
    }

    #[test]
    fn limits_of_before_a_reload_do_not_begin_anew() {
        let addresses = Addresses::default();
        let before = Rates { read: 1, connects: 1, messages: 1, ..Rates::default() };
        let after = Rates { read: 2, connects: 2, messages: 2, ..Rates::default() };
        // A kept connection and a new one of one client, in turn.
        let rates = |i: usize| if i.is_multiple_of(2) { after } else { before };
        let caller = direct(ip("192.0.2.1"));
        assert!(allowed(20, 2, |i| addresses.page(caller, rates(i))));
        assert!(allowed(20, 2, |i| addresses.enter(caller, rates(i)).is_ok()));
        assert!(allowed(40, 4, |i| addresses.arrives(caller.address, rates(i))));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nobody_is_shut_out() {
        let (addresses, rates) = (Addresses::default(), Rates { connects: 1, ..Rates::default() });
        for i in 0..u32::try_from(MAX_ADDRESSES + 5000).expect("small") {
            assert!(addresses.enter(direct(Ipv4Addr::from_bits(0x0a00_0000 + i).into()), rates).is_ok());
        }
        assert!(addresses.len() <= MAX_ADDRESSES, "{}", addresses.len());
    }

    /// Once there were too many addresses to count, they are counted again as soon as they are gone.
    #[test]
    fn limits_come_back_when_a_crowd_is_gone() {
        let origin = Instant::now().checked_sub(Duration::from_secs(60)).expect("up for a minute");
        let (addresses, rates) =
            (Addresses { origin, known: Mutex::default() }, Rates { connects: 1, ..Rates::default() });
        // They stay, or those who came first might be forgotten before the last one comes.
        let crowd: Vec<_> = (0..u32::try_from(MAX_ADDRESSES + 5000).expect("small"))
            .map(|i| addresses.enter(direct(Ipv4Addr::from_bits(0x0a00_0000 + i).into()), rates))
            .collect();
        let known = addresses.len();
        drop(crowd);
        assert_eq!(known, MAX_ADDRESSES);
        let mut known = addresses.known.lock().expect("no panic");
        known.map.values().for_each(|address| address.touched.store(0, Ordering::Relaxed));
        known.swept = 0;
        drop(known);
        assert!(allowed(10, 1, |_| addresses.enter(direct(ip("192.0.2.1")), rates).is_ok()));
        assert!(addresses.len() < 10, "{}", addresses.len());
    }

    #[test]
    fn one_site_cannot_fill_what_is_remembered() {
        let (addresses, rates) = (Addresses::default(), Rates { connects: 1, ..Rates::default() });
        let site = ip("2001:db8::1");
        let IpAddr::V6(site) = site else { unreachable!() };
        // Whoever is let in stays, or might be forgotten before the last one comes.
        let (mut places, mut refused) = (Vec::new(), 0);
        for subnet in 0..u128::try_from(MAX_ADDRESSES).expect("small") {
            let address = Ipv6Addr::from_bits(site.to_bits() | (subnet << 64));
            match addresses.enter(direct(address.into()), rates) {
                Ok(place) => places.push(place),
                Err(_) => refused += 1,
            }
        }
        assert!(addresses.len() <= MAX_ADDRESSES / 2 + 1 && refused > 1000, "{} {refused}", addresses.len());
    }
}
