//! The mark of a data directory that is a snapshot, and was never started since.

use crate::base::units::UnixMillis;
use crate::runtime::disk::{Disk, DiskCause, DiskError};
use serde::{Deserialize, Serialize};

/// Under the data directory.
pub const FILE: &str = "snapshot.toml";

#[derive(Serialize, Deserialize)]
struct Mark {
    taken_ms: u64,
}

/// What the mark says.
pub struct Restored {
    /// When the snapshot was begun; `None`: it cannot be read.
    pub taken: Option<UnixMillis>,
}

/// The text of the mark.
pub fn text(taken: UnixMillis) -> String {
    let mark = Mark { taken_ms: taken.0 };
    toml::to_string(&mark).expect("a number is TOML")
}

impl Restored {
    /// `None`: it is no snapshot, or it was started before.
    pub async fn read(disk: &Disk) -> Result<Option<Restored>, DiskError> {
        match disk.read_small(FILE).await {
            Ok(bytes) => Ok(Some(Restored::parse(&bytes))),
            Err(error) if error.cause == DiskCause::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> Restored {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let mark = toml::from_str::<Mark>(text).ok();
        Restored {
            taken: mark.map(|mark| UnixMillis(mark.taken_ms)),
        }
    }

    /// It is a data directory like any other from now on.
    pub async fn forget(self, disk: &Disk) -> Result<(), DiskError> {
        disk.remove(FILE).await?;
        disk.sync_dir("").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_rubbish_is_a_mark_without_a_time() {
        let taken = UnixMillis(1_800_000_000_123);
        let read = Restored::parse(text(taken).as_bytes());
        assert_eq!(read.taken, Some(taken));
        for rubbish in [&b""[..], b"\xff", b"taken_ms = -1"] {
            assert_eq!(Restored::parse(rubbish).taken, None);
        }
    }
}
