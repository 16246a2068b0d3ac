//! The footer of a table: its last page, which says what stands before it.

use super::Damaged;
use super::format::*;
use super::name::TableId;
use crate::base::checksum::crc32c;
use crate::base::limits::{PAGE_BYTES, TABLE_ENTRIES_MAX};

/// Why a page is not the footer of this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFooter {
    Damaged(Damaged),
    /// Whole, of a format this program does not know.
    Newer(u32),
}

/// The page, and the checksum that names it.
pub fn encode(footer: &Footer) -> (Vec<u8>, u32) {
    let mut page = bytemuck::bytes_of(footer).to_vec();
    page.resize(PAGE_BYTES, 0);
    let crc = crc32c(&page[FOOTER_CRC_FROM..]);
    let at = std::mem::offset_of!(Footer, crc);
    page[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    (page, crc)
}

/// Of which table a last page says that it is; `None`: it is no footer.
pub fn claim(page: &[u8]) -> Option<TableId> {
    let footer: Footer = bytemuck::pod_read_unaligned(page.get(..FOOTER_BYTES)?);
    let whole = footer.magic == TABLE_MAGIC && footer.crc == crc32c(&page[FOOTER_CRC_FROM..]);
    whole.then_some(TableId {
        identity: footer.identity,
        shard: u16::try_from(footer.shard).ok()?,
        number: footer.number,
    })
}

/// The footer that `page`, the last page of the table, holds: all its lengths fit each other and `bytes`.
pub fn decode(page: &[u8], id: TableId, bytes: u64) -> Result<Footer, NoFooter> {
    let damaged = |what| Err(NoFooter::Damaged(Damaged(what)));
    if page.len() != PAGE_BYTES {
        return damaged("its footer is cut short");
    }
    let footer: Footer = bytemuck::pod_read_unaligned(&page[..FOOTER_BYTES]);
    if footer.magic != TABLE_MAGIC || footer.crc != crc32c(&page[FOOTER_CRC_FROM..]) {
        return damaged("its footer fails its checksum");
    }
    if footer.format != TABLE_FORMAT {
        return Err(NoFooter::Newer(footer.format));
    }
    let this = footer.identity == id.identity
        && footer.shard == u32::from(id.shard)
        && footer.number == id.number;
    if !this {
        return damaged("it is the footer of another table");
    }
    let filled = page[FOOTER_BYTES..].iter().all(|&byte| byte == 0);
    if filled && is_sound(&footer, bytes) {
        Ok(footer)
    } else {
        damaged("its footer holds what is never written")
    }
}

fn is_sound(footer: &Footer, bytes: u64) -> bool {
    let page = PAGE_BYTES as u64;
    let word = WORD_BYTES as u64;
    let [index, filter, dictionary] = [footer.index, footer.filter, footer.dictionary];
    let end = |section: Section| section.offset.checked_add(section.bytes);
    let follow = index.offset > 0
        && index.offset.is_multiple_of(page)
        && end(index) == Some(filter.offset)
        && end(filter) == Some(dictionary.offset)
        && end(dictionary).and_then(|end| end.checked_add(page)) == Some(footer.bytes);
    let index_bytes = u64::from(footer.blocks) * INDEX_BYTES_PER_BLOCK as u64;
    let parts_bytes = u64::from(footer.filter_parts) * FILTER_PART_BYTES as u64;
    let dictionary_bytes = u64::from(footer.incarnations) * 8;
    let lengths = index.bytes == index_bytes.next_multiple_of(word)
        && filter.bytes.is_multiple_of(word)
        && filter.bytes >= parts_bytes
        && dictionary.bytes >= dictionary_bytes
        && dictionary.bytes - dictionary_bytes < page;
    let counts = footer.blocks > 0
        && footer.filter_parts > 0
        && footer.entries >= u64::from(footer.blocks)
        && footer.entries <= TABLE_ENTRIES_MAX
        && footer.first_position <= footer.last_position;
    let zeroes = [footer.zero, index.zero, filter.zero, dictionary.zero];
    follow
        && lengths
        && counts
        && zeroes == [0; 4]
        && footer.bytes == bytes
        && bytes.is_multiple_of(page)
        && index.offset / page < u64::from(INDEX_CONTINUES)
}
