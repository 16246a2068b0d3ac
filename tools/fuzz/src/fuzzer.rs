//! Building the instrumented program, and running libFuzzer.

use crate::ledger::Seen;
use armilla::fuzz::Target;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

/// Counters of edges, and traces of comparisons: what `cargo fuzz run --sanitizer none` asks for.
const RUSTFLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// Beyond it one input is a finding: a parser that can be made to hang.
const INPUT_SECONDS_MAX: u64 = 10;
const MEMORY_MIB_MAX: u64 = 1024;

/// The instrumented program, and the folder where it works.
pub struct Fuzzer {
    program: PathBuf,
    work: PathBuf,
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))
}

impl Fuzzer {
    pub fn build() -> Result<Fuzzer, String> {
        let root = crate::home().join("../..");
        let work = root.join("target/fuzz");
        let rustc = Command::new("rustc").arg("-vV").output();
        let rustc = rustc.map_err(|e| format!("cannot run rustc: {e}"))?;
        let rustc = String::from_utf8_lossy(&rustc.stdout).into_owned();
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc does not name its host")?;
        // With a target named, the flags leave build scripts and macros alone.
        let built = Command::new(env::var("CARGO").unwrap_or("cargo".into()))
            .args([
                "build",
                "--package=armilla-fuzz",
                "--bin=armilla-fuzzed",
                "--features=libfuzzer",
            ])
            .args(["--profile=fuzz", "--target", host, "--target-dir"])
            .arg(work.join("build"))
            .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
            .current_dir(&root)
            .status()
            .map_err(|e| format!("cannot run cargo: {e}"))?;
        if !built.success() {
            return Err(
                "the instrumented program does not build; libFuzzer needs a C++ compiler (g++)"
                    .into(),
            );
        }
        Ok(Fuzzer {
            program: work.join("build").join(host).join("fuzz/armilla-fuzzed"),
            work,
        })
    }

    /// Inputs of earlier runs, one a file.
    fn corpus(&self, target: &Target) -> Result<PathBuf, String> {
        let folder = self.work.join("corpus").join(target.name);
        make(&folder)?;
        Ok(folder)
    }

    /// Adds to what the next run of `target` begins with.
    pub fn add(&self, target: &Target, inputs: &[Vec<u8>]) -> Result<(), String> {
        let folder = self.corpus(target)?;
        for input in inputs {
            let name = format!("seed-{:016x}", armilla::base::checksum::xxh3_64(input));
            fs::write(folder.join(&name), input)
                .map_err(|e| format!("cannot write {name}: {e}"))?;
        }
        Ok(())
    }

    fn command(&self, target: &Target) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("ARMILLA_FUZZ_TARGET", target.name)
            .arg(format!("-max_len={}", target.bytes_max))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .stdin(Stdio::null());
        command
    }

    /// Fuzzes for `seconds` at most, and for `executions` at most unless that is 0.
    pub fn run(&self, target: &Target, seconds: u64, executions: u64) -> Result<Seen, String> {
        let findings = self.work.join("findings");
        make(&findings)?;
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!(
                "-artifact_prefix={}/{}-",
                findings.display(),
                target.name
            ))
            .args(["-print_final_stats=1", "-reload=0"])
            .arg(self.corpus(target)?)
            .stderr(Stdio::piped());
        if executions > 0 {
            command.arg(format!("-runs={executions}"));
        }
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|e| format!("cannot run the program: {e}"))?;
        let output = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut seen = Seen::default();
        for line in output.lines() {
            // A message of a panic may hold anything.
            let Ok(line) = line else { continue };
            if !read_line(&line, &mut seen) {
                eprintln!("{line}");
            }
        }
        let ended = child
            .wait()
            .map_err(|e| format!("cannot wait for the program: {e}"))?;
        seen.seconds = started.elapsed().as_secs();
        seen.panics = u64::from(!ended.success());
        Ok(seen)
    }

    /// The smallest inputs of the working corpus that reach what all of it reaches.
    pub fn minimized(&self, target: &Target) -> Result<Vec<Vec<u8>>, String> {
        let folder = self.work.join("minimized").join(target.name);
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        make(&folder)?;
        let merged = self
            .command(target)
            // By edges alone: with how often each is taken, ten times as many stay.
            .args(["-set_cover_merge=1", "-use_counters=0"])
            .arg(&folder)
            .arg(self.corpus(target)?)
            .stderr(Stdio::null())
            .status()
            .map_err(failed)?;
        if !merged.success() {
            return Err(format!(
                "libFuzzer cannot merge the corpus of {}; run it first",
                target.name
            ));
        }
        let files = fs::read_dir(&folder).map_err(failed)?;
        files
            .map(|file| fs::read(file?.path()))
            .collect::<Result<_, _>>()
            .map_err(failed)
    }
}

/// Takes what is wanted out of a line of libFuzzer; false if the line is for people.
fn read_line(line: &str, seen: &mut Seen) -> bool {
    if let Some(stat) = line.strip_prefix("stat::") {
        let (name, number) = stat.split_once(':').unwrap_or((stat, ""));
        if name == "number_of_executed_units" {
            seen.executions = number.trim().parse().unwrap_or(0);
        }
        return true;
    }
    // As in "#1024 NEW    cov: 251 ft: 711 corp: 57/12Kb lim: 256 exec/s: 0 rss: 45Mb L: 61/256 MS: 1 EraseBytes-".
    if !line.starts_with('#') {
        let told = ["INFO:", "\tNEW_FUNC", "\"", "Done "];
        return told.iter().any(|start| line.starts_with(start));
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    for pair in words.windows(2) {
        let number = pair[1]
            .split('/')
            .next()
            .and_then(|digits| digits.parse().ok());
        let place = match pair[0] {
            "cov:" => &mut seen.edges,
            "ft:" => &mut seen.features,
            "corp:" => &mut seen.corpus,
            _ => continue,
        };
        *place = number.unwrap_or(*place);
    }
    words.get(1).is_some_and(|word| *word != "pulse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_prints_is_read() {
        let mut seen = Seen::default();
        let hidden = [
            "INFO: Seed: 1",
            "#1024\tNEW    cov: 251 ft: 711 corp: 57/12Kb lim: 256 exec/s: 0 rss: 45Mb L: 61/256 MS: 1 EraseBytes-",
            "#2048\tDONE   cov: 252 ft: 712 corp: 58/12Kb lim: 256 exec/s: 9 rss: 45Mb",
            "stat::number_of_executed_units: 2048",
        ];
        assert!(hidden.iter().all(|line| read_line(line, &mut seen)));
        assert!(!read_line("thread panicked", &mut seen));
        let expected = Seen {
            executions: 2048,
            corpus: 58,
            edges: 252,
            features: 712,
            ..Seen::default()
        };
        assert_eq!(seen, expected);
    }
}
