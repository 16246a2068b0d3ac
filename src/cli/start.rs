//! `armilla start`: checks the machine, starts the shards, hands what happens to the log.

use super::{Exit, join_token, layers, shards};
use crate::base::limits;
use crate::base::units::{HumanBytes, MIB, Size};
use crate::engine::Recovery;
use crate::node::config::{Options, admin_address};
use crate::node::{Announce, events};
use crate::runtime::log::{self, Event, Level};
use crate::runtime::preflight::{self, Address, Check, Verdict, Wants};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections of each shard that leave descriptors to the admin port, to segments and tables: where there are few,
/// half of them.
fn connections_max(open_files: u64, shards: usize) -> usize {
    let open_files = open_files / shards as u64;
    let left = open_files.saturating_sub(limits::DESCRIPTORS_RESERVED);
    left.max(open_files / 2).min(limits::CONNECTIONS_MAX as u64) as usize
}

/// Start a node. Needs no arguments: it serves on the loopback and keeps its data in ./armilla-data.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  armilla start
  armilla start --data /var/lib/armilla --memory 4GiB --cores 0,1
  armilla start --listen 10.0.0.5:7700 --insecure
  armilla start --listen 127.0.0.2:7700 --join 127.0.0.1:7700,127.0.0.2:7700,127.0.0.3:7700
  armilla start --listen 10.0.0.6:7700 --insecure --join 10.0.0.5:7700 --join-token-file token
  armilla start --config /etc/armilla.toml --log debug

A shard runs on each core; how many there are is fixed when the data directory is made. Any of them answers any key.
Ports: P (--listen) for every client, P+1+i for shard i, P-10 for /livez, /readyz and /status.
Stop it with Ctrl-C or SIGTERM; a second one ends it at once. Both are safe: what was acked is on the disk.")]
pub struct Start {
    /// File with settings; flags and the environment count more
    #[arg(long, value_name = "FILE", env = "ARMILLA_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and base port that clients connect to
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:7700",
        env = "ARMILLA_LISTEN"
    )]
    pub listen: SocketAddr,
    /// Nodes of a new ring, all of them, this one too: the addresses that they listen on. They find each other at their
    /// first start; later starts know the ring
    #[arg(
        long,
        value_name = "ADDR:PORT,..",
        value_delimiter = ',',
        env = "ARMILLA_JOIN"
    )]
    pub join: Vec<SocketAddr>,
    /// What a node must know to join: 16 characters or more, the same on all nodes of a new ring; for a ring that is
    /// there what 'armilla join-token' prints. Other users of the machine see arguments: prefer --join-token-file
    /// [default: none, which is enough among 127.0.0.0/8]
    #[arg(
        long,
        value_name = "TOKEN",
        env = "ARMILLA_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub join_token: Option<String>,
    /// File that holds the join token [default: none]
    #[arg(long, value_name = "FILE", env = "ARMILLA_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Address and base port that other nodes connect to [default: the listen address]
    #[arg(long, value_name = "ADDR:PORT", env = "ARMILLA_ADVERTISE")]
    pub advertise: Option<SocketAddr>,
    /// Directory of the data; made if it is not there
    #[arg(
        long,
        value_name = "DIR",
        default_value = "armilla-data",
        env = "ARMILLA_DATA"
    )]
    pub data: PathBuf,
    /// CPUs, one for each shard, as the kernel counts them: 0,1 or 0-3; one named twice runs two [default: all that
    /// this process may run on, as far as the memory goes: 16MiB a shard, or four of the largest values]
    #[arg(long, value_name = "LIST", env = "ARMILLA_CORES")]
    pub cores: Option<String>,
    /// Memory for keys, cached values and buffers of connections: 4GiB, 512MiB, 25%
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
    /// MiB a second that are read in the background, once a day, to find what has rotted on the disk; 0: only when
    /// 'armilla scrub' asks for it
    #[arg(
        long,
        value_name = "N",
        default_value_t = limits::SCRUB_MIB_PER_SECOND_DEFAULT,
        value_parser = clap::value_parser!(u64).range(..=limits::SCRUB_MIB_PER_SECOND_MAX),
        env = "ARMILLA_SCRUB_MIB_PER_SECOND"
    )]
    pub scrub_mib_per_second: u64,
    /// Address of /livez, /readyz, /status [default: the listen address, ten ports below]
    #[arg(long, value_name = "ADDR:PORT", env = "ARMILLA_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// Serve on an address that others can reach, without encryption or passwords
    #[arg(
        long,
        env = "ARMILLA_INSECURE",
        value_name = "BOOL",
        value_parser = clap::builder::BoolishValueParser::new(),
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub insecure: bool,
    /// Which events are told on standard error: those of this level and worse (error, warn, info, debug)
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        env = "ARMILLA_LOG"
    )]
    pub log: Level,
    /// How they are told: sentences for people, JSON objects for programs, or sentences on a terminal only
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t = LogFormat::Auto,
        env = "ARMILLA_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

