use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use pigeonhub_proto::control::{EventInfo, Offered};
use serde_json::json;

use super::*;
use crate::golden::{NOW, PLAIN, golden, shown};

#[test]
fn nobody_is_told_to_copy_what_systemd_hands_over() {
    let handed =
        keys::how_to_share(std::path::Path::new("/run/credentials/pigeonhubd@3001.service/mesh.key"));
    assert!(handed.contains("/etc/credstore/pigeonhubd.mesh.key") && !handed.contains("/run"), "{handed}");
    let file = keys::how_to_share(std::path::Path::new("/var/lib/pigeonhubd/mesh.key"));
    assert!(file.contains("copy /var/lib/pigeonhubd/mesh.key to the others"), "{file}");
}

#[test]
fn each_finding_has_its_cure() {
    let findings = [
        Finding::ok("open files", "20000 of the hub"),
        Finding::skipped("hub", "does not run"),
        Finding::warning("clock", "not synchronized", "set it"),
        Finding::failed("mesh key", "/k: mode 0644 shows this secret to everyone", "chmod 600 '/k'"),
    ];
    golden("doctor.txt", &shown(|out| findings.iter().try_for_each(|finding| write(out, &PLAIN, finding))));
    golden("doctor.json", &shown(|out| findings.iter().try_for_each(|finding| show::line(out, finding))));
}

#[test]
fn every_connection_needs_a_file() {
    let text = "Limit  Soft Limit  Hard Limit  Units\nMax cpu time  unlimited unlimited seconds\nMax open files            1024                 524288               files     \n";
    assert_eq!(machine::soft_limit(text), Some(1024));
    assert_eq!(machine::soft_limit("Max open files unlimited unlimited files"), Some(u64::MAX));
    assert_eq!(machine::open_files(12_048, "of the hub", 10_000).verdict, Verdict::Ok);
    let few = machine::open_files(4096, "of the hub", 10_000);
    assert_eq!(few.verdict, Verdict::Warning);
    let cure = few.cure.expect("a cure");
    assert!(cure.contains("LimitNOFILE=12048") && cure.contains("2048 or less"), "{cure}");
}

