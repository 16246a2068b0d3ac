//! What is in an index table.

use super::{Flaw, NotRead};
use crate::base::checksum::crc32c;
use crate::base::limits::PAGE_BYTES;
use crate::causal::dot::Incarnation;
use crate::engine::key::{Key, KeyRef};
use crate::engine::table::block::{self, Block};
use crate::engine::table::contents::Contents;
use crate::engine::table::footer::{self, NoFooter};
use crate::engine::table::format::{
    BLOCK_HEADER_BYTES, BlockHeader, Footer, Section as FooterSection, TABLE_FORMAT,
};
use crate::engine::table::{BlockName, TableEntry, TableId, dictionary};
use crate::ring::position::Position;

/// A block that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableBlock {
    pub offset: u64,
    pub pages: u32,
    pub entries: usize,
}

/// What is met on the way through a table, in its order.
pub enum TablePart<'a> {
    Block(TableBlock),
    /// An entry of the block before it; `None`: without the dictionary nobody can read its state.
    Entry {
        key: KeyRef<'a>,
        entry: Option<&'a TableEntry>,
    },
    Flaw(&'a Flaw),
}

/// What stands behind the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: &'static str,
    pub offset: u64,
    pub bytes: u64,
    pub whole: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    pub id: TableId,
    pub bytes: u64,
    /// As the footer says.
    pub entries: u64,
    pub blocks: u32,
    pub incarnations: u32,
    pub first: Position,
    pub last: Position,
    pub footer_crc: u32,
    pub sections: [Section; 3],
    /// Found whole.
    pub blocks_found: u64,
    pub entries_found: u64,
    pub flaws: u64,
}

struct Walk<'a, 'b> {
    bytes: &'a [u8],
    summary: TableSummary,
    contents: Option<Contents>,
    dictionary: Option<Box<[Incarnation]>>,
    last: Option<Key>,
    see: &'b mut dyn FnMut(TablePart<'_>),
}

