//! `armilla inspect`

mod file;
mod log;
mod manifest;
mod table;

use super::Exit;
use super::node::{Output, print_all};
use crate::causal::dot::Dot;
use crate::engine::inspect::{Flaw, NotRead};
use clap::{Args, Subcommand};
use file::Contents;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  armilla inspect log armilla-data/log/0000000000.segment
  armilla inspect log armilla-data/log/0000000000.segment --records | less
  armilla inspect table armilla-data/table/0000000000.table --entries --output json | jq 'select(.kind == \"entry\")'
  armilla inspect manifest armilla-data/shard-000.manifest-1

Reads one file and writes nothing: a node may run on it, and it may be a copy that lies anywhere. What is damaged is
told with its place, and the rest is shown. --output json prints an object a line; its 'kind' says what it is of.
Exit codes: 0 all of it is whole, 3 it cannot be read at all, 5 something in it is damaged.";

/// Tell what is in a file of a data directory, and whether it is whole
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A segment of the log: groups, and with --records what is in them
    Log {
        #[command(flatten)]
        file: OneFile,
        /// Show each record
        #[arg(long)]
        records: bool,
    },
    /// An index table: its parts, and with --entries the keys
    Table {
        #[command(flatten)]
        file: OneFile,
        /// Show each entry
        #[arg(long)]
        entries: bool,
    },
    /// A manifest: what was noted in it, and what that comes to
    Manifest {
        #[command(flatten)]
        file: OneFile,
    },
}

#[derive(Args)]
struct OneFile {
    path: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Inspect {
    pub fn run(self) -> Exit {
        let (What::Log { file, .. } | What::Table { file, .. } | What::Manifest { file }) =
            &self.what;
        let contents = match Contents::read(&file.path) {
            Ok(contents) => contents,
            Err(error) => {
                eprintln!("armilla: cannot read {}: {error}", file.path.display());
                return Exit::Failed;
            }
        };
        let mut printer = Printer::new(file.output);
        for flaw in &contents.unreadable {
            printer.flaw(flaw);
        }
        let shown = match &self.what {
            What::Log { file, records } => log::show(&file.path, &contents, *records, &mut printer),
            What::Table { file, entries } => {
                table::show(&file.path, &contents, *entries, &mut printer)
            }
            What::Manifest { .. } => manifest::show(&contents, &mut printer),
        };
        printer.end(&file.path, shown)
    }
}

/// Gathers lines, so that few writes are made, and remembers whether something is damaged.
struct Printer {
    output: Output,
    waiting: String,
    flaws: u64,
    exit: Exit,
}

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 64 * 1024;

impl Printer {
    fn new(output: Output) -> Printer {
        Printer {
            output,
            waiting: String::new(),
            flaws: 0,
            exit: Exit::Done,
        }
    }

    /// One of both, as the user wishes.
    fn show(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) {
        self.waiting += &match self.output {
            Output::Text => text(),
            Output::Json => json().to_string(),
        };
        self.waiting.push('\n');
        if self.waiting.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.exit == Exit::Done {
            self.exit = print_all(self.waiting.as_bytes());
        }
        self.waiting.clear();
    }

    fn flaw(&mut self, flaw: &Flaw) {
        self.flaws += 1;
        let Flaw {
            offset,
            bytes,
            what,
        } = flaw;
        self.show(
            || format!("DAMAGED at byte {offset}, {bytes} bytes: {what}"),
            || json!({ "kind": "damage", "offset": offset, "bytes": bytes, "what": what }),
        );
    }

    fn end(mut self, path: &Path, shown: Result<(), NotRead>) -> Exit {
        self.flush();
        if let Err(not_read) = shown {
            eprintln!("armilla: {}: {not_read}", path.display());
            return match not_read {
                NotRead::OtherFormat { .. } => Exit::Failed,
                NotRead::Foreign(_) => Exit::Damaged,
            };
        }
        match (self.exit, self.flaws) {
            (Exit::Done, 0) => Exit::Done,
            (Exit::Done, _) => Exit::Damaged,
            (failed, _) => failed,
        }
    }
}

/// Incarnation, birth, counter.
fn dot(dot: Dot) -> String {
    let actor = dot.actor;
    format!(
        "{:016x}.{}.{}",
        actor.incarnation.0, actor.birth, dot.counter
    )
}

/// Bytes of a user for eyes.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("base64 {}", super::node::base64(bytes)),
    }
}

/// Bytes of a user for programs: as text under the name, or under `name_base64`.
fn put_bytes(into: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => into.insert(name.to_owned(), text.into()),
        Err(_) => into.insert(format!("{name}_base64"), super::node::base64(bytes).into()),
    };
}

/// The number in the name of a file, if this program would have named it so.
fn number(path: &Path, parse: impl Fn(&str) -> Option<u32>) -> Option<u32> {
    parse(path.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_users_are_text_where_they_are() {
        assert_eq!(readable(b"a\nb"), "\"a\\nb\"");
        assert_eq!(readable(&[0xff, 0]), "base64 /wA=");
        let mut json = Map::new();
        put_bytes(&mut json, "key", b"city");
        put_bytes(&mut json, "bucket", &[0xff, 0]);
        assert_eq!(
            Value::Object(json),
            json!({ "key": "city", "bucket_base64": "/wA=" })
        );
    }

    #[test]
    fn damage_is_an_exit_code() {
        let flaw = Flaw {
            offset: 4096,
            bytes: 1,
            what: "x".into(),
        };
        let path = Path::new("file");
        let mut printer = Printer::new(Output::Text);
        printer.flaw(&flaw);
        assert_eq!(printer.end(path, Ok(())), Exit::Damaged);
        let end = |shown| Printer::new(Output::Text).end(path, shown);
        assert_eq!(end(Ok(())), Exit::Done);
        assert_eq!(end(Err(NotRead::Foreign("no table"))), Exit::Damaged);
        assert_eq!(
            end(Err(NotRead::OtherFormat { found: 9, known: 1 })),
            Exit::Failed
        );
    }
}
