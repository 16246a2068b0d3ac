//! `armilla cluster`: a ring of nodes on this machine, each a process of its own in the background.

mod directory;
mod node;
mod status;
mod stop;
mod up;

use super::Exit;
use clap::{Args, Subcommand};
use directory::{Cluster, Directory};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  armilla cluster up -n 3             three nodes, at port 7700 of 127.0.0.1, .2 and .3
  armilla cluster up                  again: start those that are down
  armilla cluster status              how each of them is
  armilla cluster kill 2              kill -9 of node 2
  armilla cluster restart 2           stop it in order if it runs, and start it
  armilla cluster down                stop all of them in order
  armilla cluster down --wipe         and delete all that they stored

What belongs to a ring lies in ./armilla-cluster, or --dir: node-N/data, node-N/node.log, and cluster.toml.
It is for trying things on one machine; nodes of several are started with 'armilla start --join'.
Exit codes: 0 done, 2 wrong usage, 3 failed.";

/// Run a ring of several nodes on this machine
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClusterVerb {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Up(up::Up),
    Status(status::Status),
    Kill(stop::Kill),
    Restart(stop::Restart),
    Down(stop::Down),
}

#[derive(Args)]
struct Dir {
    /// Directory of the ring
    #[arg(long = "dir", value_name = "DIR", default_value = "armilla-cluster")]
    path: PathBuf,
}

/// A failure is one line for the user, and what to exit with.
type Failure = (Exit, String);

fn failed(message: impl Into<String>) -> Failure {
    (Exit::Failed, message.into())
}

fn usage(message: impl Into<String>) -> Failure {
    (Exit::Usage, message.into())
}

impl ClusterVerb {
    pub fn run(&self) -> Exit {
        let done = match &self.what {
            What::Up(verb) => verb.run(),
            What::Status(verb) => verb.run(),
            What::Kill(verb) => verb.run(),
            What::Restart(verb) => verb.run(),
            What::Down(verb) => verb.run(),
        };
        done.unwrap_or_else(|(exit, message)| {
            eprintln!("armilla: {message}");
            exit
        })
    }
}

impl Dir {
    /// For whoever changes something: nobody else does meanwhile.
    fn lock(&self) -> Result<(Directory, Cluster), Failure> {
        let directory = Directory::at(&self.path)?;
        // Nothing is made by looking.
        if !directory.has_cluster() {
            return Err(self.nothing_here());
        }
        let directory = directory.lock()?;
        let cluster = directory.read()?.ok_or_else(|| self.nothing_here())?;
        Ok((directory, cluster))
    }

    fn nothing_here(&self) -> Failure {
        usage(format!(
            "no ring was made in {}; run 'armilla cluster up', or pass the --dir of one",
            self.path.display()
        ))
    }
}

impl Cluster {
    /// Node `number`, counted from 1.
    fn check(&self, number: usize) -> Result<(), Failure> {
        match (1..=self.nodes.len()).contains(&number) {
            true => Ok(()),
            false => Err(usage(format!(
                "there is no node {number}: they are numbered from 1 to {}",
                self.nodes.len()
            ))),
        }
    }
}
