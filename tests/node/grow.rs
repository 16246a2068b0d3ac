//! A node that was alone takes others in: what it held they hold too, and what is written meanwhile.

use crate::cluster::free_port;
use crate::harness::{Node, Scratch, alone, armilla, code, cpus, eventually, report, text};
use armilla::client::{Client, Get, Put};
use armilla::wire::codec;
use armilla::wire::peer::{Kind, PEER_PROTOCOL_VERSION, Peer};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
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
    // It knows that itself.
    wait_until_grown(&two, 2);
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

/// What a start says that ends by itself.
fn refused_start(listen: &str, data: &Path, more: &[&str]) -> String {
    let output = armilla()
        .args(["start", "--listen", listen, "--data"])
        .arg(data)
        .args(more)
        .env("ARMILLA_MEMORY", "256MiB")
        .output()
        .unwrap();
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    text(&output.stderr)
}

/// What a node answers to who asks for its ring and knows no token, or claims to have proved one.
fn asked_by_a_stranger(address: &str, join: &Peer<'_>) -> Vec<u8> {
    let mut shard: SocketAddr = address.parse().unwrap();
    shard.set_port(shard.port() + 1);
    let mut stream = TcpStream::connect(shard).unwrap();
    let mut builder = codec::Builder::new();
    let frame = codec::encode_peer(&mut builder, join);
    stream.write_all(frame).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn who_knows_the_token_joins_and_nobody_else() {
    let _alone = alone();
    let scratch = Scratch::new("grow-token");
    let port = free_port();
    let address = |node: u8| format!("127.0.0.{node}:{port}");
    let data = |node: u8| scratch.0.join(format!("node-{node}"));
    let (cores, first) = (cpus(1), address(1));
    let chosen = ["--join-token", "chosen by an operator"];
    let one = Node::start_at(
        &first,
        &data(1),
        &[&["--cores", &cores], &chosen[..]].concat(),
    );

    let join = ["--cores", &cores, "--join", &first];
    let why = refused_start(&address(2), &data(2), &join);
    assert!(why.contains("a join token is needed"), "{why}");
    let other = [&join[..], &["--join-token", "guessed by somebody"]].concat();
    let why = refused_start(&address(2), &data(2), &other);
    assert!(why.contains("its join token is another one"), "{why}");
    let join_of = |nonce, answer_nonce, proof| Peer {
        kind: Kind::Join,
        protocol: PEER_PROTOCOL_VERSION,
        node: 77,
        address: "127.0.0.3:7700",
        shards: 1,
        nonce,
        answer_nonce,
        proof,
        ..Peer::default()
    };
    for join in [join_of(0, 0, 0), join_of(0, 5, 6), join_of(5, 6, 7)] {
        let answer = asked_by_a_stranger(&first, &join);
        let answer = codec::decode_peer(&answer).unwrap();
        assert!(answer.message.contains("join token"), "{}", answer.message);
        assert!(answer.secret.is_empty() && answer.ring.is_empty());
    }
    assert_eq!(report(&one)["ring"]["members"].as_array().unwrap().len(), 1);

    // The one that the operator chose, and the one that is printed; both lead to the same ring.
    let _two = Node::start_at(&address(2), &data(2), &[&join[..], &chosen].concat());
    wait_until_grown(&one, 2);
    let printed = |node: u8| {
        let printed = armilla()
            .args(["join-token", "--data"])
            .arg(data(node))
            .output()
            .unwrap();
        assert_eq!(code(&printed), 0, "{}", text(&printed.stderr));
        printed.stdout
    };
    assert_eq!(printed(1), printed(2));
    let file = scratch.0.join("token");
    std::fs::write(&file, printed(2)).unwrap();
    let by_file = [&join[..], &["--join-token-file", file.to_str().unwrap()]].concat();
    let three = Node::start_at(&address(3), &data(3), &by_file);
    wait_until_grown(&three, 3);
    assert_eq!(code(&three.run(&["put", "city", "Riga", "--w", "3"])), 0);

    let nowhere = armilla()
        .args(["join-token", "--data"])
        .arg(scratch.0.join("nowhere"))
        .output()
        .unwrap();
    assert_eq!(code(&nowhere), 3);
    assert!(text(&nowhere.stderr).contains("--data"));
}

#[test]
fn founders_have_one_token_or_are_all_on_this_machine() {
    let _alone = alone();
    let scratch = Scratch::new("found-token");
    let port = free_port();
    let address = |node: u8| format!("127.0.0.{node}:{port}");
    let data = |node: u8| scratch.0.join(format!("node-{node}"));
    let cores = cpus(1);
    let beyond = format!("{},192.0.2.7:7700", address(1));
    let join = ["--cores", &cores, "--join", &beyond];
    let why = refused_start(&address(1), &data(1), &join);
    assert!(why.contains("--join-token-file"), "{why}");

    let all = format!("{},{}", address(1), address(2));
    let join = ["--cores", &cores, "--join", &all, "--join-token"];
    let mut founders: Vec<Child> = [(1, "this is the one token"), (2, "and this is another")]
        .map(|(node, token)| {
            let mut start = armilla();
            start
                .args(["start", "--listen", &address(node), "--data"])
                .arg(data(node))
                .args(join)
                .arg(token)
                .args(["--memory", "64MiB"])
                .stderr(Stdio::piped());
            start.spawn().unwrap()
        })
        .into();
    // Whoever is refused first ends, and the other one waits for it without end.
    let mut ended = None;
    eventually("one of them ends", || {
        ended = founders
            .iter_mut()
            .position(|child| child.try_wait().unwrap().is_some());
        ended.is_some()
    });
    let ended = founders.remove(ended.unwrap()).wait_with_output().unwrap();
    let why = text(&ended.stderr);
    assert!(why.contains("join token is another one"), "{why}");
    for mut other in founders {
        other.kill().unwrap();
        other.wait().unwrap();
    }

    std::thread::scope(|scope| {
        let start = |node: u8| {
            let (join, address, data) = (&join, address(node), data(node));
            let more = [&join[..], &["this is the one token"]].concat();
            scope.spawn(move || Node::start_at(&address, &data, &more))
        };
        let (one, two) = (start(1), start(2));
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        // Their links may not be there yet.
        let mut said = String::new();
        eventually("both hold it", || {
            let put = one.run(&["put", "city", "Riga", "--w", "2"]);
            said = text(&put.stderr);
            code(&put) == 0
        });
        assert_eq!(said, "");
        assert_eq!(text(&two.run(&["get", "city", "--r", "2"]).stdout), "Riga");
    });
}
