//! Where settings come from: flags over environment over file over defaults; what nobody knows is refused.

use crate::harness::{Node, Scratch, alone, armilla, code, text};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;

/// A file of settings in a directory of its own.
fn file(scratch: &Scratch, content: &str) -> PathBuf {
    let path = scratch.0.join("armilla.toml");
    std::fs::write(&path, content).unwrap();
    path
}

fn print(scratch: &Scratch, variables: &[(&str, &str)], more: &[&str]) -> Output {
    armilla()
        .args(["config", "print", "--config"])
        .arg(scratch.0.join("armilla.toml"))
        .args(more)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn flags_count_more_than_the_environment_and_that_more_than_the_file() {
    let scratch = Scratch::new("layers");
    let path = file(
        &scratch,
        "# mine\nmemory = \"1GiB\"\nvalue-limit = 65536\nlog = \"warn\"\ninsecure = true\n",
    );
    let variables = [("ARMILLA_MEMORY", "2GiB"), ("ARMILLA_VALUE_LIMIT", "2MiB")];
    let flags = ["--memory", "3GiB", "--insecure=false", "--output", "json"];
    let printed = print(&scratch, &variables, &flags);
    assert_eq!(code(&printed), 0, "{}", text(&printed.stderr));
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let line = |n: usize| format!("{}:{n}", path.display());
    for (name, value, origin) in [
        ("memory", "3GiB", "--memory".to_owned()),
        ("insecure", "false", "--insecure".to_owned()),
        ("value-limit", "2MiB", "ARMILLA_VALUE_LIMIT".to_owned()),
        ("log", "warn", line(4)),
        ("listen", "127.0.0.1:7700", "default".to_owned()),
    ] {
        assert_eq!(printed[name]["value"], value, "{printed}");
        assert_eq!(printed[name]["origin"], origin, "{printed}");
    }

    let table = text(&print(&scratch, &variables, &["--origin"]).stdout);
    let row = |name: &str| table.lines().find(|l| l.starts_with(name)).unwrap();
    assert!(row("memory").contains("2GiB"), "{table}");
    assert!(row("memory").ends_with("ARMILLA_MEMORY"), "{table}");
    assert!(row("insecure").ends_with(&line(5)), "{table}");
    let plain = text(&print(&scratch, &variables, &[]).stdout);
    assert!(!plain.contains("ARMILLA_MEMORY"), "{plain}");
}

#[test]
fn a_key_that_nobody_knows_is_refused_with_its_line_and_a_guess() {
    let scratch = Scratch::new("unknown");
    let path = file(&scratch, "listen = \"127.0.0.1:0\"\n\nmemroy = \"1GiB\"\n");
    for verb in [&["start"][..], &["doctor"], &["config", "print"]] {
        let refused = armilla()
            .args(verb)
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        let said = text(&refused.stderr);
        assert_eq!(code(&refused), 2, "{said}");
        let expected = format!(
            "armilla: {}:3: unknown setting 'memroy'; did you mean 'memory'?\n",
            path.display()
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn a_bad_value_is_refused_with_its_place() {
    let scratch = Scratch::new("bad-value");
    let path = file(&scratch, "memory = \"lots\"\n");
    let refused = print(&scratch, &[], &[]);
    assert_eq!(code(&refused), 2);
    let said = text(&refused.stderr);
    assert!(
        said.starts_with(&format!("armilla: {}:1: memory = lots: ", path.display())),
        "{said}"
    );
    file(&scratch, "");
    let refused = print(&scratch, &[("ARMILLA_MEMORY", "lots")], &[]);
    assert_eq!(code(&refused), 2);
    let said = text(&refused.stderr);
    assert!(said.starts_with("armilla: ARMILLA_MEMORY=lots: "), "{said}");
    let missing = armilla()
        .args(["start", "--config", "/no/such/file"])
        .output()
        .unwrap();
    assert_eq!(code(&missing), 2);
    let said = text(&missing.stderr);
    assert!(said.contains("armilla config example"), "{said}");
}

#[test]
fn a_node_takes_its_file() {
    let _alone = alone();
    let scratch = Scratch::new("by-file");
    let path = file(&scratch, "value-limit = \"1KiB\"\nlog = \"debug\"\n");
    let node = Node::start_with(&scratch.data(), &["--config", path.to_str().unwrap()]);
    assert_eq!(code(&node.run(&["put", "k", &"x".repeat(1000)])), 0);
    assert_eq!(code(&node.run(&["put", "k", &"x".repeat(2000)])), 3);
    assert!(!node.events("connected").is_empty(), "{}", node.log());
}

/// Committed, so that one can read it without the program.
#[test]
fn the_example_is_made_from_the_code_and_is_whole() {
    let printed = armilla().args(["config", "example"]).output().unwrap();
    let example = text(&printed.stdout);
    let committed = include_str!("../../armilla.example.toml");
    assert!(
        example == committed,
        "armilla.example.toml is old; run: cargo run -- config example > armilla.example.toml"
    );
    // With every setting spelt out it still is a file of settings, and sets what it says.
    let scratch = Scratch::new("example");
    let all: Vec<&str> = example
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| line.trim_start_matches('#'))
        .collect();
    file(&scratch, &all.join("\n"));
    let printed = print(&scratch, &[], &["--output", "json"]);
    assert_eq!(code(&printed), 0, "{}", text(&printed.stderr));
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    for (name, setting) in printed.as_object().unwrap() {
        assert!(example.contains(&format!("\n#{name} = ")), "{name}");
        let origin = setting["origin"].as_str().unwrap();
        assert!(origin.contains("armilla.toml:"), "{name} from {origin}");
    }
}

#[test]
fn every_shell_is_given_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = armilla().args(["completions", shell]).output().unwrap();
        assert_eq!(code(&script), 0);
        let script = text(&script.stdout);
        for word in ["doctor", "value-limit"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}
