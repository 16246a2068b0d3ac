//! Coverage marks: a run that never saw what it is meant to test must fail.
//!
//! `mark!(Name)` counts that a rare thing happened. It counts in builds with feature `sim` only, a
//! table a thread: a simulated world runs on one thread. Elsewhere it is nothing.

macro_rules! marks {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// All that a set of runs must have seen. A new one needs a line here and a `mark!` where
        /// it happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark {
            $($(#[doc = $what])+ $name,)+
        }

        impl Mark {
            pub const ALL: &'static [Mark] = &[$(Mark::$name,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Mark::$name => stringify!($name),)+
                }
            }
        }
    };
}

marks! {
    /// A write left a sibling standing that its context had not seen.
    WriteKeptSibling,
    /// A write superseded a sibling that its context had seen.
    WriteSupersededSibling,
    /// A join dropped a sibling that the other side had seen superseded.
    JoinDroppedSibling,
    /// A join found the value of a sibling whose own value was lost.
    JoinFoundLostValue,
    /// A mint continued its own counter of a key.
    MintContinued,
    /// A mint met a vector that does not say what it minted last: a new actor began.
    MintForgotten,
    /// A mint met its own incarnation where it never minted: somebody else lives its life.
    MintImpersonated,
    /// A context was opened with the previous key.
    ContextOfPreviousKey,
    /// A context of another key, bucket or cluster was refused.
    ContextForeign,
    /// Replay ended at a place where nothing is appended ever again.
    WalCut,
    /// Replay met a group at the end of the log that was never acked.
    TornTail,
    /// Replay met a group that had been durable and is lost.
    DamagedGroup,
    /// The log went on in its next segment.
    SegmentRolled,
    /// A new generation of a manifest was written.
    ManifestRewritten,
    /// A failed write or sync closed a log for good.
    Poisoned,
    /// An append was refused, or a segment not made, for want of disk.
    DiskFull,
    /// Everything that a shard has was looked at for rot.
    Scrubbed,
    /// That look found a place that is not what was written.
    RotFound,
    /// An idle log wrote its mark.
    IdleMark,
    /// Memory was frozen to become a table.
    Frozen,
    /// A table took entries out of memory and out of replay.
    Flushed,
    /// A lookup was answered by a table.
    FoundInTable,
    /// Runs of tables became one.
    Merged,
    /// A run was left as it is because a block of it cannot be read.
    MergeUnreadable,
    /// A cold segment whose first group a crash had torn was given back by the start.
    ColdTornAway,
    /// A shard at the other end of a link does not serve, and says so.
    PeerOfNoUse,
    /// A request was refused by a replica that it was forwarded to, and taken to the next one.
    ForwardedOn,
    /// A value that the replica ahead cannot read came from another one.
    CaughtUpElsewhere,
    /// A value that could not be read where a node filled from came from another member.
    FilledElsewhere,
    /// The disk had no room for a merge.
    MergeTooLarge,
    /// The count of what lives went on behind a block that cannot be read.
    CountSkipped,
    /// A segment was given back.
    SegmentCollected,
    /// A segment was left alone because something in it cannot be read.
    SegmentStuck,
    /// A place that could not be read was noted, so that a restart knows of it.
    Quarantined,
    /// A value was copied out of a segment that was to be given back.
    Relocated,
    /// A place of a value was changed in memory to that of its copy.
    Flipped,
    /// A start found copies in a cold segment that no manifest had counted yet.
    ColdTail,
    /// A segment without anything alive waited for the flips away from it to stand in a table.
    FreeWaited,
    /// Puts were slowed because collection had fallen behind.
    Braked,
    /// A get was answered with a value of another replica, because the own one could not be read.
    ValueFetched,
    /// A value that could not be read was written anew, as another replica has it.
    ValueMended,
    /// A join was refused, because the key would have more than can be stored.
    JoinTooLarge,
    /// A join whose values do not fit one record was stored, each value in a record of its own.
    StoredApart,
    /// A read met a value that had moved.
    ValueMoved,
    /// A replica joined the state of another one into its own.
    Joined,
    /// A request went on to another node, which holds its key.
    Forwarded,
    /// A replica that could not say what it holds let another one coordinate.
    HandedOn,
    /// A get met a replica that had seen more than its coordinator.
    ReadMetNews,
    /// A strict get brought other replicas up to date before its reply.
    ReadWroteBack,
    /// A get brought other replicas up to date after its reply.
    ReadRepaired,
    /// A request asked replicas that it had spared, because others took long.
    Hedged,
    /// A put met a replica that could not be reached.
    StoreNotSent,
    /// A replica lacked a value that a put had left out.
    StoreNeeded,
    /// A replica did not vote for a put.
    StoreRefused,
    /// A write was held from an earlier try, and given to the others again.
    OperationHeld,
    /// A write was refused because the ring changed before its turn came.
    RingChangedUnderWrite,
    /// The next ring was agreed on.
    RingAgreed,
    /// A node took a newer ring from another one.
    RingLearned,
    /// A node that joined a ring holds all of its keys.
    RingFilled,
    /// A node that asked for a ring was turned away at the gate.
    JoinRefused,
    /// A link was given up because it had fallen silent.
    LinkSilent,
}

/// Counts one sighting; use `mark!`.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub const fn count_one(_mark: Mark) {}

#[cfg(feature = "sim")]
pub use counting::{count_one, counts, reset, seen};

#[cfg(feature = "sim")]
mod counting {
    use super::Mark;
    use std::cell::Cell;

    thread_local! {
        static COUNTS: [Cell<u64>; Mark::ALL.len()] =
            const { [const { Cell::new(0) }; Mark::ALL.len()] };
    }

    /// Counts one sighting; use `mark!`.
    pub fn count_one(mark: Mark) {
        COUNTS.with(|counts| {
            let count = &counts[mark as usize];
            count.set(count.get() + 1);
        });
    }

    /// How often this thread has seen a mark since the last reset.
    pub fn seen(mark: Mark) -> u64 {
        COUNTS.with(|counts| counts[mark as usize].get())
    }

    /// All marks in the order of their table, those never seen too.
    pub fn counts() -> Vec<(Mark, u64)> {
        Mark::ALL.iter().map(|&mark| (mark, seen(mark))).collect()
    }

    pub fn reset() {
        COUNTS.with(|counts| counts.iter().for_each(|count| count.set(0)));
    }
}

/// Counts that this place was reached: `mark!(MintContinued)`.
#[macro_export]
macro_rules! mark {
    ($name:ident) => {
        $crate::base::marks::count_one($crate::base::marks::Mark::$name)
    };
}
pub use crate::mark;

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;

    #[test]
    fn counts_until_reset() {
        reset();
        mark!(MintContinued);
        mark!(MintContinued);
        assert_eq!(seen(Mark::MintContinued), 2);
        assert_eq!(seen(Mark::ContextForeign), 0);
        assert_eq!(counts().len(), Mark::ALL.len());
        reset();
        assert!(counts().iter().all(|&(_, count)| count == 0));
    }

    #[test]
    fn the_table_is_in_order() {
        for (index, &mark) in Mark::ALL.iter().enumerate() {
            assert_eq!(mark as usize, index, "{}", mark.name());
        }
    }
}
