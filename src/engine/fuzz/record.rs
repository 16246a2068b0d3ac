//! Records whose checksum is right.

use crate::base::limits::INLINE_VALUE_BYTES_MAX;
use crate::base::units::UnixMillis;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::entry::{Location, NewValue, Place};
use crate::engine::key::KeyRef;
use crate::engine::log::format::*;
use crate::engine::log::record::{self, Found, NewRecord, Record, RecordError};
use crate::ring::position::Position;
use std::mem::offset_of;

/// What is left as it came.
const RAW_LENGTH: u8 = 1;
const RAW_ARC: u8 = 2;
const RAW_CRC: u8 = 4;

/// Three bytes (segment, offset, what is not put right), then a record and what stands behind it.
pub fn run(data: &[u8]) {
    let Some((&[segment, offset, raw], record)) = data.split_first_chunk() else {
        return;
    };
    let (segment, offset) = (u32::from(segment), u32::from(offset));
    let mut bytes = record.to_vec();
    put_right(&mut bytes, segment, offset, raw);
    let record = match record::decode(&bytes, segment, offset) {
        Ok(record) => record,
        Err(refused) => return assert!(!refused.to_string().is_empty()),
    };
    let len = record.bytes as usize;
    assert_eq!(again(&record, segment, offset), &bytes[..len]);
    let mut joined = record.object.clone();
    joined.join(&record.object);
    assert_eq!(joined, record.object);
    let mut siblings = record.object.siblings.iter();
    assert!(siblings.all(|sibling| sibling.dot.counter >= 1));
    let elsewhere = [(segment + 1, offset), (segment, offset + 1)];
    for (segment, offset) in elsewhere {
        let decoded = record::decode(&bytes, segment, offset);
        assert_eq!(decoded, Err(RecordError::Checksum));
    }
    assert!(record::decode(&bytes[..len - 1], segment, offset).is_err());
    // Not in the length: a wrong one may by chance make the checksum of other bytes.
    let bit = 64 + (record.sequence % (len as u64 * 8 - 64)) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(
        record::decode(&bytes, segment, offset).is_err(),
        "bit {bit} does not matter"
    );
}

/// Makes the length, the arc and the checksum those of a record at this place, but for what `raw` names.
pub fn put_right(bytes: &mut [u8], segment: u32, offset_words: u32, raw: u8) {
    if bytes.len() < RECORD_HEADER_BYTES {
        return;
    }
    let put = |bytes: &mut [u8], at: usize, number: u32| {
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    };
    if raw & RAW_LENGTH == 0 {
        let len = bytes.len() / WORD_BYTES * WORD_BYTES;
        put(bytes, offset_of!(RecordHeader, bytes), len as u32);
    }
    let header: RecordHeader = bytemuck::pod_read_unaligned(&bytes[..RECORD_HEADER_BYTES]);
    if raw & RAW_ARC == 0 {
        let arc = record::arc(Position(header.position)) as u32;
        put(bytes, offset_of!(RecordHeader, arc), arc);
    }
    let len = header.bytes as usize;
    if raw & RAW_CRC == 0 && (RECORD_HEADER_BYTES..=bytes.len()).contains(&len) {
        let crc = record::checksum(segment, offset_words, &bytes[..len]);
        put(bytes, offset_of!(RecordHeader, crc), crc);
    }
}

/// The encoding of what was decoded; the encoder has no say in the ownership generation.
fn again(record: &Record<'_>, segment: u32, offset_words: u32) -> Vec<u8> {
    let siblings = record.object.siblings.iter().map(|sibling| {
        let value = match &sibling.value {
            Found::Nowhere => NewValue::Keep(Place::Nowhere),
            Found::Here(bytes) => NewValue::Put(bytes),
            Found::At {
                location,
                sibling,
                bytes,
            } => NewValue::Keep(Place::At {
                location: *location,
                sibling: *sibling,
                bytes: *bytes,
            }),
        };
        sibling.clone().with_value(value)
    });
    let object = Object {
        vector: record.object.vector.clone(),
        siblings: siblings.collect(),
    };
    let new = NewRecord::new(record.key, &object);
    let mut bytes = vec![0; new.bytes()];
    new.encode(record.sequence, segment, offset_words, &mut bytes);
    let at = offset_of!(RecordHeader, ownership_generation);
    bytes[at..at + 4].copy_from_slice(&record.ownership_generation.to_le_bytes());
    let crc = record::checksum(segment, offset_words, &bytes);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A record of `siblings` siblings of every kind, for a place.
pub fn sample(
    key: &[u8],
    siblings: u64,
    sequence: u64,
    segment: u32,
    offset_words: u32,
) -> Vec<u8> {
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    let location = Location {
        segment,
        offset_words: 32,
        bytes: 200,
    };
    for n in 0..siblings {
        let actor = Actor {
            incarnation: Incarnation(n * 1000 + 1),
            birth: n as u32,
        };
        let dot = Dot {
            actor,
            counter: n + 1,
        };
        let (kind, value) = match n % 4 {
            0 => (Kind::Value, NewValue::Put(&b"a value"[..])),
            1 => (Kind::Tombstone, NewValue::Keep(Place::Nowhere)),
            2 => (
                Kind::Value,
                NewValue::Keep(Place::At {
                    location,
                    sibling: 0,
                    bytes: INLINE_VALUE_BYTES_MAX as u32 + 1,
                }),
            ),
            _ => (Kind::ValueLost, NewValue::Keep(Place::Nowhere)),
        };
        object.vector.add(dot);
        object.siblings.push(Sibling {
            dot,
            operation: OperationId(n.into()),
            kind,
            written: UnixMillis(1_700_000_000_000),
            expires: UnixMillis(0),
            value_hash: 77,
            value,
        });
    }
    let key = KeyRef {
        position: Position::of(b"b", key),
        bucket: b"b",
        key,
    };
    let record = NewRecord::new(key, &object);
    let mut bytes = vec![0; record.bytes()];
    record.encode(sequence, segment, offset_words, &mut bytes);
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |raw, siblings| {
        let record = sample(b"key", siblings, 9, 3, 40);
        [&[3, 40, raw][..], &record].concat()
    };
    let mut seeds = [0, 1, 4, 6].map(|siblings| seed(0, siblings)).to_vec();
    // Refused, each for one field: an arc of another position, a counter of 0, a tombstone's value of one byte.
    let mut other_arc = seed(RAW_ARC, 2);
    other_arc[3 + offset_of!(RecordHeader, position) + 7] ^= 0xff;
    let mut spoilt = [seed(0, 2), seed(0, 2)];
    let tombstone = spoilt[0].len() - WORD_BYTES - SIBLING_HEADER_BYTES;
    spoilt[0][tombstone + offset_of!(SiblingHeader, counter)] = 0;
    spoilt[1][tombstone + offset_of!(SiblingHeader, value_bytes)] = 1;
    seeds.push(other_arc);
    seeds.extend(spoilt);
    seeds
}
