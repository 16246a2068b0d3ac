//! The layout of index tables, byte by byte; `schema/disk.md` draws it. All numbers are little-endian. Final: a change
//! here is a new format number, and old ones stay readable.

use crate::base::limits::{self, PAGE_BYTES};
use crate::base::varint::VARINT_BYTES_MAX;
use crate::engine::state_codec::{
    KEY_CODE_BYTES_MAX, SIBLING_CODE_BYTES_MAX, VARINT_BYTES_MAX_U32,
};
use bytemuck::{Pod, Zeroable};

/// Marks the last page of a table: "ARMTABLE".
pub const TABLE_MAGIC: u64 = u64::from_le_bytes(*b"ARMTABLE");
/// Rises with each change of the layout of anything in a table.
pub const TABLE_FORMAT: u32 = 1;

/// Begins a block, which is whole pages. Behind it: offsets (u16 an entry, from the start of the block), entries,
/// zeroes to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockHeader {
    /// crc32c of identity (u64), shard (u32), table number (u32), first page of the block (u32), then the block from
    /// `used_bytes` on, the filling too.
    pub crc: u32,
    /// Bytes of header, offsets and entries.
    pub used_bytes: u32,
    pub pages: u16,
    pub entries: u16,
    pub zero: u32,
}

pub const BLOCK_HEADER_BYTES: usize = size_of::<BlockHeader>();
const _: () = assert!(BLOCK_HEADER_BYTES == 16);
/// Where `crc` begins to count.
pub const BLOCK_CRC_FROM: usize = std::mem::offset_of!(BlockHeader, used_bytes);
/// Bytes of the place of an entry in its block.
pub const OFFSET_BYTES: usize = size_of::<u16>();

/// Where a section lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Section {
    pub offset: u64,
    /// With its filling: zeroes to a word, behind the last section to a page.
    pub bytes: u64,
    /// crc32c of these bytes.
    pub crc: u32,
    pub zero: u32,
}

/// Begins the last page of a table; zeroes fill it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Footer {
    pub magic: u64,
    /// crc32c of the page from `format` on.
    pub crc: u32,
    pub format: u32,
    /// Of the log of the shard that wrote it.
    pub identity: u64,
    pub shard: u32,
    pub number: u32,
    pub entries: u64,
    /// Of the whole table, this page too.
    pub bytes: u64,
    pub first_position: u64,
    pub last_position: u64,
    pub blocks: u32,
    pub filter_parts: u32,
    pub incarnations: u32,
    pub zero: u32,
    /// One behind the other, from the end of the blocks to this page.
    pub index: Section,
    pub filter: Section,
    pub dictionary: Section,
}

pub const FOOTER_BYTES: usize = size_of::<Footer>();
const _: () = assert!(size_of::<Section>() == 24 && FOOTER_BYTES == 152);
const _: () = assert!(FOOTER_BYTES <= PAGE_BYTES);
/// Where `crc` begins to count.
pub const FOOTER_CRC_FROM: usize = std::mem::offset_of!(Footer, format);
/// Sections begin at multiples of this.
pub const WORD_BYTES: usize = 8;

/// In the page of a block in the index: the block before it holds the first position of this one too.
pub const INDEX_CONTINUES: u32 = 1 << 31;
/// Bytes of a block in the index.
pub const INDEX_BYTES_PER_BLOCK: usize = size_of::<u64>() + size_of::<u32>();

/// A part of the filter: a binary fuse filter with fingerprints of 8 bits over the positions from its first one to the
/// next part's. Without fingerprints it says yes to all. `filter.rs` says how a position is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FilterPart {
    pub first_position: u64,
    pub seed: u64,
    /// A power of two.
    pub segment_length: u32,
    /// A multiple of the segment length.
    pub segment_count_length: u32,
    /// Segment count length and two segments.
    pub fingerprints: u32,
    pub zero: u32,
}

pub const FILTER_PART_BYTES: usize = size_of::<FilterPart>();
const _: () = assert!(FILTER_PART_BYTES == 32);

/// Bytes of an actor and a counter.
const DOT_BYTES_MAX: usize = 2 * VARINT_BYTES_MAX_U32 + VARINT_BYTES_MAX;
/// Bytes of the shortest actor and counter.
pub const DOT_BYTES_MIN: usize = 3;
/// A sibling with a value in it.
const SIBLING_BYTES_MAX: usize = SIBLING_CODE_BYTES_MAX + limits::INLINE_VALUE_BYTES_MAX;
/// Bytes of the largest entry.
pub const ENTRY_BYTES_MAX: usize = KEY_CODE_BYTES_MAX
    + VARINT_BYTES_MAX_U32
    + DOT_BYTES_MAX
    + VARINT_BYTES_MAX_U32
    + limits::VECTOR_ENTRIES_JOINED_MAX * DOT_BYTES_MAX
    + limits::SIBLINGS_JOINED_MAX * SIBLING_BYTES_MAX;

const _: () = assert!(
    BLOCK_HEADER_BYTES + OFFSET_BYTES + ENTRY_BYTES_MAX
        <= limits::TABLE_BLOCK_PAGES_MAX * PAGE_BYTES
);
