//! Three real nodes: what a quorum promises while some of them are dead, and that no acked write is lost by kill -9.

use crate::cluster::Ring;
use crate::harness::{alone, armilla, code, eventually, text};
use armilla::client::{Client, Get, Options, Put};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A longer run: `ARMILLA_KILL_CYCLES=100 cargo test --test node quorums`.
const CYCLES: usize = 5;
const WRITERS: u8 = 3;
const KEYS: u64 = 30;

#[test]
fn any_node_answers_any_key() {
    let _alone = alone();
    let ring = Ring::up("quorums-any", 3);
    for node in 1..=3 {
        let key = format!("key-{node}");
        let put = ring.at(node, &["put", &key, &key, "--w", "3", "-v"]);
        let said = text(&put.stderr);
        assert_eq!(
            (code(&put), said.as_str()),
            (0, "3 of 3 replicas hold it (3 needed), strict\n")
        );
        for other in 1..=3 {
            let got = ring.at(other, &["get", &key, "--r", "3"]);
            assert_eq!(
                (code(&got), text(&got.stdout)),
                (0, key.clone()),
                "{}",
                text(&got.stderr)
            );
        }
    }
    assert_eq!(code(&ring.at(2, &["delete", "key-1"])), 0);
    assert_eq!(code(&ring.at(3, &["get", "key-1"])), 1);
    let impossible = ring.at(1, &["put", "key", "value", "--w", "4"]);
    assert_eq!(code(&impossible), 3);
    for row in ring.status() {
        assert_eq!(row["state"], "serving");
    }
    let explained = ring.at(1, &["explain", "key-2", "--output", "json"]);
    assert_eq!(code(&explained), 0, "{}", text(&explained.stderr));
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    let replicas = explained["replicas"].as_array().unwrap();
    let mut addresses: Vec<&str> = replicas
        .iter()
        .map(|r| r["address"].as_str().unwrap())
        .collect();
    addresses.sort();
    assert_eq!(
        addresses,
        [ring.address(1), ring.address(2), ring.address(3)]
    );
    for replica in replicas {
        assert_eq!(replica["here"]["state"], "value");
        assert_eq!(
            replica["here"], replicas[0]["here"],
            "all hold the same dots"
        );
    }
    let deleted = ring.at(1, &["explain", "key-1"]);
    assert!(
        text(&deleted.stdout).contains("  deleted  "),
        "{}",
        text(&deleted.stdout)
    );
    // What runs is left alone, and all of it stops and comes back.
    let pids = |ring: &Ring| {
        ring.status()
            .iter()
            .map(|row| row["pid"].clone())
            .collect::<Vec<_>>()
    };
    let before = pids(&ring);
    ring.done(&["up"]);
    assert_eq!(pids(&ring), before);
    ring.done(&["down"]);
    ring.done(&["up"]);
    let got = ring.at(1, &["get", "key-3", "--r", "3"]);
    assert_eq!(text(&got.stdout), "key-3", "{}", text(&got.stderr));
}

