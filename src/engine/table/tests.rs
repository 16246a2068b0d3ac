//! Tables on a simulated disk against a sorted map.

use super::entry_codec::tests::object;
use super::*;
use crate::base::limits::{PAGE_BYTES, TABLE_FILTER_PART_POSITIONS, VECTOR_ENTRIES_MAX};
use crate::base::planted::{self, Planted};
use crate::base::rng::Rng;
use crate::causal::dot::Dot;
use crate::engine::key::{Key, KeyRef};
use crate::engine::log::record::tests::{Value, dot, value};
use crate::engine::outcome::{OpenError, Unsure};
use crate::ring::position::Position;
use crate::runtime::Runtime;
use crate::runtime::buffer::PageBuffer;
use crate::runtime::disk::{Disk, DiskCause, DiskError, Open, Persist};
use crate::runtime::simulated::{Faults, Machine, Simulation};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::rc::Rc;

const ID: TableId = TableId {
    identity: 0x0123_4567_89ab_cdef,
    shard: 3,
    number: 12,
};
const FILE: &str = "data/table/0000000012.table";

type Twin = BTreeMap<Key, TableEntry>;

fn machine() -> (Simulation, Machine) {
    let simulation = Simulation::new(1, Faults::default());
    let machine = simulation.machine("node");
    (simulation, machine)
}

async fn disk(runtime: &Runtime) -> Disk {
    let disk = runtime.disk(Path::new("data"));
    disk.create_dir(DIRECTORY).await.expect("a sound disk");
    disk
}

async fn write(disk: &Disk, id: TableId, twin: &Twin) -> Result<Summary, DiskError> {
    let mut writer = TableWriter::create(disk, id).await?;
    for (key, entry) in twin {
        writer.add(key.as_ref(), &entry.object, entry.mine);
        writer.write_full().await?;
    }
    assert_eq!(writer.entries(), twin.len() as u64);
    let blocks = writer.bytes();
    let summary = writer.finish().await?;
    assert!(blocks + 2 * PAGE_BYTES as u64 <= summary.bytes);
    Ok(summary)
}

async fn open(disk: &Disk, summary: &Summary) -> Result<Table, OpenError> {
    Table::open(disk, ID, summary.bytes, summary.footer_crc).await
}

async fn search(table: &Table, key: KeyRef<'_>) -> Result<Option<TableEntry>, Unsure> {
    if !table.may_hold(key.position) {
        return Ok(None);
    }
    for block in table.blocks(key.position) {
        let read = table.read_block(block, false).await;
        let bytes = read.map_err(|bad| bad.unsure())?;
        match table.search(&bytes, key).map_err(|_| Unsure::Checksum)? {
            Search::Found(entry) => return Ok(Some(entry)),
            Search::Absent => return Ok(None),
            Search::Next => {}
        }
    }
    Ok(None)
}

async fn scan(table: &Rc<Table>, from: Bound<Key>) -> Result<Vec<(Key, TableEntry)>, Unsure> {
    let mut cursor = Cursor::new(table.clone(), from);
    let mut found = Vec::new();
    while let Some(entry) = cursor.next().await.map_err(|bad| bad.unsure())? {
        found.push(entry);
    }
    Ok(found)
}

fn all(twin: &Twin, from: Bound<Key>) -> Vec<(Key, TableEntry)> {
    let range = twin.range((from, Bound::Unbounded));
    range
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect()
}

fn key(position: u64, name: &[u8]) -> Key {
    Key {
        position: Position(position),
        bucket: b"bucket".as_slice().into(),
        key: name.into(),
    }
}

fn entry(values: &[Value], seen: u64, mine: Option<Dot>) -> TableEntry {
    TableEntry {
        object: object(values, seen),
        mine,
    }
}

