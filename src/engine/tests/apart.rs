//! Joins whose values do not fit one record: all of it or nothing is there, through power cuts and collection.

use super::tables::{TINY, collect};
use super::*;
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::engine::Place;

/// Five of them are more than a segment of this world holds, two are not.
const LARGE_BYTES: usize = 40 * KIB;

fn narrow_world(seed: u64) -> (Simulation, Machine, SharedLedger) {
    let (simulation, machine, ledger) = world(seed);
    ledger.borrow_mut().sizes = TINY;
    ledger.borrow_mut().narrow = true;
    (simulation, machine, ledger)
}

/// Joins siblings that came from elsewhere, with these values, into what is held of a key.
async fn join(
    engine: &Engine,
    ledger: &SharedLedger,
    name: u8,
    values: &[Vec<u8>],
) -> Result<GroupNumber, AppendRefused> {
    let entry = match lookup(engine, name).await {
        Lookup::Found(entry) => Some(entry),
        Lookup::Absent => None,
        Lookup::Unsure(unsure) => return Err(unsure.into()),
        Lookup::MustRead => unreachable!("it was looked up on disk"),
    };
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    let mut held: Vec<Held> = Vec::new();
    if let Some(entry) = &entry {
        object.vector = entry.object.vector.clone();
        for sibling in &entry.object.siblings {
            let place = sibling.value.clone();
            object
                .siblings
                .push(sibling.clone().with_value(NewValue::Keep(place)));
        }
        let ledger = ledger.borrow();
        let newest = ledger.newest(name, ledger.versions.len());
        held = newest.expect("it is there").1.siblings.clone();
    }
    for value in values {
        let mut ledger = ledger.borrow_mut();
        ledger.minted += 1;
        let new = dot(ledger.minted, 1);
        let operation = OperationId(u128::from(ledger.minted));
        object.vector.add(new);
        object.siblings.push(Sibling {
            dot: new,
            operation,
            kind: Kind::Value,
            written: UnixMillis(ledger.minted),
            expires: UnixMillis(0),
            value_hash: value_hash(BUCKET, &[name], new, operation, value),
            value: NewValue::Put(value),
        });
        held.push((new, Some(value.clone())));
    }
    let before = entry.as_deref();
    let appended = engine.append(key(&name), before, object.clone(), None, UnixMillis(0));
    let group = match appended {
        Err(AppendRefused::RecordTooLarge) => {
            engine
                .append_apart(key(&name), before, object, None)
                .await?
        }
        appended => appended?,
    };
    let mut ledger = ledger.borrow_mut();
    let life = ledger.lives;
    ledger.versions.push(Version {
        key: name,
        siblings: held,
        life,
        group,
        acked: false,
    });
    Ok(group)
}

fn large(seed: u8) -> Vec<Vec<u8>> {
    let small = vec![seed; 10];
    let large = (0..5).map(|nth| vec![seed + nth; LARGE_BYTES]);
    large.chain([small]).collect()
}

/// Joins, writes until memory becomes tables, joins more, overwrites some of it.
async fn story(
    runtime: &Runtime,
    engine: &Engine,
    ledger: &SharedLedger,
) -> Result<(), AppendRefused> {
    join(engine, ledger, 1, &large(10)).await?;
    settle(runtime, engine, ledger).await;
    for name in [2, 3, 4] {
        let found = lookup(engine, name).await;
        append_to(engine, ledger, found, name, Some(&[name; 4_000]), false)?;
    }
    engine.flush();
    runtime.sleep(Duration::from_secs(1)).await;
    collect(runtime, engine).await;
    join(engine, ledger, 2, &large(60)).await?;
    let found = lookup(engine, 1).await;
    append_to(engine, ledger, found, 1, Some(&[9; 500]), true)?;
    settle(runtime, engine, ledger).await;
    Ok(())
}

