//! A record: its fields as one value, each of which says which put of which key wrote it.
//!
//! With one field the value is the field's bytes; with more, each field is its length (u32, little-endian) and its
//! bytes, in their order. A field of 16 bytes or more begins with the number of its key and the sequence of its put;
//! the rest follows from those, so that any reader can tell whether it was ever written.

use crate::ycsb::draws::{Draws, mix};
use crate::ycsb::zipfian::Zipfian;
use std::time::Duration;

/// One put. Numbers of a later run are greater: the upper bits are the millisecond in which the run began, the lower
/// 22 leave room for more puts a millisecond than a generator can send, so a run is over before another reaches its
/// numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    pub fn first_of_run(unix_time: Duration) -> Sequence {
        Sequence((unix_time.as_millis() as u64) << 22)
    }
}

/// Bytes of the head of a field.
const HEAD_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;

#[derive(Clone, Debug, PartialEq)]
pub enum Lengths {
    Constant(u32),
    Uniform(u32, u32),
    /// From the least, favouring short ones.
    Zipfian(u32, Box<ZipfianLengths>),
}

#[derive(Clone, Debug)]
pub struct ZipfianLengths(Zipfian, u32);

impl PartialEq for ZipfianLengths {
    fn eq(&self, other: &ZipfianLengths) -> bool {
        self.1 == other.1
    }
}

impl Lengths {
    pub fn zipfian(least: u32, most: u32) -> Lengths {
        let count = most - least + 1;
        Lengths::Zipfian(
            least,
            Box::new(ZipfianLengths(Zipfian::new(u64::from(count)), count)),
        )
    }

    fn draw(&mut self, draws: &mut Draws) -> usize {
        let length = match self {
            Lengths::Constant(length) => *length,
            Lengths::Uniform(least, most) => {
                *least + draws.below(u64::from(*most - *least) + 1) as u32
            }
            Lengths::Zipfian(least, zipfian) => *least + zipfian.0.item(draws.unit()) as u32,
        };
        length as usize
    }
}

/// How many fields, of which lengths.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub fields: u32,
    pub lengths: Lengths,
}

impl Shape {
    /// Appends a whole new record.
    pub fn write(&mut self, number: u64, sequence: Sequence, draws: &mut Draws, out: &mut Vec<u8>) {
        if self.fields == 1 {
            return fill(number, sequence, 0, self.lengths.draw(draws), out);
        }
        for field in 0..self.fields {
            self.write_field(number, sequence, field, draws, out);
        }
    }

    fn write_field(
        &mut self,
        number: u64,
        sequence: Sequence,
        field: u32,
        draws: &mut Draws,
        out: &mut Vec<u8>,
    ) {
        let length = self.lengths.draw(draws);
        out.extend_from_slice(&(length as u32).to_le_bytes());
        fill(number, sequence, field, length, out);
    }

    /// Appends `old` with another field `field`. A value that is no record of this shape gives way to a new one.
    pub fn rewrite(
        &mut self,
        old: &[u8],
        field: u32,
        (number, sequence): (u64, Sequence),
        draws: &mut Draws,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let mut rest = old;
        for index in 0..self.fields {
            let Some((bytes, behind)) = split_field(rest).filter(|_| self.fields > 1) else {
                out.truncate(start);
                return self.write(number, sequence, draws, out);
            };
            if index == field {
                self.write_field(number, sequence, field, draws, out);
            } else {
                out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            rest = behind;
        }
    }

    /// What a value says of itself.
    pub fn check(&self, number: u64, value: &[u8]) -> Found {
        if self.fields == 1 {
            return check_field(number, 0, value);
        }
        let (mut rest, mut all) = (value, Found::Silent);
        for field in 0..self.fields {
            let Some((bytes, behind)) = split_field(rest) else {
                return Found::Foreign;
            };
            all = match (all, check_field(number, field, bytes)) {
                (_, Found::Foreign) => return Found::Foreign,
                (Found::Newest(a), Found::Newest(b)) => Found::Newest(a.max(b)),
                (Found::Silent | Found::Foreign, found) => found,
                (found, Found::Silent) => found,
            };
            rest = behind;
        }
        if rest.is_empty() { all } else { Found::Foreign }
    }
}

/// What `Shape::check` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The put that last changed it.
    Newest(Sequence),
    /// Its fields are too short to say.
    Silent,
    /// No put of this key wrote it.
    Foreign,
}

/// The first field and what comes after it.
fn split_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(LENGTH_BYTES)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    rest.split_at_checked(length as usize)
}

fn words(number: u64, sequence: Sequence, field: u32) -> Draws {
    Draws::new(mix(number) ^ sequence.0.wrapping_add(u64::from(field) << 56))
}