/// Small entries at positions like those of keys.
fn many(count: u64, seed: u64) -> Twin {
    let mut rng = Rng::new(seed);
    let one = |n: u64| {
        let value = Value::At(n as u32, 2 * n as u32, 300, 0, 200);
        (key(rng.u64(), &n.to_le_bytes()), entry(&[value], 0, None))
    };
    (0..count).map(one).collect()
}

/// Positions that meet, at both ends of the circle, and anywhere.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..3,
        (0u64..3).prop_map(|n| u64::MAX - n),
        (0u64..8).prop_map(|n| n << 60),
    ]
}

fn entries() -> impl Strategy<Value = TableEntry> {
    let seen = prop_oneof![6 => 0u64..5, 1 => 100u64..VECTOR_ENTRIES_MAX as u64 - 200];
    let siblings = prop_oneof![6 => 0usize..4, 1 => 4usize..100];
    let values = siblings.prop_flat_map(|count| prop::collection::vec(value(), count));
    (values, seen, any::<Option<u8>>()).prop_map(|(values, seen, mine)| {
        entry(
            &values,
            seen,
            mine.map(|n| dot(u64::from(n), 1 + u64::from(n))),
        )
    })
}

/// Few names, so that keys differ in position or bucket alone; some long, so that a position fills blocks.
fn keys() -> impl Strategy<Value = Key> {
    let name = prop_oneof![
        4 => prop::collection::vec(0u8..3, 0..3),
        1 => (0u8..40).prop_map(|n| vec![n; 1500]),
    ];
    (position(), 0u8..2, name).prop_map(|(position, bucket, name)| Key {
        position: Position(position),
        bucket: [bucket].as_slice().into(),
        key: name.into(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_is_a_sorted_map(
        twin in prop::collection::btree_map(keys(), entries(), 1..120),
        probes in prop::collection::vec(keys(), 20),
    ) {
        let (_simulation, machine) = machine();
        let ran = machine.run(|runtime| async move {
            let disk = disk(&runtime).await;
            let summary = write(&disk, ID, &twin).await.expect("a sound disk");
            let table = Rc::new(open(&disk, &summary).await.expect("it was just written"));
            assert_eq!(table.summary(), &summary);
            assert_eq!(summary.entries, twin.len() as u64);
            assert_eq!(summary.first, twin.first_key_value().unwrap().0.position);
            assert_eq!(summary.last, twin.last_key_value().unwrap().0.position);
            for key in twin.keys().chain(&probes) {
                let found = search(&table, key.as_ref()).await.expect("a sound disk");
                assert_eq!(found.as_ref(), twin.get(key), "{key:?}");
            }
            let bounds = probes.iter().take(4).chain(twin.keys().take(4)).flat_map(|key| {
                [Bound::Included(key.clone()), Bound::Excluded(key.clone())]
            });
            for from in bounds.chain([Bound::Unbounded]) {
                assert_eq!(scan(&table, from.clone()).await, Ok(all(&twin, from)));
            }
        });
        prop_assert!(ran.is_some());
    }
}

#[test]
fn a_table_of_many_entries_has_many_of_everything() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let twin = many(2 * TABLE_FILTER_PART_POSITIONS as u64 + 100, 5);
        let summary = write(&disk, ID, &twin).await.expect("a sound disk");
        let table = Rc::new(open(&disk, &summary).await.expect("it was just written"));
        assert!(table.memory_bytes() < 100_000, "{}", table.memory_bytes());
        assert!(summary.bytes < 100 * summary.entries, "{summary:?}");
        let all_of_it = all(&twin, Bound::Unbounded);
        assert!(scan(&table, Bound::Unbounded).await == Ok(all_of_it));
        let mut rng = Rng::new(8);
        let mut read = 0;
        for (nth, (key, entry)) in twin.iter().enumerate().filter(|(nth, _)| nth % 7 == 0) {
            let blocks: Vec<_> = table.blocks(key.position).collect();
            assert_eq!(blocks.len(), 1);
            let found = search(&table, key.as_ref()).await;
            assert_eq!(found, Ok(Some(entry.clone())), "number {nth}");
            read += u32::from(table.may_hold(Position(rng.u64())));
        }
        assert!(read < 60, "{read} of 2,300 that are not there");
        let from = Position(u64::MAX / 3);
        let first = Cursor::at(table.clone(), from).next().await;
        let expected = twin.keys().find(|key| key.position >= from);
        assert_eq!(
            first.expect("a sound disk").map(|(key, _)| key).as_ref(),
            expected
        );
    });
}

