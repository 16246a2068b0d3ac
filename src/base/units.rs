//! Bytes and times with their units.

use std::fmt;
use std::str::FromStr;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;
pub const GIB: usize = 1024 * MIB;

/// A point of the monotonic time of one process, in nanoseconds since an arbitrary start. Under
/// simulation it is virtual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// The units of sizes, smallest first. Only powers of 1024: a size means the same in a file, a flag
/// and a log line.
const UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// An amount of memory or disk as an operator writes it. Its text is exact and can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    Bytes(u64),
    /// 1 to 100, of whatever there is.
    Percent(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    #[error(
        "\"{0}\" is not a size: write bytes (\"4096\"), KiB, MiB, GiB or TiB (\"64MiB\", \
         \"1.5GiB\"), or a share (\"25%\")"
    )]
    Malformed(String),
    #[error("\"{0}\" is not a share of something: write 1% to 100%, a whole number")]
    Percent(String),
    #[error("\"{0}\" is too large: a size is less than 16777216TiB")]
    TooLarge(String),
}

impl Size {
    /// Bytes, where `whole` is what a percentage is of. Rounds down.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Size::Bytes(bytes) => bytes,
            Size::Percent(percent) => {
                assert!((1..=100).contains(&percent));
                (u128::from(whole) * u128::from(percent) / 100) as u64
            }
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let malformed = || SizeError::Malformed(text.to_owned());
        let split = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        if unit == "%" {
            let percent: Option<u8> = number.parse().ok();
            return percent
                .filter(|percent| (1..=100).contains(percent))
                .map(Size::Percent)
                .ok_or_else(|| SizeError::Percent(text.to_owned()));
        }
        let factor = match unit {
            "" => 1,
            _ => {
                let known = UNITS.iter().find(|(name, _)| *name == unit);
                known.ok_or_else(malformed)?.1
            }
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if factor > 1 && !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(malformed()),
            None => (number, ""),
        };
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > FRACTION_DIGITS_MAX || !is_number(fraction) {
            return Err(malformed());
        }
        let too_large = || SizeError::TooLarge(text.to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let fraction_bytes = fraction.parse::<u128>().unwrap_or(0) * u128::from(factor)
            / 10u128.pow(fraction.len() as u32);
        let bytes = u128::from(whole) * u128::from(factor) + fraction_bytes;
        u64::try_from(bytes)
            .map(Size::Bytes)
            .map_err(|_| too_large())
    }
}

/// More digits would say less than a byte.
const FRACTION_DIGITS_MAX: usize = 12;

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Size::Percent(percent) => write!(f, "{percent}%"),
            Size::Bytes(bytes) => {
                let exact = UNITS.iter().skip(1).rev();
                match exact
                    .into_iter()
                    .find(|(_, unit)| bytes >= *unit && bytes % unit == 0)
                {
                    Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
                    None => write!(f, "{bytes}"),
                }
            }
        }
    }
}

/// Bytes for human eyes: at most one decimal, the largest unit that leaves a number of at least 1.
/// Not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HumanBytes(pub u64);

impl fmt::Display for HumanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0 >= *unit;
        let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        // Rounded down, so that 1023.99 KiB never reads as 1024.0 KiB.
        let tenths = u128::from(self.0) * 10 / u128::from(*unit);
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, size) in [
            ("0", Size::Bytes(0)),
            ("4096", Size::Bytes(4096)),
            ("4096B", Size::Bytes(4096)),
            ("64MiB", Size::Bytes(64 << 20)),
            ("64 MiB", Size::Bytes(64 << 20)),
            ("1.5GiB", Size::Bytes(3 << 29)),
            ("0.1KiB", Size::Bytes(102)),
            ("16777215TiB", Size::Bytes(u64::MAX - (1 << 40) + 1)),
            ("25%", Size::Percent(25)),
            ("100%", Size::Percent(100)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_it_takes() {
        for text in [
            "",
            " ",
            "MiB",
            "64MB",
            "64mib",
            "1.5",
            "1.5B",
            "1.GiB",
            ".5GiB",
            "1.2.3GiB",
            "-1",
            "64MiBs",
            "64  MiB",
            "1e3",
            "\u{664}KiB",
        ] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.to_string().contains("MiB, GiB or TiB"), "{error}");
        }
        for text in ["0%", "101%", "1.5%", "300%", "%"] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.to_string().contains("1% to 100%"), "{error}");
        }
        for text in ["16777216TiB", "99999999999999999999"] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.to_string().contains("too large"), "{error}");
        }
    }

    #[test]
    fn shows_bytes_to_humans() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (MIB as u64 - 1, "1023.9 KiB"),
            (5 * GIB as u64, "5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(HumanBytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_share_of_something() {
        assert_eq!(Size::Percent(25).of(1001), 250);
        assert_eq!(Size::Percent(100).of(u64::MAX), u64::MAX);
        assert_eq!(Size::Bytes(7).of(3), 7);
    }

    proptest! {
        #[test]
        fn printed_sizes_are_read_again(number: u64, shift in 0u32..64, percent in 1u8..=100) {
            for size in [Size::Bytes(number >> shift << (shift / 2)), Size::Percent(percent)] {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = text.parse::<Size>();
        }
    }
}
