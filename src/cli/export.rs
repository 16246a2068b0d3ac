//! `armilla export`

use super::Exit;
use super::import::OnError;
use super::node::{Server, explain, report_error};
use super::progress::Progress;
use super::rows::{Format, Nth, Row};
use crate::client::{Client, ClientError, Found, Options, PageStart, Pending};
use clap::Args;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  armilla export all.ndjson                    everything, an object a line
  armilla export --format tsv - | sort >all.tsv
  armilla export - --format ndjson | gzip >all.ndjson.gz

Every key that is there all the while is exported once, with values that it had at one moment of the export; writes that
come meanwhile may be in it or not. A file has its name only when it is whole. A key with several values (siblings) is a
line for each, with \"sibling\" and \"siblings\"; 'armilla import' makes siblings of them again. TSV holds no such key,
nor keys with tabs or newlines, nor values with newlines: they are errors that name the key.
Exit codes: 0 everything is there, 2 usage, 3 something is not.";

/// How many keys are asked for at once; fewer if their values are large.
const KEYS_UNDER_WAY: usize = 512;
const BYTES_UNDER_WAY: usize = 64 << 20;

/// Write all keys and values to a file
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// The file, or '-' for standard output
    file: PathBuf,
    /// How rows are written [default: as the name of the file ends: .tsv, .ndjson or .jsonl]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What to do when a key cannot be exported
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    on_error: OnError,
    #[command(flatten)]
    server: Server,
}

/// Why an export ends before its time.
enum Ended {
    Client(ClientError),
    Write(io::Error),
    /// It has been said why.
    Stopped,
}

impl Export {
    pub fn run(self) -> Exit {
        let format = match Format::of(self.format, &self.file) {
            Ok(format) => format,
            Err(why) => {
                eprintln!("armilla: {why}");
                return Exit::Usage;
            }
        };
        let options = Options {
            tries_max: u32::MAX,
            ..Options::default()
        };
        let client = match self.server.connect(options) {
            Ok(client) => client,
            Err(error) => return report_error(&error),
        };
        let name = self.file.display();
        let out = match Out::create(&self.file) {
            Ok(out) => out,
            Err(why) => {
                eprintln!("armilla: cannot write {name}: {why}; nothing was exported");
                return Exit::Failed;
            }
        };
        let mut exporter = Exporter {
            client,
            format,
            on_error: self.on_error,
            progress: Progress::new("exported", Some(u64::MAX)),
            out,
            line: Vec::new(),
            failed: 0,
        };
        let ended = exporter
            .run()
            .and_then(|()| exporter.out.finish().map_err(Ended::Write));
        let summary = exporter.progress.finish();
        eprintln!("{summary}");
        match ended {
            Ok(()) if exporter.failed == 0 => return Exit::Done,
            Ok(()) => eprintln!("armilla: {} keys are not in {name}", exporter.failed),
            Err(Ended::Stopped) => eprintln!("armilla: the export is not whole"),
            Err(Ended::Write(why)) => {
                eprintln!("armilla: cannot write {name}: {why}; the export is not whole")
            }
            Err(Ended::Client(error)) => {
                eprintln!("armilla: {}; the export is not whole", explain(&error))
            }
        }
        Exit::Failed
    }
}

struct Exporter {
    client: Client,
    format: Format,
    on_error: OnError,
    progress: Progress,
    out: Out,
    line: Vec<u8>,
    failed: u64,
}

impl Exporter {
    fn run(&mut self) -> Result<(), Ended> {
        let mut next = Some(PageStart::default());
        let mut listed: VecDeque<Vec<u8>> = VecDeque::new();
        let mut under_way: VecDeque<(Vec<u8>, Pending<Found>)> = VecDeque::new();
        // Of one key, as far as is known; it begins with few.
        let mut bytes = BYTES_UNDER_WAY / 16;
        loop {
            let most = (BYTES_UNDER_WAY / bytes).clamp(1, KEYS_UNDER_WAY);
            while under_way.len() < most {
                if listed.is_empty()
                    && let Some(from) = next.take()
                {
                    self.progress.show(from.position);
                    let page = self
                        .client
                        .begin_keys(&from)
                        .wait()
                        .map_err(Ended::Client)?;
                    listed.extend(page.keys);
                    next = page.next;
                }
                let Some(key) = listed.pop_front() else {
                    break;
                };
                let get = self.client.begin_get(&key);
                under_way.push_back((key, get));
            }
            match under_way.pop_front() {
                Some((key, get)) => {
                    let written = self.write(key, get.wait())?;
                    bytes = written.max(bytes * 7 / 8).max(1);
                }
                // A page may be empty and not the last.
                None if next.is_some() => {}
                None => return Ok(()),
            }
        }
    }

    /// Writes the rows of a key; how many bytes they are.
    fn write(&mut self, key: Vec<u8>, found: Result<Found, ClientError>) -> Result<usize, Ended> {
        let found = match found {
            Ok(found) => found,
            Err(error @ (ClientError::Refused { .. } | ClientError::NoAnswer(_))) => {
                self.fail(&key, &explain(&error))?;
                return Ok(0);
            }
            Err(error) => return Err(Ended::Client(error)),
        };
        self.line.clear();
        let of = found.siblings.len() as u32;
        let mut bytes = 0;
        for (sibling, number) in found.siblings.into_iter().zip(1..) {
            if sibling.lost {
                self.fail(&key, "a value of it cannot be read")?;
                return Ok(0);
            }
            let sibling_bytes = key.len() + sibling.value.len();
            let row = Row {
                key: key.clone(),
                value: sibling.value,
                sibling: Nth { number, of },
            };
            if let Err(why) = row.write(self.format, &mut self.line) {
                self.fail(&key, &why)?;
                return Ok(0);
            }
            bytes += sibling_bytes;
            self.progress.row(sibling_bytes);
        }
        self.out.write(&self.line).map_err(Ended::Write)?;
        Ok(bytes)
    }

    fn fail(&mut self, key: &[u8], why: &str) -> Result<(), Ended> {
        self.failed += 1;
        self.progress
            .say(&format!("armilla: key '{}': {why}", key.escape_ascii()));
        match self.on_error {
            OnError::Stop => Err(Ended::Stopped),
            OnError::Skip => Ok(()),
        }
    }
}

/// Where the rows go. A file has another name until it is whole.
struct Out {
    writer: BufWriter<Box<dyn Write>>,
    /// The file itself, its name for now, and its name in the end.
    file: Option<(File, PathBuf, PathBuf)>,
}

impl Out {
    fn create(file: &Path) -> io::Result<Out> {
        const BUFFER_BYTES: usize = 256 << 10;
        let buffered = |out: Box<dyn Write>| BufWriter::with_capacity(BUFFER_BYTES, out);
        if file == Path::new("-") {
            let writer = buffered(Box::new(io::stdout()));
            return Ok(Out { writer, file: None });
        }
        // A pipe or a device is what it is.
        if std::fs::metadata(file).is_ok_and(|about| !about.is_file()) {
            let writer = buffered(Box::new(File::options().write(true).open(file)?));
            return Ok(Out { writer, file: None });
        }
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let made = File::create(&part)?;
        let writer = buffered(Box::new(made.try_clone()?));
        let file = Some((made, part, file.to_owned()));
        Ok(Out { writer, file })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        if let Some((file, part, name)) = self.file.take() {
            file.sync_all()?;
            std::fs::rename(part, name)?;
        }
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some((_, part, _)) = &self.file {
            let _ = std::fs::remove_file(part);
        }
    }
}
