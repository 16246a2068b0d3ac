//! `armilla flush`

use super::Exit;
use super::node::{Server, report_error};
use crate::client::{Client, ClientError, Options, StatusReport};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  armilla flush --wait          then the data directory is as small, and a start as quick, as they get
  armilla flush                 begins it; 'armilla status --output json | jq .engine.deferred' tells how far it is

Writes are durable with or without it. Under a constant load there is always something deferred: --wait returns in a
moment when there is none.
Exit codes: 0 it is done (without --wait: begun), 3 it cannot be done, or the node cannot be reached.";

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long nothing at all may happen.
const STANDSTILL: Duration = Duration::from_secs(30);

/// Do now what is deferred: write memory to tables, merge, collect
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flush {
    /// Return only when all of it is done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: Server,
}

/// What was left at a look, and what had been done by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    entries: u64,
    merges: u64,
    collections: u64,
    /// Bytes written and segments removed: they change while something is done.
    done: [u64; 3],
}

impl Look {
    /// `None`: the report does not tell.
    fn of(report: &StatusReport) -> Option<Look> {
        let json: Value = serde_json::from_str(&report.json).ok()?;
        let engine = |path: &str| json["engine"].pointer(path)?.as_u64();
        Some(Look {
            entries: engine("/deferred/entries")?,
            merges: engine("/deferred/merges")?,
            collections: engine("/deferred/collections")?,
            done: [
                engine("/table_bytes_written")?,
                engine("/bytes_relocated")?,
                engine("/segments_collected")?,
            ],
        })
    }

    fn nothing_is_left(&self) -> bool {
        self.entries + self.merges + self.collections == 0
    }

    fn left(&self) -> String {
        let Look {
            entries,
            merges,
            collections,
            ..
        } = self;
        format!(
            "{entries} entries in memory, shards that merge: {merges}, that collect: {collections}"
        )
    }
}

impl Flush {
    pub fn run(self) -> Exit {
        let connected = self.server.connect(Options {
            connections_max: 1,
            ..Options::default()
        });
        connected
            .and_then(|client| self.flush(&client))
            .unwrap_or_else(|error| report_error(&error))
    }

    fn flush(&self, client: &Client) -> Result<Exit, ClientError> {
        let begun = client.flush()?;
        if !begun.serving {
            return Ok(cannot(&begun));
        }
        if !self.wait {
            return Ok(Exit::Done);
        }
        let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("it is a template");
        let bar = bar.map(|bar| bar.with_style(style));
        let (mut before, mut changed) = (Look::default(), Instant::now());
        loop {
            std::thread::sleep(LOOK);
            let report = client.status()?;
            if !report.serving {
                return Ok(cannot(&report));
            }
            let Some(look) = Look::of(&report) else {
                eprintln!(
                    "armilla: the node does not tell what it defers; is it of an older version?"
                );
                return Ok(Exit::Failed);
            };
            if look.nothing_is_left() {
                return Ok(Exit::Done);
            }
            if let Some(bar) = &bar {
                bar.set_message(look.left());
                bar.tick();
            }
            if look != before {
                (before, changed) = (look, Instant::now());
            } else if changed.elapsed() > STANDSTILL {
                eprintln!(
                    "armilla: nothing has been written for {} s, and there is still left: {}; see whether the disk \
                     is full (df) and what 'armilla status' says",
                    STANDSTILL.as_secs(),
                    look.left()
                );
                return Ok(Exit::Failed);
            }
        }
    }
}

fn cannot(report: &StatusReport) -> Exit {
    eprintln!(
        "armilla: the node does not serve all of its keys: {}",
        report.message
    );
    Exit::Failed
}
