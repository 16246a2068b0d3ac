//! The hash that a value keeps from the minting of its dot to the client's eyes.

use super::message::DotView;
use crate::causal::object::OperationId;
use xxhash_rust::xxh3::Xxh3;

/// xxh3-64, seed 0, over: length of the bucket name (1 byte), bucket, length of the key (u16), key,
/// incarnation (u64), birth (u32),
/// counter (u64), operation id (16 bytes), value; all numbers little-endian. The lengths keep two different
/// inputs from being one string.
pub fn value_hash(
    bucket: &[u8],
    key: &[u8],
    dot: DotView,
    operation: OperationId,
    value: &[u8],
) -> u64 {
    assert!(
        bucket.len() <= usize::from(u8::MAX),
        "bucket name checked at the door"
    );
    assert!(
        key.len() <= usize::from(u16::MAX),
        "key checked at the door"
    );
    let mut hash = Xxh3::new();
    hash.update(&[bucket.len() as u8]);
    hash.update(bucket);
    hash.update(&(key.len() as u16).to_le_bytes());
    hash.update(key);
    hash.update(&dot.incarnation.to_le_bytes());
    hash.update(&dot.birth.to_le_bytes());
    hash.update(&dot.counter.to_le_bytes());
    hash.update(&operation.0.to_le_bytes());
    hash.update(value);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_hash_over_the_bytes_that_the_schema_names() {
        let dot = DotView {
            incarnation: 0x0102030405060708,
            birth: 9,
            counter: 10,
        };
        let mut bytes = vec![1, b'b', 2, 0, b'k', b'1'];
        bytes.extend_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        bytes.extend_from_slice(&[9, 0, 0, 0]);
        bytes.extend_from_slice(&[10, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[11, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(b"value");
        let operation = OperationId(11 | 12 << 64);
        assert_eq!(
            value_hash(b"b", b"k1", dot, operation, b"value"),
            xxhash_rust::xxh3::xxh3_64(&bytes)
        );
    }
}
