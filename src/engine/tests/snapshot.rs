//! An image holds all that was acked when it was begun, and nothing that its original does later changes it.

use super::tables::{TINY, tiny_world};
use super::*;
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::engine::snapshot;

/// The same list, of which the first `acked` versions were acked.
fn as_of(ledger: &SharedLedger, acked: usize) -> SharedLedger {
    let ledger = ledger.borrow();
    let versions = ledger.versions.iter().enumerate();
    let versions = versions.map(|(nth, version)| Version {
        key: version.key,
        siblings: version.siblings.clone(),
        life: 0,
        group: version.group,
        acked: nth < acked,
    });
    Rc::new(RefCell::new(Ledger {
        versions: versions.collect(),
        minted: ledger.minted,
        sizes: ledger.sizes,
        ..Ledger::default()
    }))
}

/// A life in which a snapshot is made in the midst of the work; then the power goes, and both are started.
fn imaged(seed: u64) {
    let (_simulation, machine, ledger) = tiny_world(seed);
    let shared = ledger.clone();
    let life = machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared)).await;
        let engine = engine.expect("a sound disk");
        let mut rng = Rng::new(seed);
        let before = rng.below(250);
        work(&runtime, &engine, &shared, &mut rng, before).await;
        let acked = shared.borrow().versions.iter().rposition(|one| one.acked);
        engine.snapshot("one");
        while engine.snapshotted().running {
            work(&runtime, &engine, &shared, &mut rng, 2).await;
        }
        assert_eq!(engine.snapshotted().error, None);
        work(&runtime, &engine, &shared, &mut rng, 120).await;
        settle(&runtime, &engine, &shared).await;
        acked.map_or(0, |last| last + 1)
    });
    let acked = life.expect("nothing ends it");
    machine.crash();
    let image = as_of(&ledger, acked);
    assert_eq!(image.borrow().sizes, TINY);
    for start in 0..2 {
        let image = image.clone();
        let life = machine.run(|runtime| async move {
            let root = Path::new("data").join(snapshot::DIRECTORY).join("one");
            let disk = runtime.disk(&root);
            let mut progress = |_, _| {};
            let opened = Engine::open(&runtime, &disk, options_of(&image), &mut progress);
            let (engine, recovery) = opened.await.expect("an image starts");
            assert_eq!(recovery.damaged_groups, 0);
            compare(&engine, &image).await;
            assert_eq!(image.borrow().unsure, 0);
            if start == 1 {
                return;
            }
            let (commits, acks) = (engine.clone(), image.clone());
            runtime.spawn(Queue::Foreground, async move {
                while let Ok(durable) = commits.commit_next().await {
                    acks.borrow_mut().ack(0, durable);
                }
            });
            work(&runtime, &engine, &image, &mut Rng::new(seed), 100).await;
            settle(&runtime, &engine, &image).await;
        });
        life.expect("nothing ends it");
        machine.crash();
    }
    // What was done with the image is nothing to the original.
    let checked = check(&machine, &ledger).expect("nothing ends it");
    checked.expect("a sound disk");
}

#[test]
fn an_image_holds_what_was_acked_and_stays_as_it_is() {
    marks::reset();
    (60..84).for_each(imaged);
    for mark in [Mark::Merged, Mark::SegmentCollected, Mark::Flipped] {
        assert!(marks::seen(mark) > 0, "{} was never seen", mark.name());
    }
}

/// A power cut at any moment of it leaves the original whole; another snapshot can be made.
#[test]
fn a_power_cut_during_a_snapshot_is_nothing_to_the_original() {
    let run = |machine: &Machine, ledger: &SharedLedger| {
        let shared = ledger.clone();
        machine.run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared)).await;
            let engine = engine.expect("a sound disk");
            work(&runtime, &engine, &shared, &mut Rng::new(7), 60).await;
            settle(&runtime, &engine, &shared).await;
            engine.snapshot("one");
            while engine.snapshotted().running {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(engine.snapshotted().error, None);
        })
    };
    let (_simulation, machine, ledger) = tiny_world(91);
    run(&machine, &ledger).expect("nothing ends it");
    let all = machine.io_count();
    for number in all - 30..=all {
        let (_simulation, machine, ledger) = tiny_world(91);
        machine.crash_at_io(Some(number));
        run(&machine, &ledger);
        machine.crash_at_io(None);
        machine.crash();
        let shared = ledger.clone();
        let life = machine.run(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared)).await;
            let engine = engine.expect("a sound disk");
            engine.snapshot("two");
            while engine.snapshotted().running {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            engine.snapshotted().error
        });
        assert_eq!(life, Some(None), "I/O {number}");
    }
}

#[test]
fn what_nobody_takes_away_ends_it() {
    let (_simulation, machine, ledger) = tiny_world(92);
    let life = machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options_of(&ledger)).await;
        let engine = engine.expect("a sound disk");
        let mut errors = Vec::new();
        for name in ["1", "2", "3", "4", "5"] {
            engine.snapshot(name);
            while engine.snapshotted().running {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            errors.push(engine.snapshotted().error.is_some());
        }
        errors
    });
    assert_eq!(life, Some(vec![false, false, false, false, true]));
}

/// A check that never failed proves nothing.
#[test]
fn an_image_without_its_tail_is_caught() {
    planted::enable(Planted::SnapshotWithoutTail);
    let failed = std::panic::catch_unwind(|| (60..84).for_each(imaged)).is_err();
    planted::disable_all();
    assert!(failed, "SnapshotWithoutTail was not caught");
}
