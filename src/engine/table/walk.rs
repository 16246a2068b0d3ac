//! The way through a table in key order, block by block: says which block is wanted, is shown it, and gives its
//! entries. Whoever drives it reads the blocks.

use super::Damaged;
use super::block::{self, Block};
use super::contents::Contents;
use super::entry_codec::TableEntry;
use crate::engine::key::Key;
use std::ops::Bound;

/// After an error the next call tries the same again.
pub struct Walk {
    /// Entries before it are passed over.
    from: Bound<Key>,
    /// The block to go on in, and the entry in it.
    block: usize,
    entry: usize,
    /// Whether the block was checked.
    checked: bool,
    last: Option<Key>,
}

impl Walk {
    /// Over the entries whose keys lie at or behind this bound.
    pub fn new(table: &Contents, from: Bound<Key>) -> Walk {
        let block = match &from {
            Bound::Included(key) | Bound::Excluded(key) => table.index().find(key.position).start,
            Bound::Unbounded => 0,
        };
        Walk {
            from,
            block,
            entry: 0,
            checked: false,
            last: None,
        }
    }

    /// The number of the block that is wanted; `None` at the end of the table.
    pub fn wanted(&self, table: &Contents) -> Option<usize> {
        (self.block < table.index().blocks()).then_some(self.block)
    }

    /// `bytes`: of the block wanted. Its next entry; `None`: there is none, and the next block is wanted.
    pub fn next_in(
        &mut self,
        table: &Contents,
        bytes: &[u8],
    ) -> Result<Option<(Key, TableEntry)>, Damaged> {
        let found = self.entry_in(table, bytes);
        match &found {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.block += 1;
                self.entry = 0;
                self.checked = false;
            }
            Err(_) => self.checked = false,
        }
        found
    }

    fn entry_in(
        &mut self,
        table: &Contents,
        bytes: &[u8],
    ) -> Result<Option<(Key, TableEntry)>, Damaged> {
        let block = if self.checked {
            Block::new(bytes)?
        } else {
            Block::verify(table.id(), table.block_name(self.block), bytes)?
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
            let state = block::decode_state(state, table.dictionary())?;
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