fn fill(number: u64, sequence: Sequence, field: u32, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    if length >= HEAD_BYTES {
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&sequence.0.to_le_bytes());
    }
    let mut draws = words(number, sequence, field);
    while out.len() < end {
        let word = draws.next().to_le_bytes();
        let take = word.len().min(end - out.len());
        out.extend_from_slice(&word[..take]);
    }
}

fn check_field(number: u64, field: u32, bytes: &[u8]) -> Found {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Found::Silent;
    };
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let sequence = Sequence(word(&head[8..]));
    let mut draws = words(number, sequence, field);
    let mut chunks = rest.chunks_exact(8);
    let good = word(&head[..8]) == number && chunks.all(|chunk| word(chunk) == draws.next()) && {
        let tail = chunks.remainder();
        tail.is_empty() || draws.next().to_le_bytes().starts_with(tail)
    };
    if good {
        Found::Newest(sequence)
    } else {
        Found::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Sequence = Sequence(5 << 32);
    const SECOND: Sequence = Sequence(6 << 32);

    fn shape(fields: u32, length: u32) -> Shape {
        Shape {
            fields,
            lengths: Lengths::Constant(length),
        }
    }

    fn record(shape: &mut Shape, number: u64, sequence: Sequence) -> Vec<u8> {
        let mut out = Vec::new();
        shape.write(number, sequence, &mut Draws::new(1), &mut out);
        out
    }

    #[test]
    fn values_say_what_they_are_and_any_change_shows() {
        for (fields, length, bytes) in [
            (1, 16, 16),
            (1, 17, 17),
            (1, 4096, 4096),
            (10, 100, 1040),
            (3, 20, 72),
        ] {
            let mut shape = shape(fields, length);
            let value = record(&mut shape, 7, FIRST);
            assert_eq!(value.len(), bytes);
            assert_eq!(shape.check(7, &value), Found::Newest(FIRST));
            assert_eq!(shape.check(8, &value), Found::Foreign, "of another key");
            for at in 0..bytes {
                let mut changed = value.clone();
                changed[at] ^= 1;
                assert_ne!(
                    shape.check(7, &changed),
                    Found::Newest(FIRST),
                    "byte {at} of {bytes}"
                );
            }
            if fields > 1 {
                assert_eq!(shape.check(7, &value[..bytes - 1]), Found::Foreign, "cut");
            }
        }
        for length in [0, 1, 15] {
            let mut shape = shape(1, length);
            let value = record(&mut shape, 7, FIRST);
            assert_eq!(
                (value.len(), shape.check(7, &value)),
                (length as usize, Found::Silent)
            );
        }
    }

    #[test]
    fn one_field_is_rewritten_and_the_others_stay() {
        let mut shape = shape(4, 30);
        let old = record(&mut shape, 7, FIRST);
        let mut new = Vec::new();
        shape.rewrite(&old, 2, (7, SECOND), &mut Draws::new(2), &mut new);
        assert_eq!(
            (new.len(), shape.check(7, &new)),
            (old.len(), Found::Newest(SECOND))
        );
        assert_eq!((&new[..68], &new[102..]), (&old[..68], &old[102..]));
        assert_ne!(new[68..102], old[68..102]);
        for rubbish in [&b""[..], b"short", &old[..50]] {
            let mut new = Vec::new();
            shape.rewrite(rubbish, 2, (7, SECOND), &mut Draws::new(2), &mut new);
            assert_eq!(new, record(&mut shape, 7, SECOND), "a whole new record");
        }
    }

    #[test]
    fn lengths_follow_their_distribution() {
        let mut draws = Draws::new(1);
        let mut mean = |mut lengths: Lengths| {
            let sum: usize = (0..10_000).map(|_| lengths.draw(&mut draws)).sum();
            sum as f64 / 10_000.0
        };
        assert_eq!(mean(Lengths::Constant(100)), 100.0);
        assert!((mean(Lengths::Uniform(1, 100)) - 50.5).abs() < 2.0);
        assert!((15.0..25.0).contains(&mean(Lengths::zipfian(1, 100))));
        // `ZipfianGenerator(1, 100)`, computed by a Python program.
        let Lengths::Zipfian(least, mut zipfian) = Lengths::zipfian(1, 100) else {
            panic!("a zipfian is one");
        };
        let golden = [
            (0.0, 1),
            (0.25, 2),
            (0.5, 7),
            (0.75, 26),
            (0.9, 59),
            (0.99, 95),
            (0.999_999, 100),
        ];
        for (unit, length) in golden {
            assert_eq!(least + zipfian.0.item(unit) as u32, length);
        }
    }

    #[test]
    fn a_run_in_the_same_second_is_later() {
        let first = Sequence::first_of_run(Duration::from_millis(1_800_000_000_001));
        let second = Sequence::first_of_run(Duration::from_millis(1_800_000_000_002));
        assert!(
            second.0 - first.0 > 1_000_000,
            "room for the puts of a millisecond"
        );
    }
}
