//! The storage engine of one shard. The commit log is the value log: a put is written once, to a direct-I/O,
//! append-only, checksummed segment; memory (later: index tables) holds key -> causal metadata and the place of each
//! value.
//!
//! Invariants: a group number that `durable_group` has reached is on the medium for good; a checksum error is an error,
//! never "absent"; after a failed write or sync nothing is written, acked or served any more; bytes from disk never
//! panic.

pub mod key;

use crate::base::units::UnixMillis;
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, DiskError};
use key::{Key, KeyRef};
use std::rc::Rc;

/// Number of a commit group of one shard, counted for ever; 0 is "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u64);

/// Where a record lies: segment number, offset in 8-byte units, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub segment: u32,
    pub offset_words: u32,
    pub bytes: u32,
}

/// Where the value of a sibling is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Tombstones and lost values have none.
    Nowhere,
    /// Values of at most `limits::INLINE_VALUE_BYTES_MAX` bytes stand in the entry.
    Inline(Rc<[u8]>),
    /// Inside the record at `location`, `bytes` long.
    At { location: Location, bytes: u32 },
}

impl Place {
    /// Bytes of the value.
    pub fn bytes(&self) -> usize {
        match self {
            Place::Nowhere => 0,
            Place::Inline(bytes) => bytes.len(),
            Place::At { bytes, .. } => *bytes as usize,
        }
    }
}

/// What memory knows of a key. Whole: it alone answers a get.
#[derive(Clone, Debug)]
pub struct Entry {
    pub object: Rc<Object<Place>>,
    /// The last dot this shard minted for the key in this life; never on disk.
    pub mine: Option<Dot>,
    /// The group its record is in; state of a group that is not durable is shown to nobody.
    pub group: GroupNumber,
}

/// What a shard can say of a key without waiting.
#[derive(Clone, Debug)]
pub enum Lookup {
    Absent,
    Found(Rc<Entry>),
    /// The key lies where a log group was lost, or the log is poisoned: nothing may be minted, stored, voted or served.
    Unsure(Unsure),
    /// Only the disk knows (tables; under simulation also by chance): `Engine::lookup_slow`.
    MustRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsure {
    #[error("its log is poisoned by a failed write or sync; restart the node to replay it")]
    Poisoned,
    #[error("a part of its log is damaged and this key may have been in it")]
    Damaged,
    #[error("its value fails its checksum")]
    Checksum,
    #[error("the disk failed to read it")]
    Read,
}

/// The value of a sibling in an object to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue<'a> {
    /// It stays where it is.
    Keep(Place),
    /// Goes into this record.
    Put(&'a [u8]),
}

/// Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefused {
    #[error("the memory budget is used up")]
    MemoryFull,
    #[error("the disk budget is used up")]
    DiskFull,
    #[error("too much waits for the log")]
    Overloaded,
    #[error(transparent)]
    Unsure(#[from] Unsure),
}

/// The log of this shard is closed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is poisoned: {cause}")]
pub struct Poisoned {
    pub cause: DiskError,
}

/// What the caller sets.
#[derive(Clone, Debug)]
pub struct Options {
    pub shard: u16,
    /// Bytes that entries and cached values may take together.
    pub memory_bytes: usize,
    /// Bytes of the largest value; segments hold at least two.
    pub value_bytes_max: usize,
    /// Bytes that the data directory may take.
    pub disk_bytes: u64,
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

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "{name} was written by a newer Armilla (format {found}, this program reads up to {known}); start that version, or use another --data directory"
    )]
    NewerFormat {
        name: String,
        found: u32,
        known: u32,
    },
    #[error("{name} is damaged: {what}; restore it from a copy, or move the data directory away")]
    Damaged { name: String, what: &'static str },
}

/// Counters for status and metrics, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub keys: u64,
    pub entry_bytes: u64,
    pub cached_value_bytes: u64,
    pub log_bytes_written: u64,
    pub user_bytes_written: u64,
    pub groups_written: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub disk_bytes: u64,
}

/// The engine of one shard; clones are the same one.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Opens or makes the shard's log under `disk` and replays it. `progress` is called with bytes done and bytes in
    /// all. On return the cut is recorded, a fresh segment is ready, and nothing of an older life is ever appended to.
    pub async fn open(
        _runtime: &Runtime,
        _disk: &Disk,
        _options: Options,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Engine, Recovery), OpenError> {
        unreachable!()
    }

    pub fn lookup(&self, _key: KeyRef<'_>) -> Lookup {
        unreachable!()
    }

    /// The answer to `MustRead`; never `MustRead`.
    pub async fn lookup_slow(&self, _key: KeyRef<'_>) -> Lookup {
        unreachable!()
    }

    /// Takes the whole new object of a key: puts a record into the open group, replaces the entry, returns the group
    /// whose durability is the vote. The caller holds the key's turn since its lookup. Wakes `commit_next`.
    pub fn append(
        &self,
        _key: KeyRef<'_>,
        _object: Object<NewValue<'_>>,
        _mine: Option<Dot>,
        _now: UnixMillis,
    ) -> Result<GroupNumber, AppendRefused> {
        unreachable!()
    }

    /// Every group up to this one is durable.
    pub fn durable_group(&self) -> GroupNumber {
        unreachable!()
    }

    /// Waits for records, writes one group, returns the number up to which all is durable. One task calls this in a
    /// loop; an idle log writes its mark from here too. After an error it is never called again.
    pub async fn commit_next(&self) -> Result<GroupNumber, Poisoned> {
        unreachable!()
    }

    /// The value, if it is in memory.
    pub fn cached_value(&self, _place: &Place) -> Option<Rc<[u8]>> {
        unreachable!()
    }

    /// Reads and verifies the value of the sibling with `dot`, whose group is durable.
    pub async fn read_value(
        &self,
        _key: KeyRef<'_>,
        _dot: Dot,
        _place: &Place,
    ) -> Result<Rc<[u8]>, Unsure> {
        unreachable!()
    }

    /// At most `limit` entries in key order after `after` (`None`: from the start).
    pub fn scan(&self, _after: Option<&Key>, _limit: usize) -> Vec<(Key, Rc<Entry>)> {
        unreachable!()
    }

    /// Closes the log against further appends and writes what is pending; after it, `commit_next` returns no more.
    pub async fn close(&self) -> Result<(), Poisoned> {
        unreachable!()
    }

    pub fn poisoned(&self) -> Option<Poisoned> {
        unreachable!()
    }

    pub fn statistics(&self) -> Statistics {
        unreachable!()
    }
}
