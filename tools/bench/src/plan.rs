//! What a thread of the driver does: which request next, and what its answer means.

use crate::acked::{self, Expected, Log, Outcome, Put, Verdict};
use crate::session::Answer;
use crate::stats::Stats;
use crate::workload::{Choice, Sequence, Workload, checksum, fill_value, sequence_of};
use std::io;
use std::sync::Arc;

pub trait Plan {
    /// The next request for a connection that may ask for keys of the `wanted` numbers.
    fn choose(&mut self, wanted: &dyn Fn(u64) -> bool) -> Choice;

    /// The value of a put that was chosen.
    fn value(&mut self, number: u64, sequence: Sequence, out: &mut Vec<u8>);

    /// A request ended; `None`: without an answer.
    fn ended(&mut self, request: Choice, answer: Option<Answer<'_>>, stats: &mut Stats);

    /// After each turn of the loop.
    fn turn(&mut self) -> io::Result<()>;
}

/// Loads and runs.
pub struct Traffic {
    pub workload: Workload,
    pub value_bytes: usize,
    log: Option<Arc<Log>>,
    lines: String,
    value: Vec<u8>,
}

impl Traffic {
    pub fn new(workload: Workload, value_bytes: usize, log: Option<Arc<Log>>) -> Traffic {
        Traffic {
            workload,
            value_bytes,
            log,
            lines: String::new(),
            value: Vec::new(),
        }
    }

    fn note(&mut self, outcome: Outcome, number: u64, sequence: Sequence) {
        if self.log.is_none() {
            return;
        }
        fill_value(number, sequence, self.value_bytes, &mut self.value);
        let put = Put {
            number,
            sequence,
            bytes: self.value_bytes,
            checksum: checksum(&self.value),
        };
        acked::push_line(&mut self.lines, outcome, put);
    }
}

/// Judges what a get showed against what its key was known to hold when it was sent.
fn check_get(number: u64, at_least: Option<Sequence>, values: &[&[u8]], stats: &mut Stats) {
    // Values below the size of a head do not say what they are.
    if values.iter().any(|value| value.len() < 16) {
        return;
    }
    let sequences = values.iter().map(|value| sequence_of(number, value));
    let mut newest = None;
    for sequence in sequences {
        match sequence {
            Some(_) => newest = newest.max(sequence),
            None => stats.foreign_values += 1,
        }
    }
    if newest < at_least {
        stats.stale_gets += 1;
    }
}

impl Plan for Traffic {
    fn choose(&mut self, wanted: &dyn Fn(u64) -> bool) -> Choice {
        self.workload.choose(wanted)
    }

    fn value(&mut self, number: u64, sequence: Sequence, out: &mut Vec<u8>) {
        fill_value(number, sequence, self.value_bytes, out);
    }

    fn ended(&mut self, request: Choice, answer: Option<Answer<'_>>, stats: &mut Stats) {
        match (request, answer) {
            (Choice::Get { number, at_least }, Some(Answer::Values(values))) => {
                check_get(number, at_least, values, stats);
            }
            (Choice::Put { number, sequence }, Some(Answer::Values(_))) => {
                self.workload.acked(number, sequence);
                self.note(Outcome::Acked, number, sequence);
            }
            (Choice::Put { number, .. }, Some(Answer::Refused(_))) => self.workload.refused(number),
            (Choice::Put { number, sequence }, Some(Answer::Unknown(_)) | None) => {
                self.workload.unknown(number);
                self.note(Outcome::Unknown, number, sequence);
            }
            (Choice::Get { .. } | Choice::Wait | Choice::Done, _) => {}
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        match &self.log {
            Some(log) => log.append(&mut self.lines),
            None => Ok(()),
        }
    }
}

/// How often `verify` asks for a key before it gives up on it.
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
    keys: Vec<(u64, Expected, u32)>,
    open: Vec<usize>,
    flying: usize,
    pub findings: Findings,
}

impl Verifier {
    /// `keys` in ascending order.
    pub fn new(keys: impl Iterator<Item = (u64, Expected)>) -> Verifier {
        let keys: Vec<_> = keys
            .map(|(number, expected)| (number, expected, 0))
            .collect();
        assert!(
            keys.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "keys ascend"
        );
        Verifier {
            open: (0..keys.len()).rev().collect(),
            keys,
            flying: 0,
            findings: Findings::default(),
        }
    }
}

impl Plan for Verifier {
    fn choose(&mut self, _: &dyn Fn(u64) -> bool) -> Choice {
        match self.open.pop() {
            Some(index) => {
                self.flying += 1;
                self.keys[index].2 += 1;
                Choice::Get {
                    number: self.keys[index].0,
                    at_least: None,
                }
            }
            None if self.flying > 0 => Choice::Wait,
            None => Choice::Done,
        }
    }

    fn value(&mut self, _: u64, _: Sequence, _: &mut Vec<u8>) {
        unreachable!("a verifier puts nothing");
    }

    fn ended(&mut self, request: Choice, answer: Option<Answer<'_>>, _: &mut Stats) {
        let Choice::Get { number, .. } = request else {
            unreachable!("a verifier sends gets only");
        };
        self.flying -= 1;
        let index = self.keys.partition_point(|key| key.0 < number);
        let (_, expected, reads) = &self.keys[index];
        if let Some(Answer::Values(values)) = answer {
            let siblings: Vec<(usize, u64)> = values
                .iter()
                .map(|value| (value.len(), checksum(value)))
                .collect();
            match expected.judge(&siblings) {
                Verdict::Good => self.findings.good += 1,
                Verdict::Missing => self.findings.missing += 1,
                Verdict::Differs => self.findings.differs += 1,
            }
            if expected.judge(&siblings) != Verdict::Good {
                self.findings.example.get_or_insert(number);
            }
        } else if *reads < READS_MAX {
            self.open.push(index);
        } else {
            self.findings.unread += 1;
            self.findings.example.get_or_insert(number);
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_get_that_shows_less_than_was_acknowledged_is_noticed() {
        let judge = |at_least: Option<u64>, values: &[&[u8]]| {
            let mut stats = Stats::new();
            check_get(3, at_least.map(Sequence), values, &mut stats);
            (stats.stale_gets, stats.foreign_values)
        };
        let (mut older, mut newer) = (Vec::new(), Vec::new());
        fill_value(3, Sequence(5), 40, &mut older);
        fill_value(3, Sequence(6), 40, &mut newer);
        assert_eq!(judge(Some(6), &[&newer]), (0, 0));
        assert_eq!(judge(Some(5), &[&newer]), (0, 0));
        assert_eq!(judge(Some(6), &[&older, &newer]), (0, 0));
        assert_eq!(judge(Some(6), &[&older]), (1, 0));
        assert_eq!(judge(Some(6), &[]), (1, 0));
        assert_eq!(judge(None, &[]), (0, 0));
        assert_eq!(judge(None, &[&[7; 40]]), (0, 1));
        assert_eq!(judge(Some(6), &[b"short"]), (0, 0));
    }
}
