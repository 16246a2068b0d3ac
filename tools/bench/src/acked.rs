//! The file of acknowledged puts, and what a later reader may expect.
//!
//! Text, one put a line, only ever appended:
//!
//! ```text
//! # armilla-bench acked 1
//! a <key number> <sequence> <value bytes> <checksum of the value, 16 hex digits>     acknowledged
//! u <key number> <sequence> <value bytes> <checksum of the value, 16 hex digits>     outcome unknown
//! ```
//!
//! Refused puts are not in it. A last line without its end is what a killed generator leaves; it is ignored, and
//! said so. A killed generator also loses the puts it had in flight, so verify after one that ended by itself.

use crate::workload::Sequence;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

const HEADER: &str = "# armilla-bench acked 1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    pub number: u64,
    pub sequence: Sequence,
    pub bytes: usize,
    pub checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked,
    Unknown,
}

/// The file, shared by the threads of a run.
pub struct Log {
    file: Mutex<File>,
}

impl Log {
    /// Opens or makes the file. One that is there must be of this format.
    pub fn open(path: &Path) -> Result<Log, String> {
        let cannot = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let existing = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(cannot(error)),
        };
        if !existing.is_empty() {
            Ledger::default()
                .add(&existing)
                .map_err(|why| format!("{}: {why}", path.display()))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(cannot)?;
        if existing.is_empty() {
            writeln!(file, "{HEADER}").map_err(cannot)?;
        } else if !existing.ends_with('\n') {
            // Cuts the torn line off from what follows; alone it is nothing that `add` accepts.
            writeln!(file, " torn").map_err(cannot)?;
        }
        Ok(Log {
            file: Mutex::new(file),
        })
    }

    /// Appends whole lines and empties the buffer.
    pub fn append(&self, lines: &mut String) -> io::Result<()> {
        if !lines.is_empty() {
            let mut file = self
                .file
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            file.write_all(lines.as_bytes())?;
            lines.clear();
        }
        Ok(())
    }
}

pub fn push_line(lines: &mut String, outcome: Outcome, put: Put) {
    let letter = match outcome {
        Outcome::Acked => 'a',
        Outcome::Unknown => 'u',
    };
    let Put {
        number,
        sequence,
        bytes,
        checksum,
    } = put;
    *lines += &format!("{letter} {number} {} {bytes} {checksum:016x}\n", sequence.0);
}

fn parse_line(line: &str) -> Option<(Outcome, Put)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [letter, number, sequence, bytes, checksum] = fields[..] else {
        return None;
    };
    let outcome = match letter {
        "a" => Outcome::Acked,
        "u" => Outcome::Unknown,
        _ => return None,
    };
    if checksum.len() != 16 {
        return None;
    }
    let put = Put {
        number: number.parse().ok()?,
        sequence: Sequence(sequence.parse().ok()?),
        bytes: bytes.parse().ok()?,
        checksum: u64::from_str_radix(checksum, 16).ok()?,
    };
    Some((outcome, put))
}

/// What one key may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    acked: Option<Put>,
    /// Issued after every acknowledged one.
    unknown: Vec<Put>,
}

/// How a read of one key compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last acknowledged value, or one issued later whose outcome is unknown.
    Good,
    /// Nothing is there, though a put was acknowledged.
    Missing,
    /// Something else is there.
    Differs,
}

impl Expected {
    fn add(&mut self, outcome: Outcome, put: Put) {
        match outcome {
            Outcome::Acked if self.acked.is_none_or(|acked| acked.sequence < put.sequence) => {
                self.acked = Some(put);
                self.unknown
                    .retain(|unknown| unknown.sequence > put.sequence);
            }
            Outcome::Unknown if self.acked.is_none_or(|acked| acked.sequence < put.sequence) => {
                self.unknown.push(put);
            }
            // Superseded by a later acknowledged put.
            Outcome::Acked | Outcome::Unknown => {}
        }
    }

    /// Judges the values of the siblings read, as (bytes, checksum).
    pub fn judge(&self, siblings: &[(usize, u64)]) -> Verdict {
        if siblings.is_empty() {
            return match self.acked {
                Some(_) => Verdict::Missing,
                None => Verdict::Good,
            };
        }
        let known = |value: &(usize, u64)| {
            let mut puts = self.acked.iter().chain(&self.unknown);
            puts.any(|put| (put.bytes, put.checksum) == *value)
        };
        match siblings.iter().all(known) {
            true => Verdict::Good,
            false => Verdict::Differs,
        }
    }
}

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub keys: BTreeMap<u64, Expected>,
    pub acked_puts: u64,
    pub unknown_puts: u64,
    pub torn_lines: u64,
}

