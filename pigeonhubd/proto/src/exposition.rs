//! The figures' text in the format before OpenMetrics.

use std::collections::BTreeMap;

/// The media type of [`classic`]'s text.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of OpenMetrics text.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// OpenMetrics text in Prometheus' own older format, version 0.0.4, which
/// `promtool check metrics` and older collectors read: there a counter is
/// declared with its `_total`, and an info is a gauge. `# EOF` stays, as a
/// comment.
pub fn classic(openmetrics: &str) -> String {
    let kinds: BTreeMap<&str, &str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| !line.starts_with("# UNIT ")) {
        match declaration(line) {
            Some((word, name, rest)) => {
                let (suffix, kind) = match kinds.get(name).copied() {
                    Some("counter") => ("_total", "counter"),
                    Some("info") => ("_info", "gauge"),
                    Some("unknown") | None => ("", "untyped"),
                    Some(kind) => ("", kind),
                };
                let rest = if word == "TYPE" { kind } else { rest };
                text.push_str(&format!("# {word} {name}{suffix} {rest}"));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// `# HELP name text` or `# TYPE name type`, in its parts.
fn declaration(line: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    (word == "HELP" || word == "TYPE").then_some((word, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_declared_by_the_names_of_their_samples() {
        let openmetrics = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                           a_seconds_total{why=\"x y\"} 1\n# HELP b About.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                           # HELP c Now.\n# TYPE c gauge\nc 3\n# EOF\n";
        let expected = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\n\
                        a_seconds_total{why=\"x y\"} 1\n# HELP b_info About.\n# TYPE b_info gauge\n\
                        b_info{v=\"1\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 3\n# EOF\n";
        assert_eq!(classic(openmetrics), expected);
    }
}
