//! `armilla put`

use super::Exit;
use super::node::{Node, Write, parse_context};
use crate::base::limits::VALUE_BYTES_MAX;
use crate::client;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const EXAMPLES: &str = "\
Examples:
  armilla put city Riga
  armilla put photo @riga.jpg                   the bytes of a file
  date | armilla put now -                      the bytes of standard input
  armilla put city Tartu --context TOKEN        supersede exactly what a get saw
  armilla put city Tallinn --concurrent         stay beside whatever is there
  armilla put city Riga --w 3 -v                done only if 3 replicas hold it; tell how many do
  armilla put city Riga --r 1 --w 1             quick: one replica is enough
  armilla put city Riga --server a:7700,b:7700  ask b if a cannot be reached

A value that begins with @ itself goes through standard input. Without --context a put supersedes what the
replicas have now; a write that they had not seen stays beside it.
Exit codes: 0 durable, 3 failed and nothing was changed, 4 outcome unknown.";

/// Store a value under a key
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Put {
    #[arg(allow_hyphen_values = true)]
    key: OsString,
    /// The value, '-' for standard input, or '@FILE' for a file
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    /// Supersede exactly what the get saw that printed this context
    #[arg(long, value_name = "TOKEN", value_parser = parse_context)]
    context: Option<std::vec::Vec<u8>>,
    /// Supersede nothing
    #[arg(long, conflicts_with = "context")]
    concurrent: bool,
    #[command(flatten)]
    write: Write,
    #[command(flatten)]
    node: Node,
}

impl Put {
    pub fn run(self) -> Exit {
        let value = match value_of(&self.value) {
            Ok(value) => value,
            Err(error) => {
                let what = self.value.to_string_lossy();
                eprintln!(
                    "armilla: cannot read the value from '{what}': {error}; nothing was stored"
                );
                return Exit::Failed;
            }
        };
        let how = match &self.context {
            Some(context) => client::Put::with_context(context),
            None if self.concurrent => client::Put::concurrent(),
            None => client::Put::default(),
        };
        let key = self.key.into_vec();
        let how = self.node.write(how, &self.write);
        self.node.with(|client| {
            let written = client.put(&key, &value, &how)?;
            Ok(self.node.report_written(&written, &self.write))
        })
    }
}

/// Reads one byte more than any node takes, so that what is too large is refused rather than cut.
fn value_of(argument: &OsStr) -> io::Result<Vec<u8>> {
    let bytes = argument.as_bytes();
    let read = |source: &mut dyn Read| {
        let mut value = Vec::new();
        source
            .take(VALUE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut value)?;
        Ok(value)
    };
    match bytes.strip_prefix(b"@") {
        Some(path) => read(&mut File::open(OsStr::from_bytes(path))?),
        None if bytes == b"-" => read(&mut io::stdin().lock()),
        None => Ok(bytes.to_vec()),
    }
}
