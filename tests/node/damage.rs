//! Bytes that a disk has spoilt, in the files of a real node: errors, told and listed, and never forgotten.

use crate::cluster::Ring;
use crate::harness::{Node, Scratch, alone, armilla, code, cpus, eventually, report, text};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const KEYS: u64 = 40;

/// Changes a byte of every page of the first segment but its first ones, which a start reads.
fn spoil(data: &Path) {
    let mut segments: Vec<_> = std::fs::read_dir(data.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    let file = std::fs::OpenOptions::new();
    let file = file
        .clone()
        .read(true)
        .write(true)
        .open(&segments[0])
        .unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 0..pages {
        let at = page * 4096 + 2000;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn a_rotten_value_is_an_error_that_is_told_listed_and_kept() {
    let _alone = alone();
    let scratch = Scratch::new("damage");
    let data = scratch.data();
    let notes = || std::fs::read_dir(data.join("quarantine")).map_or(0, |notes| notes.count());
    let value = "v".repeat(3000);
    {
        let mut node = Node::start_with(&data, &["--cores", &cpus(1)]);
        for key in 0..KEYS {
            assert_eq!(code(&node.run(&["put", &format!("k{key}"), &value])), 0);
        }
        assert_eq!(report(&node)["damage"]["unreadable_places"], 0);
        let shown = text(&node.run(&["status"]).stdout);
        assert!(!shown.contains("DAMAGED"), "{shown}");
        node.signal("-TERM");
        assert!(node.wait(Duration::from_secs(10)).success());
    }
    // What was replayed is in memory: the values are read from the disk after the start, and spoilt under it. Nobody
    // else looks.
    let quiet = ["--cores", &cpus(1), "--scrub-mib-per-second", "0"];
    let mut node = Node::start_with(&data, &quiet);
    spoil(&data);
    let got = node.run(&["get", "k7"]);
    assert_eq!(code(&got), 3, "{}", text(&got.stderr));
    assert!(got.stdout.is_empty());
    eventually("the place is noted", || notes() == 1);
    eventually("it is told", || node.events("unreadable").len() == 1);
    let told = node.events("unreadable");
    let file = told[0]["file"].as_str().unwrap();
    assert!(file.starts_with("log/") && told[0]["checksum_stated"].is_string());
    let before = report(&node)["damage"].clone();
    assert_eq!(before["unreadable_places"], 1);
    let place = &before["places"][0];
    assert_eq!(place["file"], file);
    let note = std::fs::read_to_string(data.join(place["note"].as_str().unwrap())).unwrap();
    assert!(note.contains(file), "{note}");
    let shown = text(&node.run(&["status"]).stdout);
    assert!(shown.contains("DAMAGED") && shown.contains(file), "{shown}");
    // The same again is counted, and no news.
    assert_eq!(code(&node.run(&["get", "k7"])), 3);
    assert_eq!(report(&node)["damage"]["unreadable_reads"], 2);
    assert_eq!((notes(), node.events("unreadable").len()), (1, 1));
    // Other keys are taken and served.
    assert_eq!(code(&node.run(&["put", "other", &value])), 0);
    assert_eq!(code(&node.run(&["get", "other"])), 0);
    node.kill_9();
    drop(node);
    spoil(&data);
    // The disk gives the right bytes again, and still nobody has forgotten.
    let node = Node::start_with(&data, &quiet);
    let after = report(&node)["damage"].clone();
    assert_eq!(after["places"][0]["file"], file);
    assert_eq!(after["places"][0]["met"], 0);
    assert_eq!(code(&node.run(&["get", "k7"])), 0);
    drop(node);
    std::fs::remove_dir_all(data.join("quarantine")).unwrap();
    let node = Node::start_with(&data, &["--cores", &cpus(1)]);
    assert_eq!(report(&node)["damage"]["unreadable_places"], 0);
}

#[test]
fn scrub_finds_what_nobody_reads() {
    let _alone = alone();
    let scratch = Scratch::new("scrub");
    let data = scratch.data();
    let quiet = ["--cores", &cpus(2), "--scrub-mib-per-second", "0"];
    let node = Node::start_with(&data, &quiet);
    let value = "v".repeat(3000);
    for key in 0..KEYS {
        assert_eq!(code(&node.run(&["put", &format!("k{key}"), &value])), 0);
    }
    assert_eq!(code(&node.run(&["scrub", "--wait"])), 0);
    let scrub = report(&node)["scrub"].clone();
    assert_eq!((&scrub["passes"], &scrub["bad"]), (&2.into(), &0.into()));
    assert!(scrub["bytes_done"].as_u64().unwrap() > 100_000, "{scrub}");
    assert!(
        scrub["completed_s"].as_u64().unwrap() > 1_700_000_000,
        "{scrub}"
    );
    spoil(&data);
    let found = node.run(&["scrub", "--wait"]);
    assert_eq!(code(&found), 5, "{}", text(&found.stderr));
    assert!(text(&found.stderr).contains("DAMAGED"));
    let damage = report(&node)["damage"].clone();
    let place = &damage["places"][0];
    assert!(
        place["file"].as_str().unwrap().starts_with("log/"),
        "{damage}"
    );
    let told = damage["unreadable_places"].as_u64().unwrap();
    eventually("it is told", || !node.events("unreadable").is_empty());
    let shown = text(&node.run(&["status"]).stdout);
    assert!(shown.contains("scrub: all was looked at"), "{shown}");
    // The same once more is no other place, and what is in memory is served.
    assert_eq!(code(&node.run(&["scrub", "--wait"])), 5);
    assert_eq!(report(&node)["damage"]["unreadable_places"], told);
    assert_eq!(code(&node.run(&["get", "k7"])), 0);
    // Whoever looks at the file finds the place too.
    let file = data.join(place["file"].as_str().unwrap());
    let looked = armilla()
        .args(["inspect", "log", "--output", "json"])
        .arg(file)
        .output()
        .unwrap();
    assert_eq!(code(&looked), 5);
    assert!(text(&looked.stdout).contains("\"kind\":\"damage\""));
}

/// Other replicas have what one disk has spoilt: the client notices nothing, and the value is whole again where it was
/// rotten.
#[test]
fn a_rotten_value_is_fetched_from_another_replica_and_written_anew() {
    let _alone = alone();
    let ring = Ring::up("damage-ring", 3);
    let value = |key: u64| format!("{key}-{}", "v".repeat(3000));
    for key in 0..KEYS {
        let put = ring.at(1, &["put", &format!("k{key}"), &value(key), "--w", "3"]);
        assert_eq!(code(&put), 0, "{}", text(&put.stderr));
    }
    // What was replayed is in memory: the values are read from the disk after the start, and spoilt under it.
    ring.done(&["down"]);
    ring.done(&["up"]);
    spoil(&ring.dir().join("node-1").join("data"));
    let read = |key: u64| ring.at(1, &["get", &format!("k{key}"), "--r", "1"]);
    for key in 0..KEYS {
        let got = read(key);
        assert_eq!(
            (code(&got), text(&got.stdout)),
            (0, value(key)),
            "k{key}: {}",
            text(&got.stderr)
        );
    }
    // It needs nobody any more.
    ring.done(&["kill", "2"]);
    ring.done(&["kill", "3"]);
    for key in 0..KEYS {
        eventually("it is whole again", || {
            text(&read(key).stdout) == value(key)
        });
    }
}
