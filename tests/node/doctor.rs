//! `armilla doctor`, and the same checks before a start: each failure provoked, named, and with what to do.

use crate::harness::{Node, Scratch, alone, armilla, code, text};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// A verb that could use `data` and any port.
fn verb(verb: &str, data: &Path, more: &[&str]) -> Output {
    armilla()
        .args([verb, "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(more)
        .output()
        .unwrap()
}

/// The line of a check.
fn line(table: &Output, name: &str) -> String {
    let out = text(&table.stdout);
    let found = out.lines().find(|line| line[6..].starts_with(name));
    found
        .unwrap_or_else(|| panic!("no {name} in:\n{out}"))
        .to_owned()
}

#[test]
fn a_machine_that_tests_pass_on_is_well() {
    let scratch = Scratch::new("doctor");
    let table = verb("doctor", &scratch.data(), &[]);
    assert_eq!(code(&table), 0, "{}", text(&table.stdout));
    for name in ["kernel", "io_uring", "data directory", "addresses"] {
        assert!(line(&table, name).starts_with("OK    "), "{name}");
    }
    let report = verb("doctor", &scratch.data(), &["--output", "json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_ne!(report["verdict"], "fail");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 8, "{report}");
    for check in checks {
        assert!(check["found"].is_string());
        assert_eq!(check["verdict"] == "ok", check["fix"].is_null(), "{check}");
    }
    assert!(!scratch.data().exists(), "a doctor changes nothing");
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let scratch = Scratch::new("doctor-port");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = held.local_addr().unwrap().to_string();
    let table = verb("doctor", &scratch.data(), &["--admin", &admin]);
    assert_eq!(code(&table), 3);
    let said = line(&table, "addresses");
    let me = std::process::id();
    assert!(said.starts_with("FAIL  "), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {admin}: used by process {me} (")),
        "{said}"
    );
    assert!(said.contains(&format!("run: kill {me}")), "{said}");

    let report = verb(
        "doctor",
        &scratch.data(),
        &["--admin", &admin, "--output", "json"],
    );
    assert_eq!(code(&report), 3);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["verdict"], "fail");

    let refused = verb("start", &scratch.data(), &["--admin", &admin]);
    assert_eq!(code(&refused), 3);
    assert!(text(&refused.stderr).contains(&format!("used by process {me}")));
    assert!(
        !scratch.data().exists(),
        "a start that is refused makes nothing"
    );
}

#[test]
fn a_directory_in_memory_is_refused() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    let data = memory.join(format!("armilla-doctor-{}", std::process::id()));
    let table = verb("doctor", &data, &[]);
    assert_eq!(code(&table), 3, "{}", text(&table.stdout));
    let said = line(&table, "data directory");
    assert!(
        said.starts_with("FAIL  ") && said.contains("tmpfs"),
        "{said}"
    );
    assert!(said.contains("pass --data DIR"), "{said}");
    assert_eq!(code(&verb("start", &data, &[])), 3);
    assert!(!data.exists());
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let scratch = Scratch::new("doctor-file");
    std::fs::write(scratch.data(), "mine").unwrap();
    let table = verb("doctor", &scratch.data(), &[]);
    assert_eq!(code(&table), 3);
    let said = line(&table, "data directory");
    assert!(said.contains("is no directory"), "{said}");
}

#[test]
fn a_directory_in_use_is_named_with_its_holder() {
    let _alone = alone();
    let scratch = Scratch::new("doctor-lock");
    let node = Node::start(&scratch.data());
    let table = verb("doctor", &scratch.data(), &[]);
    assert_eq!(code(&table), 3);
    let said = line(&table, "data directory");
    let holder = format!("used by process {} (armilla)", node.pid());
    assert!(said.contains(&holder), "{said}");
    // It has not been disturbed.
    assert_eq!(code(&node.run(&["status"])), 0);
}

#[test]
fn low_limits_of_the_process_are_told() {
    let scratch = Scratch::new("doctor-limits");
    let limited = |limit: &str| {
        Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit {limit}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_armilla"))
            .args(["doctor", "--listen", "127.0.0.1:0", "--data"])
            .arg(scratch.data())
            .output()
            .unwrap()
    };
    let table = limited("-n 1000");
    assert_eq!(code(&table), 0, "{}", text(&table.stdout));
    let said = line(&table, "open files");
    assert!(said.starts_with("WARN  "), "{said}");
    assert!(said.contains("run: ulimit -Hn"), "{said}");
    assert_eq!(code(&limited("-n 64")), 3);
    let table = limited("-l 512");
    assert_eq!(code(&table), 0, "{}", text(&table.stdout));
    let said = line(&table, "locked memory");
    assert!(said.starts_with("WARN  "), "{said}");
    assert!(said.contains("run: ulimit -l"), "{said}");
    assert_eq!(code(&limited("-l 64")), 3);
}
