//! What tables and their blocks are called.

/// The directory of the tables of all shards.
pub const DIRECTORY: &str = "table";
const SUFFIX: &str = ".table";

/// Which table: its bytes are of no other log, shard or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableId {
    /// Drawn once for the log of the shard that wrote it.
    pub identity: u64,
    pub shard: u16,
    /// As segments are numbered: one per data directory, never used again.
    pub number: u32,
}

/// Which block of which table of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName {
    pub table: u32,
    /// Where it begins in the file, in pages.
    pub page: u32,
    pub pages: u32,
}

/// The name of a table's file under the data directory.
pub fn name(number: u32) -> String {
    format!("{DIRECTORY}/{number:010}{SUFFIX}")
}

/// The number in a name as `list("table")` gives it; `None` for anything that `name` does not write.
pub fn parse_name(file: &str) -> Option<u32> {
    let digits = file.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_others() {
        for number in [0, 7, u32::MAX] {
            let name = name(number);
            assert_eq!(
                parse_name(name.strip_prefix("table/").unwrap()),
                Some(number)
            );
        }
        for other in [
            "1.table",
            "0000000001.segment",
            "+000000001.table",
            "4294967296.table",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
