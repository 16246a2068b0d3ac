//! `armilla cluster`: a ring of real processes on the loopback, and what its verbs do to them.

use crate::harness::{Scratch, alone, armilla, code, cpus, text};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

/// Addresses of the loopback that may have a node.
const NODES_MAX: u8 = 3;

/// A ring in a directory of its own; its processes are killed when it is dropped.
pub struct Ring {
    scratch: Scratch,
    pub port: u16,
}

impl Ring {
    /// Nothing is started yet.
    pub fn new(name: &str) -> Ring {
        Ring {
            scratch: Scratch::new(name),
            port: free_port(),
        }
    }

    pub fn up(name: &str, nodes: u8) -> Ring {
        let ring = Ring::new(name);
        let up = ring.start(nodes);
        assert_eq!(code(&up), 0, "{}", text(&up.stderr));
        ring
    }

    /// `cluster up`, a shard a node.
    pub fn start(&self, nodes: u8) -> Output {
        let (nodes, port) = (nodes.to_string(), self.port.to_string());
        let cores = cpus(usize::from(NODES_MAX));
        let memory = "384MiB";
        self.cluster(&[
            "up", "-n", &nodes, "--port", &port, "--cores", &cores, "--memory", memory,
        ])
    }

    pub fn dir(&self) -> PathBuf {
        self.scratch.0.join("ring")
    }

    /// A verb of `armilla cluster`.
    pub fn cluster(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = armilla();
        command.args(["cluster", verb, "--dir"]).arg(self.dir());
        command.args(rest).output().unwrap()
    }

    pub fn done(&self, arguments: &[&str]) -> Output {
        let output = self.cluster(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
        output
    }

    pub fn address(&self, node: u8) -> String {
        format!("127.0.0.{node}:{}", self.port)
    }

    /// A verb against node `node`.
    pub fn at(&self, node: u8, arguments: &[&str]) -> Output {
        let server = self.address(node);
        armilla()
            .args(arguments)
            .args(["--server", &server])
            .output()
            .unwrap()
    }

    pub fn status(&self) -> Vec<serde_json::Value> {
        let status = self.cluster(&["status", "--output", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        report["nodes"].as_array().unwrap().clone()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        for node in 1..=NODES_MAX {
            self.cluster(&["kill", &node.to_string()]);
        }
    }
}

/// A base port that is free, with those around it, on every address that a node may have.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    let free = |port: u16| {
        let addresses = (1..=NODES_MAX).map(|node| Ipv4Addr::new(127, 0, 0, node));
        let mut ports = [port - 10, port, port + 1].into_iter();
        let free = |port| {
            addresses
                .clone()
                .all(|ip| TcpListener::bind((ip, port)).is_ok())
        };
        ports.all(free)
    };
    // Below those that the kernel gives to whoever asks for any.
    let candidates = (0..1000).map(|_| {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        15_000 + begin.wrapping_add(nth.wrapping_mul(23)) % 17_000
    });
    candidates
        .into_iter()
        .find(|port| free(*port))
        .expect("a free port")
}

#[test]
fn a_ring_of_one_goes_and_comes_back() {
    let _alone = alone();
    let ring = Ring::up("cluster-one", 1);
    assert_eq!(code(&ring.at(1, &["put", "city", "Riga"])), 0);
    let before = &ring.status()[0];
    assert_eq!(
        (&before["state"], &before["keys"]),
        (&"serving".into(), &1.into())
    );
    assert!(
        before["memory_bytes"].as_u64().unwrap() > 1 << 20,
        "{before}"
    );

    // What runs is left alone.
    ring.start(1);
    assert_eq!(ring.status()[0]["pid"], before["pid"]);
    let other = ring.cluster(&["up", "-n", "3"]);
    assert_eq!(code(&other), 2);
    assert!(
        text(&other.stderr).contains("pass -n 1, or another --dir"),
        "{}",
        text(&other.stderr)
    );

    ring.done(&["kill", "1"]);
    ring.done(&["kill", "1"]);
    let status = ring.cluster(&["status"]);
    assert_eq!(code(&status), 3);
    assert!(
        text(&status.stdout).contains("  down  "),
        "{}",
        text(&status.stdout)
    );
    ring.done(&["restart", "1"]);
    assert_eq!(text(&ring.at(1, &["get", "city"]).stdout), "Riga");
    ring.done(&["restart", "1"]);
    assert_eq!(text(&ring.at(1, &["get", "city"]).stdout), "Riga");
    assert_eq!(code(&ring.cluster(&["kill", "2"])), 2, "there is none");

    ring.done(&["down"]);
    ring.done(&["up"]);
    assert_eq!(text(&ring.at(1, &["get", "city"]).stdout), "Riga");
    std::fs::write(ring.dir().join("thesis.txt"), "mine").unwrap();
    ring.done(&["down", "--wipe"]);
    let left: Vec<_> = std::fs::read_dir(ring.dir())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["thesis.txt"], "only what is ours is deleted");
    for verb in ["status", "down"] {
        assert_eq!(code(&ring.cluster(&[verb])), 2, "there is no ring: {verb}");
    }
}

#[test]
fn who_holds_a_port_is_named_and_nothing_is_started() {
    let _alone = alone();
    let ring = Ring::new("cluster-port");
    let held = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), ring.port)).unwrap();
    let refused = ring.start(3);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    let me = format!(
        "127.0.0.2:{}: used by process {} (",
        ring.port,
        std::process::id()
    );
    assert!(
        said.contains(&me) && said.contains("another --port"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    drop(held);
    assert!(!ring.dir().join("node-1").exists());
}

#[test]
fn a_node_that_ends_says_why() {
    let _alone = alone();
    let ring = Ring::new("cluster-ends");
    let data = ring.dir().join("node-1/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("node.toml"), "nonsense").unwrap();
    let refused = ring.start(1);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{said}");
    assert!(
        said.contains("node 1 ended (exit status: 3); it said:"),
        "{said}"
    );
    assert!(
        said.contains("error: ") && said.contains("node-1/node.log"),
        "{said}"
    );
}

/// The process of a node is gone, and another one has its number.
#[test]
fn a_process_of_somebody_else_is_let_be() {
    let _alone = alone();
    let ring = Ring::up("cluster-foreign", 1);
    ring.done(&["kill", "1"]);
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let file = ring.dir().join("cluster.toml");
    let recorded = std::fs::read_to_string(&file).unwrap();
    let pid = stranger.id();
    std::fs::write(&file, format!("{recorded}pid = {pid}\nstarted = 1\n")).unwrap();
    assert_eq!(ring.status()[0]["state"], "down");
    for verb in [&["kill", "1"][..], &["down"]] {
        ring.done(verb);
        assert!(stranger.try_wait().unwrap().is_none(), "{verb:?} ended it");
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
