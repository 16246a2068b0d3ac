//! Which runs are merged next. Runs of a like size stand in one tier; a tier that is full becomes one run of the next
//! ("size-tiered"): an entry is written once a tier, and there are few tiers.

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

/// Neighbours to be merged, of `runs` from the newest to the oldest.
pub fn pick(runs: &[Size]) -> Option<Range<usize>> {
    let mut from = 0;
    while from < runs.len() {
        let alike = |size: &&Size| tier(size) == tier(&runs[from]) && !size.stuck;
        let count = runs[from..].iter().take_while(alike).count();
        if count >= COMPACTION_FANOUT {
            return Some(from..from + count);
        }
        from += count.max(1);
    }
    if runs.len() <= RUNS_MAX {
        return None;
    }
    let windows = runs.windows(COMPACTION_FANOUT).enumerate();
    let sound = windows.filter(|(_, window)| window.iter().all(|size| !size.stuck));
    let cheapest =
        sound.min_by_key(|(_, window)| window.iter().map(|size| size.bytes).sum::<u64>());
    cheapest.map(|(from, _)| from..from + COMPACTION_FANOUT)
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
    fn a_full_tier_is_merged_and_the_larger_ones_wait() {
        assert_eq!(pick(&[]), None);
        assert_eq!(pick(&sizes(&[20, 20, 20])), None);
        assert_eq!(pick(&sizes(&[20, 20, 20, 20])), Some(0..4));
        assert_eq!(pick(&sizes(&[20, 300, 300, 300, 300, 5000])), Some(1..5));
        assert_eq!(pick(&sizes(&[20, 300, 20, 300, 20, 300])), None);
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let mut runs = sizes(&[20; 6]);
        runs[2].stuck = true;
        assert_eq!(pick(&runs), None);
        runs.extend(sizes(&[20; 1]));
        assert_eq!(pick(&runs), Some(3..7));
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
                while let Some(range) = pick(&sizes(&runs)) {
                    let sum = runs[range.clone()].iter().sum();
                    merged += sum;
                    runs.splice(range, [sum]);
                }
                prop_assert!(runs.len() <= RUNS_MAX);
            }
            prop_assert!(merged <= 12 * flushed, "{merged} merged, {flushed} flushed");
        }
    }
}
