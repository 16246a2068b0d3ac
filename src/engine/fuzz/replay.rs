//! Whole data directories whose checksums are right and whose contents may make no sense: opened on a simulated disk.

use super::{group, manifest, record};
use crate::base::limits::PAGE_BYTES;
use crate::base::units::MIB;
use crate::causal::object::Object;
use crate::engine::key::Key;
use crate::engine::log::format::{GroupHeader, WORD_BYTES};
use crate::engine::log::segment::{self, Segment};
use crate::engine::manifest::Cut;
use crate::engine::manifest_codec::Edit;
use crate::engine::manifest_format::BlockHeader;
use crate::engine::{Engine, OpenError, Options, Place, Sizes};
use crate::runtime::Runtime;
use crate::runtime::simulated::{Faults, Simulation};
use std::path::Path;
use std::rc::Rc;

/// Segments 0 to 3, of this many pages.
const SEGMENTS: usize = 4;
const SEGMENT_PAGES: usize = 16;
/// Makes the odd part of the manifest's last page missing.
const CUT_MANIFEST: u8 = 128;
/// Instead of the predecessor that the group before it is.
const RAW_LINK: u8 = 128;

type Keys = Vec<(Key, Object<Place>)>;

/// Four bytes (which segment files are missing; what is spoilt in the manifest; how many edits; how many words), the
/// words of the manifest's edits, then groups: six bytes (segment, page, what is not put right, number, number of the
/// one before it, words) and the words of their records.
pub fn run(data: &[u8]) {
    let Some((&[present, spoilt, edits, words], rest)) = data.split_first_chunk() else {
        return;
    };
    let Some((words, groups)) = rest.split_at_checked(usize::from(words) * WORD_BYTES) else {
        return;
    };
    let header = BlockHeader {
        generation: 1,
        identity: group::LOG.identity,
        edits: edits.into(),
        ..manifest::first(1)
    };
    let mut block = manifest::built(header, words, spoilt & !CUT_MANIFEST);
    if spoilt & CUT_MANIFEST != 0 {
        block.extend([0; PAGE_BYTES / 2]);
    }
    let mut files = vec![("shard-000.manifest-1".to_string(), block)];
    for (number, bytes) in segments(groups).into_iter().enumerate() {
        if present & 1 << number == 0 {
            files.push((segment::name(number as u32), bytes));
        }
    }
    check(files);
}

fn segments(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = vec![vec![0; SEGMENT_PAGES * PAGE_BYTES]; SEGMENTS];
    let (mut last, mut arcs) = (0, Default::default());
    while let Some((&[segment, page, raw, number, previous, words], behind)) =
        rest.split_first_chunk()
        && let Some((body, behind)) = behind.split_at_checked(usize::from(words) * WORD_BYTES)
    {
        let (segment, page) = (
            usize::from(segment) % SEGMENTS,
            usize::from(page) % SEGMENT_PAGES,
        );
        let header = GroupHeader {
            previous_arcs: arcs,
            ..group::header(
                wide(number),
                wide(previous),
                if raw & RAW_LINK == 0 { last } else { 0 },
            )
        };
        let pages = group::built(header, body, segment as u32, page as u32, raw);
        let header: GroupHeader = bytemuck::pod_read_unaligned(&pages[..size_of::<GroupHeader>()]);
        last = header.header_crc;
        // What is known of the arcs of random bytes: that they lie in one word.
        arcs = [0; 16];
        arcs[usize::from(number) % 16] = u64::MAX;
        let room = &mut segments[segment][page * PAGE_BYTES..];
        let len = pages.len().min(room.len());
        room[..len].copy_from_slice(&pages[..len]);
        rest = behind;
    }
    segments
}

/// Numbers near both ends.
fn wide(number: u8) -> u64 {
    let low = u64::from(number);
    if number < 0xf0 { low } else { low | !0xff }
}

