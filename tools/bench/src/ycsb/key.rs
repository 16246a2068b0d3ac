//! The key of a number.

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 1_099_511_628_211;

/// YCSB's hash of a number (`Utils.fnvhash64`): FNV-1a over its eight bytes, the lowest first, read as signed, without
/// its sign. Like Java's `Math.abs`, it leaves the least number negative.
pub fn fnv_hash(number: u64) -> i64 {
    let hash = number.to_le_bytes().into_iter();
    let hash = hash.fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    (hash as i64).wrapping_abs()
}

/// How numbers become keys (`CoreWorkload.buildKeyName`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNames {
    /// `insertorder=hashed`: neighbours in number are no neighbours in name.
    pub hashed: bool,
    /// Digits at least.
    pub zero_padding: usize,
}

impl Default for KeyNames {
    fn default() -> KeyNames {
        KeyNames {
            hashed: true,
            zero_padding: 1,
        }
    }
}

impl KeyNames {
    /// Writes the key of `number` into `out`, in place of what was there.
    pub fn write(self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(b"user");
        let number = if self.hashed {
            fnv_hash(number)
        } else {
            number as i64
        };
        let (mut digits, mut from) = ([0; 20], 20);
        let mut rest = number.unsigned_abs();
        while rest > 0 || from == 20 {
            from -= 1;
            digits[from] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let length = digits.len() - from + usize::from(number < 0);
        out.extend(std::iter::repeat_n(
            b'0',
            self.zero_padding.saturating_sub(length),
        ));
        if number < 0 {
            out.push(b'-');
        }
        out.extend_from_slice(&digits[from..]);
    }

    pub fn text(self, number: u64) -> String {
        let mut out = Vec::new();
        self.write(number, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_ycsb() {
        // `Utils.fnvhash64`, computed by a Python program that keeps to 64 bits.
        let golden = [
            (0, 6_284_781_860_667_377_211),
            (1, 8_517_097_267_634_966_620),
            (2, 1_820_151_046_732_198_393),
            (3, 4_052_466_453_699_787_802),
            (999, 2_071_219_101_098_386_137),
            (1000, 5_952_875_239_596_136_740),
            (123_456_789, 2_350_796_791_908_741_607),
            (10_000_000_000, 1_201_321_332_300_452_516),
        ];
        for (number, hash) in golden {
            assert_eq!(fnv_hash(number), hash, "{number}");
        }
    }

    #[test]
    fn keys_are_named_as_ycsb_names_them() {
        let text = |hashed, zero_padding, number| {
            KeyNames {
                hashed,
                zero_padding,
            }
            .text(number)
        };
        assert_eq!(text(true, 1, 0), "user6284781860667377211");
        assert_eq!(text(true, 20, 2), "user01820151046732198393");
        assert_eq!(text(false, 1, 42), "user42");
        assert_eq!(text(false, 1, 0), "user0");
        assert_eq!(text(false, 10, 42), "user0000000042");
    }
}