#[test]
fn a_dead_node_is_named_by_who_needs_it_and_not_missed_by_who_does_not() {
    let _alone = alone();
    let ring = Ring::up("quorums-dead", 3);
    assert_eq!(code(&ring.at(1, &["put", "old", "value", "--w", "3"])), 0);
    ring.done(&["kill", "3"]);
    // The kernel takes a moment to close the sockets of who was killed: until then a write is begun.
    for node in 1..=2 {
        eventually("it is known to be dead", || {
            code(&ring.at(node, &["put", "probe", "value", "--w", "3"])) == 3
        });
    }
    for (node, arguments) in [
        (1, &["put", "key", "value", "--w", "3"][..]),
        (2, &["get", "old", "--r", "3"]),
        (1, &["delete", "old", "--w", "3"]),
    ] {
        let refused = ring.at(node, arguments);
        let said = text(&refused.stderr);
        assert_eq!(code(&refused), 3, "{arguments:?}: {said}");
        assert!(said.contains(&ring.address(3)), "{arguments:?}: {said}");
    }
    assert_eq!(
        code(&ring.at(1, &["get", "key"])),
        1,
        "what was refused is not there"
    );
    for node in 1..=2 {
        let value = format!("by {node}");
        let put = ring.at(node, &["put", "key", &value, "--w", "2", "--r", "2"]);
        assert_eq!(code(&put), 0, "{}", text(&put.stderr));
        let got = ring.at(3 - node, &["get", "key", "--r", "2"]);
        assert_eq!(
            (code(&got), text(&got.stdout)),
            (0, value),
            "{}",
            text(&got.stderr)
        );
    }
    // Whoever knows several nodes does not notice.
    let servers = [3, 1, 2].map(|node| ring.address(node)).join(",");
    let got = armilla()
        .args(["get", "old", "--server", &servers])
        .output()
        .unwrap();
    assert_eq!(text(&got.stdout), "value", "{}", text(&got.stderr));

    ring.done(&["kill", "2"]);
    for nth in 0..10 {
        let arguments = [
            "put",
            &format!("key-{nth}"),
            "value",
            "--w",
            "2",
            "--timeout",
            "1s",
        ];
        let put = ring.at(1, &arguments);
        assert!([3, 4].contains(&code(&put)), "exit {}", code(&put));
        let got = ring.at(1, &["get", "old", "--timeout", "1s"]);
        assert_eq!(code(&got), 3, "{}", text(&got.stdout));
    }
    let refused = ring.at(1, &["put", "key", "value", "--w", "2"]);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(
        said.contains(&ring.address(2)) && said.contains(&ring.address(3)),
        "{said}"
    );
    assert_eq!(
        text(&ring.at(1, &["get", "old", "--r", "1"]).stdout),
        "value"
    );

    ring.done(&["up"]);
    let put = ring.at(3, &["put", "key", "after", "--w", "3"]);
    assert_eq!(code(&put), 0, "{}", text(&put.stderr));
    for node in 1..=3 {
        let got = ring.at(node, &["get", "key", "--r", "3"]);
        assert_eq!(text(&got.stdout), "after", "{}", text(&got.stderr));
        assert_eq!(
            text(&ring.at(node, &["get", "old", "--r", "3"]).stdout),
            "value"
        );
    }
}

/// Each of two replicas takes as many concurrent values as it may while the other is gone: together they are more than
/// either would have taken.
#[test]
fn what_replicas_took_apart_is_joined_and_can_be_merged() {
    const EACH: usize = 120;
    let _alone = alone();
    let ring = Ring::up("quorums-crowd", 3);
    let at = |node: u8| Client::connect(&ring.address(node)).unwrap();
    ring.done(&["kill", "3"]);
    for (up, down) in [(1, 2), (2, 1)] {
        ring.done(&["kill", &down.to_string()]);
        let client = at(up);
        let put = Put::concurrent().write_quorum(1);
        for nth in 0..EACH {
            let value = format!("{up}-{nth}");
            client.put(b"crowd", value.as_bytes(), &put).unwrap();
        }
        ring.done(&["kill", &up.to_string()]);
        ring.done(&["restart", &down.to_string()]);
    }
    ring.done(&["up"]);
    for node in 1..=3 {
        let got = at(node).get_with(b"crowd", &Get::default().read_quorum(3));
        let got = got.unwrap();
        assert_eq!(got.siblings.len(), 2 * EACH, "node {node}");
        assert!(got.siblings.iter().all(|sibling| !sibling.lost));
    }
    // No further one is taken, and one that merges them is.
    let client = at(1);
    assert!(client.put(b"crowd", b"more", &Put::concurrent()).is_err());
    let got = client.get_with(b"crowd", &Get::default().read_quorum(3));
    let merge = Put::with_context(&got.unwrap().context).write_quorum(3);
    client.put(b"crowd", b"merged", &merge).unwrap();
    for node in 1..=3 {
        let got = ring.at(node, &["get", "crowd", "--r", "3"]);
        assert_eq!(text(&got.stdout), "merged", "{}", text(&got.stderr));
    }
}

