//! What cannot be read is an error, and is noted: listed, told, and known to the next start.

use super::tables::{TINY, collect, fill, tiny_world};
use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::base::marks::{self, Mark};
use crate::base::planted::{self, Planted};
use crate::engine::damage::Spot;
use crate::engine::{DamageReport, News, quarantine};
use crate::runtime::time::timeout;

/// What is told, until nothing is for a while; all of it could be noted.
async fn news(runtime: &Runtime, engine: &Engine) -> Vec<News> {
    let mut all = Vec::new();
    let wait = Duration::from_millis(50);
    while let Some((news, recorded)) = timeout(runtime, wait, engine.next_damage()).await {
        recorded.expect("there is room for a note");
        all.push(news);
    }
    all
}

/// Reads all keys; how many answer that a checksum fails.
async fn unsure(engine: &Engine) -> usize {
    let mut unsure = 0;
    for name in 0..KEYS as u8 {
        match lookup(engine, name).await {
            Lookup::Unsure(why) => unsure += usize::from(why == Unsure::Checksum),
            Lookup::Found(entry) => {
                for sibling in &entry.object.siblings {
                    let (key, dot) = (key(&name), sibling.dot);
                    let read = engine.read_value(key, dot, &sibling.value).await;
                    unsure += usize::from(read == Err(Unsure::Checksum));
                }
            }
            Lookup::Absent | Lookup::MustRead => {}
        }
    }
    unsure
}

fn spots(report: &DamageReport) -> Vec<Spot> {
    report.places.iter().map(|known| known.spot).collect()
}

/// Spoils a page of each file of a kind in a directory where something was flushed, and follows it over two starts.
fn spoiled(kind: &str, page: u64) {
    let (_simulation, machine, ledger) = tiny_world(25);
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared)).await;
        fill(&runtime, &engine.expect("a sound disk"), &shared).await;
    });
    machine.crash();
    let files = machine.files().into_iter();
    for path in files.filter(|path| path.ends_with(kind)) {
        machine.corrupt(&path, page * PAGE_BYTES as u64 + 300, 1);
    }
    let options = options_of(&ledger);
    let mut before: Option<DamageReport> = None;
    for _ in 0..2 {
        let options = options.clone();
        let life = machine.run(|runtime| async move {
            let (engine, _) = open(&runtime, options).await.expect("it starts");
            let known = engine.damage();
            let unsure = unsure(&engine).await;
            (
                known,
                unsure,
                news(&runtime, &engine).await,
                engine.damage(),
            )
        });
        let (known, unsure, news, after) = life.expect("nothing ends it");
        machine.crash();
        // A start knows what was noted, and has met none of it.
        assert_eq!(spots(&known), before.as_ref().map_or(vec![], spots));
        assert!(
            known
                .places
                .iter()
                .all(|known| known.recorded && known.met == 0)
        );
        // What is met is told, once in a life each, and noted.
        assert!(unsure > 0 && after.met >= unsure as u64);
        let told = news
            .iter()
            .filter(|news| matches!(news, News::Unreadable(_)));
        let met = after.places.iter().filter(|known| known.met > 0);
        assert_eq!(told.count(), met.clone().count());
        for known in met {
            assert!(known.recorded && !known.what.is_empty());
            assert!(known.spot.file.name().ends_with(kind), "{known:?}");
            let note = machine.file_bytes(&format!("data/{}", quarantine::name(known.spot)));
            let note = String::from_utf8(note.expect("there is a note")).expect("it is text");
            assert!(note.contains(&known.spot.file.name()), "{note}");
            assert!(note.contains("is written there, the bytes have"), "{note}");
        }
        before = Some(after);
    }
}

#[test]
fn a_bad_block_is_noted_and_a_restart_knows() {
    spoiled(".table", 0);
}

#[test]
fn a_bad_record_is_noted_and_a_restart_knows() {
    // Behind what a start replays, so that it is met as a value.
    spoiled(".segment", 3);
}

