//! The same seed, the same binary: the same trace, in another process with another environment and directory.

use armilla::sim::{cluster, world};
use std::process::Command;

const SEEDS: [u64; 4] = [1, 22, 333, 4444];
const ASK: &str = "ARMILLA_SIM_TRACE_OF";

fn traces() -> String {
    let trace = |seed| {
        let one = world::run(&world::Plan {
            seed,
            operations: 1_000,
            planted: None,
        });
        let several = cluster::run(&cluster::Plan {
            grows: seed % 2 == 1,
            seed,
            operations: 300,
            planted: None,
        });
        format!(
            "{seed}:{:032x}:{}:{:032x}:{}",
            one.trace_hash, one.trace_steps, several.trace_hash, several.trace_steps
        )
    };
    SEEDS.map(trace).join(" ")
}

/// Run by the test below in a process of its own; alone it does nothing.
#[test]
fn print_traces() {
    if std::env::var_os(ASK).is_some() {
        println!("all-traces: {}", traces());
    }
}

#[test]
fn a_seed_has_one_trace_in_every_process() {
    let elsewhere = |directory: &str, padding: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "determinism::print_traces",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ASK, "1")
            .env("PADDING", padding)
            .current_dir(directory)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let start = text
            .find("all-traces: ")
            .unwrap_or_else(|| panic!("no traces in {text}"));
        text[start..].lines().next().unwrap().to_owned()
    };
    let first = elsewhere("/", "");
    let second = elsewhere(env!("CARGO_MANIFEST_DIR"), &"x".repeat(3_000));
    assert_eq!(first, second);
    assert_eq!(first, format!("all-traces: {}", traces()));
}
