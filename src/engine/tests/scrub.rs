//! Rot that nobody reads is found, noted once, and told; what is sound stays unblamed, whatever happens beside it.

use super::tables::{collect, fill, tiny_world};
use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::engine::{News, Scrub, quarantine};
use crate::runtime::disk::DiskCause;
use crate::runtime::time::timeout;

/// Looks at everything.
async fn pass(runtime: &Runtime, engine: &Engine) -> Scrub {
    engine.scrub();
    while engine.scrubbed().asked {
        runtime.sleep(Duration::from_millis(5)).await;
    }
    engine.scrubbed()
}

/// Keys of no ledger: so many that a table has blocks.
const MANY: u32 = 400;

fn many(name: &[u8; 4]) -> KeyRef<'_> {
    KeyRef {
        position: Position::of(BUCKET, name),
        bucket: BUCKET,
        key: name,
    }
}

/// A value that stands in the entry.
fn append_short(engine: &Engine, key: KeyRef<'_>) -> Result<GroupNumber, AppendRefused> {
    let (new, operation) = (dot(u64::MAX / 2, 1), OperationId(1));
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    object.vector.add(new);
    object.siblings.push(Sibling {
        dot: new,
        operation,
        kind: Kind::Value,
        written: UnixMillis(1),
        expires: UnixMillis(0),
        value_hash: value_hash(key.bucket, key.key, new, operation, b"short"),
        value: crate::engine::NewValue::Put(b"short"),
    });
    engine.append(key, None, object, None, UnixMillis(0))
}

/// An engine with segments, cold ones too, and tables, and nothing on its way.
async fn filled(runtime: &Runtime, ledger: &SharedLedger) -> Engine {
    let engine = begin(runtime, ledger, options_of(ledger)).await;
    let engine = engine.expect("a sound disk");
    fill(runtime, &engine, ledger).await;
    collect(runtime, &engine).await;
    engine.flush();
    runtime.sleep(Duration::from_millis(500)).await;
    for name in (0..MANY).map(u32::to_be_bytes) {
        while append_short(&engine, many(&name)).is_err() {
            runtime.sleep(Duration::from_millis(5)).await;
        }
    }
    engine.flush();
    runtime.sleep(Duration::from_secs(2)).await;
    engine
}

/// The files that scrub looks at, each with the pages of it that hold something.
fn scrubbed_files(engine: &Engine) -> Vec<(String, u64)> {
    let state = engine.shell.state.borrow();
    let segments = state.written_segments().into_iter();
    let segments = segments.map(|one| (crate::engine::segment_name(one.segment), one.end));
    let runs = state.runs();
    let tables = runs.tables().map(|table| table.summary());
    let tables = tables.map(|one| (crate::engine::table::name(one.number), one.bytes));
    let all = segments.chain(tables);
    all.map(|(name, bytes)| (format!("data/{name}"), bytes / PAGE_BYTES as u64))
        .collect()
}

/// A page spoiled: zeroes, junk, one bit, what was written elsewhere in the file.
fn spoiled(bytes: &[u8], page: u64, how: u64) -> Vec<u8> {
    let page = page as usize;
    let at = |page: usize| page * PAGE_BYTES..(page + 1) * PAGE_BYTES;
    let mut spoiled = bytes[at(page)].to_vec();
    match how {
        0 => spoiled.fill(0),
        1 => {
            let mut rng = Rng::new(page as u64);
            spoiled.fill_with(|| rng.u64() as u8);
        }
        2 => spoiled[3000] ^= 16,
        _ => {
            let other = (page + 1) % (bytes.len() / PAGE_BYTES);
            spoiled.copy_from_slice(&bytes[at(other)]);
        }
    }
    spoiled
}

#[test]
fn every_page_that_is_spoiled_is_found() {
    let (_simulation, machine, ledger) = tiny_world(41);
    let at = machine.clone();
    let life = machine.run(|runtime| async move {
        let engine = filled(&runtime, &ledger).await;
        let sound = pass(&runtime, &engine).await;
        assert_eq!((sound.bad_at_last, sound.passes), (0, 1));
        assert_eq!(sound.bytes_read, sound.bytes);
        let mut tried = [0; 2];
        for (path, pages) in scrubbed_files(&engine) {
            let whole = at.file_bytes(&path).expect("it is there");
            let step = if path.ends_with(".table") { 1 } else { 7 };
            for page in (0..pages).step_by(step) {
                for how in 0..4 {
                    let spoiled = spoiled(&whole, page, how);
                    let offset = page * PAGE_BYTES as u64;
                    let from = offset as usize;
                    if spoiled == whole[from..from + PAGE_BYTES] {
                        continue;
                    }
                    assert!(at.overwrite(&path, offset, &spoiled));
                    let found = pass(&runtime, &engine).await;
                    assert!(
                        found.bad_at_last > 0,
                        "{path}, page {page}, spoiled as {how}"
                    );
                    at.overwrite(&path, offset, &whole[from..from + PAGE_BYTES]);
                    tried[usize::from(path.ends_with(".table"))] += 1;
                }
            }
        }
        assert!(
            tried.iter().all(|&count| count > 15),
            "{tried:?} prove nothing"
        );
        assert_eq!(pass(&runtime, &engine).await.bad_at_last, 0);
    });
    life.expect("nothing ends it");
}

