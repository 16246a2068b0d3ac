//! One fault at each place where there can be one.

use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::base::planted::{self, Planted};
use crate::engine::log::segment;
use crate::runtime::disk::DiskCause;

const OPS: u64 = 14;

/// A short life, the same for each seed: opens, works, waits until all is durable, closes.
fn short_life(
    machine: &Machine,
    ledger: &SharedLedger,
    seed: u64,
) -> Option<Result<(), OpenError>> {
    life(machine, ledger, seed, OPS)
}

/// The same with as many appends as wanted.
pub fn life(
    machine: &Machine,
    ledger: &SharedLedger,
    seed: u64,
    ops: u64,
) -> Option<Result<(), OpenError>> {
    let ledger = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options_of(&ledger)).await?;
        work(&runtime, &engine, &ledger, &mut Rng::new(seed), ops).await;
        settle(&runtime, &engine, &ledger).await;
        let _ = engine.close().await;
        Ok(())
    })
}

/// How many I/Os two short lives issue; `between` is called after the first.
fn io_counts(seed: u64) -> (u64, u64) {
    let (_simulation, machine, ledger) = world(seed);
    short_life(&machine, &ledger, seed);
    let first = machine.io_count();
    short_life(&machine, &ledger, seed + 1);
    (first, machine.io_count())
}

#[test]
fn a_power_cut_at_any_io_loses_nothing_acked() {
    let (_, count) = io_counts(5);
    assert!(count > 40, "{count} I/Os are too few to prove anything");
    for number in 1..=count {
        let (_simulation, machine, ledger) = world(5);
        machine.crash_at_io(Some(number));
        let first = short_life(&machine, &ledger, 5);
        if first.is_some() {
            short_life(&machine, &ledger, 6);
        }
        machine.crash_at_io(None);
        machine.crash();
        for _ in 0..2 {
            let checked = check(&machine, &ledger).expect("nothing ends it");
            checked.unwrap_or_else(|error| panic!("I/O {number}: {error}"));
            assert_eq!(ledger.borrow().recovery.damaged_groups, 0, "I/O {number}");
            machine.crash();
        }
    }
}

#[test]
fn an_io_that_fails_loses_nothing_acked() {
    let (_, count) = io_counts(7);
    for number in 1..=count {
        for cause in [DiskCause::Os(5), DiskCause::NoSpace] {
            let (_simulation, machine, ledger) = world(7);
            machine.fail_io(number, cause);
            short_life(&machine, &ledger, 7);
            short_life(&machine, &ledger, 8);
            for _ in 0..2 {
                machine.crash();
                let checked = check(&machine, &ledger).expect("nothing ends it");
                checked.unwrap_or_else(|error| panic!("I/O {number}, {cause}: {error}"));
                // Nothing was written behind what failed.
                assert_eq!(
                    ledger.borrow().recovery.damaged_groups,
                    0,
                    "I/O {number}, {cause}"
                );
            }
        }
    }
}

/// Each page of the log spoiled in turn, after a clean end: found right, unsure, or no start; never absent, never
/// older.
#[test]
fn a_spoiled_page_of_a_covered_log_is_never_silent() {
    let (_simulation, machine, ledger) = world(9);
    short_life(&machine, &ledger, 9)
        .expect("nothing ends it")
        .expect("a sound disk");
    short_life(&machine, &ledger, 10)
        .expect("nothing ends it")
        .expect("a sound disk");
    machine.crash();
    let image = machine.snapshot();
    let (mut pages, mut damaged) = (0, 0);
    for path in machine
        .files()
        .into_iter()
        .filter(|path| path.ends_with(".segment"))
    {
        machine.restore(&image);
        let bytes = machine.file_bytes(&path).expect("it was listed");
        for (page, content) in bytes.chunks(PAGE_BYTES).enumerate() {
            if content.iter().all(|&byte| byte == 0) {
                continue;
            }
            pages += 1;
            machine.restore(&image);
            assert!(machine.corrupt(&path, (page * PAGE_BYTES + 300) as u64, 1));
            let marks_only = content[64..68] == [0, 0, 0, 0] && content[..8] == *b"ARMGROUP";
            for _ in 0..2 {
                check(&machine, &ledger)
                    .expect("nothing ends it")
                    .expect("it starts");
                let ledger = ledger.borrow();
                assert!(
                    ledger.recovery.damaged_groups > 0 && ledger.unsure > 0 || marks_only,
                    "{path}, page {page}: {:?}, {} unsure",
                    ledger.recovery,
                    ledger.unsure
                );
                damaged += ledger.recovery.damaged_groups;
                assert!(
                    marks_only || (ledger.unsure as u64) < KEYS,
                    "one group, some arcs"
                );
                machine.crash();
            }
        }
    }
    assert!(
        pages > 10 && damaged > 10,
        "{pages} pages, {damaged} damaged groups"
    );
}

/// Without a later group nobody can tell rot from a torn tail: then it is cut, and what is left is an older moment.
#[test]
fn a_spoiled_last_group_is_cut() {
    let (_simulation, machine, ledger) = world(11);
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options())
            .await
            .expect("a sound disk");
        for name in 0..3 {
            append(&engine, &shared, name, Some(&[name; 700]), false).expect("there is room");
            settle(&runtime, &engine, &shared).await;
        }
    });
    machine.crash();
    let path = format!("data/{}", segment::name(0));
    assert!(machine.corrupt(&path, 2 * PAGE_BYTES as u64 + 300, 1));
    ledger.borrow_mut().versions[2].acked = false;
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("it starts");
    assert_eq!(ledger.borrow().versions.len(), 2);
    let expected = Recovery {
        groups: 2,
        records: 2,
        bytes: 2 * PAGE_BYTES as u64,
        cut_groups: 1,
        damaged_groups: 0,
    };
    assert_eq!(ledger.borrow().recovery, expected);
}

