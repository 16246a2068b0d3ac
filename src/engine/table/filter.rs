//! The filter of a table: whether it may hold a position. Binary fuse filters with fingerprints of 8 bits: about ten
//! bits a position, wrong for one in 256 that are not there, never for one that is.
//!
//! It is cut into parts, each over the positions up to the next one's first: building a part takes a fraction of a
//! millisecond and bounded memory, however large the table. The crate builds; looking up is done here, since the hash
//! is part of the format.

use super::Damaged;
use super::format::*;
use crate::base::limits::TABLE_FILTER_PART_POSITIONS;
use crate::base::planted::planted;
use crate::ring::position::Position;
use std::ops::Range;

/// Takes positions in order.
#[derive(Default)]
pub struct FilterBuilder {
    /// Of the part that is being gathered; each once.
    positions: Vec<u64>,
    parts: Vec<FilterPart>,
    fingerprints: Vec<u8>,
}

impl FilterBuilder {
    pub fn add(&mut self, position: Position) {
        if let Some(&last) = self.positions.last() {
            assert!(last <= position.0, "positions come in order");
            if last == position.0 {
                return;
            }
        }
        if self.positions.len() == TABLE_FILTER_PART_POSITIONS {
            self.finish_part();
        }
        self.positions.push(position.0);
    }

    fn finish_part(&mut self) {
        let mut part = FilterPart {
            first_position: self.positions[0],
            seed: 0,
            segment_length: 0,
            segment_count_length: 0,
            fingerprints: 0,
            zero: 0,
        };
        if let Ok(built) = xorf::BinaryFuse8::try_from(&self.positions) {
            let candidate = FilterPart {
                seed: built.descriptor.seed,
                segment_length: built.descriptor.segment_length,
                segment_count_length: built.descriptor.segment_count_length,
                fingerprints: built.fingerprints.len() as u32,
                ..part
            };
            // A filter that denies a key loses it: this one is asked for each before it is trusted.
            let mut positions = self.positions.iter();
            if is_sound(&candidate) && positions.all(|&p| holds(&candidate, &built.fingerprints, p))
            {
                part = candidate;
                self.fingerprints.extend_from_slice(&built.fingerprints);
            }
        }
        self.parts.push(part);
        self.positions.clear();
    }

    /// The number of parts, and the section without filling.
    pub fn finish(mut self) -> (u32, Vec<u8>) {
        if !self.positions.is_empty() {
            self.finish_part();
        }
        let mut out = bytemuck::cast_slice(&self.parts).to_vec();
        out.extend_from_slice(&self.fingerprints);
        (self.parts.len() as u32, out)
    }
}

/// Whether the lengths of a part fit each other, so that no lookup goes past its fingerprints.
fn is_sound(part: &FilterPart) -> bool {
    if part.fingerprints == 0 {
        return part.segment_length == 0 && part.segment_count_length == 0 && part.seed == 0;
    }
    let lengths = u64::from(part.segment_count_length) + 2 * u64::from(part.segment_length);
    part.segment_length.is_power_of_two()
        && part.segment_count_length > 0
        && part
            .segment_count_length
            .is_multiple_of(part.segment_length)
        && lengths == u64::from(part.fingerprints)
}

/// What stands in the filter for a position; `fingerprints` are those of the part. Final.
fn holds(part: &FilterPart, fingerprints: &[u8], position: u64) -> bool {
    // The finishing steps of MurmurHash3.
    let mut hash = position.wrapping_add(part.seed);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let mask = part.segment_length - 1;
    let first = ((u128::from(hash) * u128::from(part.segment_count_length)) >> 64) as u32;
    let second = (first + part.segment_length) ^ ((hash >> 18) as u32 & mask);
    let third = (first + 2 * part.segment_length) ^ (hash as u32 & mask);
    let fingerprint = (hash ^ hash >> 32) as u8;
    let at = |place: u32| fingerprints[place as usize];
    fingerprint == at(first) ^ at(second) ^ at(third)
}

pub struct Filter {
    parts: Box<[(FilterPart, Range<usize>)]>,
    fingerprints: Box<[u8]>,
}