impl LogFormat {
    fn format(self) -> log::Format {
        match self {
            LogFormat::Human => log::Format::Human,
            LogFormat::Json => log::Format::Json,
            LogFormat::Auto if std::io::stderr().is_terminal() => log::Format::Human,
            LogFormat::Auto => log::Format::Json,
        }
    }
}

impl Start {
    pub fn run(&self) -> Exit {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(message) => {
                eprintln!("armilla: {message}");
                return Exit::Usage;
            }
        };
        if let Err(error) = log::start(self.log, self.log_format.format()) {
            eprintln!("armilla: cannot start the log thread: {error}");
            return Exit::Failed;
        }
        let exit = match serve(plan) {
            Ok(()) => {
                log::emit(stopped());
                Exit::Done
            }
            Err(messages) => {
                messages.into_iter().map(failed).for_each(log::emit);
                Exit::Failed
            }
        };
        log::finish();
        exit
    }

    /// Refuses settings that make no sense, on this machine or at all.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        let options = options(self)?;
        let mut cpus = cpus(self.cores.as_deref())?;
        if self.cores.is_none() {
            // A start without arguments serves on the smallest machine too.
            let fit = options.memory_bytes / shard_memory_min(options.value_bytes_max);
            cpus.truncate(fit.max(1));
        }
        check_memory(options.memory_bytes, options.value_bytes_max, cpus.len())?;
        check_ports(options.listen, cpus.len())?;
        Ok(Plan { options, cpus })
    }

    /// A setting as people want to read it, where its text alone says less.
    pub(super) fn with_unit(&self, id: &str) -> Option<String> {
        match id {
            "memory" => {
                let machine = machine_memory();
                Some(match self.memory {
                    Size::Percent(_) => format!(
                        "{} ({} of {})",
                        self.memory,
                        HumanBytes(self.memory.of(machine)),
                        HumanBytes(machine)
                    ),
                    Size::Bytes(_) => sized(self.memory),
                })
            }
            "value_limit" => Some(sized(self.value_limit)),
            "disk" => self.disk.map(sized),
            "join_token" => self.join_token.as_ref().map(|_| "(not shown)".to_owned()),
            "admin" => {
                let admin = self.admin.unwrap_or_else(|| admin_address(self.listen));
                Some(admin.to_string())
            }
            _ => None,
        }
    }
}

/// Exact, and never a bare number.
fn sized(size: Size) -> String {
    let text = size.to_string();
    match text.ends_with(|c: char| c.is_ascii_digit()) {
        true => text + "B",
        false => text,
    }
}

fn stopped() -> Event {
    let message = "stopped; every acked write is on the disk";
    Event::new(Level::Info, "stopped", message)
}

fn failed(message: String) -> Event {
    Event::new(Level::Error, "failed", message)
}

/// What a start comes down to once its settings are resolved.
pub(super) struct Plan {
    options: Options,
    /// One for each shard, in their order.
    cpus: Vec<usize>,
}