/// Three kinds of blocks: of many entries, of one larger than a page, of a position that goes on.
fn mixed() -> Twin {
    let mut twin = many(40, 3);
    let large = vec![Value::Inline(vec![9; 60]); 100];
    twin.insert(key(7 << 60, b"large"), entry(&large, 500, Some(dot(9, 9))));
    for n in 0..60u8 {
        twin.insert(key(9 << 60, &[n; 200]), entry(&[Value::Tombstone], 0, None));
    }
    twin
}

/// Puts these bytes at a page of the table's file.
async fn put(disk: &Disk, page: usize, bytes: &[u8]) {
    let file = disk.open(&name(ID.number), Open::Existing).await;
    let mut buffer = PageBuffer::zeroed(bytes.len());
    buffer.copy_from_slice(bytes);
    let offset = (page * PAGE_BYTES) as u64;
    let written = file.expect("it is there");
    let written = written.write_at(offset, buffer, bytes.len(), Persist::Dsync);
    written.await.1.expect("a sound disk");
}

async fn bytes_of(disk: &Disk) -> Vec<u8> {
    disk.read_small(&name(ID.number))
        .await
        .expect("it is there")
}

#[test]
fn any_flipped_bit_is_seen() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let twin = mixed();
        let summary = write(&disk, ID, &twin).await.expect("a sound disk");
        let sound = bytes_of(&disk).await;
        let table = Rc::new(open(&disk, &summary).await.expect("it was just written"));
        let mut rng = Rng::new(4);
        let blocks = table
            .contents()
            .index()
            .pages(table.contents().index().blocks() - 1)
            .end as usize;
        for page in 0..sound.len() / PAGE_BYTES {
            // The front, the end and the middle of each page.
            for at in [0, 4, 20, 60, 100, 150, 4095, rng.below(4096) as usize] {
                let mut bytes = sound[page * PAGE_BYTES..][..PAGE_BYTES].to_vec();
                bytes[at] ^= 1 << rng.below(8);
                put(&disk, page, &bytes).await;
                if page < blocks {
                    let opened = Rc::new(open(&disk, &summary).await.expect("only blocks are bad"));
                    let scanned = scan(&opened, Bound::Unbounded).await;
                    assert_eq!(scanned, Err(Unsure::Checksum), "page {page}, byte {at}");
                } else {
                    let opened = open(&disk, &summary).await;
                    let damaged = matches!(opened, Err(OpenError::Damaged { .. }));
                    assert!(damaged, "page {page}, byte {at}");
                }
            }
            put(&disk, page, &sound[page * PAGE_BYTES..][..PAGE_BYTES]).await;
        }
        assert_eq!(
            scan(&table, Bound::Unbounded).await,
            Ok(all(&twin, Bound::Unbounded))
        );
    });
}

