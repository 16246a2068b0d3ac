//! Segments: their names, their sizes, their numbers.
//!
//! Numbers are one per data directory and never used again. Shard i of n takes the numbers that leave i when divided
//! by n, so shards need not ask each other, and know which files in `log/` are theirs.

use super::format::{GROUP_HEADER_BYTES, RECORD_OVERHEAD_BYTES_MAX};
use crate::base::limits::{PAGE_BYTES, SEGMENT_BYTES_MAX};

/// The directory of the segments of all shards.
pub const DIRECTORY: &str = "log";
const SUFFIX: &str = ".segment";
/// Segments of a shard that has grown. Collection wants something to choose from, for which 50 are enough; and what is
/// begun, or ready to be, is three segments or four that count as space.
const SEGMENTS_WANTED: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub number: u32,
    pub bytes: u64,
}

/// The name under the data directory.
pub fn name(number: u32) -> String {
    format!("{DIRECTORY}/{number:010}{SUFFIX}")
}

/// The number in a name as `list("log")` gives it; `None` for anything that `name` does not write.
pub fn parse_name(file: &str) -> Option<u32> {
    let digits = file.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Bytes of the next segment of a shard whose segments hold `shard_bytes`: two of the largest records always fit.
pub fn size(shard_bytes: u64, value_bytes_max: usize, bytes_min: u64) -> u64 {
    let largest = GROUP_HEADER_BYTES + RECORD_OVERHEAD_BYTES_MAX + value_bytes_max;
    let at_least = 2 * largest.next_multiple_of(PAGE_BYTES) as u64;
    let grown = (shard_bytes / SEGMENTS_WANTED).clamp(bytes_min, SEGMENT_BYTES_MAX as u64);
    let bytes = grown.max(at_least).next_multiple_of(PAGE_BYTES as u64);
    assert!(
        bytes / 8 <= u64::from(u32::MAX),
        "offsets are counted in words"
    );
    bytes
}

/// The smallest number of shard `shard` of `shards` that is above `highest`; `None` when numbers have run out.
pub fn next_number(highest: Option<u32>, shard: u16, shards: u16) -> Option<u32> {
    assert!(shard < shards);
    let (shard, shards) = (u64::from(shard), u64::from(shards));
    let from = highest.map_or(0, |highest| u64::from(highest) + 1);
    let number = from + (shard + shards - from % shards) % shards;
    assert!(number >= from && number % shards == shard);
    u32::try_from(number).ok()
}

/// Whether a segment's number says that it is of this shard.
pub fn belongs(number: u32, shard: u16, shards: u16) -> bool {
    number % u32::from(shards) == u32::from(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_others() {
        for number in [0, 7, u32::MAX] {
            let name = name(number);
            assert_eq!(parse_name(name.strip_prefix("log/").unwrap()), Some(number));
        }
        for other in [
            "1.segment",
            "0000000001.table",
            "+000000001.segment",
            "4294967296.segment",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn sizes_grow_with_the_shard_and_hold_two_of_the_largest_records() {
        let mib = 1 << 20;
        let size = |shard_bytes, value_bytes_max| size(shard_bytes, value_bytes_max, 4 * mib);
        assert_eq!(size(0, mib as usize), 4 * mib);
        assert_eq!(size(256 * 9 * mib, mib as usize), 9 * mib);
        assert_eq!(size(u64::MAX / 2, mib as usize), 64 * mib);
        for value_bytes_max in [0, 1, mib as usize, 16 * mib as usize] {
            let bytes = size(0, value_bytes_max);
            assert!(bytes >= 2 * (value_bytes_max + RECORD_OVERHEAD_BYTES_MAX) as u64);
            assert_eq!(bytes % PAGE_BYTES as u64, 0);
        }
    }

    #[test]
    fn numbers_of_shards_never_meet() {
        for shards in 1..6u16 {
            for shard in 0..shards {
                let mut number = None;
                for step in 0..5u32 {
                    number = next_number(number, shard, shards);
                    let expected = u32::from(shard) + step * u32::from(shards);
                    assert_eq!(number, Some(expected));
                }
            }
        }
        assert_eq!(next_number(Some(u32::MAX), 0, 1), None);
        assert_eq!(next_number(Some(6), 2, 4), Some(10));
    }
}
