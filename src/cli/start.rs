//! `armilla start`: checks the machine, starts the shard, hands what happens to the log.

use super::{Exit, layers};
use crate::base::limits;
use crate::base::units::{HumanBytes, Size};
use crate::node::config::{Options, admin_address};
use crate::node::{self, Announce, events};
use crate::runtime::log::{self, Event, Level};
use crate::runtime::preflight::{self, Address, Check, Verdict, Wants};
use crate::runtime::{self, signals};
use std::cell::Cell;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Connections that leave descriptors to the admin port, to segments and tables: where there are few, half of them.
fn connections_max(open_files: u64) -> usize {
    let left = open_files.saturating_sub(limits::DESCRIPTORS_RESERVED);
    left.max(open_files / 2).min(limits::CONNECTIONS_MAX as u64) as usize
}

/// Start a node. Needs no arguments: it serves on the loopback and keeps its data in ./armilla-data.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  armilla start
  armilla start --data /var/lib/armilla --memory 4GiB --cores 2
  armilla start --listen 10.0.0.5:7700 --insecure
  armilla start --config /etc/armilla.toml --log debug

Ports: P (--listen) for every client, P+1 for the shard itself, P-10 for /livez, /readyz and /status.
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
    /// Directory of the data; made if it is not there
    #[arg(
        long,
        value_name = "DIR",
        default_value = "armilla-data",
        env = "ARMILLA_DATA"
    )]
    pub data: PathBuf,
    /// CPU of the shard, as the kernel counts them [default: the first this process may run on]
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
        Ok(Plan {
            options: options(self)?,
            cpu: cpu(self.cores.as_deref())?,
        })
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
    cpu: usize,
}

impl Plan {
    pub(super) fn preflight(&self) -> Vec<Check> {
        let shards = 1;
        let options = &self.options;
        let address = |flag, address, exclusive| Address {
            flag,
            address,
            exclusive,
        };
        let shard_addresses = (0..shards).map(|shard| options.shard_address(shard));
        let mut addresses = vec![address("listen", options.listen, false)];
        addresses.extend(shard_addresses.map(|shard| address("listen", shard, true)));
        addresses.extend(options.admin.map(|admin| address("admin", admin, true)));
        preflight::check(&Wants {
            data: &options.data,
            addresses: &addresses,
            shards: shards.into(),
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
    let Plan { mut options, cpu } = plan;
    options.connections_max = connections_max(preflight::raise_open_files());
    log::emit(starting(&options, cpu));
    let open = |address: SocketAddr| !address.ip().is_loopback();
    if open(options.listen) || options.admin.is_some_and(open) {
        let message = "open to the network, without encryption or passwords (--insecure)";
        log::emit(Event::new(Level::Warn, "insecure", message));
    }
    let handle = runtime::run(cpu, move |runtime| {
        let teller = Teller::default();
        node::run(
            runtime,
            options,
            Rc::new(move |what: Announce<'_>| teller.tell(what)),
        )
    })
    .map_err(|e| vec![format!("cannot start an executor on CPU {cpu}: {e}")])?;
    signals::stop_on_signals(vec![handle.stop_handle()])
        .map_err(|e| vec![format!("cannot take signals: {e}")])?;
    match handle.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(vec![error.to_string()]),
        Err(error) => Err(vec![format!("the shard's thread ended: {error}")]),
    }
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

fn starting(options: &Options, cpu: usize) -> Event {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), super::COMMIT);
    let (data, memory) = (options.data.display(), options.memory_bytes as u64);
    let message = format!(
        "armilla {version} ({commit}) starts on CPU {cpu}: data in {data}, {} of memory",
        HumanBytes(memory)
    );
    Event::new(Level::Info, "starting", message)
        .with("version", version.to_owned())
        .with("commit", commit.to_owned())
        .with("cpus", cpu.to_string())
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
    // Two of the longest requests at once, and as much again for what is stored.
    let least = (4 * value_bytes_max as u64).max(limits::MEMORY_BYTES_MIN as u64);
    if memory_bytes < least {
        return Err(format!(
            "--memory {}: with values of up to {} at least {}",
            start.memory,
            HumanBytes(value_bytes_max as u64),
            HumanBytes(least)
        ));
    }
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
        sizes: Default::default(),
        value_bytes_max,
        connections_max: limits::CONNECTIONS_MAX,
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

/// The CPU of the one shard there is.
fn cpu(cores: Option<&str>) -> Result<usize, String> {
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|c| c.id)
        .collect();
    let list = allowed
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let Some(cores) = cores else {
        return allowed
            .first()
            .copied()
            .ok_or_else(|| "this process may run on no CPU".into());
    };
    let chosen: Vec<&str> = cores.split(',').map(str::trim).collect();
    match chosen.as_slice() {
        [one] => match one.parse::<usize>() {
            Ok(cpu) if allowed.contains(&cpu) => Ok(cpu),
            _ => Err(format!("--cores {cores}: this process may run on {list}")),
        },
        _ => Err(format!(
            "--cores {cores}: this version runs one shard, so name one CPU of {list}"
        )),
    }
}

/// Turns what the node announces into events.
struct Teller {
    started: Instant,
    progress: Cell<Instant>,
}

impl Default for Teller {
    fn default() -> Teller {
        let now = Instant::now();
        Teller {
            started: now,
            progress: Cell::new(now),
        }
    }
}

impl Teller {
    fn tell(&self, what: Announce<'_>) {
        match what {
            Announce::Listening(ports) => log::emit(events::listening(ports)),
            Announce::Replaying(done, all) => {
                // At most one line a second.
                if all > 0 && self.progress.get().elapsed() >= Duration::from_secs(1) {
                    self.progress.set(Instant::now());
                    log::emit(events::replaying(done, all));
                }
            }
            Announce::Ready { recovery, .. } => {
                events::recovered(recovery).into_iter().for_each(log::emit);
                log::emit(events::ready(self.started.elapsed()));
            }
            Announce::Stopping => log::emit(events::stopping()),
            Announce::Poisoned(why) => log::emit(events::poisoned(0, why)),
        }
    }
}
