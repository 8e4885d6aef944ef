//! A configuration beside the one that is in force: what may change while the hub runs.

use super::{Config, KEYS, Key, Origin};

/// Keys that count only with a restart: the hub's name, its address, its mesh,
/// and where its files are.
const AT_START: [&str; 7] = [
    "listen.port",
    "listen.host",
    "hub.enabled",
    "mesh.namespace",
    "metrics.listen",
    "runtime_dir",
    "state_dir",
];

impl Key {
    /// Whether another value counts only with a restart.
    pub fn needs_restart(&self) -> bool {
        AT_START.contains(&self.name)
    }
}

impl Config {
    /// The keys whose values differ from those in `running`.
    pub fn changed(&self, running: &Self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| {
            // Shown alike, two credentials may differ.
            let hidden = key.name == "mesh.ice_servers" && self.mesh.ice_servers != running.mesh.ice_servers;
            hidden || key.show(self) != key.show(running)
        })
    }

    /// What a hub with `running` in force has in force after it took this one:
    /// all but what needs a restart.
    pub fn applied_to(mut self, running: &Self) -> Self {
        self.listen.port = running.listen.port;
        self.listen.host = running.listen.host.clone();
        self.hub.enabled = running.hub.enabled;
        self.mesh.namespace = running.mesh.namespace.clone();
        self.metrics.listen = running.metrics.listen;
        self.runtime_dir = running.runtime_dir.clone();
        self.state_dir = running.state_dir.clone();
        for name in AT_START {
            match running.origins.get(name) {
                Some(origin) => drop(self.origins.insert(name, origin.clone())),
                None => drop(self.origins.remove(name)),
            }
        }
        self
    }

    /// Where the value of a key came from, briefly: `default`, `FILE:LINE`, `$VARIABLE` or `--flag`.
    pub fn source(&self, name: &str) -> String {
        match self.origin(name) {
            Origin::File(place) => format!("{}:{}", place.file, place.line),
            Origin::Env(name) => format!("${name}"),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_stays() {
        let read = |name: &str, text: &str| {
            let mut config = Config::default();
            config.apply_file(name, text).expect("valid");
            config
        };
        let running = read("old.toml", "listen.port = 3001\nmesh.max_peers = 4\n");
        let ice = |secret: &str| {
            format!("urls = [\"turn:a.example\"]\nusername = \"u\"\ncredential = \"{secret}\"\n")
        };
        let text = format!(
            "runtime_dir = \"/r\"\nstate_dir = \"/s\"\n[listen]\nport = 3002\nhost = \"::1\"\n[hub]\nenabled = false\n\
             [metrics]\nlisten = \"off\"\n[mesh]\nnamespace = \"b\"\nmax_peers = 5\n[[mesh.ice_servers]]\n{}",
            ice("one")
        );
        let new = read("new.toml", &text);
        let needing: Vec<&str> =
            new.changed(&running).filter(|key| key.needs_restart()).map(|key| key.name).collect();
        assert_eq!(needing.len(), AT_START.len(), "{needing:?}");
        let others: Vec<&str> =
            new.changed(&running).filter(|key| !key.needs_restart()).map(|key| key.name).collect();
        assert_eq!(others, ["mesh.max_peers", "mesh.ice_servers"]);

        let after = new.clone().applied_to(&running);
        let left: Vec<&str> = after.changed(&running).map(|key| key.name).collect();
        assert_eq!(left, others, "the rest is in force");
        assert_eq!(
            (after.source("listen.port"), after.source("listen.host")),
            ("old.toml:1".into(), "default".into())
        );
        assert_eq!(after.source("mesh.max_peers"), "new.toml:12");
        let other = read("new.toml", &text.replace(&ice("one"), &ice("two")));
        let changed: Vec<&str> = other.changed(&new).map(|key| key.name).collect();
        assert_eq!(changed, ["mesh.ice_servers"], "a credential is not shown, but it counts");
    }
}
