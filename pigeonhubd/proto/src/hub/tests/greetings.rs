//! Two hubs greet each other over a WebSocket, with somebody in between.

use super::*;

/// The dialling hub, and the one that it dials, by these connections.
const DIALLER: u64 = 1;

fn hub(key: u8, settings: Settings) -> Bench {
    let now = Now { mono: Time(1_000_000), unix_ms: 1_700_000_000_000 };
    let mesh_key = MeshKey::new(b"the key of the bench").expect("long enough");
    let identity = Arc::new(HubKey::from_bytes(&[key; 32]));
    Bench { hub: Hub::new(settings, identity, mesh_key, [key; 32], now), now }
}

fn texts(said: Vec<Output>) -> Vec<String> {
    let text = |output| if let Output::Text { text, .. } = output { Some(text) } else { None };
    said.into_iter().filter_map(text).collect()
}

/// Both ends after their greeting. `between` may change what they say.
fn greeted(mut dialler: Bench, mut dialled: Bench, between: impl Fn(String) -> String) -> (Bench, Bench) {
    let said = dialler.tell(Input::Timer);
    let Some(Output::Dial { conn, .. }) = said.first() else { panic!("a dial: {said:?}") };
    let (conn, remote) = (*conn, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    dialler.tell(Input::Dialled { conn, remote });
    let mut greeting =
        texts(dialled.greet(DIALLER, dialler.hub.id(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9))));
    for _ in 0..2 {
        let mut answers = Vec::new();
        for text in greeting.drain(..).map(&between) {
            answers.extend(texts(dialler.tell(Input::Text { conn, text: &text })));
        }
        for text in answers.into_iter().map(&between) {
            greeting.extend(texts(dialled.tell(Input::Text { conn: ConnId(DIALLER), text: &text })));
        }
    }
    (dialler, dialled)
}

fn dialling() -> Settings {
    Settings { bootstrap_hubs: vec![String::from("ws://192.0.2.1:3000")], ..Settings::default() }
}

#[test]
fn each_hub_learns_its_url_from_the_other_unless_somebody_in_between_says_it() {
    let urls = |bench: &Bench| bench.hub.gossip.own.urls.clone();
    let (dialler, dialled) = greeted(hub(1, dialling()), hub(2, Settings::default()), |text| text);
    assert_eq!(urls(&dialled), ["ws://192.0.2.1:3000"]);
    assert_eq!(urls(&dialler), ["ws://192.0.2.9:3000"]);
    // A proxy has its own address in it; or leaves out the proof, as hubs of earlier builds do.
    let lies: [&dyn Fn(String) -> String; 2] = [&|text| text.replace("192.0.2.", "198.51.100."), &|text| {
        text.replace(r#""bound":"#, r#""unbound":"#)
    }];
    for lie in lies {
        let (dialler, dialled) = greeted(hub(1, dialling()), hub(2, Settings::default()), lie);
        assert!(urls(&dialler).is_empty() && urls(&dialled).is_empty());
        let links = [&dialler, &dialled].map(|bench| bench.hub.links.neighbours().len());
        assert_eq!(links, [1, 1], "what they prove holds");
    }
}

#[test]
fn another_hub_with_ones_own_key_proves_it() {
    let twin = |bench: &Bench| bench.hub.status(bench.now).twin;
    let (dialler, dialled) = greeted(hub(1, dialling()), hub(1, Settings::default()), |text| text);
    assert!(twin(&dialler).is_some() && twin(&dialled).is_some());
    // Somebody else knows the public key, from a record.
    let public = dialler.hub.identity.public_key().map(|byte| format!("{byte:02x}")).concat();
    let (dialler, stranger) = (hub(1, dialling()), hub(2, Settings::default()));
    let own = stranger.hub.identity.public_key().map(|byte| format!("{byte:02x}")).concat();
    let (dialler, _) = greeted(dialler, stranger, |text| text.replace(&own, &public));
    assert_eq!(twin(&dialler), None);
}

#[test]
fn whoever_has_yet_to_prove_the_mesh_key_takes_no_clients_place() {
    let mut bench = hub(2, Settings { max_connections: 2, ..Settings::default() });
    for conn in 0..20 {
        bench.greet(2 * conn + 1, Id([9; 20]), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
    }
    for conn in [101, 103] {
        assert_eq!(closes(&bench.connect(conn, peer(conn as u8))), []);
    }
    assert_eq!(closes(&bench.connect(105, peer(105))), [(105, 1008)]);
    assert_eq!(closes(&bench.greet(107, Id([8; 20]), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8)))), []);
}