impl Plan {
    pub(super) fn preflight(&self) -> Vec<Check> {
        let shards = self.cpus.len();
        let options = &self.options;
        let address = |flag, address, exclusive| Address {
            flag,
            address,
            exclusive,
        };
        let shard_addresses = (0..shards as u16).map(|shard| options.shard_address(shard));
        let mut addresses = vec![address("listen", options.listen, false)];
        addresses.extend(shard_addresses.map(|shard| address("listen", shard, true)));
        addresses.extend(options.admin.map(|admin| address("admin", admin, true)));
        preflight::check(&Wants {
            data: &options.data,
            addresses: &addresses,
            shards,
            disk_bytes: options.disk_bytes,
        })
    }
}

/// The error is a line for each reason.
fn serve(plan: Plan) -> Result<(), Vec<String>> {
    for message in layers::misspelt_variables(std::env::vars_os().map(|(name, _)| name)) {
        log::emit(Event::new(Level::Warn, "environment", message));
    }
    preflight(&plan.preflight())?;
    let Plan { mut options, cpus } = plan;
    options.connections_max = connections_max(preflight::raise_open_files(), cpus.len());
    log::emit(starting(&options, &cpus));
    let open = |address: SocketAddr| !address.ip().is_loopback();
    if open(options.listen) || options.admin.is_some_and(open) {
        let message = "open to the network, without encryption or passwords (--insecure)";
        log::emit(Event::new(Level::Warn, "insecure", message));
    }
    let teller = Teller::new(cpus.len());
    shards::run_all(&cpus, options, move |shard, what| teller.tell(shard, what))
        .map_err(|message| vec![message])
}

/// Tells what is worth a warning; what fails is the error.
fn preflight(checks: &[Check]) -> Result<(), Vec<String>> {
    let of = |verdict| checks.iter().filter(move |check| check.verdict == verdict);
    for check in of(Verdict::Warn) {
        let event = Event::new(Level::Warn, "preflight", check.to_string());
        log::emit(event.with("check", check.name.to_owned()));
    }
    let failures: Vec<String> = of(Verdict::Fail).map(Check::to_string).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures),
    }
}

