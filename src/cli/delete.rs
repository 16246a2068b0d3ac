//! `armilla delete`

use super::Exit;
use super::node::{Node, parse_context};
use crate::client;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const EXAMPLES: &str = "\
Examples:
  armilla delete city
  armilla delete city --context TOKEN           delete exactly what a get saw

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
    node: Node,
}

impl Delete {
    pub fn run(self) -> Exit {
        let how = match &self.context {
            Some(context) => client::Put::with_context(context),
            None => client::Put::default(),
        };
        let key = self.key.into_vec();
        self.node
            .with(|client| Ok(self.node.report_written(&client.delete(&key, &how)?)))
    }
}
