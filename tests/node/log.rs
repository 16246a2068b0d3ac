//! What a node tells its operator, and that telling never holds it up.

use crate::harness::{Node, Scratch, alone, armilla, code, cpus, report, text};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_life_is_told_an_object_a_line() {
    let _alone = alone();
    let scratch = Scratch::new("log-life");
    drop(Node::start(&scratch.data()));
    let mut node = Node::start(&scratch.data());
    assert_eq!(code(&node.run(&["put", "k", "v"])), 0);
    node.signal("-TERM");
    assert_eq!(node.wait(Duration::from_secs(10)).code(), Some(0));
    let told: Vec<Value> = loop {
        // The last line may be on its way through the pipe.
        let log = node.log();
        if log.contains("\"stopped\"") {
            let object = |line: &str| serde_json::from_str(line).expect("an object a line");
            break log.lines().map(object).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let landmarks = [
        "starting",
        "listening",
        "recovered",
        "ready",
        "stopping",
        "stopped",
    ];
    let names = told.iter().filter_map(|event| event["event"].as_str());
    let seen: Vec<&str> = names.filter(|name| landmarks.contains(name)).collect();
    assert_eq!(seen, landmarks);
    for event in &told {
        for member in ["time", "level", "message"] {
            assert!(event[member].is_string(), "{event}");
        }
    }
    let recovered = &node.events("recovered")[0];
    for field in ["bytes", "groups", "records", "cut_groups", "damaged_groups"] {
        assert!(recovered[field].is_u64(), "{recovered}");
    }
}

#[test]
fn people_get_sentences_and_only_what_they_asked_for() {
    let _alone = alone();
    let scratch = Scratch::new("log-human");
    let run = |more: &[&str]| {
        // The first event that is told ends it; a taken port ends what tells nothing.
        let mut child = armilla()
            .args([
                "start",
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "human",
                "--data",
            ])
            .arg(scratch.data())
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .map_while(Result::ok)
            .find(|line| line.contains("ready after"));
        let _ = child.kill();
        child.wait().unwrap();
        line
    };
    let ready = run(&[]).expect("it tells that it is ready");
    let words: Vec<&str> = ready.split_whitespace().collect();
    assert!(words[0].ends_with('Z') && words[1] == "info", "{ready}");
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = held.local_addr().unwrap().to_string();
    assert_eq!(run(&["--log", "error", "--admin", &admin]), None);
    let refused = armilla().args(["start", "--log", "loud"]).output().unwrap();
    assert_eq!(code(&refused), 2);
    assert!(text(&refused.stderr).contains("error, warn, info or debug"));
}

/// A terminal that was stopped, a collector that hangs: lines are lost and counted, requests are not.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let _alone = alone();
    let scratch = Scratch::new("log-unread");
    let mut child = armilla()
        .args([
            "start",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "debug",
            "--data",
        ])
        .arg(scratch.data())
        .env("ARMILLA_MEMORY", "256MiB")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let mut address = String::new();
    loop {
        let event = told();
        match event["event"].as_str() {
            Some("listening") => address = event["clients"].as_str().unwrap().to_owned(),
            Some("ready") => break,
            _ => {}
        }
    }
    // More lines than the pipe and the queue hold together.
    const CONNECTIONS: u64 = 4000;
    for _ in 0..CONNECTIONS {
        TcpStream::connect(&address).unwrap();
    }
    let put = armilla()
        .args(["put", "k", "v", "--server", &address])
        .output()
        .unwrap();
    assert_eq!(code(&put), 0, "{}", text(&put.stderr));
    // Read on, and it says what is missing.
    let (mut connected, mut missing) = (0, 0);
    while connected + missing < CONNECTIONS {
        let event = told();
        match event["event"].as_str() {
            Some("connected") => connected += 1,
            Some("log_dropped") => missing += event["count"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert!(
        missing > 0,
        "all {connected} lines fitted: the test saw nothing"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_full_disk_is_told_once() {
    let _alone = alone();
    let scratch = Scratch::new("log-full");
    let node = Node::start_with(&scratch.data(), &["--disk", "24MiB", "--cores", &cpus(1)]);
    let value = "x".repeat(100_000);
    let mut refused = 0;
    for n in 0..1000 {
        let put = node.run(&["put", &format!("k{n}"), &value]);
        refused += i32::from(code(&put) == 3);
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "the disk budget did not end");
    let told = node.events("disk_full");
    assert_eq!(told.len(), 1, "{}", node.log());
    assert_eq!(told[0]["level"], "error");
    assert!(told[0]["message"].as_str().unwrap().contains("--disk"));
}

/// A limit of the size of files makes the next write fail, wherever the disk is.
#[test]
fn a_poisoned_shard_says_why_and_what_to_do() {
    let _alone = alone();
    let scratch = Scratch::new("log-poison");
    // Beyond the limit comes a signal too, which ends who does not ignore it.
    let ignoring = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut node = Node::start_through(Some(ignoring), &scratch.data(), &["--cores", &cpus(1)]);
    assert_eq!(code(&node.run(&["put", "k", "v"])), 0);
    // The mark of the idle log would be what fails first, and not the put.
    let marked = || {
        let written = report(&node)["engine"]["groups_written"].as_u64();
        written.is_some_and(|groups| groups >= 2)
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !marked() {
        assert!(Instant::now() < deadline, "the idle log wrote no mark");
        std::thread::sleep(Duration::from_millis(10));
    }
    let limited = Command::new("prlimit")
        .args(["--fsize=4096", "--pid", &node.pid().to_string()])
        .status()
        .unwrap();
    assert!(limited.success());
    assert_eq!(code(&node.run(&["put", "k", "w"])), 4);
    assert_eq!(code(&node.run(&["status"])), 3);
    node.signal("-TERM");
    assert_eq!(node.wait(Duration::from_secs(10)).code(), Some(0));
    let told = node.events("poisoned");
    assert_eq!(told.len(), 1, "{}", node.log());
    assert_eq!(
        (told[0]["level"].as_str(), told[0]["shard"].as_u64()),
        (Some("error"), Some(0))
    );
    assert!(
        told[0]["cause"]
            .as_str()
            .unwrap()
            .contains("File too large")
    );
    assert!(told[0]["message"].as_str().unwrap().contains("restarted"));
}
