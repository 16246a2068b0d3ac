//! `armilla delete`

use super::Exit;
use super::node::{Node, Write, parse_context};
use crate::client;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const EXAMPLES: &str = "\
Examples:
  armilla delete city
  armilla delete city --context TOKEN           delete exactly what a get saw
  armilla delete city --w 3 -v                  done only if 3 replicas know of it; tell how many do

Deleting what is not there is done, not an error.
Exit codes: 0 durable, 3 failed and nothing was changed, 4 outcome unknown.";

/// Delete a key
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Delete {
    #[arg(allow_hyphen_values = true)]
    key: OsString,
    /// Delete exactly what the get saw that printed this context
    #[arg(long, value_name = "TOKEN", value_parser = parse_context)]
    context: Option<std::vec::Vec<u8>>,
    #[command(flatten)]
    write: Write,
    #[command(flatten)]
    node: Node,
}

impl Delete {
    pub fn run(self) -> Exit {
        let how = match &self.context {
            Some(context) => client::Put::with_context(context),
            None => client::Put::default(),
        };
        let key = self.key.into_vec();
        let how = self.node.write(how, &self.write);
        self.node.with(|client| {
            let written = client.delete(&key, &how)?;
            Ok(self.node.report_written(&written, &self.write))
        })
    }
}
