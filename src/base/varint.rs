//! Unsigned integers in one to ten bytes: LEB128, seven bits a byte, the low ones first, the top
//! bit set on all but the last. Only the shortest form of a number is accepted, so that equal
//! things have equal bytes.

/// Bytes of the longest number, 64 bits.
pub const VARINT_BYTES_MAX: usize = 10;

const MORE: u8 = 0x80;

pub fn encode(mut value: u64, out: &mut Vec<u8>) {
    while value >= u64::from(MORE) {
        out.push(value as u8 | MORE);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads one from the front of `bytes`, which is moved on; it is left where it was if this is
/// `None`: cut short, longer than needed, or beyond 64 bits.
pub fn decode(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The tenth byte holds the one bit that nine times seven leave over.
        if index == VARINT_BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & !MORE) << (7 * index);
        if byte & MORE == 0 {
            if byte == 0 && index > 0 {
                return None;
            }
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// As `decode`, for numbers that must fit 32 bits.
pub fn decode_u32(bytes: &mut &[u8]) -> Option<u32> {
    let mut rest = *bytes;
    let value = u32::try_from(decode(&mut rest)?).ok()?;
    *bytes = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    #[test]
    fn borders() {
        for (value, bytes) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (u64::from(u32::MAX), 5),
            (u64::MAX, VARINT_BYTES_MAX),
        ] {
            let encoding = encoded(value);
            assert_eq!(encoding.len(), bytes);
            assert_eq!(decode(&mut &encoding[..]), Some(value));
        }
        assert_eq!(encoded(300), [0xac, 0x02]);
    }

    #[test]
    fn refuses_what_is_not_the_shortest_form() {
        let beyond_64_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        for bytes in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff, 0x00],
            &beyond_64_bits,
            &[0x80; 11],
        ] {
            let mut rest = bytes;
            assert_eq!(decode(&mut rest), None, "{bytes:?}");
            assert_eq!(rest, bytes, "moved on over {bytes:?}");
        }
        assert_eq!(decode_u32(&mut &encoded(1 << 32)[..]), None);
    }

    proptest! {
        #[test]
        fn comes_back(value: u64, tail: u8) {
            let value = value >> (tail % 64);
            let mut bytes = encoded(value);
            bytes.push(tail);
            let mut rest = &bytes[..];
            prop_assert_eq!(decode(&mut rest), Some(value));
            prop_assert_eq!(rest, &[tail]);
        }

        #[test]
        fn what_is_read_is_what_would_be_written(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut rest = &bytes[..];
            if let Some(value) = decode(&mut rest) {
                prop_assert_eq!(&encoded(value)[..], &bytes[..bytes.len() - rest.len()]);
            }
        }
    }
}
