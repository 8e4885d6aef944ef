//! The control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pigeonhub_proto::control::ControlResponse;
use pigeonhubd::control::{ControlError, MAX_CALLERS, MAX_LINE, SOCKET_NAME, bind, serve};
use pigeonhubd::edge::{Edge, Intake};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::ground::{Folder, answer, desk};

/// Serves in `folder` until it is dropped.
fn start(folder: &Path) -> JoinSet<()> {
    let (edge, Intake { mut queries, .. }) = Edge::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(bind(folder).unwrap(), desk(edge), || Err(String::from("not again"))));
    tasks.spawn(async move {
        while let Some(query) = queries.recv().await {
            let _ = query.reply.send(Ok(answer(&query.command)));
        }
    });
    tasks
}

pub(crate) struct Caller(BufReader<UnixStream>);

impl Caller {
    pub(crate) async fn new(folder: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(folder.join(SOCKET_NAME)).await.unwrap()))
    }

    async fn say(&mut self, line: &[u8]) {
        self.0.write_all(line).await.unwrap();
    }

    /// The next line, which must be a whole response.
    pub(crate) async fn hear(&mut self) -> ControlResponse {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        assert!(line.ends_with('\n'), "{line}");
        let response: ControlResponse = serde_json::from_str(&line).unwrap();
        assert!(response.v == 1 && response.ok.is_some() != response.error.is_some(), "{line}");
        response
    }

    pub(crate) async fn ask(&mut self, line: &str) -> ControlResponse {
        self.say(format!("{line}\n").as_bytes()).await;
        self.hear().await
    }

    async fn fault(&mut self, line: &str) -> String {
        self.ask(line).await.error.unwrap()
    }
}

pub(crate) fn value(response: ControlResponse) -> Value {
    serde_json::to_value(response.ok.unwrap()).unwrap()
}

