//! What an open table keeps in memory: where its blocks lie, and how a key is looked for in them.

use super::block::{self, Block, Search};
use super::builder::Summary;
use super::filter::Filter;
use super::format::*;
use super::index::Index;
use super::name::{BlockName, TableId};
use super::{Damaged, dictionary};
use crate::base::checksum::crc32c;
use crate::base::limits::PAGE_BYTES;
use crate::causal::dot::Incarnation;
use crate::engine::damage::Bad;
use crate::engine::key::KeyRef;
use crate::ring::position::Position;

/// What stands behind the blocks of a table.
pub struct Contents {
    id: TableId,
    summary: Summary,
    index: Index,
    filter: Filter,
    dictionary: Box<[Incarnation]>,
}

impl Contents {
    /// `tail`: all between the blocks and the footer, which `footer::decode` has read.
    pub fn decode(id: TableId, footer: &Footer, tail: &[u8]) -> Result<Contents, Damaged> {
        let (index, filter, dictionary) = decode_tail(footer, tail)?;
        Ok(Contents {
            id,
            summary: summary(footer),
            index,
            filter,
            dictionary,
        })
    }

    pub fn id(&self) -> TableId {
        self.id
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Bytes that it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Contents>()
            + self.index.memory_bytes()
            + self.filter.memory_bytes()
            + size_of_val(&*self.dictionary)
    }

    /// `false`: no key of this position is in the table.
    pub fn may_hold(&self, position: Position) -> bool {
        let inside = (self.summary.first..=self.summary.last).contains(&position);
        inside && self.filter.may_hold(position)
    }

    /// The blocks that may hold a key of this position, to be searched in this order while they answer
    /// `Search::Next`; nearly always one.
    pub fn blocks(&self, position: Position) -> impl Iterator<Item = BlockName> + use<'_> {
        self.index.find(position).map(|nth| self.block_name(nth))
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn dictionary(&self) -> &[Incarnation] {
        &self.dictionary
    }

    pub fn block_name(&self, nth: usize) -> BlockName {
        let pages = self.index.pages(nth);
        BlockName {
            table: self.id.number,
            page: pages.start,
            pages: pages.end - pages.start,
        }
    }

    /// Whether `bytes` are the whole block of this name. A block is checked once, when it is read; then it may be kept
    /// and searched.
    pub fn verify(&self, block: BlockName, bytes: &[u8]) -> Result<(), Damaged> {
        Block::verify(self.id, block, bytes).map(drop)
    }

    /// What is wrong with a block, for who keeps a list of it.
    pub fn bad_block(&self, block: BlockName, bytes: &[u8], damaged: Damaged) -> Bad {
        let sums = block::sums(self.id, block.page, bytes);
        Bad::checksum(Bad::block(block), damaged.0, sums)
    }

    /// Looks for the key in the bytes of a block of `blocks(key.position)` that `verify` has checked.
    pub fn search(&self, bytes: &[u8], key: KeyRef<'_>) -> Result<Search, Damaged> {
        Block::new(bytes)?.search(key, &self.dictionary)
    }
}

fn summary(footer: &Footer) -> Summary {
    Summary {
        number: footer.number,
        entries: footer.entries,
        bytes: footer.bytes,
        footer_crc: footer.crc,
        first: Position(footer.first_position),
        last: Position(footer.last_position),
    }
}

/// What stands between the blocks and the footer.
fn decode_tail(
    footer: &Footer,
    tail: &[u8],
) -> Result<(Index, Filter, Box<[Incarnation]>), Damaged> {
    let section = |section: &Section| {
        let start = (section.offset - footer.index.offset) as usize;
        let bytes = &tail[start..start + section.bytes as usize];
        let whole = section.crc == crc32c(bytes);
        whole
            .then_some(bytes)
            .ok_or(Damaged("a section behind its blocks fails its checksum"))
    };
    let blocks = footer.blocks as usize;
    let end_page = (footer.index.offset / PAGE_BYTES as u64) as u32;
    let (index, filling) = section(&footer.index)?.split_at(blocks * INDEX_BYTES_PER_BLOCK);
    check_filling(filling, WORD_BYTES)?;
    let index = Index::decode(index, blocks, end_page)?;
    let bounds = index.first_position(0).0 == footer.first_position
        && index.first_position(blocks - 1).0 <= footer.last_position;
    if !bounds {
        return Err(Damaged("its block index and its footer disagree"));
    }
    let parts = footer.filter_parts as usize;
    let (filter, filling) = Filter::decode(section(&footer.filter)?, parts)?;
    check_filling(filling, WORD_BYTES)?;
    let dictionary = section(&footer.dictionary)?;
    let (dictionary, filling) = dictionary.split_at(footer.incarnations as usize * 8);
    check_filling(filling, PAGE_BYTES)?;
    Ok((index, filter, dictionary::decode(dictionary)?))
}

fn check_filling(filling: &[u8], below: usize) -> Result<(), Damaged> {
    let zeroes = filling.len() < below && filling.iter().all(|&byte| byte == 0);
    zeroes.then_some(()).ok_or(Damaged(
        "a section behind its blocks is not filled with zeroes",
    ))
}
