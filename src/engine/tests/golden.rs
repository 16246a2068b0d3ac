//! The layouts stand still: golden bytes, and a page that is read again whenever their sources change.

use crate::base::checksum::xxh3_64;
use crate::base::limits::PAGE_BYTES;
use crate::engine::Place;
use crate::engine::entry::NewValue;
use crate::engine::key::KeyRef;
use crate::engine::log::format::{ARC_WORDS, GROUP_HEADER_BYTES};
use crate::engine::log::group::{Link, LogId, set_arc};
use crate::engine::log::record::NewRecord;
use crate::engine::log::record::tests::{Value, dot, object};
use crate::engine::log::segment::Segment;
use crate::engine::log::writer::LogWriter;
use crate::engine::manifest::{Cut, ReplayFrom, Sealed, TableRow};
use crate::engine::manifest_codec::{Block, Edit, decode, encode};
use crate::engine::table::{Builder, TableId, object_of_test};
use crate::ring::position::Position;

const KEY: KeyRef<'static> = KeyRef {
    position: Position(0x8123_4567_89ab_cdef),
    bucket: b"bucket",
    key: b"key",
};

fn values() -> Vec<Value> {
    vec![
        Value::Put(b"a value".to_vec()),
        Value::Tombstone,
        Value::At(3, 512, 200, 1, 100),
        Value::Lost,
    ]
}

fn link() -> Link {
    let mut arcs = [0; ARC_WORDS];
    set_arc(&mut arcs, 5);
    Link {
        number: 40,
        header_crc: 0xaabb_ccdd,
        arcs,
    }
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32);
    let line = |chunk: &[u8]| {
        chunk
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    lines.map(|chunk| line(chunk) + "\n").collect()
}

#[test]
fn a_record() {
    let values = values();
    let object = object(&values);
    assert!(matches!(
        object.siblings[2].value,
        NewValue::Keep(Place::At { .. })
    ));
    let record = NewRecord::new(KEY, &object);
    let mut bytes = vec![0; record.bytes()];
    record.encode(7, 99, &mut bytes);
    assert_eq!(
        hex(&bytes),
        include_str!("../../../schema/vectors/record.hex")
    );
}

#[test]
fn a_group() {
    let log = LogId {
        identity: 0x0102_0304_0506_0708,
        shard: 3,
    };
    let mut writer = LogWriter::new(log, link(), 42, 1000);
    writer.add_segment(Segment {
        number: 7,
        bytes: 4 << 20,
    });
    let values = values();
    let object = object(&values);
    let record = NewRecord::new(KEY, &object);
    let reserved = writer
        .reserve(record.bytes(), 516, 0)
        .expect("there is room");
    let bytes = writer.reserved_bytes(reserved);
    record.encode(7, reserved.offset_words, bytes);
    let job = writer.take_job().expect("a record waits");
    assert!(
        job.buffer[GROUP_HEADER_BYTES + record.bytes()..job.len]
            .iter()
            .all(|&b| b == 0)
    );
    let used = &job.buffer[..GROUP_HEADER_BYTES + record.bytes()];
    assert_eq!(hex(used), include_str!("../../../schema/vectors/group.hex"));
}

#[test]
fn a_manifest_block() {
    let cut = Cut {
        segment: 7,
        offset: 8192,
        last: link(),
        next_number: 42,
    };
    let segment = Segment {
        number: 7,
        bytes: 4 << 20,
    };
    let block = encode(&Block {
        generation: 2,
        sequence: 0,
        chain: 0,
        identity: 0x0102_0304_0506_0708,
        shard: 3,
        shards: 4,
        edits: vec![
            Edit::Segment(segment),
            Edit::Cut(cut),
            Edit::HighestSegment(11),
            Edit::Damaged(link().arcs),
            Edit::FirstGroup(1),
            Edit::RemoveSegment(3),
            Edit::Replay(ReplayFrom {
                segment: 7,
                offset: 4096,
                last: link(),
                next_number: 41,
                next_sequence: 99,
            }),
            Edit::Table(TableRow {
                number: 5,
                run: 2,
                bytes: 8192,
                footer_crc: 0x1122_3344,
            }),
            Edit::RemoveTable(1),
            Edit::HighestTable(5),
            Edit::Sealed(Sealed {
                segment: 5,
                end: 12288,
                last: 39,
            }),
            Edit::ColdSegment(Segment {
                number: 9,
                bytes: 4 << 20,
            }),
        ],
    });
    let used = 64 + 8 * (3 + 6 + 16 + 2 + 17 + 2 + 2 + 7 + 16 + 5 + 2 + 2 + 4 + 3);
    assert!(block.bytes[used..].iter().all(|&byte| byte == 0));
    assert_eq!(
        hex(&block.bytes[..used]),
        include_str!("../../../schema/vectors/manifest.hex")
    );
}

/// A data directory of the format before this one opens.
#[test]
fn a_manifest_block_of_format_2() {
    let text = include_str!("../../../schema/vectors/manifest-2.hex");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    };
    let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    bytes.resize(PAGE_BYTES, 0);
    let (block, len, _) = decode(&bytes).expect("known").expect("whole");
    assert_eq!((len, block.edits.len()), (PAGE_BYTES, 11));
    assert!(matches!(
        block.edits[10],
        Edit::Sealed(Sealed { segment: 5, .. })
    ));
}

/// The used bytes of a block, of the sections and of the footer, each beginning a line.
#[test]
fn a_table() {
    let mut builder = Builder::new(TableId {
        identity: 0x0102_0304_0506_0708,
        shard: 3,
        number: 7,
    });
    let mut values = values();
    values[0] = Value::Inline(b"a value".to_vec());
    builder.add(KEY, &object_of_test(&values, 2), Some(dot(1, 1)));
    let second = KeyRef {
        key: b"key2",
        ..KEY
    };
    builder.add(second, &object_of_test(&values[1..2], 0), None);
    assert!(builder.take_piece().is_none(), "it is small");
    let (pieces, summary) = builder.finish();
    let bytes = &pieces[0].buffer[..pieces[0].len];
    assert_eq!((pieces.len(), bytes.len() as u64), (1, summary.bytes));
    let pages: Vec<&[u8]> = bytes.chunks(PAGE_BYTES).collect();
    let used = |page: &[u8]| page.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
    let used = pages.iter().map(|page| hex(&page[..used(page)]));
    assert_eq!(
        used.collect::<String>(),
        include_str!("../../../schema/vectors/table.hex")
    );
}

/// Whoever changes a layout reads its page again, and writes the new hash there.
#[test]
fn the_page_is_of_these_layouts() {
    let sources = [
        include_str!("../log/format.rs"),
        include_str!("../state_codec.rs"),
        include_str!("../manifest_format.rs"),
        include_str!("../table/format.rs"),
    ];
    let hash = format!(
        "layout sources: {:016x}",
        xxh3_64(sources.concat().as_bytes())
    );
    let page = include_str!("../../../schema/disk.md");
    assert!(page.contains(&hash), "schema/disk.md must say `{hash}`");
}
