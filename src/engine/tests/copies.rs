//! Copies in cold segments: histories and crashes in worlds where most of a segment that is collected lives.

use super::faults::life;
use super::histories::history_of;
use super::tables::{TINY, collect};
use super::*;
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::runtime::disk::DiskCause;

const OPS: u64 = 150;
const SEED: u64 = 54;

fn narrow(ledger: &mut Ledger) {
    ledger.sizes = TINY;
    ledger.narrow = true;
}

fn narrow_world(seed: u64) -> (Simulation, Machine, SharedLedger) {
    let (simulation, machine, ledger) = world(seed);
    narrow(&mut ledger.borrow_mut());
    (simulation, machine, ledger)
}

fn assert_seen(marks: &[Mark]) {
    for mark in marks {
        assert!(marks::seen(*mark) > 0, "{} was never seen", mark.name());
    }
}

const OF_COPIES: [Mark; 5] = [
    Mark::SegmentCollected,
    Mark::Flipped,
    Mark::FreeWaited,
    Mark::ColdTail,
    Mark::TornTail,
];

fn histories() {
    for seed in 500..530 {
        history_of(seed, 5, 150, narrow);
    }
    for seed in 600..604 {
        history_of(seed, 3, 800, narrow);
    }
}

#[test]
fn histories_with_copies_keep_what_was_acked() {
    marks::reset();
    histories();
    assert_seen(&OF_COPIES);
    assert_eq!(marks::seen(Mark::DamagedGroup), 0);
}

fn two_lives(machine: &Machine, ledger: &SharedLedger) {
    if life(machine, ledger, SEED, OPS).is_some() {
        life(machine, ledger, SEED + 1, OPS);
    }
}

fn io_count() -> u64 {
    let (_simulation, machine, ledger) = narrow_world(SEED);
    two_lives(&machine, &ledger);
    machine.io_count()
}

fn power_cuts() {
    for number in 1..=io_count() {
        let (_simulation, machine, ledger) = narrow_world(SEED);
        machine.crash_at_io(Some(number));
        two_lives(&machine, &ledger);
        machine.crash_at_io(None);
        machine.crash();
        // The second start goes on from what the first one wrote, and collects.
        let after = life(&machine, &ledger, SEED + 2, OPS / 2).expect("nothing ends it");
        after.unwrap_or_else(|error| panic!("I/O {number}: {error}"));
        machine.crash();
        let checked = check(&machine, &ledger).expect("nothing ends it");
        checked.unwrap_or_else(|error| panic!("I/O {number}: {error}"));
        assert_eq!(ledger.borrow().recovery.damaged_groups, 0, "I/O {number}");
    }
}

#[test]
fn a_power_cut_at_any_io_of_copying_loses_nothing() {
    marks::reset();
    power_cuts();
    assert_seen(&OF_COPIES);
}

/// A crash tore the first group of a segment that was just begun: nothing can name it, and the start gives it back.
#[test]
fn a_cold_segment_whose_first_group_is_torn_is_given_back() {
    marks::reset();
    for number in (1..=io_count()).step_by(7) {
        let (_simulation, machine, ledger) = narrow_world(SEED);
        machine.crash_at_io(Some(number));
        two_lives(&machine, &ledger);
        machine.crash_at_io(None);
        machine.crash();
        let files = machine.files().into_iter();
        for path in files.filter(|path| path.ends_with(".segment")) {
            let bytes = machine.file_bytes(&path).expect("it is there");
            if bytes.iter().all(|&byte| byte == 0) {
                machine.corrupt(&path, 300, 1);
            }
        }
        for _ in 0..2 {
            let checked = check(&machine, &ledger).expect("nothing ends it");
            checked.unwrap_or_else(|error| panic!("I/O {number}: {error}"));
            machine.crash();
        }
    }
    assert_seen(&[Mark::ColdTornAway]);
}

#[test]
fn an_io_of_copying_that_fails_loses_nothing() {
    marks::reset();
    for number in 1..=io_count() {
        for cause in [DiskCause::Os(5), DiskCause::NoSpace] {
            let (_simulation, machine, ledger) = narrow_world(SEED);
            machine.fail_io(number, cause);
            two_lives(&machine, &ledger);
            for _ in 0..2 {
                machine.crash();
                let checked = check(&machine, &ledger).expect("nothing ends it");
                checked.unwrap_or_else(|error| panic!("I/O {number}, {cause}: {error}"));
            }
        }
    }
    assert_seen(&[Mark::Flipped, Mark::FreeWaited]);
}

/// One value after the other, each durable before the next.
async fn put_all(
    runtime: &Runtime,
    engine: &Engine,
    ledger: &SharedLedger,
    names: impl Iterator<Item = u8>,
) {
    for name in names {
        let found = lookup(engine, name).await;
        append_to(engine, ledger, found, name, Some(&[name; 6_000]), false).expect("there is room");
        settle(runtime, engine, ledger).await;
    }
}

/// Puts these values, makes the rest of what was written then dead, and collects.
async fn copy_some(runtime: &Runtime, engine: &Engine, ledger: &SharedLedger, names: &[u8]) {
    let dead = std::iter::repeat_n(11, 30);
    put_all(runtime, engine, ledger, names.iter().copied().chain(dead)).await;
    engine.flush();
    runtime.sleep(Duration::from_secs(1)).await;
    collect(runtime, engine).await;
}

/// A record that was durable names a copy, and no table does: the next lives know that the copy is there, and do not
/// throw it away with the segment that it lies in.
fn named_by_the_log_alone() {
    let (_simulation, machine, ledger) = world(57);
    ledger.borrow_mut().narrow = true;
    ledger.borrow_mut().sizes.segment_bytes_min = TINY.segment_bytes_min;
    ledger.borrow_mut().sizes.space_slack_bytes = 0;
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared))
            .await
            .expect("a sound disk");
        for names in [[0, 1], [2, 3], [6, 7], [4, 5]] {
            copy_some(&runtime, &engine, &shared, &names).await;
        }
        for name in [4, 5] {
            let found = lookup(&engine, name).await;
            append_to(&engine, &shared, found, name, Some(&[9; 100]), true).expect("there is room");
        }
        settle(&runtime, &engine, &shared).await;
    });
    machine.crash();
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared))
            .await
            .expect("a sound disk");
        for _ in 0..8 {
            copy_some(&runtime, &engine, &shared, &[0, 1, 2, 3]).await;
        }
        compare(&engine, &shared).await;
    });
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

#[test]
fn a_copy_that_the_log_alone_names_is_kept() {
    marks::reset();
    named_by_the_log_alone();
    assert_seen(&[Mark::ColdTail, Mark::Flipped, Mark::SegmentCollected]);
}

/// A check that never failed proves nothing: each of these bugs makes one of the tests above fail.
#[test]
fn planted_bugs_of_copies_are_caught() {
    let caught = |bug: Planted, test: fn()| {
        planted::enable(bug);
        let failed = std::panic::catch_unwind(test).is_err();
        planted::disable_all();
        assert!(failed, "{} was not caught", bug.name());
    };
    caught(Planted::FlipsNotFlushed, power_cuts);
    caught(Planted::FlippedBeforeDurable, power_cuts);
    caught(Planted::ColdTailForgotten, named_by_the_log_alone);
}
