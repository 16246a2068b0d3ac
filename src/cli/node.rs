//! What the verbs that talk to a node share: where it is, how they print, how they fail.

use super::Exit;
use crate::base::limits::REPLICAS_MAX;
use crate::client::{self, Client, ClientError, Options, Receipt, Written};
use crate::wire::message::Status;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::io::{self, Write as _};
use std::time::Duration;

/// Where --timeout does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

#[derive(Args)]
pub(super) struct Server {
    /// Where a node listens; of several with commas between them, the first that can be reached is asked
    #[arg(
        long,
        env = "ARMILLA_SERVER",
        default_value = "127.0.0.1:7700",
        value_name = "ADDR:PORT,.."
    )]
    pub server: String,
    /// Give up after so long (500ms, 10s, 2m; a bare number is seconds): a write is then of unknown outcome [default:
    /// 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
}

/// From how many replicas a read comes.
#[derive(Args)]
pub(super) struct Read {
    /// So many replicas must answer [default: a majority of them]
    #[arg(long = "r", value_name = "N", value_parser = quorum())]
    r: Option<u8>,
    /// Count the replicas of the key only, no node that stands in for one
    #[arg(long)]
    strict: bool,
    /// Tell on standard error how many replicas answered
    #[arg(short, long)]
    verbose: bool,
}

/// How many replicas a write is on.
#[derive(Args)]
pub(super) struct Write {
    /// So many replicas must hold it durably [default: a majority of them]
    #[arg(long = "w", value_name = "N", value_parser = quorum())]
    w: Option<u8>,
    /// So many replicas must tell what they hold, where the write asks what it supersedes: without --context [default:
    /// a majority of them]
    #[arg(long = "r", value_name = "N", value_parser = quorum())]
    r: Option<u8>,
    /// Count the replicas of the key only, no node that stands in for one
    #[arg(long)]
    strict: bool,
    /// Tell on standard error how many replicas hold it
    #[arg(short, long)]
    verbose: bool,
}

fn quorum() -> impl clap::builder::TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(1..=i64::from(REPLICAS_MAX))
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
        let options = Options {
            request_timeout: self.timeout.unwrap_or(TIMEOUT),
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

    /// A read as the flags say.
    pub fn read(&self, read: &Read) -> client::Get {
        let mut how = client::Get::default().read_quorum(read.r.unwrap_or(0));
        if read.strict {
            how = how.strict();
        }
        match self.server.timeout {
            Some(timeout) => how.timeout(timeout),
            None => how,
        }
    }

    /// `how`, on as many replicas and as soon as the flags say.
    pub fn write(&self, how: client::Put, write: &Write) -> client::Put {
        let (r, w) = (write.r.unwrap_or(0), write.w.unwrap_or(0));
        let mut how = how.read_quorum(r).write_quorum(w);
        if write.strict {
            how = how.strict();
        }
        match self.server.timeout {
            Some(timeout) => how.timeout(timeout),
            None => how,
        }
    }

    pub fn report_written(&self, written: &Written, write: &Write) -> Exit {
        if write.verbose {
            tell_receipt(written.receipt, "hold it");
        }
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

/// For eyes, on standard error.
fn tell_receipt(receipt: Option<Receipt>, did: &str) {
    match receipt {
        Some(receipt) => eprintln!("{}", receipt_line(receipt, did)),
        None => eprintln!("the node does not tell how many replicas {did}"),
    }
}

fn receipt_line(receipt: Receipt, did: &str) -> String {
    let Receipt {
        votes,
        needed,
        replicas,
        ..
    } = receipt;
    let strict = match receipt.strict {
        true => "strict",
        false => "sloppy: a stand-in voted too",
    };
    let hints = match receipt.hints {
        0 => String::new(),
        hints => format!("; stand-ins hold {hints} for replicas that did not answer"),
    };
    format!("{votes} of {replicas} replicas {did} ({needed} needed), {strict}{hints}")
}

impl Read {
    pub fn tell(&self, receipt: Option<Receipt>) {
        if self.verbose {
            tell_receipt(receipt, "answered");
        }
    }
}

pub(super) fn receipt_json(receipt: Receipt) -> Value {
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

/// Of clap: `humantime`'s durations; a bare number is seconds.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a duration: 500ms, 10s, 2m".to_owned())?,
    };
    match (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&timeout) {
        true => Ok(timeout),
        false => Err("write 1ms to 1h".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_units_and_bounds() {
        let parsed = [
            ("10", 10_000),
            ("500ms", 500),
            ("1s 500ms", 1500),
            ("1h", 3_600_000),
        ];
        for (text, millis) in parsed {
            assert_eq!(
                parse_timeout(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in ["", "0", "0s", "-1", "1us", "2h", "soon"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_receipt_is_a_line() {
        let receipt = Receipt {
            votes: 2,
            needed: 2,
            replicas: 3,
            strict: true,
            hints: 0,
        };
        let line = receipt_line(receipt, "hold it");
        assert_eq!(line, "2 of 3 replicas hold it (2 needed), strict");
        let sloppy = Receipt {
            strict: false,
            hints: 1,
            ..receipt
        };
        let line = receipt_line(sloppy, "hold it");
        assert!(
            line.ends_with("voted too; stand-ins hold 1 for replicas that did not answer"),
            "{line}"
        );
    }
}
