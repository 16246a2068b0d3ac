//! What is in a file of a data directory, for people: read by the decoders that the engine uses, from bytes that may be
//! anything. Nothing is written, nothing panics, and after what is bad the reading goes on where that is possible.

mod log;
mod manifest;
mod table;

pub use self::log::{Group, LogPart, LogSummary, log};
pub use self::manifest::{ManifestBlock, ManifestPart, ManifestSummary, manifest};
pub use self::table::{Section, TableBlock, TablePart, TableSummary, table};
pub use super::log::group::{Arcs, LogId};
pub use super::log::record::{Found, Record};
pub use super::log::segment::Segment;
pub use super::manifest::{Cut, ReplayFrom, Sealed, State as ManifestState, TableRow};
pub use super::manifest_codec::Edit;
pub use super::table::{TableEntry, TableId};

/// A place that does not hold what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub offset: u64,
    pub bytes: u64,
    pub what: String,
}

/// The file cannot be made sense of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    #[error(
        "it was written by another Armilla (format {found}, this program reads {known}); look at it with that one"
    )]
    OtherFormat { found: u32, known: u32 },
    #[error("{0}")]
    Foreign(&'static str),
}
