//! Commands that take more than one question, or time.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pigeonhub_proto::control::{Answer, Command, ControlErrorCode, EventInfo, ProbeHop, Status};
use pigeonhub_proto::event::{KEPT, Kind};
use serde_json::json;

use crate::call::{self, Call};
use crate::cli::{Since, WaitFor, event_names};
use crate::commands::Front;
use crate::failure::Failure;
use crate::look::{Look, Paint, count, duration, millis, now_ms, timestamp};
use crate::table::{Cell, table};
use crate::talk::say;
use crate::text::clean;
use crate::{find, show};

/// Events that `status` shows.
const STATUS_EVENTS: usize = 8;
/// Events that `events` begins with, unless told.
const LAST_EVENTS: usize = 10;
/// Between two pictures of `--watch`, and two probes.
const SECOND: Duration = Duration::from_secs(1);
/// Between two questions whether the hub is ready.
const WAIT_PAUSE: Duration = Duration::from_millis(200);
/// How long a hub may take in a list of all hubs.
const GLANCE: Duration = Duration::from_secs(2);

/// What a hub is asked that should answer with something else.
fn unexpected(socket: &Path) -> Failure {
    Failure::Unreadable { socket: socket.to_owned(), error: String::from("an answer to another question") }
}

fn ask_status(socket: &Path, timeout: Duration) -> Result<Status, Failure> {
    match Call::open(socket)?.timeout(timeout).ask(Command::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => Err(unexpected(socket)),
    }
}

/// One screen.
pub(crate) fn status(front: &Front) -> Result<(), Failure> {
    // What does not fit a terminal, its user can scroll back to.
    let screen = screen(front, &Look { rows: None, ..front.look })?;
    Ok(io::stdout().lock().write_all(&screen)?)
}

/// `look` says how wide, and how many lines there may be at most.
fn screen(front: &Front, look: &Look) -> Result<Vec<u8>, Failure> {
    let socket = front.socket()?;
    let status = ask_status(&socket, call::TIMEOUT)?;
    let mut screen = Vec::new();
    if front.json {
        show::line(&mut screen, &status)?;
        return Ok(screen);
    }
    // The state stands without them.
    let all = Command::Events { since: 0, types: Vec::new(), follow: false };
    let events = match call::ask(&socket, all) {
        Ok(Answer::Events(events)) => events,
        _ => Vec::new(),
    };
    show::status(&mut screen, look, &status, &events, STATUS_EVENTS)?;
    if let Some(rows) = look.rows {
        // Of the events the last ones say most.
        let lines = screen.iter().filter(|byte| **byte == b'\n').count();
        let (over, shown) = (lines.saturating_sub(rows), events.len().min(STATUS_EVENTS));
        if over > 0 {
            screen.clear();
            show::status(&mut screen, look, &status, &events, shown.saturating_sub(over))?;
        }
    }
    Ok(screen)
}

fn last(events: &[EventInfo], most: usize) -> &[EventInfo] {
    events.get(events.len().saturating_sub(most)..).unwrap_or_default()
}

/// One screen, again and again.
pub(crate) fn watch(front: &Front) -> Result<(), Failure> {
    let terminal = io::stdout().is_terminal() && !front.json;
    let mut first = true;
    loop {
        // The window may have another size by now, and its last line stays free for the cursor.
        let mut look = Look::of_stdout();
        look.rows = look.rows.filter(|_| terminal).map(|rows| rows.saturating_sub(1).max(1));
        let frame = match screen(front, &look) {
            Ok(frame) => frame,
            // The first time a hub that is not there is an error; later it may be on its way back.
            Err(failure) if first => return Err(failure),
            Err(failure) => trouble(front, &look, &failure)?,
        };
        let mut out = io::stdout().lock();
        match terminal {
            true => out.write_all(picture(&look, &frame, first).as_bytes())?,
            false => out.write_all(&frame)?,
        }
        if !terminal && !front.json {
            writeln!(out)?;
        }
        out.flush()?;
        drop(out);
        first = false;
        sleep(SECOND);
    }
}

/// What is shown in place of a status.
fn trouble(front: &Front, look: &Look, failure: &Failure) -> io::Result<Vec<u8>> {
    let mut frame = Vec::new();
    match front.json {
        true => show::line(&mut frame, &json!({ "error": failure.to_string() }))?,
        false => {
            let name = look.paint(Paint::Bad, "pigeonctl:");
            writeln!(frame, "{name} {}", clean(&failure.to_string()))?;
        }
    }
    Ok(frame)
}

/// A frame as a terminal shows it in place of the one before: from the top,
/// each line to its end, then whatever was below. Nothing flickers.
fn picture(look: &Look, frame: &[u8], first: bool) -> String {
    let rows = look.rows.unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(frame);
    // What was on the screen before goes up, where one can scroll back to it.
    let above = "\n".repeat(if first { look.rows.map_or(0, |rows| rows + 1) } else { 0 });
    let lines = text.lines().take(rows).map(|line| format!("{}\x1b[K\r\n", look.cut_line(line)));
    format!("{above}\x1b[H{}\x1b[J", lines.collect::<String>())
}

