//! The hash that travels with a value from the mint to the client: it ties the bytes to the write
//! that they belong to.
//!
//! xxh3-64, seed 0, over these bytes, numbers little-endian:
//!
//! ```text
//! bucket length u8 | bucket | key length u32 | key | incarnation u64 | birth u32 |
//! counter u64 | operation id u128 | value
//! ```
//!
//! Final. A client that got a value recomputes it from what it asked for and the sibling's fields;
//! a tombstone's value is empty. Golden vectors: `schema/vectors/value_hash.json`.

use super::dot::Dot;
use super::object::OperationId;
use crate::base::{checksum, limits};

pub fn value_hash(
    bucket: &[u8],
    key: &[u8],
    dot: Dot,
    operation: OperationId,
    value: &[u8],
) -> u64 {
    assert!(bucket.len() <= limits::BUCKET_BYTES_MAX);
    assert!(u32::try_from(key.len()).is_ok());
    checksum::xxh3_64_parts(&[
        &[bucket.len() as u8],
        bucket,
        &(key.len() as u32).to_le_bytes(),
        key,
        &dot.actor.incarnation.0.to_le_bytes(),
        &dot.actor.birth.to_le_bytes(),
        &dot.counter.to_le_bytes(),
        &operation.0.to_le_bytes(),
        value,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::golden::{self, unhex};
    use crate::causal::dot::{Actor, Incarnation};

    #[derive(serde::Deserialize)]
    struct Golden {
        bucket_hex: String,
        key_hex: String,
        incarnation: String,
        birth: u32,
        counter: u64,
        operation: String,
        value_hex: String,
        value_hash: String,
    }

    #[test]
    fn golden() {
        let text = include_str!("../../schema/vectors/value_hash.json");
        for golden in golden::read::<Golden>(text) {
            let incarnation = u64::from_str_radix(&golden.incarnation, 16).expect("hex");
            let operation = u128::from_str_radix(&golden.operation, 16).expect("hex");
            let dot = Dot {
                actor: Actor {
                    incarnation: Incarnation(incarnation),
                    birth: golden.birth,
                },
                counter: golden.counter,
            };
            let bucket = unhex(&golden.bucket_hex);
            let key = unhex(&golden.key_hex);
            let value = unhex(&golden.value_hex);
            let hash = value_hash(&bucket, &key, dot, OperationId(operation), &value);
            assert_eq!(format!("{hash:016x}"), golden.value_hash);
        }
    }

    #[test]
    fn every_part_counts() {
        let dot = |incarnation, birth, counter| Dot {
            actor: Actor {
                incarnation: Incarnation(incarnation),
                birth,
            },
            counter,
        };
        let one = OperationId(1);
        let hashes = [
            value_hash(b"bucket", b"key", dot(1, 2, 3), one, b"value"),
            value_hash(b"bucke", b"tkey", dot(1, 2, 3), one, b"value"),
            value_hash(b"bucket", b"keyv", dot(1, 2, 3), one, b"alue"),
            value_hash(b"bucket", b"key", dot(2, 2, 3), one, b"value"),
            value_hash(b"bucket", b"key", dot(1, 3, 3), one, b"value"),
            value_hash(b"bucket", b"key", dot(1, 2, 4), one, b"value"),
            value_hash(b"bucket", b"key", dot(1, 2, 3), OperationId(2), b"value"),
            value_hash(b"bucket", b"key", dot(1, 2, 3), one, b"valu"),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash), "{index}");
        }
    }
}
