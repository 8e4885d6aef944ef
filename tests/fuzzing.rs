//! Some half a minute of search in each fuzz target, from its corpus. By hand it is a quarter
//! of an hour: `tests/fuzz/run all 900`.

use std::process::{Command, Stdio};

use crate::harness::{Need, skipped};

/// The same way through the same inputs each time, so that what passed once does not fail the next
/// time by chance. By hand it is another way each time.
const SEED: &str = "1";

/// `inputs`: how many, some half a minute's worth. Not a time: a busy machine would search less in it.
fn search(target: &str, inputs: u64) {
    if skipped(&[Need::Gxx]) {
        return;
    }
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/run");
    let run = Command::new(run)
        .args([target, "0", SEED, &inputs.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("a script");
    let said = String::from_utf8_lossy(&run.stderr);
    let tail: Vec<&str> = said.lines().rev().take(60).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    assert!(run.status.success(), "{target}: {}", tail.join("\n"));
    // It really searched, with feedback: else it would find nothing for ever.
    let executed = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executed: u64 = executed.expect("final figures").trim().parse().expect("a count");
    assert!(executed >= inputs && said.contains(" cov: "), "{executed} inputs: {said}");
    println!("fuzz: {target}: {executed} inputs");
}

macro_rules! targets {
    ($($target:ident $inputs:literal,)*) => {
        $(
            #[test]
            fn $target() {
                search(stringify!($target), $inputs);
            }
        )*

        /// Each file is one of them, so none is forgotten.
        #[test]
        fn every_target_is_searched() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/targets");
            let files = std::fs::read_dir(folder).expect("targets").map(|file| file.expect("a file").path());
            let mut found: Vec<String> =
                files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect();
            found.sort_unstable();
            assert_eq!(found, [$(stringify!($target)),*]);
        }
    };
}

targets! {
    client_frames 50_000,
    configuration 15_000,
    control_requests 1_500_000,
    descriptions 400_000,
    http_requests 200_000,
    json 5_000_000,
    mesh_frames 20_000,
    records 30_000,
}
