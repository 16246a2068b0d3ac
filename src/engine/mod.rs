//! The storage engine of one shard. The commit log is the value log: a put is written once, to a direct-I/O,
//! append-only, checksummed segment; index tables and memory hold key -> causal metadata and the place of each
//! value.
//!
//! Invariants: a group number that `durable_group` has reached is on the medium for good; a checksum error is an error,
//! never "absent"; after a failed write or sync nothing is written, acked or served any more; bytes from disk never
//! panic.

mod apart;
#[cfg(feature = "sim")]
pub mod bench;
mod cache;
mod collection;
mod compaction;
mod damage;
mod directory;
mod entry;
mod flush;
mod frozen;
#[cfg(feature = "sim")]
pub mod fuzz;
pub mod inspect;
pub mod key;
mod log;
mod lookup;
mod manifest;
mod manifest_codec;
mod manifest_format;
mod memtable;
mod outcome;
mod probe;
mod quarantine;
mod recovery;
mod run_writer;
mod runs;
mod scrub;
mod scrub_progress;
mod shell;
mod snapshot;
mod state;
mod state_codec;
pub mod table;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod usage;

use crate::base::histogram::Histogram;
use crate::base::limits::{SEGMENT_BYTES_MIN, SPACE_GOAL_PERCENT, SPACE_SLACK_BYTES};
use crate::runtime::Runtime;
use crate::runtime::disk::Disk;
pub use collection::{Copied, Freed, NotCopied, Stuck, Survivor, Victim};
pub use damage::{Bad, News, Report as DamageReport};
pub use entry::{Entry, GroupNumber, Location, NewValue, Place};
pub use log::format::LOG_FORMAT;
pub use log::segment::{
    DIRECTORY as LOG_DIRECTORY, name as segment_name, parse_name as parse_segment_name,
};
pub use outcome::{AppendRefused, Lookup, OpenError, Poisoned, Unsure};
pub use quarantine::name as quarantine_name;
pub use scrub_progress::Scrub;
pub use snapshot::{DIRECTORY as SNAPSHOT_DIRECTORY, Snapshot};
use std::rc::Rc;
pub use table::parse_name as parse_table_name;

/// What the caller sets.
#[derive(Clone, Debug)]
pub struct Options {
    pub shard: u16,
    /// Shards that share the data directory; final once it is made.
    pub shards: u16,
    /// Bytes that entries and cached values may take together.
    pub memory_bytes: usize,
    /// Bytes of the largest value; segments hold at least two.
    pub value_bytes_max: usize,
    /// Bytes that the data directory may take; each shard has an even part.
    pub disk_bytes: u64,
    /// Bytes a second that this shard reads to find what has rotted; 0: it looks only when it is asked to.
    pub scrub_bytes_per_second: u64,
    pub sizes: Sizes,
}

/// How large the parts of a shard grow; tests make them small, so that little happens often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub segment_bytes_min: u64,
    /// Bytes of entries at which memory is frozen; `None`: a part of the budget.
    pub memtable_bytes: Option<usize>,
    /// Bytes of log at which memory is frozen; `None`: a part of the disk, within limits.
    pub replay_bytes: Option<u64>,
    /// The space goal: bytes of disk for 100 bytes of keys and values, all files counted.
    pub space_percent: u64,
    /// Bytes of disk beside those keys and values that are allowed in any case.
    pub space_slack_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            segment_bytes_min: SEGMENT_BYTES_MIN as u64,
            memtable_bytes: None,
            replay_bytes: None,
            space_percent: SPACE_GOAL_PERCENT,
            space_slack_bytes: SPACE_SLACK_BYTES,
        }
    }
}

impl Sizes {
    /// The defaults, but that a small store is collected as a large one is.
    #[cfg(any(test, feature = "sim"))]
    pub const WITHOUT_SLACK: Sizes = Sizes {
        segment_bytes_min: SEGMENT_BYTES_MIN as u64,
        memtable_bytes: None,
        replay_bytes: None,
        space_percent: SPACE_GOAL_PERCENT,
        space_slack_bytes: 0,
    };
    /// A few dozen writes fill memory, and a few dozen more a segment.
    #[cfg(any(test, feature = "sim"))]
    pub const SMALL: Sizes = Sizes {
        segment_bytes_min: 64 * crate::base::units::KIB as u64,
        memtable_bytes: Some(2 * crate::base::units::KIB),
        replay_bytes: Some(128 * crate::base::units::KIB as u64),
        space_percent: SPACE_GOAL_PERCENT,
        space_slack_bytes: 0,
    };
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub groups: u64,
    pub records: u64,
    pub bytes: u64,
    /// A torn tail was cut: never acked.
    pub cut_groups: u64,
    /// Groups that had been durable and are damaged: their arcs answer "unsure".
    pub damaged_groups: u64,
}

/// Counters for status and metrics, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Entries in memory, and in tables: a key may have one in each run and one in memory.
    pub entries_in_memory: u64,
    pub entries_in_tables: u64,
    pub entry_bytes: u64,
    /// Block indexes and filters.
    pub table_memory_bytes: u64,
    /// Values and blocks of tables.
    pub cached_bytes: u64,
    pub log_bytes_written: u64,
    /// Of tables: made of memory, and merged of others.
    pub flush_bytes_written: u64,
    pub merge_bytes_written: u64,
    pub manifest_bytes_written: u64,
    pub user_bytes_written: u64,
    pub groups_written: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub disk_bytes: u64,
    /// Of all segments.
    pub log_bytes: u64,
    pub table_bytes: u64,
    /// Bytes of records that something points at; zero until a start has counted them.
    pub live_bytes: u64,
    /// Bytes of log that a start would replay.
    pub replay_bytes: u64,
    pub segments: u64,
    pub runs: u64,
    pub tables: u64,
    pub flushes: u64,
    pub merges: u64,
    /// Segments that were given back, and bytes that were copied out of them.
    pub segments_collected: u64,
    pub bytes_relocated: u64,
    /// What `Engine::flush` would wait for, were it to wait: entries on their way into a table; whether runs are to be
    /// merged and segments to be collected.
    pub deferred_entries: u64,
    pub deferred_merges: u64,
    pub deferred_collections: u64,
    /// Writing a group durably.
    pub log_write: Histogram,
}

/// The engine of one shard; clones are the same one. One task calls `commit_next` in a loop, others the rest.
#[derive(Clone)]
pub struct Engine {
    shell: Rc<shell::Shell>,
}

impl Engine {
    /// Opens or makes the shard's log under `disk` and replays it. `progress` is called with bytes done and bytes in
    /// all. On return the cut is recorded, a fresh segment is ready unless the disk is full, and nothing of an older
    /// life is ever appended to.
    pub async fn open(
        runtime: &Runtime,
        disk: &Disk,
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Engine, Recovery), OpenError> {
        directory::open(runtime, disk, options, progress).await
    }
}
