//! What a look at files finds: nothing where all is whole, and whatever is spoiled, at its place.

use super::tables::{fill, tiny_world};
use super::*;
use crate::base::limits::PAGE_BYTES;
use crate::engine::inspect::{self, Flaw, LogPart, ManifestPart, NotRead, TablePart};

/// A path under the data directory, and the bytes there.
type OneFile = (String, Vec<u8>);

/// The files of a directory in which something was flushed, merged and collected.
fn files() -> Vec<OneFile> {
    let (_simulation, machine, ledger) = tiny_world(31);
    machine.run(|runtime| async move {
        let engine = begin(&runtime, &ledger, options_of(&ledger)).await;
        let engine = engine.expect("a sound disk");
        fill(&runtime, &engine, &ledger).await;
        let _ = engine.close().await;
    });
    let bytes = |path: String| {
        let bytes = machine.file_bytes(&path).expect("it was listed");
        (path, bytes)
    };
    machine.files().into_iter().map(bytes).collect()
}

/// What a look finds: the flaws, how many parts it shows, and where a segment ends.
#[derive(Debug, Default, PartialEq)]
struct Found {
    flaws: Vec<Flaw>,
    parts: u64,
    end: u64,
}

fn look(path: &str, bytes: &[u8], sealed: Option<u64>) -> Result<Found, NotRead> {
    let mut found = Found::default();
    let (flaws, parts) = (&mut found.flaws, &mut found.parts);
    let said = if path.ends_with(".segment") {
        let summary = inspect::log(bytes, None, sealed, &mut |part| match part {
            LogPart::Flaw(flaw) => flaws.push(flaw.clone()),
            LogPart::Group(_) | LogPart::Record { .. } => *parts += 1,
        })?;
        found.end = summary.end;
        summary.flaws
    } else if path.ends_with(".table") {
        let summary = inspect::table(bytes, None, &mut |part| match part {
            TablePart::Flaw(flaw) => flaws.push(flaw.clone()),
            TablePart::Block(_) | TablePart::Entry { .. } => *parts += 1,
        })?;
        summary.flaws
    } else {
        let summary = inspect::manifest(bytes, &mut |part| match part {
            ManifestPart::Flaw(flaw) => flaws.push(flaw.clone()),
            ManifestPart::Block(_) => *parts += 1,
        })?;
        summary.flaws
    };
    assert_eq!(said, found.flaws.len() as u64);
    Ok(found)
}

fn looked_at(path: &str) -> bool {
    let kinds = [".segment", ".table", ".manifest-"];
    kinds.iter().any(|kind| path.contains(kind))
}

/// Zeroes, junk, one bit, what lies elsewhere in the same file.
fn spoil(bytes: &mut [u8], page: usize, how: u64) {
    let at = page * PAGE_BYTES;
    match how {
        0 => bytes[at..at + PAGE_BYTES].fill(0),
        1 => {
            let mut rng = Rng::new(page as u64);
            bytes[at..at + PAGE_BYTES].fill_with(|| rng.u64() as u8);
        }
        2 => bytes[at + 77] ^= 4,
        _ => {
            let other = (page + 1) % (bytes.len() / PAGE_BYTES);
            bytes.copy_within(other * PAGE_BYTES..(other + 1) * PAGE_BYTES, at);
        }
    }
}

#[test]
fn what_is_whole_has_no_flaw_and_what_is_spoiled_is_found_at_its_place() {
    let mut kinds = [0; 3];
    for (path, whole) in files().iter().filter(|(path, _)| looked_at(path)) {
        let found = look(path, whole, None).expect("it is of ours");
        assert_eq!(found.flaws, [], "{path}");
        let kind = ["segment", "table", "manifest"];
        let kind = kind.iter().position(|kind| path.contains(kind));
        kinds[kind.expect("one of three")] += found.parts;
        let sealed = Some(found.end).filter(|_| path.ends_with(".segment"));
        let used = whole
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        let pages = sealed.map_or(used, |end| end as usize).div_ceil(PAGE_BYTES);
        for page in 0..pages {
            for how in 0..4 {
                let mut bytes = whole.clone();
                spoil(&mut bytes, page, how);
                if bytes == *whole {
                    continue;
                }
                let at = format!("{path}, page {page}, spoiled as {how}");
                let spoiled = match look(path, &bytes, sealed) {
                    Ok(spoiled) => spoiled,
                    // Without its last page a table says nothing, and no page else is needed so much.
                    Err(NotRead::Foreign(_)) if page + 1 == pages => continue,
                    Err(error) => panic!("{at}: {error}"),
                };
                let (start, end) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
                let there = spoiled.flaws.iter().any(|flaw| {
                    let flaw_end = flaw.offset + flaw.bytes.max(1);
                    flaw.offset < end as u64 && flaw_end > start as u64
                });
                // Nobody relied on the last block of a manifest.
                let torn = path.contains("manifest") && page + 1 == pages;
                assert!(there || torn, "{at}: {:?}", spoiled.flaws);
                assert!(
                    pages < 5 || spoiled.parts > 0,
                    "{at}: nothing else is shown"
                );
            }
        }
    }
    assert!(
        kinds.iter().all(|&parts| parts > 3),
        "{kinds:?} prove nothing"
    );
}

#[test]
fn arbitrary_bytes_do_not_panic() {
    let files = files();
    let mut rng = Rng::new(5);
    for (_, whole) in files.iter().filter(|(path, _)| looked_at(path)) {
        for _ in 0..40 {
            let mut bytes = whole.clone();
            for _ in 0..rng.below(20) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.u64() as u8;
            }
            bytes.truncate(rng.below(whole.len() as u64 + 1) as usize);
            for other in ["x.segment", "x.table", "x.manifest-1"] {
                let _ = look(other, &bytes, Some(rng.u64() % (1 << 20)));
            }
        }
    }
    for path in ["x.segment", "x.table", "x.manifest-1"] {
        let _ = look(path, &[], None);
    }
}
