//! What each type of value takes.

use std::net::IpAddr;
use std::time::Duration;

use super::file;
use crate::config::{Host, InterfacePattern, LogLevel, MetricsListen, Uid, WhenAlone};
use crate::settings::AddressRange;

#[test]
fn durations_are_texts_or_milliseconds() {
    for (value, millis) in [
        ("\"10s\"", 10_000),
        ("\"5m\"", 300_000),
        ("\"1m 30s\"", 90_000),
        ("\"1m30s\"", 90_000),
        ("\"250ms\"", 250),
        ("\"1.5s\"", 1500),
        ("\"0s\"", 0),
        ("10000", 10_000),
        ("10_000", 10_000),
        ("0", 0),
        ("\"10000\"", 10_000),
        ("\" 10s \"", 10_000),
    ] {
        let config = file(&format!("mesh.migration_delay = {value}\n")).expect(value);
        assert_eq!(config.mesh.migration_delay, Duration::from_millis(millis), "{value}");
    }
    for value in ["\"\"", "\"s\"", "\"-1s\"", "\"10 parsecs\"", "1.5", "true", "[]"] {
        assert!(file(&format!("mesh.migration_delay = {value}\n")).is_err(), "{value}");
    }
}

#[test]
fn sizes_are_bytes_or_have_a_unit() {
    for (value, bytes) in [
        ("1024", 1024),
        ("1_048_576", 1 << 20),
        ("\"65536\"", 1 << 16),
        ("\"2048B\"", 2048),
        ("\"64KiB\"", 64 << 10),
        ("\"1 MiB\"", 1 << 20),
        ("\"2mib\"", 2 << 20),
    ] {
        let config = file(&format!("listen.max_message_size = {value}\n")).expect(value);
        assert_eq!(config.listen.max_message_size, bytes, "{value}");
    }
    for value in ["\"\"", "\"KiB\"", "\"1MB\"", "\"1.5MiB\"", "\"-1KiB\"", "\"1KiB1\"", "1e6", "\"²KiB\""] {
        assert!(file(&format!("listen.max_message_size = {value}\n")).is_err(), "{value}");
    }
}

#[test]
fn hosts() {
    let v6 = |text: &str| Host::Address(text.parse::<IpAddr>().expect(text));
    for (value, host) in [
        ("*", Host::Any),
        ("localhost", Host::Localhost),
        ("LocalHost", Host::Localhost),
        ("0.0.0.0", v6("0.0.0.0")),
        // As Node has it, and not IPv6 alone.
        ("::", Host::Any),
        ("[::]", Host::Any),
        ("[::1]", v6("::1")),
        ("192.0.2.7", v6("192.0.2.7")),
        ("hub.example.org", Host::Name(String::from("hub.example.org"), None)),
        ("my_Hub-1.", Host::Name(String::from("my_Hub-1."), None)),
    ] {
        let config = file(&format!("listen.host = \"{value}\"\n")).expect(value);
        assert_eq!(config.listen.host, host, "{value}");
    }
    for value in
        ["", "hub example", "a..b", "-a", "192.0.2", "192.0.2.7:3000", "[192.0.2.7]", "[::1", "::1%lo", "a:1"]
    {
        assert!(file(&format!("listen.host = \"{value}\"\n")).is_err(), "{value}");
    }
}

#[test]
fn udp_ports() {
    for (value, ports) in [
        ("\"40000-40100\"", Some((40_000, 40_100))),
        ("\"40000\"", Some((40_000, 40_000))),
        ("40000", Some((40_000, 40_000))),
        ("\" 1 - 65535 \"", Some((1, 65_535))),
        ("\"\"", None),
    ] {
        let config = file(&format!("mesh.udp_ports = {value}\n")).expect(value);
        assert_eq!(config.mesh.udp_ports.map(|ports| (ports.first, ports.last)), ports, "{value}");
    }
    for value in
        ["\"0-5\"", "\"9-8\"", "\"1-65536\"", "\"1-\"", "\"a\"", "0", "70000", "true", "[]", "\"1,2\""]
    {
        let error = file(&format!("mesh.udp_ports = {value}\n")).expect_err(value).to_string();
        assert!(error.contains("should be a range of ports such as"), "{value}: {error}");
    }
}

#[test]
fn interfaces() {
    let file = |list: &str| file(&format!("mesh.interfaces = [{list}]\n"));
    let allowed =
        |list: &str, name: &str| InterfacePattern::allow(&file(list).expect(list).mesh.interfaces, name);
    for (list, name, is) in [
        ("", "eth0", true),
        ("\"eth0\"", "eth0", true),
        ("\"eth0\"", "eth01", false),
        ("\"en*\"", "enp3s0", true),
        ("\"*0\", \"lo\"", "lo", true),
        ("\"e*0\"", "eth1", false),
        ("\"!br-*\", \"!docker*\"", "br-4f2a", false),
        ("\"!br-*\", \"!docker*\"", "eth0", true),
        ("\"!eth1\", \"eth*\"", "eth1", false),
        ("\"!eth1\", \"eth*\"", "wg0", false),
        ("\"***************\"", "a-long-name-15b", true),
        ("\"**************x\"", "a-long-name-15b", false),
        ("\"*a*a*a*a*a*a*b\"", "aaaaaaaaaaaaaaa", false),
    ] {
        assert_eq!(allowed(list, name), is, "{list} {name}");
    }
    for list in ["\"\"", "\"!\"", "\"!!a\"", "\"a b\"", "\"a/b\"", "\"sixteen-bytes-it\"", "5.5"] {
        assert!(file(list).is_err(), "{list}");
    }
}

