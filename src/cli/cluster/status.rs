//! `armilla cluster status`

use super::directory::{Cluster, Directory};
use super::{Dir, Failure, node};
use crate::base::units::HumanBytes;
use crate::cli::Exit;
use crate::cli::node::{Output, print_all, print_json};
use crate::cli::table::table;
use crate::runtime::process::Identity;
use clap::Args;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  armilla cluster status
  armilla cluster status --output json | jq -r '.nodes[] | select(.state != \"serving\") | .node'

Exit codes: 0 all nodes serve, 2 no ring was made there, 3 one does not serve.";

/// Tell how each node of the ring is
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    dir: Dir,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

struct Row {
    number: usize,
    address: SocketAddr,
    process: Option<Identity>,
    said: Option<node::Said>,
}

impl Status {
    pub fn run(&self) -> Result<Exit, Failure> {
        let directory = Directory::at(&self.dir.path)?;
        let cluster = directory.read()?.ok_or_else(|| self.dir.nothing_here())?;
        let rows = rows(&cluster);
        let printed = match self.output {
            Output::Text => print_all(text(&rows).as_bytes()),
            Output::Json => print_json(&object(&cluster, &rows)),
        };
        match rows.iter().all(|row| row.state() == SERVING) {
            true => Ok(printed),
            false => Ok(Exit::Failed),
        }
    }
}

/// All are asked at once: one that is silent holds up nobody.
fn rows(cluster: &Cluster) -> Vec<Row> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = cluster
            .nodes
            .iter()
            .zip(1..)
            .map(|(member, number)| {
                let (process, address) = (member.process(), cluster.address(number));
                scope.spawn(move || Row {
                    number,
                    address,
                    process,
                    said: process.and_then(|_| node::ask(address)),
                })
            })
            .collect();
        let rows = asked
            .into_iter()
            .map(|row| row.join().expect("a look does not panic"));
        rows.collect()
    })
}

const SERVING: &str = "serving";

impl Row {
    fn state(&self) -> &str {
        match (&self.process, &self.said) {
            (None, _) => "down",
            (Some(_), None) => "silent",
            (Some(_), Some(said)) if said.serving => SERVING,
            (Some(_), Some(said)) => said.report["state"].as_str().unwrap_or("not ready"),
        }
    }

    fn keys(&self) -> Option<u64> {
        self.said.as_ref()?.report["engine"]["entries"].as_u64()
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.process?.memory_bytes()
    }

    fn uptime(&self) -> Option<Duration> {
        self.process?.uptime()
    }

    fn cells(&self) -> Vec<String> {
        let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let whole_seconds = |uptime: Duration| Duration::from_secs(uptime.as_secs());
        vec![
            self.number.to_string(),
            self.address.to_string(),
            or_dash(self.process.map(|process| process.pid.to_string())),
            self.state().to_owned(),
            or_dash(self.keys().map(|keys| keys.to_string())),
            or_dash(
                self.memory_bytes()
                    .map(|bytes| HumanBytes(bytes).to_string()),
            ),
            or_dash(
                self.uptime()
                    .map(|uptime| humantime::format_duration(whole_seconds(uptime)).to_string()),
            ),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "node": self.number,
            "address": self.address.to_string(),
            "pid": self.process.map(|process| process.pid),
            "state": self.state(),
            "keys": self.keys(),
            "memory_bytes": self.memory_bytes(),
            "uptime_seconds": self.uptime().map(|uptime| uptime.as_secs()),
        })
    }
}

const HEAD: [&str; 7] = [
    "NODE", "ADDRESS", "PID", "STATE", "KEYS", "MEMORY", "UPTIME",
];

fn text(rows: &[Row]) -> String {
    let reasons = rows.iter().filter_map(|row| {
        let said = row.said.as_ref().filter(|said| !said.message.is_empty())?;
        Some(format!("node {}: {}\n", row.number, said.message))
    });
    table(&HEAD, rows.iter().map(Row::cells)) + &reasons.collect::<String>()
}

fn object(cluster: &Cluster, rows: &[Row]) -> Value {
    json!({
        "servers": cluster.addresses(),
        "nodes": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}
