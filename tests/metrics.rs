//! The figures, read by a real Prometheus.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Ground, Hub, Need, Plan, Process, Raw, skipped, tied, until_ok};

const NETWORK: &str = "pigeons";

/// What a GET is answered with on a port of 127.0.0.1: head and body.
pub(crate) fn get(port: u16, path: &str, headers: &str) -> Result<(String, String), String> {
    let read = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = read().map_err(|error: std::io::Error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
    Ok((head.to_lowercase(), body.to_owned()))
}

/// The value of one sample of a text.
fn sample(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Two hubs with a link, and a signal that went from one to the other.
struct Scene {
    first: Hub,
    monitoring: u16,
    _second: Hub,
    _peers: [Raw; 2],
}

impl Scene {
    fn new(ground: &Ground) -> Self {
        let monitoring = ground.port();
        let config = format!("[metrics]\nlisten = \"127.0.0.1:{monitoring}\"\n");
        let first = Plan::first().config(&config).start(ground);
        let second = Plan::through([first.url().as_str()]).start(ground);
        first.wait_ready(1);
        second.wait_ready(1);
        let (a, b) = ("a1".repeat(20), "b2".repeat(20));
        let (mut here, mut there) = (Raw::join(&first, &a, NETWORK), Raw::join(&second, &b, NETWORK));
        here.wait_type("peer-discovered");
        here.offer(&b, NETWORK, &json!({"sdp": "v=0"}));
        there.wait_type("offer");
        let acknowledged = "pigeonhubd_signals_total{outcome=\"acknowledged\"}";
        until_ok("the signal is acknowledged", || match sample(&first.metrics(), acknowledged) {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        Self { first, monitoring, _second: second, _peers: [here, there] }
    }
}

#[test]
fn the_figures_tell_what_happened() {
    let ground = Ground::new();
    let scene = Scene::new(&ground);
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (head, text) = get(scene.monitoring, "/metrics", accept).expect("an answer");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    for (series, value) in [
        ("pigeonhubd_sessions", 1.0),
        ("pigeonhubd_announces_total", 1.0),
        ("pigeonhubd_peers{home=\"local\"}", 1.0),
        ("pigeonhubd_peers{home=\"remote\"}", 1.0),
        ("pigeonhubd_signals_total{outcome=\"relayed\"}", 1.0),
        ("pigeonhubd_relay_hops_bucket{le=\"1.0\"}", 1.0),
        ("pigeonhubd_relay_delivery_seconds_count", 1.0),
        ("pigeonhubd_mesh_state{state=\"ready\"}", 1.0),
        ("pigeonhubd_hubs_reachable", 1.0),
        ("pigeonhubd_links{transport=\"p2p\"}", 1.0),
        ("pigeonhubd_links_opened_total{transport=\"p2p\"}", 1.0),
        ("pigeonhubd_channel_attempts_total{outcome=\"linked\"}", 1.0),
        ("pigeonhubd_signals_undelivered_total{reason=\"unknown-peer\"}", 0.0),
    ] {
        assert_eq!(sample(&text, series), Some(value), "{series} in\n{text}");
    }
    for series in ["pigeonhubd_messages_total{kind=\"mesh\",direction=\"in\"}", "process_open_fds"] {
        assert!(sample(&text, series).is_some_and(|value| value > 0.0), "{series} in\n{text}");
    }
    let id = scene.first.status().hub_id.to_string();
    assert!(!text.contains(&id) && !text.contains(&"a1".repeat(20)) && !text.contains(NETWORK), "{text}");
    for page in ["/readyz", "/meshz"] {
        let (head, body) = get(scene.monitoring, page, "").expect("an answer");
        assert!(head.starts_with("http/1.1 200") && body.starts_with("ready: "), "{head}\n{body}");
    }
    let (head, _) = get(scene.first.port, "/livez", "").expect("an answer");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, body) = get(scene.first.port, "/metrics", "").expect("an answer");
    assert!(head.starts_with("http/1.1 404") && body.contains("metrics.public"), "{head}\n{body}");
}

#[test]
fn a_hub_that_waits_for_others_is_alive_and_serves() {
    let ground = Ground::new();
    // Somebody who accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("ws://{}", silent.local_addr().expect("an address"));
    let hub = Plan::through([silent.as_str()])
        .config("[metrics]\nlisten = \"off\"\npublic = true\n")
        .start(&ground);
    let (head, body) = get(hub.port, "/meshz", "").expect("an answer");
    assert!(head.starts_with("http/1.1 503") && body.starts_with("joining: "), "{head}\n{body}");
    let (head, body) = get(hub.port, "/readyz", "").expect("an answer");
    assert!(head.starts_with("http/1.1 200") && body.starts_with("ready: "), "{head}\n{body}");
    let (head, _) = get(hub.port, "/livez", "").expect("an answer");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let (head, text) = get(hub.port, "/metrics", "").expect("an answer");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(sample(&text, "pigeonhubd_mesh_state{state=\"joining\"}"), Some(1.0), "{text}");
    assert_eq!(sample(&text, "pigeonhubd_serving"), Some(1.0), "{text}");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if skipped(&[Need::Prometheus]) {
        return;
    }
    let ground = Ground::new();
    let scene = Scene::new(&ground);
    let (_, text) = get(scene.monitoring, "/metrics", "").expect("an answer");
    promtool_is_silent(&text);
    let (status, text, _) = crate::control::steer(&scene.first, &["metrics"]);
    assert_eq!(status, 0);
    promtool_is_silent(&text);
}

fn promtool_is_silent(text: &str) {
    let mut promtool = Command::new("promtool");
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut child = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_scrapes_a_hub() {
    if skipped(&[Need::Prometheus]) {
        return;
    }
    let ground = Ground::new();
    let scene = Scene::new(&ground);
    let port = ground.port();
    let config = ground.folder().join("prometheus.yml");
    let target = scene.monitoring;
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: hub\n    static_configs: [{{targets: \
         [\"127.0.0.1:{target}\"]}}]\n"
    );
    std::fs::write(&config, text).expect("a configuration file");
    let mut command = tied("prometheus");
    command.arg("--config.file").arg(config).arg("--storage.tsdb.path").arg(ground.folder().join("tsdb"));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _prometheus = Process::start("prometheus", &mut command);
    let ask = |path: &str| -> Result<Value, String> {
        let (head, body) = get(port, path, "")?;
        // Its answers may come in chunks, each with its length on a line; the JSON is one line.
        let json = body.lines().find(|line| line.starts_with('{')).ok_or(format!("{head}\n{body}"))?;
        serde_json::from_str(json).map_err(|error| format!("{error}: {json}"))
    };
    let value = |query: &str| {
        let answer = ask(&format!("/api/v1/query?query={query}"))?;
        let value = answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        value.ok_or_else(|| answer.to_string())
    };
    until_ok("Prometheus has scraped the hub", || value("up%7Bjob%3D%22hub%22%7D==1"));
    for (query, expected) in [
        ("pigeonhubd_signals_total%7Boutcome%3D%22acknowledged%22%7D", "1"),
        ("pigeonhubd_relay_delivery_seconds_count", "1"),
        ("pigeonhubd_mesh_state%7Bstate%3D%22ready%22%7D", "1"),
        ("histogram_quantile(1,pigeonhubd_relay_hops_bucket)", "1"),
    ] {
        assert_eq!(until_ok(query, || value(query)), expected, "{query}");
    }
    // It read OpenMetrics, in which units are told.
    let metadata =
        until_ok("metadata", || ask("/api/v1/targets/metadata?metric=pigeonhubd_link_round_trip_seconds"));
    let told = &metadata["data"][0];
    assert_eq!((&told["type"], &told["unit"]), (&json!("histogram"), &json!("seconds")), "{metadata}");
}
