//! Entries: coding the whole state of a key, and reading it back from bytes that may be anything.
//!
//! The decoder is total: every length is checked before it is used, and nothing is accepted that the encoder would not
//! write. A sibling names its actor by its place in the vector, and its counter by how far it is behind the vector's.

use super::dictionary::DictionaryBuilder;
use super::format::*;
use crate::base::limits;
use crate::base::units::UnixMillis;
use crate::base::varint;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::entry::{Location, Place};
use crate::engine::key::KeyRef;
use crate::ring::position::Position;
use std::rc::Rc;

/// What a table holds of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    pub object: Object<Place>,
    /// The last dot this shard minted for the key; of this disk only, never sent.
    pub mine: Option<Dot>,
}

/// Appends the encoding of an entry; new incarnations are put into the dictionary.
pub fn encode(
    key: KeyRef<'_>,
    object: &Object<Place>,
    mine: Option<Dot>,
    dictionary: &mut DictionaryBuilder,
    out: &mut Vec<u8>,
) {
    assert!(key.bucket.len() <= limits::BUCKET_BYTES_MAX);
    assert!(key.key.len() <= limits::KEY_BYTES_MAX);
    assert!(object.siblings.len() <= limits::SIBLINGS_JOINED_MAX);
    assert!(object.siblings.is_sorted_by(|a, b| a.dot < b.dot));
    assert!(object.vector.fits());
    let start = out.len();
    out.extend_from_slice(&key.position.0.to_le_bytes());
    out.push(key.bucket.len() as u8);
    varint::encode(key.key.len() as u64, out);
    out.extend_from_slice(key.bucket);
    out.extend_from_slice(key.key);
    let count = object.siblings.len() as u64;
    varint::encode(count << 1 | u64::from(mine.is_some()), out);
    if let Some(mine) = mine {
        assert!(mine.counter >= 1);
        encode_dot(mine, dictionary, out);
    }
    let vector = object.vector.entries();
    varint::encode(vector.len() as u64, out);
    for &(actor, counter) in vector {
        encode_dot(Dot { actor, counter }, dictionary, out);
    }
    for sibling in &object.siblings {
        let place = vector.binary_search_by_key(&sibling.dot.actor, |entry| entry.0);
        let place = place.expect("the vector has seen its siblings");
        let behind = vector[place].1.checked_sub(sibling.dot.counter);
        assert!(sibling.dot.counter >= 1);
        varint::encode(place as u64, out);
        varint::encode(behind.expect("the vector has seen its siblings"), out);
        encode_sibling(sibling, out);
    }
    assert!(out.len() - start <= ENTRY_BYTES_MAX);
}

fn encode_dot(dot: Dot, dictionary: &mut DictionaryBuilder, out: &mut Vec<u8>) {
    let incarnation = dictionary.number(dot.actor.incarnation);
    varint::encode(u64::from(incarnation), out);
    varint::encode(u64::from(dot.actor.birth), out);
    varint::encode(dot.counter, out);
}

/// All of a sibling but its dot.
fn encode_sibling(sibling: &Sibling<Place>, out: &mut Vec<u8>) {
    let kind = match sibling.kind {
        Kind::Value => KIND_VALUE,
        Kind::Tombstone => KIND_TOMBSTONE,
        Kind::ValueLost => KIND_VALUE_LOST,
    };
    let place = match sibling.value {
        Place::Nowhere => PLACE_NOWHERE,
        Place::Inline(_) => PLACE_HERE,
        Place::At { .. } => PLACE_AT,
    };
    assert_eq!(
        place != PLACE_NOWHERE,
        kind == KIND_VALUE,
        "only values have a place"
    );
    out.push(kind | place);
    out.extend_from_slice(&sibling.operation.0.to_le_bytes());
    varint::encode(sibling.written.0, out);
    varint::encode(sibling.expires.0, out);
    out.extend_from_slice(&sibling.value_hash.to_le_bytes());
    match &sibling.value {
        Place::Nowhere => {}
        Place::Inline(bytes) => {
            assert!(bytes.len() <= limits::INLINE_VALUE_BYTES_MAX);
            out.push(bytes.len() as u8);
            out.extend_from_slice(bytes);
        }
        Place::At {
            location,
            sibling,
            bytes,
        } => {
            for number in [
                location.segment,
                location.offset_words,
                location.bytes,
                u32::from(*sibling),
                *bytes,
            ] {
                varint::encode(u64::from(number), out);
            }
        }
    }
}

