//! Planted bugs: switches that only the simulator has, each named after what it breaks.
//!
//! A checker that never failed proves nothing: for each bug here the simulator must find a seed on
//! which it is caught. `planted!(Name)` is the constant `false` without feature `sim`; with it, a
//! switch of the running thread.

macro_rules! table {
    ($($name:ident, $stands_for:literal, $breaks:literal;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Planted {
            $(#[doc = $breaks] $name,)+
        }

        impl Planted {
            pub const ALL: &'static [Planted] = &[$(Planted::$name,)+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Planted::$name => stringify!($name),)+
                }
            }

            /// The rule that it breaks, and the page that tells it.
            pub fn stands_for(self) -> &'static str {
                match self {
                    $(Planted::$name => $stands_for,)+
                }
            }

            /// What the code does wrong while it is on.
            pub fn breaks(self) -> &'static str {
                match self {
                    $(Planted::$name => $breaks,)+
                }
            }
        }
    };
}

table! {
    AckBeforeSync, "RELIABILITY 2.2 ack",
        "A vote is cast when the group is written, before it is synced.";
    SkippedDirectorySync, "RELIABILITY 2.2 directory durability",
        "A new, renamed or removed name is trusted before its directory is synced.";
    DroppedSyncError, "RELIABILITY 2.2 fsync error",
        "A failed sync counts as done: nothing is poisoned.";
    TornGroupAccepted, "RELIABILITY 2.2 WAL tail",
        "Replay takes the records of a group whose checksum fails.";
    StaleGroupAfterCut, "RELIABILITY 2.2 WAL tail, DESIGN 4 recovery",
        "Replay goes on behind the cut, into groups that an older life left there.";
    ReadErrorAsNotFound, "RELIABILITY 2.1 rule 5",
        "A record that cannot be read or fails its checksum is answered as not found.";
    JoinWithoutKeyQueue, "RELIABILITY 2.1 family j",
        "Two writes of one key join the same old entry.";
    TwoMintsOneCommit, "RELIABILITY 2.1 family g",
        "A mint sees the durable state of its key, not the pending one.";
    ReadBeforeSync, "RELIABILITY 2.1 family h",
        "A context is handed out from state that is not durable yet.";
    ReusedIncarnation, "RELIABILITY 2.1 family f",
        "An incarnation is persisted and used again after a restart.";
    DeadlineIgnored, "RELIABILITY 3 deadline propagation",
        "A request that waits for the disk past its deadline is not answered.";
    BudgetLeaked, "RELIABILITY 3 put a limit on everything",
        "What a request was promised of the buffers is not given back when it ends.";
    UnsureServed, "DESIGN decision 14",
        "A poisoned shard goes on serving from memory.";
    FilterFalseNegative, "DESIGN 4 index table",
        "The filter of a table denies some of the keys that are there.";
    FlushBeforeDurable, "DESIGN 4 memtable",
        "A table is named before the last group of its entries is durable.";
    ReplayBeforeTable, "RELIABILITY 2.2 manifest",
        "The replay position moves in an edit of its own, before the one that names the table.";
    ManifestNotAtomic, "RELIABILITY 2.2 manifest",
        "A merge takes its inputs off the manifest before it names its output.";
    MergeOldestWins, "DESIGN 4 compaction",
        "A merge keeps the oldest entry of a key, not the newest.";
    RottenRecordCopied, "RELIABILITY 2.2 collector",
        "Collection copies a value whose hash is wrong.";
    RelocateWithoutTurn, "DESIGN 4 collection: compare-and-set flips",
        "Collection moves a value without the turn of its key: a write that joined before may point back at the old place.";
    FreedBeforeDurable, "DESIGN 4 collection: free",
        "A segment is removed before the copies of what lived in it are durable.";
    SupersededNotAwaited, "DESIGN 4 collection: free",
        "A segment is removed before what superseded its records is durable.";
    FreedUnread, "RELIABILITY 2.2 collector",
        "A segment is removed though a group in it could not be read.";
    FlipsNotFlushed, "DESIGN 4 collection: every flip recoverable",
        "A segment is removed before the entries that name the copies stand in a table.";
    FlippedBeforeDurable, "DESIGN 4 collection: free",
        "An entry names a copy that is not on the medium yet.";
    ColdTailForgotten, "DESIGN 4 recovery",
        "A start takes the end of a cold segment from the manifest, though copies behind it are named by the log.";
    ApartNotPinned, "DESIGN 4 collection: free",
        "Collection takes a segment for dead whose values wait for their entry.";
    QuarantineForgotten, "DESIGN 4 data directory",
        "A restart forgets what could not be read.";
    RotOverlooked, "RELIABILITY 2.2 scrub",
        "Scrub takes what fails its checksum for whole.";
    SnapshotWithoutTail, "DESIGN invariant 1",
        "A snapshot leaves out what stands in the open segment.";
    DoorbellLost, "DESIGN decision 3",
        "A letter to a sleeping shard rings no bell.";
    CreditLeaked, "DESIGN decision 3",
        "An answer from another shard does not give the credit of its ask back.";
    ReplyToWrongRequest, "DESIGN decision 3",
        "An answer from another shard goes to the request that crossed last.";
    PreferenceOffByOne, "DESIGN decision 6",
        "A preference list begins one virtual node too far.";
    RepeatedReplica, "PITFALLS 2.6 R2",
        "A preference list takes a node again that is in it already.";
    RepeatedOwner, "PITFALLS 2.6 R2",
        "A claim leaves a node twice within N consecutive arcs.";
    VoteBeforeDurable, "DESIGN invariant 1",
        "A replica votes for a state of another one when it is appended, before it is synced.";
    StoreReplaces, "DESIGN decision 8",
        "A replica puts the state of another one in place of its own, without joining them.";
    UnsureVotes, "PITFALLS 2.4 S2",
        "A replica that cannot say what it holds answers that it holds nothing.";
    FillingVotes, "DESIGN 6 ring changes: joint quorums",
        "The vote of a node that is still filling counts as that of a full one.";
    FillSkipsLast, "DESIGN 6 ring changes: filling",
        "A node that fills takes all keys of a page but the last.";
    FilledTooEarly, "DESIGN 6 ring changes: filling",
        "A node that is to be filled says at once that it holds all of its keys.";
    OverwriteLocalOnly, "DESIGN 5 three kinds of put",
        "An overwrite supersedes what its coordinator has seen, and does not ask others.";
    QuorumOffByOne, "PITFALLS 3 D-k1",
        "A request is won with one vote too few.";
    RefusalVotes, "PITFALLS 2.4 S1",
        "A replica that refuses a put, or is lost before it answers, counts as a vote.";
    LwwJoin, "PITFALLS 2.1 V11",
        "A join keeps the newest of concurrent siblings only.";
    ForwardedTwice, "PITFALLS 2.1 V7",
        "A request is forwarded to two replicas, and both mint.";
    GetNotJoined, "RELIABILITY 2.3 check 8",
        "A get answers with what its coordinator holds, though another replica has seen more.";
    StrictNotWrittenBack, "DESIGN 5 get",
        "A strict get replies though some of its replicas lack what it shows.";
    PeerReadBeforeSync, "RELIABILITY 2.1 family h",
        "A replica tells other nodes of a state that is not durable yet.";
    TimeoutSaysNo, "RELIABILITY 2.3 check 9",
        "A write that was minted and misses its votes by the deadline is told to have changed nothing.";
    RepairMints, "PITFALLS 2.9 RR3",
        "A replica that joins the state of another one gives a sibling a new dot.";
    ContextOfAnyKey, "RELIABILITY 2.3 workloads",
        "The context of one key is taken for another.";
    TwoFounders, "PITFALLS 2.11 G2",
        "Each node forms a ring of the nodes that it has met, not only the one at the lowest address.";
    StaleClaim, "DESIGN decision 12",
        "A plan that was made for an older ring is taken for this one.";
}