impl Filter {
    /// The filter at the front of `bytes`, and what is behind it.
    pub fn decode(bytes: &[u8], parts: usize) -> Result<(Filter, &[u8]), Damaged> {
        const DAMAGED: Damaged = Damaged("the filter holds what is never written");
        let head = parts.checked_mul(FILTER_PART_BYTES).ok_or(DAMAGED)?;
        let (head, mut rest) = bytes.split_at_checked(head).ok_or(DAMAGED)?;
        let all = rest;
        let mut decoded: Vec<(FilterPart, Range<usize>)> = Vec::with_capacity(parts);
        for bytes in head.chunks_exact(FILTER_PART_BYTES) {
            let part: FilterPart = bytemuck::pod_read_unaligned(bytes);
            let last = decoded.last().map(|(last, _)| last.first_position);
            if !is_sound(&part)
                || part.zero != 0
                || last.is_some_and(|last| last >= part.first_position)
            {
                return Err(DAMAGED);
            }
            let start = all.len() - rest.len();
            let end = rest.split_at_checked(part.fingerprints as usize);
            rest = end.ok_or(DAMAGED)?.1;
            decoded.push((part, start..start + part.fingerprints as usize));
        }
        let filter = Filter {
            parts: decoded.into(),
            fingerprints: all[..all.len() - rest.len()].into(),
        };
        Ok((filter, rest))
    }

    pub fn may_hold(&self, position: Position) -> bool {
        let behind = self
            .parts
            .partition_point(|(part, _)| part.first_position <= position.0);
        let Some((part, range)) = behind.checked_sub(1).map(|nth| &self.parts[nth]) else {
            return false;
        };
        if planted!(FilterFalseNegative) && position.0.is_multiple_of(16) {
            return false;
        }
        part.fingerprints == 0 || holds(part, &self.fingerprints[range.clone()], position.0)
    }

    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.parts) + self.fingerprints.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use proptest::prelude::*;

    fn filter(positions: &[u64]) -> Filter {
        let mut builder = FilterBuilder::default();
        positions.iter().for_each(|&p| builder.add(Position(p)));
        let (parts, bytes) = builder.finish();
        let (filter, rest) = Filter::decode(&bytes, parts as usize).expect("it was just made");
        assert!(rest.is_empty());
        filter
    }

    #[test]
    fn it_denies_most_and_takes_ten_bits_or_so() {
        let mut rng = Rng::new(1);
        let mut positions: Vec<u64> = (0..3 * TABLE_FILTER_PART_POSITIONS + 5)
            .map(|_| rng.u64())
            .collect();
        positions.sort_unstable();
        let filter = filter(&positions);
        assert_eq!(filter.parts.len(), 4);
        assert!(positions.iter().all(|&p| filter.may_hold(Position(p))));
        let wrong = (0..100_000)
            .filter(|_| filter.may_hold(Position(rng.u64())))
            .count();
        assert!(wrong < 1000, "{wrong} of 100,000");
        assert!(filter.fingerprints.len() * 8 < positions.len() * 12);
        assert!(!filter.may_hold(Position(positions[0] - 1)));
    }

    #[test]
    fn a_part_without_fingerprints_holds_all() {
        let part = FilterPart {
            first_position: 5,
            seed: 0,
            segment_length: 0,
            segment_count_length: 0,
            fingerprints: 0,
            zero: 0,
        };
        let (filter, _) = Filter::decode(bytemuck::bytes_of(&part), 1).expect("sound");
        assert!(filter.may_hold(Position(5)) && filter.may_hold(Position(u64::MAX)));
        assert!(!filter.may_hold(Position(4)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_never_denies_what_is_there(
            mut positions in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..50], 1..400),
            spread in 0u32..60,
        ) {
            positions.iter_mut().for_each(|position| *position >>= spread);
            positions.sort_unstable();
            let filter = filter(&positions);
            prop_assert!(positions.iter().all(|&p| filter.may_hold(Position(p))));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            lengths in any::<Option<(u8, u8)>>(),
            parts in 0usize..4,
        ) {
            let mut bytes = bytes;
            if let (Some((segment, count)), true) = (lengths, bytes.len() >= FILTER_PART_BYTES) {
                // Lengths that fit each other now and then.
                let segment = 1u32 << (segment % 5);
                let count = segment * u32::from(count % 8);
                bytes[16..20].copy_from_slice(&segment.to_le_bytes());
                bytes[20..24].copy_from_slice(&count.to_le_bytes());
                bytes[24..28].copy_from_slice(&(count + 2 * segment).to_le_bytes());
                bytes[28..32].fill(0);
            }
            if let Ok((filter, _)) = Filter::decode(&bytes, parts) {
                for position in [0, 1, u64::MAX / 3, u64::MAX] {
                    filter.may_hold(Position(position));
                }
            }
        }
    }
}
