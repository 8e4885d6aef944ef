use std::sync::Arc;

use nix::sys::resource::{UsageWho, getrusage};

use super::*;

/// Opens and closes many pairs and looks for what they leave behind. In a process of its own,
/// because other tests open descriptors too.
#[test]
fn closed_channels_leave_nothing_behind() {
    if std::env::var_os("CHANNEL_TEST_ALONE").is_none() {
        return alone("closed_channels_leave_nothing_behind");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let (left, right) = pair().await;
        end_pair(left, right).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let (tasks_before, descriptors_before) = (tasks(), descriptors());
        for round in 0..50 {
            let limits = Limits::default();
            let (left, right) = pair_with(&limits).await;
            end_pair(left, right).await;
            assert_eq!(Arc::strong_count(&limits.alive), 1, "a connection of round {round} is still there");
            if round % 10 == 9 {
                println!("after {} pairs: {} KiB resident", round + 1, resident());
            }
        }
        assert_eq!(descriptors(), descriptors_before, "descriptors are left open");
        // A task that has told its end may still be on its last step.
        let ended = async {
            while tasks() > tasks_before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(HANG, ended).await.expect("tasks are left running");
    });
}

async fn end_pair(mut left: End, mut right: End) {
    left.handle = None;
    assert!(matches!(right.closed().await, ClosedBy::Remote { .. }));
    assert_eq!(left.closed().await, ClosedBy::Local);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux tells the open files").count()
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("the size is a number")
}

/// Runs one test of this file in a process that does nothing else.
fn alone(test: &str) {
    let program = std::env::current_exe().expect("the test has a program");
    let name = format!("channel::tests::costs::{test}");
    let output = std::process::Command::new(program)
        .args(["--exact", &name, "--nocapture"])
        .env("CHANNEL_TEST_ALONE", "1")
        .output()
        .expect("the program starts again");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_round_trip_is_short() {
    let (mut left, mut right) = pair().await;
    let mut times = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        left.send("ping").expect("the queue is empty");
        let ping = right.message().await;
        right.send(ping).expect("the queue is empty");
        left.message().await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("round trip: p50 {:?}, p90 {:?}, p99 {:?}", times[500], times[900], times[990]);
}

/// A measurement, not a check: `cargo test -- --ignored --nocapture idle`.
#[test]
#[ignore = "takes five seconds and only prints"]
fn what_an_idle_channel_costs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let before = resident();
        let mut pairs = Vec::new();
        for _ in 0..10 {
            pairs.push(pair().await);
        }
        println!("{} KiB resident per end", (resident() - before) / 20);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = used();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let busy = used() - start;
        println!(
            "20 open ends used {busy:?} in 5 s: {:.3} % of a core each",
            busy.as_secs_f64() / 5.0 / 20.0 * 100.0
        );
    });
}

fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the system tells the use");
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0))
        })
        .sum()
}
