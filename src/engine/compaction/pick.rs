//! Which runs are merged next ("lazy leveling": Dayan and Idreos, "Dostoevsky", 2018). The oldest run holds nearly
//! every key; all others together are kept smaller than it, so that few entries are there that a newer one hides: then
//! all become one. Among the others, runs of a like size stand in one tier; a tier that is full becomes one run of the
//! next.
//!
//! Overwrites at random, a flush of a thirtieth of the keys each, worked out: this writes an entry 2.7 times and takes
//! 1.5 times the room of the keys. Tiers of four for all runs, the oldest too: 3.3 times, 2.6 times the room.

use crate::base::limits::{COMPACTION_FANOUT, RUNS_MAX};
use std::ops::Range;

/// A run as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub bytes: u64,
    /// Something in it cannot be read: it stays as it is.
    pub stuck: bool,
}

fn tier(size: &Size) -> u32 {
    size.bytes.max(1).ilog(COMPACTION_FANOUT as u64)
}

fn bytes(runs: &[Size]) -> u64 {
    runs.iter().map(|size| size.bytes).sum()
}

/// Neighbours to be merged, of `runs` from the newest to the oldest. Until a merge is done both its runs and what it
/// made of them take room: `room` bytes are there for it.
pub fn pick(runs: &[Size], room: u64) -> Option<Range<usize>> {
    let can = |runs: &[Size]| bytes(runs) <= room && runs.iter().all(|size| !size.stuck);
    let (oldest, newer) = runs.split_last()?;
    let large = !newer.is_empty() && bytes(newer) >= oldest.bytes;
    if large && can(runs) {
        return Some(0..runs.len());
    }
    let tier = full_tier(newer).filter(|tier| can(&runs[tier.clone()]));
    tier.or_else(|| {
        let windows = runs.windows(COMPACTION_FANOUT).enumerate();
        let possible = windows.filter(|(_, window)| can(window));
        let cheapest = possible.min_by_key(|(_, window)| bytes(window));
        let cheapest = cheapest.filter(|_| runs.len() > RUNS_MAX);
        cheapest.map(|(from, _)| from..from + COMPACTION_FANOUT)
    })
}

fn full_tier(runs: &[Size]) -> Option<Range<usize>> {
    let mut from = 0;
    while from < runs.len() {
        let alike = |size: &&Size| tier(size) == tier(&runs[from]) && !size.stuck;
        let count = runs[from..].iter().take_while(alike).count();
        if count >= COMPACTION_FANOUT {
            return Some(from..from + count);
        }
        from += count.max(1);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes(bytes: &[u64]) -> Vec<Size> {
        let size = |&bytes: &u64| Size {
            bytes,
            stuck: false,
        };
        bytes.iter().map(size).collect()
    }

    #[test]
    fn the_choice_in_a_table() {
        let eight = |bytes: u64, oldest: u64| [vec![bytes; 8], vec![oldest]].concat();
        let table: [(&[u64], Option<Range<usize>>); 8] = [
            (&[], None),
            (&[20], None),
            // As much as the oldest: all.
            (&[20, 20], Some(0..2)),
            (&[20, 30, 51], None),
            (&[20, 30, 50], Some(0..3)),
            // A full tier, but too small for the oldest.
            (&eight(20, 5000), Some(0..8)),
            (&[&[600], &eight(20, 5000)[..]].concat(), Some(1..9)),
            (&[20, 700, 20, 700, 20, 700, 5000], None),
        ];
        for (runs, chosen) in table {
            assert_eq!(pick(&sizes(runs), u64::MAX), chosen, "{runs:?}");
        }
    }

    #[test]
    fn a_smaller_merge_where_there_is_no_room_for_the_large_one() {
        let runs = sizes(&[vec![20; 8], vec![160]].concat());
        assert_eq!(pick(&runs, 320), Some(0..9));
        assert_eq!(pick(&runs, 319), Some(0..8));
        assert_eq!(pick(&runs, 159), None);
        let many = sizes(&[20; RUNS_MAX + 1]);
        assert_eq!(pick(&many, 20 * COMPACTION_FANOUT as u64), Some(0..8));
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let mut runs = sizes(&[20; 10]);
        runs[9].bytes = 100;
        runs[9].stuck = true;
        assert_eq!(pick(&runs, u64::MAX), Some(0..9));
        runs[4].stuck = true;
        assert_eq!(pick(&runs, u64::MAX), None);
        let mut many = sizes(&[20; RUNS_MAX]);
        many[0].stuck = true;
        assert_eq!(pick(&many, u64::MAX), Some(1..RUNS_MAX - 1));
        many.insert(0, many[0]);
        many[2 + COMPACTION_FANOUT].stuck = true;
        many.iter_mut()
            .skip(2)
            .step_by(2)
            .for_each(|size| size.bytes = 1000);
        assert_eq!(pick(&many, u64::MAX), Some(2..2 + COMPACTION_FANOUT));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever sizes flushes have, there are never many runs, and no entry is written often.
        #[test]
        fn runs_stay_few_and_writes_too(flushes in prop::collection::vec(1u64..5_000_000, 1..300)) {
            let mut runs: Vec<u64> = Vec::new();
            let (mut flushed, mut merged) = (0u64, 0u64);
            for bytes in flushes {
                runs.insert(0, bytes);
                flushed += bytes;
                while let Some(range) = pick(&sizes(&runs), u64::MAX) {
                    let sum = runs[range.clone()].iter().sum();
                    merged += sum;
                    runs.splice(range, [sum]);
                }
                prop_assert!(runs.len() <= RUNS_MAX);
            }
            prop_assert!(merged <= 12 * flushed, "{merged} merged, {flushed} flushed");
        }

        /// Keys that are overwritten at random: what newer entries hide is never more than what they do not.
        #[test]
        fn hidden_entries_are_few(part in 0.01f64..0.3) {
            const KEYS: f64 = 1e9;
            let union = |runs: &[u64]| {
                let left = runs.iter().map(|&run| 1.0 - run as f64 / KEYS);
                (KEYS * (1.0 - left.product::<f64>())) as u64
            };
            let mut runs = vec![KEYS as u64];
            let (mut written, flush) = (0, (part * KEYS) as u64);
            for _ in 0..200 {
                runs.insert(0, flush);
                while let Some(range) = pick(&sizes(&runs), u64::MAX) {
                    let merged = union(&runs[range.clone()]);
                    written += merged;
                    runs.splice(range, [merged]);
                }
                let taken: u64 = runs.iter().sum();
                prop_assert!(taken as f64 <= 2.0 * KEYS, "{runs:?}");
            }
            prop_assert!(written <= 200 * 4 * flush, "{written}");
        }
    }
}
