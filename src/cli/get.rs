//! `armilla get`

use super::Exit;
use super::node::{Node, Output, Read, base64, print_all, print_json, receipt_json};
use crate::client::{Found, Sibling};
use clap::Args;
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStringExt;

const EXAMPLES: &str = "\
Examples:
  armilla get city
  armilla get photo > riga.jpg         the bytes as they were stored
  armilla get city --output json       all siblings and their context
  armilla get city --r 3 -v            from 3 replicas; tell how many answered
  armilla get city --r 1               quick: what one replica has, maybe an older value

Writes that did not see each other are all kept, as siblings: each is printed on a line of its own, and
standard error tells how to resolve them. Exit codes: 0 found, 1 not found, 3 failed.";

/// Print the value of a key
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Get {
    #[arg(allow_hyphen_values = true)]
    key: OsString,
    #[command(flatten)]
    read: Read,
    #[command(flatten)]
    node: Node,
}

impl Get {
    pub fn run(self) -> Exit {
        let name = self.key.to_string_lossy().into_owned();
        let key = self.key.into_vec();
        self.node.with(|client| {
            let found = client.get_with(&key, &self.node.read(&self.read))?;
            self.read.tell(found.receipt);
            let printed = match self.node.output {
                Output::Json => print_json(&found_json(&found)),
                Output::Text => print_text(&name, &found),
            };
            let missing = found.siblings.is_empty() && printed == Exit::Done;
            Ok(if missing { Exit::NotFound } else { printed })
        })
    }
}

fn print_text(name: &str, found: &Found) -> Exit {
    if found.siblings.is_empty() {
        eprintln!("not found");
        return Exit::Done;
    }
    for sibling in found.siblings.iter().filter(|sibling| sibling.lost) {
        eprintln!(
            "armilla: a value written at {} ms cannot be read now",
            sibling.written_ms
        );
    }
    let readable: Vec<&Sibling> = found
        .siblings
        .iter()
        .filter(|sibling| !sibling.lost)
        .collect();
    let mut bytes = Vec::new();
    if let ([only], 1) = (&readable[..], found.siblings.len()) {
        bytes.extend_from_slice(&only.value);
        if io::stdout().is_terminal() {
            bytes.push(b'\n');
        }
    } else {
        for sibling in &readable {
            bytes.extend_from_slice(&sibling.value);
            bytes.push(b'\n');
        }
    }
    if found.siblings.len() > 1 {
        eprintln!(
            "armilla: {} siblings, written without seeing each other; to resolve them:\n  \
             armilla put '{name}' VALUE --context {}",
            found.siblings.len(),
            base64(&found.context)
        );
    }
    let printed = print_all(&bytes);
    if readable.len() < found.siblings.len() {
        Exit::Failed
    } else {
        printed
    }
}

fn found_json(found: &Found) -> Value {
    let siblings = found.siblings.iter().map(sibling_json).collect();
    let mut object = Map::new();
    object.insert("siblings".into(), Value::Array(siblings));
    object.insert("context".into(), Value::String(base64(&found.context)));
    if let Some(receipt) = found.receipt {
        object.insert("receipt".into(), receipt_json(receipt));
    }
    Value::Object(object)
}

fn sibling_json(sibling: &Sibling) -> Value {
    let mut object = Map::new();
    match std::str::from_utf8(&sibling.value) {
        _ if sibling.lost => object.insert("lost".into(), Value::Bool(true)),
        Ok(text) => object.insert("value".into(), text.into()),
        Err(_) => object.insert("value_base64".into(), base64(&sibling.value).into()),
    };
    object.insert("written_ms".into(), sibling.written_ms.into());
    if sibling.expires_ms != 0 {
        object.insert("expires_ms".into(), sibling.expires_ms.into());
    }
    Value::Object(object)
}