/// Spoils a page of a file of a kind: it is found, noted once, and the rest is served.
fn found_and_noted(kind: &'static str, page: u64, how: u64) {
    let (_simulation, machine, ledger) = tiny_world(42);
    let at = machine.clone();
    let life = machine.run(|runtime| async move {
        let engine = filled(&runtime, &ledger).await;
        let files = scrubbed_files(&engine).into_iter();
        let mut files = files.filter(|(path, pages)| path.ends_with(kind) && *pages > page + 1);
        // Of tables the one with the oldest entries.
        let (path, _) = files.next_back().expect("there is one");
        let whole = at.file_bytes(&path).expect("it is there");
        // The first one from there on that is not the same when it is spoiled.
        let mut page = page;
        let is_same = |page: u64| {
            let from = page as usize * PAGE_BYTES;
            how < 4 && spoiled(&whole, page, how) == whole[from..from + PAGE_BYTES]
        };
        while is_same(page) {
            page += 1;
        }
        let offset = page * PAGE_BYTES as u64;
        match how {
            4 => assert!(at.kill_page(&path, page)),
            _ => assert!(at.overwrite(&path, offset, &spoiled(&whole, page, how))),
        }
        let scrub = pass(&runtime, &engine).await;
        let again = pass(&runtime, &engine).await;
        assert_eq!((scrub.bad_at_last, again.bad_at_last), (1, 1));
        let mut told = Vec::new();
        let wait = Duration::from_millis(50);
        while let Some((news, recorded)) = timeout(&runtime, wait, engine.next_damage()).await {
            recorded.expect("there is room for a note");
            told.push(news);
        }
        let report = engine.damage();
        let [place] = &report.places[..] else {
            panic!("one place: {report:?}");
        };
        let spot = place.spot;
        assert!(path.ends_with(&spot.file.name()), "{spot:?}");
        assert!(
            (spot.offset..spot.offset + spot.bytes).contains(&offset),
            "{spot:?}"
        );
        assert!(place.recorded && place.met == 2, "{place:?}");
        let tells = |news: &News| matches!(news, News::Unreadable(bad) if bad.spot == spot);
        assert!(told.len() == 1 && tells(&told[0]), "{told:?}");
        let mut served = 0;
        for name in (0..MANY).map(u32::to_be_bytes) {
            let found = engine.lookup_slow(many(&name)).await;
            served += u32::from(matches!(found, Lookup::Found(_)));
        }
        // One block holds some seventy.
        assert!(served > MANY - 100, "{served} keys are served");
        quarantine::name(spot)
    });
    let note = format!("data/{}", life.expect("nothing ends it"));
    assert!(machine.files().contains(&note));
}

#[test]
fn a_cold_page_is_noted_once_and_the_rest_is_served() {
    for how in 0..5 {
        found_and_noted(".segment", 20, how);
        found_and_noted(".table", 0, how);
    }
}

/// A read that fails and then does not is no damage; the pass goes on.
#[test]
fn an_error_that_passes_is_not_noted() {
    let (_simulation, machine, ledger) = tiny_world(43);
    let at = machine.clone();
    let life = machine.run(|runtime| async move {
        let engine = filled(&runtime, &ledger).await;
        let before = at.io_count();
        pass(&runtime, &engine).await;
        let reads = at.io_count() - before;
        assert!(reads > 6, "{reads} reads prove nothing");
        for nth in 1..=reads {
            at.fail_io(at.io_count() + nth, DiskCause::Os(5));
            let scrub = pass(&runtime, &engine).await;
            assert_eq!(
                (scrub.bad_at_last, engine.damage().met),
                (0, 0),
                "read {nth}"
            );
        }
        assert_eq!(engine.scrubbed().passes, 1 + reads);
    });
    life.expect("nothing ends it");
}

