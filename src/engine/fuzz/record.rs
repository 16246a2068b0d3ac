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

/// What is left as it came.
const RAW_LENGTH: u8 = 1;
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
    let bit = 64 + (record.key.position.0 % (len as u64 * 8 - 64)) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(
        record::decode(&bytes, segment, offset).is_err(),
        "bit {bit} does not matter"
    );
}

/// Makes the length and the checksum those of a record at this place, but for what `raw` names.
pub fn put_right(bytes: &mut [u8], segment: u32, offset_words: u32, raw: u8) {
    if bytes.len() < RECORD_HEADER_BYTES {
        return;
    }
    if raw & RAW_LENGTH == 0 {
        let len = bytes.len() / WORD_BYTES * WORD_BYTES;
        bytes[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    }
    let header: RecordHeader = bytemuck::pod_read_unaligned(&bytes[..RECORD_HEADER_BYTES]);
    let len = header.bytes as usize;
    if raw & RAW_CRC == 0 && (RECORD_HEADER_BYTES..=bytes.len()).contains(&len) {
        let crc = record::checksum(segment, offset_words, &bytes[..len]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The encoding of what was decoded.
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
    new.encode(segment, offset_words, &mut bytes);
    bytes
}

/// A record of `siblings` siblings of every kind, for a place.
pub fn sample(key: &[u8], siblings: u64, segment: u32, offset_words: u32) -> Vec<u8> {
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
    record.encode(segment, offset_words, &mut bytes);
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |siblings| {
        let record = sample(b"key", siblings, 3, 40);
        [&[3, 40, 0][..], &record].concat()
    };
    let mut seeds = [0, 1, 4, 6].map(seed).to_vec();
    // Refused, each for one field: another kind of record, a filling that is not zero.
    let mut spoilt = [seed(2), seed(2)];
    spoilt[0][3 + RECORD_HEADER_BYTES] += 1;
    *spoilt[1].last_mut().expect("it has bytes") = 1;
    seeds.extend(spoilt);
    seeds
}
