//! What is remembered of a ring between two verbs: `cluster.toml` in its directory.

use super::{Failure, failed};
use crate::runtime::process::Identity;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const FILE: &str = "cluster.toml";
const LOCK: &str = "cluster.lock";
const HEAD: &str =
    "# Made by 'armilla cluster up', which reads it again: do not edit it while nodes run.\n\n";

/// The nodes of a ring, all on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// The base port of every node, each on an address of its own.
    pub port: u16,
    #[serde(rename = "node")]
    pub nodes: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// The CPUs of its shards. How many they are never changes.
    pub cores: Vec<usize>,
    pub memory_bytes: u64,
    /// The process that was started last, and when the kernel says that this was: a number alone may be of another
    /// process by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
}

/// Where a ring lies.
pub(super) struct Directory {
    pub path: PathBuf,
    /// Whoever holds it may change something.
    lock: Option<File>,
}

impl Member {
    /// Its process, if that runs.
    pub fn process(&self) -> Option<Identity> {
        let (pid, started) = (self.pid?, self.started?);
        let process = Identity { pid, started };
        process.runs().then_some(process)
    }

    pub fn set_process(&mut self, process: Option<Identity>) {
        self.pid = process.map(|process| process.pid);
        self.started = process.map(|process| process.started);
    }
}

impl Cluster {
    /// Of node `number`, counted from 1: each has an address of the loopback.
    pub fn address(&self, number: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, number as u8), self.port))
    }

    /// What clients and nodes are given: all of them, with commas between.
    pub fn addresses(&self) -> String {
        let addresses = (1..=self.nodes.len()).map(|number| self.address(number).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }
}

impl Directory {
    pub fn at(path: &Path) -> Result<Directory, Failure> {
        let path = std::path::absolute(path)
            .map_err(|error| failed(format!("--dir {}: {error}", path.display())))?;
        Ok(Directory { path, lock: None })
    }

    pub fn has_cluster(&self) -> bool {
        self.path.join(FILE).exists()
    }

    pub fn node(&self, number: usize) -> PathBuf {
        self.path.join(format!("node-{number}"))
    }

    pub fn data(&self, number: usize) -> PathBuf {
        self.node(number).join("data")
    }

    pub fn log(&self, number: usize) -> PathBuf {
        self.node(number).join("node.log")
    }

    /// Makes the directory too. Refused while another verb changes something here.
    pub fn lock(mut self) -> Result<Directory, Failure> {
        let shown = self.path.display();
        fs::create_dir_all(&self.path)
            .map_err(|error| failed(format!("cannot make {shown}: {error}; pass another --dir")))?;
        let file = File::create(self.path.join(LOCK))
            .map_err(|error| failed(format!("cannot write in {shown}: {error}")))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => failed(format!(
                "another 'armilla cluster' works in {shown}; wait until it is done"
            )),
            TryLockError::Error(error) => failed(format!("cannot lock {shown}/{LOCK}: {error}")),
        })?;
        self.lock = Some(file);
        Ok(self)
    }

    /// `None`: no ring was made here yet.
    pub fn read(&self) -> Result<Option<Cluster>, Failure> {
        let path = self.path.join(FILE);
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(format!("cannot read {shown}: {error}"))),
        };
        let cluster: Cluster = toml::from_str(&text)
            .map_err(|error| failed(format!("{shown} is damaged: {}", error.message())))?;
        match cluster.nodes.is_empty() {
            true => Err(failed(format!("{shown} is damaged: it names no node"))),
            false => Ok(Some(cluster)),
        }
    }

    /// All of it or nothing.
    pub fn write(&self, cluster: &Cluster) -> Result<(), Failure> {
        assert!(self.lock.is_some(), "only the holder of the lock writes");
        let text = toml::to_string(cluster).expect("numbers and lists are TOML");
        let (path, new) = (self.path.join(FILE), self.path.join("cluster.toml.new"));
        fs::write(&new, HEAD.to_owned() + &text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| failed(format!("cannot write {}: {error}", path.display())))
    }

    /// Deletes what `up` and the nodes made, and nothing else that somebody put here.
    pub fn wipe(self, nodes: usize) -> io::Result<()> {
        for number in 1..=nodes {
            match fs::remove_dir_all(self.node(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::remove_file(self.path.join(FILE))?;
        fs::remove_file(self.path.join(LOCK))?;
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let running = Member {
            cores: vec![0, 1],
            memory_bytes: 64 << 20,
            pid: Some(42),
            started: Some(4711),
        };
        let stopped = Member {
            pid: None,
            started: None,
            ..running.clone()
        };
        let cluster = Cluster {
            port: 7700,
            nodes: vec![running, stopped],
        };
        let text = HEAD.to_owned() + &toml::to_string(&cluster).unwrap();
        assert_eq!(toml::from_str::<Cluster>(&text).unwrap(), cluster, "{text}");
        assert_eq!(cluster.addresses(), "127.0.0.1:7700,127.0.0.2:7700");
        assert_eq!(cluster.nodes[0].process(), None, "no such process");
        assert!(toml::from_str::<Cluster>("port = 1\nnode = []\nmore = 1").is_err());
    }
}
