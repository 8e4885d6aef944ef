//! A mesh that lost a hub, behind a load balancer: those that are left serve, and say so.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Ground, Hub, Need, Plan, Process, Raw, skipped, tied, until};
use crate::metrics::get;

/// Longer than hubs miss one that vanished.
const MISSED: Duration = Duration::from_secs(100);
/// What HAProxy needs by default to find that a hub is gone: three checks, 2 s apart, and some time for each.
const FOUND: Duration = Duration::from_secs(10);

fn three(ground: &Ground) -> [Hub; 3] {
    let first = Plan::first().start(ground);
    let joining = Plan::through([first.url().as_str()]);
    let hubs = [first, joining.start(ground), joining.start(ground)];
    hubs.iter().for_each(|hub| hub.wait_ready(2));
    hubs
}

/// The status of a page of that hub.
fn code(hub: &Hub, page: &str) -> u16 {
    let (head, _) = get(hub.port, page, "").expect("an answer");
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

/// Until the mesh of those that are left is whole again: each time `look` is called, all of them
/// are to be ready. How long that took.
fn while_it_is_missed(left: &[Hub], mut look: impl FnMut(Duration)) -> Duration {
    let killed = Instant::now();
    let mut broken = false;
    loop {
        for hub in left {
            assert_eq!(
                code(hub, "/readyz"),
                200,
                "{:?} after the kill: {:?}",
                killed.elapsed(),
                hub.status()
            );
        }
        look(killed.elapsed());
        let whole = left.iter().all(|hub| code(hub, "/meshz") == 200);
        if broken && whole {
            return killed.elapsed();
        }
        broken |= !whole;
        assert!(killed.elapsed() < MISSED, "the mesh is not whole again: {:?}", left[0].status());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_hubs_that_are_left_are_ready_while_the_killed_one_is_missed() {
    let ground = Ground::new();
    let [first, mut second, third] = three(&ground);
    second.kill();
    let took = while_it_is_missed(&[first, third], |_| ());
    println!("ready all the while; the mesh was not for {took:?}");
}

#[test]
fn a_load_balancer_lets_clients_in_while_a_killed_hub_is_missed() {
    if skipped(&[Need::Haproxy]) {
        return;
    }
    let ground = Ground::new();
    let [first, mut second, third] = three(&ground);
    let port = ground.port();
    let servers: String = [&first, &second, &third]
        .map(|hub| format!("    server hub{} 127.0.0.1:{} check\n", hub.port, hub.port))
        .concat();
    // As Debian's file has it: its time-outs, and of the checks nothing but the page.
    let text = format!(
        "defaults\n    mode http\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\n\
         frontend clients\n    bind 127.0.0.1:{port}\n    default_backend hubs\n\
         backend hubs\n    option httpchk GET /readyz\n{servers}"
    );
    let file = ground.folder().join("haproxy.cfg");
    fs::write(&file, text).expect("a configuration file");
    let _haproxy = Process::start("haproxy", tied("haproxy").arg("-db").arg("-f").arg(&file));
    let mut number = 0;
    let mut comes = || {
        number += 1;
        Raw::through(port, &format!("{number:040x}")).is_some()
    };
    until("clients get in", || comes().then_some(()));
    second.kill();
    let (mut came, mut next) = (0, FOUND);
    let took = while_it_is_missed(&[first, third], |since| {
        if since >= next {
            assert!(comes(), "{since:?} after the kill");
            came += 1;
            next += Duration::from_secs(1);
        }
    });
    assert!(came > 20, "{came} in {took:?}");
    println!("{came} clients got in, one a second, while the mesh was not ready for {took:?}");
}
