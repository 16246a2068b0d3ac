//! The file of acknowledged puts, and what a later reader may expect.
//!
//! Text, one put a line, only ever appended:
//!
//! ```text
//! # armilla-bench acked 2 <hashed|ordered> <zero padding> <bucket>
//! a <key number> <from> <until> <value bytes> <checksum of the value, 16 hex digits>     acknowledged
//! u <key number> <from> -       <value bytes> <checksum of the value, 16 hex digits>     outcome unknown
//! ```
//!
//! `from` and `until` are sequences: which put it is, and the first put that began after this one was acknowledged.
//! So a later put supersedes this one for certain if its `from` is not below this one's `until`; else the two
//! overlapped, and either may be what the key holds. A put of unknown outcome may land whenever.
//!
//! Refused puts are not in it. A last line without its end is what a killed generator leaves; it is ignored, and
//! said so. A killed generator also loses the puts it had in flight, so verify after one that ended by itself.

use crate::record::Sequence;
use crate::ycsb::key::KeyNames;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

const HEADER: &str = "# armilla-bench acked 2";

/// What the keys of a file are called: the same in all files that are verified together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    pub keys: KeyNames,
    pub bucket: Vec<u8>,
}

impl Naming {
    fn header(&self) -> String {
        let order = if self.keys.hashed {
            "hashed"
        } else {
            "ordered"
        };
        let bucket = String::from_utf8_lossy(&self.bucket);
        format!("{HEADER} {order} {} {bucket}", self.keys.zero_padding)
    }

