//! `armilla-fuzz`: the fuzz targets of `armilla::fuzz` under libFuzzer, on a stable compiler.
//!
//! Coverage is LLVM's own pass, asked for with the flags that cargo-fuzz uses too; only the sanitizers would need a
//! nightly compiler, and the code they would watch is safe Rust. What is found new is kept in a working corpus below
//! `target/`, so that the next run goes on where this one ended.

mod fuzzer;
mod ledger;

use armilla::fuzz::{TARGETS, Target, corpus, target};
use clap::{Args, Parser, Subcommand};
use fuzzer::Fuzzer;
use ledger::Line;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

/// Run the fuzz targets with coverage feedback, and keep a ledger of it.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run -p armilla-fuzz -- run                             every target, a minute each
  cargo run -p armilla-fuzz -- run record group --seconds 600
  cargo run -p armilla-fuzz -- minimize                        what the runs found -> tools/fuzz/corpus
  cargo run -p armilla-fuzz -- try record target/fuzz/findings/record-crash-..")]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fuzz, and add a line a target to the ledger; a finding ends with exit code 3
    Run(Run),
    /// Keep the smallest inputs that reach all that the working corpus reaches, as the committed corpus
    Minimize {
        /// All of them, if none is named
        targets: Vec<String>,
    },
    /// Run a target once over the bytes of a file, without coverage
    Try { target: String, file: PathBuf },
    /// What the ledger says in all
    Total,
}

#[derive(Args)]
struct Run {
    /// All of them, if none is named
    targets: Vec<String>,
    /// How long each target goes on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// End a target after so many executions instead; 0: only the time counts
    #[arg(long, default_value_t = 0)]
    executions: u64,
}

fn main() -> ExitCode {
    let done = match Options::parse().verb {
        Verb::Run(options) => run(&options),
        Verb::Minimize { targets } => minimize(&targets),
        Verb::Try { target, file } => attempt(&target, &file),
        Verb::Total => total(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(message) => {
            eprintln!("armilla-fuzz: {message}");
            ExitCode::from(2)
        }
    }
}

/// Bytes of a committed corpus, as text: what is longer stays in the working corpus, the shortest inputs go first.
const CORPUS_BYTES_MAX: usize = 20 << 10;

/// `tools/fuzz`, wherever this is started from.
fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn named(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let find = |name: &String| {
        target(name).ok_or(format!(
            "no target '{name}'; there are {}",
            known.join(", ")
        ))
    };
    names.iter().map(find).collect()
}

/// False: something was found.
fn run(options: &Run) -> Result<bool, String> {
    let targets = named(&options.targets)?;
    let commit = ledger::commit();
    let fuzzer = Fuzzer::build()?;
    let mut clean = true;
    for target in targets {
        let inputs = [(target.seeds)(), committed(target)?].concat();
        fuzzer.add(target, &inputs)?;
        let seen = fuzzer.run(target, options.seconds, options.executions)?;
        let line = Line {
            target: target.name.to_string(),
            commit: commit.clone(),
            seen,
        };
        println!("{}\n{line}", ledger::HEADER);
        ledger::append(&line)?;
        clean &= line.seen.panics == 0;
    }
    Ok(clean)
}

/// The committed inputs of a target: what its findings were, and its corpus.
fn committed(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let mut inputs = Vec::new();
    for folder in ["regressions", "corpus"] {
        let path = corpus_path(folder, target);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        inputs.extend(corpus::parse(&text).map_err(|why| format!("{}: {why}", path.display()))?);
    }
    Ok(inputs)
}

fn corpus_path(folder: &str, target: &Target) -> PathBuf {
    home().join(folder).join(target.name.to_owned() + ".hex")
}

fn minimize(names: &[String]) -> Result<bool, String> {
    let targets = named(names)?;
    let fuzzer = Fuzzer::build()?;
    for target in targets {
        let inputs = [(target.seeds)(), committed(target)?].concat();
        fuzzer.add(target, &inputs)?;
        let mut found = fuzzer.minimized(target)?;
        found.retain(|input| !input.is_empty());
        found.sort_by_key(|input| (input.len(), input.clone()));
        let mut text_bytes = 0;
        let fitting = found.iter().take_while(|input| {
            text_bytes += 2 * input.len() + 1;
            text_bytes <= CORPUS_BYTES_MAX
        });
        let kept = fitting.count();
        let path = corpus_path("corpus", target);
        fs::write(&path, corpus::format(&found[..kept]))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        println!("{}: {kept} of {} inputs", target.name, found.len());
    }
    Ok(true)
}

fn attempt(name: &str, file: &Path) -> Result<bool, String> {
    let target = target(name).ok_or(format!("no target '{name}'"))?;
    let bytes = fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    println!("{}", corpus::hex(&bytes));
    Ok(std::panic::catch_unwind(|| (target.run)(&bytes)).is_ok())
}

fn total() -> Result<bool, String> {
    let lines = ledger::read()?;
    for target in TARGETS {
        let own = lines.iter().filter(|line| line.target == target.name);
        let executions: u64 = own.map(|line| line.seen.executions).sum();
        println!("{:12} {executions:>14}", target.name);
    }
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
    let (executions, panics) = (
        sum(|line| line.seen.executions),
        sum(|line| line.seen.panics),
    );
    println!("{:12} {executions:>14} executions, {panics} panics", "all");
    Ok(true)
}
