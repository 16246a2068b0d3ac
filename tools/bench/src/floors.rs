//! What a read of a key must show at least: the last put of it that no other one overlapped.
//!
//! Threads share keys, and popular keys have many puts in flight: which of those a key holds afterwards, nobody can
//! tell. But a put that began when none was open, and was acknowledged before another began, supersedes all earlier
//! ones for certain. After a put of unknown outcome a key has no such put any more: the late write may land whenever.

use crate::record::Sequence;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// How a put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked,
    /// It changed nothing.
    Refused,
    Unknown,
}

/// A word a key: the floor relative to the run's first sequence plus one (0: none), puts open, whether some overlapped.
const FLOOR_BITS: u32 = 48;
const OVERLAP: u64 = 1 << 63;
const OPEN_ONE: u64 = 1 << FLOOR_BITS;
const OPEN_MAX: u64 = (OVERLAP - 1) >> FLOOR_BITS;
const FLOOR_MASK: u64 = OPEN_ONE - 1;

pub struct Floors {
    first: Sequence,
    keys: Box<[AtomicU64]>,
}

impl Floors {
    /// For keys below `keys`; of others nothing is known.
    pub fn new(keys: usize, first: Sequence) -> Floors {
        let keys = (0..keys).map(|_| AtomicU64::new(0)).collect();
        Floors { first, keys }
    }

    fn change(&self, number: u64, change: impl Fn(u64) -> u64) {
        if let Some(word) = self.keys.get(number as usize) {
            // It always has a next value.
            let _ = word.fetch_update(SeqCst, SeqCst, |word| Some(change(word)));
        }
    }

    pub fn begin(&self, number: u64) {
        self.change(number, |word| match open(word) {
            OPEN_MAX => word,
            0 => (word & FLOOR_MASK) + OPEN_ONE,
            _ => (word + OPEN_ONE) | OVERLAP,
        });
    }

    pub fn end(&self, number: u64, sequence: Sequence, outcome: Outcome) {
        let floor = (sequence.0.wrapping_sub(self.first.0).wrapping_add(1)) & FLOOR_MASK;
        self.change(number, |word| match (open(word), outcome) {
            (OPEN_MAX, _) => word,
            // It stays open for ever.
            (_, Outcome::Unknown) => (word & !FLOOR_MASK) | OVERLAP,
            (1, Outcome::Acked) if word & OVERLAP == 0 => floor,
            (_, Outcome::Acked | Outcome::Refused) => word.saturating_sub(OPEN_ONE),
        });
    }

    /// What a read sent now must show at least.
    pub fn of(&self, number: u64) -> Option<Sequence> {
        let word = self.keys.get(number as usize)?.load(SeqCst);
        let floor = (word & FLOOR_MASK).checked_sub(1)?;
        Some(Sequence(self.first.0 + floor))
    }
}

fn open(word: u64) -> u64 {
    (word & !OVERLAP) >> FLOOR_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 5 << 32;

    fn at(offset: u64) -> Sequence {
        Sequence(FIRST + offset)
    }

    #[test]
    fn only_a_put_alone_raises_the_floor() {
        let floors = Floors::new(2, Sequence(FIRST));
        assert_eq!(floors.of(0), None);
        floors.begin(0);
        floors.end(0, at(0), Outcome::Acked);
        assert_eq!(floors.of(0), Some(at(0)));
        floors.begin(0);
        floors.begin(0);
        floors.end(0, at(1), Outcome::Acked);
        floors.end(0, at(2), Outcome::Acked);
        assert_eq!(floors.of(0), Some(at(0)), "two overlapped");
        floors.begin(0);
        floors.end(0, at(3), Outcome::Refused);
        assert_eq!(floors.of(0), Some(at(0)));
        floors.begin(0);
        floors.end(0, at(4), Outcome::Acked);
        assert_eq!(floors.of(0), Some(at(4)));
        assert_eq!((floors.of(1), floors.of(2)), (None, None));
        floors.begin(2);
        floors.end(2, at(5), Outcome::Acked);
    }

    #[test]
    fn an_unknown_outcome_ends_all_certainty() {
        let floors = Floors::new(1, Sequence(FIRST));
        floors.begin(0);
        floors.end(0, at(0), Outcome::Acked);
        floors.begin(0);
        floors.end(0, at(1), Outcome::Unknown);
        assert_eq!(floors.of(0), None);
        for put in 2..100_000 {
            floors.begin(0);
            let outcome = if put % 2 == 0 {
                Outcome::Unknown
            } else {
                Outcome::Acked
            };
            floors.end(0, at(put), outcome);
            assert_eq!(floors.of(0), None);
        }
    }
}
