//! Full disks: what gives room back goes on when nothing else does, and a manifest that failed is not written on.

use super::tables::{TINY, collect};
use super::*;
use crate::base::limits::{MANIFEST_EDIT_BYTES, PAGE_BYTES};
use crate::base::units::KIB;
use crate::engine::directory;
use crate::engine::log::segment;
use crate::engine::manifest::{self, Manifest, State};
use crate::engine::manifest_codec::Edit;
use crate::runtime::disk::{DiskCause, Open};
use crate::runtime::simulated::faults::DiskFaults;

/// Appends until the disk is full; how many were taken.
async fn until_full(
    runtime: &Runtime,
    engine: &Engine,
    ledger: &SharedLedger,
    names: impl Iterator<Item = u8>,
    value: Option<&[u8]>,
) -> u64 {
    let mut taken = 0;
    for name in names {
        loop {
            let found = lookup(engine, name).await;
            match append_to(engine, ledger, found, name, value, false) {
                Ok(_) => break taken += 1,
                Err(AppendRefused::DiskFull) => return taken,
                Err(AppendRefused::Overloaded) => runtime.sleep(Duration::from_millis(5)).await,
                Err(other) => panic!("{other}"),
            }
        }
        // A page for each, so that deletes too take room soon.
        settle(runtime, engine, ledger).await;
    }
    panic!("the disk never gets full");
}

/// Puts take the disk but for the reserve, deletes take what they may of that: there is room for copies still, and so
/// for puts again.
#[test]
fn deletes_leave_room_for_what_gives_room_back() {
    let (_simulation, machine, ledger) = world(41);
    ledger.borrow_mut().sizes = TINY;
    let options = Options {
        value_bytes_max: 16 * KIB,
        disk_bytes: 3 * MIB as u64,
        ..options_of(&ledger)
    };
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options)
            .await
            .expect("a sound disk");
        let value = vec![7; 14_000];
        let puts = until_full(&runtime, &engine, &ledger, 0..=255, Some(&value)).await;
        let names = (0..puts as u8).filter(|name| name % 4 != 0);
        let again = std::iter::repeat_n(1, 5_000);
        until_full(&runtime, &engine, &ledger, names.chain(again), None).await;
        runtime.sleep(Duration::from_secs(1)).await;
        let mut freed = 0;
        for _ in 0..50 {
            freed += collect(&runtime, &engine).await;
            runtime.sleep(Duration::from_millis(100)).await;
        }
        assert!(
            freed > 0,
            "nothing can be given back: {:?}",
            engine.statistics()
        );
        let found = lookup(&engine, 1).await;
        append_to(&engine, &ledger, found, 1, Some(&value), false)
            .unwrap_or_else(|why| panic!("{why}: {:?}", engine.statistics()));
    });
}

/// A victim whose copies have no room does not keep others from being given back.
#[test]
fn a_victim_that_is_postponed_lets_others_go_first() {
    let (_simulation, machine, ledger) = world(43);
    ledger.borrow_mut().sizes = TINY;
    let options = options_of(&ledger);
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options)
            .await
            .expect("a sound disk");
        tables::fill(&runtime, &engine, &ledger).await;
        let mut tried = Vec::new();
        while let Some(victim) = engine.victim() {
            assert!(!tried.contains(&victim.segment()), "{tried:?}");
            tried.push(victim.segment());
            engine.postpone(&victim);
        }
        assert!(tried.len() > 1, "{tried:?}");
        assert!(engine.victim().is_some(), "all are tried again");
    });
}

fn many_edits() -> Vec<Edit> {
    (0..2 * PAGE_BYTES as u32 / 16)
        .map(Edit::RemoveTable)
        .collect()
}

fn one_edit() -> Vec<Edit> {
    vec![Edit::HighestTable(99)]
}

/// A manifest of the second generation with one page left.
async fn nearly_full(runtime: &Runtime) -> Manifest {
    let disk = runtime.disk(Path::new("data"));
    let first = Manifest::create(&disk, 1, State::new(7, 0, 1)).await;
    drop(first.expect("a sound disk"));
    let second = Manifest::create(&disk, 2, State::new(7, 0, 1)).await;
    let mut manifest = second.expect("a sound disk");
    for _ in 1..MANIFEST_EDIT_BYTES / PAGE_BYTES {
        manifest
            .append(vec![Edit::HighestTable(1)])
            .await
            .expect("a sound disk");
    }
    assert_eq!(manifest.bytes(), (MANIFEST_EDIT_BYTES + PAGE_BYTES) as u64);
    manifest
}

