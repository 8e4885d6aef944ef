//! Commands that take more than one question, or time.

use std::io::{self, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pigeonhub_proto::control::{Answer, Command, EventInfo, ProbeHop, Status};
use serde_json::json;

use crate::call::{self, Call};
use crate::cli::{EVENTS, Since};
use crate::commands::Front;
use crate::failure::Failure;
use crate::look::{Look, Paint, clean, count, duration, millis, now_ms};
use crate::table::{Cell, table};
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
    let screen = screen(front)?;
    Ok(io::stdout().lock().write_all(&screen)?)
}

fn screen(front: &Front) -> Result<Vec<u8>, Failure> {
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
    let look = Look { now: now_ms(), ..front.look };
    show::status(&mut screen, &look, &status, last(&events, STATUS_EVENTS))?;
    Ok(screen)
}

fn last(events: &[EventInfo], most: usize) -> &[EventInfo] {
    events.get(events.len().saturating_sub(most)..).unwrap_or_default()
}

/// One screen, again and again.
pub(crate) fn watch(front: &Front) -> Result<(), Failure> {
    // The first time a hub that is not there is an error; later it may be on its way back.
    let mut frame = screen(front)?;
    let terminal = std::io::IsTerminal::is_terminal(&io::stdout());
    loop {
        let mut out = io::stdout().lock();
        if terminal && !front.json {
            // From the top, each line to its end, then whatever was below: nothing flickers.
            let text = String::from_utf8_lossy(&frame).replace('\n', "\x1b[K\r\n");
            write!(out, "\x1b[H{text}\x1b[J")?;
        } else {
            out.write_all(&frame)?;
            if !front.json {
                writeln!(out)?;
            }
        }
        out.flush()?;
        drop(out);
        sleep(SECOND);
        frame = screen(front).or_else(|failure| match failure {
            Failure::Output(_) => Err(failure),
            _ if front.json => Ok(format!("{}\n", json!({ "error": failure.to_string() })).into_bytes()),
            _ => Ok(format!("{} {failure}\n", front.look.paint(Paint::Bad, "pigeonctl:")).into_bytes()),
        })?;
    }
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
                Cell(show::state_text(status.state).to_owned(), show::state_paint(status.state)),
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
        eprintln!("no hub runs on this machine, as far as this user can see");
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
    eprintln!("{} of {probes} answered; least {least}, mean {mean}, most {most}", times.len());
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
    let same = |typed: &String| EVENTS.into_iter().find(|name| name.eq_ignore_ascii_case(typed));
    let types = types.iter().map(|typed| same(typed).unwrap_or(typed).to_owned()).collect();
    let socket = front.socket()?;
    let number = match since {
        Some(Since::Number(number)) => number,
        _ => 0,
    };
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
        answer = call.next()?.ok_or(Failure::HungUp { socket: socket.clone() })?;
    }
}

fn is_since(event: &EventInfo, since: Option<Since>) -> bool {
    match since {
        Some(Since::Ago(ago)) => u128::from(event.at) + ago.as_millis() >= u128::from(now_ms()),
        _ => true,
    }
}

/// Until the mesh is ready. A hub that is not there yet is waited for as well.
pub(crate) fn wait(front: &Front, timeout: Option<Duration>) -> Result<(), Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Even with no time left a hub that is there gets a moment to answer.
        let patience = left.map_or(call::TIMEOUT, |left| left.clamp(WAIT_PAUSE, call::TIMEOUT));
        let failure = match front.socket().and_then(|socket| ask_status(&socket, patience)) {
            Ok(status) if status.ready => {
                return match front.json {
                    true => Ok(show::line(&mut io::stdout().lock(), &status)?),
                    false => Ok(()),
                };
            }
            Ok(status) => {
                Failure::NotReady(format!("{}: {}", show::state_text(status.state), clean(&status.reason)))
            }
            Err(failure @ (Failure::NotRunning { .. } | Failure::NoneFound { .. })) => failure,
            Err(failure @ (Failure::TimedOut { .. } | Failure::HungUp { .. })) => failure,
            Err(failure) => return Err(failure),
        };
        if left.is_some_and(|left| left <= WAIT_PAUSE) {
            return Err(failure);
        }
        sleep(WAIT_PAUSE);
    }
}
