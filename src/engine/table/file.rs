//! Tables on a disk: writing one as it is built, opening one, reading its blocks.

use super::Damaged;
use super::block::Search;
use super::builder::{Builder, Summary};
use super::contents::Contents;
use super::footer::{self, NoFooter};
use super::format::TABLE_FORMAT;
use super::name::{BlockName, DIRECTORY, TableId, name};
use crate::base::limits::{BULK_READ_BYTES_MAX, PAGE_BYTES};
use crate::base::planted::planted;
use crate::causal::dot::Dot;
use crate::causal::object::Object;
use crate::engine::damage::Bad;
use crate::engine::entry::Place;
use crate::engine::key::KeyRef;
use crate::engine::outcome::OpenError;
use crate::ring::position::Position;
use crate::runtime::disk::{Disk, DiskError, File, Open, Persist};
use std::rc::Rc;

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
    file: File,
    contents: Contents,
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
        let file = disk.open(&name(id.number), Open::Existing).await?;
        let contents = read_contents(&file, id, bytes, footer_crc).await?;
        Ok(Table { file, contents })
    }

    pub fn id(&self) -> TableId {
        self.contents.id()
    }

    pub fn summary(&self) -> &Summary {
        self.contents.summary()
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<File>() + self.contents.memory_bytes()
    }

    /// As `Contents::may_hold`.
    pub fn may_hold(&self, position: Position) -> bool {
        self.contents.may_hold(position)
    }

    /// As `Contents::blocks`.
    pub fn blocks(&self, position: Position) -> impl Iterator<Item = BlockName> + use<'_> {
        self.contents.blocks(position)
    }

    /// As `Contents::search`, in bytes that `read_block` gave.
    pub fn search(&self, bytes: &[u8], key: KeyRef<'_>) -> Result<Search, Damaged> {
        self.contents.search(bytes, key)
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads a block and checks it. `bulk`: for background work, which yields to the foreground.
    pub async fn read_block(&self, block: BlockName, bulk: bool) -> Result<Rc<[u8]>, Bad> {
        assert_eq!(block.table, self.id().number);
        let offset = u64::from(block.page) * PAGE_BYTES as u64;
        let len = block.pages as usize * PAGE_BYTES;
        let read = if bulk {
            self.file.read_bulk_at(offset, len).await
        } else {
            self.file.read_at(offset, len).await
        };
        let buffer = read.map_err(|error| Bad::read(Bad::block(block), &error))?;
        let verified = self.contents.verify(block, &buffer[..len]);
        verified.map_err(|damaged| self.contents.bad_block(block, &buffer[..len], damaged))?;
        Ok(Rc::from(&buffer[..len]))
    }
}

/// What stands behind the blocks of a table of these bytes whose footer has this checksum.
pub(super) async fn read_contents(
    file: &File,
    id: TableId,
    bytes: u64,
    footer_crc: u32,
) -> Result<Contents, OpenError> {
    let damaged = |Damaged(what)| OpenError::Damaged {
        name: name(id.number),
        what,
    };
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
    Contents::decode(id, &footer, &tail).map_err(damaged)
}
