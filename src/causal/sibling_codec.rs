//! A sibling without its value, as it stands in log records and between nodes.
//!
//! Encoding, final; numbers little-endian, varint as in `base::varint`:
//!
//! ```text
//! incarnation u64 | birth varint (32 bits) | counter varint, at least 1 | operation id u128 |
//! kind u8 | written varint | expires varint | value hash u64
//! ```
//!
//! Times are milliseconds since 1970; kinds: 1 value, 2 tombstone, 3 value lost. One sibling has
//! one encoding. Golden vectors: `schema/vectors/sibling.json`.

use super::object::{Kind, OperationId, Sibling};
use super::version_vector::{decode_dot, encode_dot};
use crate::base::units::UnixMillis;
use crate::base::varint;

/// Appends all of it but the value.
pub fn encode<V>(sibling: &Sibling<V>, out: &mut Vec<u8>) {
    assert!(sibling.dot.counter >= 1);
    encode_dot(sibling.dot, out);
    out.extend_from_slice(&sibling.operation.0.to_le_bytes());
    out.push(match sibling.kind {
        Kind::Value => 1,
        Kind::Tombstone => 2,
        Kind::ValueLost => 3,
    });
    varint::encode(sibling.written.0, out);
    varint::encode(sibling.expires.0, out);
    out.extend_from_slice(&sibling.value_hash.to_le_bytes());
}

/// Reads one from the front of `bytes`, which is moved on. `None` for anything that `encode` does
/// not write.
pub fn decode(bytes: &mut &[u8]) -> Option<Sibling<()>> {
    let mut rest = *bytes;
    let dot = decode_dot(&mut rest)?;
    let (&operation, after) = rest.split_first_chunk()?;
    let (&kind, after) = after.split_first()?;
    rest = after;
    let kind = match kind {
        1 => Kind::Value,
        2 => Kind::Tombstone,
        3 => Kind::ValueLost,
        _ => return None,
    };
    let written = UnixMillis(varint::decode(&mut rest)?);
    let expires = UnixMillis(varint::decode(&mut rest)?);
    let (&value_hash, rest) = rest.split_first_chunk()?;
    *bytes = rest;
    Some(Sibling {
        dot,
        operation: OperationId(u128::from_le_bytes(operation)),
        kind,
        written,
        expires,
        value_hash: u64::from_le_bytes(value_hash),
        value: (),
    })
}