fn check(files: Vec<(String, Vec<u8>)>) {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("fuzzed");
    let written = machine.run(|runtime| async move {
        let disk = runtime.disk(Path::new("data"));
        disk.create_dir(segment::DIRECTORY).await?;
        for (name, bytes) in files {
            disk.replace_small(&name, &bytes).await?;
        }
        Ok::<(), OpenError>(())
    });
    written.expect("it lives").expect("a disk without faults");
    let opened = |runtime: Runtime| async move { open(&runtime).await };
    let first = machine.run(opened).expect("the process lives");
    let Ok(first) = first else {
        return;
    };
    let second = machine.run(opened).expect("the process lives");
    assert_eq!(second.expect("what was opened once is opened again"), first);
}

/// The keys that are there, all of whose values were tried.
async fn open(runtime: &Runtime) -> Result<Keys, OpenError> {
    let disk = runtime.disk(Path::new("data"));
    let options = Options {
        shard: 0,
        shards: 1,
        memory_bytes: 2 * MIB,
        value_bytes_max: MIB / 4,
        scrub_bytes_per_second: 0,
        disk_bytes: u64::MAX,
        sizes: Sizes::SMALL,
    };
    let (engine, _) = Engine::open(runtime, &disk, options, &mut |done, total| {
        assert!(done <= total)
    })
    .await?;
    let mut keys = Vec::new();
    // A table whose blocks cannot be read is found out when it is asked.
    let held = engine.scan(None, 1 << 20).await.unwrap_or_default();
    for (key, entry) in held {
        for sibling in &entry.object.siblings {
            let read = engine
                .read_value(key.as_ref(), sibling.dot, &sibling.value)
                .await;
            if let Ok(value) = read {
                assert_eq!(value.len(), sibling.value.bytes());
            }
        }
        keys.push((key, Object::clone(&Rc::clone(&entry.object))));
    }
    Ok(keys)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let segment = |number| {
        Edit::Segment(Segment {
            number,
            bytes: (SEGMENT_PAGES * PAGE_BYTES) as u64,
        })
    };
    let cut = Edit::Cut(Cut {
        segment: 0,
        offset: PAGE_BYTES as u64,
        last: Default::default(),
        next_number: 3,
    });
    let manifest = |edits| {
        let block = manifest::block_seed(edits);
        [&[0b1100][..], &block].concat()
    };
    let group = |segment: u8, page: u8, number: u8, records: u64| {
        let mut body = Vec::new();
        for n in 0..records {
            let key = [number, n as u8];
            body.extend(record::sample(&key, n % 3 + 1, segment.into(), 0));
        }
        let words = (body.len() / WORD_BYTES) as u8;
        [&[segment, page, 0, number, number - 1, words][..], &body].concat()
    };
    let simple = manifest(vec![segment(0), segment(1)]);
    let cut = manifest(vec![segment(0), cut, segment(1)]);
    let last_of_all = manifest(vec![segment(0), Edit::HighestSegment(u32::MAX)]);
    let last_group = manifest(vec![segment(0), Edit::FirstGroup(u64::MAX - 1)]);
    let twice = manifest(vec![segment(0), segment(0)]);
    vec![
        [&last_of_all[..], &group(0, 0, 1, 1)].concat(),
        [
            &last_group[..],
            &group(0, 0, 0xfe, 1),
            &group(0, 1, 0xff, 1),
        ]
        .concat(),
        [&twice[..], &group(0, 0, 1, 1)].concat(),
        [
            &simple[..],
            &group(0, 0, 1, 2),
            &group(0, 1, 2, 1),
            &group(1, 0, 3, 3),
        ]
        .concat(),
        [&simple[..], &group(0, 0, 1, 1), &group(0, 2, 3, 0)].concat(),
        [
            &cut[..],
            &group(0, 0, 1, 1),
            &group(0, 1, 2, 1),
            &group(1, 0, 3, 1),
        ]
        .concat(),
        simple,
    ]
}
