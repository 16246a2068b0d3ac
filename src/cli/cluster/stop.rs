//! `armilla cluster kill`, `restart` and `down`

use super::directory::{Cluster, Directory};
use super::up;
use super::{Dir, Failure, failed};
use crate::cli::Exit;
use crate::cli::node::parse_timeout;
use crate::runtime::process::{Handle, Identity, Signal};
use clap::Args;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a killed process may take to be gone: it ends between two instructions, but the kernel may be busy for it.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
/// How long its sockets are waited for after that.
const RELEASED_WITHIN: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Kill a node with SIGKILL: nothing is flushed, nothing is said
#[derive(Args)]
pub(super) struct Kill {
    /// Which, counted from 1
    #[arg(value_name = "N")]
    node: usize,
    #[command(flatten)]
    dir: Dir,
}

/// Stop a node in order if it runs, and start it; return when it serves
#[derive(Args)]
pub(super) struct Restart {
    /// Which, counted from 1
    #[arg(value_name = "N")]
    node: usize,
    #[command(flatten)]
    dir: Dir,
    /// Wait so long for its end, and as long for it to serve (30s, 5m)
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_timeout)]
    timeout: Duration,
}

/// Stop all nodes in order
#[derive(Args)]
pub(super) struct Down {
    #[command(flatten)]
    dir: Dir,
    /// Delete the ring with all that it stored
    #[arg(long)]
    wipe: bool,
    /// Wait so long for their end (30s, 5m)
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_timeout)]
    timeout: Duration,
}

impl Kill {
    pub fn run(&self) -> Result<Exit, Failure> {
        let (directory, mut cluster) = self.dir.lock()?;
        cluster.check(self.node)?;
        let Some((process, handle)) = signal(&cluster, self.node, Signal::Kill)? else {
            eprintln!("node {} does not run", self.node);
            return Ok(Exit::Done);
        };
        if !ended(&handle, self.node, KILLED_WITHIN)? {
            return Err(failed(format!(
                "node {} (process {}) was killed and is not gone yet; look at it: ps -o stat,wchan -p {}",
                self.node, process.pid, process.pid
            )));
        }
        forget(&directory, &mut cluster, self.node)?;
        until_refused(cluster.address(self.node));
        eprintln!("node {}  killed, process {}", self.node, process.pid);
        Ok(Exit::Done)
    }
}

impl Restart {
    pub fn run(&self) -> Result<Exit, Failure> {
        let (directory, mut cluster) = self.dir.lock()?;
        cluster.check(self.node)?;
        if let Some((process, handle)) = signal(&cluster, self.node, Signal::Terminate)? {
            if !ended(&handle, self.node, self.timeout)? {
                return Err(failed(still_runs(self.node, process, self.timeout)));
            }
            forget(&directory, &mut cluster, self.node)?;
        }
        let runs =
            |number: &usize| *number == self.node || cluster.nodes[*number - 1].process().is_some();
        // The others too: they are to meet it again.
        let awaited: Vec<usize> = (1..=cluster.nodes.len()).filter(runs).collect();
        up::start(
            &directory,
            &mut cluster,
            &[self.node],
            &awaited,
            self.timeout,
        )?;
        Ok(Exit::Done)
    }
}

impl Down {
    pub fn run(&self) -> Result<Exit, Failure> {
        let (directory, mut cluster) = self.dir.lock()?;
        let mut stopping = Vec::new();
        for number in 1..=cluster.nodes.len() {
            if let Some((process, handle)) = signal(&cluster, number, Signal::Terminate)? {
                stopping.push((number, process, handle));
            }
        }
        let deadline = Instant::now() + self.timeout;
        let mut left = Vec::new();
        for (number, process, handle) in stopping {
            let limit = deadline.saturating_duration_since(Instant::now());
            if ended(&handle, number, limit)? {
                forget(&directory, &mut cluster, number)?;
                eprintln!("node {number}  stopped, process {}", process.pid);
            } else {
                left.push(still_runs(number, process, self.timeout));
            }
        }
        if !left.is_empty() {
            return Err(failed(left.join("\narmilla: ")));
        }
        if self.wipe {
            let shown = self.dir.path.display();
            let wiped = directory.wipe(cluster.nodes.len());
            wiped.map_err(|error| failed(format!("cannot delete {shown}: {error}")))?;
            eprintln!("deleted {shown}");
        }
        Ok(Exit::Done)
    }
}

/// A process is gone a moment before the kernel closes the sockets of its ring. Who asks the others after this meets
/// nodes that can know of it.
fn until_refused(address: SocketAddr) {
    let deadline = Instant::now() + RELEASED_WITHIN;
    while Instant::now() < deadline && TcpStream::connect_timeout(&address, LOOK).is_ok() {
        std::thread::sleep(LOOK);
    }
}

/// `None`: it does not run.
fn signal(
    cluster: &Cluster,
    number: usize,
    signal: Signal,
) -> Result<Option<(Identity, Handle)>, Failure> {
    let Some(process) = cluster.nodes[number - 1].process() else {
        return Ok(None);
    };
    let cannot = |error: io::Error| {
        let pid = process.pid;
        failed(format!(
            "cannot signal node {number} (process {pid}): {error}"
        ))
    };
    let Some(handle) = process.open().map_err(cannot)? else {
        return Ok(None);
    };
    handle.send(signal).map_err(cannot)?;
    Ok(Some((process, handle)))
}

fn ended(handle: &Handle, number: usize, limit: Duration) -> Result<bool, Failure> {
    let ended = handle.wait(limit);
    ended.map_err(|error| failed(format!("cannot wait for the end of node {number}: {error}")))
}

fn still_runs(number: usize, process: Identity, limit: Duration) -> String {
    format!(
        "node {number} (process {}) did not stop within {} s; wait for it, or run: armilla cluster kill {number}",
        process.pid,
        limit.as_secs()
    )
}

fn forget(directory: &Directory, cluster: &mut Cluster, number: usize) -> Result<(), Failure> {
    cluster.nodes[number - 1].set_process(None);
    directory.write(cluster)
}
