//! Entries: coding the whole state of a key, and reading it back from bytes that may be anything.
//!
//! The decoder is total: every length is checked before it is used, and nothing is accepted that the encoder would not
//! write.

use super::dictionary::DictionaryBuilder;
use super::format::*;
use crate::base::limits;
use crate::base::varint;
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Object, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::engine::entry::Place;
use crate::engine::key::KeyRef;
use crate::engine::state_codec::{self, Coded};
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
    assert!(object.siblings.len() <= limits::SIBLINGS_JOINED_MAX);
    assert!(object.siblings.is_sorted_by(|a, b| a.dot < b.dot));
    assert!(object.vector.fits());
    let start = out.len();
    state_codec::encode_key(key, out);
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
        let coded = match &sibling.value {
            Place::Nowhere => Coded::Nowhere,
            Place::Inline(bytes) => Coded::Here(bytes.len() as u32),
            Place::At {
                location,
                sibling,
                bytes,
            } => Coded::At {
                location: *location,
                sibling: *sibling,
                bytes: *bytes,
            },
        };
        state_codec::encode_sibling(sibling, coded, &object.vector, out);
        if let Place::Inline(bytes) = &sibling.value {
            assert!(bytes.len() <= limits::INLINE_VALUE_BYTES_MAX);
            out.extend_from_slice(bytes);
        }
    }
    assert!(out.len() - start <= ENTRY_BYTES_MAX);
}

fn encode_dot(dot: Dot, dictionary: &mut DictionaryBuilder, out: &mut Vec<u8>) {
    let incarnation = dictionary.number(dot.actor.incarnation);
    varint::encode(u64::from(incarnation), out);
    varint::encode(u64::from(dot.actor.birth), out);
    varint::encode(dot.counter, out);
}

/// The key of the entry that `bytes` begin with, and what is behind it.
pub fn decode_key(mut bytes: &[u8]) -> Option<(KeyRef<'_>, &[u8])> {
    let key = state_codec::decode_key(&mut bytes)?;
    Some((key, bytes))
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

fn decode_sibling(bytes: &mut &[u8], vector: &VersionVector) -> Option<Sibling<Place>> {
    let sibling = state_codec::decode_sibling(bytes, vector)?;
    let place = match sibling.value {
        Coded::Nowhere => Place::Nowhere,
        Coded::Here(len) if len as usize > limits::INLINE_VALUE_BYTES_MAX => return None,
        Coded::Here(len) => Place::Inline(Rc::from(state_codec::take(bytes, len as usize)?)),
        Coded::At {
            location,
            sibling,
            bytes,
        } => Place::At {
            location,
            sibling,
            bytes,
        },
    };
    Some(sibling.with_value(place))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::engine::entry::NewValue;
    use crate::engine::log::record::tests::{Value, dot, value};
    use crate::ring::position::Position;
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
