//! What a terminal gets, and what happens when nobody reads.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::fake::{Dir, command, ok, status};

/// A terminal of that many columns and rows: what is shown on it, and its other end.
fn terminal(columns: u16, rows: u16) -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("it has a size");
    let name = ptsname(&ours, Vec::new()).expect("it has a name").into_string().expect("a plain name");
    let theirs = File::options().read(true).write(true).open(name).expect("its other end");
    (ours.into(), theirs)
}

/// What the program shows on a terminal, as characters.
fn shown(dir: &Dir, size: (u16, u16), arguments: &[&str], env: &[(&str, &str)]) -> String {
    let (mut screen, theirs) = terminal(size.0, size.1);
    let mut child =
        command(dir, arguments).envs(env.iter().copied()).stdout(theirs).spawn().expect("it runs");
    let mut bytes = Vec::new();
    // A terminal that nobody writes to any more is an error.
    let _ = screen.read_to_end(&mut bytes);
    assert!(child.wait().expect("it ends").success());
    String::from_utf8(bytes).expect("UTF-8")
}

fn a_hub() -> Dir {
    let dir = Dir::new();
    let hub = |id: &str| {
        json!({ "hub_id": id.repeat(20), "own": false, "reachable": true, "link": "p2p", "distance": 1,
            "next_hop": id.repeat(20), "urls": ["ws://a.example"], "ready": true, "draining": false, "rtt_us": 1,
            "registered_at": 1, "last_activity": 1 })
    };
    let events: Vec<_> = (1..=20)
        .map(|number| json!({ "number": number, "at": 1, "event": "hubMeshReady", "fields": { "of": "鳩".repeat(50) } }))
        .collect();
    dir.hub(3001, move |request| {
        ok(&match request["cmd"].as_str() {
            Some("hubs") => json!({ "hubs": [hub("1f"), hub("2a")] }),
            Some("events") => json!({ "events": events }),
            _ => status("ready"),
        })
    });
    dir
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let dir = a_hub();
    for (env, coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let text = shown(&dir, (80, 24), &["status"], env);
        assert!(text.contains("● ") || text.contains("●\u{1b}[0m "), "{text}");
        assert_eq!(text.contains('\u{1b}'), coloured, "{env:?}: {text}");
    }
}

#[test]
fn what_is_shown_fits_a_narrow_terminal() {
    let dir = a_hub();
    let env = [("NO_COLOR", "1")];
    let text = shown(&dir, (72, 24), &["hubs"], &env);
    assert!(text.contains("\r\n1f1f1f1f  ready"), "{text}");
    assert!(
        shown(&dir, (120, 24), &["hubs"], &env).contains(&"1f".repeat(20)),
        "there is room for all of it"
    );
    let asked = [("NO_COLOR", "1"), ("COLUMNS", "72")];
    assert!(!shown(&dir, (120, 24), &["hubs"], &asked).contains(&"1f".repeat(20)), "COLUMNS counts more");
    for line in shown(&dir, (60, 24), &["status"], &env).lines().filter(|line| line.contains("hubMeshReady"))
    {
        assert!(line.trim_end().ends_with('…'), "{line}");
    }
}

#[test]
fn a_watched_status_stays_on_one_screen() {
    let dir = a_hub();
    let (screen, theirs) = terminal(40, 10);
    let mut child = command(&dir, &["status", "--watch"]).stdout(theirs).spawn().expect("it runs");
    let mut reader = BufReader::new(screen);
    let mut frame = Vec::new();
    // A frame ends with what clears the rest of the screen.
    while !frame.ends_with(b"\x1b[J") {
        reader.read_until(b'J', &mut frame).expect("a frame");
    }
    end(&mut child);
    let frame = String::from_utf8(frame).expect("UTF-8");
    let (above, frame) = frame.split_once("\u{1b}[H").expect("from the top");
    assert_eq!(above.matches('\n').count(), 10, "what was there before is kept above");
    // Seven lines of status, an empty one, and the last event.
    assert_eq!(frame.matches("\u{1b}[K").count(), 9, "{frame}");
    assert_eq!(frame.matches("hubMeshReady").count(), 1, "{frame}");
}

fn end(child: &mut Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let dir = Dir::new();
    // It never says more than once, and stays.
    let (more, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let first = std::sync::atomic::AtomicBool::new(true);
    let event = json!({ "number": 1, "at": 1, "event": "hubMeshReady", "fields": {} });
    dir.hub(3001, move |_| {
        if !first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let _ = wait.lock().expect("no panic").recv();
        }
        ok(&json!({ "events": [event] }))
    });
    let mut child = command(&dir, &["events"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("an event");
    assert!(line.contains("hubMeshReady"), "{line}");
    // As `head -1` does. Nothing will ever happen at that hub again.
    drop(out);
    assert!(child.wait().expect("it ends").success(), "that is no failure");
    drop(more);
}

#[test]
fn nobody_has_to_listen() {
    let dir = a_hub();
    for arguments in [
        &["status"][..],
        &["hubs", "--json"],
        &["ping", "zz"],
        &["fly"],
        &["--help"],
        &["version"],
        &["check"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let both = (writer.try_clone().expect("a copy"), writer);
        let mut child = command(&dir, arguments).stdout(both.0).stderr(both.1).spawn().expect("it runs");
        let code = child.wait().expect("it ends").code();
        assert!(matches!(code, Some(0..=8)), "{arguments:?} ends with {code:?}: a panic is 101");
    }
    // A full disk is another matter.
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = command(&dir, &["hubs"]).stdout(full).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("cannot write") && !told.contains(&ErrorKind::BrokenPipe.to_string()), "{told}");
}