#[test]
fn hub_urls() {
    for url in [
        "ws://hub.example.org",
        "ws://hub.example.org:3000/",
        "wss://hub.example.org/path",
        "WS://192.0.2.7:1",
        "ws://[::1]:3000",
        "ws://0.0.0.0:3000",
    ] {
        let config = file(&format!("listen.port = 4000\nbootstrap.hubs = [\"{url}\"]\n")).expect(url);
        assert_eq!(config.settings().bootstrap_hubs, [url]);
    }
    for (url, found) in [
        ("", "not a URL"),
        ("hub.example.org:3000", "not a URL"),
        ("ws:hub.example.org", "not a URL"),
        ("https://hub.example.org", "a URL with https://"),
        ("ws://", "a URL without a host"),
        ("ws:///path", "a URL without a host"),
        ("ws://:3000", "a URL without a host"),
        ("ws://?a", "a URL without a host"),
        ("ws://h:99999", "not a URL (invalid port number)"),
        ("ws://h:0", "a URL with port 0"),
        ("ws://me@h", "a URL with a user name or password"),
        ("ws://:pw@h", "a URL without a host"),
        ("ws://h?peerId=1", "a URL with a query or fragment"),
        ("ws://h/#x", "a URL with a query or fragment"),
        ("ws://h h", "a text with white space"),
        ("ws://h\\n", "a text with white space"),
        ("ws://[::1", "not a URL (invalid IPv6 address)"),
    ] {
        let error = file(&format!("bootstrap.hubs = [\"{url}\"]\n")).expect_err(url).to_string();
        assert!(error.contains(&format!(": {found}; should be a ws:// or wss:// URL")), "{url}: {error}");
    }
}

#[test]
fn an_advertised_url_is_one_that_others_can_dial() {
    let config = file("mesh.advertise = \"wss://hub.example.org\"\n").expect("a URL");
    assert_eq!(config.settings().advertise.as_deref(), Some("wss://hub.example.org"));
    assert_eq!(file("mesh.advertise = \"\"\n").expect("none").mesh.advertise, None);
    let error = file("mesh.advertise = \"ws://0.0.0.0:3000\"\n").expect_err("nobody's").to_string();
    assert!(error.contains(": 0.0.0.0, which nobody can dial; should be a ws://"), "{error}");
    assert!(file("mesh.advertise = \"ws://[::]:3000\"\n").is_err());
}

#[test]
fn legacy_hubs_are_addresses() {
    for (text, address, prefix) in [
        ("192.0.2.7", "192.0.2.7", 32),
        ("192.0.2.7:3000", "192.0.2.7", 32),
        ("192.0.2.0/24", "192.0.2.0", 24),
        ("0.0.0.0/0", "0.0.0.0", 0),
        ("2001:db8::7", "2001:db8::7", 128),
        ("[2001:db8::7]", "2001:db8::7", 128),
        ("[2001:db8::7]:3000", "2001:db8::7", 128),
        ("2001:db8::/32", "2001:db8::", 32),
        ("ws://192.0.2.7:3000/localhost", "192.0.2.7", 32),
        ("wss://[2001:db8::7]", "2001:db8::7", 128),
        ("::ffff:192.0.2.7", "192.0.2.7", 32),
    ] {
        let config = file(&format!("mesh.legacy_hubs = [\"{text}\"]\n")).expect(text);
        let hub = AddressRange { address: address.parse().expect(address), prefix };
        assert_eq!(config.settings().legacy_hubs, [hub], "{text}");
        assert_eq!(hub.to_string().parse(), Ok(hub), "{text}");
    }
    for (text, found) in [
        ("hub.example.org", "a host name"),
        ("localhost", "a host name"),
        ("ws://localhost:3000", "a host name"),
        ("ws://hub.example.org", "a host name"),
        ("http://192.0.2.7", "a URL with http://"),
        ("192.0.2.0/33", "a network prefix that is not 0 to 32"),
        ("2001:db8::/129", "a network prefix that is not 0 to 128"),
        ("hub.example.org/24", "not a network"),
        ("192.0.2.0/", "not a network"),
        ("::ffff:192.0.2.0/120", "an IPv4 network written as IPv6"),
    ] {
        let error = file(&format!("mesh.legacy_hubs = [\"{text}\"]\n")).expect_err(text).to_string();
        assert!(error.contains(&format!(": {found}; should be an IP address")), "{text}: {error}");
    }
}

