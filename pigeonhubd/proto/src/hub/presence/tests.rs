//! What other hubs tell of their peers is held within bounds too.

mod bundles;
mod claims;
mod goodbyes;
mod grace;
mod order;

use std::sync::Arc;

use super::View;
use crate::directory::{CLAIM_SHARE, Home, MOST};
use crate::hub::Hub;
use crate::id::Id;
use crate::mesh::identity::{HubKey, MeshKey};
use crate::settings::Settings;
use crate::time::{Now, Time};
use crate::wire::client::MAX_ANNOUNCE_DATA;
use crate::wire::mesh::PresenceChange;

const OTHER: Id = Id([9; 20]);
const NETWORK: &str = "n";
const SUBSCRIPTION: u32 = 7;

/// A hub that asked another one for the peers of a network.
fn hub() -> Hub {
    let now = Now { mono: Time(1_000_000), unix_ms: 1_700_000_000_000 };
    let key = MeshKey::new(b"the key of the bench").expect("long enough");
    let mut hub = Hub::new(Settings::default(), Arc::new(HubKey::from_bytes(&[7; 32])), key, [1; 32], now);
    let view = View { subscription: SUBSCRIPTION, asked_at: now.mono, complete: false };
    hub.presence.views.insert((OTHER, Some(NETWORK.into())), view);
    hub
}

fn peer(number: u32) -> Id {
    let mut id = [0xee; 20];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Id(id)
}

fn tell(hub: &mut Hub, number: u32, stamp: u64, shown: &str) {
    let change = PresenceChange::Here {
        peer: peer(number).into(),
        network: NETWORK.into(),
        stamp,
        legacy: false,
        announced_at: stamp,
        shown: shown.into(),
    };
    hub.got_presence(OTHER, Some(NETWORK), SUBSCRIPTION, vec![change], false);
}

fn shown(hub: &Hub, number: u32) -> &str {
    &hub.directory.find(NETWORK, &peer(number)).expect("the peer is known").claim().shown
}

#[test]
fn of_more_data_than_there_is_room_for_the_peers_are_known_all_the_same() {
    let mut hub = hub();
    let large = format!(r#"{{"pad":"{}"}}"#, "x".repeat(MAX_ANNOUNCE_DATA));
    let small = r#"{"name":"an honest peer"}"#;
    let fit = u32::try_from(MOST / large.len()).expect("few");
    for number in 0..fit + 100 {
        tell(&mut hub, number, 1, &large);
    }
    let bare = format!(r#"{{"peerId":"{}","isHub":false}}"#, peer(fit));
    assert_eq!((shown(&hub, fit - 1), shown(&hub, fit)), (&*large, &*bare));
    assert_eq!(hub.counters().announces_cut, 100);
    let held = hub.gauges().announce_data;
    assert!(held.here == 0 && held.elsewhere <= MOST + 100 * CLAIM_SHARE, "{held:?}");
    tell(&mut hub, 1_000_000, 1, small);
    assert_eq!(shown(&hub, 1_000_000), small, "each claim has its share");
    // Told again of what it has, as when a stream starts anew, it keeps it.
    tell(&mut hub, 0, 2, &large);
    assert_eq!(shown(&hub, 0), large);
    for number in 0..10 {
        let gone = PresenceChange::Gone { peer: peer(number), network: NETWORK.into() };
        hub.got_presence(OTHER, Some(NETWORK), SUBSCRIPTION, vec![gone], false);
    }
    tell(&mut hub, fit, 2, &large);
    assert_eq!(shown(&hub, fit), large, "there is room again");
    hub.drop_claims(OTHER, None, None);
    assert_eq!(hub.gauges().announce_data.elsewhere, 0);
    assert_eq!(hub.directory.held_for(NETWORK, &peer(0), Home::Hub(OTHER)), 0);
}
