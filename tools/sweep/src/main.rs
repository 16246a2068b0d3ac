//! `armilla-sweep`: seeds of the simulated world, more than a test run has time for.
//!
//! Goes on where the ledger ends, and adds one line to it: which seeds, which commit, how many lives, what was found.

mod worlds;

use armilla::base::marks;
use armilla::base::planted::Planted;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use worlds::{Outcome, World};

/// Run seeds of the simulated world and add them to the ledger.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release -p armilla-sweep -- --minutes 10
  cargo run --release -p armilla-sweep -- --world cluster --minutes 10
  cargo run --release -p armilla-sweep -- --seed 4711")]
struct Options {
    /// What is simulated: one node, or several that form a ring [default: one node; of planted bugs, those of both]
    #[arg(long, value_enum)]
    world: Option<World>,
    /// One seed only, told in detail and not in the ledger
    #[arg(long)]
    seed: Option<u64>,
    /// Plant each bug in turn, and tell how many seeds it takes to catch it
    #[arg(long)]
    planted: bool,
    /// How long to go on
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Operations of a seed
    #[arg(long, default_value_t = 1_000)]
    operations: u64,
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// One JSON object a line, appended to
    #[arg(long, default_value = "tools/sweep/ledger.jsonl")]
    ledger: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(default)]
    world: World,
    commit: String,
    operations_per_seed: u64,
    first_seed: u64,
    seeds: u64,
    lives: u64,
    mints: u64,
    #[serde(default)]
    operations: u64,
    #[serde(default)]
    crashes: u64,
    #[serde(default)]
    partitions: u64,
    /// How often each coverage mark was seen.
    #[serde(default)]
    marks: BTreeMap<String, u64>,
    seconds: u64,
    violations: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let world = options.world.unwrap_or_default();
    match options.seed {
        Some(seed) => one(world, seed, options.operations),
        None if options.planted => planted(options.world, options.operations),
        None => sweep(world, &options),
    }
}

fn one(world: World, seed: u64, operations: u64) -> ExitCode {
    let outcome = world.run(seed, operations, None);
    println!("{}", outcome.told);
    exit(outcome.violations.is_empty())
}

/// Seeds that a planted bug may take.
const PLANTED_SEEDS_MAX: u64 = 2_000;

fn planted(world: Option<World>, operations: u64) -> ExitCode {
    let mut missed = false;
    std::panic::set_hook(Box::new(|_| ()));
    println!("| planted bug | stands for | seeds | caught by |\n|---|---|---|---|");
    for &bug in Planted::ALL {
        if world.is_some_and(|world| world != worlds::of(bug)) {
            continue;
        }
        let caught = (0..PLANTED_SEEDS_MAX).find_map(|seed| {
            match std::panic::catch_unwind(|| worlds::judge(bug, seed, operations)) {
                Ok(violations) => violations.first().map(|what| (seed + 1, what.clone())),
                Err(_) => Some((seed + 1, "an assertion of the node".into())),
            }
        });
        missed |= caught.is_none();
        let (seeds, what) = match caught {
            Some((seeds, what)) => (seeds.to_string(), what),
            None => (
                format!("more than {PLANTED_SEEDS_MAX}"),
                "NOT CAUGHT".into(),
            ),
        };
        println!(
            "| {} | {} | {seeds} | {what:.90} |",
            bug.name(),
            bug.stands_for()
        );
    }
    exit(!missed)
}

fn exit(clean: bool) -> ExitCode {
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    }
}

fn sweep(world: World, options: &Options) -> ExitCode {
    let first = match next_seed(world, &options.ledger) {
        Ok(first) => first,
        Err(message) => {
            eprintln!("armilla-sweep: {message}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let deadline = started + Duration::from_secs(options.minutes * 60);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        let mut done: Vec<Outcome> = Vec::new();
        while Instant::now() < deadline && !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let outcome = world.run(seed, options.operations, None);
            if !outcome.violations.is_empty() {
                failed.store(true, Ordering::Relaxed);
                eprintln!("seed {seed}: {:#?}", outcome.violations);
            }
            if seed % 1_000 == 0 {
                eprintln!("seed {seed}, {} s", started.elapsed().as_secs());
            }
            done.push(outcome);
        }
        (done, marks::counts())
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("a worker does not panic"))
            .collect()
    });
    let mut seen = BTreeMap::new();
    for (mark, count) in parts.iter().flat_map(|(_, counts)| counts) {
        *seen.entry(mark.name().to_owned()).or_insert(0) += count;
    }
    let outcomes: Vec<Outcome> = parts.into_iter().flat_map(|(done, _)| done).collect();
    let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum();
    let line = Line {
        world,
        commit: commit(),
        operations_per_seed: options.operations,
        first_seed: first,
        seeds: outcomes.len() as u64,
        lives: sum(|o| o.lives),
        mints: sum(|o| o.mints),
        operations: sum(|o| o.operations),
        crashes: sum(|o| o.crashes),
        partitions: sum(|o| o.partitions),
        marks: seen,
        seconds: started.elapsed().as_secs(),
        violations: outcomes
            .iter()
            .filter_map(|o| o.violations.first().map(|what| (o.seed, what.clone())))
            .collect(),
    };
    let text = serde_json::to_string(&line).expect("plain data is JSON");
    println!("{text}");
    let appended = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&options.ledger)
        .and_then(|mut file| writeln!(file, "{text}"));
    if let Err(error) = appended {
        eprintln!(
            "armilla-sweep: cannot write {}: {error}",
            options.ledger.display()
        );
        return ExitCode::from(3);
    }
    exit(line.violations.is_empty())
}

/// Behind the last seed of this world in the ledger; the tests have the seeds below a million.
fn next_seed(world: World, ledger: &Path) -> Result<u64, String> {
    let text = match std::fs::read_to_string(ledger) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", ledger.display())),
    };
    let mut next = 1_000_000;
    for (number, line) in text.lines().enumerate() {
        let line: Line = serde_json::from_str(line)
            .map_err(|e| format!("{} line {}: {e}", ledger.display(), number + 1))?;
        if line.world == world {
            next = next.max(line.first_seed + line.seeds);
        }
    }
    Ok(next)
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_default()
}
