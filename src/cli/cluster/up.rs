//! `armilla cluster up`

use super::directory::{Cluster, Directory, Member};
use super::{Dir, Failure, failed, node, usage};
use crate::base::limits;
use crate::base::units::{HumanBytes, Size};
use crate::cli::Exit;
use crate::cli::node::{parse_timeout, print_all};
use crate::cli::start::{cpus, machine_memory, shard_memory_min};
use crate::runtime::preflight::{self, Address, Verdict, Wants};
use clap::Args;
use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  armilla cluster up                                three nodes, data in ./armilla-cluster
  armilla cluster up -n 5 --dir /data/try --port 17700
  armilla cluster up --memory 2GiB --cores 0-3      for all nodes together

Node N listens on 127.0.0.N. What runs is left alone and what is down is started, so it may be repeated at any time.
Exit codes: 0 all nodes serve, 2 wrong usage, 3 one does not.";

const NODES: usize = 3;
const PORT: u16 = 7700;
/// The admin port is below it.
const PORT_MIN: i64 = limits::ADMIN_PORT_BELOW as i64 + 1;
/// More would be a test of the machine.
const NODES_MAX: i64 = 64;
const LOOK: Duration = Duration::from_millis(50);
/// Between two lines that tell who is waited for.
const TELL: Duration = Duration::from_secs(5);

/// Start all nodes of a ring that do not run; return when they serve
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Up {
    /// How many nodes [default: 3, or as many as the directory was made for]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=NODES_MAX))]
    nodes: Option<u8>,
    #[command(flatten)]
    dir: Dir,
    /// Base port of every node [default: 7700, or the one the directory was made for]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(PORT_MIN..))]
    port: Option<u16>,
    /// Memory for all nodes together, in even parts [default: 25%, or as it was the last time]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// CPUs for the shards of all nodes, dealt to them in turn: 0,1 or 0-3 [default: all that this process may run on,
    /// or as it was the last time]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Wait so long for all nodes to serve (30s, 5m); they go on in any case
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_timeout)]
    timeout: Duration,
}

impl Up {
    pub fn run(&self) -> Result<Exit, Failure> {
        let directory = Directory::at(&self.dir.path)?.lock()?;
        let mut cluster = match directory.read()? {
            Some(cluster) => self.again(cluster)?,
            None => self.plan()?,
        };
        check_ports(&cluster)?;
        let numbers: Vec<usize> = (1..=cluster.nodes.len()).collect();
        let down = |number: &&usize| cluster.nodes[**number - 1].process().is_none();
        let down: Vec<usize> = numbers.iter().filter(down).copied().collect();
        start(&directory, &mut cluster, &down, &numbers, self.timeout)?;
        Ok(print_all(welcome(&cluster).as_bytes()))
    }

    /// A ring that is made now.
    fn plan(&self) -> Result<Cluster, Failure> {
        let nodes = self.nodes.map_or(NODES, usize::from);
        let cpus = cpus(self.cores.as_deref()).map_err(usage)?;
        let shards = (cpus.len() / nodes).max(1);
        let memory = self.memory.unwrap_or(Size::Percent(25));
        let memory_bytes = memory_of_each(memory, nodes, shards)?;
        let member = |cores| Member {
            cores,
            memory_bytes,
            pid: None,
            started: None,
        };
        Ok(Cluster {
            port: self.port.unwrap_or(PORT),
            nodes: deal(&cpus, nodes, shards).map(member).collect(),
        })
    }

    /// The ring that was made here before, with what may change.
    fn again(&self, mut cluster: Cluster) -> Result<Cluster, Failure> {
        let (nodes, port) = (cluster.nodes.len(), cluster.port);
        let shown = self.dir.path.display();
        let other = |what: &str| {
            usage(format!(
                "{shown} was made for {nodes} node(s) on port {port}: pass {what}, or another --dir, or delete this ring \
                 with all that it stored: armilla cluster down --wipe --dir {shown}"
            ))
        };
        if self.nodes.is_some_and(|n| usize::from(n) != nodes) {
            return Err(other(&format!("-n {nodes}")));
        }
        if self.port.is_some_and(|p| p != port) {
            return Err(other(&format!("--port {port}")));
        }
        let shards = cluster.nodes[0].cores.len();
        if let Some(list) = &self.cores {
            let cpus = cpus(Some(list)).map_err(usage)?;
            let dealt = deal(&cpus, nodes, shards);
            cluster
                .nodes
                .iter_mut()
                .zip(dealt)
                .for_each(|(node, cores)| node.cores = cores);
        }
        if let Some(memory) = self.memory {
            let memory_bytes = memory_of_each(memory, nodes, shards)?;
            cluster
                .nodes
                .iter_mut()
                .for_each(|node| node.memory_bytes = memory_bytes);
        }
        Ok(cluster)
    }
}

/// The CPUs of each node's shards, one after another and then from the first again.
fn deal(cpus: &[usize], nodes: usize, shards: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut circle = cpus.iter().copied().cycle();
    (0..nodes).map(move |_| circle.by_ref().take(shards).collect())
}

fn memory_of_each(memory: Size, nodes: usize, shards: usize) -> Result<u64, Failure> {
    let all = memory.of(machine_memory());
    let each = all / nodes as u64;
    let least = (shard_memory_min(limits::VALUE_BYTES_DEFAULT) * shards) as u64;
    match each >= least {
        true => Ok(each),
        false => Err(usage(format!(
            "--memory {}: {nodes} node(s) of {shards} shard(s) need at least {}; raise it, or pass fewer --cores",
            HumanBytes(all),
            HumanBytes(least * nodes as u64)
        ))),
    }
}

