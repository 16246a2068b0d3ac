//! `armilla start`: checks the machine, starts the shard, tells what happens on stderr.

use super::Exit;
use super::shards;
use crate::base::limits;
use crate::base::units::{HumanBytes, Size};
use crate::engine::Recovery;
use crate::node::Announce;
use crate::node::config::{Options, admin_address};
use crate::runtime::preflight;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A full shard of connections, and as many again for segments and the rest.
const OPEN_FILES_WANTED: u64 = 2 * limits::CONNECTIONS_MAX as u64;

/// Start a node. Needs no arguments: it serves on the loopback and keeps its data in ./armilla-data.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  armilla start
  armilla start --data /var/lib/armilla --memory 4GiB --cores 0,1
  armilla start --listen 10.0.0.5:7700 --insecure

A shard runs on each core; how many there are is fixed when the data directory is made. Any of them answers any key.
Ports: P (--listen) for every client, P+1+i for shard i, P-10 for /livez, /readyz and /status.
Stop it with Ctrl-C or SIGTERM; a second one ends it at once. Both are safe: what was acked is on the disk.")]
pub struct Start {
    /// Address and base port that clients connect to
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:7700",
        env = "ARMILLA_LISTEN"
    )]
    pub listen: SocketAddr,
    /// Directory of the data; made if it is not there
    #[arg(
        long,
        value_name = "DIR",
        default_value = "armilla-data",
        env = "ARMILLA_DATA"
    )]
    pub data: PathBuf,
    /// CPUs, one for each shard, as the kernel counts them: 0,1 or 0-3; one named twice runs two [default: all that
    /// this process may run on, as far as the memory goes: 16MiB a shard]
    #[arg(long, value_name = "LIST", env = "ARMILLA_CORES")]
    pub cores: Option<String>,
    /// Memory for keys and cached values: 4GiB, 512MiB, 25%
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "25%",
        env = "ARMILLA_MEMORY"
    )]
    pub memory: Size,
    /// Largest value: at most 16MiB
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1MiB",
        env = "ARMILLA_VALUE_LIMIT"
    )]
    pub value_limit: Size,
    /// Disk space that the data directory may take [default: what is there and what is free now]
    #[arg(long, value_name = "SIZE", env = "ARMILLA_DISK")]
    pub disk: Option<Size>,
    /// Address of /livez, /readyz, /status [default: the listen address, ten ports below]
    #[arg(long, value_name = "ADDR:PORT", env = "ARMILLA_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Serve on an address that others can reach, without encryption or passwords
    #[arg(long, env = "ARMILLA_INSECURE")]
    pub insecure: bool,
}

impl Start {
    pub fn run(&self) -> Exit {
        match serve(self) {
            Ok(()) => Exit::Done,
            Err((exit, message)) => {
                eprintln!("armilla: {message}");
                exit
            }
        }
    }
}

fn serve(start: &Start) -> Result<(), (Exit, String)> {
    let usage = |message: String| (Exit::Usage, message);
    let failed = |message: String| (Exit::Failed, message);
    let options = options(start).map_err(usage)?;
    let mut cpus = cpus(start.cores.as_deref()).map_err(usage)?;
    if start.cores.is_none() {
        // A start without arguments serves on the smallest machine too.
        cpus.truncate((options.memory_bytes / limits::MEMORY_BYTES_MIN).max(1));
    }
    check_memory(options.memory_bytes, cpus.len()).map_err(usage)?;
    let missing = preflight::check();
    if !missing.is_empty() {
        let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
        return Err(failed(lines.join("\narmilla: ")));
    }
    let open_files = preflight::raise_open_files();
    if open_files < OPEN_FILES_WANTED {
        eprintln!(
            "note: this process may open {open_files} files; for the most connections a shard takes it wants {} (ulimit -Hn)",
            OPEN_FILES_WANTED
        );
    }
    let announcer = Announcer::new(cpus.clone(), &options);
    shards::run_all(&cpus, options, move |shard, what| {
        announcer.say(shard, what)
    })
    .map_err(failed)?;
    eprintln!("stopped; every acked write is on the disk");
    Ok(())
}