#[test]
fn names_and_levels() {
    for (line, ok) in [
        ("mesh.namespace = \"pigeonhub-mesh\"", true),
        ("mesh.namespace = \"\"", false),
        ("mesh.namespace = \"a\\nb\"", false),
        ("listen.cors_origin = \"*\"", true),
        ("listen.cors_origin = \"https://example.org:8443\"", true),
        ("listen.cors_origin = \"https://example.org/\"", false),
        ("listen.cors_origin = \"example.org\"", false),
        ("listen.cors_origin = \"https://a, https://b:1,null,\"", true),
        ("listen.cors_origin = \"https://a, b\"", false),
        ("listen.cors_origin = \"https://a,*\"", false),
        ("listen.cors_origin = \", \"", false),
        ("listen.cors_origin = \"\"", false),
        ("listen.cors_origin = \"https://a\\r\\nX: y\"", false),
        ("log.level = \"loud\"", false),
        ("state_dir = \"a\\u0000b\"", false),
        ("bootstrap.max_reconnect_attempts = 0", true),
    ] {
        assert_eq!(file(&format!("{line}\n")).is_ok(), ok, "{line}");
    }
    let long = format!("mesh.namespace = \"{}\"\n", "n".repeat(129));
    assert!(file(&long).is_err());
    assert_eq!(file("log.level = \"debug\"\n").expect("a level").log.level, LogLevel::Debug);
}

#[test]
fn lists_have_a_limit() {
    let hubs = |count: usize| format!("bootstrap.hubs = [{}]\n", "\"ws://h\",".repeat(count));
    assert_eq!(file(&hubs(64)).expect("64 hubs").bootstrap.hubs.len(), 64);
    let error = file(&hubs(65)).expect_err("65 hubs").to_string();
    assert!(
        error.starts_with("x.toml:1:18: bootstrap.hubs: 65 entries; should be a list of at most 64"),
        "{error}"
    );
}

#[test]
fn a_hub_does_not_dial_itself() {
    let hubs = |text: &str| file(text).expect(text).settings().bootstrap_hubs;
    let first = ["ws://127.0.0.1:3000"];
    let none: [&str; 0] = [];
    assert_eq!(hubs(""), none);
    assert_eq!(hubs("listen.port = 3001\n"), first);
    assert_eq!(hubs("listen.port = 3001\nbootstrap.hubs = []\n"), none);
    assert_eq!(
        hubs("bootstrap.hubs = [\"ws://localhost:3000\", \"ws://[::1]:3000\", \"ws://a\", \"ws://a\"]\n"),
        ["ws://a"]
    );
    // Another hub may listen on loopback while this one has an address of its own.
    assert_eq!(hubs("listen.host = \"192.0.2.7\"\n"), first);
    assert_eq!(hubs("listen.host = \"::\"\n"), none, "it is IPv4 too");
    assert_eq!(hubs("listen.host = \"127.0.0.1\"\n"), none);
    assert_eq!(hubs("listen.host = \"localhost\"\n"), none);
}

#[test]
fn admins_are_numbers_with_or_without_quotes() {
    let config =
        file("control.admins = [1000, \"1001\"]\nmesh.ready_when_alone = \"wait\"\n").expect("valid");
    assert_eq!(config.control.admins, [Uid(1000), Uid(1001)]);
    assert_eq!(config.mesh.ready_when_alone, WhenAlone::Wait);
    for (text, expected) in [
        ("control.admins = [-1]", "control.admins = -1: a whole number; should be the number of a user"),
        ("control.admins = [\"root\"]", "control.admins = \"root\": not the number of a user; should be"),
        ("control.admins = 0", "control.admins = 0: a whole number; should be a list of at most 64"),
        ("bootstrap.hubs = [3000]", "bootstrap.hubs = 3000: a whole number; should be a ws:// or"),
        ("mesh.ready_when_alone = \"no\"", "neither; should be \"ready\" or \"wait\""),
    ] {
        let message = file(text).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn metrics_are_answered_above_the_port_or_elsewhere_or_nowhere() {
    let listen = |text: &str| file(text).map(|config| config.metrics.listen.address(config.listen.port));
    let at = |text: &str| Some(text.parse().expect("an address"));
    assert_eq!(listen(""), Ok(at("127.0.0.1:9464")));
    assert_eq!(listen("listen.port = 65000"), Ok(None), "no port is so far above");
    assert_eq!(listen("metrics.listen = \"off\""), Ok(None));
    assert_eq!(listen("metrics.listen = \"[::1]:9000\""), Ok(at("[::1]:9000")));
    assert_eq!(MetricsListen::Auto.to_string(), "auto");
    for (text, expected) in [
        ("metrics.listen = \"127.0.0.1\"", "an address without a port; should be \"auto\", \"off\", or"),
        ("metrics.listen = \"127.0.0.1:0\"", "port 0; should be"),
        ("metrics.listen = \"here:9464\"", "not an address; should be"),
        ("metrics.listen = 9464", "a whole number; should be"),
    ] {
        let message = file(text).expect_err("refused").to_string();
        assert!(message.contains(expected), "{message}");
    }
}
