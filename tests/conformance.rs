//! The Autobahn cases for WebSocket servers, by kosoku, against the code that
//! serves clients. In the hub's place is an echo.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pigeonhub_proto::io::ConnId;
use pigeonhubd::admission::Admission;
use pigeonhubd::edge::{Edge, EdgeEvent, Intake};
use pigeonhubd::http::{Cors, MAX_AGE, Pages, Site};
use pigeonhubd::listener::{self, Live};
use pigeonhubd::outbox::{Item, Outbox};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::harness::{Ground, Need, skipped, tool};

/// The largest message of any case is 16 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Cases of version 0.1.0 that do not need compression, which this server has none of.
const CASES: usize = 301;

/// What a case may end with; `NON-STRICT` and `INFORMATIONAL` are the suite's own leave to differ.
const PASSED: [&str; 3] = ["OK", "NON-STRICT", "INFORMATIONAL"];

/// Sends back whatever comes, as the hub sends: through the outbox.
async fn echo(mut events: mpsc::Receiver<EdgeEvent>) {
    let mut outboxes: HashMap<ConnId, Arc<Outbox>> = HashMap::new();
    let send = |outboxes: &HashMap<ConnId, Arc<Outbox>>, conn, item| {
        if let Some(outbox) = outboxes.get(&conn)
            && let Err(full) = outbox.push(item)
        {
            outbox.abort(1008, full.to_string());
        }
    };
    while let Some(event) = events.recv().await {
        match event {
            EdgeEvent::Accepted { conn, outbox, .. } => {
                outbox.read();
                outboxes.insert(conn, outbox);
            }
            EdgeEvent::Texts { conn, texts, .. } => {
                texts.iter().for_each(|text| send(&outboxes, conn, Item::Text(text.to_string())));
            }
            EdgeEvent::Binary { conn, bytes, .. } => send(&outboxes, conn, Item::Binary(bytes)),
            EdgeEvent::Closed { conn, .. } => {
                outboxes.remove(&conn);
            }
            EdgeEvent::Pong { .. }
            | EdgeEvent::Alive { .. }
            | EdgeEvent::Dialled { .. }
            | EdgeEvent::DialFailed { .. } => {}
        }
    }
}

fn site(edge: Edge) -> Site {
    Site {
        edge,
        cors: Cors::new("*"),
        hub_enabled: true,
        namespace: String::from("conformance"),
        max_message_size: MAX_MESSAGE,
        tls: None,
        keep_alive: Duration::from_secs(75),
        max_age: MAX_AGE,
        admission: Admission::default(),
        pages: Pages::Public,
    }
}

#[test]
fn every_case_without_compression_passes() {
    if skipped(&[Need::Kosoku]) {
        return;
    }
    let ground = Ground::new();
    let reports = ground.folder().join("reports");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (edge, Intake { events, queries: _queries }) = Edge::new();
    let (stop, stopping) = watch::channel(false);
    let address = runtime.block_on(async {
        let listeners = listener::bind(&[[127, 0, 0, 1].into()], ground.port()).expect("a free port");
        let address = listeners.first().expect("one").local_addr().expect("bound");
        let live = Live { site: Arc::new(site(edge)), max_connections: 100 };
        tokio::spawn(listener::serve(listeners, watch::channel(live).1, stopping));
        tokio::spawn(echo(events));
        address
    });
    let run = Command::new(tool("kosoku"))
        .args(["--parallelism", "8", "--exclude", "12.*", "--exclude", "13.*", "--outdir"])
        .arg(&reports)
        .arg(address.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("kosoku runs");
    let _ = stop.send(true);
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let index =
        fs::read(reports.join("index.json")).unwrap_or_else(|error| panic!("no report, {error}: {said}"));
    let index: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&index).expect("a report");
    let cases: Vec<(&String, &Value)> = index.values().flatten().collect();
    let passed = |verdict: &Value| verdict.as_str().is_some_and(|verdict| PASSED.contains(&verdict));
    let failed: Vec<_> = cases
        .iter()
        .filter(|(_, case)| !passed(&case["behavior"]) || !passed(&case["behaviorClose"]))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(cases.len(), CASES, "cases that were run");
    assert!(run.status.success(), "{said}");
    println!("{}: {} cases", thread::current().name().unwrap_or_default(), cases.len());
}