/// All hubs of this machine.
pub(crate) fn instances(front: &Front) -> Result<(), Failure> {
    let found: Vec<_> = find::all()
        .into_iter()
        .map(|(port, socket)| {
            let status = ask_status(&socket, GLANCE);
            (port, socket, status)
        })
        .collect();
    let mut out = io::stdout().lock();
    if front.json {
        for (port, socket, status) in &found {
            let (status, error) = match status {
                Ok(status) => (Some(status), None),
                Err(failure) => (None, Some(failure.to_string())),
            };
            let socket = socket.display().to_string();
            let object = json!({ "port": port, "socket": socket, "status": status, "error": error });
            show::line(&mut out, &object)?;
        }
        return Ok(());
    }
    let rows = found.iter().map(|(port, socket, status)| {
        let socket = Cell(socket.display().to_string(), Paint::Dim);
        match status {
            Ok(status) => [
                Cell::from(port.to_string()),
                Cell(status.state.name().to_owned(), show::state_paint(status.state)),
                Cell::from((status.p2p_links + status.ws_links).to_string()),
                Cell::from(status.local_peers.to_string()),
                Cell::from(duration(status.uptime)),
                Cell::from(status.hub_id.to_string()),
                socket,
            ],
            Err(failure) => {
                let state = match failure {
                    Failure::NotRunning { .. } => Cell(String::from("stopped"), Paint::Dim),
                    Failure::NoPermission { .. } => Cell(String::from("no permission"), Paint::Warn),
                    Failure::TimedOut { .. } => Cell(String::from("no answer"), Paint::Bad),
                    _ => Cell(String::from("unknown"), Paint::Bad),
                };
                let empty = || Cell::from("");
                [Cell::from(port.to_string()), state, empty(), empty(), empty(), empty(), socket]
            }
        }
    });
    table(&mut out, &front.look, [">PORT", "STATE", ">LINKS", ">PEERS", ">UPTIME", "HUB", "SOCKET"], rows)?;
    if found.is_empty() {
        say("no hub runs on this machine, as far as this user can see");
    }
    Ok(())
}

/// Each hub on the way.
pub(crate) fn trace(front: &Front, id: String) -> Result<(), Failure> {
    let hops = probe(front, &id)?;
    let mut out = io::stdout().lock();
    match front.json {
        true => show::json(&mut out, &Answer::Trace(hops.clone()))?,
        false => show::trace(&mut out, &front.look, &hops)?,
    }
    match hops.iter().any(|hop| hop.last) {
        true => Ok(()),
        false => Err(Failure::Unanswered(format!(
            "{id} does not answer; the way ends after {}",
            count(hops.len(), "hub")
        ))),
    }
}

fn probe(front: &Front, id: &str) -> Result<Vec<ProbeHop>, Failure> {
    let socket = front.socket()?;
    match call::ask(&socket, Command::Trace { id: id.to_owned() })? {
        Answer::Trace(hops) => Ok(hops),
        _ => Err(unexpected(&socket)),
    }
}

/// Round trips.
pub(crate) fn ping(front: &Front, hub: &str, probes: u64) -> Result<(), Failure> {
    let mut times = Vec::new();
    for number in 1..=probes {
        let started = Instant::now();
        let answer = match probe(front, hub) {
            Ok(hops) => hops.into_iter().find(|hop| hop.last).ok_or_else(|| String::from("no answer")),
            Err(failure) if failure.exit_code() == 7 => Err(failure.to_string()),
            Err(failure) => return Err(failure),
        };
        let mut out = io::stdout().lock();
        match &answer {
            Ok(hop) if front.json => show::line(
                &mut out,
                &json!({ "number": number, "hub_id": hop.hub_id, "hops": hop.hop, "rtt_us": hop.rtt_us }),
            )?,
            Ok(hop) => {
                let links = count(hop.hop.into(), "link");
                writeln!(out, "{number}: {} over {links}: {}", hop.hub_id, millis(hop.rtt_us))?;
            }
            Err(why) if front.json => show::line(&mut out, &json!({ "number": number, "error": why }))?,
            Err(why) => writeln!(out, "{number}: {}", front.look.paint(Paint::Bad, &clean(why)))?,
        }
        drop(out);
        times.extend(answer.ok().map(|hop| hop.rtt_us));
        if number < probes {
            sleep(SECOND.saturating_sub(started.elapsed()));
        }
    }
    let (Some(least), Some(most)) = (times.iter().min(), times.iter().max()) else {
        return Err(Failure::Unanswered(format!(
            "{hub} answered none of {}",
            count(usize::try_from(probes).unwrap_or(usize::MAX), "probe")
        )));
    };
    let mean = times.iter().sum::<u64>() / times.len() as u64;
    let (least, mean, most) = (millis(*least), millis(mean), millis(*most));
    say(&format!("{} of {probes} answered; least {least}, mean {mean}, most {most}", times.len()));
    Ok(())
}

