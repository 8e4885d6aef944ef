//! Commands over the control socket of a whole hub.

use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Answer, ControlErrorCode, ControlResponse, EventInfo};
use pigeonhubd::control::MAX_FOLLOWERS;
use pigeonhubd::daemon::Daemon;
use serde_json::json;
use tokio_tungstenite::connect_async;

use crate::control::{Caller, value};
use crate::daemon::{around, join};
use crate::ground::{Folder, close_of};

fn start(folder: &Folder) -> Daemon {
    let path = folder.path().display();
    let mut config = Config::default();
    let toml = format!(
        "runtime_dir = \"{path}\"\nstate_dir = \"{path}/state\"\nlisten.drain_timeout = \"0s\"\nbootstrap.hubs = []\n"
    );
    config.apply_file("test.toml", &toml).unwrap();
    (config.listen.host, config.listen.port) = ("127.0.0.1".parse().unwrap(), 0);
    Daemon::start(&config, &around(folder)).unwrap()
}

async fn ask(folder: &Folder, command: &str) -> ControlResponse {
    Caller::new(folder.path()).await.ask(&format!("{{\"v\":1,{command}}}")).await
}

async fn refused(folder: &Folder, command: &str) -> (Option<ControlErrorCode>, String) {
    let response = ask(folder, command).await;
    (response.code, response.error.unwrap())
}

