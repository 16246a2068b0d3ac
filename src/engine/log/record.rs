//! Records: encoding the whole state of a key, and reading it back from bytes that may be anything.
//!
//! The decoder is total: every length is checked before it is used, and nothing is accepted that the encoder would not
//! write at that place. The checksum covers where the record lies, so a record found elsewhere is refused.

use super::format::*;
use crate::base::checksum::{crc32c, crc32c_append};
use crate::base::limits;
use crate::base::planted::planted;
use crate::base::units::UnixMillis;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::damage::Sums;
use crate::engine::entry::{Location, NewValue, Place};
use crate::engine::key::KeyRef;
use crate::ring::position::Position;

/// A record to be written: its parts and its length, known before there is a place for it.
pub struct NewRecord<'a> {
    key: KeyRef<'a>,
    object: &'a Object<NewValue<'a>>,
    vector: Vec<u8>,
    bytes: usize,
}

/// A decoded record; borrows from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub sequence: u64,
    pub key: KeyRef<'a>,
    pub arc: u32,
    pub ownership_generation: u32,
    pub object: Object<Found<'a>>,
    /// Bytes of the whole record.
    pub bytes: u32,
}

/// Where a decoded sibling's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Nowhere,
    Here(&'a [u8]),
    At {
        location: Location,
        sibling: u16,
        bytes: u32,
    },
}

/// Why bytes are no record of this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record is cut short")]
    Short,
    #[error("the record fails its checksum")]
    Checksum,
    #[error("the record holds what is never written")]
    Malformed,
}

/// The top ten bits of a position.
pub fn arc(position: Position) -> usize {
    (position.0 >> (u64::BITS - limits::LOG_ARCS.trailing_zeros())) as usize
}

/// The bytes of a sibling's value that stand in this record.
fn bytes_here<'a>(value: &'a NewValue<'_>) -> Option<&'a [u8]> {
    match value {
        NewValue::Put(bytes) => Some(bytes),
        NewValue::Keep(Place::Inline(bytes)) => Some(bytes),
        NewValue::Keep(Place::Nowhere | Place::At { .. }) => None,
    }
}

