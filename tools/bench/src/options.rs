//! The command line of the load generator.

use crate::route::Routing;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Loads an Armilla node with gets and puts, measures what it answers, and checks afterwards that nothing
/// acknowledged is lost.
#[derive(Parser, Debug)]
#[command(name = "armilla-bench", version)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Writes every key once.
    Load(Load),
    /// Reads and writes keys at random, in a closed loop.
    Run(Run),
    /// Reads back every key of the files that --acked wrote; exit code 3 if one is missing or differs.
    Verify(Verify),
    /// Surrounds an honest client with idle, greedy and broken ones; prints what it and the node notice.
    Hostile(Hostile),
}

impl Command {
    pub fn target(&self) -> &Target {
        match self {
            Command::Load(load) => &load.target,
            Command::Run(run) => &run.target,
            Command::Verify(verify) => &verify.target,
            Command::Hostile(hostile) => &hostile.target,
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct Load {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Args, Clone, Debug)]
pub struct Run {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub shape: Shape,
    /// How long to send requests.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Percent of the requests that are puts; the others are gets.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub puts: u8,
    /// Same seed, same requests: keys and kinds, not their times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
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
    /// Connections of all threads together.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub depth: u32,
    /// Which shard a connection goes to, and which keys it asks that shard for; `load` writes them all.
    #[arg(long, value_enum, default_value_t)]
    pub route: Routing,
    /// CPUs to pin the threads to, in their order: `1` or `0,2,3`.
    #[arg(long, value_delimiter = ',')]
    pub cpu: Vec<usize>,
    /// Seconds after which an unanswered request counts as of unknown outcome.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Write the measurements to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Which keys and values.
#[derive(Args, Clone, Debug)]
pub struct Shape {
    /// Number of keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// Append every acknowledged put, and every put of unknown outcome, to this file for `verify`.
    #[arg(long)]
    pub acked: Option<PathBuf>,
}

impl Target {
    /// How many connections thread `thread` has: every one at least one.
    pub fn connections_of(&self, thread: u16) -> Result<u32, String> {
        let threads = u32::from(self.threads);
        if self.connections < threads {
            return Err(format!(
                "--connections {} is less than --threads {threads}: a thread would have nothing to do",
                self.connections
            ));
        }
        let more = u32::from(u32::from(thread) < self.connections % threads);
        Ok(self.connections / threads + more)
    }
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
            run("--threads 2 --connections 5 --depth 4 --puts 100 --cpu 0,1 --seed 7").unwrap();
        assert_eq!(good.target.cpu, [0, 1]);
        assert_eq!(good.puts, 100);
        for bad in [
            "--puts 101",
            "--depth 0",
            "--threads 0",
            "--server x",
            "--seconds 0",
            "--keys 0",
        ] {
            assert!(run(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn connections_are_shared_out_whole() {
        let target = run("--threads 3 --connections 8").unwrap().target;
        let each: Vec<u32> = (0..3).map(|t| target.connections_of(t).unwrap()).collect();
        assert_eq!(each, [3, 3, 2]);
        let few = run("--threads 3 --connections 2").unwrap().target;
        assert!(few.connections_of(0).unwrap_err().contains("--connections"));
    }
}
