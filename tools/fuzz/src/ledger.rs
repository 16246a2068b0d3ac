//! The ledger: one line a run of a target, with what libFuzzer printed at its end.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

/// The first line of the file. `edges` and `features` are libFuzzer's `cov` and `ft`, `corpus` its inputs.
pub const HEADER: &str = "target\tcommit\texecutions\tseconds\tcorpus\tedges\tfeatures\tpanics";

pub struct Line {
    pub target: String,
    pub commit: String,
    pub seen: Seen,
}

/// What a run of libFuzzer printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub executions: u64,
    pub seconds: u64,
    /// Inputs of the working corpus.
    pub corpus: u64,
    pub edges: u64,
    pub features: u64,
    pub panics: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.seen;
        let numbers = [
            s.executions,
            s.seconds,
            s.corpus,
            s.edges,
            s.features,
            s.panics,
        ];
        write!(
            f,
            "{}\t{}\t{}",
            self.target,
            self.commit,
            numbers.map(|n| n.to_string()).join("\t")
        )
    }
}

impl Line {
    fn parse(text: &str) -> Option<Line> {
        let cells: Vec<&str> = text.split('\t').collect();
        let [target, commit, numbers @ ..] = cells.as_slice() else {
            return None;
        };
        let numbers: Option<Vec<u64>> = numbers.iter().map(|cell| cell.parse().ok()).collect();
        let [executions, seconds, corpus, edges, features, panics] = numbers?[..] else {
            return None;
        };
        Some(Line {
            target: target.to_string(),
            commit: commit.to_string(),
            seen: Seen {
                executions,
                seconds,
                corpus,
                edges,
                features,
                panics,
            },
        })
    }
}

fn path() -> PathBuf {
    crate::home().join("LEDGER.tsv")
}

pub fn read() -> Result<Vec<Line>, String> {
    let path = path();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let lines = text.lines().skip(1).enumerate();
    lines
        .map(|(at, line)| Line::parse(line).ok_or(format!("{} line {}", path.display(), at + 2)))
        .collect()
}

pub fn append(line: &Line) -> Result<(), String> {
    let path = path();
    let head = if path.exists() {
        String::new()
    } else {
        format!("{HEADER}\n")
    };
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| writeln!(file, "{head}{line}"))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// What is checked out; a `+` if it was changed since.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(crate::home())
            .output();
        output.map_or(String::new(), |o| {
            String::from_utf8_lossy(&o.stdout).trim().to_owned()
        })
    };
    let changed = git(&[
        "status",
        "--porcelain",
        "--",
        "../../src",
        "../../Cargo.lock",
    ]);
    git(&["rev-parse", "--short", "HEAD"]) + if changed.is_empty() { "" } else { "+" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_ledger_is_read() {
        assert!(
            read()
                .expect("a ledger")
                .iter()
                .all(|line| line.seen.panics == 0)
        );
    }

    #[test]
    fn a_line_is_read_back() {
        let text = "frame\tabc\t1\t2\t3\t4\t5\t0";
        assert_eq!(Line::parse(text).expect("a line").to_string(), text);
        assert!(
            Line::parse("frame\tabc\t1").is_none()
                && Line::parse(&text.replace('4', "x")).is_none()
        );
    }
}