    fn parse(line: &str) -> Option<Naming> {
        let mut fields = line.strip_prefix(HEADER)?.strip_prefix(' ')?.splitn(3, ' ');
        let hashed = match fields.next()? {
            "hashed" => true,
            "ordered" => false,
            _ => return None,
        };
        let zero_padding = fields.next()?.parse().ok()?;
        let bucket = fields.next()?.as_bytes().to_vec();
        Some(Naming {
            keys: KeyNames {
                hashed,
                zero_padding,
            },
            bucket,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    pub number: u64,
    pub from: Sequence,
    /// `None`: of unknown outcome.
    pub until: Option<Sequence>,
    pub bytes: usize,
    pub checksum: u64,
}

/// The file, shared by the threads of a run.
pub struct Log {
    file: Mutex<File>,
}

impl Log {
    /// Opens or makes the file. One that is there must be of this format.
    pub fn open(path: &Path, naming: &Naming) -> Result<Log, String> {
        let cannot = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let existing = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(cannot(error)),
        };
        if !existing.is_empty() {
            let mut ledger = Ledger {
                naming: Some(naming.clone()),
                ..Ledger::default()
            };
            ledger
                .add(&existing)
                .map_err(|why| format!("{}: {why}", path.display()))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(cannot)?;
        if existing.is_empty() {
            writeln!(file, "{}", naming.header()).map_err(cannot)?;
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

pub fn push_line(lines: &mut String, put: Put) {
    let Put {
        number,
        from,
        bytes,
        checksum,
        ..
    } = put;
    // Writing to a string does not fail.
    let _ = match put.until {
        Some(until) => {
            writeln!(
                lines,
                "a {number} {} {} {bytes} {checksum:016x}",
                from.0, until.0
            )
        }
        None => writeln!(lines, "u {number} {} - {bytes} {checksum:016x}", from.0),
    };
}

fn parse_line(line: &str) -> Option<Put> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [letter, number, from, until, bytes, checksum] = fields[..] else {
        return None;
    };
    let until = match (letter, until) {
        ("a", until) => Some(Sequence(until.parse().ok()?)),
        ("u", "-") => None,
        _ => return None,
    };
    if checksum.len() != 16 {
        return None;
    }
    Some(Put {
        number: number.parse().ok()?,
        from: Sequence(from.parse().ok()?),
        until,
        bytes: bytes.parse().ok()?,
        checksum: u64::from_str_radix(checksum, 16).ok()?,
    })
}

/// What one key may hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The greatest `from` of the acknowledged ones.
    newest: Option<Sequence>,
    /// Those that no acknowledged one supersedes for certain.
    puts: Vec<Put>,
}

/// How a read of one key compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Values that no put is known to have superseded.
    Good,
    /// Nothing is there, though a put was acknowledged.
    Missing,
    /// Something else is there.
    Differs,
}

impl Expected {
    fn add(&mut self, put: Put) {
        if put.until.is_some() {
            self.newest = self.newest.max(Some(put.from));
        }
        self.puts.push(put);
        let newest = self.newest;
        let superseded = |put: &Put| put.until.is_some_and(|until| Some(until) <= newest);
        self.puts.retain(|put| !superseded(put));
    }

    /// Judges the values of the siblings read, as (bytes, checksum).
    pub fn judge(&self, siblings: &[(usize, u64)]) -> Verdict {
        if siblings.is_empty() {
            return match self.newest {
                Some(_) => Verdict::Missing,
                None => Verdict::Good,
            };
        }
        let known = |value: &(usize, u64)| {
            let mut puts = self.puts.iter();
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
    pub naming: Option<Naming>,
    pub keys: BTreeMap<u64, Expected>,
    pub acked_puts: u64,
    pub unknown_puts: u64,
    pub torn_lines: u64,
}

impl Ledger {
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let mut lines = text.split_inclusive('\n').enumerate();
        let first = lines.next().map_or("", |(_, line)| line);
        let naming = Naming::parse(first.trim_end_matches('\n')).ok_or_else(|| {
            format!("not a file of acknowledged puts: it does not start with \"{HEADER} ..\"")
        })?;
        match &self.naming {
            Some(other) if *other != naming => {
                return Err(
                    "its keys are named otherwise (insertorder, zeropadding, table)".into(),
                );
            }
            Some(_) | None => self.naming = Some(naming),
        }
        for (index, line) in lines {
            let whole = line
                .strip_suffix('\n')
                .filter(|line| !line.ends_with(" torn"));
            let Some(line) = whole else {
                self.torn_lines += 1;
                continue;
            };
            let put = parse_line(line)
                .ok_or_else(|| format!("line {} is damaged: {line:?}", index + 1))?;
            match put.until {
                Some(_) => self.acked_puts += 1,
                None => self.unknown_puts += 1,
            }
            self.keys.entry(put.number).or_default().add(put);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming() -> Naming {
        Naming {
            keys: KeyNames::default(),
            bucket: b"my table".to_vec(),
        }
    }

    fn put(number: u64, from: u64, until: u64) -> Put {
        Put {
            number,
            from: Sequence(from),
            until: (until > 0).then_some(Sequence(until)),
            bytes: 10,
            checksum: from * 100 + number,
        }
    }

    fn ledger(puts: &[Put]) -> Ledger {
        let mut text = naming().header() + "\n";
        for put in puts {
            push_line(&mut text, *put);
        }
        let mut ledger = Ledger::default();
        ledger.add(&text).unwrap();
        ledger
    }

    #[test]
    fn what_is_not_superseded_for_certain_may_be_there() {
        // Of key 1: 1 of unknown outcome; then 2 and 3 together; then 4 alone; then 5 and 6 together.
        let puts = [
            put(1, 1, 0),
            put(1, 3, 4),
            put(1, 2, 4),
            put(1, 4, 5),
            put(2, 9, 0),
        ];
        let judge = |ledger: &Ledger, number: u64, from: &[u64]| {
            let checksum = |from: &u64| (10, from * 100 + number);
            ledger.keys[&number].judge(&from.iter().map(checksum).collect::<Vec<_>>())
        };
        let early = ledger(&puts);
        assert_eq!(judge(&early, 1, &[4]), Verdict::Good);
        assert_eq!(
            judge(&early, 1, &[1]),
            Verdict::Good,
            "it may have landed late"
        );
        assert_eq!(judge(&early, 1, &[1, 4]), Verdict::Good, "siblings");
        assert_eq!(judge(&early, 1, &[3]), Verdict::Differs, "superseded");
        assert_eq!(judge(&early, 1, &[4, 8]), Verdict::Differs, "one of nobody");
        assert_eq!(judge(&early, 1, &[]), Verdict::Missing);
        assert_eq!(
            judge(&early, 2, &[]),
            Verdict::Good,
            "it need not have happened"
        );
        assert_eq!(judge(&early, 2, &[9]), Verdict::Good);
        assert_eq!((early.acked_puts, early.unknown_puts), (3, 2));
        assert_eq!(early.keys[&1].judge(&[(11, 401)]), Verdict::Differs);
        let late = ledger(&[&puts[..], &[put(1, 6, 7), put(1, 5, 7)]].concat());
        assert_eq!(judge(&late, 1, &[5]), Verdict::Good, "they overlapped");
        assert_eq!(judge(&late, 1, &[6]), Verdict::Good);
        assert_eq!(judge(&late, 1, &[4]), Verdict::Differs);
    }

    #[test]
    fn torn_tails_are_ignored_and_damage_is_not() {
        let header = naming().header();
        let mut ledger = Ledger::default();
        ledger
            .add(&format!(
                "{header}\na 1 2 3 3 00000000000000ff\na 1 3 4 3 00"
            ))
            .unwrap();
        assert_eq!((ledger.torn_lines, ledger.acked_puts), (1, 1));
        assert_eq!(ledger.naming, Some(naming()));
        for bad in [
            "a 1 2 3 3\n",
            "x 1 2 3 3 00000000000000ff\n",
            "a 1 2 3 3 ff\n",
            "a 1 2 - 3 00000000000000ff\n",
            "a 1 -2 3 3 00000000000000ff\n",
        ] {
            let why = Ledger::default().add(&format!("{header}\n{bad}"));
            assert!(why.unwrap_err().contains("line 2"), "{bad}");
        }
        assert!(Ledger::default().add("city=Riga\n").is_err());
        assert!(Ledger::default().add("").is_err());
        let ordered = format!("{HEADER} ordered 1 \n");
        assert!(
            ledger
                .add(&ordered)
                .unwrap_err()
                .contains("named otherwise")
        );
    }

    #[test]
    fn a_file_is_appended_to_over_a_torn_tail_and_foreign_files_are_refused() {
        let directory = std::env::temp_dir().join(format!("armilla-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("acked.log");
        let mut lines = String::new();
        for from in [1, 2] {
            let log = Log::open(&path, &naming()).unwrap();
            push_line(&mut lines, put(1, from, from + 1));
            log.append(&mut lines).unwrap();
            assert!(lines.is_empty());
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"a 1 9 10 10 00000000000003").unwrap();
        }
        let mut ledger = Ledger::default();
        ledger
            .add(&std::fs::read_to_string(&path).unwrap())
            .unwrap();
        assert_eq!((ledger.acked_puts, ledger.torn_lines), (2, 2));
        assert_eq!(ledger.keys[&1].judge(&[(10, 201)]), Verdict::Good);
        let foreign = directory.join("notes");
        std::fs::write(&foreign, "mine").unwrap();
        assert!(Log::open(&foreign, &naming()).is_err());
        let other = Naming {
            bucket: Vec::new(),
            ..naming()
        };
        assert!(Log::open(&path, &other).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
