//! A node that was alone takes others in: what it held they hold too, and what is written meanwhile.

use crate::cluster::free_port;
use crate::harness::{Node, Scratch, alone, code, cpus, report, text};
use armilla::client::{Client, Get, Put};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KEYS: usize = 3_000;

/// The ring that the node is of has so many members, all of which hold their keys.
fn wait_until_grown(node: &Node, members: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = report(node);
        let ring = report["ring"]["members"].as_array().unwrap();
        let full = ring.iter().filter(|member| member["filling"] == false);
        if full.count() == members && ring.len() == members {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {members} nodes hold their keys: {}",
            ring.len(),
            report["ring"]
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_lone_node_takes_two_others_in_while_it_is_written_to() {
    let _alone = alone();
    let scratch = Scratch::new("grow");
    let port = free_port();
    let address = |node: u8| format!("127.0.0.{node}:{port}");
    let data = |node: u8| scratch.0.join(format!("node-{node}"));
    let (cores, first) = (cpus(1), address(1));
    let one = Node::start_at(&first, &data(1), &["--cores", &cores]);
    let keys: String = (0..KEYS).map(|n| format!("key-{n}\tvalue {n}\n")).collect();
    let file = scratch.0.join("keys.tsv");
    std::fs::write(&file, &keys).unwrap();
    let imported = one.run(&["import", file.to_str().unwrap()]);
    assert_eq!(code(&imported), 0, "{}", text(&imported.stderr));

    let writing = AtomicBool::new(true);
    let (mut others, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = Vec::new();
            for n in 0.. {
                let (key, value) = (format!("late-{n}"), format!("late value {n}"));
                // In the moment of a change a write may be refused, or its outcome unknown; what is acked counts.
                if code(&one.run(&["put", &key, &value])) == 0 {
                    written.push((key, value));
                }
                if !writing.load(Ordering::Relaxed) {
                    break;
                }
            }
            written
        });
        let mut others = Vec::new();
        for node in [2, 3] {
            let join = ["--cores", &cores, "--join", &first];
            others.push(Node::start_at(&address(node), &data(node), &join));
            wait_until_grown(&one, others.len() + 1);
        }
        writing.store(false, Ordering::Relaxed);
        (others, writer.join().unwrap())
    });
    assert!(written.len() > 10, "{} writes were acked", written.len());

    others.iter().for_each(|node| wait_until_grown(node, 3));
    // The one that had it all is gone.
    drop(one);
    let all = scratch.0.join("all.tsv");
    let three = others.pop().unwrap();
    let exported = three.run(&["export", all.to_str().unwrap()]);
    assert_eq!(code(&exported), 0, "{}", text(&exported.stderr));
    let mut found: Vec<String> = std::fs::read_to_string(&all)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    found.sort();
    let mut wanted: Vec<String> = keys.lines().map(str::to_owned).collect();
    wanted.retain(|line| found.binary_search(line).is_err());
    assert!(wanted.is_empty(), "not at the third node: {wanted:?}");
    // What was acked by the two others alone it learns when it is asked.
    for (key, value) in &written {
        let got = three.run(&["get", key]);
        assert_eq!(text(&got.stdout), *value, "{key}: {}", text(&got.stderr));
    }
    // A majority is there, and it knows the ring.
    assert_eq!(code(&three.run(&["put", "city", "Riga"])), 0);
    let city = others[0].run(&["get", "city"]);
    assert_eq!(text(&city.stdout), "Riga", "{}", text(&city.stderr));
}

/// The values of one key may be more than a node writes at a time: who joins takes them all the same.
#[test]
fn large_concurrent_values_reach_who_joins() {
    let _alone = alone();
    let scratch = Scratch::new("grow-large");
    let port = free_port();
    let address = |node: u8| format!("127.0.0.{node}:{port}");
    let data = |node: u8| scratch.0.join(format!("node-{node}"));
    let (cores, first) = (cpus(1), address(1));
    let one = Node::start_at(&first, &data(1), &["--cores", &cores]);
    let client = Client::connect(&first).unwrap();
    let values: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 1 << 20]).collect();
    for value in &values {
        client.put(b"large", value, &Put::concurrent()).unwrap();
    }
    let join = ["--cores", &cores, "--join", &first];
    let two = Node::start_at(&address(2), &data(2), &join);
    wait_until_grown(&one, 2);
    drop(one);
    let got = Client::connect(&address(2)).unwrap();
    let got = got.get_with(b"large", &Get::default().read_quorum(1));
    let mut found: Vec<Vec<u8>> = got.unwrap().siblings.into_iter().map(|s| s.value).collect();
    found.sort();
    assert!(found == values, "{} values were found", found.len());
    drop(two);
}

#[test]
fn who_does_not_fit_into_a_ring_is_refused_by_name() {
    let _alone = alone();
    let scratch = Scratch::new("grow-refused");
    let port = free_port();
    let address = |node: u8| format!("127.0.0.{node}:{port}");
    let (cores, first) = (cpus(1), address(1));
    let lone = scratch.0.join("lone");
    let one = Node::start_at(&first, &scratch.0.join("one"), &["--cores", &cores]);
    drop(Node::start_at(&address(2), &lone, &["--cores", &cores]));
    let refused = |listen: &str, data: &std::path::Path, join: &str| {
        let output = crate::harness::armilla()
            .args(["start", "--listen", listen, "--memory", "64MiB", "--data"])
            .arg(data)
            .args(["--cores", &cores, "--join", join])
            .output()
            .unwrap();
        assert_eq!(code(&output), 3, "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let why = refused(&address(2), &lone, &first);
    assert!(why.contains("started alone"), "{why}");
    drop(one);
}
