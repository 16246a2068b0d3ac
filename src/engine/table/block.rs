//! Blocks: the pages that a search reads. A block knows where it belongs: its checksum covers log, shard, table and
//! page, so the right bytes at another place are refused.

use super::Damaged;
use super::entry_codec::{self, TableEntry};
use super::format::*;
use super::name::{BlockName, TableId};
use crate::base::checksum::{crc32c, crc32c_append};
use crate::base::limits::{PAGE_BYTES, TABLE_BLOCK_PAGES_MAX};
use crate::causal::dot::Incarnation;
use crate::engine::damage::Sums;
use crate::engine::key::KeyRef;
use std::cmp::Ordering;

/// What a block says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    Found(TableEntry),
    /// The table does not hold it.
    Absent,
    /// The block ends at its position: the next block of `Table::blocks` says more; if there is none, the table does
    /// not hold it.
    Next,
}

/// Gathers entries until they fill a page; one that is larger has a block of its own.
#[derive(Default)]
pub struct BlockBuilder {
    /// Where each entry ends in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl BlockBuilder {
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn used_bytes(&self, more_entries: usize, more_bytes: usize) -> usize {
        let offsets = (self.ends.len() + more_entries) * OFFSET_BYTES;
        BLOCK_HEADER_BYTES + offsets + self.bytes.len() + more_bytes
    }

    /// Whether an entry of this many bytes still goes into this block.
    pub fn has_room(&self, entry_bytes: usize) -> bool {
        self.is_empty() || self.used_bytes(1, entry_bytes) <= PAGE_BYTES
    }

    pub fn push(&mut self, entry: &[u8]) {
        assert!(self.has_room(entry.len()));
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len());
    }

    /// Appends the block's pages, made for this place, to `out`, and begins the next block. Returns its pages.
    pub fn finish(&mut self, id: TableId, page: u32, out: &mut Vec<u8>) -> u32 {
        assert!(!self.is_empty());
        let used = self.used_bytes(0, 0);
        let pages = used.div_ceil(PAGE_BYTES);
        assert!(pages <= TABLE_BLOCK_PAGES_MAX);
        let mut header = BlockHeader {
            crc: 0,
            used_bytes: used as u32,
            pages: pages as u16,
            entries: self.ends.len() as u16,
            zero: 0,
        };
        let start = out.len();
        out.extend_from_slice(bytemuck::bytes_of(&header));
        let entries_from = BLOCK_HEADER_BYTES + self.ends.len() * OFFSET_BYTES;
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        for at in starts.take(self.ends.len()) {
            let offset = u16::try_from(entries_from + at).expect("entries begin in the first page");
            out.extend_from_slice(&offset.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
        out.resize(start + pages * PAGE_BYTES, 0);
        let block = &mut out[start..];
        header.crc = checksum(id, page, block);
        block[..BLOCK_CRC_FROM].copy_from_slice(&header.crc.to_le_bytes());
        self.ends.clear();
        self.bytes.clear();
        pages as u32
    }
}

/// The checksum that a block at this place must carry; `block` is at least its header.
fn checksum(id: TableId, page: u32, block: &[u8]) -> u32 {
    let place = crc32c(&id.identity.to_le_bytes());
    let rest = [u32::from(id.shard), id.number, page];
    let place = crc32c_append(place, bytemuck::bytes_of(&rest));
    crc32c_append(place, &block[BLOCK_CRC_FROM..])
}

/// The checksum that a block at this place carries, and the one that its bytes have; `None`: it is too short for one.
pub fn sums(id: TableId, page: u32, block: &[u8]) -> Option<Sums> {
    let stated = block
        .first_chunk()
        .filter(|_| block.len() >= BLOCK_HEADER_BYTES)?;
    Some(Sums {
        stated: u32::from_le_bytes(*stated),
        found: checksum(id, page, block),
    })
}

/// Gives a block at this place the checksum that it must carry.
#[cfg(feature = "sim")]
pub fn put_right(id: TableId, page: u32, block: &mut [u8]) {
    let crc = checksum(id, page, block);
    block[..BLOCK_CRC_FROM].copy_from_slice(&crc.to_le_bytes());
}

/// A block whose checksum was right; its entries are still read with care.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// Up to the end of its entries.
    used: &'a [u8],
    entries: usize,
}