const _: () = assert!(Planted::ALL.len() <= u64::BITS as usize);

/// Use `planted!`.
#[cfg(not(feature = "sim"))]
#[inline(always)]
pub const fn is_on(_bug: Planted) -> bool {
    false
}

#[cfg(feature = "sim")]
pub use switches::{disable_all, enable, is_on};

#[cfg(feature = "sim")]
mod switches {
    use super::Planted;
    use std::cell::Cell;

    thread_local! {
        static ENABLED: Cell<u64> = const { Cell::new(0) };
    }

    /// Use `planted!`.
    pub fn is_on(bug: Planted) -> bool {
        ENABLED.get() & (1 << bug as u32) != 0
    }

    /// Turns a bug on for this thread.
    pub fn enable(bug: Planted) {
        ENABLED.set(ENABLED.get() | 1 << bug as u32);
    }

    pub fn disable_all() {
        ENABLED.set(0);
    }
}

/// Whether this bug is switched on: `if planted!(AckBeforeSync) { .. }`.
#[macro_export]
macro_rules! planted {
    ($name:ident) => {
        $crate::base::planted::is_on($crate::base::planted::Planted::$name)
    };
}
pub use crate::planted;

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;

    #[test]
    fn each_switch_is_its_own() {
        disable_all();
        for &bug in Planted::ALL {
            assert!(!is_on(bug));
            enable(bug);
            assert!(is_on(bug));
            let on = Planted::ALL.iter().filter(|&&other| is_on(other)).count();
            assert_eq!(on, 1, "{} turned on others", bug.name());
            disable_all();
        }
        enable(Planted::UnsureServed);
        assert!(planted!(UnsureServed));
        let elsewhere = std::thread::spawn(|| planted!(UnsureServed)).join();
        assert!(!elsewhere.expect("the thread ends well"));
        disable_all();
    }

    #[test]
    fn every_line_of_the_table_says_something() {
        for &bug in Planted::ALL {
            assert!(bug.stands_for().contains(' ') && bug.breaks().ends_with('.'));
        }
    }
}
