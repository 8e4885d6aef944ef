use super::*;

fn peer(n: u8) -> Spelled {
    Id([n; 20]).into()
}

fn claim(home: Home, stamp: u64) -> Claim {
    Claim {
        home,
        stamp,
        legacy: matches!(home, Home::Legacy(_)),
        subscription: 0,
        announced_at: 0,
        since: Time::default(),
        shown: "{}".into(),
    }
}

const HERE: Home = Home::Session(ConnId(1));
const THERE: Home = Home::Hub(Id([9; 20]));

#[test]
fn the_later_announcement_wins_whichever_comes_first() {
    for order in [[HERE, THERE], [THERE, HERE]] {
        let mut directory = Directory::default();
        for home in order {
            directory.claim("n", peer(1), claim(home, if home == THERE { 2 } else { 1 }));
        }
        assert_eq!(directory.find("n", &peer(1).id).expect("the peer").home(), THERE);
    }
}

/// Each of the two hubs sees its own claim as a session and the other's as a hub's.
#[test]
fn of_two_announcements_of_one_moment_that_at_the_smaller_hub_id_counts_at_both() {
    let (small, large) = (Id([3; 20]), Id([9; 20]));
    for (me, other) in [(small, large), (large, small)] {
        for own_first in [true, false] {
            let mut directory = Directory::new(me);
            let (here, there) = (claim(HERE, 7), claim(Home::Hub(other), 7));
            let order = if own_first { [here, there] } else { [there, here] };
            for claim in order {
                directory.claim("n", peer(1), claim);
            }
            let home = directory.find("n", &peer(1).id).expect("the peer").home();
            assert_eq!(home, if me == small { HERE } else { Home::Hub(small) });
        }
    }
}

#[test]
fn a_direct_claim_beats_one_through_an_older_hub() {
    let mut directory = Directory::default();
    directory.claim("n", peer(1), claim(THERE, 1));
    let claimed = directory.claim("n", peer(1), claim(Home::Legacy(ConnId(3)), 99));
    assert!(matches!(claimed, Claimed::Ignored(_)));
}

#[test]
fn a_peer_goes_with_its_last_claim() {
    let mut directory = Directory::default();
    directory.claim("n", peer(1), claim(HERE, 1));
    directory.claim("n", peer(1), claim(THERE, 2));
    assert!(matches!(directory.unclaim("n", &peer(1).id, THERE), Unclaimed::Moved(_)));
    assert!(matches!(directory.unclaim("n", &peer(1).id, THERE), Unclaimed::Nothing));
    assert!(matches!(directory.unclaim("n", &peer(1).id, HERE), Unclaimed::Gone(_)));
    assert!(directory.network("n").is_none());
}

#[test]
fn meetings_are_symmetric_and_end_with_either() {
    let mut directory = Directory::default();
    for n in 1..=3 {
        directory.claim("n", peer(n), claim(HERE, 1));
    }
    let key = |directory: &Directory, n: u8| directory.key("n", &peer(n).id).expect("a key");
    let (a, b, c) = (key(&directory, 1), key(&directory, 2), key(&directory, 3));
    assert!(directory.introduce(a, b));
    assert!(!directory.introduce(b, a));
    assert!(directory.introduce(a, c));
    directory.unclaim("n", &peer(2).id, HERE);
    assert_eq!(directory.get(a).expect("a").met, [c]);
    directory.forget_meetings(a);
    assert!(directory.get(c).expect("c").met.is_empty());
}

#[test]
fn own_networks_are_those_with_a_peer_here() {
    let mut directory = Directory::default();
    directory.claim("a", peer(1), claim(HERE, 1));
    directory.claim("b", peer(1), claim(THERE, 1));
    assert_eq!(directory.own_networks().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
    directory.claim("b", peer(1), claim(HERE, 0));
    assert_eq!(directory.own_networks().count(), 2);
    directory.unclaim("b", &peer(1).id, HERE);
    assert_eq!(directory.own_networks().count(), 1);
}

#[test]
fn claims_of_a_subscription_are_found() {
    let mut directory = Directory::default();
    for (n, subscription) in [(1, 5), (2, 6)] {
        directory.claim("n", peer(n), Claim { subscription, ..claim(THERE, 1) });
    }
    let stale = directory.claimed_by(Id([9; 20]), Some("n"), Some(6));
    assert_eq!(stale.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [peer(1).id]);
    assert_eq!(directory.claimed_by(Id([9; 20]), None, None).len(), 2);
}

/// What is kept is what looking at all of them finds.
#[test]
fn peers_are_counted_as_they_come_and_go() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut directory = Directory::default();
    let homes = [HERE, THERE, Home::Hub(Id([8; 20])), Home::Legacy(ConnId(3))];
    for step in 0..5_000u64 {
        let network = ["a", "b", "c"][rng.random_range(0..3)];
        let (who, home) = (peer(rng.random_range(1..6)), homes[rng.random_range(0..homes.len())]);
        if rng.random_range(0..2) == 0 {
            directory.claim(network, who, claim(home, step));
        } else {
            directory.unclaim(network, &who.id, home);
        }
        let found = |here: bool| -> std::collections::BTreeSet<Id> {
            let entries = directory.entries().filter(|entry| entry.session().is_some() == here);
            entries.map(|entry| entry.peer.id).collect()
        };
        assert_eq!(directory.counts(), (found(true).len(), found(false).len()), "step {step}");
        assert_eq!(directory.own_network_count(), directory.own_networks().count(), "step {step}");
    }
}
