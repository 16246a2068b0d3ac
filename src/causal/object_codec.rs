//! A whole object as it travels between nodes: what is known of a key, with some or all of its values.
//!
//! Encoding, final; varint as in `base::varint`:
//!
//! ```text
//! the vector's encoding | siblings varint |
//! each sibling, ascending by dot { its encoding | length of the value + 1 as varint, 0: left out | the value }
//! ```
//!
//! Only a sibling of the kind value has a value. One object with the same values left out has one encoding. Golden
//! vectors: `schema/vectors/object.json`.

use super::object::{Kind, Object};
use super::sibling_codec;
use super::value_hash::value_hash;
use super::version_vector::VersionVector;
use crate::base::{limits, varint};

/// A value that came with its object, or was left out.
pub type Given<'a> = Option<&'a [u8]>;

/// Appends the encoding; `value` says what travels of each sibling's value.
pub fn encode<'v, V: 'v>(
    object: &'v Object<V>,
    value: impl Fn(&'v V) -> Given<'v>,
    out: &mut Vec<u8>,
) {
    assert!(object.siblings.len() <= limits::SIBLINGS_JOINED_MAX);
    object.vector.encode(out);
    varint::encode(object.siblings.len() as u64, out);
    for sibling in &object.siblings {
        sibling_codec::encode(sibling, out);
        let given = match sibling.kind {
            Kind::Value => value(&sibling.value),
            Kind::Tombstone | Kind::ValueLost => None,
        };
        varint::encode(given.map_or(0, |bytes| bytes.len() as u64 + 1), out);
        out.extend_from_slice(given.unwrap_or_default());
    }
}

/// Reads all of `bytes`. `None` for anything that `encode` does not write.
pub fn decode(bytes: &[u8]) -> Option<Object<Given<'_>>> {
    let mut rest = bytes;
    let vector = VersionVector::decode(&mut rest)?;
    let count = varint::decode_u32(&mut rest)? as usize;
    if count > limits::SIBLINGS_JOINED_MAX {
        return None;
    }
    let mut siblings = Vec::with_capacity(count);
    for _ in 0..count {
        let sibling = sibling_codec::decode(&mut rest)?;
        let given = match varint::decode_u32(&mut rest)? {
            0 => None,
            len => {
                let (value, behind) = rest.split_at_checked(len as usize - 1)?;
                rest = behind;
                Some(value)
            }
        };
        let has_value = sibling.kind == Kind::Value;
        if given.is_some_and(|value| !has_value || value.len() > limits::VALUE_BYTES_MAX) {
            return None;
        }
        siblings.push(sibling.with_value(given));
    }
    rest.is_empty()
        .then(|| Object::checked(vector, siblings))
        .flatten()
}

/// Whether each value that came is the one that was written: its hash ties it to the key, the dot and the operation.
pub fn is_intact(bucket: &[u8], key: &[u8], object: &Object<Given<'_>>) -> bool {
    object.siblings.iter().all(|sibling| {
        sibling.value.is_none_or(|value| {
            value_hash(bucket, key, sibling.dot, sibling.operation, value) == sibling.value_hash
        })
    })
}
