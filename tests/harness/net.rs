//! Networks of this machine's own: a namespace for each host, joined by a bridge.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

use super::{Process, tied, until};

static MADE: AtomicU32 = AtomicU32::new(0);

/// The number of a host behind host 1 is one more than this.
const HIDDEN: usize = 100;

/// What every host's firewall begins as: nobody is cut off, and the weather is fine.
const FIREWALL: &str = "
    add table inet net
    add set inet net cut4 { type ipv4_addr; }
    add set inet net cut6 { type ipv6_addr; }
    add chain inet net weather
    add chain inet net input { type filter hook input priority 0; }
    add rule inet net input ip saddr @cut4 drop
    add rule inet net input ip6 saddr @cut6 drop
    add rule inet net input iif lo accept
    add rule inet net input ip saddr 10.0.0.254 accept
    add rule inet net input ip6 saddr fd00::254 accept
    add rule inet net input jump weather";

/// Hosts 1, 2, … at 10.0.0.1, 10.0.0.2, … and fd00::1, fd00::2, …, and the
/// test's own thread at number 254, until this is dropped.
pub(crate) struct Net {
    name: String,
    hosts: usize,
    /// Where the test's thread was before.
    before: File,
}

/// Runs a script; it must succeed.
fn shell(script: &str) {
    let mut child = Command::new("sh")
        .args(["-e", "-s"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("the shell reads");
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Deletes what test processes left that were killed before they could.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|name| name.file_name().into_string().ok()) {
        let owner = name.strip_prefix("ph").and_then(|rest| rest.split('-').next());
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

impl Net {
    /// Makes it and moves this thread, and whatever it starts from then on, into its middle.
    pub(crate) fn new(hosts: usize) -> Self {
        sweep();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ph{}-{number}", std::process::id());
        let before = File::open("/proc/thread-self/ns/net").expect("a network namespace");
        let net = Self { name, hosts, before };
        let middle = net.namespace(0);
        let mut script = format!(
            "ip netns add {middle}; ip -n {middle} link set lo up
             ip -n {middle} link add br0 type bridge forward_delay 0
             ip -n {middle} addr add 10.0.0.254/24 dev br0
             ip -n {middle} addr add fd00::254/64 dev br0 nodad; ip -n {middle} link set br0 up\n"
        );
        for host in 1..=hosts {
            let namespace = net.namespace(host);
            let _ = write!(
                script,
                "ip netns add {namespace}; ip -n {namespace} link set lo up
                 ip -n {middle} link add h{host} type veth peer name eth0 netns {namespace}
                 ip -n {middle} link set h{host} master br0 up
                 ip -n {namespace} addr add 10.0.0.{host}/24 dev eth0
                 ip -n {namespace} addr add fd00::{host}/64 dev eth0 nodad
                 ip -n {namespace} link set eth0 up
                 ip netns exec {namespace} nft -f - <<'EOF'{FIREWALL}\nEOF\n"
            );
        }
        shell(&script);
        let inside = File::open(format!("/run/netns/{middle}")).expect("the namespace just made");
        setns(inside, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        net
    }

    /// The name of a host's namespace; 0 is the middle.
    pub(crate) fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// A host's IPv4 address.
    pub(crate) fn address(&self, host: usize) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, u8::try_from(host).expect("few hosts")).into()
    }

    /// A host's IPv6 address, fd00::1 for host 1.
    pub(crate) fn address6(&self, host: usize) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from_str_radix(&host.to_string(), 16).expect("few"))
            .into()
    }

    /// Puts a new host behind `host`, which translates its addresses by `rule`, in nft's words. Its number and address.
    ///
    /// Nobody but the test's own thread has a way to it.
    pub(crate) fn behind_nat(&self, host: usize, rule: &str) -> (usize, IpAddr) {
        let hidden = host + HIDDEN;
        let (router, inner, middle) = (self.namespace(host), self.namespace(hidden), self.namespace(0));
        shell(&format!(
            "ip netns add {inner}; ip -n {inner} link set lo up
             ip -n {router} link add inside type veth peer name eth0 netns {inner}
             ip -n {router} addr add 192.168.{host}.1/24 dev inside; ip -n {router} link set inside up
             ip -n {inner} addr add 192.168.{host}.2/24 dev eth0; ip -n {inner} link set eth0 up
             ip -n {inner} route add default via 192.168.{host}.1
             ip -n {middle} route add 192.168.{host}.0/24 via 10.0.0.{host}
             ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1
             ip netns exec {router} nft -f - <<'EOF'
    add table ip nat
    add chain ip nat postrouting {{ type nat hook postrouting priority 100; }}
    add rule ip nat postrouting oif eth0 udp dport 1-65535 {rule}
    add rule ip nat postrouting oif eth0 tcp dport 1-65535 {rule}
EOF\n"
        ));
        (hidden, Ipv4Addr::new(192, 168, u8::try_from(host).expect("few hosts"), 2).into())
    }

    /// Runs a command in a host's namespace.
    pub(crate) fn run(&self, host: usize, command: &str) {
        self.run_all([(host, command.to_owned())]);
    }

    fn run_all(&self, commands: impl IntoIterator<Item = (usize, String)>) {
        let lines = commands
            .into_iter()
            .map(|(host, command)| format!("ip netns exec {} {command}\n", self.namespace(host)));
        shell(&lines.collect::<String>());
    }

    fn cuts(&self, verb: &str, pairs: &[(usize, usize)]) {
        let both = pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]);
        self.run_all(both.map(|(at, from)| {
            (at, format!("nft '{verb} element inet net cut4 {{ 10.0.0.{from} }}; {verb} element inet net cut6 {{ fd00::{from} }}'"))
        }));
    }

    /// From now on nothing passes between the two hosts of each pair, and no one is told.
    pub(crate) fn cut(&self, pairs: &[(usize, usize)]) {
        self.cuts("add", pairs);
    }

    /// What was cut is whole again.
    pub(crate) fn heal(&self, pairs: &[(usize, usize)]) {
        self.cuts("delete", pairs);
    }

    /// From now on whatever goes from host to host takes `delay` milliseconds, give or take
    /// `jitter`; only this thread is near to all of them. Ends with what it returns.
    pub(crate) fn far(&self, delay: u32, jitter: u32) -> Process {
        let middle = self.namespace(0);
        let mut script =
            format!("ip -n {middle} tuntap add dev t0 mode tap; ip -n {middle} link set t0 master br0 up\n");
        for host in 1..=self.hosts {
            let _ = write!(
                script,
                "ip -n {middle} link add br{host} type bridge forward_delay 0
                 ip -n {middle} link set br{host} up; ip -n {middle} link set h{host} master br{host}
                 ip -n {middle} tuntap add dev t{host} mode tap
                 ip -n {middle} link set t{host} master br{host} up\n"
            );
        }
        shell(&script);
        let mut command = tied("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/delay.py"));
        command.args([self.hosts.to_string(), delay.to_string(), jitter.to_string()]);
        let switch = Process::start("the slow switch", &mut command);
        until("the slow switch is ready", || switch.log().iter().any(|line| line == "ready").then_some(()));
        switch
    }

    /// On every host a rule, in nft's words, for what comes in from other hosts.
    pub(crate) fn weather(&self, rule: &str) {
        self.run_all((1..=self.hosts).map(|host| (host, format!("nft 'add rule inet net weather {rule}'"))));
    }

    /// No such rules any more.
    pub(crate) fn fine_weather(&self) {
        self.run_all((1..=self.hosts).map(|host| (host, "nft 'flush chain inet net weather'".to_owned())));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = setns(&self.before, CloneFlags::CLONE_NEWNET);
        // What still runs in there ends with its owner; the namespace goes with its last process.
        for host in (0..=self.hosts).chain(HIDDEN..=HIDDEN + self.hosts) {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(host)]).output();
        }
    }
}