/// Events, one a line.
pub(crate) fn events(
    front: &Front,
    since: Option<Since>,
    types: &[String],
    follow: bool,
) -> Result<(), Failure> {
    // As hubs write them, however they were typed.
    let same = |typed: &String| event_names().find(|name| name.eq_ignore_ascii_case(typed));
    let types: Vec<String> = types.iter().map(|typed| same(typed).unwrap_or(typed).to_owned()).collect();
    let socket = front.socket()?;
    let number = match since {
        Some(Since::Number(number)) => number,
        _ => 0,
    };
    if let Some(Since::Ago(ago)) = since {
        tell_what_is_kept(&socket, &types, ago)?;
    }
    let mut call = Call::open(&socket)?;
    let mut answer = call.ask(Command::Events { since: number, types, follow })?;
    let mut first = true;
    loop {
        let Answer::Events(events) = &answer else { return Err(unexpected(&socket)) };
        let shown = match since {
            None if first => last(events, LAST_EVENTS),
            _ => events,
        };
        let mut out = io::stdout().lock();
        for event in shown.iter().filter(|event| is_since(event, since)) {
            match front.json {
                true => show::line(&mut out, event)?,
                false => show::event(&mut out, &front.look, event)?,
            }
        }
        out.flush()?;
        drop(out);
        if !follow {
            return Ok(());
        }
        first = false;
        answer = call.next(io::stdout())?.ok_or(Failure::HungUp { socket: socket.clone() })?;
    }
}

/// Says of which kinds of events older ones are gone that were asked for.
fn tell_what_is_kept(socket: &Path, types: &[String], ago: Duration) -> Result<(), Failure> {
    let all = Command::Events { since: 0, types: Vec::new(), follow: false };
    let Answer::Events(events) = call::ask(socket, all)? else { return Err(unexpected(socket)) };
    for kind in [Kind::Clients, Kind::Strangers, Kind::Hubs] {
        if !types.is_empty() && !types.iter().any(|name| Kind::of(name) == kind) {
            continue;
        }
        let mut kept = events.iter().filter(|event| Kind::of(&event.event) == kind);
        let Some(oldest) = kept.next() else { continue };
        let full = kept.count() + 1 >= KEPT;
        if full && is_since(oldest, Some(Since::Ago(ago))) {
            let (about, at) = (kind.name(), timestamp(oldest.at));
            say(&format!(
                "pigeonctl: events about {about} are kept since {at}; older ones may be in the log"
            ));
        }
    }
    Ok(())
}

fn is_since(event: &EventInfo, since: Option<Since>) -> bool {
    match since {
        Some(Since::Ago(ago)) => u128::from(event.at) + ago.as_millis() >= u128::from(now_ms()),
        _ => true,
    }
}

/// What `status` lacks of what is waited for.
fn missing(status: &Status, what: &WaitFor) -> Option<Failure> {
    if what.serving {
        let told = || format!("{}: {}", status.state.name(), clean(&status.reason));
        return (!status.serves()).then(|| Failure::NotServing(told()));
    }
    status.lacks().map(|lacks| Failure::NotReady(clean(&lacks)))
}

/// Until the mesh is ready or the hub serves. A hub that is not there yet is waited for as well,
/// one that is alone although another hub answers it, and the next one where one is shutting down.
pub(crate) fn wait(front: &Front, what: &WaitFor, timeout: Option<Duration>) -> Result<(), Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut said = false;
    loop {
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Even with no time left a hub that is there gets a moment to answer.
        let patience = left().map_or(call::TIMEOUT, |left| left.clamp(WAIT_PAUSE, call::TIMEOUT));
        let failure = match front.socket().and_then(|socket| ask_status(&socket, patience)) {
            Ok(status) => match missing(&status, what) {
                None if front.json => return Ok(show::line(&mut io::stdout().lock(), &status)?),
                None => return Ok(()),
                Some(Failure::NotReady(told)) => {
                    let rejected = status.ready && !std::mem::replace(&mut said, true);
                    if rejected && left() != Some(Duration::ZERO) {
                        say(&format!("pigeonctl: {told}; waiting for that to change"));
                    }
                    Failure::NotReady(told)
                }
                Some(failure) => failure,
            },
            // One that ends says so, and one that is asked by many; either may be gone in a moment.
            Err(failure @ Failure::Refused { code: ControlErrorCode::Busy, .. }) => failure,
            Err(failure @ (Failure::NotRunning { .. } | Failure::NoneFound { .. })) => failure,
            Err(failure @ (Failure::TimedOut { .. } | Failure::HungUp { .. })) => failure,
            Err(failure) => return Err(failure),
        };
        // A hub that does not answer used it up.
        if left().is_some_and(|left| left <= WAIT_PAUSE) {
            return Err(failure);
        }
        sleep(WAIT_PAUSE);
    }
}
