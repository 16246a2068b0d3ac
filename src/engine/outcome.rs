//! What the engine answers, and why it refuses.

use super::entry::Entry;
use crate::runtime::disk::DiskError;
use std::rc::Rc;

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
    #[error("its value, or what the index holds of it, fails its checksum")]
    Checksum,
    #[error("the disk failed to read it")]
    Read,
    #[error("the index names a segment that is no more")]
    Lost,
    /// Its segment was collected since the entry was read: look the key up again.
    #[error("its value was moved by collection; ask again")]
    Moved,
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
    /// Never met by an object with at most one new value within the limit; others go by `Engine::append_apart`.
    #[error("the new values of this object do not fit one record together")]
    RecordTooLarge,
    #[error(transparent)]
    Unsure(#[from] Unsure),
}

/// The log of this shard is closed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is poisoned: {cause}")]
pub struct Poisoned {
    pub cause: DiskError,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "{name} was written by a newer Armilla (format {found}, this program reads up to {known}); \
         start that version, or use another --data directory"
    )]
    NewerFormat {
        name: String,
        found: u32,
        known: u32,
    },
    #[error(
        "{name} was written by an older Armilla (format {found}, this program reads {known}); start that version, \
         `armilla export` with it, and `armilla import` into another --data directory of this one"
    )]
    OlderFormat {
        name: String,
        found: u32,
        known: u32,
    },
    #[error("{name} is damaged: {what}; restore it from a copy, or move the data directory away")]
    Damaged { name: String, what: &'static str },
}

impl OpenError {
    /// A file of a format that this program does not read, which is not `known`.
    pub fn other_format(name: String, found: u32, known: u32) -> OpenError {
        if found < known {
            OpenError::OlderFormat { name, found, known }
        } else {
            OpenError::NewerFormat { name, found, known }
        }
    }
}
