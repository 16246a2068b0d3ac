//! Reads every acknowledged key back.

use crate::acked::{Expected, Verdict};
use crate::plan::{After, Choice, Ending, Plan, Stage, Task, Times};
use crate::record::Sequence;
use crate::session::{Answer, Ask};
use crate::stats::Recorder;
use crate::ycsb::key::KeyNames;
use crate::ycsb::mix::Kind;
use std::io;
use xxhash_rust::xxh3::xxh3_64;

/// How often a key is asked for before it is given up.
const READS_MAX: u32 = 5;

/// What `verify` found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub good: u64,
    pub missing: u64,
    pub differs: u64,
    /// Never answered, or refused each time.
    pub unread: u64,
    /// Number of one key that is not good.
    pub example: Option<u64>,
}

impl Findings {
    pub fn merge(&mut self, other: Findings) {
        self.good += other.good;
        self.missing += other.missing;
        self.differs += other.differs;
        self.unread += other.unread;
        self.example = self.example.or(other.example);
    }

    pub fn all_good(&self) -> bool {
        self.missing + self.differs + self.unread == 0
    }
}

/// Reads each of its keys once, again when that fails.
pub struct Verifier {
    names: KeyNames,
    keys: Vec<(u64, Expected, u32)>,
    open: Vec<usize>,
    flying: usize,
    key: Vec<u8>,
    pub findings: Findings,
}

impl Verifier {
    /// `keys` in ascending order.
    pub fn new(names: KeyNames, keys: impl Iterator<Item = (u64, Expected)>) -> Verifier {
        let keys: Vec<_> = keys
            .map(|(number, expected)| (number, expected, 0))
            .collect();
        assert!(
            keys.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "keys ascend"
        );
        Verifier {
            names,
            open: (0..keys.len()).rev().collect(),
            keys,
            flying: 0,
            key: Vec::new(),
            findings: Findings::default(),
        }
    }
}

impl Plan for Verifier {
    fn choose(&mut self, _: bool, _: &dyn Fn(u64) -> bool) -> Choice {
        match self.open.pop() {
            Some(index) => {
                self.flying += 1;
                self.keys[index].2 += 1;
                Choice::Begin(Task {
                    kind: Kind::Read,
                    stage: Stage::Get,
                    number: self.keys[index].0,
                    sequence: Sequence::default(),
                    at_least: None,
                    draft: None,
                    bytes: 0,
                    checksum: 0,
                })
            }
            None if self.flying > 0 => Choice::Wait,
            None => Choice::Done,
        }
    }

    fn ask(&mut self, task: &mut Task) -> Ask<'_> {
        self.names.write(task.number, &mut self.key);
        Ask::Get { key: &self.key }
    }

    fn ended(&mut self, task: Task, ending: Ending<'_>, _: &Times, _: &mut Recorder) -> After {
        self.flying -= 1;
        let index = self.keys.partition_point(|key| key.0 < task.number);
        let (_, expected, reads) = &self.keys[index];
        if let Ending::Answered(Answer::Done { values, .. }) = ending {
            let siblings: Vec<(usize, u64)> = values
                .iter()
                .map(|value| (value.len(), xxh3_64(value)))
                .collect();
            let verdict = expected.judge(&siblings);
            match verdict {
                Verdict::Good => self.findings.good += 1,
                Verdict::Missing => self.findings.missing += 1,
                Verdict::Differs => self.findings.differs += 1,
            }
            if verdict != Verdict::Good {
                self.findings.example.get_or_insert(task.number);
            }
        } else if *reads < READS_MAX {
            self.open.push(index);
        } else {
            self.findings.unread += 1;
            self.findings.example.get_or_insert(task.number);
        }
        After::Over
    }

    fn turn(&mut self) -> io::Result<()> {
        Ok(())
    }
}