impl<'a> NewRecord<'a> {
    pub fn new(key: KeyRef<'a>, object: &'a Object<NewValue<'a>>) -> NewRecord<'a> {
        assert!(key.bucket.len() <= limits::BUCKET_BYTES_MAX);
        assert!(key.key.len() <= limits::KEY_BYTES_MAX);
        assert!(object.siblings.len() <= limits::SIBLINGS_JOINED_MAX);
        assert!(object.siblings.is_sorted_by(|a, b| a.dot < b.dot));
        let mut vector = Vec::with_capacity(object.vector.entries().len() * 23 + 16);
        object.vector.encode(&mut vector);
        let head = RECORD_HEADER_BYTES + key.bucket.len() + key.key.len() + vector.len();
        let values: usize = object
            .siblings
            .iter()
            .filter_map(|sibling| bytes_here(&sibling.value))
            .map(|bytes| bytes.len().next_multiple_of(WORD_BYTES))
            .sum();
        let siblings = object.siblings.len() * SIBLING_HEADER_BYTES;
        let bytes = head.next_multiple_of(WORD_BYTES) + siblings + values;
        NewRecord {
            key,
            object,
            vector,
            bytes,
        }
    }

    /// Bytes of the whole record, a multiple of 8.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills `out`, which is exactly as long as the record, for its place in a segment.
    pub fn encode(&self, sequence: u64, segment: u32, offset_words: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.bytes);
        let mut at = RECORD_HEADER_BYTES;
        let mut put = |part: &[u8], out: &mut [u8]| {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
            at
        };
        put(self.key.bucket, out);
        put(self.key.key, out);
        let end = put(&self.vector, out);
        put(
            &[0; WORD_BYTES][..end.next_multiple_of(WORD_BYTES) - end],
            out,
        );
        for sibling in &self.object.siblings {
            put(bytemuck::bytes_of(&sibling_header(sibling)), out);
        }
        for sibling in &self.object.siblings {
            if let Some(bytes) = bytes_here(&sibling.value) {
                let end = put(bytes, out);
                put(
                    &[0; WORD_BYTES][..end.next_multiple_of(WORD_BYTES) - end],
                    out,
                );
            }
        }
        assert_eq!(at, self.bytes);
        let header = RecordHeader {
            crc: 0,
            bytes: self.bytes as u32,
            sequence,
            position: self.key.position.0,
            arc: arc(self.key.position) as u32,
            ownership_generation: 0,
            vector_bytes: self.vector.len() as u32,
            key_bytes: self.key.key.len() as u16,
            siblings: self.object.siblings.len() as u16,
            kind: RECORD_OBJECT,
            keyspace: KEYSPACE_OWN,
            bucket_bytes: self.key.bucket.len() as u8,
            zero: [0; 5],
        };
        out[..RECORD_HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
        let crc = checksum(segment, offset_words, out);
        out[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The checksum that a record at this place must carry; `record` is at least its header.
pub fn checksum(segment: u32, offset_words: u32, record: &[u8]) -> u32 {
    let place = crc32c(bytemuck::bytes_of(&[segment, offset_words]));
    crc32c_append(place, &record[4..])
}

/// The checksum that a record at this place carries, and the one that its bytes have; `None`: it has no length.
pub fn sums(segment: u32, offset_words: u32, record: &[u8]) -> Option<Sums> {
    let header = record.get(..RECORD_HEADER_BYTES)?;
    let header: RecordHeader = bytemuck::pod_read_unaligned(header);
    let record = record.get(..header.bytes as usize)?;
    let whole = record.len() >= RECORD_HEADER_BYTES;
    whole.then(|| Sums {
        stated: header.crc,
        found: checksum(segment, offset_words, record),
    })
}

fn sibling_header(sibling: &Sibling<NewValue<'_>>) -> SiblingHeader {
    let mut header = SiblingHeader {
        incarnation: sibling.dot.actor.incarnation.0,
        counter: sibling.dot.counter,
        operation: [
            sibling.operation.0 as u64,
            (sibling.operation.0 >> u64::BITS) as u64,
        ],
        written_ms: sibling.written.0,
        expires_ms: sibling.expires.0,
        value_hash: sibling.value_hash,
        birth: sibling.dot.actor.birth,
        kind: match sibling.kind {
            Kind::Value => KIND_VALUE,
            Kind::Tombstone => KIND_TOMBSTONE,
            Kind::ValueLost => KIND_VALUE_LOST,
        },
        place: PLACE_NOWHERE,
        at_sibling: 0,
        value_bytes: 0,
        at_segment: 0,
        at_offset_words: 0,
        at_bytes: 0,
    };
    match (&sibling.value, bytes_here(&sibling.value)) {
        (_, Some(bytes)) => {
            header.place = PLACE_HERE;
            header.value_bytes = bytes.len() as u32;
        }
        (
            NewValue::Keep(Place::At {
                location,
                sibling,
                bytes,
            }),
            None,
        ) => {
            header.place = PLACE_AT;
            header.at_sibling = *sibling;
            header.value_bytes = *bytes;
            header.at_segment = location.segment;
            header.at_offset_words = location.offset_words;
            header.at_bytes = location.bytes;
        }
        (_, None) => {}
    }
    let has_value = header.place != PLACE_NOWHERE;
    assert_eq!(
        has_value,
        sibling.kind == Kind::Value,
        "only values have a place"
    );
    header
}

/// Takes `count` bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], RecordError> {
    let (front, rest) = bytes
        .split_at_checked(count)
        .ok_or(RecordError::Malformed)?;
    *bytes = rest;
    Ok(front)
}

/// Takes the zeroes that end a word, where `used` bytes were taken before.
fn take_filling(bytes: &mut &[u8], used: usize) -> Result<(), RecordError> {
    let filling = take(bytes, used.next_multiple_of(WORD_BYTES) - used)?;
    let zero = filling.iter().all(|&byte| byte == 0);
    zero.then_some(()).ok_or(RecordError::Malformed)
}

/// The record at the front of `bytes`, which lie at this place. Bytes behind it are not looked at.
pub fn decode(bytes: &[u8], segment: u32, offset_words: u32) -> Result<Record<'_>, RecordError> {
    let head = bytes.get(..RECORD_HEADER_BYTES).ok_or(RecordError::Short)?;
    let header: RecordHeader = bytemuck::pod_read_unaligned(head);
    let record = bytes
        .get(..header.bytes as usize)
        .ok_or(RecordError::Short)?;
    if record.len() < RECORD_HEADER_BYTES || !record.len().is_multiple_of(WORD_BYTES) {
        return Err(RecordError::Malformed);
    }
    if checksum(segment, offset_words, record) != header.crc && !planted!(TornGroupAccepted) {
        return Err(RecordError::Checksum);
    }
    let position = Position(header.position);
    let known = header.kind == RECORD_OBJECT
        && header.keyspace == KEYSPACE_OWN
        && header.zero == [0; 5]
        && header.arc as usize == arc(position)
        && header.key_bytes as usize <= limits::KEY_BYTES_MAX
        && header.siblings as usize <= limits::SIBLINGS_JOINED_MAX;
    if !known {
        return Err(RecordError::Malformed);
    }
    let mut rest = &record[RECORD_HEADER_BYTES..];
    let bucket = take(&mut rest, header.bucket_bytes as usize)?;
    let key = take(&mut rest, header.key_bytes as usize)?;
    let mut vector_bytes = take(&mut rest, header.vector_bytes as usize)?;
    let vector = VersionVector::decode(&mut vector_bytes).ok_or(RecordError::Malformed)?;
    if !vector_bytes.is_empty() {
        return Err(RecordError::Malformed);
    }
    let used = record.len() - rest.len();
    take_filling(&mut rest, used)?;
    let headers = take(&mut rest, header.siblings as usize * SIBLING_HEADER_BYTES)?;
    let mut siblings: Vec<Sibling<Found<'_>>> = Vec::with_capacity(header.siblings as usize);
    for bytes in headers.chunks_exact(SIBLING_HEADER_BYTES) {
        let sibling = decode_sibling(&bytemuck::pod_read_unaligned(bytes), &mut rest)?;
        siblings.push(sibling);
    }
    if !rest.is_empty() {
        return Err(RecordError::Malformed);
    }
    let object = Object::checked(vector, siblings).ok_or(RecordError::Malformed)?;
    Ok(Record {
        sequence: header.sequence,
        key: KeyRef {
            position,
            bucket,
            key,
        },
        arc: header.arc,
        ownership_generation: header.ownership_generation,
        object,
        bytes: header.bytes,
    })
}

/// One sibling; the bytes of its value, if they are here, are taken from the front of `values`.
fn decode_sibling<'a>(
    header: &SiblingHeader,
    values: &mut &'a [u8],
) -> Result<Sibling<Found<'a>>, RecordError> {
    let kind = match header.kind {
        KIND_VALUE => Kind::Value,
        KIND_TOMBSTONE => Kind::Tombstone,
        KIND_VALUE_LOST => Kind::ValueLost,
        _ => return Err(RecordError::Malformed),
    };
    let at = (
        header.at_sibling,
        header.at_segment,
        header.at_offset_words,
        header.at_bytes,
    );
    let value = match header.place {
        PLACE_NOWHERE if header.value_bytes == 0 && at == (0, 0, 0, 0) => Found::Nowhere,
        PLACE_HERE if at == (0, 0, 0, 0) => {
            let bytes = take(values, header.value_bytes as usize)?;
            take_filling(values, bytes.len())?;
            Found::Here(bytes)
        }
        PLACE_AT => Found::At {
            location: Location {
                segment: header.at_segment,
                offset_words: header.at_offset_words,
                bytes: header.at_bytes,
            },
            sibling: header.at_sibling,
            bytes: header.value_bytes,
        },
        _ => return Err(RecordError::Malformed),
    };
    let has_value = value != Found::Nowhere;
    if header.counter == 0 || has_value != (kind == Kind::Value) {
        return Err(RecordError::Malformed);
    }
    Ok(Sibling {
        dot: Dot {
            actor: Actor {
                incarnation: Incarnation(header.incarnation),
                birth: header.birth,
            },
            counter: header.counter,
        },
        operation: OperationId(
            u128::from(header.operation[0]) | u128::from(header.operation[1]) << u64::BITS,
        ),
        kind,
        written: UnixMillis(header.written_ms),
        expires: UnixMillis(header.expires_ms),
        value_hash: header.value_hash,
        value,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;

    pub fn dot(incarnation: u64, counter: u64) -> Dot {
        Dot {
            actor: Actor {
                incarnation: Incarnation(incarnation),
                birth: incarnation as u32 % 5,
            },
            counter,
        }
    }

    /// What a sibling of a test is made of.
    #[derive(Clone, Debug)]
    pub enum Value {
        Tombstone,
        Lost,
        Put(Vec<u8>),
        Inline(Vec<u8>),
        At(u32, u32, u32, u16, u32),
    }

    pub fn value() -> impl Strategy<Value = Value> {
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
        prop_oneof![
            Just(Value::Tombstone),
            Just(Value::Lost),
            bytes(300).prop_map(Value::Put),
            bytes(limits::INLINE_VALUE_BYTES_MAX).prop_map(Value::Inline),
            any::<(u32, u32, u32, u16, u32)>().prop_map(|(a, b, c, d, e)| Value::At(a, b, c, d, e)),
        ]
    }

    pub fn object(values: &[Value]) -> Object<NewValue<'_>> {
        let mut object = Object {
            vector: VersionVector::default(),
            siblings: Vec::new(),
        };
        for (n, value) in values.iter().enumerate() {
            let dot = dot(n as u64 * 7 + 1, n as u64 + 1);
            object.vector.add(dot);
            object.siblings.push(Sibling {
                dot,
                operation: OperationId(u128::MAX / (n as u128 + 1)),
                kind: match value {
                    Value::Tombstone => Kind::Tombstone,
                    Value::Lost => Kind::ValueLost,
                    Value::Put(_) | Value::Inline(_) | Value::At(..) => Kind::Value,
                },
                written: UnixMillis(n as u64),
                expires: UnixMillis(1 << (n % 64)),
                value_hash: !(n as u64),
                value: match value {
                    Value::Tombstone | Value::Lost => NewValue::Keep(Place::Nowhere),
                    Value::Put(bytes) => NewValue::Put(bytes),
                    Value::Inline(bytes) => {
                        NewValue::Keep(Place::Inline(Rc::from(bytes.as_slice())))
                    }
                    Value::At(segment, offset_words, bytes, sibling, value_bytes) => {
                        NewValue::Keep(Place::At {
                            location: Location {
                                segment: *segment,
                                offset_words: *offset_words,
                                bytes: *bytes,
                            },
                            sibling: *sibling,
                            bytes: *value_bytes,
                        })
                    }
                },
            });
        }
        object
    }

    fn encoded(values: &[Value], bucket: &[u8], key: &[u8], position: u64) -> Vec<u8> {
        let object = object(values);
        let key = KeyRef {
            position: Position(position),
            bucket,
            key,
        };
        let record = NewRecord::new(key, &object);
        let mut bytes = vec![0xee; record.bytes()];
        record.encode(42, 7, 99, &mut bytes);
        bytes
    }

    /// All that a join may bring together, with the longest key.
    #[test]
    fn the_largest_record_is_read_back() {
        let inline = Value::Inline(vec![7; limits::INLINE_VALUE_BYTES_MAX]);
        let values = vec![inline; limits::SIBLINGS_JOINED_MAX];
        let mut object = object(&values);
        let more = limits::VECTOR_ENTRIES_JOINED_MAX - limits::SIBLINGS_JOINED_MAX;
        for n in 0..more as u64 {
            object.vector.add(dot(u64::MAX - 5 * n, u64::MAX));
        }
        assert_eq!(
            object.vector.entries().len(),
            limits::VECTOR_ENTRIES_JOINED_MAX
        );
        let (bucket, name) = ([1; limits::BUCKET_BYTES_MAX], [2; limits::KEY_BYTES_MAX]);
        let key = KeyRef {
            position: Position(9),
            bucket: &bucket,
            key: &name,
        };
        let record = NewRecord::new(key, &object);
        let most = overhead_bytes(
            limits::SIBLINGS_JOINED_MAX,
            limits::VECTOR_ENTRIES_JOINED_MAX,
        );
        assert!(record.bytes() <= most, "{} > {most}", record.bytes());
        let mut bytes = vec![0; record.bytes()];
        record.encode(1, 2, 3, &mut bytes);
        let read = decode(&bytes, 2, 3).expect("it was just written");
        assert_eq!(read.object.vector, object.vector);
        assert_eq!(read.object.siblings.len(), object.siblings.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_record_is_read_back_where_it_was_written_and_nowhere_else(
            values in prop::collection::vec(value(), 0..6),
            bucket in prop::collection::vec(any::<u8>(), 0..20),
            name in prop::collection::vec(any::<u8>(), 0..40),
            position in any::<u64>(),
        ) {
            let mut bytes = encoded(&values, &bucket, &name, position);
            let len = bytes.len();
            bytes.extend([0xff; 16]);
            let record = decode(&bytes, 7, 99).expect("it was just written");
            prop_assert_eq!(record.bytes as usize, len);
            prop_assert_eq!((record.sequence, record.key.position.0), (42, position));
            prop_assert_eq!((record.key.bucket, record.key.key), (&bucket[..], &name[..]));
            let object = object(&values);
            prop_assert_eq!(&record.object.vector, &object.vector);
            prop_assert_eq!(record.object.siblings.len(), object.siblings.len());
            for (found, wrote) in record.object.siblings.iter().zip(&object.siblings) {
                prop_assert_eq!(found.clone().with_value(()), wrote.clone().with_value(()));
                let same = match (&found.value, &wrote.value) {
                    (Found::Nowhere, NewValue::Keep(Place::Nowhere)) => true,
                    (Found::Here(found), wrote) => Some(*found) == bytes_here(wrote),
                    (
                        Found::At { location, sibling, bytes },
                        NewValue::Keep(Place::At { location: l, sibling: s, bytes: b }),
                    ) => (location, sibling, bytes) == (l, s, b),
                    _ => false,
                };
                prop_assert!(same);
            }
            prop_assert_eq!(decode(&bytes, 8, 99), Err(RecordError::Checksum));
            prop_assert_eq!(decode(&bytes, 7, 98), Err(RecordError::Checksum));
        }

        #[test]
        fn any_flipped_bit_is_seen(
            values in prop::collection::vec(value(), 0..4),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut bytes = encoded(&values, b"b", b"key", 3);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, 7, 99).is_err());
        }

        /// With the checksum made right again, so that the parser itself is met: it takes only what the encoder writes.
        #[test]
        fn spoiled_records_never_panic_and_are_canonical(
            values in prop::collection::vec(value(), 0..4),
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            small in any::<bool>(),
        ) {
            let mut bytes = encoded(&values, b"b", b"key", 3);
            let end = if small { RECORD_HEADER_BYTES } else { bytes.len() };
            for (at, byte) in spoils {
                bytes[at.index(end)] = byte;
            }
            let len = u32::from_le_bytes(bytes[4..8].try_into().expect("four")) as usize;
            if len >= RECORD_HEADER_BYTES && len <= bytes.len() {
                let crc = checksum(7, 99, &bytes[..len]);
                bytes[..4].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(record) = decode(&bytes, 7, 99) {
                prop_assert_eq!(again(&record), &bytes[..record.bytes as usize]);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes, 1, 2).is_err());
        }
    }

    /// The encoding of what was decoded, but for the fields the encoder has no say in.
    fn again(record: &Record<'_>) -> Vec<u8> {
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
        new.encode(record.sequence, 7, 99, &mut bytes);
        let at = std::mem::offset_of!(RecordHeader, ownership_generation);
        bytes[at..at + 4].copy_from_slice(&record.ownership_generation.to_le_bytes());
        let crc = checksum(7, 99, &bytes);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}
