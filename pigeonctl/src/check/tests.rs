use super::*;
use crate::golden::PLAIN;
use crate::look::now_ms;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let name = format!("pigeonctl-check-{name}-{}-{}", std::process::id(), now_ms());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("conf.d")).expect("a folder");
        for (file, bytes) in files {
            std::fs::write(dir.join(file), bytes).expect("a file");
        }
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn told(dir: &Dir, layers: &Layers) -> String {
    let mut out = Vec::new();
    for mistake in check(layers, None).expect("files can be read").1 {
        mistake.write(&mut out, &PLAIN).expect("it is memory");
    }
    String::from_utf8(out).expect("UTF-8").replace(&*dir.0.to_string_lossy(), "DIR")
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let text = b"[listen]\nprot = 1\nmax_connections = 0\n[mesh]\nmin_peers = 3\n";
    let dir = Dir::new("places", &[("a.toml", text), ("b.toml", b"[mesh]\nmax_peers = 2\n")]);
    let layers = Layers { shared: vec![dir.0.join("a.toml"), dir.0.join("b.toml")], ports: Vec::new() };
    assert_eq!(
        told(&dir, &layers),
        "DIR/a.toml:2:1: listen.prot: unknown key; did you mean listen.port?\n    prot = …\n    ^^^^\n\
         DIR/a.toml:3:19: listen.max_connections = 0: out of range: 1 to 1000000\n    max_connections = 0\n                      ^\n\
         DIR/a.toml:5:13: mesh.min_peers = 3: more than mesh.max_peers = 2 (DIR/b.toml:2:13); \
         should be 1 to 2, or max_peers larger\n    min_peers = 3\n                ^\n"
    );
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let dir = Dir::new("pipe", &[]);
    let pipe = dir.0.join("conf.d/10.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
    let layers = daemon_files(&dir.0, None).expect("readable");
    let failure = check(&layers, None).expect_err("no file").to_string();
    assert_eq!(failure, format!("{}: cannot be read: not a file", pipe.display()));
}

#[test]
fn the_daemons_files_are_laid_over_each_other_for_each_port() {
    let files: [(&str, &[u8]); 6] = [
        ("pigeonhubd.toml", b"[mesh]\nmin_peers = 3\n"),
        ("conf.d/20.toml", b"[mesh]\nmax_peers = 2\n"),
        ("conf.d/10.toml", b"[mesh]\nmax_peers = 9\n"),
        ("conf.d/ignored.txt", b"]"),
        ("3001.toml", b"[listen]\nport = 3003\n[mesh]\nmax_peers = 4\n"),
        ("3002.toml", b"\n\xff"),
    ];
    let dir = Dir::new("layers", &files);
    let layers = daemon_files(&dir.0, None).expect("readable");
    assert_eq!(layers.shared, ["pigeonhubd.toml", "conf.d/10.toml", "conf.d/20.toml"].map(|f| dir.0.join(f)));
    let told = told(&dir, &layers);
    // 3001 has room for three; 3002, without its file, has not.
    let port = "DIR/3001.toml:2:8: listen.port = 3003: the file's name says 3001; should be named 3003.toml";
    assert!(told.starts_with(port), "{told}");
    assert!(told.contains("DIR/3002.toml:2: not UTF-8; should be"), "{told}");
    assert_eq!(told.matches("more than mesh.max_peers = 2 (DIR/conf.d/20.toml").count(), 1, "{told}");
    assert_eq!(load(&dir.0, Some(3001)).expect("valid").mesh.max_peers, 4);
    assert_eq!(load(&dir.0, Some(3001)).expect("valid").listen.port, 3001);
    let only = daemon_files(&dir.0, Some(7)).expect("readable");
    assert_eq!(only.ports, [(7, None)]);
}

#[test]
fn files_that_are_named_must_do() {
    let toml = b"[mesh]\nkey_file = \"DIR/open\"\n[tls]\ncert = \"DIR/none\"\nkey = \"DIR/conf.d\"\n";
    let dir = Dir::new("named", &[("open", b"0123456789abcdef")]);
    let toml = String::from_utf8_lossy(toml).replace("DIR", &dir.0.to_string_lossy());
    std::fs::write(dir.0.join("a.toml"), toml).expect("a file");
    std::fs::set_permissions(dir.0.join("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("ours");
    let layers = Layers { shared: vec![dir.0.join("a.toml")], ports: Vec::new() };
    let told = told(&dir, &layers);
    let first: Vec<&str> = told.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        first,
        [
            "DIR/a.toml:2:12: mesh.key_file: DIR/open: mode 0644 shows this secret to everyone; right would be: chmod 600 'DIR/open'",
            "DIR/a.toml:4:8: tls.cert: DIR/none: cannot be read: No such file or directory (os error 2)",
            "DIR/a.toml:5:7: tls.key: DIR/conf.d: not a file",
        ]
    );
    assert!(told.contains("    cert = \"DIR/none\"\n           ^^^"), "{told}");
}

#[test]
fn the_hubs_own_readers_look_into_the_files() {
    let files: [(&str, &[u8]); 3] =
        [("tokens", b"0123456789abcdef # of the app\n"), ("key", b"short\n"), ("roots", b"junk")];
    let dir = Dir::new("into", &files);
    for (name, _) in files {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.0.join(name), mode).expect("ours");
    }
    let toml = "auth.token_file = \"DIR/tokens\"\nmesh.key_file = \"DIR/key\"\ntls.ca = \"DIR/roots\"\n";
    std::fs::write(dir.0.join("a.toml"), toml.replace("DIR", &dir.0.to_string_lossy())).expect("a file");
    let layers = Layers { shared: vec![dir.0.join("a.toml")], ports: Vec::new() };
    let told = told(&dir, &layers);
    for expected in [
        "DIR/a.toml:1:19: auth.token_file: DIR/tokens: line 1: 29 bytes or odd ones; should be a token",
        "DIR/a.toml:2:17: mesh.key_file: DIR/key: 5 bytes; should be at least 16",
        "DIR/a.toml:3:10: tls.ca: DIR/roots: holds no certificate",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("0123456789abcdef"), "a token is in no message: {told}");
}

/// Only root can become another user to look.
#[test]
fn root_sees_with_the_eyes_of_the_services_user() {
    let Some(nobody) = User::from_name("nobody").expect("a list of users") else { return };
    if !geteuid().is_root() {
        return;
    }
    let dir = Dir::new("eyes", &[("tokens", b"0123456789abcdef\n")]);
    let tokens = dir.0.join("tokens");
    std::fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    assert!(std::fs::read(&tokens).is_ok());
    // In a process of its own: other tests run in this one's threads.
    let exe = std::env::current_exe().expect("this test");
    if std::env::var_os("PIGEONCTL_TEST_EYES").is_none() {
        let name = "check::tests::root_sees_with_the_eyes_of_the_services_user";
        let run = process::Command::new(exe).args(["--exact", name]).env("PIGEONCTL_TEST_EYES", "1").output();
        let run = run.expect("it runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let toml = format!("auth.token_file = \"{}\"\n", tokens.display());
    let file = dir.0.join("a.toml");
    std::fs::write(&file, toml).expect("a file");
    let layers = Layers { shared: vec![file], ports: Vec::new() };
    let eyes = eyes::Eyes::of(&nobody).expect("root may");
    let (_, mistakes) = check(&layers, Some(&nobody)).expect("readable");
    drop(eyes);
    let told: Vec<String> = mistakes.iter().map(Mistake::text).collect();
    let denied =
        "cannot be read: Permission denied (os error 13); the service runs as nobody and must be let";
    assert!(told.iter().any(|text| text.contains(denied)), "{told:?}");
    assert!(geteuid().is_root() && std::fs::read(&tokens).is_ok(), "and is itself again");
}

#[test]
fn a_certificate_needs_its_own_key() {
    let made = || rcgen::generate_simple_self_signed([String::from("a.example")]).expect("a certificate");
    let (one, other) = (made(), made());
    let dir = Dir::new("tls", &[("junk", b"junk")]);
    for (name, pem) in [
        ("cert", one.cert.pem()),
        ("key", one.signing_key.serialize_pem()),
        ("other", other.signing_key.serialize_pem()),
    ] {
        std::fs::write(dir.0.join(name), pem).expect("a file");
        std::fs::set_permissions(dir.0.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("ours");
    }
    std::fs::set_permissions(dir.0.join("junk"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("ours");
    let found = |cert: &str, key: &str| {
        let mut config = Config::default();
        config.tls.cert = Some(dir.0.join(cert));
        config.tls.key = Some(dir.0.join(key));
        let faults = files::faults(&config).into_iter();
        faults.map(|fault| (fault.key, fault.problem)).collect::<Vec<_>>()
    };
    assert_eq!(found("cert", "key"), []);
    for (cert, key, at, what) in [
        ("cert", "other", "tls.key", "does not belong to the certificate in"),
        ("cert", "junk", "tls.key", "holds no private key; should begin with"),
        ("junk", "key", "tls.cert", "holds no certificate"),
        ("key", "key", "tls.cert", "holds no certificate"),
    ] {
        let found = found(cert, key);
        assert!(matches!(&found[..], [(of, problem)] if *of == at && problem.contains(what)), "{found:?}");
    }
}
