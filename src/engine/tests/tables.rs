//! Flush, merge and collection: the same histories with everything so small that little happens often.

use super::faults::life;
use super::histories::history;
use super::*;
use crate::base::limits::{PAGE_BYTES, SPACE_GOAL_PERCENT};
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::base::units::KIB;
use crate::engine::{Entry, Freed, Stuck, Survivor, Victim};
use crate::runtime::disk::DiskCause;

pub const TINY: Sizes = Sizes {
    segment_bytes_min: 64 * KIB as u64,
    memtable_bytes: Some(KIB),
    replay_bytes: Some(64 * KIB as u64),
    space_percent: SPACE_GOAL_PERCENT,
    space_slack_bytes: 0,
};

/// Gives back what segments it can, as a node does, but alone: nobody writes meanwhile. Returns how many.
pub async fn collect(runtime: &Runtime, engine: &Engine) -> u64 {
    let waiting = || engine.statistics().segments_collected;
    let mut freed = waiting();
    if !engine.free_waiting().await {
        return 0;
    }
    freed = waiting() - freed;
    while let Some(mut victim) = engine.victim() {
        let mut last = GroupNumber(0);
        loop {
            match victim.next().await {
                Ok(None) => break,
                Err(why) => {
                    engine.leave(&victim, &why);
                    return freed;
                }
                Ok(Some(survivors)) => {
                    let apart = engine.copies_apart() && victim.segment() % 3 != 0;
                    if apart && !apart_from_the_log(engine, &victim, &survivors).await {
                        return freed;
                    }
                    for survivor in &survivors {
                        let mut found = engine.lookup(survivor.key());
                        if let Lookup::MustRead = found {
                            found = engine.lookup_slow(survivor.key()).await;
                        }
                        let entry = match found {
                            Lookup::Found(entry) => entry,
                            Lookup::Absent | Lookup::Unsure(_) | Lookup::MustRead => {
                                engine.leave(&victim, &Stuck::Index);
                                return freed;
                            }
                        };
                        last = last.max(match survivor.relocated(&entry) {
                            None => entry.group,
                            Some(object) => match engine.relocate(survivor.key(), &entry, object) {
                                Ok(group) => group,
                                Err(_) => return freed,
                            },
                        });
                    }
                }
            }
        }
        while engine.durable_group() < last && !crate::planted!(FreedBeforeDurable) {
            if engine.poisoned().is_some() {
                return freed;
            }
            runtime.sleep(Duration::from_millis(1)).await;
        }
        match engine.free(&victim).await {
            Ok(Freed::Now) => freed += 1,
            Ok(Freed::Later) => {}
            Ok(Freed::NotNow) => return freed,
            Err(why) => {
                engine.leave(&victim, &why);
                return freed;
            }
        }
    }
    freed
}

/// Copies what lives into a cold segment and flips it; false: it went wrong, and nobody is to go on.
async fn apart_from_the_log(engine: &Engine, victim: &Victim, survivors: &[Survivor]) -> bool {
    let mut batch = Vec::new();
    let mut entries = Vec::new();
    for survivor in survivors {
        match lookup_whole(engine, survivor).await {
            Some(entry) => entries.push(entry),
            None => {
                engine.leave(victim, &Stuck::Index);
                return false;
            }
        }
    }
    for (survivor, entry) in survivors.iter().zip(&entries) {
        batch.extend(survivor.relocated(entry).map(|object| (survivor, object)));
    }
    let Ok(copied) = engine.copy(batch).await else {
        return false;
    };
    for copy in &copied {
        let of = |survivor: &&Survivor| survivor.location == copy.from;
        let survivor = survivors.iter().find(of).expect("it was copied");
        let Some(entry) = lookup_whole(engine, survivor).await else {
            return false;
        };
        if engine.flip(survivor.key(), &entry, copy).is_err() {
            return false;
        }
    }
    true
}

async fn lookup_whole(engine: &Engine, survivor: &Survivor) -> Option<Rc<Entry>> {
    let mut found = engine.lookup(survivor.key());
    if let Lookup::MustRead = found {
        found = engine.lookup_slow(survivor.key()).await;
    }
    match found {
        Lookup::Found(entry) => Some(entry),
        _ => None,
    }
}

#[test]
fn small_histories_keep_what_was_acked() {
    marks::reset();
    for seed in 200..230 {
        history(seed, 5, 80, TINY);
    }
    for seed in 300..304 {
        history(seed, 3, 500, TINY);
    }
    for mark in [
        Mark::Frozen,
        Mark::Flushed,
        Mark::FoundInTable,
        Mark::Merged,
        Mark::SegmentCollected,
        Mark::WalCut,
        Mark::TornTail,
    ] {
        assert!(marks::seen(mark) > 0, "{} was never seen", mark.name());
    }
    assert_eq!(marks::seen(Mark::DamagedGroup), 0);
}

pub fn tiny_world(seed: u64) -> (Simulation, Machine, SharedLedger) {
    let (simulation, machine, ledger) = world(seed);
    ledger.borrow_mut().sizes = TINY;
    (simulation, machine, ledger)
}

