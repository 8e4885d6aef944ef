use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::per_address::TooMany;
use crate::test_dir::TestDir;

const SECRET: &str = "HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
const OTHER: &str = "HS256 ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
/// The key pair of RFC 8037, appendix A.1.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                       -----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
                      -----END PUBLIC KEY-----\n";

const PEER: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

fn claims() -> Claims {
    Claims { exp: now() + 600, ..Claims::default() }
}

struct Files(TestDir);

impl Files {
    fn new() -> Self {
        Self(TestDir::new())
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    }

    fn keys(&self, text: &str) -> Result<TicketKeys, String> {
        TicketKeys::read(&self.write("keys", text)).map_err(|error| error.to_string())
    }

    fn sign(&self, claims: &Claims, key: &str) -> String {
        sign(claims, &self.write("signing", key)).expect("a ticket")
    }
}

#[test]
fn a_ticket_is_good_that_a_key_signed_and_no_other() {
    let files = Files::new();
    let both = files.keys(&format!("# of the app\n{SECRET}\n{PUBLIC}{OTHER}")).expect("keys");
    for key in [SECRET, PRIVATE, OTHER] {
        let token = files.sign(&claims(), key);
        assert!(TicketKeys::is_ticket(&token));
        assert_eq!(both.claims(&token), Ok(claims()), "{key}");
    }
    let [ours, theirs] = [SECRET, OTHER].map(|key| files.sign(&claims(), key));
    let one = files.keys(SECRET).expect("a key");
    assert_eq!(one.claims(&theirs), Err(BadTicket::Signature));
    assert_eq!(one.claims(&files.sign(&claims(), PRIVATE)), Err(BadTicket::Signature));
    // What it says with another's signature, without one, and with an algorithm of its own choice.
    let parts: Vec<&str> = ours.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], parts[1], theirs.rsplit('.').next().unwrap_or_default());
    let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    for bad in
        [swapped, none, format!("{}.{}.", parts[0], parts[1]), String::from(".."), String::from("a.b.c")]
    {
        assert_eq!(one.claims(&bad), Err(BadTicket::Signature), "{bad}");
    }
    // The public key as a secret of HS256: the old confusion.
    let public = files.keys(PUBLIC).expect("a key");
    assert_eq!(public.claims(&ours), Err(BadTicket::Signature));
}

#[test]
fn it_has_a_time_and_perhaps_an_audience() {
    let files = Files::new();
    let keys = files.keys(SECRET).expect("a key");
    let said = |claims: &serde_json::Value| {
        let key = EncodingKey::from_secret(&secret(SECRET.trim_start_matches("HS256 ")).expect("a secret"));
        keys.claims(&encode(&Header::new(Algorithm::HS256), claims, &key.expect("a key")).expect("a token"))
    };
    let now = now();
    for (claims, fault) in [
        (serde_json::json!({"exp": now - 3600}), BadTicket::Expired),
        (serde_json::json!({"exp": now + 3600, "nbf": now + 1800}), BadTicket::Early),
        (serde_json::json!({"exp": now + 3600, "aud": "another"}), BadTicket::Audience),
        (serde_json::json!({}), BadTicket::Claims),
        (serde_json::json!({"exp": "soon"}), BadTicket::Claims),
        (serde_json::json!({"exp": now + 3600, "networks": "chess"}), BadTicket::Claims),
        (serde_json::json!({"exp": now + 3600, "maxConnections": 0}), BadTicket::Claims),
        (serde_json::json!({"exp": now + 3600, "networks": ["x".repeat(LONGEST)]}), BadTicket::Claims),
    ] {
        assert_eq!(said(&claims), Err(fault), "{claims}");
    }
    for good in [
        serde_json::json!({"exp": now - 30}),
        serde_json::json!({"exp": now + 3600, "nbf": now + 30, "aud": ["x", "pigeonhubd"], "sub": "me"}),
    ] {
        assert!(said(&good).is_ok(), "{good}");
    }
}

#[test]
fn a_ticket_for_a_peer_lets_nobody_else_in() {
    let files = Files::new();
    let keys = files.keys(SECRET).expect("a key");
    let token = files.sign(&Claims { peer_id: Some(PEER.to_uppercase()), ..claims() }, SECRET);
    let granted = keys.check(&token, Some(PEER)).expect("good");
    assert_eq!(granted.ticket.peer.map(|peer| peer.to_string()).as_deref(), Some(PEER));
    for other in [None, Some(""), Some("b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2")] {
        assert_eq!(keys.check(&token, other), Err(BadTicket::Peer));
    }
    let odd = files.sign(&Claims { peer_id: Some(String::from("me")), ..claims() }, SECRET);
    assert_eq!(keys.check(&odd, Some("me")), Err(BadTicket::Claims));
}

#[test]
fn limits_are_those_of_all_its_connections() {
    let files = Files::new();
    let keys = files.keys(SECRET).expect("a key");
    let limits = |jti: Option<&str>| {
        let (most, rate) = (NonZeroU32::new(2), NonZeroU32::new(1));
        let jti = jti.map(str::to_owned);
        let claims = Claims { max_connections: most, max_messages_per_second: rate, jti, ..claims() };
        keys.check(&files.sign(&claims, SECRET), Some(PEER)).expect("good")
    };
    let in_use = Arc::new(InUse::default());
    let ticket = limits(Some("one"));
    let enter = |ticket: &Granted| in_use.enter(ticket);
    let first = enter(&ticket).expect("room").expect("limits");
    let second = enter(&ticket).expect("room").expect("limits");
    assert_eq!(enter(&ticket).err(), Some(TooMany::Ticket));
    let taken = (0..100).filter(|n| if n % 2 == 0 { first.message() } else { second.message() }).count();
    assert!((10..20).contains(&taken), "ten seconds' worth of both: {taken}");
    assert!(enter(&limits(Some("two"))).is_ok(), "another one");
    drop(first);
    assert!(enter(&limits(Some("one"))).is_ok(), "made anew under the same name");
    let free = keys.check(&files.sign(&claims(), SECRET), Some(PEER)).expect("good");
    assert!(enter(&free).expect("room").is_none(), "without limits nothing is counted");
}

#[test]
fn what_is_no_key_is_told_without_it() {
    let files = Files::new();
    for (text, fault) in [
        ("", "no key"),
        ("# nothing\n", "no key"),
        ("HS256 c2hvcnQ=\n", "line 1: no key"),
        ("\nHS512 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", "line 2: no key"),
        (PRIVATE, "line 1: no key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", "line 1: no key"),
    ] {
        let error = files.keys(text).expect_err("no key");
        assert!(error.contains(fault) && !error.contains("AAEC") && !error.contains("c2hv"), "{error}");
    }
    assert!(files.keys(&SECRET.repeat(17)).expect_err("many").contains("17 keys"));
    assert!(files.keys(&format!("\u{feff}{SECRET}")).is_ok(), "a byte order mark is no key");
}
