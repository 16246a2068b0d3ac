//! What the verbs that talk to a node share: where it is, how they print, how they fail.

use super::Exit;
use crate::client::{Client, ClientError, Options, Written};
use crate::wire::message::Status;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::time::Duration;

#[derive(Args)]
pub(super) struct Server {
    /// Where a node listens
    #[arg(
        long,
        env = "ARMILLA_SERVER",
        default_value = "127.0.0.1:7700",
        value_name = "ADDR:PORT"
    )]
    pub server: String,
    /// Give up after so many seconds; a write is then of unknown outcome
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

#[derive(Args)]
pub(super) struct Node {
    #[command(flatten)]
    pub server: Server,
    /// How to print what comes back
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

impl Server {
    pub fn connect(&self, options: Options) -> Result<Client, ClientError> {
        let request_timeout = Duration::from_secs(self.timeout);
        let options = Options {
            request_timeout,
            ..options
        };
        Client::connect_with(&self.server, options)
    }
}

/// Tells on standard error what failed.
pub(super) fn report_error(error: &ClientError) -> Exit {
    eprintln!("armilla: {}", explain(error));
    match error.may_have_happened() {
        true => Exit::Unknown,
        false => Exit::Failed,
    }
}

impl Node {
    /// Connects, runs `work`, and says on standard error what failed.
    pub fn with(&self, work: impl FnOnce(&Client) -> Result<Exit, ClientError>) -> Exit {
        let options = Options {
            // For one request the way over the port of all shards is the shortest.
            connections_max: 1,
            ..Options::default()
        };
        let done = self
            .server
            .connect(options)
            .and_then(|client| work(&client));
        done.unwrap_or_else(|error| report_error(&error))
    }

    pub fn report_written(&self, written: &Written) -> Exit {
        match self.output {
            Output::Text => print_all(b"ok\n"),
            Output::Json => {
                let mut object = Map::new();
                object.insert("ok".into(), Value::Bool(true));
                object.insert("context".into(), Value::String(base64(&written.context)));
                if let Some(receipt) = written.receipt {
                    object.insert("receipt".into(), receipt_json(receipt));
                }
                print_json(&Value::Object(object))
            }
        }
    }
}

pub(super) fn receipt_json(receipt: crate::wire::message::Receipt) -> Value {
    json!({
        "votes": receipt.votes,
        "needed": receipt.needed,
        "replicas": receipt.replicas,
        "strict": receipt.strict,
        "hints": receipt.hints,
    })
}

/// What failed, why, and what to do.
pub(super) fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { address, source } => {
            let why = match source.kind() {
                io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
                io::ErrorKind::TimedOut => "no answer in time".to_string(),
                _ => source.to_string(),
            };
            format!(
                "cannot reach a node at {address}: {why}; start one with 'armilla start' or pass --server ADDR:PORT"
            )
        }
        ClientError::Refused {
            status: Status::ContextRefused,
            ..
        } => format!(
            "{error}; a context is of one key: take the one that 'armilla get --output json KEY' prints for this key"
        ),
        ClientError::OutcomeUnknown(_) => {
            format!("{error}; look with 'armilla get KEY' before you repeat it")
        }
        ClientError::NoAnswer(_) => format!("{error}; nothing was changed, try again"),
        _ => error.to_string(),
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Of clap: a context as `base64` prints it.
pub(super) fn parse_context(text: &str) -> Result<Vec<u8>, String> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|error| {
        format!("not base64 ({error}); pass the context as 'armilla get' printed it")
    })?;
    if bytes.is_empty() {
        return Err("it is empty; --concurrent says that nothing was seen".to_string());
    }
    Ok(bytes)
}

pub(super) fn print_json(value: &Value) -> Exit {
    print_all(format!("{value}\n").as_bytes())
}

/// A reader that went away (`armilla get k | head -c 1`) is no failure; a full disk behind the pipe is one.
pub(super) fn print_all(bytes: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            eprintln!("armilla: cannot write to standard output: {error}");
            Exit::Failed
        }
    }
}
