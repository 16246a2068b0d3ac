//! Looks at a table as it lies on the disk now, whatever is in memory of it. Nothing is kept.

use super::Damaged;
use super::block::{self, Block};
use super::file::{Table, read_contents};
use super::name::BlockName;
use crate::base::limits::{PAGE_BYTES, TABLE_READ_AHEAD_BYTES};
use crate::engine::damage::{Bad, BadFile, Spot};
use crate::engine::outcome::OpenError;
use crate::runtime::Runtime;

/// Some blocks that were looked at.
pub struct Checked {
    /// That were read.
    pub bytes: u64,
    /// The number of the block to go on with; `None`: there is none.
    pub next: Option<usize>,
    pub bad: Vec<Bad>,
}

impl Table {
    /// Looks at the blocks from number `from` on, as many as are read in one go.
    pub async fn check_blocks(&self, from: usize, runtime: &Runtime) -> Checked {
        let index = self.contents().index();
        let first = index.pages(from);
        let most = first.start + (TABLE_READ_AHEAD_BYTES / PAGE_BYTES) as u32;
        let fits = |&nth: &usize| index.pages(nth).end <= most;
        let end = (from + 1..index.blocks()).take_while(fits).last();
        let end = end.map_or(from + 1, |last| last + 1);
        let pages = index.pages(end - 1).end - first.start;
        let offset = u64::from(first.start) * PAGE_BYTES as u64;
        let len = pages as usize * PAGE_BYTES;
        let window = self.file().read_bulk_at(offset, len).await.ok();
        let mut bad = Vec::new();
        for nth in from..end {
            let name = self.contents().block_name(nth);
            let pages = index.pages(nth);
            let at = (pages.start - first.start) as usize * PAGE_BYTES;
            let bytes = window.as_ref();
            let bytes = bytes.map(|window| &window[at..at + pages.len() * PAGE_BYTES]);
            let whole = bytes.is_some_and(|bytes| self.contents().verify(name, bytes).is_ok());
            let checked = match bytes.filter(|_| whole) {
                Some(bytes) => self.check_block(name, bytes),
                // What fails is read once more, by itself: its place is told, and what passes is no damage.
                None => match self.read_block(name, true).await {
                    Ok(bytes) => self.check_block(name, &bytes),
                    Err(bad) => Err(bad),
                },
            };
            bad.extend(checked.err());
            if runtime.should_yield() {
                runtime.yield_now().await;
            }
        }
        Checked {
            bytes: len as u64,
            next: (end < index.blocks()).then_some(end),
            bad,
        }
    }

    /// Whether the entries of a block that is whole can be read, and would be found.
    fn check_block(&self, name: BlockName, bytes: &[u8]) -> Result<(), Bad> {
        let spot = Bad::block(name);
        let bad = |damaged: Damaged| Bad::checksum(spot, damaged.0, None);
        let block = Block::new(bytes).map_err(bad)?;
        for nth in 0..block.entries() {
            let (key, state) = block.entry(nth).map_err(bad)?;
            block::decode_state(state, self.contents().dictionary()).map_err(bad)?;
            if !self.may_hold(key.position) {
                return Err(bad(Damaged("the filter denies a key that is there")));
            }
        }
        Ok(())
    }

    /// Looks at what stands behind the blocks: block index, filter, dictionary, footer. Returns its bytes.
    pub async fn check_tail(&self) -> (u64, Option<Bad>) {
        let summary = self.summary();
        let index = self.contents().index();
        let offset = u64::from(index.pages(index.blocks() - 1).end) * PAGE_BYTES as u64;
        let spot = Spot {
            file: BadFile::Table(summary.number),
            offset,
            bytes: summary.bytes - offset,
        };
        let read = || read_contents(self.file(), self.id(), summary.bytes, summary.footer_crc);
        let mut found = read().await.err();
        if found.is_some() {
            found = read().await.err();
        }
        let bad = found.map(|error| match error {
            OpenError::Disk(error) => Bad::read(spot, &error),
            OpenError::Damaged { what, .. } => Bad::checksum(spot, what, None),
            other @ (OpenError::NewerFormat { .. } | OpenError::OlderFormat { .. }) => {
                Bad::checksum(spot, &other.to_string(), None)
            }
        });
        (spot.bytes, bad)
    }
}
