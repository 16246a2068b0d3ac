//! Clients that want too much: the node refuses, keeps its memory, and lives.

use crate::harness::{Node, Scratch, alone};
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
