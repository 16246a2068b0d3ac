//! Walks a table in key order, for scans and merges: blocks are read ahead, many at a time.

use super::entry_codec::TableEntry;
use super::file::Table;
use super::walk::Walk;
use crate::base::limits::{PAGE_BYTES, TABLE_READ_AHEAD_BYTES};
use crate::engine::damage::{Bad, BadFile, Spot};
use crate::engine::key::{Key, KeyRef};
use crate::ring::position::Position;
use crate::runtime::buffer::PageBuffer;
use std::ops::{Bound, Range};
use std::rc::Rc;

/// After an error the next call tries the same again.
pub struct Cursor {
    table: Rc<Table>,
    walk: Walk,
    /// Pages of the file from `window_page` on; those of whole blocks.
    window: Option<PageBuffer>,
    window_page: u32,
}

impl Cursor {
    /// Over the entries whose keys lie at or behind this bound.
    pub fn new(table: Rc<Table>, from: Bound<Key>) -> Cursor {
        Cursor {
            walk: Walk::new(table.contents(), from),
            table,
            window: None,
            window_page: 0,
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
    pub async fn next(&mut self) -> Result<Option<(Key, TableEntry)>, Bad> {
        while let Some(block) = self.walk.wanted(self.table.contents()) {
            let bytes = self.fetch(block).await?;
            let window = self.window.as_ref().expect("it was fetched");
            let contents = self.table.contents();
            let bytes = &window[bytes];
            match self.walk.next_in(contents, bytes) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(damaged) => {
                    let name = contents.block_name(block);
                    let bad = contents.bad_block(name, bytes, damaged);
                    // The next try reads it again.
                    self.window = None;
                    return Err(bad);
                }
            }
        }
        self.window = None;
        Ok(None)
    }

    /// Sees that the window holds the block; where in it.
    async fn fetch(&mut self, block: usize) -> Result<Range<usize>, Bad> {
        let index = self.table.contents().index();
        let pages = index.pages(block);
        let held = self.window.as_ref().is_some_and(|window| {
            let window_end = self.window_page + (window.len() / PAGE_BYTES) as u32;
            self.window_page <= pages.start && pages.end <= window_end
        });
        if !held {
            let most = pages.start + (TABLE_READ_AHEAD_BYTES / PAGE_BYTES) as u32;
            let later = (block + 1..index.blocks()).map(|nth| index.pages(nth).end);
            let end = later.take_while(|&end| end <= most).last();
            let end = end.unwrap_or(pages.end);
            let offset = u64::from(pages.start) * PAGE_BYTES as u64;
            let len = (end - pages.start) as usize * PAGE_BYTES;
            let read = self.table.file().read_bulk_at(offset, len).await;
            let spot = Spot {
                file: BadFile::Table(self.table.id().number),
                offset,
                bytes: len as u64,
            };
            let window = read.map_err(|error| Bad::read(spot, &error))?;
            assert_eq!(window.len(), len);
            self.window = Some(window);
            self.window_page = pages.start;
        }
        let from = (pages.start - self.window_page) as usize * PAGE_BYTES;
        Ok(from..from + pages.len() * PAGE_BYTES)
    }
}
