//! Which request comes next, and what its key and value are.
//!
//! Keys are dealt to threads by number, and a key has one put in flight at a time. So its puts follow each other,
//! the last acknowledged one is known, and a value read back can be judged. A key with a put of unknown outcome is
//! written no more: the late write could land after the next one, and no reader could tell that from a loss.

use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Draws that depend on the seed alone: splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `bound`; the bias of at most bound / 2^64 does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is nothing below zero");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of a number: `user` and ten digits.
pub fn key(number: u64) -> String {
    format!("user{number:010}")
}

/// One put of one key. Numbers of a later run are greater: the upper bits are the millisecond in which the run
/// began, the lower 22 leave room for more puts a millisecond than a thread can send, so a run is over before
/// another reaches its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    pub fn first_of_run(unix_time: Duration) -> Sequence {
        Sequence((unix_time.as_millis() as u64) << 22)
    }
}

/// Draws for a key that is wanted: with the keys of one shard of a hundred wanted, one in 10^4 choices finds none.
const DRAWS_MAX: u32 = 1_000;

/// Bytes of the head of a value, which names its key and sequence.
const HEAD_BYTES: usize = 16;

/// Fills `out` with the value of this put: recomputable from what the arguments say.
pub fn fill_value(number: u64, sequence: Sequence, bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    if bytes >= HEAD_BYTES {
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&sequence.0.to_le_bytes());
    }
    let mut draws = Draws::new(mix(number) ^ sequence.0);
    while out.len() < bytes {
        let word = draws.next().to_le_bytes();
        let take = word.len().min(bytes - out.len());
        out.extend_from_slice(&word[..take]);
    }
}

pub fn checksum(value: &[u8]) -> u64 {
    xxh3_64(value)
}

/// What a value says of itself: `None` if it is too short to, or is not one of this key.
pub fn sequence_of(number: u64, value: &[u8]) -> Option<Sequence> {
    let (head, rest) = value.split_at_checked(HEAD_BYTES)?;
    let (key, sequence) = head.split_at(8);
    let (key, sequence) = (key.try_into().ok()?, sequence.try_into().ok()?);
    let sequence = Sequence(u64::from_le_bytes(sequence));
    let mut whole = Vec::with_capacity(value.len());
    fill_value(number, sequence, value.len(), &mut whole);
    (u64::from_le_bytes(key) == number && whole[HEAD_BYTES..] == *rest).then_some(sequence)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Get {
        number: u64,
        at_least: Option<Sequence>,
    },
    Put {
        number: u64,
        sequence: Sequence,
    },
    /// Nothing can be sent now; something can when a put in flight ends.
    Wait,
    /// Nothing is left to send.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyState {
    Free,
    InFlight,
    /// A put of unknown outcome.
    Retired,
}

#[derive(Clone, Copy, Debug)]
struct KeySlot {
    state: KeyState,
    acked: Option<Sequence>,
}

/// The requests of one thread.
pub struct Workload {
    thread: u64,
    threads: u64,
    slots: Vec<KeySlot>,
    writable: usize,
    draws: Draws,
    /// `None`: load every key once, in order.
    puts_percent: Option<u8>,
    loaded: usize,
    next: Sequence,
}

impl Workload {
    pub fn new(
        (thread, threads): (u16, u16),
        keys: u64,
        puts_percent: Option<u8>,
        seed: u64,
        first: Sequence,
    ) -> Workload {
        assert!(thread < threads, "threads are counted from zero");
        let (thread, threads) = (u64::from(thread), u64::from(threads));
        let count = keys.saturating_sub(thread).div_ceil(threads) as usize;
        let slot = KeySlot {
            state: KeyState::Free,
            acked: None,
        };
        Workload {
            thread,
            threads,
            slots: vec![slot; count],
            writable: count,
            draws: Draws::new(mix(seed) ^ thread),
            puts_percent,
            loaded: 0,
            next: first,
        }
    }

    /// `load` takes all keys in their order, whatever is wanted; if nothing is, the first drawn is taken.
    pub fn choose(&mut self, wanted: &dyn Fn(u64) -> bool) -> Choice {
        let count = self.slots.len();
        let Some(percent) = self.puts_percent else {
            if self.loaded == count {
                return Choice::Done;
            }
            self.loaded += 1;
            return self.put(self.loaded - 1);
        };
        if count == 0 {
            return Choice::Done;
        }
        let is_put = self.draws.below(100) < u64::from(percent);
        let mut start = self.draws.below(count as u64) as usize;
        for _ in 0..DRAWS_MAX {
            if wanted(self.number(start)) {
                break;
            }
            start = self.draws.below(count as u64) as usize;
        }
        if !is_put {
            return Choice::Get {
                number: self.number(start),
                at_least: self.slots[start].acked,
            };
        }
        if self.writable == 0 {
            return Choice::Done;
        }
        let free = (start..count).chain(0..start);
        match free
            .into_iter()
            .find(|slot| self.slots[*slot].state == KeyState::Free && wanted(self.number(*slot)))
        {
            Some(slot) => self.put(slot),
            None => Choice::Wait,
        }
    }

