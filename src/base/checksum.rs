//! The two checksums: crc32c guards bytes on disk, xxh3-64 names and compares what is persisted or
//! sent.
//!
//! Both are final: their results stand on disk and on the wire. xxh3-64 always runs with seed 0 and
//! the default secret.

use xxhash_rust::xxh3;

/// Parts whose sum is at most this long are gathered on the stack: one call of the short-input
/// routines costs less than the setting up of a stream, whose state is as large.
const GATHER_BYTES_MAX: usize = 512;

/// The Castagnoli checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`. The checksum of nothing is
/// 0.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

pub fn xxh3_64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}

/// xxh3-64 of the parts as if they stood one after the other. Nothing marks where a part ends:
/// callers whose parts vary in length must put lengths among them. Does not allocate.
pub fn xxh3_64_parts(parts: &[&[u8]]) -> u64 {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    if total <= GATHER_BYTES_MAX {
        let mut gathered = [0u8; GATHER_BYTES_MAX];
        let mut end = 0;
        for part in parts {
            gathered[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        assert_eq!(end, total);
        return xxh3_64(&gathered[..end]);
    }
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(part);
    }
    hash.finish()
}

/// xxh3-64 of bytes that come piece by piece.
#[derive(Clone, Default)]
pub struct Xxh3(xxh3::Xxh3Default);

impl Xxh3 {
    pub fn new() -> Xxh3 {
        Xxh3(xxh3::Xxh3Default::new())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that came so far; more may follow.
    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answers() {
        // RFC 3720, B.4 (32 bytes of zeroes; 32 bytes of ones), and the check value of the CRC
        // catalogue.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
        // The sanity values of the reference implementation, empty input, seed 0.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn cutting_does_not_change_a_checksum(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
        ) {
            let whole = parts.concat();
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(xxh3_64_parts(&slices), xxh3_64(&whole));
            let mut stream = Xxh3::new();
            parts.iter().for_each(|part| stream.update(part));
            prop_assert_eq!(stream.finish(), xxh3_64(&whole));
            let chained = parts.iter().fold(0, |crc, part| crc32c_append(crc, part));
            prop_assert_eq!(chained, crc32c(&whole));
        }
    }

    #[test]
    fn gathered_and_streamed_agree_around_the_border() {
        let bytes = [7u8; 2 * GATHER_BYTES_MAX];
        for length in GATHER_BYTES_MAX - 2..=GATHER_BYTES_MAX + 2 {
            let (head, tail) = bytes[..length].split_at(3);
            assert_eq!(xxh3_64_parts(&[head, tail]), xxh3_64(&bytes[..length]));
        }
    }
}