#[tokio::test]
async fn every_question_has_one_line_for_an_answer() {
    let folder = Folder::new();
    let _serving = start(folder.path());
    let mut caller = Caller::new(folder.path()).await;
    let status = caller.ask(r#"{"v":1,"id":7,"cmd":"status"}"#).await;
    assert_eq!(status.id, 7);
    let status = &value(status)["status"];
    assert_eq!((&status["state"], &status["p2p_links"]), (&json!("ready"), &json!(2)));
    let hubs = value(caller.ask(r#"{"v":1,"cmd":"hubs"}"#).await);
    assert_eq!(hubs["hubs"].as_array().unwrap().len(), 2);
    let peers = value(caller.ask(r#"{"v":1,"cmd":"peers"}"#).await);
    assert_eq!(peers["peers"][0]["network"], "line\nbreak");
    let peers = value(caller.ask(r#"{"v":1,"cmd":"peers","network":"chat"}"#).await);
    assert_eq!(peers["peers"][0]["network"], "chat");

    caller.say(b"{\"v\":1,\"id\":1,\"cmd\":\"hubs\"}\n{\"v\":1,\"id\":2,\"cmd\":\"hubs\"}\r\n").await;
    assert_eq!((caller.hear().await.id, caller.hear().await.id), (1, 2), "two at once, in order");
    caller.say(br#"{"v":1,"id":3,"cmd":"status"}"#).await;
    caller.0.get_mut().shutdown().await.unwrap();
    assert_eq!(caller.hear().await.id, 3, "the last line needs no end");
    assert_eq!(caller.0.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn faults_are_named_and_the_caller_may_go_on() {
    let folder = Folder::new();
    let _serving = start(folder.path());
    let mut caller = Caller::new(folder.path()).await;
    let deep = "[".repeat(10_000);
    let table = [
        ("", "one JSON object on one line"),
        ("status", "one JSON object on one line"),
        ("\u{0}\u{1b}[31m", "one JSON object on one line"),
        (&deep, "one JSON object on one line"),
        ("[1]", "a request is a JSON object"),
        (r#"{"cmd":"status"}"#, "version 1"),
        (r#"{"v":2,"cmd":"status"}"#, "version 1"),
        (r#"{"v":"1","cmd":"status"}"#, "version 1"),
        (r#"{"v":1}"#, "\"cmd\" is missing"),
        (r#"{"v":1,"cmd":"reboot"}"#, "unknown variant `reboot`, expected"),
        (r#"{"v":1,"cmd":5}"#, "not a string"),
        (r#"{"v":1,"id":-1,"cmd":"status"}"#, "id"),
        (r#"{"v":1,"cmd":"peers","network":5}"#, "expected a string"),
    ];
    for (line, told) in table {
        let fault = caller.fault(line).await;
        assert!(fault.contains(told), "{line}: {fault}");
    }
    caller.say(b"\xff\xfe\n").await;
    assert!(caller.hear().await.error.unwrap().contains("one JSON object"));
    assert_eq!(caller.ask(r#"{"v":1,"id":9,"cmd":"nonsense"}"#).await.id, 9, "the id comes back");
    assert!(caller.ask(r#"{"v":1,"cmd":"status"}"#).await.ok.is_some());
}

#[tokio::test]
async fn a_line_has_a_limit() {
    let folder = Folder::new();
    let _serving = start(folder.path());
    let request = r#"{"v":1,"cmd":"status"}"#;
    let longest = format!("{request}{}", " ".repeat(MAX_LINE - request.len()));
    let mut caller = Caller::new(folder.path()).await;
    assert!(caller.ask(&longest).await.ok.is_some());
    let fault = caller.fault(&format!("{longest} ")).await;
    assert_eq!(fault, format!("a request is at most {MAX_LINE} bytes long"));
    assert_eq!(caller.0.read(&mut [0]).await.unwrap_or(0), 0, "and it hangs up");
    assert!(Caller::new(folder.path()).await.ask(request).await.ok.is_some());
}

#[tokio::test]
async fn one_caller_too_many_is_told_so() {
    let folder = Folder::new();
    let _serving = start(folder.path());
    let mut callers = Vec::new();
    for _ in 0..MAX_CALLERS {
        let mut caller = Caller::new(folder.path()).await;
        assert!(caller.ask(r#"{"v":1,"cmd":"status"}"#).await.ok.is_some());
        callers.push(caller);
    }
    let mut ninth = Caller::new(folder.path()).await;
    assert!(ninth.hear().await.error.unwrap().contains("8 callers"));
    assert_eq!(ninth.0.read(&mut [0]).await.unwrap(), 0);
    callers.pop();
    // As soon as the hub has noticed, there is a place again.
    while Caller::new(folder.path()).await.ask(r#"{"v":1,"cmd":"status"}"#).await.ok.is_none() {}
}

#[tokio::test]
async fn a_silent_caller_is_hung_up_on() {
    let folder = Folder::new();
    let _serving = start(folder.path());
    let mut caller = Caller::new(folder.path()).await;
    caller.say(br#"{"v":1,"#).await;
    assert_eq!(caller.hear().await.error.unwrap(), "no request within 10 s");
    assert_eq!(caller.0.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_driver_may_be_gone() {
    let folder = Folder::new();
    let (edge, intake) = Edge::new();
    drop(intake);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(bind(folder.path()).unwrap(), desk(edge), || Err(String::from("not again"))));
    let mut caller = Caller::new(folder.path()).await;
    assert_eq!(caller.fault(r#"{"v":1,"cmd":"status"}"#).await, "the hub is shutting down");
}

#[tokio::test]
async fn only_a_dead_hubs_socket_is_replaced() {
    let folder = Folder::new();
    let path = folder.path().join(SOCKET_NAME);
    // The file of a socket stays when nobody removes it.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let live = bind(folder.path()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let error = bind(folder.path()).err().unwrap();
    assert!(matches!(error, ControlError::Taken { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(live);
    assert!(!path.exists(), "an orderly end removes it");

    std::fs::write(&path, "precious").unwrap();
    let error = bind(folder.path()).err().unwrap();
    assert!(matches!(error, ControlError::NoSocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let error = bind(&folder.path().join("missing")).err().unwrap().to_string();
    assert!(error.starts_with("cannot listen on the control socket "), "{error}");
}