fn starting(options: &Options, cpus: &[usize]) -> Event {
    let shards = cpus.len();
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let cpus = cpus.join(",");
    let (version, commit) = (env!("CARGO_PKG_VERSION"), super::COMMIT);
    let (data, memory) = (options.data.display(), options.memory_bytes as u64);
    let message = format!(
        "armilla {version} ({commit}) starts {shards} shard(s) on CPU {cpus}: data in {data}, {} of memory",
        HumanBytes(memory)
    );
    Event::new(Level::Info, "starting", message)
        .with("version", version.to_owned())
        .with("commit", commit.to_owned())
        .with("cpus", cpus)
        .with("shards", shards as u64)
        .with("data", data.to_string())
        .with("memory_bytes", memory)
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
        advertise: start.advertise,
        join: start.join.clone(),
        join_token: join_token::given(
            start.join_token.as_deref(),
            start.join_token_file.as_deref(),
        )?,
        data: absolute(&start.data),
        memory_bytes: memory_bytes as usize,
        sizes: Default::default(),
        value_bytes_max,
        connections_max: limits::CONNECTIONS_MAX,
        disk_bytes,
        scrub_bytes_per_second: start.scrub_mib_per_second * MIB as u64,
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Bytes this process may use: the machine's, or its cgroup's if that is less.
pub(super) fn machine_memory() -> u64 {
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

/// Two of the longest requests at once, and as much again for what is stored.
pub(super) fn shard_memory_min(value_bytes_max: usize) -> usize {
    limits::MEMORY_BYTES_MIN.max(4 * value_bytes_max)
}

fn check_memory(memory_bytes: usize, value_bytes_max: usize, shards: usize) -> Result<(), String> {
    let least = shard_memory_min(value_bytes_max) * shards;
    if memory_bytes >= least {
        return Ok(());
    }
    Err(format!(
        "--memory {}: {shards} shard(s) need at least {} with values of up to {}; raise it, or pass fewer --cores",
        HumanBytes(memory_bytes as u64),
        HumanBytes(least as u64),
        HumanBytes(value_bytes_max as u64)
    ))
}

/// Each shard has a port of its own above the base port.
fn check_ports(listen: SocketAddr, shards: usize) -> Result<(), String> {
    let last = usize::from(u16::MAX) - shards;
    match usize::from(listen.port()) <= last {
        true => Ok(()),
        false => Err(format!(
            "--listen {listen}: {shards} shard(s) take the ports above it; at most {last}"
        )),
    }
}

/// The CPUs of the shards, in their order.
pub(super) fn cpus(cores: Option<&str>) -> Result<Vec<usize>, String> {
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

/// Turns what the shards announce, each from its own thread, into events of one node.
struct Teller {
    shards: usize,
    started: Instant,
    seen: Mutex<Seen>,
}

struct Seen {
    progress: Instant,
    ready: usize,
    recovered: Recovery,
    stopping: bool,
}

impl Teller {
    fn new(shards: usize) -> Teller {
        let now = Instant::now();
        Teller {
            shards,
            started: now,
            seen: Mutex::new(Seen {
                progress: now,
                ready: 0,
                recovered: Recovery::default(),
                stopping: false,
            }),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, shard: u16, what: Announce<'_>) {
        match what {
            Announce::Listening(ports) => log::emit(events::listening(ports)),
            Announce::Forming(missing) => log::emit(events::forming(missing)),
            Announce::Replaying(done, all) => {
                // At most one line a second, whichever shard it is of.
                let mut seen = self.seen();
                if all > 0 && seen.progress.elapsed() >= Duration::from_secs(1) {
                    seen.progress = Instant::now();
                    log::emit(events::replaying(shard, done, all));
                }
            }
            Announce::Ready { recovery, .. } => self.ready(shard, recovery),
            Announce::Stopping => {
                if !std::mem::replace(&mut self.seen().stopping, true) {
                    log::emit(events::stopping());
                }
            }
            Announce::Poisoned(why) => log::emit(events::poisoned(shard, why)),
        }
    }

    /// Damage is told of each shard at once; the node is ready when its last shard is.
    fn ready(&self, shard: u16, recovery: &Recovery) {
        events::damaged(shard, recovery)
            .into_iter()
            .for_each(log::emit);
        let mut seen = self.seen();
        seen.ready += 1;
        let all = &mut seen.recovered;
        all.groups += recovery.groups;
        all.records += recovery.records;
        all.bytes += recovery.bytes;
        all.cut_groups += recovery.cut_groups;
        all.damaged_groups += recovery.damaged_groups;
        if seen.ready == self.shards {
            log::emit(events::recovered(&seen.recovered));
            log::emit(events::ready(
                self.started.elapsed(),
                seen.recovered.records,
            ));
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
        let value = 1 << 20;
        assert!(check_memory(2 * limits::MEMORY_BYTES_MIN, value, 2).is_ok());
        let why = check_memory(limits::MEMORY_BYTES_MIN, value, 2).unwrap_err();
        assert!(why.contains("2 shard(s) need at least 32"), "{why}");
        let why = check_memory(limits::MEMORY_BYTES_MIN, 16 << 20, 1).unwrap_err();
        assert!(why.contains("1 shard(s) need at least 64"), "{why}");
    }

    #[test]
    fn each_shard_has_a_port_above_the_base() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(check_ports(at(65_533), 2).is_ok());
        assert!(check_ports(at(65_534), 2).is_err());
    }

    #[test]
    fn shards_share_the_descriptors() {
        assert_eq!(connections_max(1 << 20, 2), limits::CONNECTIONS_MAX);
        assert_eq!(connections_max(1024, 1), 512);
        assert_eq!(connections_max(1024, 2), 256);
    }
}