/// The key of the entry that `bytes` begin with, and what is behind it.
pub fn decode_key(bytes: &[u8]) -> Option<(KeyRef<'_>, &[u8])> {
    let (position, rest) = bytes.split_first_chunk()?;
    let (&bucket_bytes, mut rest) = rest.split_first()?;
    let key_bytes = varint::decode(&mut rest)?;
    if key_bytes > limits::KEY_BYTES_MAX as u64 {
        return None;
    }
    let (bucket, rest) = rest.split_at_checked(usize::from(bucket_bytes))?;
    let (key, rest) = rest.split_at_checked(key_bytes as usize)?;
    let key = KeyRef {
        position: Position(u64::from_le_bytes(*position)),
        bucket,
        key,
    };
    Some((key, rest))
}

/// What stands behind the key: exactly `bytes`. `None` for anything that `encode` does not write.
pub fn decode_state(mut bytes: &[u8], dictionary: &[Incarnation]) -> Option<TableEntry> {
    let head = varint::decode(&mut bytes)?;
    let siblings_count = head >> 1;
    if siblings_count > limits::SIBLINGS_JOINED_MAX as u64 {
        return None;
    }
    let mine = match head & 1 {
        0 => None,
        _ => Some(decode_dot(&mut bytes, dictionary)?),
    };
    let count = varint::decode(&mut bytes)?;
    // Bounds the work by what has come.
    if count > limits::VECTOR_ENTRIES_JOINED_MAX as u64
        || count > (bytes.len() / DOT_BYTES_MIN) as u64
    {
        return None;
    }
    let mut vector = VersionVector::default();
    for _ in 0..count {
        let dot = decode_dot(&mut bytes, dictionary)?;
        if vector
            .entries()
            .last()
            .is_some_and(|last| last.0 >= dot.actor)
        {
            return None;
        }
        vector.add(dot);
    }
    let mut siblings = Vec::with_capacity(siblings_count as usize);
    for _ in 0..siblings_count {
        siblings.push(decode_sibling(&mut bytes, &vector)?);
    }
    if !bytes.is_empty() {
        return None;
    }
    let object = Object::checked(vector, siblings)?;
    Some(TableEntry { object, mine })
}

