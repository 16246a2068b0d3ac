//! Where a key lies on the circle, and which virtual node covers that place.

use crate::base::checksum;
use crate::base::limits;
use std::ops::RangeInclusive;

/// A point of the 64-bit circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// One of the Q equal arcs, counted from position 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualNode(pub u32);

impl Position {
    /// xxh3-64, seed 0, over one length byte, the bucket name, the key. The bucket is at most 255
    /// bytes.
    ///
    /// Final: data lies where this says. Golden vectors: `schema/vectors/position.json`.
    pub fn of(bucket: &[u8], key: &[u8]) -> Position {
        assert!(bucket.len() <= limits::BUCKET_BYTES_MAX);
        let length = [bucket.len() as u8];
        Position(checksum::xxh3_64_parts(&[&length, bucket, key]))
    }

    /// The virtual node among `count` (a power of two): the top bits.
    pub fn virtual_node(self, count: u32) -> VirtualNode {
        assert!(count.is_power_of_two());
        // The product's high half is the top log2(count) bits, with no special case for a count of
        // 1.
        let virtual_node = (u128::from(self.0) * u128::from(count)) >> 64;
        assert!(virtual_node < u128::from(count));
        VirtualNode(virtual_node as u32)
    }
}

impl VirtualNode {
    /// The positions of its arc among `count` (a power of two); the last one is its place on the
    /// circle. No arc wraps.
    pub fn arc(self, count: u32) -> RangeInclusive<Position> {
        assert!(count.is_power_of_two());
        assert!(self.0 < count);
        let last_offset = u64::MAX >> count.trailing_zeros();
        let first = ((u128::from(self.0) << 64) / u128::from(count)) as u64;
        Position(first)..=Position(first + last_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::golden::{self, unhex};
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        bucket_hex: String,
        key_hex: String,
        position: String,
        virtual_node_of_1024: u32,
    }

    #[test]
    fn golden() {
        let text = include_str!("../../schema/vectors/position.json");
        for golden in golden::read::<Golden>(text) {
            let position = Position::of(&unhex(&golden.bucket_hex), &unhex(&golden.key_hex));
            assert_eq!(format!("{:016x}", position.0), golden.position);
            assert_eq!(position.virtual_node(1024).0, golden.virtual_node_of_1024);
        }
    }

    #[test]
    fn the_length_byte_tells_bucket_from_key() {
        assert_ne!(Position::of(b"ab", b"c"), Position::of(b"a", b"bc"));
    }

    #[test]
    fn arcs_follow_each_other_round_the_circle() {
        for count in (0..=12).map(|log| 1u32 << log) {
            let mut next = Some(0u64);
            for index in 0..count {
                let arc = VirtualNode(index).arc(count);
                assert_eq!(Some(arc.start().0), next);
                assert_eq!(arc.start().virtual_node(count).0, index);
                assert_eq!(arc.end().virtual_node(count).0, index);
                next = arc.end().0.checked_add(1);
            }
            assert_eq!(next, None, "{count} arcs end at the end");
        }
    }

    proptest! {
        #[test]
        fn a_position_lies_on_the_arc_of_its_virtual_node(position: u64, log in 0u32..32) {
            let position = Position(position);
            let virtual_node = position.virtual_node(1 << log);
            prop_assert!(virtual_node.arc(1 << log).contains(&position));
            // The twin: a shift, where a shift can be written.
            if log > 0 {
                prop_assert_eq!(u64::from(virtual_node.0), position.0 >> (64 - log));
            }
        }

        #[test]
        fn a_position_is_the_hash_of_the_joined_bytes(
            bucket in prop::collection::vec(any::<u8>(), 0..=255),
            key in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let joined = [&[bucket.len() as u8][..], &bucket, &key].concat();
            prop_assert_eq!(Position::of(&bucket, &key).0, checksum::xxh3_64(&joined));
        }
    }
}