    fn put(&mut self, slot: usize) -> Choice {
        assert_eq!(
            self.slots[slot].state,
            KeyState::Free,
            "one put of a key at a time"
        );
        self.slots[slot].state = KeyState::InFlight;
        let sequence = self.next;
        self.next = Sequence(sequence.0 + 1);
        Choice::Put {
            number: self.number(slot),
            sequence,
        }
    }

    pub fn acked(&mut self, number: u64, sequence: Sequence) {
        let slot = self.slot_in_flight(number);
        slot.state = KeyState::Free;
        slot.acked = Some(sequence);
    }

    /// The put changed nothing.
    pub fn refused(&mut self, number: u64) {
        self.slot_in_flight(number).state = KeyState::Free;
    }

    pub fn unknown(&mut self, number: u64) {
        self.slot_in_flight(number).state = KeyState::Retired;
        self.writable -= 1;
    }

    fn number(&self, slot: usize) -> u64 {
        slot as u64 * self.threads + self.thread
    }

    fn slot_in_flight(&mut self, number: u64) -> &mut KeySlot {
        assert_eq!(
            number % self.threads,
            self.thread,
            "a key of another thread"
        );
        let slot = &mut self.slots[(number / self.threads) as usize];
        assert_eq!(slot.state, KeyState::InFlight, "only a put in flight ends");
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FIRST: Sequence = Sequence(5 << 32);

    #[test]
    fn values_say_what_they_are_and_any_change_shows() {
        let mut value = Vec::new();
        for bytes in [16, 17, 100, 4096] {
            fill_value(7, FIRST, bytes, &mut value);
            assert_eq!(value.len(), bytes);
            assert_eq!(sequence_of(7, &value), Some(FIRST));
            assert_eq!(sequence_of(8, &value), None, "of another key");
            for at in [0, 15, bytes - 1] {
                let mut changed = value.clone();
                changed[at] ^= 1;
                assert_ne!(
                    sequence_of(7, &changed),
                    Some(FIRST),
                    "byte {at} of {bytes}"
                );
            }
        }
        for bytes in [0, 1, 15] {
            fill_value(7, FIRST, bytes, &mut value);
            assert_eq!((value.len(), sequence_of(7, &value)), (bytes, None));
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

    #[test]
    fn a_load_puts_every_key_once_over_all_threads() {
        let mut seen = BTreeSet::new();
        for thread in 0..3 {
            let mut load = Workload::new((thread, 3), 100, None, 1, FIRST);
            while let Choice::Put { number, .. } = load.choose(&|_| true) {
                assert!(seen.insert(number), "{number} twice");
            }
            assert_eq!(load.choose(&|_| true), Choice::Done);
        }
        assert_eq!(seen, (0..100).collect());
    }

    #[test]
    fn a_key_has_one_put_in_flight_and_none_after_an_unknown_outcome() {
        let mut run = Workload::new((0, 1), 3, Some(100), 9, FIRST);
        let mut flying = Vec::new();
        while let Choice::Put { number, sequence } = run.choose(&|_| true) {
            flying.push((number, sequence));
        }
        assert_eq!(run.choose(&|_| true), Choice::Wait);
        let numbers: BTreeSet<u64> = flying.iter().map(|put| put.0).collect();
        assert_eq!(numbers, (0..3).collect());
        let (number, sequence) = flying[0];
        run.acked(number, sequence);
        let again = Choice::Put {
            number,
            sequence: Sequence(FIRST.0 + 3),
        };
        assert_eq!(run.choose(&|_| true), again);
        run.unknown(number);
        assert_eq!(
            run.choose(&|_| true),
            Choice::Wait,
            "it is not written again"
        );
        run.unknown(flying[1].0);
        run.refused(flying[2].0);
        assert!(
            matches!(run.choose(&|_| true), Choice::Put { number, .. } if number == flying[2].0)
        );
        run.unknown(flying[2].0);
        assert_eq!(run.choose(&|_| true), Choice::Done);
    }

    #[test]
    fn a_get_expects_at_least_what_was_acknowledged() {
        let mut run = Workload::new((0, 1), 1, Some(50), 3, FIRST);
        let mut last = None;
        for _ in 0..100 {
            match run.choose(&|_| true) {
                Choice::Put { number, sequence } => {
                    run.acked(number, sequence);
                    last = Some(sequence);
                }
                Choice::Get { at_least, .. } => assert_eq!(at_least, last),
                other => panic!("{other:?}"),
            }
        }
        assert!(last.is_some(), "there was no put");
    }

    #[test]
    fn same_seed_same_requests() {
        let draw = |seed| {
            let mut run = Workload::new((0, 1), 1000, Some(30), seed, FIRST);
            (0..200).map(|_| run.choose(&|_| true)).collect::<Vec<_>>()
        };
        assert_eq!(draw(4), draw(4));
        assert_ne!(draw(4), draw(5));
        let puts = draw(4)
            .iter()
            .filter(|c| matches!(c, Choice::Put { .. }))
            .count();
        assert!((30..90).contains(&puts), "{puts} puts of 200 at 30 percent");
    }
}
