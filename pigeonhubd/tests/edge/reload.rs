//! New configurations for a running hub.

use std::sync::Arc;

use nix::sys::signal::Signal;
use pigeonhub_proto::config::Config;
use pigeonhub_proto::control::{Answer, ControlErrorCode, ReloadReport};
use pigeonhubd::daemon::{Daemon, Origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;

use crate::control::Caller;
use crate::daemon::{around, free_port, join, program, signal, told, wait_for};
use crate::ground::{Folder, close_of, send};

/// A hub whose configuration is a file in its folder.
struct Hub {
    folder: Folder,
    daemon: Daemon,
}

impl Hub {
    fn new() -> Self {
        let folder = Folder::new();
        let head = format!(
            "runtime_dir = \"{0}\"\nstate_dir = \"{0}/state\"\nbootstrap.hubs = []\n",
            folder.path().display()
        );
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, "").unwrap();
        let load = move || {
            let mut config = Config::default();
            config.apply_file("head.toml", &head)?;
            config.apply_file("hub.toml", &std::fs::read_to_string(&file).unwrap())?;
            let mut config = config.checked()?;
            config.listen.host = "127.0.0.1".parse().unwrap();
            // A free port: no configuration may say so.
            if config.listen.port == 3000 {
                config.listen.port = 0;
            }
            Ok(config)
        };
        let config = load().unwrap();
        let origin = Origin { load: Some(Arc::new(load)), ..Origin::default() };
        let daemon = Daemon::start_from(&config, &around(&folder), origin).unwrap();
        Self { folder, daemon }
    }

    fn write(&self, toml: &str) {
        std::fs::write(self.folder.path().join("hub.toml"), toml).unwrap();
    }

    async fn reload(&self, dry_run: bool) -> Result<ReloadReport, (ControlErrorCode, String)> {
        let request = format!("{{\"v\":1,\"cmd\":\"reload\",\"dry_run\":{dry_run}}}");
        let response = Caller::new(self.folder.path()).await.ask(&request).await;
        match response.ok {
            Some(Answer::Reload(report)) => Ok(report),
            Some(other) => panic!("a report was expected, not {other:?}"),
            None => Err((response.code.unwrap(), response.error.unwrap())),
        }
    }

    /// The origin that pages allow, which is a part of the configuration that shows.
    async fn cors_origin(&self) -> String {
        let mut tcp = TcpStream::connect(self.daemon.addresses()[0]).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        let header = answer.to_lowercase().split("access-control-allow-origin: ").nth(1).unwrap().to_owned();
        header.lines().next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_changed_is_told_and_in_force_and_clients_stay() {
    let hub = Hub::new();
    let address = hub.daemon.addresses()[0];
    let mut client = join(address, "a").await;
    assert_eq!(hub.reload(false).await.unwrap(), ReloadReport::default());
    hub.write(
        "[listen]\nport = 3999\ncors_origin = \"https://a.example\"\nmax_connections = 1\nmax_message_size = 2048\n\
         [log]\nlevel = \"warn\"\n",
    );
    let dry = hub.reload(true).await.unwrap();
    let rows: Vec<_> =
        dry.changed.iter().map(|c| (c.key.as_str(), c.new.as_str(), c.needs_restart)).collect();
    assert_eq!(
        rows,
        [
            ("listen.port", "3999", true),
            ("listen.max_connections", "1", false),
            ("listen.max_message_size", "\"2KiB\"", false),
            ("listen.cors_origin", "\"https://a.example\"", false),
            ("log.level", "\"warn\"", false),
        ]
    );
    assert_eq!(hub.cors_origin().await, "*", "a dry run changes nothing");
    assert_eq!(hub.reload(false).await.unwrap(), dry);
    assert_eq!(hub.cors_origin().await, "https://a.example");
    let left = hub.reload(true).await.unwrap();
    assert_eq!(left.changed.len(), 1, "what needs a restart still does: {left:?}");

    send(&mut client, "x".repeat(4096)).await.unwrap();
    let url = |digit: &str| format!("ws://{address}/?peerId={}", digit.repeat(40));
    let (mut second, _) = connect_async(url("b")).await.unwrap();
    assert_eq!(close_of(&mut second).await.0, 1008, "one connection is the limit now");
    hub.write("listen.max_message_size = 2048\n");
    hub.reload(false).await.unwrap();
    let mut third = join(address, "c").await;
    send(&mut third, "x".repeat(4096)).await.unwrap();
    assert_eq!(close_of(&mut third).await.0, 1009, "a new connection has the new limit");
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing() {
    let hub = Hub::new();
    hub.write("[listen]\ncors_origin = \"https://a.example\"\nmax_connections = 0\n");
    for dry_run in [true, false] {
        let (code, text) = hub.reload(dry_run).await.unwrap_err();
        assert_eq!(code, ControlErrorCode::ConfigRejected);
        assert!(text.starts_with("hub.toml:3:19: listen.max_connections = 0: out of range"), "{text}");
        assert!(text.contains("\n    max_connections = 0\n"), "{text}");
    }
    assert_eq!(hub.cors_origin().await, "*");
    hub.write("mesh.key_file = \"/nowhere/mesh.key\"\nlisten.cors_origin = \"null\"\n");
    let (code, text) = hub.reload(false).await.unwrap_err();
    assert!(code == ControlErrorCode::ConfigRejected && text.contains("/nowhere/mesh.key"), "{text}");
    assert_eq!(hub.cors_origin().await, "*");
    hub.write("");
    assert_eq!(hub.reload(false).await.unwrap(), ReloadReport::default());
    // Each is among the events, but for the dry run.
    let asked = r#"{"v":1,"cmd":"events","types":["configReloaded","configRejected"]}"#;
    let told = Caller::new(hub.folder.path()).await.ask(asked).await.ok;
    let Some(Answer::Events(told)) = told else { panic!("events were expected, not {told:?}") };
    let told: Vec<_> = told.iter().map(|event| (event.event.as_str(), &event.fields)).collect();
    let [("configRejected", first), ("configRejected", second), ("configReloaded", third)] = &told[..] else {
        panic!("two refusals and a reload, not {told:?}")
    };
    assert!(
        first["reason"].as_str().is_some_and(|reason| reason.starts_with("hub.toml:3:19: ")),
        "{first:?}"
    );
    assert!(!first["reason"].as_str().is_some_and(|reason| reason.contains('\n')), "{first:?}");
    assert!(
        second["reason"].as_str().is_some_and(|reason| reason.contains("/nowhere/mesh.key")),
        "{second:?}"
    );
    assert_eq!(third["changes"], "nothing changed");
}

#[tokio::test]
async fn what_is_refused_or_waits_is_told_until_it_is_mended() {
    let hub = Hub::new();
    let on_disk =
        async || match Caller::new(hub.folder.path()).await.ask("{\"v\":1,\"cmd\":\"status\"}").await.ok {
            Some(Answer::Status(status)) => status.on_disk,
            other => panic!("a status was expected, not {other:?}"),
        };
    let figures =
        async || match Caller::new(hub.folder.path()).await.ask("{\"v\":1,\"cmd\":\"metrics\"}").await.ok {
            Some(Answer::Metrics(text)) => text,
            other => panic!("figures were expected, not {other:?}"),
        };
    assert_eq!(on_disk().await, None);
    let tokens = hub.folder.path().join("tokens");
    std::fs::write(&tokens, "0123456789abcdef # of the app\n").unwrap();
    std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    hub.write(&format!("auth.token_file = \"{}\"\n", tokens.display()));
    hub.reload(false).await.expect_err("refused");
    let fault = on_disk().await.and_then(|it| it.fault).expect("it is told");
    assert!(fault.contains("auth.token_file") && fault.contains("line 1"), "{fault}");
    assert!(figures().await.contains("\npigeonhubd_configuration_faulty 1\n"));
    // Mended, and not asked to reload yet.
    std::fs::write(&tokens, "0123456789abcdef\n").unwrap();
    hub.reload(true).await.expect("it can be used");
    let waiting = on_disk().await.expect("it waits");
    assert_eq!((waiting.fault, waiting.restart.len()), (None, 0));
    assert_eq!(waiting.reload, ["auth.token_file"]);
    hub.reload(false).await.expect("applied");
    assert_eq!(on_disk().await, None);
    hub.write(&format!("auth.token_file = \"{}\"\n[mesh]\nnamespace = \"b\"\n", tokens.display()));
    hub.reload(false).await.expect("applied");
    assert_eq!(on_disk().await.expect("it waits").restart, ["mesh.namespace"]);
    assert!(figures().await.contains("\npigeonhubd_configuration_waiting{for=\"restart\"} 1\n"));
}

#[tokio::test]
async fn a_new_mesh_key_is_taken_and_a_missing_one_is_not_made() {
    let hub = Hub::new();
    let key = hub.folder.path().join(".local/state/pigeonhubd/mesh.key");
    std::fs::rename(&key, hub.folder.path().join("before")).unwrap();
    assert_eq!(hub.reload(false).await.unwrap(), ReloadReport::default());
    assert!(!key.exists(), "a new key would part the mesh");
    let other = hub.folder.path().join("other.key");
    std::fs::write(&other, "another key of more than 16 bytes").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    hub.write(&format!("mesh.key_file = \"{}\"\n", other.display()));
    let report = hub.reload(false).await.unwrap();
    assert!(report.mesh_key_changed, "{report:?}");
    assert!(!hub.reload(false).await.unwrap().mesh_key_changed);
}

#[tokio::test]
async fn sighup_reloads_the_program() {
    let (folder, port) = (Folder::new(), free_port());
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, "").unwrap();
    let mut child = program(&folder, port, &["--config", file.to_str().unwrap()]).spawn().unwrap();
    let address = wait_for(port, &mut child).await.peer_addr().unwrap();
    let mut client = join(address, "a").await;
    let mut follower = Caller::new(&folder.path().join("run")).await;
    std::fs::write(&file, "mesh.max_peer = 4\n").unwrap();
    signal(&child, Signal::SIGHUP);
    std::fs::write(&file, "mesh.max_peers = 4\n").unwrap();
    loop {
        signal(&child, Signal::SIGHUP);
        let shown = follower.ask(r#"{"v":1,"cmd":"config"}"#).await;
        let shown = serde_json::to_string(&shown).unwrap();
        if shown.contains(r#"{"key":"mesh.max_peers","value":"4""#) {
            break;
        }
    }
    // What is in force is told a moment later, and before the next one begins.
    follower.ask(r#"{"v":1,"cmd":"reload"}"#).await;
    signal(&child, Signal::SIGTERM);
    assert_eq!(close_of(&mut client).await.0, 1001, "the client stayed");
    drop(client);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let log = told(&output);
    assert!(log.contains("configReloaded: mesh.max_peers = 4, was 3"), "{log}");
    assert!(!log.contains("MESSAGE_ID") && !log.contains("PIGEONHUB_"), "{log}");
}
