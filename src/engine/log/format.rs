//! The layout of segments, byte by byte; `schema/disk.md` draws it. All numbers are little-endian. Final: a change
//! here is a new format number, and other ones are refused by name.

use crate::base::limits;
use crate::engine::state_codec::{
    KEY_CODE_BYTES_MAX, SIBLING_CODE_BYTES_MAX, VARINT_BYTES_MAX_U32,
};
use bytemuck::{Pod, Zeroable};

const _: () = assert!(
    cfg!(target_endian = "little"),
    "the structs below are read and written as they lie in memory"
);

/// Marks the first page of a commit group: "ARMGROUP".
pub const GROUP_MAGIC: u64 = u64::from_le_bytes(*b"ARMGROUP");
/// Rises with each change of the layout of groups or records. Format 1 had 144 bytes about a value of one actor, where
/// this one has 68.
pub const LOG_FORMAT: u32 = 2;
pub const ARC_WORDS: usize = limits::LOG_ARCS / 64;
/// Records begin and end at multiples of this, so that an offset in a segment of 32 GiB fits 32 bits.
pub const WORD_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct GroupHeader {
    pub magic: u64,
    /// crc32c of the rest of this header, from `format` on. The next group repeats it.
    pub header_crc: u32,
    pub format: u32,
    /// Drawn once for the log of a shard: no value that a client sends can look like a group of it.
    pub identity: u64,
    pub number: u64,
    /// The number and `header_crc` of the group before it in the log; 0 before the first.
    pub previous_number: u64,
    /// Every group up to this one was durable when this one was written.
    pub durable_up_to: u64,
    pub segment: u32,
    /// Where it begins in its segment, in pages.
    pub page: u32,
    pub pages: u32,
    /// Bytes of header and records; zeroes fill the last page.
    pub used_bytes: u32,
    pub records: u32,
    /// crc32c of all that follows the header, the filling too.
    pub body_crc: u32,
    pub previous_header_crc: u32,
    pub shard: u32,
    /// The records of a shard are counted, whatever its life: the number of the first one here, or of the next.
    pub first_sequence: u64,
    pub reserved: [u64; 5],
    /// Bit n: the group before this one has a record whose position's top ten bits are n.
    pub previous_arcs: [u64; ARC_WORDS],
}

pub const GROUP_HEADER_BYTES: usize = size_of::<GroupHeader>();
const _: () = assert!(GROUP_HEADER_BYTES == 128 + limits::LOG_ARCS / 8);
const _: () = assert!(GROUP_HEADER_BYTES.is_multiple_of(WORD_BYTES));
const _: () = assert!(std::mem::offset_of!(GroupHeader, previous_arcs) == 128);
/// Where `header_crc` begins to count.
pub const GROUP_CRC_FROM: usize = std::mem::offset_of!(GroupHeader, format);

/// Begins a record. Behind it: kind, then for an object its key, its vector, the number of its siblings, the siblings,
/// the values that are here, zeroes to a word. `state_codec.rs` says how key and siblings are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RecordHeader {
    /// crc32c of segment number (u32), offset in words (u32), then the record from `bytes` on.
    pub crc: u32,
    /// The whole record, a multiple of 8.
    pub bytes: u32,
}

pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();
const _: () = assert!(RECORD_HEADER_BYTES == 8);
// A place says in 16 bits which sibling of its record it is.
const _: () = assert!(limits::SIBLINGS_JOINED_MAX <= u16::MAX as usize);

/// The kind of a record: the state of a key that the shard owns, whole; frozen.
pub const RECORD_OBJECT: u8 = 1;

/// Bytes of a record beside its large values: of a vector 8 incarnation, 5 birth, 10 counter an entry, and its count.
pub const fn overhead_bytes(siblings: usize, vector_entries: usize) -> usize {
    RECORD_HEADER_BYTES
        + 1
        + KEY_CODE_BYTES_MAX
        + vector_entries * 23
        + 16
        + VARINT_BYTES_MAX_U32
        + siblings * (SIBLING_CODE_BYTES_MAX + limits::INLINE_VALUE_BYTES_MAX)
        + WORD_BYTES
}

/// All of a record but its large values, as far as a coordinator lets a key grow: a segment holds two such, each with
/// the largest value.
pub const RECORD_OVERHEAD_BYTES_MAX: usize =
    overhead_bytes(limits::SIBLINGS_MAX, limits::VECTOR_ENTRIES_MAX);

// What a join may bring together fits the smallest segment too.
const _: () = assert!(
    GROUP_HEADER_BYTES
        + overhead_bytes(
            limits::SIBLINGS_JOINED_MAX,
            limits::VECTOR_ENTRIES_JOINED_MAX
        )
        + limits::VALUE_BYTES_DEFAULT
        <= limits::SEGMENT_BYTES_MIN / 2
);
