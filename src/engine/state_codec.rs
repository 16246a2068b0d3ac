//! What records of the log and entries of tables code alike: the name of a key, and siblings beside their vector.
//!
//! A sibling names its actor by its place in the vector, and its counter by how far it is behind the vector's. The
//! decoders are total, and take only what the encoders write. Final: a change here is a new format number of logs and
//! of tables; `schema/disk.md` draws it.

use super::entry::Location;
use super::key::KeyRef;
use crate::base::limits;
use crate::base::units::UnixMillis;
use crate::base::varint::{self, VARINT_BYTES_MAX};
use crate::causal::dot::Dot;
use crate::causal::object::{Kind, OperationId, Sibling};
use crate::causal::version_vector::VersionVector;
use crate::ring::position::Position;

/// The kind of a sibling, low four bits of its tag; frozen.
const KIND_VALUE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const KIND_VALUE_LOST: u8 = 3;
const KIND_MASK: u8 = 0x0f;
/// Where its value is, high four bits; frozen.
const PLACE_NOWHERE: u8 = 0;
const PLACE_HERE: u8 = 0x10;
const PLACE_AT: u8 = 0x20;
const PLACE_MASK: u8 = 0xf0;

/// Bytes of the longest varint of 32 bits.
pub const VARINT_BYTES_MAX_U32: usize = 5;
/// Bytes of the longest name of a key: position, two lengths, bucket, key.
pub const KEY_CODE_BYTES_MAX: usize =
    8 + 1 + VARINT_BYTES_MAX_U32 + limits::BUCKET_BYTES_MAX + limits::KEY_BYTES_MAX;
/// Bytes of the longest sibling: actor, counter, tag, operation, two times, hash, the place of a value elsewhere.
pub const SIBLING_CODE_BYTES_MAX: usize = VARINT_BYTES_MAX_U32
    + VARINT_BYTES_MAX
    + 1
    + 16
    + 2 * VARINT_BYTES_MAX
    + 8
    + 5 * VARINT_BYTES_MAX_U32;

const _: () = assert!(limits::BUCKET_BYTES_MAX <= u8::MAX as usize);

/// Where the value of a coded sibling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coded {
    /// A tombstone, or lost.
    Nowhere,
    /// So many bytes, which the caller codes.
    Here(u32),
    /// In a record of the log.
    At {
        location: Location,
        sibling: u16,
        bytes: u32,
    },
}

/// Takes `count` bytes from the front.
pub fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

/// Appends the name of a key.
pub fn encode_key(key: KeyRef<'_>, out: &mut Vec<u8>) {
    assert!(key.bucket.len() <= limits::BUCKET_BYTES_MAX);
    assert!(key.key.len() <= limits::KEY_BYTES_MAX);
    out.extend_from_slice(&key.position.0.to_le_bytes());
    out.push(key.bucket.len() as u8);
    varint::encode(key.key.len() as u64, out);
    out.extend_from_slice(key.bucket);
    out.extend_from_slice(key.key);
}

/// Takes the name of a key from the front. The position is as it was written: nobody asks here whether it is the key's.
pub fn decode_key<'a>(bytes: &mut &'a [u8]) -> Option<KeyRef<'a>> {
    let position = Position(u64::from_le_bytes(take_array(bytes)?));
    let [bucket_bytes] = take_array(bytes)?;
    let key_bytes = varint::decode(bytes)?;
    if key_bytes > limits::KEY_BYTES_MAX as u64 {
        return None;
    }
    Some(KeyRef {
        position,
        bucket: take(bytes, usize::from(bucket_bytes))?,
        key: take(bytes, key_bytes as usize)?,
    })
}

/// Appends a sibling that `vector` has seen, all but the bytes of a value that is here.
pub fn encode_sibling<V>(
    sibling: &Sibling<V>,
    value: Coded,
    vector: &VersionVector,
    out: &mut Vec<u8>,
) {
    assert!(sibling.dot.counter >= 1);
    let kind = match sibling.kind {
        Kind::Value => KIND_VALUE,
        Kind::Tombstone => KIND_TOMBSTONE,
        Kind::ValueLost => KIND_VALUE_LOST,
    };
    assert_eq!(
        value != Coded::Nowhere,
        kind == KIND_VALUE,
        "only values have a place"
    );
    let vector = vector.entries();
    let nth = vector.binary_search_by_key(&sibling.dot.actor, |entry| entry.0);
    let nth = nth.expect("the vector has seen its siblings");
    let behind = vector[nth].1.checked_sub(sibling.dot.counter);
    varint::encode(nth as u64, out);
    varint::encode(behind.expect("the vector has seen its siblings"), out);
    let place = match value {
        Coded::Nowhere => PLACE_NOWHERE,
        Coded::Here(_) => PLACE_HERE,
        Coded::At { .. } => PLACE_AT,
    };
    out.push(kind | place);
    out.extend_from_slice(&sibling.operation.0.to_le_bytes());
    varint::encode(sibling.written.0, out);
    varint::encode(sibling.expires.0, out);
    out.extend_from_slice(&sibling.value_hash.to_le_bytes());
    match value {
        Coded::Nowhere => {}
        Coded::Here(bytes) => varint::encode(u64::from(bytes), out),
        Coded::At {
            location,
            sibling,
            bytes,
        } => {
            for number in [
                location.segment,
                location.offset_words,
                location.bytes,
                u32::from(sibling),
                bytes,
            ] {
                varint::encode(u64::from(number), out);
            }
        }
    }
}

/// Takes a sibling from the front; the bytes of a value that is here are left to the caller.
pub fn decode_sibling(bytes: &mut &[u8], vector: &VersionVector) -> Option<Sibling<Coded>> {
    let nth = varint::decode_u32(bytes)?;
    let &(actor, seen) = vector.entries().get(nth as usize)?;
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
        PLACE_NOWHERE => Coded::Nowhere,
        PLACE_HERE => Coded::Here(varint::decode_u32(bytes)?),
        PLACE_AT => Coded::At {
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
    if (value != Coded::Nowhere) != (kind == Kind::Value) {
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
