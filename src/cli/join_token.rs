//! `armilla join-token`, and the token that a start is given.

use super::Exit;
use crate::causal::context::ContextKey;
use crate::membership::token::{self, JoinToken};
use crate::replica::identity::{NODE_FILE, NodeFacts, SECRET_FILE};
use clap::Args;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  armilla join-token --data /var/lib/armilla > token        on a node of the ring; bring the file to the new one
  armilla start --data new --listen 10.0.0.6:7700 --insecure --join 10.0.0.5:7700 --join-token-file token

Whoever has the token can join the ring, and so read and write everything. It is the same on all nodes, and stays so.
Exit codes: 0 it is printed, 3 the directory is none of a node, or may not be read.";

/// Print what a new node must know to join this node's ring
#[derive(Args)]
#[command(name = "join-token", after_help = EXAMPLES)]
pub(super) struct JoinTokenVerb {
    /// Directory of the data of a node of the ring; the node may be running
    #[arg(
        long,
        value_name = "DIR",
        default_value = "armilla-data",
        env = "ARMILLA_DATA"
    )]
    data: PathBuf,
}

impl JoinTokenVerb {
    pub fn run(&self) -> Exit {
        match text(&self.data) {
            Ok(text) => {
                println!("{text}");
                Exit::Done
            }
            Err(message) => {
                eprintln!("armilla: {message}");
                Exit::Failed
            }
        }
    }
}

fn text(data: &Path) -> Result<String, String> {
    let read = |name: &str| {
        let path = data.join(name);
        let shown = path.display();
        fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "{} is no data directory of a node (there is no {name}): pass --data DIR, or start the node first",
                data.display()
            ),
            ErrorKind::PermissionDenied => {
                format!("cannot read {shown}: {error}; run this as the user that the node runs as")
            }
            _ => format!("cannot read {shown}: {error}"),
        })
    };
    let facts = NodeFacts::parse(&read(NODE_FILE)?);
    let facts = facts.map_err(|why| format!("{}: {why}", data.display()))?;
    let secret = <[u8; 16]>::try_from(read(SECRET_FILE)?);
    let secret = secret.map_err(|_| {
        let shown = data.display();
        format!("{shown}/{SECRET_FILE} is damaged: restore it from a copy, or ask another node of the ring")
    })?;
    Ok(token::text_of(facts.cluster, &ContextKey(secret)))
}

/// The token that a start is given, by its text or by a file.
pub(super) fn given(text: Option<&str>, file: Option<&Path>) -> Result<Option<JoinToken>, String> {
    let (flag, text) = match (text, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err("--join-token and --join-token-file: give one of them".into());
        }
        (Some(text), None) => ("--join-token".to_owned(), text.to_owned()),
        (None, Some(file)) => {
            let flag = format!("--join-token-file {}", file.display());
            let text = fs::read_to_string(file);
            let text = text.map_err(|error| format!("{flag}: cannot read it: {error}"))?;
            (flag, text)
        }
    };
    let token = JoinToken::of(&text).map_err(|why| format!("{flag}: {why}"))?;
    Ok(Some(token))
}
