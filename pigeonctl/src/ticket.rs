//! Tickets of clients: made for trying, and read.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pigeonhub_proto::id::Id;
use pigeonhubd::tickets::{self, Claims, TicketKeys};
use serde_json::json;

use crate::cli::{NewTicket, TicketAsk};
use crate::commands::Front;
use crate::failure::Failure;
use crate::text::clean;

pub(crate) fn run(front: &Front, what: TicketAsk) -> Result<(), Failure> {
    match what {
        TicketAsk::New(new) => make(front, new),
        TicketAsk::Show { ticket, keys } => show(front, ticket.trim(), keys.as_deref()),
    }
}

fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

fn make(front: &Front, new: NewTicket) -> Result<(), Failure> {
    if let Some(peer) = new.peer.as_deref().filter(|peer| peer.parse::<Id>().is_err()) {
        let peer = clean(peer);
        return Err(Failure::Usage(format!("--peer '{peer}': should be a peer id, 40 hexadecimal digits")));
    }
    let claims = Claims {
        exp: now().saturating_add(new.lasts.as_secs()),
        nbf: None,
        jti: new.name,
        peer_id: new.peer,
        networks: (!new.networks.is_empty()).then_some(new.networks),
        max_connections: new.max_connections,
        max_messages_per_second: new.max_messages_per_second,
        max_announce_bytes: new.max_announce_bytes,
    };
    let ticket =
        tickets::sign(&claims, &new.key).map_err(|error| Failure::Ticket(format!("no ticket: {error}")))?;
    if ticket.len() > tickets::LONGEST {
        let len = ticket.len();
        return Err(Failure::Usage(format!(
            "that ticket has {len} bytes, and hubs take {} at most: name fewer networks, or use patterns",
            tickets::LONGEST
        )));
    }
    let mut out = io::stdout().lock();
    if front.json {
        crate::show::line(&mut out, &json!({ "ticket": ticket }))?;
    } else {
        writeln!(out, "{ticket}")?;
    }
    Ok(())
}

fn show(front: &Front, ticket: &str, keys: Option<&Path>) -> Result<(), Failure> {
    let Some(claims) = tickets::unchecked(ticket) else {
        return Err(Failure::Ticket(String::from(
            "that is no ticket: a ticket is a JSON Web Token, in three parts",
        )));
    };
    let checked = match keys {
        None => None,
        Some(path) => {
            let keys = TicketKeys::read(path).map_err(|error| Failure::Ticket(error.to_string()))?;
            Some(keys.claims(ticket))
        }
    };
    let mut out = io::stdout().lock();
    if front.json {
        let fault = checked.as_ref().and_then(|checked| checked.as_ref().err()).map(ToString::to_string);
        let good = checked.as_ref().map(Result::is_ok);
        crate::show::line(&mut out, &json!({ "claims": claims, "good": good, "fault": fault }))?;
    } else {
        for line in lines(&claims, now()) {
            writeln!(out, "{line}")?;
        }
        match &checked {
            None => writeln!(out, "not checked: with --keys FILE it is")?,
            Some(Ok(_)) => writeln!(out, "good: a hub with these keys takes it")?,
            Some(Err(_)) => {}
        }
    }
    match checked {
        Some(Err(fault)) => Err(Failure::Ticket(format!("not good: {fault}"))),
        _ => Ok(()),
    }
}

/// What a ticket says, a line each.
fn lines(claims: &Claims, now: u64) -> Vec<String> {
    let span = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds));
    let mut lines = vec![match claims.exp.checked_sub(now) {
        Some(left) => format!("expires in {}", span(left)),
        None => format!("expired {} ago", span(now - claims.exp)),
    }];
    if let Some(begins) = claims.nbf.and_then(|nbf| nbf.checked_sub(now)).filter(|begins| *begins > 0) {
        lines.push(format!("begins in {}", span(begins)));
    }
    lines.push(match &claims.peer_id {
        Some(peer) => format!("for peer {}", clean(peer)),
        None => String::from("for any peer"),
    });
    lines.push(match &claims.networks {
        Some(patterns) if patterns.is_empty() => String::from("opens no network"),
        Some(patterns) => format!("opens networks {}", clean(&patterns.join(", "))),
        None => String::from("opens all networks"),
    });
    lines.extend(claims.jti.as_ref().map(|name| format!("named {}", clean(name))));
    lines.extend(claims.max_connections.map(|most| format!("at most {most} connections at one hub")));
    lines.extend(
        claims.max_messages_per_second.map(|most| format!("at most {most} messages a second at one hub")),
    );
    lines.extend(claims.max_announce_bytes.map(|most| format!("at most {most} bytes of announce data")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_in_words() {
        let now = 1_800_000_000;
        let all = Claims { exp: now + 3600, ..Claims::default() };
        assert_eq!(lines(&all, now), ["expires in 1h", "for any peer", "opens all networks"]);
        let claims = Claims {
            exp: now - 60,
            nbf: Some(now + 5),
            jti: Some(String::from("one")),
            peer_id: Some(String::from("a1\u{1b}[31m")),
            networks: Some(vec![String::from("game-*"), String::from("chess")]),
            max_connections: std::num::NonZeroU32::new(2),
            max_messages_per_second: std::num::NonZeroU32::new(20),
            max_announce_bytes: Some(100),
        };
        let told = lines(&claims, now);
        assert_eq!(told[0], "expired 1m ago");
        assert!(told.iter().all(|line| !line.contains('\u{1b}')), "no text steers a terminal: {told:?}");
        assert_eq!(told.len(), 8);
    }
}
