//! `armilla import`

use super::Exit;
use super::node::{Server, explain, report_error};
use super::progress::Progress;
use super::rows::{Format, LINE_BYTES_MAX, Nth, Row};
use crate::client::{Client, ClientError, OnUnknown, Options, Pending, Put, Written};
use clap::{Args, ValueEnum};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  armilla import cities.tsv                          key, tab, value: a row a line
  armilla import cities.ndjson                       {\"key\":\"city\",\"value\":\"Riga\"} a line
  dpkg-query -W -f '${Package}\\t${Version}\\n' | armilla import --format tsv -
  armilla import big.ndjson --on-error skip 2>bad    go on behind rows that fail

A row supersedes what its key holds, so the same file may be imported again, after an error too: the store is then the
same. Of several rows with one key the last one stays. Rows of NDJSON have \"key\" or \"key_base64\", \"value\" or
\"value_base64\", and where a key has several values \"sibling\" (1, 2, ..) and \"siblings\" (how many), in order.
Exit codes: 0 every row is durable, 2 usage, 3 rows failed, 4 rows are of unknown outcome: import again.";

/// Bytes of rows that are under way at once, and how many.
const BYTES_UNDER_WAY: usize = 64 << 20;
const ROWS_UNDER_WAY: usize = 512;

/// Store the rows of a file
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Import {
    /// The file, or '-' for standard input
    file: PathBuf,
    /// How rows are written [default: as the name of the file ends: .tsv, .ndjson or .jsonl]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What to do when a row fails
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    on_error: OnError,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    /// End; what was begun is finished
    Stop,
    /// Go on with the next one; the exit code still tells
    Skip,
}

impl Import {
    pub fn run(self) -> Exit {
        let format = match Format::of(self.format, &self.file) {
            Ok(format) => format,
            Err(why) => {
                eprintln!("armilla: {why}");
                return Exit::Usage;
            }
        };
        let name = self.file.display().to_string();
        let (source, bytes) = match open(&self.file) {
            Ok(source) => source,
            Err(why) => {
                eprintln!("armilla: cannot read {name}: {why}; nothing was imported");
                return Exit::Failed;
            }
        };
        let options = Options {
            // A row that is written twice is the same row: whoever imports into a key means to be its writer.
            on_unknown: OnUnknown::Repeat,
            tries_max: u32::MAX,
            ..Options::default()
        };
        let client = match self.server.connect(options) {
            Ok(client) => client,
            Err(error) => return report_error(&error),
        };
        let mut importer = Importer {
            client,
            format,
            name,
            on_error: self.on_error,
            progress: Progress::new("imported", bytes),
            under_way: VecDeque::new(),
            bytes: 0,
            keys: BTreeSet::new(),
            last: None,
            failed: 0,
            unknown: 0,
            stopped: false,
        };
        importer.run(source);
        importer.report()
    }
}

/// The source, and its length if it has one.
fn open(file: &Path) -> io::Result<(Box<dyn BufRead>, Option<u64>)> {
    const BUFFER_BYTES: usize = 256 << 10;
    if file == Path::new("-") {
        let stdin = BufReader::with_capacity(BUFFER_BYTES, io::stdin());
        return Ok((Box::new(stdin), None));
    }
    let source = File::open(file)?;
    let about = source.metadata()?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let bytes = about.is_file().then_some(about.len());
    Ok((
        Box::new(BufReader::with_capacity(BUFFER_BYTES, source)),
        bytes,
    ))
}

/// Failures that are told one by one when the first of them ends the import.
const FAILURES_SAID: u64 = 10;

struct UnderWay {
    line: u64,
    key: Vec<u8>,
    bytes: usize,
    write: Pending<Written>,
}

struct Importer {
    client: Client,
    format: Format,
    name: String,
    on_error: OnError,
    progress: Progress,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    /// Of what is under way: rows of one key are written one after another, in the order of the file.
    keys: BTreeSet<Vec<u8>>,
    /// The row before, unless it failed.
    last: Option<(Vec<u8>, Nth)>,
    failed: u64,
    unknown: u64,
    stopped: bool,
}

impl Importer {
    fn run(&mut self, mut source: Box<dyn BufRead>) {
        let (mut line, mut number, mut read) = (Vec::new(), 0, 0);
        while !self.stopped {
            line.clear();
            number += 1;
            let most = LINE_BYTES_MAX as u64 + 1;
            match source.by_ref().take(most).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(len) => read += len as u64,
                Err(why) => {
                    self.stopped = true;
                    self.fail(number, &format!("cannot read on: {why}"));
                    break;
                }
            }
            let row = match line.strip_suffix(b"\n") {
                Some(line) => Row::parse(self.format, line),
                None if line.len() <= LINE_BYTES_MAX => Row::parse(self.format, &line),
                None => {
                    read += skip_line(&mut source);
                    Err(format!(
                        "a line of more than {LINE_BYTES_MAX} bytes is no row"
                    ))
                }
            };
            match row.and_then(|row| self.in_order(row)) {
                Ok(row) => self.begin(number, row),
                Err(why) => {
                    self.last = None;
                    self.fail(number, &why);
                }
            }
            self.progress.show(read);
        }
        while self.finish_one() {}
    }

    /// Siblings of a key supersede nothing but for the first, so they make sense in their order only.
    fn in_order(&self, row: Row) -> Result<Row, String> {
        let Nth { number, of } = row.sibling;
        let before = self.last.as_ref();
        let follows = before
            .is_some_and(|(key, nth)| *key == row.key && nth.of == of && nth.number + 1 == number);
        match number == 1 || follows {
            true => Ok(row),
            false => Err(format!(
                "sibling {number} of {of} does not follow sibling {} of the same key: keep the lines in the order of \
                 the export",
                number - 1
            )),
        }
    }

    fn begin(&mut self, line: u64, row: Row) {
        let bytes = row.key.len() + row.value.len();
        while self.under_way.len() >= ROWS_UNDER_WAY
            || self.bytes + bytes > BYTES_UNDER_WAY && !self.under_way.is_empty()
            || self.keys.contains(&row.key)
        {
            self.finish_one();
        }
        if self.stopped {
            return;
        }
        let how = match row.sibling.number {
            1 => Put::default(),
            _ => Put::concurrent(),
        };
        let write = self.client.begin_put(&row.key, &row.value, &how);
        self.bytes += bytes;
        self.keys.insert(row.key.clone());
        self.last = Some((row.key.clone(), row.sibling));
        self.under_way.push_back(UnderWay {
            line,
            key: row.key,
            bytes,
            write,
        });
    }

    /// Waits for the oldest row under way; false: there is none.
    fn finish_one(&mut self) -> bool {
        let Some(UnderWay {
            line,
            key,
            bytes,
            write,
        }) = self.under_way.pop_front()
        else {
            return false;
        };
        self.bytes -= bytes;
        self.keys.remove(&key);
        match write.wait() {
            Ok(_) => self.progress.row(bytes),
            Err(error) => {
                if self.last.as_ref().is_some_and(|(last, _)| *last == key) {
                    self.last = None;
                }
                self.unknown += u64::from(error.may_have_happened());
                let why = match &error {
                    ClientError::OutcomeUnknown(_) => format!("{error}; import the file again"),
                    _ => explain(&error),
                };
                self.fail(line, &why);
            }
        }
        true
    }

    fn fail(&mut self, line: u64, why: &str) {
        self.failed += 1;
        self.stopped |= self.on_error == OnError::Stop;
        // Once one has ended it, the rows under way fail for the same reason: thousands of lines would say no more.
        match self.failed {
            said if said <= FAILURES_SAID || self.on_error == OnError::Skip => {
                self.progress.say(&format!("{}:{line}: {why}", self.name));
            }
            said if said == FAILURES_SAID + 1 => self.progress.say("further rows are counted only"),
            _ => {}
        }
    }

    fn report(mut self) -> Exit {
        println!("{}", self.progress.finish());
        if self.failed == 0 {
            return Exit::Done;
        }
        let then = match self.stopped {
            true => {
                "rows behind the last one named may be missing; correct them and import the file again"
            }
            false => "all others are durable; correct these and import the file again",
        };
        eprintln!(
            "armilla: {} rows failed, {} of them of unknown outcome: {then}",
            self.failed, self.unknown
        );
        match self.unknown {
            0 => Exit::Failed,
            _ => Exit::Unknown,
        }
    }
}

/// Reads on to the end of a line; how many bytes that were.
fn skip_line(source: &mut Box<dyn BufRead>) -> u64 {
    let mut skipped = 0;
    loop {
        // An error comes again with the next line.
        let Ok(bytes) = source.fill_buf() else {
            return skipped;
        };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let len = end.map_or(bytes.len(), |end| end + 1);
        source.consume(len);
        skipped += len as u64;
        if end.is_some() || len == 0 {
            return skipped;
        }
    }
}
