//! Long histories with restarts, power cuts and kills.

use super::*;
use crate::base::marks::{self, Mark};

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Exit,
    Kill,
    PowerCut,
}

pub fn history(seed: u64, lives: u64, ops: u64, sizes: Sizes) {
    history_of(seed, lives, ops, |ledger| ledger.sizes = sizes);
}

pub fn history_of(seed: u64, lives: u64, ops: u64, set: impl FnOnce(&mut Ledger)) {
    let (simulation, machine, ledger) = world(seed);
    set(&mut ledger.borrow_mut());
    let mut rng = Rng::new(seed);
    for life in 0..lives {
        let end = [End::Close, End::Exit, End::Kill, End::PowerCut][rng.below(4) as usize];
        let mut life_rng = Rng::new(seed * 1000 + life);
        let shared = ledger.clone();
        let done = Rc::new(RefCell::new(false));
        let flag = done.clone();
        machine.start(|runtime| async move {
            let engine = begin(&runtime, &shared, options_of(&shared))
                .await
                .expect("a sound disk");
            work(&runtime, &engine, &shared, &mut life_rng, ops).await;
            if let End::Close = end {
                engine.close().await.expect("a sound disk");
                settle(&runtime, &engine, &shared).await;
            }
            *flag.borrow_mut() = true;
        });
        match end {
            End::Close | End::Exit => {
                let ended = simulation.run_until(|| *done.borrow(), Duration::from_secs(60));
                assert!(ended, "seed {seed}, life {life}");
                simulation.run_for(Duration::from_millis(1));
            }
            End::Kill | End::PowerCut => {
                simulation.run_for(Duration::from_micros(rng.below(60_000)));
            }
        }
        match end {
            End::PowerCut => machine.crash(),
            End::Close | End::Exit | End::Kill => machine.kill(),
        }
        assert_eq!(
            ledger.borrow().recovery.damaged_groups,
            0,
            "seed {seed}, life {life}"
        );
    }
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

#[test]
fn histories_keep_what_was_acked() {
    marks::reset();
    for seed in 0..30 {
        history(seed, 6, 60, Sizes::default());
    }
    for seed in 100..103 {
        history(seed, 3, 700, Sizes::default());
    }
    for mark in [
        Mark::WalCut,
        Mark::TornTail,
        Mark::SegmentRolled,
        Mark::IdleMark,
    ] {
        assert!(marks::seen(mark) > 0, "{} was never seen", mark.name());
    }
    assert_eq!(marks::seen(Mark::DamagedGroup), 0);
}

#[test]
fn a_large_value_takes_a_group_of_its_own() {
    let (_simulation, machine, ledger) = world(1);
    let shared = ledger.clone();
    let large = Options {
        value_bytes_max: 16 * MIB,
        memory_bytes: 64 * MIB,
        ..options()
    };
    let large_again = large.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, large).await.expect("a sound disk");
        let value = vec![7; 16 * MIB];
        append(&engine, &shared, 1, Some(&value), false).expect("it fits");
        settle(&runtime, &engine, &shared).await;
    });
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        begin(&runtime, &shared, large_again)
            .await
            .expect("a sound disk");
    });
    assert_eq!(ledger.borrow().recovery.records, 1);
}

#[test]
fn the_same_number_is_never_a_group_twice() {
    let (_simulation, machine, ledger) = world(3);
    let mut highest = GroupNumber(0);
    for _ in 0..5 {
        let shared = ledger.clone();
        let group = machine.run(|runtime| async move {
            let engine = begin(&runtime, &shared, options())
                .await
                .expect("a sound disk");
            // The process ends before this group is written.
            append(&engine, &shared, 1, Some(b"lost"), false).expect("there is room")
        });
        let group = group.expect("nothing ends it");
        assert!(group > highest);
        highest = group;
    }
}

#[test]
fn an_overwritten_value_leaves_the_cache() {
    let (_simulation, machine, ledger) = world(4);
    let cached = machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options())
            .await
            .expect("a sound disk");
        let value = vec![7; 10_000];
        for round in 0..20 {
            append(&engine, &ledger, 1, Some(&value), false).expect("there is room");
            append(&engine, &ledger, 2, Some(&value), round > 17).expect("there is room");
            settle(&runtime, &engine, &ledger).await;
        }
        engine.statistics().cached_bytes
    });
    // One value of the first key, three siblings of the second.
    let cached = cached.expect("nothing ends it");
    assert!(
        (40_000..50_000).contains(&cached),
        "{cached} bytes are cached"
    );
}
