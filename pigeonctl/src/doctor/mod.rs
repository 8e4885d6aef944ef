//! `doctor`: what keeps a hub from working, and how to cure it. Works on a
//! running hub, and on what one would start with.

mod ground;
mod keys;
mod machine;
mod net;
mod port;
mod probe;
#[cfg(test)]
mod tests;
mod tls;

use std::io::{self, Write};

use serde::Serialize;

use crate::commands::Front;
use crate::failure::Failure;
use crate::look::{Look, Paint, count};
use crate::show;
use crate::talk::say;
use crate::text::clean;
use ground::Ground;

/// How a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Ok,
    /// It works, but not for long, or not for all.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be looked at.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    pub(crate) cure: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), cure: None }
    }

    fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::ok(check, found) }
    }

    fn warning(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, cure: Some(cure.into()), ..Self::ok(check, found) }
    }

    fn failed(check: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(check, found, cure) }
    }
}

/// Looks at everything, and shows each finding as soon as there is one.
pub(crate) fn run(front: &Front) -> Result<(), Failure> {
    let mut verdicts = Vec::new();
    let mut tell = |findings: Vec<Finding>| -> io::Result<()> {
        let mut out = io::stdout().lock();
        for finding in findings {
            match front.json {
                true => show::line(&mut out, &finding)?,
                false => write(&mut out, &front.look, &finding)?,
            }
            verdicts.push(finding.verdict);
        }
        out.flush()
    };
    let (ground, findings) = Ground::survey(front)?;
    tell(findings)?;
    if let Some(ground) = &ground {
        tell(machine::limits(ground))?;
        tell(machine::clock(ground))?;
        tell(keys::rights(ground))?;
        tell(keys::mesh_key(ground))?;
        tell(keys::named_files(ground))?;
        tell(keys::on_disk(ground).into_iter().collect())?;
        tell(port::port(ground))?;
        tell(net::refused(ground))?;
        tell(net::addresses(ground))?;
        tell(net::udp(ground))?;
        tell(net::ice_servers(ground))?;
        tell(net::links(ground))?;
        tell(net::bootstraps(ground))?;
    }
    let of = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let (failed, warnings) = (of(Verdict::Failed), of(Verdict::Warning));
    match (failed, warnings) {
        (0, 0) => say("nothing is wrong"),
        (0, warnings) => say(&format!("nothing is broken; {}", count(warnings, "warning"))),
        (failed, warnings) => {
            let told = format!("{} and {}", count(failed, "fault"), count(warnings, "warning"));
            return Err(Failure::Unwell(format!("{told} found; each has its cure below it")));
        }
    }
    Ok(())
}

fn write(out: &mut impl Write, look: &Look, finding: &Finding) -> io::Result<()> {
    let (sign, paint) = match finding.verdict {
        Verdict::Ok => (look.sign("✓", "ok"), Paint::Good),
        Verdict::Warning => (look.sign("!", "!"), Paint::Warn),
        Verdict::Failed => (look.sign("✗", "X"), Paint::Bad),
        Verdict::Skipped => (look.sign("–", "-"), Paint::Dim),
    };
    let check = format!("{:<14}", finding.check);
    writeln!(out, "{} {} {}", look.paint(paint, &format!("{sign:<2}")), check, clean(&finding.found))?;
    match &finding.cure {
        Some(cure) => writeln!(out, "   {:<14} {} {}", "", look.sign("→", "->"), clean(cure)),
        None => Ok(()),
    }
}