const TINY_OPS: u64 = 60;

fn two_lives(machine: &Machine, ledger: &SharedLedger, seed: u64) {
    if life(machine, ledger, seed, TINY_OPS).is_some() {
        life(machine, ledger, seed + 1, TINY_OPS);
    }
}

/// Every I/O of two lives that flush, merge and collect.
fn tiny_io_count(seed: u64) -> u64 {
    let (_simulation, machine, ledger) = tiny_world(seed);
    two_lives(&machine, &ledger, seed);
    machine.io_count()
}

fn power_cuts(seed: u64, step: usize) {
    let count = tiny_io_count(seed);
    assert!(count > 200, "{count} I/Os are too few to prove anything");
    for number in (1..=count).step_by(step) {
        let (_simulation, machine, ledger) = tiny_world(seed);
        machine.crash_at_io(Some(number));
        two_lives(&machine, &ledger, seed);
        machine.crash_at_io(None);
        machine.crash();
        for _ in 0..2 {
            let checked = check(&machine, &ledger).expect("nothing ends it");
            checked.unwrap_or_else(|error| panic!("seed {seed}, I/O {number}: {error}"));
            assert_eq!(ledger.borrow().recovery.damaged_groups, 0, "I/O {number}");
            machine.crash();
        }
    }
}

#[test]
fn a_power_cut_at_any_io_of_flush_merge_and_collection_loses_nothing() {
    marks::reset();
    power_cuts(21, 1);
    for mark in [Mark::Flushed, Mark::Merged, Mark::SegmentCollected] {
        assert!(marks::seen(mark) > 0, "{} was never seen", mark.name());
    }
}

#[test]
fn an_io_of_flush_merge_and_collection_that_fails_loses_nothing() {
    let count = tiny_io_count(23);
    for number in 1..=count {
        for cause in [DiskCause::Os(5), DiskCause::NoSpace] {
            let (_simulation, machine, ledger) = tiny_world(23);
            machine.fail_io(number, cause);
            two_lives(&machine, &ledger, 23);
            for _ in 0..2 {
                machine.crash();
                let checked = check(&machine, &ledger).expect("nothing ends it");
                checked.unwrap_or_else(|error| panic!("I/O {number}, {cause}: {error}"));
                let damaged = ledger.borrow().recovery.damaged_groups;
                assert_eq!(damaged, 0, "I/O {number}, {cause}");
            }
        }
    }
}

/// A lying byte in any block of a table: an error or the right answer, never "absent", never an older state.
#[test]
fn a_spoiled_page_of_a_table_is_never_silent() {
    let (_simulation, machine, ledger) = tiny_world(25);
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared))
            .await
            .expect("a sound disk");
        fill(&runtime, &engine, &shared).await;
    });
    machine.crash();
    let image = machine.snapshot();
    let tables: Vec<String> = machine
        .files()
        .into_iter()
        .filter(|path| path.ends_with(".table"))
        .collect();
    assert!(!tables.is_empty());
    let (mut unsure, mut refused) = (0, 0);
    for path in tables {
        machine.restore(&image);
        let len = machine.file_bytes(&path).expect("it was listed").len();
        for page in 0..len / PAGE_BYTES {
            machine.restore(&image);
            assert!(machine.corrupt(&path, (page * PAGE_BYTES + 20) as u64, 1));
            match check(&machine, &ledger).expect("nothing ends it") {
                Ok(()) => unsure += ledger.borrow().unsure,
                Err(OpenError::Damaged { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            machine.crash();
        }
    }
    assert!(
        unsure > 0 && refused > 0,
        "{unsure} unsure, {refused} refused"
    );
}

/// Memory has room for much more, but somebody asked.
#[test]
fn a_flush_that_is_asked_for_leaves_nothing_deferred() {
    let (_simulation, machine, ledger) = world(35);
    let shared = ledger.clone();
    let (before, asked, after) = machine
        .run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared))
                .await
                .expect("a sound disk");
            for name in 0..9 {
                let found = lookup(&engine, name).await;
                append_to(&engine, &shared, found, name, Some(b"value"), false)
                    .expect("there is room");
            }
            let before = engine.statistics();
            engine.flush();
            let asked = engine.statistics();
            settle(&runtime, &engine, &shared).await;
            runtime.sleep(Duration::from_secs(1)).await;
            collect(&runtime, &engine).await;
            compare(&engine, &shared).await;
            (before, asked, engine.statistics())
        })
        .expect("nothing ends it");
    assert_eq!((before.deferred_entries, asked.deferred_entries), (0, 9));
    assert_eq!((before.flushes, after.flushes), (0, 1));
    assert_eq!((after.entries_in_memory, after.entries_in_tables), (0, 9));
    let left = [
        after.deferred_entries,
        after.deferred_merges,
        after.deferred_collections,
    ];
    assert_eq!(left, [0; 3]);
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

