//! The layout of the manifest, byte by byte; `schema/disk.md` draws it. All numbers are little-endian. Final.

use bytemuck::{Pod, Zeroable};

/// "ARMMANIF".
pub const MANIFEST_MAGIC: u64 = u64::from_le_bytes(*b"ARMMANIF");
/// 1 had no tables: its edits are the first five. 2 had no cold segments.
pub const MANIFEST_FORMAT: u32 = 3;
pub const MANIFEST_FORMAT_OLDEST: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockHeader {
    pub magic: u64,
    /// crc32c of the block from `format` on, without the filling.
    pub crc: u32,
    pub format: u32,
    pub generation: u64,
    /// 0 for the first block of a file, which holds the whole state.
    pub sequence: u64,
    pub identity: u64,
    /// `crc` of the block before it in the file.
    pub chain: u32,
    /// Bytes of header and edits; zeroes fill the last page.
    pub used_bytes: u32,
    pub shard: u16,
    pub shards: u16,
    pub edits: u32,
    pub reserved: u64,
}

pub const HEADER_BYTES: usize = size_of::<BlockHeader>();
const _: () = assert!(HEADER_BYTES == 64);
pub const CRC_FROM: usize = std::mem::offset_of!(BlockHeader, format);

/// First word of an edit; frozen. The words behind it:
/// segment: number, bytes.
pub const EDIT_SEGMENT: u64 = 1;
/// cut: segment, offset, last group's number, its header crc, next group's number, last group's arcs (16 words).
pub const EDIT_CUT: u64 = 2;
/// damaged: arcs (16 words).
pub const EDIT_DAMAGED: u64 = 3;
/// highest segment: number.
pub const EDIT_HIGHEST_SEGMENT: u64 = 4;
/// first group: number.
pub const EDIT_FIRST_GROUP: u64 = 5;
/// remove segment: number.
pub const EDIT_REMOVE_SEGMENT: u64 = 6;
/// replay: segment, offset, last group's number, its header crc, next group's number, next record's sequence, last
/// group's arcs (16 words).
pub const EDIT_REPLAY: u64 = 7;
/// table: number, run, bytes of its file, checksum of its footer.
pub const EDIT_TABLE: u64 = 8;
/// remove table: number.
pub const EDIT_REMOVE_TABLE: u64 = 9;
/// highest table: number.
pub const EDIT_HIGHEST_TABLE: u64 = 10;
/// sealed: segment, where its last group ends in bytes, that group's number.
pub const EDIT_SEALED: u64 = 11;
/// cold segment: number, bytes.
pub const EDIT_COLD_SEGMENT: u64 = 12;
