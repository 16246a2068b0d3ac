//! A node of several shards: any of them answers any key, by its own port or the one of all.

use crate::harness::{Node, Scratch, alone, code, cpus, http, text};
use armilla::client::blocking::{Client, Options, Put};
use std::time::Duration;

fn start(scratch: &Scratch, shards: usize) -> Node {
    Node::start_with(&scratch.data(), &["--cores", &cpus(shards)])
}

/// The rows of the status report.
fn rows(node: &Node) -> Vec<serde_json::Value> {
    let status = node.run(&["status", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    report["by_shard"].as_array().unwrap().clone()
}

/// The ports of the shards, as the node said.
fn ports(node: &Node) -> Vec<String> {
    let listen = |row: &serde_json::Value| row["listen"].as_str().unwrap().to_owned();
    rows(node).iter().map(listen).collect()
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

#[test]
fn any_shard_answers_any_key() {
    let _alone = alone();
    let scratch = Scratch::new("shards");
    let mut node = start(&scratch, 3);
    let ports = ports(&node);
    assert_eq!(ports.len(), 3);
    // Each asks one shard for everything.
    let options = Options {
        shard_ports: false,
        connections_max: 1,
        ..Options::default()
    };
    let connect = |port: &String| Client::connect_with(port, options).unwrap();
    let clients: Vec<Client> = ports.iter().map(connect).collect();
    for n in 0..90 {
        let value = format!("value of {n}");
        let put = clients[n % 3].put(key(n).as_bytes(), value.as_bytes(), &Put::default());
        put.unwrap();
    }
    for client in &clients {
        for n in 0..90 {
            let got = client.get(key(n).as_bytes()).unwrap();
            assert_eq!(got.siblings.len(), 1);
            assert_eq!(got.siblings[0].value, format!("value of {n}").as_bytes());
        }
    }
    let rows = rows(&node);
    let count = |row: &serde_json::Value, name: &str| row[name].as_u64().unwrap();
    for row in &rows {
        assert_eq!(row["state"], "serving");
        assert!(row["engine"]["entries"].as_u64().unwrap() > 10, "{row}");
        assert!(count(row, "crossed_out") > 60, "{row}");
    }
    let keys = rows
        .iter()
        .map(|row| row["engine"]["entries"].as_u64().unwrap());
    assert_eq!(keys.sum::<u64>(), 90);
    let table = text(&node.run(&["status"]).stdout);
    for shard in 0..3 {
        let row = |line: &str| line.starts_with(&format!("{shard}  ")) && line.contains("serving");
        assert!(table.lines().any(row), "{table}");
    }
    assert!(http(&node.admin, "/readyz").starts_with("HTTP/1.1 200"));

    node.kill_9();
    let node = start(&scratch, 3);
    for n in 0..90 {
        let got = node.run(&["get", &key(n)]);
        assert_eq!(text(&got.stdout), format!("value of {n}"));
    }
}

#[test]
fn all_shards_stop_in_order_while_clients_write() {
    let _alone = alone();
    let scratch = Scratch::new("shards-stop");
    let mut node = start(&scratch, 2);
    let writers: Vec<_> = ports(&node)
        .into_iter()
        .enumerate()
        .map(|(writer, port)| {
            std::thread::spawn(move || {
                let mut acked = Vec::new();
                let Ok(client) = Client::connect(&port) else {
                    return acked;
                };
                for n in 0.. {
                    let key = format!("{writer}-{n}");
                    if client.put(key.as_bytes(), b"x", &Put::default()).is_err() {
                        return acked;
                    }
                    acked.push(key);
                }
                acked
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    node.signal("-TERM");
    let status = node.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{}", node.log());
    let acked: Vec<String> = writers
        .into_iter()
        .flat_map(|w| w.join().unwrap())
        .collect();
    assert!(!acked.is_empty());
    let node = start(&scratch, 2);
    let client = Client::connect(&node.address).unwrap();
    for key in &acked {
        assert_eq!(
            client.get(key.as_bytes()).unwrap().siblings.len(),
            1,
            "{key}"
        );
    }
}

#[test]
fn a_shard_that_cannot_start_ends_the_others() {
    let _alone = alone();
    let scratch = Scratch::new("shards-damaged");
    let mut node = start(&scratch, 2);
    for n in 0..20 {
        assert_eq!(code(&node.run(&["put", &key(n), "x"])), 0);
    }
    node.kill_9();
    // The manifest of shard 1 alone: its segments are then without one.
    for entry in std::fs::read_dir(scratch.data()).unwrap() {
        let entry = entry.unwrap();
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("shard-001.manifest")
        {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let refused = crate::harness::armilla()
        .args([
            "start",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            &cpus(2),
            "--data",
        ])
        .arg(scratch.data())
        .output()
        .unwrap();
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(said.contains("no manifest"), "{said}");
}
