//! Tables on a disk: writing one as it is built, opening one, reading its blocks.

use super::block::{Block, Search};
use super::builder::{Builder, Summary};
use super::filter::Filter;
use super::footer::{self, NoFooter};
use super::format::*;
use super::index::Index;
use super::name::{BlockName, DIRECTORY, TableId, name};
use super::{Damaged, dictionary};
use crate::base::checksum::crc32c;
use crate::base::limits::{BULK_READ_BYTES_MAX, PAGE_BYTES};
use crate::base::planted::planted;
use crate::causal::dot::{Dot, Incarnation};
use crate::causal::object::Object;
use crate::engine::entry::Place;
use crate::engine::key::KeyRef;
use crate::engine::outcome::{OpenError, Unsure};
use crate::ring::position::Position;
use crate::runtime::disk::{Disk, DiskError, File, Open, Persist};
use std::rc::Rc;

impl From<Damaged> for Unsure {
    fn from(_: Damaged) -> Unsure {
        Unsure::Checksum
    }
}

/// A table that is being written. Nothing of it counts before the manifest names it; after an error, or if it is
/// dropped, its file is rubbish under its name.
pub struct TableWriter {
    builder: Builder,
    disk: Disk,
    file: File,
}

impl TableWriter {
    /// Makes the file. A name that is there is an error: numbers are never used again.
    pub async fn create(disk: &Disk, id: TableId) -> Result<TableWriter, DiskError> {
        let how = Open::Create { len: 0 };
        Ok(TableWriter {
            builder: Builder::new(id),
            disk: disk.clone(),
            file: disk.open(&name(id.number), how).await?,
        })
    }

    /// As `Builder::add`. Memory stays bounded if `write_full` is called now and then.
    pub fn add(&mut self, key: KeyRef<'_>, object: &Object<Place>, mine: Option<Dot>) {
        self.builder.add(key, object, mine);
    }

    pub fn entries(&self) -> u64 {
        self.builder.entries()
    }

    /// As `Builder::bytes`.
    pub fn bytes(&self) -> u64 {
        self.builder.bytes()
    }

    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// Writes the pieces that are full.
    pub async fn write_full(&mut self) -> Result<(), DiskError> {
        while let Some(piece) = self.builder.take_piece() {
            let (offset, len) = (piece.offset, piece.len);
            let written = self
                .file
                .write_at(offset, piece.buffer, len, Persist::Later);
            written.await.1?;
        }
        Ok(())
    }

    /// Writes what is left. The table and its name are durable on return. There is an entry at least.
    pub async fn finish(mut self) -> Result<Summary, DiskError> {
        self.write_full().await?;
        let (pieces, summary) = self.builder.finish();
        for piece in pieces {
            let (offset, len) = (piece.offset, piece.len);
            let written = self
                .file
                .write_at(offset, piece.buffer, len, Persist::Later);
            written.await.1?;
        }
        self.file.sync().await?;
        if !planted!(SkippedDirectorySync) {
            self.disk.sync_dir(DIRECTORY).await?;
        }
        Ok(summary)
    }
}

/// An open table: what stands behind its blocks is in memory.
pub struct Table {
    id: TableId,
    file: File,
    summary: Summary,
    index: Index,
    filter: Filter,
    dictionary: Box<[Incarnation]>,
}

impl Table {
    /// Opens a table of these bytes whose footer has this checksum, as the manifest says. Checks all but the blocks,
    /// each of which is checked when it is read.
    pub async fn open(
        disk: &Disk,
        id: TableId,
        bytes: u64,
        footer_crc: u32,
    ) -> Result<Table, OpenError> {
        let damaged = |Damaged(what)| OpenError::Damaged {
            name: name(id.number),
            what,
        };
        let file = disk.open(&name(id.number), Open::Existing).await?;
        let page = PAGE_BYTES as u64;
        if bytes < 2 * page || !bytes.is_multiple_of(page) || file.len() != bytes {
            return Err(damaged(Damaged("its length is not what the manifest says")));
        }
        let last = file.read_bulk_at(bytes - page, PAGE_BYTES).await?;
        let footer = footer::decode(&last, id, bytes).map_err(|no_footer| match no_footer {
            NoFooter::Damaged(what) => damaged(what),
            NoFooter::Newer(found) => OpenError::NewerFormat {
                name: name(id.number),
                found,
                known: TABLE_FORMAT,
            },
        })?;
        if footer.crc != footer_crc {
            return Err(damaged(Damaged(
                "it is not the table that the manifest names",
            )));
        }
        let mut tail = Vec::with_capacity((bytes - page - footer.index.offset) as usize);
        let mut offset = footer.index.offset;
        while offset < bytes - page {
            let step = (bytes - page - offset).min(BULK_READ_BYTES_MAX as u64) as usize;
            let piece = file.read_bulk_at(offset, step).await?;
            tail.extend_from_slice(&piece[..step]);
            offset += step as u64;
        }
        let (index, filter, dictionary) = decode_tail(&footer, &tail).map_err(damaged)?;
        Ok(Table {
            id,
            file,
            summary: summary(&footer),
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

    /// Bytes that the open table takes in memory.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Table>()
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

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn dictionary(&self) -> &[Incarnation] {
        &self.dictionary
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn block_name(&self, nth: usize) -> BlockName {
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

    /// Looks for the key in the bytes of a block of `blocks(key.position)` that `verify` or `read_block` has checked.
    pub fn search(&self, bytes: &[u8], key: KeyRef<'_>) -> Result<Search, Damaged> {
        Block::new(bytes)?.search(key, &self.dictionary)
    }

    /// Reads a block and checks it. `bulk`: for background work, which yields to the foreground.
    pub async fn read_block(&self, block: BlockName, bulk: bool) -> Result<Rc<[u8]>, Unsure> {
        assert_eq!(block.table, self.id.number);
        let offset = u64::from(block.page) * PAGE_BYTES as u64;
        let len = block.pages as usize * PAGE_BYTES;
        let read = if bulk {
            self.file.read_bulk_at(offset, len).await
        } else {
            self.file.read_at(offset, len).await
        };
        let buffer = read.map_err(|_| Unsure::Read)?;
        self.verify(block, &buffer[..len])?;
        Ok(Rc::from(&buffer[..len]))
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