fn check_ports(cluster: &Cluster) -> Result<(), Failure> {
    let shards = cluster.nodes[0].cores.len();
    let last = usize::from(u16::MAX) - shards;
    match usize::from(cluster.port) <= last {
        true => Ok(()),
        false => Err(usage(format!(
            "--port {}: {shards} shard(s) take the ports above it; at most {last}",
            cluster.port
        ))),
    }
}

/// Starts the nodes of these numbers and waits until all of `awaited` serve, and have met the others if all run. What
/// has been started goes on whatever happens here.
pub(super) fn start(
    directory: &Directory,
    cluster: &mut Cluster,
    numbers: &[usize],
    awaited: &[usize],
    limit: Duration,
) -> Result<(), Failure> {
    preflight(directory, cluster, numbers)?;
    // Also without a process of its own: what was asked for is remembered.
    directory.write(cluster)?;
    let mut children = Vec::new();
    for &number in numbers {
        let (child, process) = node::start(directory, cluster, number)?;
        cluster.nodes[number - 1].set_process(Some(process));
        directory.write(cluster)?;
        children.push((number, child));
    }
    await_all(directory, cluster, &mut children, awaited, limit)
}

/// What would fail is told before anything is started: a node that is the only one up is of no use.
fn preflight(directory: &Directory, cluster: &Cluster, numbers: &[usize]) -> Result<(), Failure> {
    let mut failures: Vec<String> = Vec::new();
    for &number in numbers {
        let shards = cluster.nodes[number - 1].cores.len();
        let base = cluster.address(number);
        let at = |port: u16| SocketAddr::new(base.ip(), port);
        let mut ports = vec![base, at(base.port() - limits::ADMIN_PORT_BELOW)];
        ports.extend((1..=shards as u16).map(|shard| at(base.port() + shard)));
        let addresses: Vec<Address> = ports
            .into_iter()
            .map(|address| Address {
                flag: "port",
                address,
                exclusive: true,
            })
            .collect();
        let checks = preflight::check(&Wants {
            data: &directory.data(number),
            addresses: &addresses,
            shards,
            disk_bytes: None,
        });
        let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail);
        for check in failed {
            // One port is of all nodes.
            let line = check
                .to_string()
                .replace("--port ADDR:PORT", "another --port");
            if !failures.contains(&line) {
                failures.push(line);
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failed(failures.join("\narmilla: "))),
    }
}

fn await_all(
    directory: &Directory,
    cluster: &Cluster,
    children: &mut [(usize, Child)],
    awaited: &[usize],
    limit: Duration,
) -> Result<(), Failure> {
    let began = Instant::now();
    // Who is down cannot be met.
    let whole = cluster.nodes.iter().all(|node| node.process().is_some());
    let mut left: Vec<(usize, String)> = awaited.iter().map(|n| (*n, String::new())).collect();
    let mut told = began;
    loop {
        for (number, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(failed(format!(
                    "node {number} ended ({status}); it said:\n{}",
                    node::last_words(directory, *number)
                )));
            }
        }
        left.retain_mut(|(number, why)| {
            let address = cluster.address(*number);
            match node::ask(address) {
                Some(said) if said.serving && whole && !said.reaches_all() => {
                    *why = "it has not met all of the others yet".to_owned();
                    true
                }
                Some(said) if said.serving => {
                    let seconds = began.elapsed().as_secs_f64();
                    let pid = cluster.nodes[*number - 1].pid.unwrap_or(0);
                    eprintln!(
                        "node {number}  {address}  process {pid}  serves after {seconds:.1} s"
                    );
                    false
                }
                Some(said) => {
                    *why = said.message;
                    true
                }
                None => {
                    *why = "it does not answer yet".to_owned();
                    true
                }
            }
        });
        if left.is_empty() {
            return Ok(());
        }
        let who = || {
            let who = left
                .iter()
                .map(|(number, why)| format!("node {number}: {why}"));
            who.collect::<Vec<_>>().join("; ")
        };
        if began.elapsed() >= limit {
            return Err(failed(format!(
                "not all nodes serve after {} s ({}); they go on: see 'armilla cluster status' and the node.log of each in {}",
                began.elapsed().as_secs(),
                who(),
                directory.path.display()
            )));
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            eprintln!("waiting for {}", who());
        }
        std::thread::sleep(LOOK);
    }
}

fn welcome(cluster: &Cluster) -> String {
    format!(
        "{} node(s) serve. Any of them answers any key:\n  export ARMILLA_SERVER={}\n  armilla put city Riga -v\n  armilla get city\n",
        cluster.nodes.len(),
        cluster.addresses()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(cpus: &[usize], nodes: usize) -> Vec<Vec<usize>> {
        deal(cpus, nodes, (cpus.len() / nodes).max(1)).collect()
    }

    #[test]
    fn cpus_are_dealt_in_turn() {
        assert_eq!(dealt(&[0, 1], 3), [[0], [1], [0]]);
        assert_eq!(dealt(&[4], 2), [[4], [4]]);
        assert_eq!(
            dealt(&[0, 1, 2, 3, 4, 5, 6, 7], 3),
            [[0, 1], [2, 3], [4, 5]]
        );
        assert_eq!(dealt(&[0, 1, 2, 3], 1), [[0, 1, 2, 3]]);
    }

    #[test]
    fn each_node_has_its_part_of_the_memory() {
        assert_eq!(
            memory_of_each(Size::Bytes(96 << 20), 3, 2).ok(),
            Some(32 << 20)
        );
        let (exit, why) = memory_of_each(Size::Bytes(95 << 20), 3, 2).unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(why.contains("need at least 96 MiB"), "{why}");
    }
}
