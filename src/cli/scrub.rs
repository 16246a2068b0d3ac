//! `armilla scrub`

use super::Exit;
use super::node::{Server, report_error};
use crate::base::units::HumanBytes;
use crate::client::{Client, ClientError, Options, StatusReport};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  armilla scrub --wait          read all that is on the disk of a node, and see whether it is what was written
  armilla scrub                 begins it; 'armilla status' tells how far it is, and what is damaged

A node does so by itself once a day, more slowly ('armilla start --help': --scrub-mib-per-second). It serves meanwhile.
Exit codes: 0 all is whole (without --wait: begun), 3 it cannot be done, or the node cannot be reached, 5 damage.";

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long nothing at all may be read.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Look now for what has rotted on the disk of a node
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Scrub {
    /// Return only when all was looked at
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    server: Server,
}

/// How far it was at a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Shards that are not done.
    asked: u64,
    done: u64,
    bytes: u64,
    bad: u64,
    bad_at_last: u64,
}

impl Look {
    /// `None`: the report does not tell.
    fn of(report: &StatusReport) -> Option<Look> {
        let json: Value = serde_json::from_str(&report.json).ok()?;
        let scrub = |name: &str| json["scrub"][name].as_u64();
        Some(Look {
            asked: scrub("asked")?,
            done: scrub("bytes_done")?,
            bytes: scrub("bytes")?,
            bad: scrub("bad")?,
            bad_at_last: scrub("bad_at_last")?,
        })
    }

    fn told(&self) -> String {
        let (done, bytes) = (HumanBytes(self.done), HumanBytes(self.bytes));
        let mut text = format!("{done} of {bytes} looked at");
        if self.bad > 0 {
            text += &format!(", DAMAGED places: {}", self.bad);
        }
        text
    }
}

impl Scrub {
    pub fn run(self) -> Exit {
        let connected = self.server.connect(Options {
            connections_max: 1,
            ..Options::default()
        });
        connected
            .and_then(|client| self.scrub(&client))
            .unwrap_or_else(|error| report_error(&error))
    }

    fn scrub(&self, client: &Client) -> Result<Exit, ClientError> {
        let begun = client.scrub()?;
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
            let report = client.status()?;
            if !report.serving {
                return Ok(cannot(&report));
            }
            let Some(look) = Look::of(&report) else {
                eprintln!(
                    "armilla: the node does not tell how far it is; is it of an older version?"
                );
                return Ok(Exit::Failed);
            };
            if look.asked == 0 {
                return Ok(verdict(&look));
            }
            if let Some(bar) = &bar {
                bar.set_message(look.told());
                bar.tick();
            }
            if look != before {
                (before, changed) = (look, Instant::now());
            } else if changed.elapsed() > STANDSTILL {
                eprintln!(
                    "armilla: nothing has been read for {} s: {}; see whether the disk answers (run: dmesg), and what \
                     'armilla status' says",
                    STANDSTILL.as_secs(),
                    look.told()
                );
                return Ok(Exit::Failed);
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn verdict(look: &Look) -> Exit {
    if look.bad_at_last == 0 {
        return Exit::Done;
    }
    eprintln!(
        "armilla: DAMAGED: {} place(s) do not hold what was written there; 'armilla status' lists them, and says what \
         to do",
        look.bad_at_last
    );
    Exit::Damaged
}

fn cannot(report: &StatusReport) -> Exit {
    eprintln!(
        "armilla: the node does not serve all of its keys: {}",
        report.message
    );
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(json: &str) -> Option<Look> {
        Look::of(&StatusReport {
            serving: true,
            message: String::new(),
            json: json.to_owned(),
        })
    }

    #[test]
    fn damage_is_an_exit_code_and_an_older_node_does_not_tell() {
        let json =
            r#"{"scrub":{"asked":1,"bytes_done":1024,"bytes":4096,"bad":2,"bad_at_last":0}}"#;
        let told = look(json).expect("it tells");
        assert_eq!(told.told(), "1 KiB of 4 KiB looked at, DAMAGED places: 2");
        assert_eq!(verdict(&told), Exit::Done);
        let bad = Look {
            bad_at_last: 2,
            ..told
        };
        assert_eq!(verdict(&bad), Exit::Damaged);
        assert_eq!(look("{}"), None);
    }
}
