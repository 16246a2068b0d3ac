//! Size of files, files nobody reaches, and what lies around in the repository.

use crate::Finding;
use crate::floors::module_path;
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 120;

/// What may lie at the top of the repository.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "armilla.example.toml",
    "benches",
    "build.rs",
    "examples",
    "rust-toolchain.toml",
    "schema",
    "src",
    "tests",
    "tools",
];

pub fn lengths(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.lines_without_tests();
    if lines > LINES_MAX && !source.path.starts_with("tests/") {
        let what = format!("{lines} lines without tests, of at most {LINES_MAX}");
        findings.push(source.finding(1, what, "split it by concept, not by length"));
    }
    for (index, line) in source.text.lines().enumerate() {
        // A message is not torn: it must be found by searching for it.
        let is_message = line.trim_start().starts_with('"');
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !is_message {
            let what = format!("{columns} columns, of at most {COLUMNS_MAX}");
            findings.push(source.finding(index + 1, what, "break the line"));
        }
    }
    findings
}

/// What the `mod` lines of `src/lib.rs` and `src/main.rs` reach: path -> whether only tests do.
pub fn reached(sources: &[Source]) -> BTreeMap<String, bool> {
    let by_path: BTreeMap<&str, &Source> = sources
        .iter()
        .map(|source| (source.path.as_str(), source))
        .collect();
    let mut reached = BTreeMap::new();
    let mut open = vec![
        ("src/lib.rs".to_string(), false),
        ("src/main.rs".to_string(), false),
    ];
    while let Some((path, test)) = open.pop() {
        let Some(source) = by_path.get(path.as_str()) else {
            continue;
        };
        // A file that production code reaches too is production code.
        match reached.get(&path) {
            Some(false) => continue,
            Some(true) if test => continue,
            _ => reached.insert(path.clone(), test),
        };
        let mut folder = vec!["src"];
        folder.extend(module_path(source.in_src().unwrap_or(&path)));
        let folder = folder.join("/");
        for run in source.tokens.windows(3) {
            if run[0].text == "mod" && run[2].text == ";" {
                let below_test = test || run[0].test;
                open.push((format!("{folder}/{}.rs", run[1].text), below_test));
                open.push((format!("{folder}/{}/mod.rs", run[1].text), below_test));
            }
        }
    }
    reached
}

pub fn dead_files(sources: &[Source], reached: &BTreeMap<String, bool>) -> Vec<Finding> {
    let dead = sources
        .iter()
        .filter(|source| source.in_src().is_some() && !reached.contains_key(&source.path));
    dead.map(|source| {
        source.finding(
            1,
            "no `mod` reaches this file".into(),
            "name it in its parent, or delete it",
        )
    })
    .collect()
}

/// Paths of one machine, in any file.
pub fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let roots = [concat!("/wo", "rk/"), concat!("/tmp/", "wt")];
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(root) = roots.iter().find(|root| line.contains(*root)) {
            findings.push(Finding {
                path: path.to_string(),
                line: index + 1,
                what: format!("`{root}` is a path of one machine"),
                instead: "a path from the root of the repository, or a temporary directory",
            });
        }
    }
    findings
}

pub fn top_level(paths: &[String]) -> Vec<Finding> {
    let heads: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.split('/').next())
        .collect();
    let odd = heads.into_iter().filter(|head| !TOP_LEVEL.contains(head));
    odd.map(|head| Finding {
        path: head.to_string(),
        line: 1,
        what: "lies at the top of the repository".into(),
        instead: "put it where it belongs, or add it to TOP_LEVEL in tests/tidy/shape.rs",
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_long_lines_are_found() {
        let count = |path: &str, text: &str| lengths(&Source::new(path, text)).len();
        let line = "fn a() {}\n";
        assert_eq!(count("src/a/b.rs", &line.repeat(600)), 0);
        assert_eq!(count("src/a/b.rs", &line.repeat(601)), 1);
        let tests = format!("{line}#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(700));
        assert_eq!(count("src/a/b.rs", &tests), 0);
        assert_eq!(count("src/a/b.rs", &format!("// {}", "x".repeat(117))), 0);
        assert_eq!(count("src/a/b.rs", &format!("// {}", "x".repeat(118))), 1);
        assert_eq!(
            count("src/a/b.rs", &format!("    \"{}\"", "x".repeat(200))),
            0
        );
    }

    #[test]
    fn files_without_a_mod_are_dead() {
        let source = |path: &str, text: &str| Source::new(path, text);
        let sources = [
            source("src/lib.rs", "pub mod a;\nmod b;"),
            source("src/main.rs", "fn main() {}"),
            source(
                "src/a/mod.rs",
                "mod deep; #[cfg(test)] mod twin; // mod dead;",
            ),
            source("src/a/deep.rs", "mod child;"),
            source("src/a/deep/child.rs", ""),
            source("src/a/twin.rs", "fn t() {}"),
            source("src/a/dead.rs", ""),
            source("src/b.rs", ""),
            source("tests/x/main.rs", ""),
        ];
        let reached = reached(&sources);
        let dead = dead_files(&sources, &reached);
        let paths: Vec<&str> = dead.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["src/a/dead.rs"]);
        assert!(reached["src/a/twin.rs"] && !reached["src/a/deep/child.rs"]);
    }

    #[test]
    fn paths_of_one_machine_and_stray_files_are_found() {
        assert_eq!(machine_paths("a.md", concat!("see /wo", "rk/x")).len(), 1);
        assert_eq!(
            machine_paths("a.md", concat!("x\nsee /tmp/", "wt/a")).len(),
            1
        );
        assert_eq!(machine_paths("a.md", "see /tmp/x and work/x").len(), 0);
        let paths = ["src/lib.rs", "notes.txt", "old/x.rs"].map(str::to_string);
        assert_eq!(top_level(&paths).len(), 2);
    }
}