#[test]
fn a_clock_that_went_back_is_noticed() {
    let now = NOW + 100_000_000_000;
    let at = |ms: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
    assert_eq!(machine::sane(now, None, None).verdict, Verdict::Ok);
    assert_eq!(machine::sane(now, at(now + 59_000), Some(true)).verdict, Verdict::Ok);
    let back = machine::sane(now, at(now + 3_600_000), Some(true));
    assert_eq!((back.verdict, back.found.starts_with("1 h earlier")), (Verdict::Failed, true), "{back:?}");
    assert_eq!(machine::sane(now, None, Some(false)).verdict, Verdict::Warning);
    assert_eq!(machine::sane(NOW, None, Some(true)).verdict, Verdict::Failed);
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("pigeonctl-doctor-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn secrets_and_folders_open_to_everyone_are_faults() {
    let dir = Dir::new("rights");
    let key = dir.0.join("mesh.key");
    assert_eq!(keys::secret("mesh key", &key, None, false).verdict, Verdict::Ok);
    assert_eq!(keys::secret("mesh key", &key, None, true).verdict, Verdict::Failed);
    fs::write(&key, "secret").expect("a file");
    for (mode, verdict) in [(0o600, Verdict::Ok), (0o640, Verdict::Ok), (0o644, Verdict::Failed)] {
        fs::set_permissions(&key, Permissions::from_mode(mode)).expect("our file");
        let finding = keys::secret("mesh key", &key, None, true);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
    }
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("our file");
    let other = nix::unistd::geteuid().as_raw() + 1;
    let foreign = keys::secret("mesh key", &key, Some(other), true);
    assert!(foreign.cure.is_some_and(|cure| cure.starts_with(&format!("chown {other} "))));
    for (mode, verdict) in [(0o750, Verdict::Ok), (0o757, Verdict::Failed)] {
        fs::set_permissions(&dir.0, Permissions::from_mode(mode)).expect("our folder");
        assert_eq!(keys::folder("state folder", &dir.0, None).verdict, verdict);
    }
    assert_eq!(keys::folder("state folder", &key, None).verdict, Verdict::Failed);
    assert_eq!(keys::folder("state folder", &dir.0.join("a/b"), None).verdict, Verdict::Ok);
    assert_eq!(keys::folder("state folder", &key.join("a/b"), None).verdict, Verdict::Failed);
    fs::set_permissions(&dir.0, Permissions::from_mode(0o500)).expect("our folder");
    let closed = keys::folder("state folder", &dir.0.join("a/b"), None);
    fs::set_permissions(&dir.0, Permissions::from_mode(0o700)).expect("our folder");
    let verdict = if nix::unistd::geteuid().is_root() { Verdict::Ok } else { Verdict::Warning };
    assert_eq!(closed.verdict, verdict, "{closed:?}");
}

#[test]
fn a_stranger_is_a_fault_only_to_a_hub_that_has_no_mesh() {
    let fields = json!({"hub": "ws://192.0.2.7:3000", "reason": "the mesh keys differ"});
    let fields = fields.as_object().cloned().expect("an object");
    let event = EventInfo { number: 1, at: 50_000, event: String::from("hubRejected"), fields };
    let verdict = |hubs, now| keys::turned_away(&event, hubs, now, "copy it").map(|finding| finding.verdict);
    assert_eq!(verdict(0, 90_000_000), Some(Verdict::Failed));
    assert_eq!(verdict(2, 60_000), Some(Verdict::Warning));
    assert_eq!(verdict(2, 700_000), None, "that is long ago");
    let found = keys::turned_away(&event, 2, 62_000, "copy it").map(|finding| finding.found);
    assert_eq!(found.as_deref(), Some("hub ws://192.0.2.7:3000, 12 s ago: the mesh keys differ"));
    let other = EventInfo { event: String::from("hubMeshReady"), ..event.clone() };
    assert!(keys::turned_away(&other, 0, 60_000, "copy it").is_none());
}

#[test]
fn the_key_of_a_running_hub_that_is_gone_is_told() {
    let finding = keys::gone(std::path::Path::new("/nowhere/hub.key"));
    assert_eq!(finding.verdict, Verdict::Warning);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    let taken = port::free(&[address.ip()], address.port());
    assert_eq!(taken.verdict, Verdict::Failed);
    assert!(taken.cure.is_some_and(|cure| cure.contains(&format!("sport = :{}", address.port()))));
    drop(listener);
    // Twice the same, as an address for IPv6 may be one for IPv4 as well; and one that is not ours.
    let addresses = [address.ip(), address.ip(), [203, 0, 113, 77].into()];
    assert_eq!(port::free(&addresses, address.port()).verdict, Verdict::Ok);
    assert_eq!(port::free(&addresses[2..], address.port()).verdict, Verdict::Failed);
}

#[test]
fn the_port_is_tried_where_the_hub_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let here = listener.local_addr().expect("it is bound");
    let serve = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("doctor comes");
        let mut request = [0; 512];
        let _ = stream.read(&mut request).expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("doctor reads");
    });
    // Of documentation, so nobody's: a machine may lack IPv6 and listen on all of it.
    let nowhere = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], here.port()));
    let findings = port::answering(&[nowhere, here], "id", false);
    serve.join().expect("it answered");
    let told: Vec<_> = findings.iter().map(|it| (it.verdict, it.found.as_str())).collect();
    assert_eq!(told, [(Verdict::Ok, format!("{here} answers").as_str())]);
    let findings = port::answering(&[nowhere], "id", false);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].verdict, Verdict::Failed, "{findings:?}");
    assert!(findings[0].found.contains("an address that this machine does not have"), "{findings:?}");
}

#[test]
fn doctor_tells_which_addresses_and_ports_are_not_enough() {
    let some = |count: u8| (0..count).map(|at| std::net::IpAddr::from([10, 0, 0, at])).collect::<Vec<_>>();
    let verdicts = |addresses, left_out, no_port, ports| {
        let offered = Offered { addresses, left_out, no_port };
        let found = net::addresses_of(&offered, ports, 3);
        found.into_iter().map(|finding| (finding.check, finding.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(some(2), some(0), 0, Some(5)), [("addresses", Verdict::Ok)]);
    assert_eq!(verdicts(some(16), some(1), 0, None), [("addresses", Verdict::Warning)]);
    assert_eq!(verdicts(some(0), some(0), 0, None), [("addresses", Verdict::Failed)]);
    let short = [("addresses", Verdict::Ok), ("UDP ports", Verdict::Warning)];
    assert_eq!(verdicts(some(2), some(0), 0, Some(4)), short);
    assert_eq!(verdicts(some(2), some(0), 1, Some(5)), short);
}

#[test]
fn udp_passes_on_loopback() {
    net::udp_pair([127, 0, 0, 1].into()).expect("loopback passes UDP");
}

/// Answers one STUN request as RFC 8489 says, with XOR-MAPPED-ADDRESS.
fn stun_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut request = [0; 64];
        let (len, from) = socket.recv_from(&mut request).expect("a request");
        assert_eq!((len, &request[..2]), (20, &[0, 1][..]));
        let SocketAddr::V4(seen) = from else { panic!("IPv4") };
        let mut answer = vec![1, 1, 0, 20];
        answer.extend_from_slice(&request[4..20]);
        // Another attribute first, whose length is not a multiple of four.
        answer.extend_from_slice(&[0x80, 0x22, 0, 2, b'x', b'y', 0, 0]);
        answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1]);
        answer.extend((seen.port() ^ 0x2112).to_be_bytes());
        answer
            .extend(seen.ip().octets().iter().zip([0x21, 0x12, 0xa4, 0x42]).map(|(byte, mask)| byte ^ mask));
        socket.send_to(&answer, from).expect("sent");
    });
    address
}