fn decode_dot(bytes: &mut &[u8], dictionary: &[Incarnation]) -> Option<Dot> {
    let number = varint::decode_u32(bytes)?;
    let actor = Actor {
        incarnation: *dictionary.get(number as usize)?,
        birth: varint::decode_u32(bytes)?,
    };
    let counter = varint::decode(bytes)?;
    (counter >= 1).then_some(Dot { actor, counter })
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

fn decode_sibling(bytes: &mut &[u8], vector: &VersionVector) -> Option<Sibling<Place>> {
    let place = varint::decode_u32(bytes)?;
    let &(actor, seen) = vector.entries().get(place as usize)?;
    let counter = seen.checked_sub(varint::decode(bytes)?)?;
    if counter == 0 {
        return None;
    }
    let [tag] = take_array(bytes)?;
    let kind = match tag & KIND_MASK {
        KIND_VALUE => Kind::Value,
        KIND_TOMBSTONE => Kind::Tombstone,
        KIND_VALUE_LOST => Kind::ValueLost,
        _ => return None,
    };
    let operation = OperationId(u128::from_le_bytes(take_array(bytes)?));
    let written = UnixMillis(varint::decode(bytes)?);
    let expires = UnixMillis(varint::decode(bytes)?);
    let value_hash = u64::from_le_bytes(take_array(bytes)?);
    let value = match tag & PLACE_MASK {
        PLACE_NOWHERE => Place::Nowhere,
        PLACE_HERE => {
            let [len] = take_array(bytes)?;
            if usize::from(len) > limits::INLINE_VALUE_BYTES_MAX {
                return None;
            }
            Place::Inline(Rc::from(take(bytes, usize::from(len))?))
        }
        PLACE_AT => Place::At {
            location: Location {
                segment: varint::decode_u32(bytes)?,
                offset_words: varint::decode_u32(bytes)?,
                bytes: varint::decode_u32(bytes)?,
            },
            sibling: u16::try_from(varint::decode_u32(bytes)?).ok()?,
            bytes: varint::decode_u32(bytes)?,
        },
        _ => return None,
    };
    if (value != Place::Nowhere) != (kind == Kind::Value) {
        return None;
    }
    Some(Sibling {
        dot: Dot { actor, counter },
        operation,
        kind,
        written,
        expires,
        value_hash,
        value,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::engine::entry::NewValue;
    use crate::engine::log::record::tests::{Value, dot, value};
    use proptest::prelude::*;

    /// An object of these values, and as many actors more in its vector.
    pub fn object(values: &[Value], seen: u64) -> Object<Place> {
        let wrote = crate::engine::log::record::tests::object(values);
        let mut vector = wrote.vector;
        (0..seen).for_each(|n| vector.add(dot(n * 7 + 3, n * n + 1)));
        // Siblings are behind what the vector saw of their actors, now and then.
        (0..values.len().min(2) as u64).for_each(|n| vector.add(dot(n * 7 + 1, 40)));
        let siblings = wrote.siblings.into_iter().map(|sibling| {
            let place = match &sibling.value {
                NewValue::Keep(place) => place.clone(),
                NewValue::Put(bytes) => {
                    let len = bytes.len().min(limits::INLINE_VALUE_BYTES_MAX);
                    Place::Inline(Rc::from(&bytes[..len]))
                }
            };
            sibling.with_value(place)
        });
        Object {
            siblings: siblings.collect(),
            vector,
        }
    }

    fn key<'a>(position: u64, bucket: &'a [u8], key: &'a [u8]) -> KeyRef<'a> {
        KeyRef {
            position: Position(position),
            bucket,
            key,
        }
    }

    /// A dictionary of the incarnations of tests, so that numbers are right by accident.
    fn dictionary() -> DictionaryBuilder {
        let mut dictionary = DictionaryBuilder::default();
        for n in 0..200 {
            dictionary.number(Incarnation(n));
        }
        dictionary
    }

    #[test]
    fn the_largest_entry_fits() {
        let values = vec![
            Value::Inline(vec![7; limits::INLINE_VALUE_BYTES_MAX]);
            limits::SIBLINGS_JOINED_MAX
        ];
        let more = (limits::VECTOR_ENTRIES_JOINED_MAX - limits::SIBLINGS_JOINED_MAX) as u64;
        let mut object = object(&values[..0], more);
        object.siblings = self::object(&values, 0).siblings;
        for nth in 0..values.len() as u64 {
            object.vector.add(dot(nth * 7 + 1, u64::MAX));
        }
        let (bucket, name) = ([1; limits::BUCKET_BYTES_MAX], [2; limits::KEY_BYTES_MAX]);
        let mut out = Vec::new();
        let mut dictionary = DictionaryBuilder::default();
        encode(
            key(9, &bucket, &name),
            &object,
            Some(dot(4, 4)),
            &mut dictionary,
            &mut out,
        );
        let (_, state) = decode_key(&out).expect("it was just written");
        let entry = decode_state(state, dictionary.incarnations()).expect("it was just written");
        assert_eq!(entry.object, object);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn an_entry_is_read_back(
            values in prop::collection::vec(value(), 0..6),
            seen in 0u64..20,
            mine in any::<Option<(u64, u64)>>(),
            bucket in prop::collection::vec(any::<u8>(), 0..20),
            name in prop::collection::vec(any::<u8>(), 0..40),
            position: u64,
        ) {
            let object = object(&values, seen);
            let mine = mine.map(|(incarnation, counter)| dot(incarnation, counter.max(1)));
            let mut dictionary = DictionaryBuilder::default();
            let mut out = Vec::new();
            let key = key(position, &bucket, &name);
            encode(key, &object, mine, &mut dictionary, &mut out);
            let (read, state) = decode_key(&out).expect("it was just written");
            prop_assert_eq!(read, key);
            let entry = decode_state(state, dictionary.incarnations());
            prop_assert_eq!(entry, Some(TableEntry { object, mine }));
            for cut in 0..out.len() {
                let whole = decode_key(&out[..cut])
                    .and_then(|(_, state)| decode_state(state, dictionary.incarnations()));
                prop_assert!(whole.is_none());
            }
        }

        #[test]
        fn spoiled_entries_never_panic_and_are_canonical(
            values in prop::collection::vec(value(), 0..4),
            seen in 0u64..3,
            mine: bool,
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let object = object(&values, seen);
            let mine = mine.then(|| dot(3, 1));
            let mut out = Vec::new();
            encode(key(5, b"b", b"key"), &object, mine, &mut dictionary(), &mut out);
            for (at, byte) in spoils {
                let at = at.index(out.len());
                out[at] = byte;
            }
            if let Some((key, state)) = decode_key(&out)
                && let Some(entry) = decode_state(state, dictionary().incarnations())
            {
                let mut again = Vec::new();
                encode(key, &entry.object, entry.mine, &mut dictionary(), &mut again);
                prop_assert_eq!(again, out);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(0u8..20, 0..100)) {
            let _ = decode_key(&bytes);
            let _ = decode_state(&bytes, dictionary().incarnations());
        }
    }
}