/// Shows the blocks of a table, and their entries. `number`: the table's, if its name says it.
pub fn table(
    bytes: &[u8],
    number: Option<u32>,
    see: &mut dyn FnMut(TablePart<'_>),
) -> Result<TableSummary, NotRead> {
    const NO_FOOTER: NotRead = NotRead::Foreign(
        "its last page is no footer that is whole: without it nobody can tell what belongs where in this file; it is \
         no table, or cut short, or damaged there",
    );
    let page = bytes.len().checked_sub(PAGE_BYTES).ok_or(NO_FOOTER)?;
    let page = &bytes[page..];
    let id = footer::claim(page).ok_or(NO_FOOTER)?;
    let footer =
        footer::decode(page, id, bytes.len() as u64).map_err(|no_footer| match no_footer {
            NoFooter::Newer(found) => NotRead::OtherFormat {
                found,
                known: TABLE_FORMAT,
            },
            NoFooter::Damaged(what) => NotRead::Foreign(what.0),
        })?;
    let section = |name, section: FooterSection| Section {
        name,
        offset: section.offset,
        bytes: section.bytes,
        whole: crc32c(range(bytes, section)) == section.crc,
    };
    let summary = TableSummary {
        id,
        bytes: footer.bytes,
        entries: footer.entries,
        blocks: footer.blocks,
        incarnations: footer.incarnations,
        first: Position(footer.first_position),
        last: Position(footer.last_position),
        footer_crc: footer.crc,
        sections: [
            section("block index", footer.index),
            section("filter", footer.filter),
            section("dictionary", footer.dictionary),
        ],
        blocks_found: 0,
        entries_found: 0,
        flaws: 0,
    };
    let mut walk = Walk {
        bytes,
        summary,
        contents: None,
        dictionary: None,
        last: None,
        see,
    };
    if let Some(number) = number.filter(|&number| number != id.number) {
        let what = format!(
            "it is table {}, under the name of table {number}",
            id.number
        );
        walk.flaw(footer.bytes - PAGE_BYTES as u64, PAGE_BYTES as u64, what);
    }
    walk.sections(&footer);
    walk.blocks(footer.index.offset as usize);
    walk.counts();
    Ok(walk.summary)
}

/// The bytes of a section; `footer::decode` has checked that they are there.
fn range(bytes: &[u8], section: FooterSection) -> &[u8] {
    &bytes[section.offset as usize..(section.offset + section.bytes) as usize]
}

impl Walk<'_, '_> {
    fn flaw(&mut self, offset: u64, bytes: u64, what: String) {
        self.summary.flaws += 1;
        (self.see)(TablePart::Flaw(&Flaw {
            offset,
            bytes,
            what,
        }));
    }

    fn sections(&mut self, footer: &Footer) {
        for section in self.summary.sections {
            if !section.whole {
                let what = format!("the {} fails its checksum", section.name);
                self.flaw(section.offset, section.bytes, what);
            }
        }
        let sections = self.summary.sections;
        let (start, end) = (footer.index.offset, footer.bytes - PAGE_BYTES as u64);
        if sections.iter().all(|section| section.whole) {
            let tail = &self.bytes[start as usize..end as usize];
            match Contents::decode(self.summary.id, footer, tail) {
                Ok(contents) => self.contents = Some(contents),
                Err(damaged) => self.flaw(start, end - start, damaged.0.to_owned()),
            }
        }
        let incarnations = range(self.bytes, footer.dictionary);
        let incarnations = incarnations.get(..footer.incarnations as usize * 8);
        let [_, _, dictionary] = sections;
        if let Some(incarnations) = incarnations.filter(|_| dictionary.whole) {
            self.dictionary = dictionary::decode(incarnations).ok();
        }
    }

    /// From page to page: each block says how many it has. The block index is asked only whether it says the same.
    fn blocks(&mut self, end: usize) {
        let (mut offset, mut nth) = (0, 0);
        let mut bad_from: Option<(usize, &'static str)> = None;
        while offset < end {
            let name = self.named(offset, end);
            let bytes = self.bytes;
            let block_bytes = &bytes[offset..offset + name.pages as usize * PAGE_BYTES];
            match Block::verify(self.summary.id, name, block_bytes) {
                Ok(block) => {
                    self.bad(bad_from.take(), offset);
                    self.block(&block, offset, name.pages);
                    offset += block_bytes.len();
                }
                Err(damaged) => {
                    bad_from.get_or_insert((offset, damaged.0));
                    offset += PAGE_BYTES;
                }
            }
            nth += 1;
        }
        self.bad(bad_from, end);
        assert!(nth <= end / PAGE_BYTES);
    }

    /// The block that begins here, by what stands here.
    fn named(&self, offset: usize, end: usize) -> BlockName {
        let header: BlockHeader =
            bytemuck::pod_read_unaligned(&self.bytes[offset..offset + BLOCK_HEADER_BYTES]);
        let most = (end - offset) / PAGE_BYTES;
        BlockName {
            table: self.summary.id.number,
            page: (offset / PAGE_BYTES) as u32,
            pages: usize::from(header.pages).clamp(1, most) as u32,
        }
    }

    fn bad(&mut self, from: Option<(usize, &'static str)>, end: usize) {
        if let Some((from, what)) = from {
            self.flaw(from as u64, (end - from) as u64, what.to_owned());
        }
    }

    fn block(&mut self, block: &Block<'_>, offset: usize, pages: u32) {
        self.summary.blocks_found += 1;
        (self.see)(TablePart::Block(TableBlock {
            offset: offset as u64,
            pages,
            entries: block.entries(),
        }));
        let bytes = u64::from(pages) * PAGE_BYTES as u64;
        for nth in 0..block.entries() {
            let (key, state) = match block.entry(nth) {
                Ok(found) => found,
                Err(damaged) => {
                    self.flaw(offset as u64, bytes, damaged.0.to_owned());
                    continue;
                }
            };
            self.summary.entries_found += 1;
            if self.last.as_ref().is_some_and(|last| last.as_ref() >= key) {
                let what = "entries of a table are out of order".to_owned();
                self.flaw(offset as u64, bytes, what);
            }
            self.last = Some(key.into());
            let denied = self
                .contents
                .as_ref()
                .is_some_and(|contents| !contents.may_hold(key.position));
            if denied {
                let what = "the filter denies a key that is there".to_owned();
                self.flaw(offset as u64, bytes, what);
            }
            let decoded = self
                .dictionary
                .as_deref()
                .map(|all| block::decode_state(state, all));
            let entry = match decoded {
                Some(Ok(entry)) => Some(entry),
                Some(Err(damaged)) => {
                    self.flaw(offset as u64, bytes, damaged.0.to_owned());
                    None
                }
                None => None,
            };
            (self.see)(TablePart::Entry {
                key,
                entry: entry.as_ref(),
            });
        }
    }

    /// What is missing without a bad block is told too.
    fn counts(&mut self) {
        let summary = &self.summary;
        let found = (summary.blocks_found, summary.entries_found);
        let said = (u64::from(summary.blocks), summary.entries);
        if summary.flaws == 0 && found != said {
            let what = format!(
                "it has {} block(s) with {} entries, and its footer says {} with {}",
                found.0, found.1, said.0, said.1
            );
            self.flaw(0, self.summary.bytes, what);
        }
    }
}