#[test]
fn a_stun_server_tells_how_it_sees_us() {
    let finding = net::ice_server(&format!("stun:{}", stun_server()));
    assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    assert!(finding.found.contains("sees us as 127.0.0.1:"), "{finding:?}");
    for broken in [&[][..], &[1, 1, 0, 0], &[1, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]] {
        assert_eq!(probe::mapped(broken, &[0; 12]), None);
    }
}

/// Answers one connection with that text.
fn web_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut request = [0; 1024];
        let len = stream.read(&mut request).expect("a request");
        let request = String::from_utf8_lossy(&request[..len]).into_owned();
        let peer = request
            .strip_prefix("GET /at?a=b&peerId=")
            .and_then(|rest| rest.split_once("&mesh=1 HTTP/1.1\r\n"));
        let peer = peer.expect("a hub's request").0;
        assert!(peer.len() == 40 && peer.bytes().all(|digit| digit.is_ascii_hexdigit()), "{peer}");
        assert!(request.contains("Upgrade: websocket"));
        stream.write_all(answer.as_bytes()).expect("sent");
    });
    address
}

#[test]
fn a_bootstrap_is_one_that_agrees_to_a_websocket() {
    let verdicts = |answer| {
        let url = format!("ws://{}/at?a=b", web_server(answer));
        net::bootstrap(&url, None)
            .into_iter()
            .map(|finding| (finding.check, finding.verdict))
            .collect::<Vec<_>>()
    };
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(verdicts(agreed), [("bootstrap", Verdict::Ok)]);
    assert_eq!(verdicts("HTTP/1.1 404 Not Found\r\n\r\n"), [("bootstrap", Verdict::Failed)]);
    assert_eq!(verdicts(""), [("bootstrap", Verdict::Failed)]);
    let past = "HTTP/1.1 101 Switching Protocols\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
    assert_eq!(verdicts(past), [("bootstrap", Verdict::Ok), ("clock", Verdict::Warning)]);
}

#[test]
fn a_bootstrap_where_nobody_listens_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("it is bound");
    let findings = net::bootstrap(&format!("ws://{free}"), None);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].found.contains("refused") && findings[0].cure.is_some(), "{findings:?}");
}

#[test]
fn http_dates_are_read() {
    let at = probe::http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
    assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    assert_eq!(probe::http_date("yesterday"), None);
}

#[test]
fn a_certificate_that_is_soon_over_is_told() {
    let dir = Dir::new("certificate");
    let file = dir.0.join("cert.pem");
    let mut params = rcgen::CertificateParams::new([String::from("a.example")]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 3, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("a file");
    // 2026-01-01 in seconds since the Unix epoch.
    let first = 1_767_225_600;
    let at = |days: u64| {
        let finding = keys::certificate(&file, first + days * 86_400).expect("it is one");
        (finding.verdict, finding.found)
    };
    assert_eq!(at(0), (Verdict::Ok, String::from("valid until 2026-03-01")));
    assert_eq!(at(49), (Verdict::Warning, String::from("over in 10 d")));
    assert_eq!(at(60), (Verdict::Failed, String::from("over since 2026-03-01: clients turn away")));
    assert_eq!(keys::certificate(&file, first - 1).expect("it is one").verdict, Verdict::Failed);
    fs::write(&file, "junk").expect("a file");
    assert!(keys::certificate(&file, first).is_none(), "what is wrong with it is told elsewhere");
}

#[test]
fn a_copied_hub_key_is_told_with_its_place_and_its_cure() {
    let key = std::path::Path::new("/var/lib/pigeonhubd/3001/hub.key");
    let found = keys::twin_key("ws://192.0.2.7:3001", key);
    assert_eq!(found.verdict, Verdict::Failed);
    assert!(found.found.contains("another hub at ws://192.0.2.7:3001 runs with the same key"));
    assert!(found.cure.is_some_and(|cure| cure.ends_with("rm '/var/lib/pigeonhubd/3001/hub.key'")));
    assert!(keys::twin_key("", key).found.contains("another hub runs with the same key"));
}
