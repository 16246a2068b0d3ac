//! The search of one key through the tables, block by block: says which block is wanted, is shown it, and ends with an
//! answer. Whoever drives it takes blocks from the cache, or from the disk.

use super::Lookup;
use super::damage::Bad;
use super::entry::{Entry, GroupNumber};
use super::key::KeyRef;
use super::runs::Runs;
use super::table::{BlockName, Search, Table};
use crate::base::marks::mark;
use std::collections::VecDeque;
use std::rc::Rc;

pub struct Probe {
    tables: VecDeque<Rc<Table>>,
    blocks: VecDeque<BlockName>,
}

impl Probe {
    pub fn new(runs: &Runs, key: KeyRef<'_>) -> Probe {
        let mut probe = Probe {
            tables: runs.candidates(key.position).cloned().collect(),
            blocks: VecDeque::new(),
        };
        probe.enter(key);
        probe
    }

    /// Goes to the first table left that has a block for the key.
    fn enter(&mut self, key: KeyRef<'_>) {
        while let Some(table) = self.tables.front() {
            self.blocks = table.blocks(key.position).collect();
            if !self.blocks.is_empty() {
                return;
            }
            self.tables.pop_front();
        }
    }

    /// The block to be shown next, and its table; `None`: no table holds the key.
    pub fn wanted(&self) -> Option<(&Rc<Table>, BlockName)> {
        self.tables.front().zip(self.blocks.front().copied())
    }

    /// `bytes`: of the block wanted, verified. An answer, or another block is wanted.
    pub fn on_block(&mut self, key: KeyRef<'_>, bytes: &[u8]) -> Result<Option<Lookup>, Bad> {
        let (table, name) = self.wanted().expect("a block was wanted");
        match table.search(bytes, key) {
            Ok(Search::Found(found)) => {
                mark!(FoundInTable);
                return Ok(Some(Lookup::Found(Rc::new(Entry {
                    object: Rc::new(found.object),
                    mine: found.mine,
                    group: GroupNumber(0),
                }))));
            }
            Ok(Search::Next) => {
                self.blocks.pop_front();
            }
            Ok(Search::Absent) => self.blocks.clear(),
            Err(damaged) => return Err(Bad::checksum(Bad::block(name), damaged.0, None)),
        }
        if self.blocks.is_empty() {
            self.tables.pop_front();
            self.enter(key);
        }
        Ok(self.wanted().is_none().then_some(Lookup::Absent))
    }
}
