//! The command line: one file a verb.

mod cluster;
mod completions;
mod config;
mod config_file;
mod dataset;
mod delete;
mod demo;
mod doctor;
mod explain;
mod export;
mod flush;
mod get;
mod import;
mod inspect;
mod join_token;
mod layers;
mod node;
mod progress;
mod put;
mod rows;
mod scrub;
mod shards;
mod snapshot;
mod start;
mod status;
mod table;

use crate::engine::LOG_FORMAT;
use crate::replica::identity::DIRECTORY_FORMAT;
use crate::wire::PROTOCOL_VERSION;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use layers::{Layers, Refused};
use std::process::ExitCode;
use std::sync::LazyLock;

/// What a verb ends with. Frozen: scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    NotFound = 1,
    /// clap exits with it by itself.
    Usage = 2,
    Failed = 3,
    /// A write may or may not have happened.
    Unknown = 4,
    /// What was looked at does not hold what was written.
    Damaged = 5,
}

const EXAMPLES: &str = "\
Examples:
  armilla start                      run a node here, data in ./armilla-data
  armilla put city Riga              store a value
  armilla get city                   print it
  armilla put photo @riga.jpg        store a file
  date | armilla put now -           store what stands on standard input
  armilla delete city                delete it
  armilla import cities.tsv          store a file of keys and values
  armilla export all.ndjson          write everything to a file
  armilla status                     see whether the node serves
  armilla cluster up -n 3            run a ring of three nodes on this machine
  armilla put city Riga --w 3 -v     store it on three of them, and see the receipt
  armilla explain city               see which nodes hold a key, and what each has
  armilla join-token                 print what a new node must know to join the ring
  armilla doctor                     see whether a node can run here
  armilla config example             print a file for 'armilla start --config'

Exit codes: 0 done, 1 not found, 2 usage, 3 failed and nothing was changed,
4 outcome unknown: the write may have happened, 5 what was looked at is damaged.";

/// An always-writeable key-value store.
#[derive(Parser)]
#[command(name = "armilla", version = VERSION.as_str(), after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Start(start::Start),
    Get(get::Get),
    Put(put::Put),
    Delete(delete::Delete),
    Import(import::Import),
    Export(export::Export),
    Explain(explain::Explain),
    Status(status::Status),
    Flush(flush::Flush),
    Scrub(scrub::Scrub),
    Snapshot(snapshot::Snapshot),
    Inspect(inspect::Inspect),
    JoinToken(join_token::JoinTokenVerb),
    Cluster(cluster::ClusterVerb),
    Doctor(doctor::Doctor),
    Config(config::Config),
    Demo(demo::Demo),
    Completions(completions::Completions),
}

/// Reads the arguments, the environment and the file they name, and runs the verb.
pub fn main() -> ExitCode {
    let layers = match Layers::read(command(), std::env::args_os().collect()) {
        Ok(layers) => layers,
        Err(Refused::Arguments(error)) => error.exit(),
        Err(Refused::Setting(message)) => {
            eprintln!("armilla: {message}");
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let cli = Cli::from_arg_matches(&layers.matches).unwrap_or_else(|error| error.exit());
    let exit = match cli.verb {
        Verb::Start(verb) => verb.run(),
        Verb::Get(verb) => verb.run(),
        Verb::Put(verb) => verb.run(),
        Verb::Delete(verb) => verb.run(),
        Verb::Import(verb) => verb.run(),
        Verb::Export(verb) => verb.run(),
        Verb::Explain(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Flush(verb) => verb.run(),
        Verb::Scrub(verb) => verb.run(),
        Verb::Snapshot(verb) => verb.run(),
        Verb::Inspect(verb) => verb.run(),
        Verb::JoinToken(verb) => verb.run(),
        Verb::Cluster(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
        Verb::Config(verb) => verb.run(&layers),
        Verb::Demo(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
    };
    ExitCode::from(exit as u8)
}

fn command() -> Command {
    Cli::command()
}

/// The commit this program was built from; a development build does not follow it.
pub const COMMIT: &str = match option_env!("ARMILLA_COMMIT") {
    Some(commit) => commit,
    None => "a development build",
};

static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} ({COMMIT}; wire protocol {PROTOCOL_VERSION}, data directory {DIRECTORY_FORMAT}, log {LOG_FORMAT})",
        env!("CARGO_PKG_VERSION")
    )
});