fn events(response: ControlResponse) -> Vec<EventInfo> {
    match response.ok {
        Some(Answer::Events(events)) => events,
        other => panic!("events were expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_is_looked_at_and_disconnected() {
    let folder = Folder::new();
    let daemon = start(&folder);
    let own = daemon.hub_id().to_string();
    let mut client = join(daemon.addresses()[0], "a").await;
    // The announce may still be on its way. The beginning is longer than chance would have the hub's own id share.
    while ask(&folder, r#""cmd":"peer","target":"AAAAAAAAAA""#).await.ok.is_none() {}
    let peer = value(ask(&folder, r#""cmd":"peer","target":"aaaaaaaaaa""#).await);
    assert_eq!((&peer["peers"][0]["network"], &peer["peers"][0]["local"]), (&json!("global"), &json!(true)));
    let route = value(ask(&folder, r#""cmd":"route","target":"aaaaaaaaaa""#).await);
    assert_eq!((&route["route"]["hub_id"], &route["route"]["path"]), (&json!(own), &json!([own])));
    for id in ["aaaaaaaaaa", &own] {
        let trace = value(ask(&folder, &format!(r#""cmd":"trace","target":"{id}""#)).await);
        assert_eq!((&trace["trace"][0]["hub_id"], &trace["trace"][0]["last"]), (&json!(own), &json!(true)));
    }
    for command in ["peer", "route", "trace", "disconnect"] {
        let (code, text) =
            refused(&folder, &format!(r#""cmd":"{command}","target":"{}""#, "0".repeat(40))).await;
        assert_eq!(code, Some(ControlErrorCode::NotFound), "{text}");
    }
    let (code, text) = refused(&folder, &format!(r#""cmd":"disconnect","target":"{own}""#)).await;
    assert!(code == Some(ControlErrorCode::NotFound) && text.contains("is a hub, not a peer"), "{text}");
    let done = value(ask(&folder, r#""cmd":"disconnect","target":"aaaaaaaaaa""#).await);
    assert_eq!(done["done"], format!("disconnected {}", "a".repeat(40)));
    assert_eq!(close_of(&mut client).await.0, 1008);
}

#[tokio::test]
async fn a_drained_hub_comes_back() {
    let folder = Folder::new();
    let daemon = start(&folder);
    let address = daemon.addresses()[0];
    let mut client = join(address, "a").await;
    let told = value(ask(&folder, r#""cmd":"drain""#).await);
    assert!(told["done"].as_str().unwrap().starts_with("draining: "), "{told}");
    assert_eq!(close_of(&mut client).await.0, 1001);
    assert_eq!(value(ask(&folder, r#""cmd":"status""#).await)["status"]["state"], "draining");
    let again = value(ask(&folder, r#""cmd":"drain""#).await);
    assert_eq!(again["done"], "draining already: 0 announced clients are left");
    let (mut late, _) = connect_async(format!("ws://{address}/?peerId={}", "b".repeat(40))).await.unwrap();
    assert_eq!(close_of(&mut late).await.0, 1001);
    assert!(ask(&folder, r#""cmd":"undrain""#).await.ok.is_some());
    let again = value(ask(&folder, r#""cmd":"undrain""#).await);
    assert_eq!(again["done"], "was not draining: nothing changed");
    let _back = join(address, "a").await;
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn the_configuration_is_shown_with_its_origins() {
    let folder = Folder::new();
    let _daemon = start(&folder);
    let values = value(ask(&folder, r#""cmd":"config""#).await);
    let of = |key: &str| {
        let all = values["config"].as_array().unwrap().iter();
        all.clone().find(|value| value["key"] == key).unwrap().clone()
    };
    assert_eq!(of("mesh.max_peers"), json!({"key": "mesh.max_peers", "value": "3", "origin": "default"}));
    assert_eq!(of("listen.drain_timeout")["origin"], "test.toml:3");
}

#[tokio::test]
async fn events_are_kept_and_followed() {
    let folder = Folder::new();
    let daemon = start(&folder);
    let follow = r#"{"v":1,"id":5,"cmd":"events","follow":true,"types":["peerConnected"]}"#;
    let mut follower = Caller::new(folder.path()).await;
    assert!(events(follower.ask(follow).await).is_empty());
    let _a = join(daemon.addresses()[0], "a").await;
    let _b = join(daemon.addresses()[0], "b").await;
    for digit in ["a", "b"] {
        let response = follower.hear().await;
        assert_eq!(response.id, 5);
        let [event] = &events(response)[..] else { panic!("one event each") };
        assert_eq!(
            (event.event.as_str(), &event.fields["peerId"]),
            ("peerConnected", &json!(digit.repeat(40)))
        );
    }
    let all = events(ask(&folder, r#""cmd":"events""#).await);
    let numbers: Vec<u64> = all.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    let since = format!(r#""cmd":"events","since":{},"types":["PEERCONNECTED"]"#, numbers.len());
    assert!(events(ask(&folder, &since).await).is_empty());

    let mut followers = vec![follower];
    while followers.len() < MAX_FOLLOWERS {
        let mut follower = Caller::new(folder.path()).await;
        follower.ask(follow).await;
        followers.push(follower);
    }
    let one_more = Caller::new(folder.path()).await.ask(follow).await;
    assert_eq!(one_more.code, Some(ControlErrorCode::Busy));
    followers.clear();
    // As soon as the hub has noticed, there is a place again.
    while Caller::new(folder.path()).await.ask(follow).await.ok.is_none() {}
}

#[tokio::test]
async fn a_log_level_is_one() {
    let folder = Folder::new();
    let _daemon = start(&folder);
    let told = value(ask(&folder, r#""cmd":"log-level","level":"debug","seconds":600"#).await);
    assert_eq!(told["done"], "the log level is debug for 10m, then info again");
    let (code, text) = refused(&folder, r#""cmd":"log-level","level":"=loud=""#).await;
    assert!(code == Some(ControlErrorCode::BadRequest) && text.contains("one of error, warn"), "{text}");
    // What was done is among the events, and what was refused is not.
    let told = events(ask(&folder, r#""cmd":"events","types":["controlCommand"]"#).await);
    let [command] = &told[..] else { panic!("one command, not {told:?}") };
    let uid = nix::unistd::geteuid().as_raw();
    let expected = json!({"command": "log-level", "level": "debug", "seconds": 600, "uid": uid});
    assert_eq!(serde_json::Value::from(command.fields.clone()), expected);
}
