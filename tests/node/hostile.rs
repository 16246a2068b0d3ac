//! Clients that want too much: the node refuses, keeps its memory, and lives.

use crate::harness::{Node, Scratch, alone, cpus, descriptors, eventually, http, report};
use armilla::causal::object::OperationId;
use armilla::client::ClientError;
use armilla::client::blocking::{Client, Put};
use armilla::client::core::Core;
use armilla::wire::message::{Op, PutMode, Request, Status};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

/// A connection without any manners of its own.
struct Raw {
    stream: TcpStream,
    core: Core,
}

impl Raw {
    fn connect(node: &Node) -> Raw {
        let stream = TcpStream::connect(&node.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Raw {
            stream,
            core: Core::new(),
        }
    }

    fn send(&mut self, request: &Request<'_>) {
        self.core.submit(request);
        self.flush();
    }

    fn flush(&mut self) {
        let bytes = self.core.unsent().to_vec();
        self.stream.write_all(&bytes).unwrap();
        self.core.on_sent(bytes.len());
    }

    /// Status and context of one reply.
    fn reply(&mut self) -> (Status, Vec<u8>) {
        let mut bytes = vec![0; MIB];
        loop {
            if let Some((_, reply)) = self.core.next_reply().unwrap() {
                return (reply.status, reply.context.to_vec());
            }
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the node hung up");
            self.core.on_bytes(&bytes[..count]);
        }
    }

    fn ask(&mut self, request: &Request<'_>) -> (Status, Vec<u8>) {
        self.send(request);
        self.reply()
    }
}

fn get(key: &[u8]) -> Request<'_> {
    Request {
        op: Op::Get,
        key,
        ..Request::default()
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8], context: &'a [u8]) -> Request<'a> {
    Request {
        op: Op::Put,
        key,
        value,
        context,
        ..Request::default()
    }
}

/// Replies made so far.
fn requests_done(node: &Node) -> u64 {
    report(node)["replies"]["done"].as_u64().unwrap()
}

fn resident_mib(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

/// Each old context replaces one small sibling by a large one.
#[test]
fn siblings_never_outgrow_a_reply() {
    let _alone = alone();
    let scratch = Scratch::new("outgrow");
    let node = Node::start(&scratch.data());
    let mut raw = Raw::connect(&node);
    let contexts: Vec<Vec<u8>> = (0..100)
        .map(|_| {
            assert_eq!(raw.ask(&put(b"k", b"s", b"")).0, Status::Ok);
            raw.ask(&get(b"k")).1
        })
        .collect();
    let large = vec![7; MIB];
    let refused = contexts
        .iter()
        .filter(|context| raw.ask(&put(b"k", &large, context)).0 == Status::TooManySiblings)
        .count();
    assert_eq!(raw.ask(&get(b"k")).0, Status::Ok);
    assert_eq!(refused, 96, "four large values fit");
}

/// Many gets of values that are on the disk only, from a client that does not read the answers.
#[test]
fn replies_that_nobody_reads_do_not_pile_up() {
    let _alone = alone();
    let scratch = Scratch::new("pile");
    let mut node = Node::start_with(&scratch.data(), &["--memory", "16MiB", "--cores", &cpus(1)]);
    let mut raw = Raw::connect(&node);
    let large = vec![7; MIB];
    // So few that the entries stay in memory: a get that must read its entry first is begun before its size is known.
    let keys: Vec<[u8; 1]> = (0..12).map(|n| [n]).collect();
    for key in &keys {
        assert_eq!(raw.ask(&put(key, &large, b"")).0, Status::Ok);
    }
    // No value is in memory now.
    node.kill_9();
    let node = Node::start_with(&scratch.data(), &["--memory", "16MiB", "--cores", &cpus(1)]);
    let mut raw = Raw::connect(&node);
    for key in keys.iter().cycle().take(400) {
        raw.core.submit(&get(key));
    }
    raw.flush();
    // It stops on its own: what is written to it and not read counts, and nothing more is answered.
    let mut before = 0;
    eventually("the replies stop", || {
        let done = requests_done(&node);
        std::mem::replace(&mut before, done) == done && done > 0
    });
    let resident = resident_mib(&node);
    for _ in 0..400 {
        assert_eq!(raw.reply().0, Status::Ok);
    }
    assert!(resident < 150, "{resident} MiB");
}

/// A delete of what is not there makes an entry like a put: they leave memory for tables, or are refused.
#[test]
fn deletes_of_nothing_keep_to_the_memory() {
    let _alone = alone();
    let scratch = Scratch::new("deletes");
    let node = Node::start_with(&scratch.data(), &["--memory", "16MiB", "--cores", &cpus(1)]);
    let mut raw = Raw::connect(&node);
    for round in 0..40u32 {
        for n in 0..500u32 {
            let mut key = vec![b'x'; 4096];
            key[..8].copy_from_slice(&(u64::from(round) << 32 | u64::from(n)).to_le_bytes());
            raw.send(&Request {
                op: Op::Delete,
                key: &key,
                operation: OperationId(0),
                ..Request::default()
            });
        }
        for _ in 0..500 {
            let status = raw.reply().0;
            let taken = matches!(status, Status::Ok | Status::Overloaded | Status::Full);
            assert!(taken, "{status:?}");
        }
    }
    // Their keys alone are 80 MiB.
    let resident = resident_mib(&node);
    assert!(resident < 60, "{resident} MiB");
}

/// No descriptor for the next segment is a full disk for a while, not a failed one.
#[test]
fn a_node_out_of_descriptors_refuses_and_recovers() {
    let _alone = alone();
    let scratch = Scratch::new("descriptors");
    let node = Node::start(&scratch.data());
    let mut raw = Raw::connect(&node);
    let large = vec![7; MIB];
    let overwrite = Request {
        mode: PutMode::Overwrite,
        ..put(b"k", &large, b"")
    };
    assert_eq!(raw.ask(&overwrite).0, Status::Ok);
    // Segments are made ready ahead of the log: their descriptors are there before the limit comes.
    let mut before = 0;
    eventually("the descriptors settle", || {
        let now = descriptors(&node);
        std::mem::replace(&mut before, now) == now
    });
    let pid = node.pid().to_string();
    let limit = |soft: usize| {
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status();
        assert!(done.unwrap().success());
    };
    limit(descriptors(&node));
    let refused = (0..40).find_map(|_| match raw.ask(&overwrite).0 {
        Status::Ok => None,
        status => Some(status),
    });
    assert_eq!(refused, Some(Status::Full), "{}", node.log());
    assert_eq!(raw.ask(&get(b"k")).0, Status::Ok);
    limit(1024);
    eventually("it recovers", || raw.ask(&overwrite).0 == Status::Ok);
}

/// So long that the node does not take the frame: it cannot read whose it is, but nothing was changed.
#[test]
fn a_value_far_too_long_is_refused_and_not_unknown() {
    let _alone = alone();
    let scratch = Scratch::new("long");
    let node = Node::start(&scratch.data());
    let client = Client::connect(&node.address).unwrap();
    let refused = client.put(b"k", &vec![7; 2 * MIB], &Put::default());
    assert!(
        matches!(refused, Err(ClientError::TooLarge(_))),
        "{refused:?}"
    );
    assert!(client.put(b"k", b"v", &Put::default()).is_ok());
}

/// A client that does not read its replies holds up a graceful stop; a second signal ends the node at once, and safely.
#[test]
fn a_second_signal_does_not_wait() {
    let _alone = alone();
    let scratch = Scratch::new("twice");
    let mut node = Node::start(&scratch.data());
    let mut raw = Raw::connect(&node);
    let large = vec![7; MIB];
    assert_eq!(raw.ask(&put(b"k", &large, b"")).0, Status::Ok);
    for _ in 0..100 {
        raw.core.submit(&get(b"k"));
    }
    raw.flush();
    eventually("replies wait to be read", || requests_done(&node) > 1);
    node.signal("-TERM");
    eventually("it is stopping", || node.log().contains("stopping"));
    assert!(
        node.is_running(),
        "it waits for the replies to leave: {}",
        node.log()
    );
    node.signal("-INT");
    assert_eq!(node.wait(Duration::from_secs(2)).code(), Some(130));
    let node = Node::start(&scratch.data());
    let mut raw = Raw::connect(&node);
    assert_eq!(raw.ask(&get(b"k")).0, Status::Ok);
}

/// A client that shuts its half behind its requests is answered to the last one, and then the node closes.
#[test]
fn a_half_closed_client_gets_every_reply() {
    let _alone = alone();
    let scratch = Scratch::new("half");
    let node = Node::start(&scratch.data());
    let mut raw = Raw::connect(&node);
    let value = vec![7; 20_000];
    for n in 0..600u32 {
        let key = (n % 50).to_le_bytes();
        match n % 2 {
            0 => raw.core.submit(&put(&key, &value, b"")),
            _ => raw.core.submit(&get(&key)),
        };
    }
    raw.flush();
    raw.stream.shutdown(Shutdown::Write).unwrap();
    for n in 0..600 {
        let status = raw.reply().0;
        let fine = [Status::Ok, Status::NotFound, Status::TooManySiblings];
        assert!(fine.contains(&status), "reply {n}: {status:?}");
    }
    assert_eq!(raw.stream.read(&mut [0; 1]).unwrap(), 0);
}

/// A typed refusal arrives although the node closes over megabytes that it never read.
#[test]
fn a_refusal_outlives_what_was_sent_behind_it() {
    let _alone = alone();
    let scratch = Scratch::new("behind");
    let node = Node::start(&scratch.data());
    for _ in 0..20 {
        let mut raw = Raw::connect(&node);
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.resize(4 * MIB, 7);
        raw.stream.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        raw.stream.read_to_end(&mut answer).unwrap();
        raw.core.on_bytes(&answer);
        let said = raw.core.next_reply().err().map(|cause| cause.to_string());
        assert!(said.is_some_and(|s| s.contains("exceeds")), "{answer:?}");
    }
}

/// Clients fill every place they may have: the admin port answers, and goes on answering when it is held up itself.
#[test]
fn the_admin_port_is_apart_from_clients() {
    let _alone = alone();
    let scratch = Scratch::new("admin");
    // The limit is one of each shard, and the kernel spreads connections over shards unevenly.
    let node = Node::start_with(&scratch.data(), &["--cores", &cpus(1)]);
    let max = report(&node)["connections_max"].as_u64().unwrap() as usize;
    raise_descriptors(max as u64 + 1_000);
    let resident = resident_mib(&node);
    let clients: Vec<TcpStream> = (0..max)
        .map(|_| TcpStream::connect(&node.address).unwrap())
        .collect();
    eventually("all are in", || report(&node)["connections"] == max);
    let each_kib = (resident_mib(&node) - resident) * 1024 / max;
    println!("{max} idle connections, {each_kib} KiB each");
    assert!(each_kib <= 16, "{each_kib} KiB a connection");
    let mut refused = Raw::connect(&node);
    let mut answer = Vec::new();
    refused.stream.read_to_end(&mut answer).unwrap();
    refused.core.on_bytes(&answer);
    assert!(refused.core.next_reply().is_err());
    let _held: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(&node.admin).unwrap())
        .collect();
    assert!(http(&node.admin, "/readyz").contains("200"));
    let open = descriptors(&node);
    drop(clients);
    eventually("they have gone", || report(&node)["connections"] == 0);
    assert!(
        open - descriptors(&node) >= max,
        "their descriptors are closed"
    );
}

fn raise_descriptors(wanted: u64) {
    let pid = std::process::id().to_string();
    let done = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={wanted}:")])
        .status();
    assert!(done.unwrap().success());
}

/// Hundreds that begin a long request and stop, hundreds that ask and do not read: what the node holds for them stays
/// within its part of the memory, and small requests go on.
#[test]
fn greedy_connections_share_one_budget() {
    let _alone = alone();
    let scratch = Scratch::new("greedy");
    let node = Node::start_with(&scratch.data(), &["--memory", "64MiB", "--cores", &cpus(1)]);
    let mut honest = Raw::connect(&node);
    let large = vec![7; MIB];
    for n in 0..4 {
        assert_eq!(honest.ask(&put(&[n], &large, b"")).0, Status::Ok);
    }
    let resident = resident_mib(&node);
    let mut core = Core::new();
    core.submit(&put(b"half", &large, b""));
    let half = core.unsent()[..MIB - 5_000].to_vec();
    let mut held = Vec::new();
    for n in 0..300usize {
        let mut reader = Raw::connect(&node);
        for n in 0..4 {
            reader.core.submit(&get(&[n]));
        }
        reader.flush();
        let mut writer = Raw::connect(&node);
        let patience = Some(Duration::from_millis(1));
        writer.stream.set_write_timeout(patience).unwrap();
        // Those that are not read stop here.
        let _ = writer.stream.write(&half);
        held.push((reader, writer));
        if n % 10 == 0 {
            assert_eq!(honest.ask(&put(b"small", b"v", b"")).0, Status::Ok);
        }
        honest.ask(&Request {
            op: Op::Delete,
            mode: PutMode::Overwrite,
            ..get(b"small")
        });
    }
    let budget = report(&node)["buffers"].clone();
    let grown = resident_mib(&node) - resident;
    println!("buffers {budget}, {grown} MiB more than before");
    assert!(grown < 64, "{grown} MiB for connections");
    eventually("the stalled are closed", || {
        let report = report(&node);
        let held = report["buffers"]["bytes"].as_u64().unwrap();
        report["connections_stalled"].as_u64() > Some(0) && held < 12 << 20
    });
    let patience = Instant::now();
    assert_eq!(honest.ask(&put(b"long", &large, b"")).0, Status::Ok);
    println!("a long request waited {:?}", patience.elapsed());
    drop(held);
    eventually("all is given back", || {
        report(&node)["buffers"]["bytes"].as_u64() < Some(64 << 10)
    });
}
