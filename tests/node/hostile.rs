//! Clients that want too much: the node refuses, keeps its memory, and lives.

use crate::harness::{Node, Scratch, alone, cpus};
use armilla::causal::object::OperationId;
use armilla::client::ClientError;
use armilla::client::blocking::{Client, Put};
use armilla::client::core::Core;
use armilla::wire::message::{Op, PutMode, Request, Status};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

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
    let keys: Vec<[u8; 1]> = (0..40).map(|n| [n]).collect();
    for key in &keys {
        assert_eq!(raw.ask(&put(key, &large, b"")).0, Status::Ok);
    }
    // Nothing is in memory now.
    node.kill_9();
    let node = Node::start_with(&scratch.data(), &["--memory", "16MiB", "--cores", &cpus(1)]);
    let mut raw = Raw::connect(&node);
    for key in keys.iter().cycle().take(400) {
        raw.core.submit(&get(key));
    }
    raw.flush();
    std::thread::sleep(Duration::from_secs(2));
    let resident = resident_mib(&node);
    for _ in 0..400 {
        assert_eq!(raw.reply().0, Status::Ok);
    }
    assert!(resident < 150, "{resident} MiB");
}

/// A delete of what is not there makes no room.
#[test]
fn deletes_of_nothing_keep_to_the_memory() {
    let _alone = alone();
    let scratch = Scratch::new("deletes");
    let node = Node::start_with(&scratch.data(), &["--memory", "16MiB", "--cores", &cpus(1)]);
    let mut raw = Raw::connect(&node);
    let mut full = 0;
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
            full += usize::from(raw.reply().0 == Status::Full);
        }
    }
    let resident = resident_mib(&node);
    assert!(full > 10_000, "{full} refused, {resident} MiB");
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
    std::thread::sleep(Duration::from_millis(300));
    let pid = node.pid().to_string();
    let limit = |soft: usize| {
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={soft}:")])
            .status();
        assert!(done.unwrap().success());
    };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    limit(open);
    let refused = (0..40).find_map(|_| match raw.ask(&overwrite).0 {
        Status::Ok => None,
        status => Some(status),
    });
    assert_eq!(refused, Some(Status::Full), "{}", node.log());
    assert_eq!(raw.ask(&get(b"k")).0, Status::Ok);
    limit(1024);
    let recovered = (0..40).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        raw.ask(&overwrite).0 == Status::Ok
    });
    assert!(recovered, "{}", node.log());
}

/// So long that the node does not take the frame: it cannot read whose it is, but nothing was changed.
#[test]
fn a_value_far_too_long_is_refused_and_not_unknown() {
    let _alone = alone();
    let scratch = Scratch::new("long");
    let node = Node::start(&scratch.data());
    let mut client = Client::connect(&node.address).unwrap();
    let refused = client.put(b"k", &vec![7; 2 * MIB], &Put::default());
    assert!(
        matches!(refused, Err(ClientError::Refused { .. })),
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
    std::thread::sleep(Duration::from_millis(200));
    node.signal("-TERM");
    std::thread::sleep(Duration::from_millis(300));
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