impl<'a> Block<'a> {
    /// Checks that `bytes` are the whole block of this place.
    pub fn verify(id: TableId, name: BlockName, bytes: &'a [u8]) -> Result<Block<'a>, Damaged> {
        if name.table != id.number
            || bytes.len() != name.pages as usize * PAGE_BYTES
            || bytes.len() < BLOCK_HEADER_BYTES
        {
            return Err(Damaged("a block has other lengths than its name"));
        }
        let header: BlockHeader = bytemuck::pod_read_unaligned(&bytes[..BLOCK_HEADER_BYTES]);
        if header.crc != checksum(id, name.page, bytes) {
            return Err(Damaged("a block fails its checksum"));
        }
        let block = Block::new(bytes)?;
        let filled = bytes[header.used_bytes as usize..].iter().all(|&b| b == 0);
        let offsets = (0..block.entries).map(|nth| block.start(nth));
        let ascending = offsets.is_sorted_by(|one, next| one < next);
        let first = BLOCK_HEADER_BYTES + block.entries * OFFSET_BYTES;
        let packed = block.start(0) == Some(first);
        if filled && ascending && packed && header.zero == 0 {
            Ok(block)
        } else {
            Err(Damaged("a block holds what is never written"))
        }
    }

    /// A block that was verified before.
    pub fn new(bytes: &'a [u8]) -> Result<Block<'a>, Damaged> {
        let head = bytes.get(..BLOCK_HEADER_BYTES);
        let head = head.ok_or(Damaged("a block is cut short"))?;
        let header: BlockHeader = bytemuck::pod_read_unaligned(head);
        let entries = usize::from(header.entries);
        let used = header.used_bytes as usize;
        let sound = entries > 0
            && used > BLOCK_HEADER_BYTES + entries * OFFSET_BYTES
            && used.div_ceil(PAGE_BYTES) * PAGE_BYTES == bytes.len()
            && usize::from(header.pages) * PAGE_BYTES == bytes.len();
        if !sound {
            return Err(Damaged("a block has impossible lengths"));
        }
        Ok(Block {
            used: &bytes[..used],
            entries,
        })
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    fn start(&self, nth: usize) -> Option<usize> {
        if nth == self.entries {
            return Some(self.used.len());
        }
        let at = BLOCK_HEADER_BYTES + nth * OFFSET_BYTES;
        let offset = self.used.get(at..at + OFFSET_BYTES)?;
        Some(usize::from(u16::from_le_bytes([offset[0], offset[1]])))
    }

    /// The key of entry number `nth`, and the bytes of its state.
    pub fn entry(&self, nth: usize) -> Result<(KeyRef<'a>, &'a [u8]), Damaged> {
        assert!(nth < self.entries);
        let bytes = self.start(nth).zip(self.start(nth + 1));
        let bytes = bytes.and_then(|(start, end)| self.used.get(start..end));
        bytes
            .and_then(entry_codec::decode_key)
            .ok_or(Damaged("an entry of a block is malformed"))
    }

    pub fn search(&self, key: KeyRef<'_>, dictionary: &[Incarnation]) -> Result<Search, Damaged> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, state) = self.entry(middle)?;
            match found.cmp(&key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return decode_state(state, dictionary).map(Search::Found),
            }
        }
        let (last, _) = self.entry(self.entries - 1)?;
        if low == self.entries && last.position == key.position {
            return Ok(Search::Next);
        }
        Ok(Search::Absent)
    }
}

/// The state of a key in a verified block.
pub fn decode_state(bytes: &[u8], dictionary: &[Incarnation]) -> Result<TableEntry, Damaged> {
    entry_codec::decode_state(bytes, dictionary).ok_or(Damaged("an entry of a block is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: TableId = TableId {
        identity: 0x0123_4567_89ab_cdef,
        shard: 3,
        number: 12,
    };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// With the checksum made right again, so that the reader itself is met.
        #[test]
        fn spoiled_blocks_never_panic(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..30),
            spoils in prop::collection::vec((0usize..400, any::<u8>()), 0..6),
        ) {
            let mut builder = BlockBuilder::default();
            entries.iter().for_each(|entry| builder.push(entry));
            let mut bytes = Vec::new();
            let pages = builder.finish(ID, 7, &mut bytes);
            let name = BlockName { table: 12, page: 7, pages };
            for &(at, byte) in &spoils {
                bytes[at] = byte;
            }
            let crc = checksum(ID, 7, &bytes);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            let verified = Block::verify(ID, name, &bytes);
            prop_assert!(verified.is_ok() || !spoils.is_empty());
            if let Ok(block) = verified {
                for nth in 0..block.entries() {
                    if let Ok((_, state)) = block.entry(nth) {
                        let _ = decode_state(state, &[Incarnation(1)]);
                    }
                }
                let key = KeyRef { position: crate::ring::position::Position(9), bucket: b"b", key: b"k" };
                let _ = block.search(key, &[]);
            }
            // Not verified at all: still no panic.
            let _ = Block::new(&bytes[..bytes.len() - 1]);
        }
    }
}