/// The last acked number of each key, and the last one sent. A key has one writer.
type Ledger = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(ring: &Ring, ledger: &Ledger, acked: &Arc<AtomicU64>) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..WRITERS).map(|writer| {
            let client = client(ring, writer);
            let (ledger, acked, stop) = (ledger.clone(), acked.clone(), stop.clone());
            std::thread::spawn(move || write(&client, writer, &ledger, &acked, &stop))
        });
        let threads = threads.collect();
        Writers { stop, threads }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

/// Each begins with another node.
fn client(ring: &Ring, first: u8) -> Client {
    let servers = (0..3).map(|nth| ring.address((first + nth) % 3 + 1));
    let options = Options {
        request_timeout: Duration::from_secs(3),
        ..Options::default()
    };
    Client::connect_with(&servers.collect::<Vec<_>>().join(","), options).unwrap()
}

fn write(client: &Client, writer: u8, ledger: &Ledger, acked: &AtomicU64, stop: &AtomicBool) {
    for nth in (0..KEYS).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("w{writer}-{nth}");
        let next = {
            let mut ledger = ledger.lock().unwrap();
            let entry = ledger.entry(key.clone()).or_default();
            entry.1 += 1;
            entry.1
        };
        // What is refused or unknown is not acked; the next one follows.
        let put = Put::default().write_quorum(2).read_quorum(2);
        if client
            .put(key.as_bytes(), value(&key, next).as_bytes(), &put)
            .is_ok()
        {
            ledger.lock().unwrap().get_mut(&key).unwrap().0 = next;
            acked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn value(key: &str, n: u64) -> String {
    format!("{key}={n}={}", "x".repeat((n % 300) as usize))
}

/// A key holds its last acked value, or one that was sent after it and whose outcome nobody knew. A write of unknown
/// outcome that the next one had not seen is its sibling.
fn check(client: &Client, ledger: &Ledger, cycle: usize, replicas: u8) {
    for (key, (acked, sent)) in ledger.lock().unwrap().iter() {
        let how = Get::default().read_quorum(replicas);
        let got = client.get_with(key.as_bytes(), &how).unwrap();
        let found: Vec<Option<u64>> = got
            .siblings
            .iter()
            .map(|sibling| (1..=*sent).find(|n| value(key, *n).as_bytes() == sibling.value))
            .collect();
        assert!(
            !found.contains(&None),
            "cycle {cycle}: {key} has what nobody wrote"
        );
        let newest = found.iter().flatten().max();
        assert!(
            *acked == 0 || newest.is_some_and(|n| n >= acked),
            "cycle {cycle}: {key} lost {acked}, has {found:?}"
        );
    }
}

#[test]
fn nothing_acked_is_lost_by_kill_9_of_any_node() {
    let _alone = alone();
    let ring = Ring::up("quorums-kill", 3);
    let (ledger, acked) = (Ledger::default(), Arc::new(AtomicU64::new(0)));
    let asked = std::env::var("ARMILLA_KILL_CYCLES").ok();
    let cycles = asked.map_or(CYCLES, |n| n.parse().expect("a number of cycles"));
    let began = Instant::now();
    let mut without_one = 0;
    for cycle in 0..cycles {
        let writers = Writers::start(&ring, &ledger, &acked);
        std::thread::sleep(Duration::from_millis(50 + 37 * (cycle as u64 % 5)));
        // Any of the three, in an order that does not repeat soon.
        let node = (armilla::base::checksum::xxh3_64(&cycle.to_le_bytes()) % 3 + 1).to_string();
        ring.done(&["kill", &node]);
        let before = acked.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        without_one += acked.load(Ordering::Relaxed) - before;
        ring.done(&["restart", &node]);
        writers.stop();
        check(&client(&ring, cycle as u8 % 3), &ledger, cycle, 2);
        if cycle % 20 == 19 {
            println!("{} of {cycles} cycles, {:?}", cycle + 1, began.elapsed());
        }
    }
    check(&client(&ring, 0), &ledger, cycles, 3);
    let acked = acked.load(Ordering::Relaxed);
    println!(
        "{cycles} cycles, {acked} acked writes, {without_one} of them with two nodes of three"
    );
    assert!(
        without_one > cycles as u64 * 10,
        "only {without_one} writes were acked by two nodes"
    );
}