/// Fills some segments, makes most of them dead, and flushes, so that there is something to collect.
pub async fn fill(runtime: &Runtime, engine: &Engine, ledger: &SharedLedger) {
    let value = vec![7; 60_000];
    for round in 0..40u64 {
        let name = match round % 5 {
            0 => (round / 5) as u8,
            _ => 11,
        };
        append_to(
            engine,
            ledger,
            lookup(engine, name).await,
            name,
            Some(&value),
            false,
        )
        .expect("there is room");
        settle(runtime, engine, ledger).await;
        runtime.sleep(Duration::from_millis(5)).await;
    }
    runtime.sleep(Duration::from_millis(200)).await;
}

#[test]
fn dead_segments_are_given_back_and_what_lives_is_kept() {
    let (_simulation, machine, ledger) = tiny_world(27);
    let shared = ledger.clone();
    let (before, after, freed) = machine
        .run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared))
                .await
                .expect("a sound disk");
            fill(&runtime, &engine, &shared).await;
            let before = engine.statistics();
            let mut freed = 0;
            for _ in 0..5 {
                freed += collect(&runtime, &engine).await;
                engine.flush();
                runtime.sleep(Duration::from_secs(1)).await;
            }
            compare(&engine, &shared).await;
            (before, engine.statistics(), freed)
        })
        .expect("nothing ends it");
    assert!(freed > 0);
    assert_eq!(after.segments_collected, freed);
    assert!(after.log_bytes < before.log_bytes, "{before:?} {after:?}");
    assert!(after.bytes_relocated > 0);
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

/// A group that cannot be read may have held what lives: its segment stays.
#[test]
fn a_segment_that_cannot_be_read_whole_is_not_given_back() {
    let (_simulation, machine, ledger) = tiny_world(29);
    let shared = ledger.clone();
    let at = machine.clone();
    let freed = machine
        .run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared))
                .await
                .expect("a sound disk");
            fill(&runtime, &engine, &shared).await;
            for path in at
                .files()
                .into_iter()
                .filter(|path| path.ends_with(".segment"))
            {
                at.corrupt(&path, 20 * PAGE_BYTES as u64 + 300, 1);
            }
            collect(&runtime, &engine).await
        })
        .expect("nothing ends it");
    assert_eq!(freed, 0);
}

/// A record whose checksum is right and whose value is not what was minted is never signed again.
#[test]
fn a_value_that_was_rotten_when_it_was_written_is_not_copied() {
    let (_simulation, machine, ledger) = tiny_world(31);
    let freed = machine
        .run(|runtime| async move {
            let engine = begin(&runtime, &ledger, options_of(&ledger))
                .await
                .expect("a sound disk");
            let rotten = Sibling {
                dot: dot(1_000_000, 1),
                operation: OperationId(9),
                kind: Kind::Value,
                written: UnixMillis(1),
                expires: UnixMillis(0),
                value_hash: 1,
                value: NewValue::Put(&[3; 500]),
            };
            let mut vector = VersionVector::default();
            vector.add(rotten.dot);
            let object = Object {
                vector,
                siblings: vec![rotten],
            };
            let name = 10;
            engine
                .append(key(&name), None, object, None, UnixMillis(0))
                .expect("there is room");
            fill(&runtime, &engine, &ledger).await;
            let first = engine.victim().map(|victim| victim.segment());
            collect(&runtime, &engine).await;
            let again = engine.victim().map(|victim| victim.segment());
            assert!(again.is_none() || again != first);
            engine.lookup_slow(key(&name)).await
        })
        .expect("nothing ends it");
    let Lookup::Found(entry) = freed else {
        panic!("{freed:?}")
    };
    let super::super::Place::At { location, .. } = entry.object.siblings[0].value else {
        panic!("{entry:?}")
    };
    assert_eq!(location.segment, 0, "it still lies where it was written");
}

/// A check that never failed proves nothing: each of these bugs makes one of the tests above fail.
#[test]
fn planted_bugs_of_tables_are_caught() {
    let caught = |bug: Planted, test: fn()| {
        planted::enable(bug);
        let failed = std::panic::catch_unwind(test).is_err();
        planted::disable_all();
        assert!(failed, "{} was not caught", bug.name());
    };
    let histories = small_histories_keep_what_was_acked;
    let cuts: fn() = a_power_cut_at_any_io_of_flush_merge_and_collection_loses_nothing;
    caught(Planted::FilterFalseNegative, histories);
    caught(Planted::MergeOldestWins, histories);
    caught(Planted::FlushBeforeDurable, cuts);
    caught(Planted::ReplayBeforeTable, cuts);
    caught(Planted::ManifestNotAtomic, cuts);
    caught(Planted::FreedBeforeDurable, cuts);
    let unread = a_segment_that_cannot_be_read_whole_is_not_given_back;
    caught(Planted::FreedUnread, unread);
    let rotten = a_value_that_was_rotten_when_it_was_written_is_not_copied;
    caught(Planted::RottenRecordCopied, rotten);
}