fn options(start: &Start) -> Result<Options, String> {
    let exposed = [Some(start.listen), start.admin].into_iter().flatten();
    let open = exposed.into_iter().find(|a| !a.ip().is_loopback());
    if let Some(address) = open.filter(|_| !start.insecure) {
        return Err(format!(
            "refusing to serve on {address}: anybody who reaches it could read and write everything (there is no \
                 encryption and no password yet); keep to 127.0.0.1, or pass --insecure on a network you trust"
        ));
    }
    if start.listen.port() != 0 && start.listen.port() <= limits::ADMIN_PORT_BELOW {
        return Err(format!(
            "--listen {}: the port must be above 10",
            start.listen
        ));
    }
    let value_bytes_max = match start.value_limit {
        Size::Bytes(bytes) if (1..=limits::VALUE_BYTES_MAX as u64).contains(&bytes) => {
            bytes as usize
        }
        _ => return Err("--value-limit: from 1 byte to 16MiB, for example 4MiB".into()),
    };
    let memory = machine_memory();
    let memory_bytes = start.memory.of(memory);
    let disk_bytes = match start.disk {
        None => None,
        Some(Size::Bytes(bytes)) => Some(bytes),
        Some(Size::Percent(_)) => {
            return Err(
                "--disk: a size in bytes, for example 100GiB; a percentage has no meaning here"
                    .into(),
            );
        }
    };
    Ok(Options {
        listen: start.listen,
        admin: Some(start.admin.unwrap_or_else(|| admin_address(start.listen))),
        data: absolute(&start.data),
        memory_bytes: memory_bytes as usize,
        value_bytes_max,
        disk_bytes,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Bytes this process may use: the machine's, or its cgroup's if that is less.
fn machine_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
    let machine = kib.map_or(u64::MAX, |kib| kib * 1024);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    limit.trim().parse::<u64>().unwrap_or(u64::MAX).min(machine)
}

fn check_memory(memory_bytes: usize, shards: usize) -> Result<(), String> {
    let least = limits::MEMORY_BYTES_MIN * shards;
    if memory_bytes >= least {
        return Ok(());
    }
    Err(format!(
        "--memory {}: {shards} shard(s) need at least {}; raise it, or pass fewer --cores",
        HumanBytes(memory_bytes as u64),
        HumanBytes(least as u64)
    ))
}

/// The CPUs of the shards, in their order.
fn cpus(cores: Option<&str>) -> Result<Vec<usize>, String> {
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|c| c.id)
        .collect();
    let chosen = match cores {
        None => allowed.clone(),
        Some(list) => parse_cpus(list)
            .ok_or_else(|| format!("--cores {list}: a list of CPUs, for example 0,1 or 0-3"))?,
    };
    if let Some(cpu) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
        let list: Vec<String> = allowed.iter().map(usize::to_string).collect();
        return Err(format!(
            "--cores: this process may not run on CPU {cpu}; it may on {}",
            list.join(",")
        ));
    }
    match chosen.len() {
        0 => Err("this process may run on no CPU".into()),
        1..=limits::SHARDS_MAX => Ok(chosen),
        many => Err(format!(
            "--cores: {many} shards; a node has at most {}",
            limits::SHARDS_MAX
        )),
    }
}

/// `0,2-3` and the like; `None` if it is no list.
fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last - first > limits::SHARDS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Says on stderr what the shards announce, each from its own thread.
struct Announcer {
    cpus: Vec<usize>,
    data: String,
    memory_bytes: usize,
    started: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    replay_shown: Option<Instant>,
    ready: usize,
    records: u64,
    stopping: bool,
}

impl Announcer {
    fn new(cpus: Vec<usize>, options: &Options) -> Announcer {
        Announcer {
            cpus,
            data: options.data.display().to_string(),
            memory_bytes: options.memory_bytes,
            started: Instant::now(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, shard: u16, what: Announce<'_>) {
        match what {
            Announce::Listening(ports) => {
                eprintln!("armilla {} ({})", env!("CARGO_PKG_VERSION"), super::COMMIT);
                eprintln!("  clients  {}", ports.base);
                for (shard, (address, cpu)) in ports.shards.iter().zip(&self.cpus).enumerate() {
                    eprintln!("  shard {shard}  {address} on CPU {cpu}");
                }
                if let Some(admin) = ports.admin {
                    eprintln!("  admin    http://{admin}/readyz");
                }
                eprintln!("  data     {}", self.data);
                eprintln!("  memory   {}", HumanBytes(self.memory_bytes as u64));
                if !ports.base.ip().is_loopback() {
                    eprintln!("  WARNING  open to the network, without encryption or passwords");
                }
            }
            Announce::Replaying(done, all) => self.replaying(shard, done, all),
            Announce::Ready { recovery, .. } => self.ready(shard, recovery),
            Announce::Stopping => {
                if !std::mem::replace(&mut self.seen().stopping, true) {
                    eprintln!("stopping: finishing what is under way");
                }
            }
            Announce::Poisoned(poisoned) => {
                eprintln!(
                    "POISONED: {poisoned}; shard {shard} answers 'unsure' until this node is restarted and has \
                     replayed its log"
                );
            }
        }
    }

    fn ready(&self, shard: u16, recovery: &Recovery) {
        if recovery.cut_groups > 0 {
            eprintln!(
                "shard {shard}: cut {} torn group(s) that were never acked",
                recovery.cut_groups
            );
        }
        if recovery.damaged_groups > 0 {
            eprintln!(
                "DAMAGED: {} group(s) of the log of shard {shard} fail their checksum; keys that may have been in them \
                 answer 'unsure'",
                recovery.damaged_groups
            );
        }
        let mut seen = self.seen();
        seen.ready += 1;
        seen.records += recovery.records;
        if seen.ready == self.cpus.len() {
            eprintln!(
                "ready after {} ms: {} record(s) replayed; try 'armilla put greeting hello'",
                self.started.elapsed().as_millis(),
                seen.records
            );
        }
    }

    /// At most one line a second.
    fn replaying(&self, shard: u16, done: u64, all: u64) {
        let mut seen = self.seen();
        let last = seen.replay_shown.unwrap_or(self.started);
        if last.elapsed() >= Duration::from_secs(1) && all > 0 {
            seen.replay_shown = Some(Instant::now());
            let (done, all) = (HumanBytes(done), HumanBytes(all));
            eprintln!("replaying {done} of {all} of shard {shard}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_lists_and_ranges() {
        assert_eq!(parse_cpus("0"), Some(vec![0]));
        assert_eq!(parse_cpus("3,0-2, 0"), Some(vec![3, 0, 1, 2, 0]));
        for bad in ["", "0,", "x", "2-1", "0-99999", "-1"] {
            assert_eq!(parse_cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_shard_wants_its_memory() {
        assert!(check_memory(2 * limits::MEMORY_BYTES_MIN, 2).is_ok());
        let why = check_memory(limits::MEMORY_BYTES_MIN, 2).unwrap_err();
        assert!(why.contains("2 shard(s) need at least 32"), "{why}");
    }
}