fn life(machine: &Machine, ledger: &SharedLedger) -> Option<()> {
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let options = options_of(&shared);
        if let Ok(engine) = begin(&runtime, &shared, options).await {
            let _ = story(&runtime, &engine, &shared).await;
        }
    })
}

#[test]
fn values_too_large_together_are_stored_and_found_again() {
    marks::reset();
    let (_simulation, machine, ledger) = narrow_world(70);
    life(&machine, &ledger).expect("nothing ends it");
    assert!(marks::seen(Mark::StoredApart) >= 2);
    let newest = |name| {
        let ledger = ledger.borrow();
        let count = ledger.versions.len();
        ledger
            .newest(name, count)
            .map(|(_, version)| version.siblings.len())
    };
    assert_eq!((newest(1), newest(2)), (Some(7), Some(7)));
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

fn power_cuts() {
    let (_simulation, machine, ledger) = narrow_world(71);
    life(&machine, &ledger).expect("nothing ends it");
    for number in 1..=machine.io_count() {
        let (_simulation, machine, ledger) = narrow_world(71);
        machine.crash_at_io(Some(number));
        life(&machine, &ledger);
        machine.crash_at_io(None);
        machine.crash();
        let checked = check(&machine, &ledger).expect("nothing ends it");
        checked.unwrap_or_else(|error| panic!("I/O {number}: {error}"));
        assert_eq!(ledger.borrow().recovery.damaged_groups, 0, "I/O {number}");
    }
}

/// Nothing names the values of the first segments while the last ones are written: collection, which would give such
/// segments back, leaves them.
fn collected_meanwhile() {
    let (_simulation, machine, ledger) = narrow_world(72);
    let shared = ledger.clone();
    let collected = machine.run(|runtime| async move {
        let options = options_of(&shared);
        let engine = begin(&runtime, &shared, options)
            .await
            .expect("a sound disk");
        // Something stands in a table: before that nothing is collected.
        for name in [1, 3] {
            append(&engine, &shared, name, Some(&[3; 4_000]), false).expect("there is room");
        }
        settle(&runtime, &engine, &shared).await;
        engine.flush();
        runtime.sleep(Duration::from_secs(1)).await;
        let (joining, joined_by) = (engine.clone(), shared.clone());
        let done = Rc::new(RefCell::new(false));
        let told = done.clone();
        runtime.spawn(Queue::Foreground, async move {
            let stored = join(&joining, &joined_by, 1, &large(10)).await;
            stored.expect("there is room");
            *told.borrow_mut() = true;
        });
        let mut looks = 0;
        while !*done.borrow() {
            collect(&runtime, &engine).await;
            runtime.sleep(Duration::from_micros(50)).await;
            looks += 1;
        }
        settle(&runtime, &engine, &shared).await;
        compare(&engine, &shared).await;
        let Lookup::Found(entry) = lookup(&engine, 1).await else {
            panic!("it was stored")
        };
        let apart = entry.object.siblings.iter().filter(|sibling| {
            matches!(sibling.value, Place::At { location, .. } if location.bytes < 2 * LARGE_BYTES as u32)
        });
        assert_eq!(apart.count(), 6, "each value lies in a record of its own");
        looks
    });
    assert!(collected > Some(2), "{collected:?}: it was too fast");
    machine.crash();
    check(&machine, &ledger)
        .expect("nothing ends it")
        .expect("a sound disk");
}

#[test]
fn a_power_cut_at_any_io_leaves_all_of_a_join_or_nothing() {
    power_cuts();
    caught(Planted::FlippedBeforeDurable, power_cuts);
}

#[test]
fn values_that_wait_for_their_entry_are_not_collected() {
    collected_meanwhile();
    caught(Planted::ApartNotPinned, collected_meanwhile);
}

/// A check that never failed proves nothing.
fn caught(bug: Planted, test: fn()) {
    planted::enable(bug);
    let failed = std::panic::catch_unwind(test).is_err();
    planted::disable_all();
    assert!(failed, "{} was not caught", bug.name());
}