impl Ledger {
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut lines = text.split_inclusive('\n').enumerate();
        if lines
            .next()
            .is_none_or(|(_, line)| line.trim_end() != HEADER)
        {
            return Err(format!(
                "not a file of acknowledged puts: it does not start with \"{HEADER}\""
            ));
        }
        for (index, line) in lines {
            let whole = line
                .strip_suffix('\n')
                .filter(|line| !line.ends_with(" torn"));
            let Some(line) = whole else {
                self.torn_lines += 1;
                continue;
            };
            let (outcome, put) = parse_line(line)
                .ok_or_else(|| format!("line {} is damaged: {line:?}", index + 1))?;
            match outcome {
                Outcome::Acked => self.acked_puts += 1,
                Outcome::Unknown => self.unknown_puts += 1,
            }
            self.keys.entry(put.number).or_default().add(outcome, put);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(number: u64, sequence: u64) -> Put {
        Put {
            number,
            sequence: Sequence(sequence),
            bytes: 10,
            checksum: sequence * 100 + number,
        }
    }

    fn ledger(puts: &[(Outcome, Put)]) -> Ledger {
        let mut text = format!("{HEADER}\n");
        for (outcome, put) in puts {
            push_line(&mut text, *outcome, *put);
        }
        let mut ledger = Ledger::default();
        ledger.add(&text).unwrap();
        ledger
    }

    #[test]
    fn the_last_acknowledged_put_counts_or_a_later_unknown_one() {
        use Outcome::{Acked, Unknown};
        let ledger = ledger(&[
            (Unknown, put(1, 1)),
            (Acked, put(1, 3)),
            (Acked, put(1, 2)),
            (Unknown, put(1, 4)),
            (Unknown, put(2, 5)),
        ]);
        let judge = |number: u64, sequences: &[u64]| {
            let values: Vec<(usize, u64)> = sequences
                .iter()
                .map(|s| (10, put(number, *s).checksum))
                .collect();
            ledger.keys[&number].judge(&values)
        };
        assert_eq!(judge(1, &[3]), Verdict::Good);
        assert_eq!(judge(1, &[4]), Verdict::Good, "unknown and later");
        assert_eq!(judge(1, &[3, 4]), Verdict::Good, "siblings");
        assert_eq!(judge(1, &[1]), Verdict::Differs, "unknown and earlier");
        assert_eq!(judge(1, &[2]), Verdict::Differs, "superseded");
        assert_eq!(judge(1, &[3, 9]), Verdict::Differs, "one sibling of nobody");
        assert_eq!(judge(1, &[]), Verdict::Missing);
        assert_eq!(judge(2, &[]), Verdict::Good, "it need not have happened");
        assert_eq!(judge(2, &[5]), Verdict::Good);
        assert_eq!(
            ledger.keys[&1].judge(&[(11, put(1, 3).checksum)]),
            Verdict::Differs
        );
        assert_eq!((ledger.acked_puts, ledger.unknown_puts), (2, 3));
    }

    #[test]
    fn torn_tails_are_ignored_and_damage_is_not() {
        let mut ledger = Ledger::default();
        ledger
            .add(&format!("{HEADER}\na 1 2 3 00000000000000ff\na 1 3 3 00"))
            .unwrap();
        assert_eq!((ledger.torn_lines, ledger.acked_puts), (1, 1));
        for bad in [
            "a 1 2 3\n",
            "x 1 2 3 00000000000000ff\n",
            "a 1 2 3 ff\n",
            "a 1 -2 3 00000000000000ff\n",
        ] {
            let text = format!("{HEADER}\n{bad}");
            assert!(
                Ledger::default().add(&text).unwrap_err().contains("line 2"),
                "{bad}"
            );
        }
        assert!(Ledger::default().add("city=Riga\n").is_err());
        assert!(Ledger::default().add("").is_err());
    }

    #[test]
    fn a_file_is_appended_to_over_a_torn_tail_and_foreign_files_are_refused() {
        let directory = std::env::temp_dir().join(format!("armilla-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("acked.log");
        let mut lines = String::new();
        for sequence in [1, 2] {
            let log = Log::open(&path).unwrap();
            push_line(&mut lines, Outcome::Acked, put(1, sequence));
            log.append(&mut lines).unwrap();
            assert!(lines.is_empty());
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"a 1 9 10 00000000000003").unwrap();
        }
        let mut ledger = Ledger::default();
        ledger
            .add(&std::fs::read_to_string(&path).unwrap())
            .unwrap();
        assert_eq!((ledger.acked_puts, ledger.torn_lines), (2, 2));
        assert_eq!(
            ledger.keys[&1].judge(&[(10, put(1, 2).checksum)]),
            Verdict::Good
        );
        let foreign = directory.join("notes");
        std::fs::write(&foreign, "mine").unwrap();
        assert!(Log::open(&foreign).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
