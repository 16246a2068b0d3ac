//! Walks a table in key order, for scans and merges: blocks are read ahead, many at a time.

use super::Damaged;
use super::block::{self, Block};
use super::entry_codec::TableEntry;
use super::file::Table;
use crate::base::limits::{PAGE_BYTES, TABLE_READ_AHEAD_BYTES};
use crate::engine::key::{Key, KeyRef};
use crate::engine::outcome::Unsure;
use crate::ring::position::Position;
use crate::runtime::buffer::PageBuffer;
use std::ops::Bound;
use std::rc::Rc;

/// After an error the next call tries the same again.
pub struct Cursor {
    table: Rc<Table>,
    /// Entries before it are passed over.
    from: Bound<Key>,
    /// The block to read next from, and the entry in it.
    block: usize,
    entry: usize,
    /// Pages of the file from `window_page` on; those of whole blocks.
    window: Option<PageBuffer>,
    window_page: u32,
    /// Whether the block was checked.
    checked: bool,
    last: Option<Key>,
}

impl Cursor {
    /// Over the entries whose keys lie at or behind this bound.
    pub fn new(table: Rc<Table>, from: Bound<Key>) -> Cursor {
        let block = match &from {
            Bound::Included(key) | Bound::Excluded(key) => table.index().find(key.position).start,
            Bound::Unbounded => 0,
        };
        Cursor {
            table,
            from,
            block,
            entry: 0,
            window: None,
            window_page: 0,
            checked: false,
            last: None,
        }
    }

    /// Over the entries at or behind this position.
    pub fn at(table: Rc<Table>, position: Position) -> Cursor {
        let first = KeyRef {
            position,
            bucket: b"",
            key: b"",
        };
        Cursor::new(table, Bound::Included(first.into()))
    }

    pub fn table(&self) -> &Rc<Table> {
        &self.table
    }

    /// The next entry; `None` at the end of the table.
    pub async fn next(&mut self) -> Result<Option<(Key, TableEntry)>, Unsure> {
        while self.block < self.table.index().blocks() {
            self.fetch().await?;
            if let Some(found) = self.next_in_block()? {
                return Ok(Some(found));
            }
            self.block += 1;
            self.entry = 0;
            self.checked = false;
        }
        self.window = None;
        Ok(None)
    }

    /// Sees that the window holds the block.
    async fn fetch(&mut self) -> Result<(), Unsure> {
        let index = self.table.index();
        let pages = index.pages(self.block);
        if let Some(window) = &self.window {
            let window_end = self.window_page + (window.len() / PAGE_BYTES) as u32;
            if self.window_page <= pages.start && pages.end <= window_end {
                return Ok(());
            }
        }
        let most = pages.start + (TABLE_READ_AHEAD_BYTES / PAGE_BYTES) as u32;
        let later = (self.block + 1..index.blocks()).map(|nth| index.pages(nth).end);
        let end = later.take_while(|&end| end <= most).last();
        let end = end.unwrap_or(pages.end);
        let offset = u64::from(pages.start) * PAGE_BYTES as u64;
        let len = (end - pages.start) as usize * PAGE_BYTES;
        let read = self.table.file().read_bulk_at(offset, len).await;
        let window = read.map_err(|_| Unsure::Read)?;
        assert_eq!(window.len(), len);
        self.window = Some(window);
        self.window_page = pages.start;
        Ok(())
    }

    fn next_in_block(&mut self) -> Result<Option<(Key, TableEntry)>, Damaged> {
        let name = self.table.block_name(self.block);
        let from = (name.page - self.window_page) as usize * PAGE_BYTES;
        let window = self.window.as_ref().expect("it was fetched");
        let bytes = &window[from..from + name.pages as usize * PAGE_BYTES];
        let block = if self.checked {
            Block::new(bytes)
        } else {
            Block::verify(self.table.id(), name, bytes)
        };
        let block = match block {
            Ok(block) => block,
            Err(damaged) => {
                // The next try reads it again.
                self.window = None;
                return Err(damaged);
            }
        };
        self.checked = true;
        while self.entry < block.entries() {
            let (key, state) = block.entry(self.entry)?;
            let passed = match &self.from {
                Bound::Included(from) => key < from.as_ref(),
                Bound::Excluded(from) => key <= from.as_ref(),
                Bound::Unbounded => false,
            };
            if passed {
                self.entry += 1;
                continue;
            }
            if self.last.as_ref().is_some_and(|last| last.as_ref() >= key) {
                return Err(Damaged("entries of a table are out of order"));
            }
            let state = block::decode_state(state, self.table.dictionary())?;
            let bucket = match &self.last {
                Some(last) if &*last.bucket == key.bucket => last.bucket.clone(),
                Some(_) | None => key.bucket.into(),
            };
            let key = Key {
                position: key.position,
                bucket,
                key: key.key.into(),
            };
            self.entry += 1;
            self.from = Bound::Unbounded;
            self.last = Some(key.clone());
            return Ok(Some((key, state)));
        }
        Ok(None)
    }
}