#[test]
fn the_right_bytes_at_the_wrong_place_are_refused() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let twin = many(500, 3);
        let summary = write(&disk, ID, &twin).await.expect("a sound disk");
        let table = open(&disk, &summary).await.expect("it was just written");
        let first = table.contents().block_name(0);
        let second = table.contents().block_name(1);
        assert_eq!((first.pages, second.pages), (1, 1));
        let sound = bytes_of(&disk).await;
        let page = |nth: usize| &sound[nth * PAGE_BYTES..][..PAGE_BYTES];
        assert_eq!(table.contents().verify(first, page(0)), Ok(()));
        assert!(table.contents().verify(first, page(1)).is_err());
        assert!(
            table
                .contents()
                .verify(first, &sound[..2 * PAGE_BYTES])
                .is_err()
        );
        put(&disk, 1, page(0)).await;
        let read = table.read_block(second, false).await;
        assert_eq!(read.expect_err("it is spoilt").unsure(), Unsure::Checksum);

        // The same entries in a table of another number, shard or log.
        for id in [
            TableId { number: 13, ..ID },
            TableId { shard: 4, ..ID },
            TableId { identity: 1, ..ID },
        ] {
            let file = name(id.number);
            if id.number == ID.number {
                disk.remove(&file).await.expect("it is there");
            }
            let other = write(&disk, id, &twin).await.expect("a sound disk");
            let bytes = disk.read_small(&file).await.expect("it is there");
            assert!(
                table
                    .contents()
                    .verify(first, &bytes[..PAGE_BYTES])
                    .is_err(),
                "{id:?}"
            );
            if id.number == ID.number {
                let opened = Table::open(&disk, ID, other.bytes, other.footer_crc).await;
                assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{id:?}");
            }
        }
    });
}

#[test]
fn a_file_that_is_not_what_the_manifest_says_is_refused() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let summary = write(&disk, ID, &mixed()).await.expect("a sound disk");
        let page = PAGE_BYTES as u64;
        for (bytes, crc) in [
            (summary.bytes - page, summary.footer_crc),
            (summary.bytes + page, summary.footer_crc),
            (0, summary.footer_crc),
            (summary.bytes - 1, summary.footer_crc),
            (summary.bytes, summary.footer_crc ^ 1),
        ] {
            let opened = Table::open(&disk, ID, bytes, crc).await;
            assert!(
                matches!(opened, Err(OpenError::Damaged { .. })),
                "{bytes} {crc}"
            );
        }
        disk.remove(&name(ID.number)).await.expect("it is there");
        let Err(OpenError::Disk(error)) = open(&disk, &summary).await else {
            panic!("a missing file is an error of the disk");
        };
        assert_eq!(error.cause, DiskCause::NotFound);
    });
}

#[test]
fn a_newer_format_is_named() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let mut summary = write(&disk, ID, &mixed()).await.expect("a sound disk");
        let mut page = bytes_of(&disk)
            .await
            .split_off(summary.bytes as usize - PAGE_BYTES);
        let at = std::mem::offset_of!(format::Footer, format);
        page[at..at + 4].copy_from_slice(&2u32.to_le_bytes());
        let crc = crate::base::checksum::crc32c(&page[format::FOOTER_CRC_FROM..]);
        page[at - 4..at].copy_from_slice(&crc.to_le_bytes());
        summary.footer_crc = crc;
        put(&disk, summary.bytes as usize / PAGE_BYTES - 1, &page).await;
        match open(&disk, &summary).await {
            Err(OpenError::NewerFormat { name, found, known }) => {
                assert_eq!((&*name, found, known), ("table/0000000012.table", 2, 1));
            }
            _ => panic!("a newer format was not seen"),
        }
    });
}

/// The footer with its checksum made right again, so that what reads it is met.
#[test]
fn spoiled_footers_never_panic() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let summary = write(&disk, ID, &mixed()).await.expect("a sound disk");
        let sound = bytes_of(&disk).await;
        let mut rng = Rng::new(6);
        let last = sound.len() / PAGE_BYTES - 1;
        let mut opened = 0;
        for _ in 0..400 {
            let mut page = sound[last * PAGE_BYTES..].to_vec();
            for _ in 0..1 + rng.below(2) {
                let at = format::FOOTER_CRC_FROM as u64;
                let at = rng.range(at..format::FOOTER_BYTES as u64) as usize;
                page[at] = rng.u64() as u8 >> rng.below(8);
            }
            let crc = crate::base::checksum::crc32c(&page[format::FOOTER_CRC_FROM..]);
            page[8..12].copy_from_slice(&crc.to_le_bytes());
            put(&disk, last, &page).await;
            opened += u32::from(Table::open(&disk, ID, summary.bytes, crc).await.is_ok());
        }
        assert!(opened < 40, "{opened} of 400 spoiled footers were taken");
    });
}

