//! `armilla status`

use super::Exit;
use super::node::{Node, Output, print_all};
use clap::Args;
use serde_json::Value;

const EXAMPLES: &str = "\
Examples:
  armilla status
  armilla status --output json | jq .state

Exit codes: 0 the node serves, 3 it does not, or cannot be reached.";

/// Tell how a node is
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    node: Node,
}

impl Status {
    pub fn run(self) -> Exit {
        self.node.with(|client| {
            let report = client.status()?;
            let text = match self.node.output {
                Output::Json => format!("{}\n", report.json),
                Output::Text => lines(&report.json),
            };
            let printed = print_all(text.as_bytes());
            if report.serving {
                return Ok(printed);
            }
            eprintln!("armilla: the node does not serve: {}", report.message);
            Ok(Exit::Failed)
        })
    }
}

/// One member a line, for eyes; what is no object is shown as it came.
fn lines(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => object
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}: {text}\n"),
                other => format!("{name}: {other}\n"),
            })
            .collect(),
        _ => format!("{json}\n"),
    }
}