#[test]
fn what_is_flushed_merged_and_collected_beside_it_is_no_damage() {
    marks::reset();
    for seed in 50..58 {
        let (_simulation, machine, ledger) = tiny_world(seed);
        let life = machine.run(|runtime| async move {
            let engine = begin(&runtime, &ledger, options_of(&ledger)).await;
            let engine = engine.expect("a sound disk");
            let looked_at = engine.clone();
            let looks = runtime.clone();
            runtime.spawn(Queue::Scrub, async move {
                while !looked_at.shell.state.borrow().is_closed() {
                    pass(&looks, &looked_at).await;
                }
            });
            work(&runtime, &engine, &ledger, &mut Rng::new(seed), 400).await;
            settle(&runtime, &engine, &ledger).await;
            let _ = engine.close().await;
            (engine.scrubbed().passes, engine.damage())
        });
        let (passes, damage) = life.expect("nothing ends it");
        assert!(passes > 3, "{passes} passes prove nothing");
        assert_eq!((damage.met, damage.places.len()), (0, 0), "seed {seed}");
    }
    for mark in [Mark::Merged, Mark::SegmentCollected, Mark::Scrubbed] {
        assert!(marks::seen(mark) > 0, "{} was never seen", mark.name());
    }
}

/// What a start would replay is in memory: it becomes a table, and the next start does not need what is lost.
#[test]
fn rot_in_what_would_be_replayed_is_survived() {
    let (_simulation, machine, ledger) = world(44);
    let (at, shared) = (machine.clone(), ledger.clone());
    let life = machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared)).await;
        let engine = engine.expect("a sound disk");
        for name in 0..5 {
            append(&engine, &shared, name, Some(b"short"), false).expect("there is room");
            settle(&runtime, &engine, &shared).await;
        }
        assert_eq!(engine.statistics().flushes, 0);
        assert!(at.corrupt(
            "data/log/0000000000.segment",
            2 * PAGE_BYTES as u64 + 300,
            1
        ));
        assert_eq!(pass(&runtime, &engine).await.bad_at_last, 1);
        runtime.sleep(Duration::from_millis(300)).await;
        assert_eq!(engine.statistics().flushes, 1);
    });
    life.expect("nothing ends it");
    machine.crash();
    let checked = check(&machine, &ledger).expect("nothing ends it");
    checked.expect("it starts");
    let ledger = ledger.borrow();
    assert_eq!((ledger.unsure, ledger.recovery.damaged_groups), (0, 0));
}

#[test]
fn the_rate_is_kept_and_a_stop_is_prompt() {
    let (_simulation, machine, ledger) = tiny_world(45);
    let shared = ledger.clone();
    let life = machine.run(|runtime| async move {
        let engine = filled(&runtime, &shared).await;
        let _ = engine.close().await;
        let bytes = engine.statistics().disk_bytes;
        drop(engine);
        bytes
    });
    assert!(life.expect("nothing ends it") > 0);
    let life = machine.run(|runtime| async move {
        let options = Options {
            scrub_bytes_per_second: 64 * KIB as u64,
            ..options_of(&ledger)
        };
        let engine = begin(&runtime, &ledger, options).await;
        let engine = engine.expect("a sound disk");
        let (began, before) = (runtime.now(), engine.scrubbed().bytes_read);
        runtime.sleep(Duration::from_secs(10)).await;
        let read = engine.scrubbed().bytes_read - before;
        let seconds = (runtime.now().0 - began.0) / 1_000_000_000;
        // One read may be under way.
        let most = (seconds + 1) * 64 * KIB as u64 + MIB as u64;
        assert!(
            (300 * KIB as u64..=most).contains(&read),
            "{read} bytes in {seconds} s"
        );
        assert!(engine.scrubbed().running);
        let _ = engine.close().await;
        runtime.sleep(Duration::from_millis(5)).await;
        let left = engine.scrubbed().bytes_read;
        runtime.sleep(Duration::from_secs(60)).await;
        assert_eq!(engine.scrubbed().bytes_read, left);
    });
    life.expect("nothing ends it");
}

/// A check that never failed proves nothing.
#[test]
fn a_scrub_that_overlooks_is_caught() {
    planted::enable(Planted::RotOverlooked);
    let failed =
        std::panic::catch_unwind(a_cold_page_is_noted_once_and_the_rest_is_served).is_err();
    planted::disable_all();
    assert!(failed, "RotOverlooked was not caught");
}