#[test]
fn a_planted_filter_that_denies_is_caught() {
    let (_simulation, machine) = machine();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let twin = many(500, 7);
        let summary = write(&disk, ID, &twin).await.expect("a sound disk");
        let table = open(&disk, &summary).await.expect("it was just written");
        let denied = || {
            twin.keys()
                .filter(|key| !table.may_hold(key.position))
                .count()
        };
        assert_eq!(denied(), 0);
        planted::enable(Planted::FilterFalseNegative);
        let lost = denied();
        planted::disable_all();
        assert!(lost > 0, "the planted bug denies nothing");
    });
}

#[test]
fn a_cursor_goes_on_behind_an_error() {
    let (_simulation, machine) = machine();
    let other = machine.clone();
    machine.run(|runtime| async move {
        let disk = disk(&runtime).await;
        let twin = many(4000, 11);
        let summary = write(&disk, ID, &twin).await.expect("a sound disk");
        let table = Rc::new(open(&disk, &summary).await.expect("it was just written"));
        other.fail_io(other.io_count() + 2, DiskCause::Os(5));
        let mut cursor = Cursor::new(table, Bound::Unbounded);
        let (mut found, mut errors) = (Vec::new(), 0);
        loop {
            match cursor.next().await {
                Ok(Some(entry)) => found.push(entry),
                Ok(None) => break,
                Err(bad) => {
                    assert_eq!(bad.unsure(), Unsure::Read);
                    errors += 1;
                }
            }
        }
        assert_eq!(errors, 1);
        assert!(found == all(&twin, Bound::Unbounded));
    });
}

/// Whatever ends or fails the writing: a table whose `finish` returned is there for good.
#[test]
fn a_finished_table_outlives_a_power_cut_at_any_io() {
    let twin = Rc::new(many(6000, 2));
    let life = |machine: &Machine| {
        let twin = twin.clone();
        let ran = machine.run(|runtime| async move {
            let disk = runtime.disk(Path::new("data"));
            disk.create_dir(DIRECTORY).await?;
            write(&disk, ID, &twin).await
        });
        ran.and_then(Result::ok)
    };
    let count = {
        let (_simulation, machine) = machine();
        life(&machine).expect("a sound disk");
        machine.io_count()
    };
    assert!(count >= 6, "{count} I/Os are too few to prove anything");
    let mut finished = 0;
    for number in 1..=count + 1 {
        for fails in [false, true] {
            let (_simulation, machine) = machine();
            if fails {
                machine.fail_io(number, DiskCause::Os(5));
            } else {
                machine.crash_at_io(Some(number));
            }
            let summary = life(&machine);
            machine.crash_at_io(None);
            machine.fail_no_io();
            machine.crash();
            let Some(summary) = summary else { continue };
            finished += 1;
            assert!(machine.files().iter().any(|path| path == FILE));
            let twin = twin.clone();
            let ran = machine.run(|runtime| async move {
                let disk = disk(&runtime).await;
                let table = Rc::new(open(&disk, &summary).await.expect("it was finished"));
                assert!(scan(&table, Bound::Unbounded).await == Ok(all(&twin, Bound::Unbounded)));
            });
            assert!(ran.is_some());
        }
    }
    assert!(finished >= 2, "{finished}");
}

#[test]
#[should_panic(expected = "keys come in order")]
fn a_key_out_of_order_is_our_mistake() {
    let mut builder = Builder::new(ID);
    let entry = entry(&[], 0, None);
    builder.add(key(5, b"b").as_ref(), &entry.object, None);
    builder.add(key(5, b"b").as_ref(), &entry.object, None);
}

#[test]
#[should_panic(expected = "an empty table")]
fn an_empty_table_is_our_mistake() {
    Builder::new(ID).finish();
}
