//! The command line of the load generator.

use crate::properties::Properties;
use crate::route::Routing;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  armilla-bench load -P tools/bench/workloads/workloada -p recordcount=100000
  armilla-bench run  -P tools/bench/workloads/workloada -p recordcount=100000 --seconds 30 --json a.json
  armilla-bench run  -P tools/bench/workloads/workloadb --target 20000 --seconds 30 --warmup 5 --json b.json
  armilla-bench report a.json b.json -o report.html
  armilla-bench load --keys 100000 --value-bytes 1024 --acked acked.log
  armilla-bench verify acked.log

Exit codes: 0 done, 2 wrong usage, 3 failed: a wrong answer, a lost record, a workload that cannot be run.";

const WORKLOADS: &str = "\
Workloads are those of YCSB: its property files are read unmodified, -p NAME=VALUE overrides them. A, B, C, D and F \
can be run; E scans, which a hash-ordered store cannot: it is refused.

A record is one value: with fieldcount=1 the bytes of the field, else each field with its length, in their order. So \
an UPDATE that writes one field of several (writeallfields=false, the default) is a get and then a put by the context \
of that get; so is a READ-MODIFY-WRITE, whose parts are told as READ and UPDATE too. All other writes overwrite.
Every value read is checked: it must be one that was written to its key, and not older than the last one acknowledged \
before it was asked for.

Without --target each connection keeps --depth operations in flight (a closed loop). With it, operations begin at a \
steady rate whatever the node does (an open loop): [READ] counts from when an operation was sent, [Intended-READ] from \
when it should have been; measurement.interval=op|intended|both chooses.";

/// Loads an Armilla node as YCSB does, measures what it answers, and checks afterwards that nothing acknowledged is
/// lost.
#[derive(Parser, Debug)]
#[command(name = "armilla-bench", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Inserts the records of a workload.
    #[command(after_long_help = WORKLOADS)]
    Load(Load),
    /// Runs the operations of a workload, in a closed or an open loop.
    #[command(after_long_help = WORKLOADS)]
    Run(Run),
    /// Reads back every key of the files that --acked wrote; exit code 3 if one is missing or differs.
    Verify(Verify),
    /// Makes one HTML page of the files that --json wrote.
    Report(Report),
    /// Surrounds an honest client with idle, greedy and broken ones; prints what it and the node notice.
    Hostile(Hostile),
}

