//! The house rules, checked by `cargo test`. The tables they follow are in `src/ARCHITECTURE.md`.
//!
//! Each check is a function over texts with a test of its own that feeds it bad ones; the tests here run them over the
//! repository. A failure names file and line, what is wrong, and what to do instead.

mod bans;
mod floors;
mod house;
mod shape;
mod source;

use house::House;
use source::Source;
use std::path::Path;
use std::process::Command;
use std::{fmt, fs};

pub struct Finding {
    path: String,
    line: usize,
    what: String,
    instead: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; instead: {}",
            self.path, self.line, self.what, self.instead
        )
    }
}

impl Source {
    fn finding(&self, line: usize, what: String, instead: &'static str) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what,
            instead,
        }
    }
}

/// The repository: its house, the paths of its files, its Rust sources.
struct Repository {
    house: House,
    paths: Vec<String>,
    sources: Vec<Source>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Repository {
    fn read() -> Repository {
        let page = fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
        let paths = files_of_the_project();
        let mut sources: Vec<Source> = paths
            .iter()
            .filter(|path| path.ends_with(".rs"))
            .map(|path| Source::new(path, &fs::read_to_string(root().join(path)).unwrap()))
            .collect();
        assert!(sources.iter().any(|source| source.path == "src/lib.rs"));
        let reached = shape::reached(&sources);
        for source in &mut sources {
            if reached.get(&source.path) == Some(&true) {
                source.mark_all_test();
            }
        }
        Repository {
            house: House::parse(&page).unwrap_or_else(|why| panic!("src/ARCHITECTURE.md: {why}")),
            paths,
            sources,
        }
    }

    /// What people wrote, without what a generator did.
    fn written(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| !source.is_generated())
    }

    fn each(&self, check: impl Fn(&Source) -> Vec<Finding>) -> Vec<Finding> {
        self.written().flat_map(check).collect()
    }
}

/// What git tracks or would; without git (an unpacked archive), every file but what builds leave.
fn files_of_the_project() -> Vec<String> {
    let arguments = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let listed = Command::new("git")
        .args(arguments)
        .current_dir(root())
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            .map(str::to_string)
            .collect(),
        _ => {
            let mut found = Vec::new();
            walk("", &mut found);
            found
        }
    };
    // The index also lists what was deleted and not yet staged.
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths
}

fn walk(folder: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        let left_by_builds =
            [".git", "target", "armilla-data", "armilla-cluster"].contains(&path.as_str());
        if entry.file_type().unwrap().is_dir() {
            if !left_by_builds {
                walk(&path, found);
            }
        } else if !left_by_builds {
            found.push(path);
        }
    }
}

#[track_caller]
fn none(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} findings:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn imports_only_go_down() {
    let repository = Repository::read();
    let macros = floors::exported_macros(&repository.sources);
    none(repository.each(|source| floors::imports(source, &repository.house, &macros)));
}

#[test]
fn awaits_and_ref_cells_stand_where_the_tables_say() {
    let repository = Repository::read();
    none(repository.each(|source| {
        let mut findings = floors::awaits(source, &repository.house);
        findings.extend(floors::ref_cells(source, &repository.house));
        findings
    }));
}

#[test]
fn every_room_and_pure_file_of_the_tables_exists() {
    let repository = Repository::read();
    let house = &repository.house;
    let below_src = |pattern: &String| {
        let prefix = format!("src/{}", pattern.trim_end_matches("**"));
        repository
            .paths
            .iter()
            .any(|path| path.starts_with(&prefix))
    };
    let folders = house.rooms.iter().map(|room| format!("{}/**", room.name));
    let rows = folders.chain(house.pure_files.clone());
    let missing: Vec<String> = rows.filter(|row| !below_src(row)).collect();
    assert!(
        missing.is_empty(),
        "src/ARCHITECTURE.md names what is not there: {missing:?}"
    );
}

#[test]
fn nothing_banned_is_used() {
    let repository = Repository::read();
    let checks = [
        bans::bans,
        bans::default_hashers,
        bans::unsafes,
        bans::markers,
    ];
    none(repository.each(|source| checks.iter().flat_map(|check| check(source)).collect()));
}

#[test]
fn files_are_small_reached_and_in_their_place() {
    let repository = Repository::read();
    let reached = shape::reached(&repository.sources);
    let mut findings = repository.each(shape::lengths);
    findings.extend(shape::dead_files(&repository.sources, &reached));
    findings.extend(shape::top_level(&repository.paths));
    none(findings);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut findings = Vec::new();
    for path in files_of_the_project() {
        let bytes = fs::read(root().join(&path)).unwrap();
        findings.extend(shape::machine_paths(
            &path,
            &String::from_utf8_lossy(&bytes),
        ));
    }
    none(findings);
}