#[test]
fn notes_go_with_their_file_and_by_the_hand_of_an_operator() {
    let (_simulation, machine, ledger) = tiny_world(25);
    let options = options_of(&ledger);
    let known = machine.run(|runtime| async move {
        let disk = runtime.disk(Path::new("data"));
        disk.create_dir(quarantine::DIRECTORY)
            .await
            .expect("a sound disk");
        for note in [
            "0000000007.table+0+4096",
            "0000000000.segment+8192+300",
            "rubbish",
        ] {
            let name = format!("{}/{note}", quarantine::DIRECTORY);
            disk.replace_small(&name, b"").await.expect("a sound disk");
        }
        let mut known = Vec::new();
        // The first start makes segment 0, and writes to it; the second finds that note to be of a file that is there.
        for _ in 0..2 {
            let engine = begin(&runtime, &ledger, options.clone())
                .await
                .expect("it starts");
            known.push(spots(&engine.damage()).len());
            append(&engine, &ledger, 0, Some(&[1; 700]), false).expect("there is room");
            settle(&runtime, &engine, &ledger).await;
            let _ = engine.close().await;
            let name = format!("{}/0000000000.segment+8192+300", quarantine::DIRECTORY);
            disk.replace_small(&name, b"").await.expect("a sound disk");
        }
        known
    });
    assert_eq!(known, Some(vec![0, 1]));
    let files = machine.files();
    assert!(
        !files.iter().any(|path| path.contains("0000000007.table+")),
        "{files:?}"
    );
    assert!(
        files.contains(&"data/quarantine/rubbish".to_owned()),
        "{files:?}"
    );
}

#[test]
fn a_stuck_segment_is_told_with_its_reason() {
    let (_simulation, machine, ledger) = tiny_world(29);
    let at = machine.clone();
    let life = machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options_of(&ledger)).await;
        let engine = engine.expect("a sound disk");
        fill(&runtime, &engine, &ledger).await;
        let files = at.files().into_iter();
        for path in files.filter(|path| path.ends_with(".segment")) {
            at.corrupt(&path, 20 * PAGE_BYTES as u64 + 300, 1);
        }
        collect(&runtime, &engine).await;
        (news(&runtime, &engine).await, engine.damage())
    });
    let (news, report) = life.expect("nothing ends it");
    let (segment, why) = report.stuck.first().expect("a segment is stuck").clone();
    assert!(why.contains("cannot be read whole"), "{why}");
    assert!(
        news.contains(&News::SegmentStuck { segment, why }),
        "{news:?}"
    );
    let place = |news: &News| matches!(news, News::Unreadable(bad) if bad.spot.file.name().ends_with(".segment"));
    assert!(news.iter().any(place), "{news:?}");
}

/// A life on a spoilt directory, whose ledger begins anew: values of new keys, overwritten and flushed, so that much is
/// to be collected and merged.
async fn write_and_collect(runtime: &Runtime) -> Engine {
    let ledger = SharedLedger::default();
    ledger.borrow_mut().sizes = TINY;
    let (engine, _) = open(runtime, options_of(&ledger)).await.expect("it starts");
    let (commits, acks) = (engine.clone(), ledger.clone());
    runtime.spawn(Queue::Foreground, async move {
        while let Ok(durable) = commits.commit_next().await {
            acks.borrow_mut().ack(0, durable);
        }
    });
    let (engine, ledger) = (&engine, &ledger);
    for round in 0..10u8 {
        for name in (200..212).chain(200..206) {
            let found = lookup(engine, name).await;
            // An arc of which a group is lost takes no writes.
            let _ = append_to(engine, ledger, found, name, Some(&[round; 9_000]), false);
            settle(runtime, engine, ledger).await;
        }
        engine.flush();
        runtime.sleep(Duration::from_secs(1)).await;
        collect(runtime, engine).await;
    }
    engine.clone()
}