impl Command {
    /// The node that must serve before it begins.
    pub fn server(&self) -> Option<SocketAddr> {
        match self {
            Command::Load(load) => Some(load.target.server),
            Command::Run(run) => Some(run.target.server),
            Command::Verify(verify) => Some(verify.target.server),
            Command::Hostile(hostile) => Some(hostile.target.server),
            Command::Report(_) => None,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct Load {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub measure: Measure,
}

#[derive(Args, Clone, Debug)]
pub struct Run {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub workload: Workload,
    #[command(flatten)]
    pub measure: Measure,
    /// Run for so long, whatever operationcount a file names; with -p operationcount too, until the first of both.
    /// Without either: 10 s.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Seconds before the measurement, of the same operations.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub warmup: u64,
    /// Percent of the operations that are updates, the others are reads: short for readproportion and
    /// updateproportion.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub puts: Option<u8>,
}

#[derive(Args, Clone, Debug)]
pub struct Verify {
    /// Files of earlier loads and runs against this node, in any order.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  armilla-bench report run.json -o report.html                   one run
  armilla-bench report after.json before.json -o report.html     two, side by side
  armilla-bench report new*.json --base old*.json -o report.html several of each: medians, and how far they spread")]
pub struct Report {
    /// Files that --json wrote: each stands for itself, or with --base all for one thing.
    #[arg(required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// What they are compared with.
    #[arg(long, num_args = 1..)]
    pub base: Vec<PathBuf>,
    /// The page to write.
    #[arg(short, long, default_value = "report.html")]
    pub output: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct Hostile {
    #[command(flatten)]
    pub target: Target,
    /// Process id of the node, if it runs on this machine: its sockets and memory are shown.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Bad frames of all kinds, each on a connection of its own.
    #[arg(long, default_value_t = 100_000)]
    pub bad_frames: u64,
    /// Threads that send them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub hostile_threads: u64,
    /// Connections that say nothing.
    #[arg(long, default_value_t = 1_000)]
    pub idle: u32,
    /// Connections that ask for large values and do not read them.
    #[arg(long, default_value_t = 50)]
    pub slow_readers: u32,
    /// Connections that begin a long request and stop.
    #[arg(long, default_value_t = 50)]
    pub half_frames: u32,
    /// Keys of the honest client.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// How long the honest client runs, alone and then among the others.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
}

/// Whom to ask, and with how much at once.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Address of the node.
    #[arg(long, env = "ARMILLA_SERVER", default_value = "127.0.0.1:7700")]
    pub server: SocketAddr,
    /// Threads, each with an epoll loop of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
    /// Connections of all threads together; by default the property threadcount, else 16.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Option<u32>,
    /// Operations in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub depth: u32,
    /// Which shard a connection goes to, and which keys it asks that shard for; inserts go to all.
    #[arg(long, value_enum, default_value_t)]
    pub route: Routing,
    /// CPUs to pin the threads to, in their order: `1` or `0,2,3`.
    #[arg(long, value_delimiter = ',')]
    pub cpu: Vec<usize>,
    /// Seconds after which an unanswered request counts as of unknown outcome.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// Which records, of which form.
#[derive(Args, Clone, Debug, Default)]
pub struct Workload {
    /// Property file of YCSB; of several, later ones win.
    #[arg(short = 'P', value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Property that wins over those of files and over what is short for it.
    #[arg(short = 'p', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// Number of records: short for recordcount (default 100000).
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: Option<u64>,
    /// Bytes of each value: short for fieldcount=1 and fieldlength.
    #[arg(long)]
    pub value_bytes: Option<u32>,
    /// Same seed, same operations: kinds and keys, not their times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What is told, and to whom.
#[derive(Args, Clone, Debug, Default)]
pub struct Measure {
    /// Operations a second in all, begun at a steady rate: an open loop.
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub target: Option<f64>,
    /// Write the measurements to this file as JSON, for `report` and for programs.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a histogram for each second and kind of operation to this file, as an interval log of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Append every acknowledged put, and every put of unknown outcome, to this file for `verify`.
    #[arg(long, value_name = "FILE")]
    pub acked: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    match rate.is_finite() && rate > 0.0 {
        true => Ok(rate),
        false => Err("a rate is above zero".into()),
    }
}

impl Workload {
    /// Files, then what is short for a property, then -p. `puts` is the percentage of a run.
    pub fn properties(&self, puts: Option<u8>) -> Result<Properties, String> {
        let mut short = Vec::new();
        let mut set = |name: &str, value: String| short.push(format!("{name}={value}"));
        if let Some(keys) = self.keys {
            set("recordcount", keys.to_string());
        }
        if let Some(bytes) = self.value_bytes {
            set("fieldcount", "1".into());
            set("fieldlength", bytes.to_string());
        }
        if let Some(puts) = puts {
            set(
                "readproportion",
                (f64::from(100 - puts) / 100.0).to_string(),
            );
            set("updateproportion", (f64::from(puts) / 100.0).to_string());
            set("insertproportion", "0".into());
            set("readmodifywriteproportion", "0".into());
        }
        Properties::read(&self.files, &[&short[..], &self.properties].concat())
    }
}

/// How many of all connections thread `thread` of `threads` has: every one at least one.
pub fn connections_of(connections: u32, (thread, threads): (u16, u16)) -> Result<u32, String> {
    let (thread, threads) = (u32::from(thread), u32::from(threads));
    if connections < threads {
        return Err(format!(
            "--connections {connections} is less than --threads {threads}: a thread would have nothing to do"
        ));
    }
    Ok(connections / threads + u32::from(thread < connections % threads))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &str) -> Result<Run, String> {
        let words = ["armilla-bench", "run"]
            .into_iter()
            .chain(arguments.split_whitespace());
        match Options::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Run(run) => Ok(run),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn options_are_read_and_bad_ones_refused() {
        let good =
            run("--threads 2 --connections 5 --depth 4 --puts 100 --cpu 0,1 --seed 7 --target 1e4")
                .unwrap();
        assert_eq!(good.target.cpu, [0, 1]);
        assert_eq!(
            (good.puts, good.measure.target),
            (Some(100), Some(10_000.0))
        );
        for bad in [
            "--puts 101",
            "--depth 0",
            "--threads 0",
            "--server x",
            "--seconds 0",
            "--keys 0",
            "--target 0",
            "--target -1",
        ] {
            assert!(run(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_short_for_properties_stands_between_files_and_overrides() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloada");
        let run = run(&format!(
            "-P {file} --keys 7 --value-bytes 9 --puts 30 -p fieldlength=8"
        ))
        .unwrap();
        let properties = run.workload.properties(run.puts).unwrap();
        let get = |name| properties.get(name).unwrap_or("none").to_string();
        assert_eq!(
            [get("recordcount"), get("fieldcount"), get("fieldlength")],
            ["7", "1", "8"]
        );
        assert_eq!(
            [get("readproportion"), get("updateproportion")],
            ["0.7", "0.3"]
        );
        assert_eq!(get("requestdistribution"), "zipfian");
    }

    #[test]
    fn connections_are_shared_out_whole() {
        let each: Vec<u32> = (0..3).map(|t| connections_of(8, (t, 3)).unwrap()).collect();
        assert_eq!(each, [3, 3, 2]);
        assert!(
            connections_of(2, (0, 3))
                .unwrap_err()
                .contains("--connections")
        );
    }
}
