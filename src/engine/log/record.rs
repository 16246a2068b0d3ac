//! Records: encoding the whole state of a key, and reading it back from bytes that may be anything.
//!
//! The decoder is total: every length is checked before it is used, and nothing is accepted that the encoder would not
//! write at that place. The checksum covers where the record lies, so a record found elsewhere is refused.

use super::format::*;
use crate::base::checksum::{crc32c, crc32c_append};
use crate::base::limits;
use crate::base::planted::planted;
use crate::base::varint;
use crate::causal::object::{Object, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::damage::Sums;
use crate::engine::entry::{Location, NewValue, Place};
use crate::engine::key::KeyRef;
use crate::engine::state_codec::{self, Coded, take};
use crate::ring::position::Position;

/// A record to be written: its parts and its length, known before there is a place for it.
pub struct NewRecord<'a> {
    object: &'a Object<NewValue<'a>>,
    /// All between the header and the values.
    state: Vec<u8>,
    bytes: usize,
}

/// A decoded record; borrows from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub key: KeyRef<'a>,
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

fn coded(value: &NewValue<'_>) -> Coded {
    match (value, bytes_here(value)) {
        (_, Some(bytes)) => Coded::Here(bytes.len() as u32),
        (
            NewValue::Keep(Place::At {
                location,
                sibling,
                bytes,
            }),
            None,
        ) => Coded::At {
            location: *location,
            sibling: *sibling,
            bytes: *bytes,
        },
        (_, None) => Coded::Nowhere,
    }
}

impl<'a> NewRecord<'a> {
    pub fn new(key: KeyRef<'_>, object: &'a Object<NewValue<'a>>) -> NewRecord<'a> {
        assert!(object.siblings.len() <= limits::SIBLINGS_JOINED_MAX);
        assert!(object.siblings.is_sorted_by(|a, b| a.dot < b.dot));
        // One allocation for most records: names of some 40 bytes, two actors.
        let mut state = Vec::with_capacity(key.key.len() + 96 + 48 * object.siblings.len());
        state.push(RECORD_OBJECT);
        state_codec::encode_key(key, &mut state);
        object.vector.encode(&mut state);
        varint::encode(object.siblings.len() as u64, &mut state);
        let mut values = 0;
        for sibling in &object.siblings {
            let coded = coded(&sibling.value);
            state_codec::encode_sibling(sibling, coded, &object.vector, &mut state);
            if let Coded::Here(bytes) = coded {
                values += bytes as usize;
            }
        }
        let bytes = RECORD_HEADER_BYTES + state.len() + values;
        NewRecord {
            object,
            state,
            bytes: bytes.next_multiple_of(WORD_BYTES),
        }
    }

    /// Bytes of the whole record, a multiple of 8.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills `out`, which is exactly as long as the record, for its place in a segment.
    pub fn encode(&self, segment: u32, offset_words: u32, out: &mut [u8]) {
        assert_eq!(out.len(), self.bytes);
        let (header, mut rest) = out.split_at_mut(RECORD_HEADER_BYTES);
        let values = self.object.siblings.iter();
        let values = values.filter_map(|sibling| bytes_here(&sibling.value));
        for part in std::iter::once(&self.state[..]).chain(values) {
            let (front, behind) = rest.split_at_mut(part.len());
            front.copy_from_slice(part);
            rest = behind;
        }
        assert!(rest.len() < WORD_BYTES);
        rest.fill(0);
        header[4..].copy_from_slice(&(self.bytes as u32).to_le_bytes());
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

/// The record at the front of `bytes`, which lie at this place. Bytes behind it are not looked at.
pub fn decode(bytes: &[u8], segment: u32, offset_words: u32) -> Result<Record<'_>, RecordError> {
    let head = bytes.get(..RECORD_HEADER_BYTES).ok_or(RecordError::Short)?;
    let header: RecordHeader = bytemuck::pod_read_unaligned(head);
    let record = bytes
        .get(..header.bytes as usize)
        .ok_or(RecordError::Short)?;
    if record.len() <= RECORD_HEADER_BYTES || !record.len().is_multiple_of(WORD_BYTES) {
        return Err(RecordError::Malformed);
    }
    if checksum(segment, offset_words, record) != header.crc && !planted!(TornGroupAccepted) {
        return Err(RecordError::Checksum);
    }
    let (key, object) =
        decode_object(&record[RECORD_HEADER_BYTES..]).ok_or(RecordError::Malformed)?;
    Ok(Record {
        key,
        object,
        bytes: header.bytes,
    })
}

/// All that is behind the header.
fn decode_object(mut rest: &[u8]) -> Option<(KeyRef<'_>, Object<Found<'_>>)> {
    if take(&mut rest, 1)? != [RECORD_OBJECT] {
        return None;
    }
    let key = state_codec::decode_key(&mut rest)?;
    let vector = VersionVector::decode(&mut rest)?;
    let count = varint::decode_u32(&mut rest)? as usize;
    if count > limits::SIBLINGS_JOINED_MAX {
        return None;
    }
    let mut coded: Vec<Sibling<Coded>> = Vec::with_capacity(count);
    for _ in 0..count {
        coded.push(state_codec::decode_sibling(&mut rest, &vector)?);
    }
    let mut siblings = Vec::with_capacity(count);
    for sibling in coded {
        let found = match sibling.value {
            Coded::Nowhere => Found::Nowhere,
            Coded::Here(bytes) => Found::Here(take(&mut rest, bytes as usize)?),
            Coded::At {
                location,
                sibling,
                bytes,
            } => Found::At {
                location,
                sibling,
                bytes,
            },
        };
        siblings.push(sibling.with_value(found));
    }
    if rest.len() >= WORD_BYTES || rest.iter().any(|&byte| byte != 0) {
        return None;
    }
    Some((key, Object::checked(vector, siblings)?))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::base::units::UnixMillis;
    use crate::causal::dot::{Actor, Dot, Incarnation};
    use crate::causal::object::{Kind, OperationId};
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
        record.encode(7, 99, &mut bytes);
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
        record.encode(2, 3, &mut bytes);
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
            prop_assert_eq!(record.key.position.0, position);
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
            let end = if small { RECORD_HEADER_BYTES + 12 } else { bytes.len() };
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

    /// The encoding of what was decoded.
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
        new.encode(7, 99, &mut bytes);
        bytes
    }

    /// What the store adds to a value of 1 KiB under a key of 24 bytes: one actor has seen it, or three.
    #[test]
    fn a_record_adds_little() {
        let key = KeyRef {
            position: Position(u64::MAX),
            bucket: b"",
            key: &[b'k'; 24],
        };
        let mut object = object(&[]);
        let value = [7; 1024];
        for (actors, added) in [(1, 72), (2, 80), (3, 88)] {
            let dot = Dot {
                actor: Actor {
                    incarnation: Incarnation(u64::MAX - actors),
                    birth: 3,
                },
                counter: 7,
            };
            object.vector.add(dot);
            object.siblings = vec![Sibling {
                dot,
                operation: OperationId(u128::MAX),
                kind: Kind::Value,
                written: UnixMillis(1_800_000_000_000),
                expires: UnixMillis(0),
                value_hash: u64::MAX,
                value: NewValue::Put(&value),
            }];
            let record = NewRecord::new(key, &object);
            assert_eq!(record.bytes() - key.key.len() - value.len(), added);
        }
    }
}