/// Whatever fails while a new generation is written: what is told to be durable is what the next start reads.
#[test]
fn a_manifest_that_failed_takes_no_edit_that_would_be_lost() {
    let mut refused = 0;
    for ahead in 1..15 {
        let (_simulation, machine, _) = world(45);
        let at = machine.clone();
        let failed = machine.run(|runtime| async move {
            let mut manifest = nearly_full(&runtime).await;
            at.fail_io(at.io_count() + ahead, DiskCause::Os(5));
            let failed = manifest.append(many_edits()).await.is_err();
            at.fail_no_io();
            let told = manifest.append(one_edit()).await.is_ok();
            let (_, state) = manifest::load(manifest.disk(), 0)
                .await
                .expect("a sound disk")
                .expect("it was made");
            assert!(!told || state.highest_table == Some(99), "I/O {ahead}");
            failed
        });
        refused += u32::from(failed.expect("nothing ends it"));
    }
    assert!(refused > 5, "{refused} of them failed");
}

/// An edit that failed may be on the disk all the same: whoever comes next does not take the file that it names for
/// rubbish.
#[test]
fn a_segment_that_a_failed_edit_names_is_left_alone() {
    let mut refused = 0;
    for ahead in 1..12 {
        let (_simulation, machine, _) = world(51);
        let at = machine.clone();
        let failed = machine.run(|runtime| async move {
            let mut manifest = nearly_full(&runtime).await;
            let disk = manifest.disk().clone();
            disk.create_dir(segment::DIRECTORY).await.expect("sound");
            at.fail_io(at.io_count() + ahead, DiskCause::Os(5));
            let named = |segment| vec![Edit::Segment(segment)];
            let bytes = 16 * PAGE_BYTES as u64;
            let first = directory::prepare_segment(&mut manifest, bytes, named).await;
            at.fail_no_io();
            let named = |segment| vec![Edit::ColdSegment(segment)];
            let _ = directory::prepare_segment(&mut manifest, bytes, named).await;
            let (_, state) = manifest::load(&disk, 0)
                .await
                .expect("a sound disk")
                .expect("it was made");
            for segment in state.all_segments() {
                let name = segment::name(segment.number);
                let there = disk.open(&name, Open::Existing).await.is_ok();
                assert!(there, "I/O {ahead}: {name} is gone");
            }
            first.is_err()
        });
        refused += u32::from(failed.expect("nothing ends it"));
    }
    assert!(refused > 3, "{refused} of them failed");
}

/// The edit that gives a segment back finds room, though the manifest is full and the disk is too.
#[test]
fn a_full_manifest_goes_on_while_the_disk_is_full() {
    let (simulation, machine, _) = world(47);
    let full = Rc::new(simulation);
    let shared = full.clone();
    machine.run(|runtime| async move {
        let mut manifest = nearly_full(&runtime).await;
        let capacity = Some(2 * manifest.bytes());
        shared.set_faults(Faults {
            disk: DiskFaults {
                capacity,
                ..DiskFaults::default()
            },
            ..Faults::default()
        });
        manifest.append(one_edit()).await.expect("the last page");
        manifest
            .append(one_edit())
            .await
            .expect("the oldest generation makes room");
        let (generation, state) = manifest::load(manifest.disk(), 0)
            .await
            .expect("a sound disk")
            .expect("it was made");
        assert_eq!((generation, state.highest_table), (3, Some(99)));
    });
}

/// A start needs a new generation of the manifest: on a full disk it has the room of an older one.
#[test]
fn a_full_disk_is_opened_and_serves() {
    let (simulation, machine, ledger) = world(49);
    ledger.borrow_mut().sizes = TINY;
    for _ in 0..3 {
        let shared = ledger.clone();
        machine.run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared))
                .await
                .expect("a sound disk");
            tables::fill(&runtime, &engine, &shared).await;
        });
        machine.crash();
    }
    let files = machine.files().into_iter();
    let used: usize = files
        .filter_map(|path| machine.file_bytes(&path))
        .map(|bytes| bytes.len())
        .sum();
    let capacity = Some(used as u64);
    simulation.set_faults(Faults {
        disk: DiskFaults {
            capacity,
            ..DiskFaults::default()
        },
        ..Faults::default()
    });
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a start without a byte to spare");
}