#[test]
fn a_read_error_is_no_end_of_the_log() {
    let (_simulation, machine, ledger) = world(13);
    short_life(&machine, &ledger, 13)
        .expect("nothing ends it")
        .expect("a sound disk");
    let mut refused = 0;
    for nth in 1..=40 {
        machine.fail_io(machine.io_count() + nth, DiskCause::Os(5));
        if let Some(Err(OpenError::Disk(_))) = check(&machine, &ledger) {
            refused += 1;
        }
        machine.crash();
    }
    assert!(refused > 10, "{refused} starts refused");
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("the disk is well again");
}

#[test]
fn a_lost_manifest_is_not_an_empty_log() {
    let (_simulation, machine, ledger) = world(15);
    short_life(&machine, &ledger, 15)
        .expect("nothing ends it")
        .expect("a sound disk");
    let manifests: Vec<String> = machine
        .files()
        .into_iter()
        .filter(|path| path.contains("manifest"))
        .collect();
    for path in &manifests {
        assert!(machine.corrupt(path, 20, 1));
    }
    let refused = check(&machine, &ledger).expect("nothing ends it");
    assert!(matches!(refused, Err(OpenError::Damaged { .. })));
    for path in manifests {
        let name = path
            .strip_prefix("data/")
            .expect("it lies there")
            .to_string();
        machine.run(|runtime| async move {
            runtime
                .disk(Path::new("data"))
                .remove(&name)
                .await
                .expect("it is there");
        });
    }
    let refused = check(&machine, &ledger).expect("nothing ends it");
    assert!(matches!(refused, Err(OpenError::Damaged { .. })));
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let simulation = Simulation::new(17, Faults::default());
    let machine = simulation.machine("node");
    let ledger = SharedLedger::default();
    let mut faults = Faults::default();
    faults.disk.capacity = Some(10 * MIB as u64);
    simulation.set_faults(faults);
    let full = Rc::new(RefCell::new(false));
    let (shared, flag) = (ledger.clone(), full.clone());
    let process = machine.start(|runtime| async move {
        let mut options = options();
        options.sizes.replay_bytes = Some(u64::MAX);
        let engine = begin(&runtime, &shared, options)
            .await
            .expect("there is room to start");
        let value = vec![1; 200_000];
        let mut written = 0;
        while written < 100 {
            match append(
                &engine,
                &shared,
                (written % KEYS) as u8,
                Some(&value),
                false,
            ) {
                Ok(_) => written += 1,
                Err(AppendRefused::DiskFull) => *flag.borrow_mut() = true,
                Err(AppendRefused::Overloaded) => {}
                Err(other) => panic!("{other}"),
            }
            runtime.sleep(Duration::from_millis(10)).await;
        }
        settle(&runtime, &engine, &shared).await;
    });
    assert!(simulation.run_until(|| *full.borrow(), Duration::from_secs(60)));
    simulation.set_faults(Faults::default());
    assert!(simulation.run_until(|| !process.is_alive(), Duration::from_secs(60)));
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

#[test]
fn the_disk_budget_refuses_puts_and_takes_deletes() {
    let (_simulation, machine, ledger) = world(19);
    machine.run(|runtime| async move {
        let small = Options {
            disk_bytes: 10 * MIB as u64,
            ..options()
        };
        let engine = begin(&runtime, &ledger, small)
            .await
            .expect("there is room to start");
        let value = vec![1; 200_000];
        let mut refused = None;
        for n in 0..60u64 {
            if let Err(why) = append(&engine, &ledger, (n % KEYS) as u8, Some(&value), false) {
                refused = Some(why);
            }
            runtime.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(refused, Some(AppendRefused::DiskFull));
        append(&engine, &ledger, 0, None, false).expect("a delete uses the reserve");
        settle(&runtime, &engine, &ledger).await;
        assert!(engine.statistics().disk_bytes <= 10 * MIB as u64);
    });
}

/// A check that never failed proves nothing: each of these bugs makes one of the tests above fail.
#[test]
fn planted_bugs_are_caught() {
    let caught = |bug: Planted, test: fn()| {
        planted::enable(bug);
        let failed = std::panic::catch_unwind(test).is_err();
        planted::disable_all();
        assert!(failed, "{} was not caught", bug.name());
    };
    caught(
        Planted::AckBeforeSync,
        a_power_cut_at_any_io_loses_nothing_acked,
    );
    caught(
        Planted::SkippedDirectorySync,
        a_power_cut_at_any_io_loses_nothing_acked,
    );
    caught(
        Planted::DroppedSyncError,
        an_io_that_fails_loses_nothing_acked,
    );
    caught(
        Planted::TornGroupAccepted,
        a_spoiled_page_of_a_covered_log_is_never_silent,
    );
    caught(
        Planted::ReadErrorAsNotFound,
        a_read_error_is_no_end_of_the_log,
    );
    caught(
        Planted::UnsureServed,
        a_spoiled_page_of_a_covered_log_is_never_silent,
    );
}