/// Only the run that it is in stays unmerged, and only the segments that its entries may name are kept.
#[test]
fn a_bad_block_stops_neither_collection_nor_merges() {
    marks::reset();
    let (_simulation, machine, ledger) = tiny_world(25);
    let shared = ledger.clone();
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &shared, options_of(&shared)).await;
        fill(&runtime, &engine.expect("a sound disk"), &shared).await;
    });
    machine.crash();
    // A start removes what no manifest names.
    machine.run(|runtime| async move {
        let (engine, _) = open(&runtime, options_of(&ledger))
            .await
            .expect("it starts");
        let _ = engine.close().await;
    });
    let files = machine.files().into_iter();
    let oldest = files.filter(|path| path.ends_with(".table")).min();
    machine.corrupt(&oldest.expect("something was flushed"), 300, 1);
    let (statistics, report) = machine
        .run(|runtime| async move {
            let engine = write_and_collect(&runtime).await;
            (engine.statistics(), engine.damage())
        })
        .expect("nothing ends it");
    for mark in [Mark::CountSkipped, Mark::MergeUnreadable] {
        assert!(
            marks::seen(mark) > 0,
            "{} was never seen: {report:?}",
            mark.name()
        );
    }
    assert_eq!(report.runs_stuck, 1, "{report:?}");
    assert!(
        statistics.merges > 0 && statistics.segments_collected > 0,
        "{statistics:?}"
    );
}

/// Wherever in a group of a segment a byte rots, and however the segment is then replayed, kept as value storage and
/// looked at by collection: its file is not removed, for what is in it may be all that there is.
#[test]
fn a_segment_with_a_rotten_group_is_never_removed() {
    // Each group is of another key, so that what one of them lacks makes no other unsure; all are replayed.
    let prepared = || {
        let (simulation, machine, ledger) = tiny_world(31);
        ledger.borrow_mut().sizes = Sizes {
            memtable_bytes: None,
            replay_bytes: None,
            ..TINY
        };
        machine.run(|runtime| async move {
            let engine = begin(&runtime, &ledger, options_of(&ledger)).await;
            let engine = engine.expect("a sound disk");
            for name in (0..25).chain(0..25) {
                let found = lookup(&engine, name).await;
                append_to(&engine, &ledger, found, name, Some(&[7; 60_000]), false)
                    .expect("there is room");
                settle(&runtime, &engine, &ledger).await;
                runtime.sleep(Duration::from_millis(5)).await;
            }
        });
        machine.crash();
        (simulation, machine)
    };
    let (_simulation, machine) = prepared();
    let mut segments = machine.files();
    segments.retain(|path| path.ends_with(".segment"));
    let page = |path: &String| {
        machine
            .file_bytes(path)
            .map(|bytes| bytes[..PAGE_BYTES].to_vec())
    };
    segments.retain(|path| page(path).is_some_and(|page| page.iter().any(|&byte| byte != 0)));
    segments.sort();
    // The last group of all may be torn.
    segments.pop();
    let mut tried = 0;
    for path in segments.iter().rev().take(8) {
        let bytes = machine.file_bytes(path).expect("it is there");
        let pages = bytes.chunks(PAGE_BYTES).enumerate();
        let written = pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
        let written: Vec<usize> = written.map(|(page, _)| page).collect();
        let last = written.last().copied();
        // Groups in the midst, and the last one of the segment.
        for page in written.into_iter().step_by(29).chain(last) {
            tried += 1;
            let (_simulation, machine) = prepared();
            machine.corrupt(path, page as u64 * PAGE_BYTES as u64 + 300, 1);
            machine.run(|runtime| async move {
                let engine = write_and_collect(&runtime).await;
                assert!(engine.statistics().segments_collected > 0);
            });
            assert!(machine.files().contains(path), "page {page} of {path}");
        }
    }
    assert!(tried > 10, "{tried}");
}

/// A check that never failed proves nothing.
#[test]
fn a_restart_that_forgets_is_caught() {
    planted::enable(Planted::QuarantineForgotten);
    let failed = std::panic::catch_unwind(a_bad_block_is_noted_and_a_restart_knows).is_err();
    planted::disable_all();
    assert!(failed, "QuarantineForgotten was not caught");
}
