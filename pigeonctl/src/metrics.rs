//! OpenMetrics text as JSON.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::json;

/// One object a sample: `{"name":…,"labels":{…},"value":…}`. A value that JSON
/// has no number for, such as `+Inf`, is a text.
pub(crate) fn as_json(out: &mut impl Write, text: &str) -> io::Result<()> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(sample);
    samples.into_iter().try_for_each(|sample| json::line(out, &sample))
}

fn sample(line: &str) -> Option<Value> {
    let end = line.find([' ', '{'])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Map::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    let number = value.parse::<f64>().ok().and_then(|number| match value.parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => serde_json::Number::from_f64(number),
    });
    let value = number.map_or_else(|| Value::from(value), Value::Number);
    Some(json!({ "name": name, "labels": labels, "value": value }))
}

/// The labels, and what follows their closing brace.
fn labels(mut rest: &str) -> Option<(Map<String, Value>, &str)> {
    let mut labels = Map::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = loop {
            match chars.next()? {
                (at, '"') => break after.get(at + 1..)?,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_sample_is_an_object() {
        let text = "# TYPE a counter\na_total 3\nb{x=\"1 }\\\"\\n\",y=\"\"} 0.5 1700\nc{le=\"+Inf\"} +Inf\nbroken{\n# EOF\n";
        let mut out = Vec::new();
        super::as_json(&mut out, text).expect("it is memory");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "{\"labels\":{},\"name\":\"a_total\",\"value\":3}\n\
             {\"labels\":{\"x\":\"1 }\\\"\\n\",\"y\":\"\"},\"name\":\"b\",\"value\":0.5}\n\
             {\"labels\":{\"le\":\"+Inf\"},\"name\":\"c\",\"value\":\"+Inf\"}\n"
        );
    }
}
