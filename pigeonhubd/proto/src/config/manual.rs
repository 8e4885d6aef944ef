//! The manual page of the configuration files, made from the table of keys.

use std::fmt::Write as _;

use super::{Config, KEYS, Key, Kind, SECTIONS};

/// Columns of a line at most.
const WIDTH: usize = 78;

const HEAD: &str = "\
.Dd November 23, 2026
.Dt PIGEONHUBD.TOML 5
.Os pigeonhubd
.Sh NAME
.Nm pigeonhubd.toml
.Nd configuration of pigeonhubd
.Sh SYNOPSIS
.Nm /etc/pigeonhubd/pigeonhubd.toml
.Nm /etc/pigeonhubd/conf.d/*.toml
.Nm /etc/pigeonhubd/PORT.toml
.Sh DESCRIPTION
The files are TOML.
Each lies over the ones before it: first what all hubs of a machine share,
then drop-ins by name, then what the hub on one port has of its own.
Those that do not exist are left out.
A file that is named with
.Fl -config
or
.Ev PIGEONHUBD_CONFIG
is read instead of all of them;
.Ev PIGEONHUBD_CONFIG_DIR
names another folder than
.Pa /etc/pigeonhubd .
.Pp
An environment variable counts more than a file, and a flag more than a
variable.
An empty variable counts as not set.
A list replaces the list below it.
.Pp
A mistake is told with the file, the line, the key and what would be right.
A hub that starts ends with status 78 then; a running one keeps what it has.
.Ql pigeonctl check
looks for mistakes without a hub.
.Pp
A duration is a text such as
.Ql 10s
or
.Ql 1m 30s ;
a bare number is milliseconds.
An empty text for a key that is empty by default unsets it.
.Pp
A change takes effect with
.Ql systemctl reload ,
.Ql pigeonctl reload
or SIGHUP, for all keys at once, unless the key says that it needs a restart.
";

const ICE: &str = "\
Each server is a table of its own, below the other keys of this section:
.Bd -literal -offset indent
[[mesh.ice_servers]]
urls = [\"turn:turn.example.org:3478?transport=udp\"]
username = \"hub\"
credential = \"secret\"
.Ed
";

const TAIL: &str = "\
.Sh FILES
.Bl -tag -width Ds
.It Pa /usr/share/doc/pigeonhubd/examples/pigeonhubd.toml
Every key, commented out, with its default.
.El
.Sh EXAMPLES
Two hubs on one machine, in a mesh with one elsewhere:
.Bd -literal -offset indent
# /etc/pigeonhubd/pigeonhubd.toml
[mesh]
key_file = \"/etc/pigeonhubd/mesh.key\"

[bootstrap]
hubs = [\"wss://hub.example.org\", \"ws://127.0.0.1:3000\"]

# /etc/pigeonhubd/3001.toml
[listen]
max_connections = 500
.Ed
.Sh SEE ALSO
.Xr pigeonctl 1 ,
.Xr pigeonhub-mesh 7 ,
.Xr pigeonhubd 8 ,
.Xr pigeonhubd@.service 8
";

/// The manual page: `man/pigeonhubd.toml.5`.
pub fn manual() -> String {
    let mut out = String::from(HEAD);
    out.push_str(".Sh KEYS OUTSIDE SECTIONS\n");
    section(&mut out, "");
    for (name, doc) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, ".Sh SECTION [{}]", name);
        text(&mut out, doc);
        section(&mut out, name);
    }
    out.push_str(TAIL);
    out
}

fn section(out: &mut String, section: &str) {
    let defaults = Config::default();
    out.push_str(".Bl -tag -width Ds\n");
    for key in KEYS.iter().filter(|key| key.section() == section) {
        let _ = writeln!(out, ".It Cm {}", key.short());
        text(out, key.doc);
        if matches!(key.kind, Kind::IceServers { .. }) {
            out.push_str(ICE);
        }
        text(out, &ways(key, &defaults));
    }
    out.push_str(".El\n");
}

/// What it takes, its default, and what else sets it.
fn ways(key: &Key, defaults: &Config) -> String {
    let mut ways = vec![format!("Default: {}", key.show(defaults))];
    let range = key.kind.range();
    if !range.is_empty() {
        ways.push(range);
    }
    ways.extend(key.flag.map(|flag| format!("flag {}", flag.name())));
    ways.extend(key.env.map(|name| format!("variable {name}")));
    if key.needs_restart() {
        ways.push(String::from("needs a restart"));
    }
    format!("{}.", ways.join("; "))
}

/// Plain text, a sentence on a line of its own and no line too long.
fn text(out: &mut String, text: &str) {
    for sentence in text.split_inclusive(". ") {
        let mut row = String::new();
        for word in sentence.split_whitespace().map(escaped) {
            if !row.is_empty() && row.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(out, "{row}");
                row.clear();
            }
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(&word);
        }
        if !row.is_empty() {
            let _ = writeln!(out, "{row}");
        }
    }
}

/// A word that is not a request of roff, and whose dashes can be copied.
fn escaped(word: &str) -> String {
    let word = word.replace('\\', "\\e").replace("--", "\\-\\-");
    if word.starts_with(['.', '\'']) { format!("\\&{word}") } else { word }
}
